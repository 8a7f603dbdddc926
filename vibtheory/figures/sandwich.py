"""Bounds on I(h;x) over the number of units: where they meet and part, and the ceiling log N (docs/theory.md P3, F)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["plot_printed_figure2", "plot_sandwich"]

_LOOKS = {
    "infonce": ("InfoNCE (lower)", "blue", "-"),
    "pairwise_bhattacharyya": ("Bhattacharyya (lower)", "sky", "--"),
    "leave_one_out": ("leave-one-out (upper)", "red", "-"),
    "pairwise": ("pairwise KL (upper)", "orange", "--"),
    "gaussian_tight": ("Gaussian, tight (upper)", "green", "-."),
    "per_unit": ("Σ units (upper)", "purple", ":"),
}


def plot_sandwich(table: DataFrame, samples: int) -> Figure:
    """Estimates in nats over the number of units, one line per method.

    Args:
        table: columns units, method, nats.
        samples: N, whose logarithm caps every estimate from N points.
    """
    with style():
        figure, axes = plt.subplots(figsize=(6.4, 3.6))
        for method, rows in table.groupby("method", sort=False):
            label, color, dash = _LOOKS.get(str(method), (str(method), "grey", "-"))
            axes.loglog(rows["units"], rows["nats"], color=COLORS[color], ls=dash, marker=".", label=label)
        axes.axhline(np.log(samples), color=COLORS["black"], lw=1.2, label=f"log N, N = {samples}")
        axes.set(xlabel="number of units", ylabel="I(h + τn; x) (nats)")
        axes.legend(loc="upper left", ncols=2)
    return figure


def plot_printed_figure2(table: DataFrame) -> Figure:
    """The printed Figure 2 as read off: r_W and I(h₁; x) "+ constant" against epoch.

    Args:
        table: columns epoch, r_w_vibnet, r_w_regular, mi_vibnet, mi_regular.
    """
    with style():
        figure, panels = plt.subplots(1, 2, figsize=(8, 2.9))
        for axes, name, label in zip(
            panels, ("r_w", "mi"), ("$r_W$ (fraction)", "I(h₁; x) + constant (nats?)"), strict=True
        ):
            axes.plot(table["epoch"], table[f"{name}_vibnet"], color=COLORS["blue"], label="VIBNet")
            axes.plot(table["epoch"], table[f"{name}_regular"], color=COLORS["red"], ls="--", label="regular net")
            axes.set(xlabel="epoch", ylabel=label)
        panels[0].set_ylim(0, 1.08)
        panels[0].legend()
    return figure
