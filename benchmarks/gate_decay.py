"""What weight decay on μ and log σ² does to a trained net: the named option of Tables 3 and 4, tried on LeNet-300-100.

    python benchmarks/gate_decay.py [--epochs 30] [--seeds 0 1] [--examples 60000]

Table 1's recipe with shorter training and VGG's start (log σ² = −9 ± 0.01). The decay is given as a multiple of the
price γ, because that ratio says how strong it is beside the information term: for a gate with multiplier s, Table 3.1's
authors had decay / (γ s) = 3.6 on hidden layers (s = 1) and 0.11 in the first block (s = 32). The last rows have the
decay of 3.6 γ and no price at all. Rows go to results/gate_decay.csv run by run; a second call keeps finished runs and
continues a stopped one. About 12 minutes of one CPU core.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

import vibtheory as vt
from vibtheory.compression.evaluation import error
from vibtheory.networks.gates import gate_information, named_gates
from vibtheory.storage import write_text
from vibtheory.studies.experiments import experiment

RESULTS = Path(__file__).parent / "results" / "gate_decay.csv"
SETTINGS = ((1.0, 0.0), (1.0, 0.11), (1.0, 3.6), (0.0, 3.6))  # price and decay, both in units of Table 1's γ
KEYS = ["price", "decay", "seed", "epochs", "examples"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()

    data = vt.datasets.load("mnist").subset(options.examples, seed=0)
    base = experiment("lenet_300_100").recipe
    gamma = float(base.gamma)  # type: ignore[arg-type]
    start = replace(base, epochs=options.epochs, pretrain_epochs=min(5, options.epochs // 5),
                    initial_log_variance=-9.0, initial_spread=0.01)  # fmt: skip
    table = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame()
    for seed in options.seeds:
        for price, decay in SETTINGS:
            key = [price * gamma, decay * gamma, seed, options.epochs, options.examples]
            if len(table) and (table[KEYS] == key).all(axis=1).any():
                continue
            recipe = replace(start, gamma=price * gamma, gate_weight_decay=decay * gamma)
            torch.manual_seed(seed)
            net = vt.networks.lenet_300_100()
            folder = Path("runs") / "gate_decay" / "-".join(f"{part:g}" for part in key)
            vt.train(net, data, recipe, seed=seed, checkpoint=folder, evaluate_every=options.epochs)
            size = vt.metrics.compression(net)
            row = dict(zip(KEYS, key, strict=True)) | {
                "kept": "-".join(str(int(gate.keep.sum())) for gate in named_gates(net).values()),
                "r_w": round(size.r_w, 3),
                "error": round(error(net, data.x_test, data.y_test), 2),
                "information_nats": round(sum(gate_information(net).values()), 1),
            }
            table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
            write_text(options.out, table.to_csv(index=False))
            print(table.tail(1).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
