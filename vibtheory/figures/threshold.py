"""Kept units and test error against the threshold on α: how little the choice of 1 matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vibtheory.errors import reject
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["threshold_figure"]


def threshold_figure(table: DataFrame) -> Figure:
    """Two panels over the threshold (logarithmic): kept units per layer, and the test error.

    Args:
        table: one row per threshold: threshold, one column of kept units per layer, r_w and error (percent).

    Raises:
        InvalidInputError: a column is missing, or no layer is left.
    """
    import matplotlib.pyplot as plt

    needed = {"threshold", "r_w", "error"}
    layers = [column for column in table.columns if column not in needed]
    if not needed <= set(table.columns) or not layers:
        reject(
            "table", list(table.columns), "threshold, the layers' kept units, r_w, error", "write it with the script"
        )
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 2.8))
        colors, marks = ("blue", "orange", "green", "red", "purple", "grey"), "osv^Dx"
        for layer, color, mark in zip(layers, colors, marks, strict=False):
            left.plot(table["threshold"], table[layer], mark + "-", color=COLORS.get(color, "black"), label=layer, ms=4)
        left.set(ylabel="units kept")
        left.legend()
        right.plot(table["threshold"], table["error"], "o-", color=COLORS["blue"], ms=4)
        right.set(ylabel="test error (%)", ylim=(0, 1.5 * float(table["error"].median())))
        for axes in (left, right):
            axes.axvline(1.0, color=COLORS["grey"], linestyle="--", linewidth=1)
            axes.set(xscale="log", xlabel=r"threshold on $\alpha$")
    return figure
