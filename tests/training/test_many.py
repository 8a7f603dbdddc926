"""Runs that take turns are the same runs one after the other: any net and recipe, stopped and resumed, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny_cifar import dataset, seeded
from vibtheory import networks
from vibtheory.datasets.dataset import from_arrays
from vibtheory.errors import CheckpointError, DivergedError, InvalidInputError
from vibtheory.training.hardware import interleave
from vibtheory.training.loop import Settings
from vibtheory.training.many import train_many
from vibtheory.training.recipe import Recipe
from vibtheory.training.run import Run
from vibtheory.training.single import in_turns, train

RNG = np.random.default_rng(4)
X = RNG.normal(scale=2.0, size=(240, 1, 3, 3))
DATA = from_arrays(X[:160], X[:160, 0, 0].argmax(axis=1), X[160:], X[160:, 0, 0].argmax(axis=1))
QUICK: dict[str, Any] = {"epochs": 4, "pretrain_epochs": 1, "batch_size": 32, "device": "cpu"}
PAIRS = [(1e-3, 1), (3e-2, 2), (1e-3, 2)]


def _build() -> nn.Sequential:
    return networks.mlp((9, 8, 3))


def _alone(gamma: float, seed: int, **changes: Any) -> Run:
    with networks.random_stream(seed, networks.INITIAL_WEIGHTS):
        net = _build()
    return train(net, DATA, seed=seed, gamma=gamma, **{**QUICK, **changes})


def _assert_same(a: Run, b: Run) -> None:
    """To the bit, but for the clock."""
    other = b.net.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in a.net.state_dict().items())
    clock = ("seconds", "images_per_second", "peak_memory_mib")
    for first, second in zip(a.rows, b.rows, strict=True):
        assert {k: v for k, v in first.items() if k not in clock} == {k: v for k, v in second.items() if k not in clock}
    assert (a.seed, a.status, a.message, a.recipe, a.data) == (b.seed, b.status, b.message, b.recipe, b.data)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cut, distilled, shifted": {"prune_every": 1, "gate_learning_rate": 0.15, "distill": 0.5, "shift": 1},
    "prices": {"layer_weights": {"input": 2.0, "h1": 0.3}, "warmup_epochs": 2, "evaluate_every": 3},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_run_is_the_one_alone(name: str) -> None:
    torch.manual_seed(9)
    expected = torch.rand(2)
    torch.manual_seed(9)
    for (gamma, seed), run in zip(PAIRS, train_many(_build, DATA, PAIRS, **{**QUICK, **OPTIONS[name]}), strict=True):
        _assert_same(run, _alone(gamma, seed, **OPTIONS[name]))
    assert torch.equal(torch.rand(2), expected)  # the global random state is left alone


def test_runs_of_different_kinds_and_lengths() -> None:
    """An augmented VGG-like net beside a regression, as the rows of a table are beside each other."""
    images, device = dataset(60, 20), torch.device("cpu")
    recipes = [Recipe(epochs=2, pretrain_epochs=1, batch_size=20, augment="crop+flip", label_smoothing=0.1),
               Recipe(epochs=5, batch_size=32, gamma=1e-2)]  # fmt: skip
    regression = from_arrays(X[:160], X[:160, 0, 1, :2], X[160:], X[160:, 0, 1, :2], likelihood="gaussian")

    def runs() -> list[Any]:
        nets = seeded(classes=3, size=8), networks.random_stream(3, networks.INITIAL_WEIGHTS)
        with nets[1]:
            plain = networks.mlp((9, 8, 2))
        return [in_turns(net, data, recipe, Settings(device=device, seed=7))
                for net, data, recipe in zip((nets[0], plain), (images, regression), recipes, strict=True)]  # fmt: skip

    together = interleave(runs(), device)
    for ours, alone in zip(together, runs(), strict=True):
        (theirs,) = interleave([alone], device)
        _assert_same(ours, theirs)


def test_turns_are_taken_step_by_step_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    """Stopped at its third epoch's end, the second run is resumed by the same call, to the same bits."""
    order: list[tuple[int, int]] = []
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) == 6  # two runs of one epoch each before: the third one of the second

    def runs() -> list[Any]:
        recipe = Recipe(epochs=5, batch_size=32, prune_every=2, gate_learning_rate=0.2)
        settings = [Settings(device=torch.device("cpu"), seed=k, folder=tmp_path / f"{k}", checkpoint_seconds=1e9,
                             on_epoch=lambda _, done, k=k: order.append((k, done))) for k in (0, 1)]  # fmt: skip
        with networks.random_stream(0, networks.INITIAL_WEIGHTS):
            nets = [_build(), _build()]
        return [in_turns(net, DATA, recipe, own) for net, own in zip(nets, settings, strict=True)]

    first, none = interleave(runs(), torch.device("cpu"), stop)
    assert none is None
    assert order[:6] == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]
    order.clear()
    again, second = interleave(runs(), torch.device("cpu"))
    assert order == [(1, 4), (1, 5)]  # the first was finished
    _assert_same(again, first)
    for place in tmp_path.glob("*/checkpoint*"):
        place.unlink()
    _assert_same(interleave(runs(), torch.device("cpu"))[1], second)


