"""Figure of T8: the spectrum of the trained objective's scaled curvature on the kept gates, against the threshold 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from vibtheory.figures.style import COLORS, style, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vibtheory.theory.trained_objective import TrainedNetworkReport

__all__ = ["plot_trained"]


@style()
def plot_trained(report: TrainedNetworkReport) -> Figure:
    """One panel for each part of a network: eigenvalues of M^½HM^½, each kept gate's worth, before polishing and after.

    Args:
        report: from `check_trained`. At a minimum all eigenvalues lie at 1 or above (docs/theory.md T8); the bar is the
            standard error of the least.
    """
    wide = min(4, len(report))
    tall = -(-len(report) // wide)
    figure, axes = plt.subplots(tall, wide, figsize=(3.4 * wide + 0.6, 2.8 * tall), squeeze=False)
    panels = axes.ravel()[: len(report)]
    for empty in axes.ravel()[len(report) :]:
        empty.remove()
    groups = [("before", report.before, COLORS["red"]), ("polished", report.reports, COLORS["blue"])]
    if not report.before:
        groups = [("eigenvalues", report.reports, COLORS["blue"])]
    for name, parts, color in groups:
        for panel, part in zip(panels, parts, strict=True):
            place = np.arange(1, part.kept + 1)
            panel.plot(place, part.spectrum, ".", ms=4, color=color, label=f"{name}: {part.kept} kept, {part.verdict}")
            if part.kept:
                panel.errorbar(place[-1:], part.spectrum[-1:], part.least.stderr, color=color, lw=1)
            panel.set_title(f"{wrapped(part.layer, 16)}: {part.above_one} of {part.kept} are at least 1", loc="left")
    for panel in panels:
        positive = all(np.min(line.get_ydata(), initial=1.0) > 0 for line in panel.lines)
        panel.axhline(1, color=COLORS["black"], lw=1, ls="--")
        panel.set(xlabel="eigenvalue number")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_yscale("log") if positive else panel.set_yscale("symlog", linthresh=1)
        panel.margins(y=0.1)
        panel.legend(loc="upper right" if positive else "lower left")  # where a falling curve is not
    for first in axes[:, 0]:
        first.set_ylabel("eigenvalue of M½HM½")
    return figure
