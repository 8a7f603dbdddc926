"""Figures of redundancy: which pairs of gates survive together, and how near they come to T4a's limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vibtheory.theory.redundancy import CollinearityReport

__all__ = ["plot_collinearity"]


def plot_collinearity(report: CollinearityReport) -> Figure:
    """cos² of each pair of survivors against its limit (docs/theory.md T4a): points must stay right of the diagonal.

    Args:
        report: from `check_collinearity`.
    """
    with style():
        figure, axes = plt.subplots(figsize=(3.6, 3.2))
        axes.fill_between([0, 1], [0, 1], [1, 1], color=COLORS["red"], alpha=0.12, label="forbidden by T4a")
        axes.plot([0, 1], [0, 1], color=COLORS["red"], lw=1)
        axes.scatter(report.limits, report.squared_cosines, s=10, color=COLORS["blue"], label="pairs of survivors")
        axes.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="limit from the two SNRs")
        axes.set_ylabel("cos² of the angle between columns")
        axes.set_title(f"T4a {report.verdict}: {report.support.size} survivors, least slack {report.slack:.2g}")
        axes.legend(loc="upper left")
    return figure
