"""Figure of T7's rank-free budget: the most gates that can stay open, from ‖β‖²/γ alone, against the price γ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from vibtheory.errors import reject
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["plot_budget"]

_COLUMNS = ("layer", "kind", "d", "factor", "budget", "survivors", "rank")


def plot_budget(table: pd.DataFrame) -> Figure:
    """One panel per layer: the limit, the survivors of a certified minimum, rank[A], against γ over the trained one.

    Args:
        table: columns layer, kind, d, factor (γ over the trained γ), budget, survivors, rank; one row per layer and γ.

    Raises:
        InvalidInputError: a column is missing, or no row.
    """
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing or len(table) == 0:
        reject("table", f"{len(table)} rows, without {missing}", f"rows with {', '.join(_COLUMNS)}",
               "make it with benchmarks/network_theory.py")  # fmt: skip
    layers = list(dict.fromkeys(table["layer"]))
    with style():
        figure, axes = plt.subplots(1, len(layers), figsize=(3.2 * len(layers), 3.0), squeeze=False)
        for axis, layer in zip(axes[0], layers, strict=True):
            rows = table[table["layer"] == layer].sort_values("factor")
            axis.plot(rows["factor"], rows["budget"], color=COLORS["red"], label="T7: most gates with α ≥ 1")
            axis.plot(rows["factor"], rows["survivors"], "o-", ms=4, color=COLORS["blue"],
                      label="α* ≥ 1 at a certified minimum")  # fmt: skip
            axis.plot(rows["factor"], rows["rank"], color=COLORS["grey"], ls="--", label="rank[A]")
            axis.axvline(1.0, color=COLORS["black"], lw=0.8, ls=":")
            axis.set(xscale="log", yscale="symlog", xlabel="γ / trained γ", ylim=(0, 2.2 * rows["d"].max()))
            axis.set_title(f"{layer} (d = {rows['d'].iloc[0]}, {rows['kind'].iloc[0]})", loc="left")
        axes[0, 0].set_ylabel("gates")
        axes[0, 0].legend(loc="lower left")
    return figure
