"""The information plane over training: I(h; x) and I(h; y) of every layer, by three definitions of what h is.

The problem is of the kind of the first information planes (Shwartz-Ziv & Tishby 2017): all 4,096 inputs of 12 bits,
each equally likely, with a label that rotations leave alone, and a network of five narrowing layers (theirs, of
10-7-5-4-3 units, does not learn from every initial draw; ours is a little wider). x is uniform on a finite set of
inputs, so that no estimate stands for a population: what differs between the columns is the definition of h.

- "binning": h is cut into bins, 30 between −1 and 1 for tanh as in 2017, 30 up to the largest activation for ReLU as in
  Saxe et al. (2018). Exact entropies of the bins. A deterministic layer that tells all inputs apart has I(h; x) = log N
  whatever it does; what the bins show is how near to each other it puts them (Geiger 2021).
- "noise": h + τn with τ fixed, in the unit of h (Goldfeld et al. 2019). Weights that grow raise it.
- "noise of the scale": τ a fixed part of the layer's own scale, so that I does not depend on how the net is written.

A gated layer has its own noise besides, and is binned at its mean; gates before the layer are at their means.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vibtheory.bridge.channels import layer_law
from vibtheory.compression.evaluation import evaluate
from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.errors import as_generator, as_whole, check_choice
from vibtheory.information import estimate, relevance
from vibtheory.networks.gates import Gate
from vibtheory.networks.insertion import insert_gates
from vibtheory.networks.streams import INITIAL_WEIGHTS, random_stream
from vibtheory.storage.run_store import RecordedTable
from vibtheory.studies.side_by_side import side_by_side
from vibtheory.training.single import train

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["MODES", "NETS", "PlaneRow", "rotations", "training_plane"]

NETS = ("tanh", "ReLU", "VIBNet")
MODES: dict[str, dict[str, Any]] = {
    "full": {"seeds": 3, "record": [0, 1, 2, 4, 8, 16, 32, 64, 128, 200], "n": 2048},
    "quick": {"seeds": 1, "record": [0, 2, 8, 32, 100], "n": 512},
}
"""By mode: seeds, recorded epochs (the last one ends the run), inputs that the noisy estimates are computed on."""

WIDTHS = (16, 12, 10, 8, 6)
GAMMA = 5e-3
BINS = 30
TAU = 0.1
"""Of the noisy layers: in the unit of h (a tanh unit's range is 2), and as a part of the layer's scale."""


@dataclass(frozen=True)
class PlaneRow:
    """One layer of one net at one epoch, by one definition of h.

    Attributes:
        net, seed, epoch: which; one of `NETS`, and epoch 0 is the net as drawn.
        layer: 1 … 5. method: "binning", "noise" or "noise of the scale".
        tau: standard deviation of the noise in the unit of h; 0 for bins.
        n: inputs, of which x is uniform on the 4,096 or on a random part.
        i_x, i_y: I(h; x) and I(h; y), nats. stderr_x, stderr_y: of the draw of the noise; 0 for bins, which are exact.
        error: on the held-out 15 %, percent. open: gates of the layer that are open, or its units.
    """

    net: str
    seed: int
    epoch: int
    layer: int
    method: str
    tau: float
    n: int
    i_x: float
    stderr_x: float
    i_y: float
    stderr_y: float
    error: float
    open: int


def rotations() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All inputs [4096, 12] of ±1 and their labels [4096].

    The bits sit on the vertices of an icosahedron, and the label says whether the sum of their vectors is longer than
    in half of all cases: the 120 rotations and reflections of the icosahedron leave it alone. I(x; y) = 0.693 nats.
    """
    golden = (1 + math.sqrt(5)) / 2
    corner = np.array([[0.0, a, b * golden] for a in (1, -1) for b in (1, -1)])
    vertices = np.concatenate([np.roll(corner, turn, axis=1) for turn in range(3)])
    x = np.array(list(itertools.product([-1.0, 1.0], repeat=12)))
    length = ((x @ vertices) ** 2).sum(axis=1)
    return x, (length > np.median(length) + 1e-9).astype(np.int64)


def training_plane(mode: str = "quick", out: str | Path = "runs/plane", jobs: int = 1) -> DataFrame:
    """Train the nets of `NETS` and record every layer's place in the plane; runs that are finished are read back.

    Args:
        mode: one of `MODES`: "quick" (a minute) or "full" (ten or so).
        out: folder of the table, one per mode.
        jobs: processes side by side.

    Returns:
        One row (`PlaneRow`) per net, seed, epoch, layer and method.

    Raises:
        InvalidInputError: an unknown mode, jobs < 1, a table there that is none.
        DivergedError: from training.
    """
    check_choice("mode", mode, MODES)
    jobs = as_whole("jobs", jobs, 1)
    store = RecordedTable(Path(out) / f"plane_{mode}.csv", PlaneRow, ("net", "seed"), {"plane": MODES[mode]})
    with store.hold():
        table = store.read()
    done = set() if table is None else set(zip(table["net"], table["seed"], strict=True))
    todo = [(mode, net, seed) for seed in range(MODES[mode]["seeds"]) for net in NETS if (net, seed) not in done]
    for _, rows in side_by_side(_run, todo, jobs):
        table, _ = store.add(rows)
    assert table is not None
    order = {name: place for place, name in enumerate(NETS)}
    return table.sort_values(["net", "seed"], kind="stable", key=lambda c: c.map(order) if c.name == "net" else c,
                             ignore_index=True)  # fmt: skip


def _run(which: tuple[str, str, int]) -> DataFrame:
    import pandas as pd

    mode, name, seed = which
    plan, (x, y) = MODES[mode], rotations()
    order = as_generator("seed", seed, "the information plane's split").permutation(len(x))
    held_out, kept = order[: len(x) * 15 // 100], order[len(x) * 15 // 100 :]
    data = from_arrays(x[kept], y[kept], x[held_out], y[held_out], name="rotations")
    net = _build(name, seed)
    rows: list[PlaneRow] = []

    def on_epoch(net: nn.Module, epoch: int) -> None:
        if epoch in plan["record"]:
            rows.extend(_measured(net, name, seed, epoch, data, order[: plan["n"]]))

    train(net, data, seed=seed, device="cpu", gamma=GAMMA if name == "VIBNet" else 0.0, epochs=plan["record"][-1],
          pretrain_epochs=0, batch_size=128, learning_rate=2e-3, gate_learning_rate=2e-3, weight_decay=0.0,
          schedule="constant", warmup_epochs=20, evaluate_every=plan["record"][-1], on_epoch=on_epoch)  # fmt: skip
    return pd.DataFrame(rows)


def _build(name: str, seed: int) -> nn.Module:
    with random_stream(seed, INITIAL_WEIGHTS):
        sizes = (12, *WIDTHS)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.Tanh() if name == "tanh" else nn.ReLU()]
        net = nn.Sequential(*layers, nn.Linear(sizes[-1], 2))
    return insert_gates(net, torch.zeros(2, 12)) if name == "VIBNet" else net


def _measured(
    net: nn.Module, name: str, seed: int, epoch: int, data: Dataset, part: NDArray[np.intp]
) -> Iterator[PlaneRow]:
    x, y = rotations()
    error = evaluate(net, data.x_test, data.y_test).error
    kinds = {"tanh": nn.Tanh, "ReLU": nn.ReLU, "VIBNet": Gate}
    places = [place for place, module in net.named_modules() if isinstance(module, kinds[name])]
    for layer, place in enumerate(places, start=1):
        law = layer_law(net, x, place)
        common: dict[str, Any] = {"net": name, "seed": seed, "epoch": epoch, "layer": layer, "error": error,
                                  "open": int(((law.mu != 0) | (law.sigma != 0)).sum())}  # fmt: skip
        h = law.f * law.mu
        low, high = (-1.0, 1.0) if name == "tanh" else (0.0, float(h.max()))
        i_x, i_y = _binned(h, y, low, high)
        yield PlaneRow(**common, method="binning", tau=0.0, n=len(x), i_x=i_x, i_y=i_y, stderr_x=0.0, stderr_y=0.0)
        for method, tau in (("noise", TAU), ("noise of the scale", TAU * law.scale)):
            if common["open"] == 0 or tau == 0:
                i_x, error_x, i_y, error_y = 0.0, 0.0, 0.0, 0.0  # h is the same for every input
            else:
                channel = law.channel(tau, part)
                of_x = estimate(channel, "infonce", seed=seed)
                of_y = relevance(channel, y[part], over="rows", seed=seed)
                i_x, error_x, i_y, error_y = of_x.nats, of_x.stderr, of_y.nats, of_y.stderr
            yield PlaneRow(**common, method=method, tau=tau, n=len(part), i_x=i_x, i_y=i_y, stderr_x=error_x,
                           stderr_y=error_y)  # fmt: skip


def _binned(h: NDArray[Any], y: NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    """H(bins of h) = I(bins; x) of a function of x, and I(bins; y), in nats."""
    edges = np.linspace(low, high, BINS + 1)[1:-1]
    cell = np.unique(np.searchsorted(edges, h, side="right"), axis=0, return_inverse=True)[1].reshape(-1)
    joint = np.histogram2d(cell, y, bins=(cell.max() + 1, 2))[0] / len(y)
    entropy = [-float((p[p > 0] * np.log(p[p > 0])).sum()) for p in (joint.sum(axis=1), joint.sum(axis=0), joint)]
    return entropy[0], entropy[0] + entropy[1] - entropy[2]
