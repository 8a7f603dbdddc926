"""Figure 2's two nets without weight decay: does the regular net's information go on rising then, as printed?

    python benchmarks/figure2_decay.py [--seeds 3] [--epochs 200] [--jobs 2] [--out figures]

Figure 2's recipe with `weight_decay = 0`, the record's epochs, and only ½ log det(I + Cov(h₁)/τ²), the Gaussian bound
on I(h₁ + τn; x), at τ = 0.01. Writes OUT/figure2_decay.csv, which notebook 06 and `vibtheory claims` read beside
figures/figure2.csv. Resumes from runs/figure2-decay. About 10 core-minutes for a seed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from vibtheory.storage import write_text
from vibtheory.studies.estimators import Estimator
from vibtheory.studies.figure2 import RECIPE, SWEEPS
from vibtheory.studies.sweep import sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()

    tables = []
    for plan in SWEEPS["full"][:2]:  # the two nets of the printed panels
        made = sweep(
            gammas=plan["gammas"], seeds=options.seeds, out=Path("runs") / "figure2-decay", epochs=options.epochs,
            record=[epoch for epoch in plan["record"] if epoch <= options.epochs],
            estimators=(Estimator("gaussian", 0.01),), gated=plan["gated"], recipe=replace(RECIPE, weight_decay=0.0),
            full_at_last=False, jobs=options.jobs,
        )  # fmt: skip
        tables.append(made.table)
    table = pd.concat(tables, ignore_index=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "figure2_decay.csv", table.to_csv(index=False))
    print(table.pivot_table(index="epoch", columns=["gated", "seed"], values=["nats", "r_w"]).to_string())


if __name__ == "__main__":
    main()
