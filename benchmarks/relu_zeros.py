"""P2 on trained nets: the share of inputs at zero, ψ⁺ and log(1+α) of each kept ReLU unit.

    python benchmarks/relu_zeros.py [RUN ...] [--rows 10000]

Without runs, those of Table 1 (`vibtheory table 1 --full`) in runs/. Writes figures/relu_zeros.{csv,png}.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import vibtheory as vt
from vibtheory.bridge.channels import layer_law
from vibtheory.figures import relu_zeros, save
from vibtheory.information import unit_terms

FIGURES = Path(__file__).parent.parent / "figures"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--rows", type=int, default=10_000, help="training images, the first of one permutation")
    options = parser.parse_args()
    folders = options.runs or sorted(Path("runs").glob("lenet_300_100-gamma0.00055-seed[5-9]-*"))
    if not folders:
        sys.exit("no run in runs/. Remedy: vibtheory table 1 --full, or name the folders")
    data = vt.datasets.load("mnist")
    x = data.x_train[np.random.default_rng(0).permutation(len(data.x_train))[: options.rows]]
    rows = []
    for folder in folders:
        run = vt.load(folder)
        for layer in ("h1", "h2"):
            channel = layer_law(run.net, x, layer).channel()
            terms = unit_terms(channel)
            pattern = channel.pattern_entropy()
            columns = (np.flatnonzero(channel.is_open), terms.zero_share, terms.psi, terms.log1p_alpha)
            for unit, zero, psi, gate in zip(*columns, strict=True):
                rows.append({"seed": run.seed, "layer": layer, "unit": unit, "zero_share": zero, "psi": psi,
                             "log1p_alpha": gate})  # fmt: skip
            unique = int((np.bincount(channel.pattern) == 1).sum())
            sys.stdout.write(
                f"seed {run.seed} {layer}: {terms}; H(pattern) {pattern:.3f} of {np.log(channel.n):.3f} nats, "
                f"{unique} of {channel.n} patterns unique; ½Σlog(1+α) {0.5 * terms.log1p_alpha.sum():.1f}, "
                f"½Σπψ⁺ {0.5 * ((1 - terms.zero_share) * terms.psi).sum():.1f} nats\n"
            )
    table = pd.DataFrame(rows)
    table.to_csv(FIGURES / "relu_zeros.csv", index=False, float_format="%.5g")
    seeds = table["seed"].nunique()
    save(relu_zeros(table, f"LeNet-300-100, Table 1's recipe, {seeds} nets"), FIGURES / "relu_zeros", ("png",))


if __name__ == "__main__":
    import matplotlib

    matplotlib.use("Agg")
    main()
