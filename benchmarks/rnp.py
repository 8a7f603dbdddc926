"""RNP on LeNet-5-Caffe: its error against the multiply-adds that an image costs on average; results/rnp.csv.

    python benchmarks/rnp.py [--runs runs/rnp]    # about twelve CPU minutes; a stopped run goes on

Data, epochs and gates' rate are those of `vibtheory methods --table 2 --budget reduced`, with its two epochs of
fine-tuning as gated ones, since no unit leaves for good. A channel's price is the same in both convolutions. Eight
prices are tried on held-out images; the cheapest net within `SLACK` of their least error reads the test set, on three
seeds. `error_fixed` and `flop_fixed` are those of the same net when every image gets the choice that most images get:
whether it pays to decide per image.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import vibtheory as vt
from vibtheory.compression.evaluation import error
from vibtheory.compression.metrics import average_flop
from vibtheory.datasets.dataset import Dataset
from vibtheory.networks.gates import RNPGate, named_gates
from vibtheory.networks.lenet import lenet_5_caffe
from vibtheory.storage import write_text
from vibtheory.studies.experiments import experiment
from vibtheory.studies.methods import BUDGETS, HELD_OUT, SLACK

RESULTS = Path(__file__).parent / "results" / "rnp.csv"
BUDGET = BUDGETS["reduced"]
PRICES = np.geomspace(1e-4, 3e-2, BUDGET.prices).round(9).tolist()
BATCH = 1000


def measured(net: nn.Module, data: Dataset) -> dict[str, Any]:
    """Test error (%) and multiply-adds (% of the dense net's) per image as decided, and with one choice for all."""
    batches = [torch.from_numpy(part) for part in np.split(data.x_test, range(BATCH, len(data.x_test), BATCH))]
    policies = {name: gate for name, gate in named_gates(net).items() if isinstance(gate, RNPGate) and gate.policy}
    computed: dict[str, list[torch.Tensor]] = {name: [] for name in policies}
    for batch in batches:
        with torch.no_grad():
            net.eval()(batch)
        for name, gate in policies.items():
            decided = gate.decide()
            assert decided is not None
            computed[name].append(decided.sum(1))
    counts = {name: torch.cat(parts) for name, parts in computed.items()}

    fixed = copy.deepcopy(net)
    for name, values in counts.items():
        sizes = torch.bincount(policies[name].group).cumsum(0)  # channels that each choice computes
        policy = named_gates(fixed)[name].get_submodule("policy")
        nn.init.zeros_(policy.get_parameter("weight"))
        policy.get_parameter("bias").data = torch.where(sizes == values.mode().values, 100.0, 0.0)
    whole = average_flop(lenet_5_caffe(gated=False), batches[0][:1])
    row: dict[str, Any] = {}
    for suffix, one in (("", net), ("_fixed", fixed)):
        row[f"error{suffix}"] = round(error(one, data.x_test, data.y_test), 2)
        cost = np.average([average_flop(one, batch) for batch in batches])
        row[f"flop{suffix}"] = round(100 * float(cost) / whole, 2)
    for name, values in counts.items():
        row[f"{name}_mean"] = round(float(values.double().mean()), 2)
        row[f"{name}_usual_percent"] = round(100 * float((values == values.mode().values).double().mean()), 1)
    return row


def trained(price: float, seed: int, data: Dataset, runs: Path) -> nn.Module:
    torch.manual_seed(seed)
    net = lenet_5_caffe(law="rnp")
    changes = {**BUDGET.recipe, "epochs": BUDGET.recipe["epochs"] + BUDGET.finetune["epochs"]}
    weights = {name: 1 / gate.multiplier for name, gate in named_gates(net).items()}
    recipe = replace(experiment("lenet_5_caffe").recipe, **changes, gamma=price, layer_weights=weights)
    folder = runs / f"gamma{price:g}-seed{seed}-{len(data.x_test)}"  # held out or test: other images to train on
    return vt.train(net, data, recipe, seed=seed, checkpoint=folder, evaluate_every=100).net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=Path, default=Path("runs/rnp"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    mnist = vt.datasets.load("mnist")
    rows: list[dict[str, Any]] = []

    def add(phase: str, price: float, seed: int, data: Dataset) -> None:
        net = trained(price, seed, data, options.runs)
        rows.append({"phase": phase, "gamma": price, "seed": seed, **measured(net, data)})
        write_text(RESULTS, pd.DataFrame(rows).to_csv(index=False))
        print(rows[-1], flush=True)

    held_out = mnist.split(HELD_OUT).subset(BUDGET.examples)
    for price in PRICES:
        add("choose", price, 30, held_out)
    tried = pd.DataFrame(rows)
    near = tried[tried["error"] <= tried["error"].min() + SLACK]
    chosen = float(near.loc[near["flop"].idxmin(), "gamma"])
    for seed in BUDGET.seeds:
        add("test", chosen, seed, mnist.subset(BUDGET.examples))


if __name__ == "__main__":
    main()