def test_checkpoints_of_each_pair(tmp_path: Path) -> None:
    def halt(k: int, _: nn.Module, done: int) -> None:
        if (k, done) == (2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_many(_build, DATA, PAIRS, checkpoint=tmp_path, on_epoch=halt, **QUICK)
    seen: list[tuple[int, int]] = []
    resumed = train_many(
        _build, DATA, PAIRS, checkpoint=tmp_path, on_epoch=lambda k, _, done: seen.append((k, done)), **QUICK
    )
    assert sorted(seen) == [(0, 4), (0, 5), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)]
    for (gamma, seed), run in zip(PAIRS, resumed, strict=True):
        _assert_same(run, _alone(gamma, seed))
    with pytest.raises(CheckpointError, match=r"its recipe differ.*Remedy"):
        train_many(_build, DATA, PAIRS, checkpoint=tmp_path, **{**QUICK, "epochs": 3})


def test_divergence_closes_the_others() -> None:
    with pytest.raises(DivergedError, match=r"Remedy"):
        train_many(_build, DATA, PAIRS, **{**QUICK, "learning_rate": 1e36})


BAD: dict[str, Any] = {
    "no pairs": lambda: train_many(_build, DATA, []),
    "negative seed": lambda: train_many(_build, DATA, [(1e-3, -1)]),
    "negative gamma": lambda: train_many(_build, DATA, [(-1e-3, 0)]),
    **{
        f"{name}={value!r}": lambda name=name, value=value: train_many(_build, DATA, PAIRS, **{name: value})
        for name, value in (
            ("evaluate_every", 0),
            ("evaluate_every", 1.5),
            ("checkpoint_seconds", float("nan")),
            ("on_epoch", 3),
            ("checkpoint", 5),
            ("recipe", {}),
            ("device", None),
        )
    },
    "pairs of other things": lambda: train_many(_build, DATA, [("x", 0)]),
    "numbers for pairs": lambda: train_many(_build, DATA, [1e-3, 0]),
    "a number for the pairs": lambda: train_many(_build, DATA, 3),
    "a net for its maker": lambda: train_many("lenet", DATA, PAIRS),
    "no net": lambda: train_many(lambda: None, DATA, PAIRS),
    "layer weights": lambda: train_many(_build, DATA, [(1e-3, 0)], layer_weights={"h1": 1.0}),
    "input width": lambda: train_many(lambda: networks.mlp((8, 3)), DATA, [(1e-3, 0)]),
    "device": lambda: train_many(_build, DATA, [(1e-3, 0)], device="tpu"),
    "acceleration": lambda: train_many(_build, DATA, [(1e-3, 0)], device="cpu", accelerate="graph"),
    "unknown keyword": lambda: train_many(_build, DATA, [(1e-3, 0)], gama=1.0),
}


@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: nn.Sequential(net)])
def test_one_network_for_all_pairs_is_refused(wrap: Any) -> None:
    net = _build()
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(InvalidInputError, match=r"build: got a network with parameters of one returned before.*Remedy"):
        train_many(lambda: wrap(net), DATA, PAIRS, **QUICK)
    assert all(torch.equal(p, value) for p, value in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    with pytest.raises(InvalidInputError, match="Remedy"):
        BAD[case]()
