"""How little the result depends on the threshold α > 1: kept units and test error, threshold by threshold.

    python benchmarks/threshold.py [--epochs 40] [--gamma 5.5e-4] [--seed 0] [--out figures]

Trains LeNet-300-100 on MNIST with Table 1's recipe, but never closes a gate for good (`prune_every = 0`): otherwise the
units that the threshold 1 shut during training could not come back at a lower one, and the answer would be built in.
Writes threshold.csv and threshold.png. A stopped run is continued from runs/threshold.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

import vibtheory as vt
from vibtheory.compression.evaluation import error
from vibtheory.figures import save, threshold_figure
from vibtheory.networks.gates import named_gates
from vibtheory.storage import write_text
from vibtheory.studies.experiments import experiment

THRESHOLDS = (0.01, 0.03, 0.1, 0.2, 0.5, 0.8, 1.0, 1.25, 2.0, 5.0, 10.0, 30.0, 100.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--gamma", type=float, default=5.5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()

    data = vt.datasets.load("mnist")
    recipe = replace(experiment("lenet_300_100").recipe, gamma=options.gamma, epochs=options.epochs, prune_every=0)
    torch.manual_seed(options.seed)
    net = vt.networks.lenet_300_100()
    vt.train(net, data, recipe, seed=options.seed, checkpoint=Path("runs") / "threshold", evaluate_every=options.epochs)

    rows = []
    for threshold in THRESHOLDS:
        for gate in named_gates(net).values():
            gate.threshold = threshold
        kept = {layer: int(gate.keep.sum()) for layer, gate in named_gates(net).items()}
        size = vt.metrics.compression(net)
        rows.append({"threshold": threshold, **kept, "r_w": size.r_w, "error": error(net, data.x_test, data.y_test)})
    table = pd.DataFrame(rows)
    options.out.mkdir(exist_ok=True)
    write_text(options.out / "threshold.csv", table.round(4).to_csv(index=False))
    save(threshold_figure(table), options.out / "threshold", formats=("png",))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
