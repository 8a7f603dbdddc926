"""Figure of what a certified local minimum costs, against the number of gates and the rank, from a results table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from vibtheory.errors import reject
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["plot_solver_cost"]

_COLUMNS = ("d", "rank", "gamma", "fast_s", "cvxpy_s")


def plot_solver_cost(table: pd.DataFrame) -> Figure:
    """CPU seconds of the fast solver and of the cvxpy loop over d (rank 100), and of the fast one over the rank.

    Args:
        table: one row per instance with columns d, rank, gamma, fast_s, cvxpy_s (NaN where not run), as
            `benchmarks/solvers.py` writes it.

    Raises:
        InvalidInputError: a column is missing.
    """
    missing = [name for name in _COLUMNS if name not in table]
    if missing:
        reject("table", f"no column {', '.join(missing)}", f"columns {', '.join(_COLUMNS)}",
               "pass benchmarks/results/solvers.csv")  # fmt: skip
    colors = [COLORS[name] for name in ("blue", "red", "green", "purple")]
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(7.0, 2.9), sharey=True)
        by_size = table[table["rank"] == 100].drop_duplicates(["d", "gamma"])
        for color, (gamma, part) in zip(colors, by_size.groupby("gamma"), strict=False):
            part = part.sort_values("d")
            axes[0].loglog(part["d"], part["fast_s"], "o-", color=color, label=f"fast, γ = {gamma:g}")
            both = part.dropna(subset=["cvxpy_s"])
            axes[0].loglog(both["d"], both["cvxpy_s"], "s--", color=color, label=f"cvxpy loop, γ = {gamma:g}")
        axes[0].set(xlabel="gates d (rank 100)", ylabel="CPU seconds to a certified minimum")
        several = table[table["gamma"] == 0.1].groupby("d").filter(lambda part: part["rank"].nunique() > 1)
        for color, (size, part) in zip(colors, several.groupby("d"), strict=False):
            part = part.sort_values("rank")
            axes[1].loglog(part["rank"], part["fast_s"], "o-", color=color, label=f"fast, d = {size:g}, γ = 0.1")
        axes[1].set(xlabel="rank of A")
        for axis, ticks in ((axes[0], by_size["d"]), (axes[1], several["rank"])):
            places = sorted({place for place in ticks if place != 300})  # beside 400 it would be unreadable
            axis.set_xticks(places, [f"{place:g}" for place in places])
            axis.minorticks_off()
        axes[0].legend(loc="center right", bbox_to_anchor=(1.0, 0.62))
        axes[1].legend(loc="upper left")
    return figure
