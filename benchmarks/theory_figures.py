"""Figures of the theory half, each with the numbers it shows: `python benchmarks/theory_figures.py` writes figures/.

penalty_surface (the authors' slide beside ρ(μ; w)), penalty_comparison (ρ against ℓ1, log, ℓ0) and sparsity_path (one
certified minimum followed over the price γ, with its events). `solvers.py --plot` redraws solver_cost.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("Agg")

from vibtheory.figures import (
    classical_penalties,
    plot_path,
    plot_penalty_comparison,
    plot_penalty_surface,
    save,
    slide_surface,
)
from vibtheory.theory.path import sparsity_path
from vibtheory.theory.penalty import penalty
from vibtheory.theory.quadratic import QuadraticBound

ROOT = Path(__file__).resolve().parents[1]


def penalty_figures(out: Path) -> None:
    """Both penalty figures, and their values on a coarse grid."""
    save(plot_penalty_surface(), out / "penalty_surface", ("png",))
    mu, metric = (grid.ravel() for grid in np.meshgrid(np.linspace(-2, 2, 17), [0.001, 0.1, 0.25, 0.5, 0.75, 1.0]))
    surface = {"mu": mu, "lambda": metric, "slide": slide_surface(mu, metric), "rho": penalty(mu, 1 / metric, 1.0)}
    pd.DataFrame(surface).round(6).to_csv(out / "penalty_surface.csv", index=False)
    save(plot_penalty_comparison(), out / "penalty_comparison", ("png", "pdf"))
    t = np.linspace(0, 5, 21)
    table = {"t": t, "rho": penalty(t, 1.0, 1.0), **{{"ℓ1": "l1", "log": "log", "ℓ0": "l0"}[name]: values
                                                     for name, values in classical_penalties(t).items()}}  # fmt: skip
    pd.DataFrame(table).round(6).to_csv(out / "penalty_comparison.csv", index=False)


def path_figure(out: Path) -> None:
    """A 30-gate instance of rank 12 from all closed to nearly least squares; its points and its events as CSV."""
    rng = np.random.default_rng(4)
    factor = rng.standard_normal((12, 30)) / np.sqrt(12)
    bound = QuadraticBound(factor, -2 * factor.T @ (2 * rng.standard_normal(12)), 0.0, 1.0)
    path = sparsity_path(bound, np.geomspace(30.0, 1e-3, 120))
    save(plot_path(path), out / "sparsity_path", ("png", "pdf"))
    path.to_frame().to_csv(out / "sparsity_path.csv", index=False)
    path.events_to_frame().to_csv(out / "sparsity_path_events.csv", index=False)
    print(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "figures")
    out: Path = parser.parse_args().out
    penalty_figures(out)
    path_figure(out)


if __name__ == "__main__":
    main()
