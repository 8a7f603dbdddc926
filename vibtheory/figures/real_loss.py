"""Figure of the real loss's descent (docs/theory.md T7): J never rises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vibtheory.theory.real_loss import RealLossMinimum

__all__ = ["plot_descent"]


def plot_descent(minimum: RealLossMinimum) -> Figure:
    """J − J_end in nats after each step, by kind of step, on a log axis.

    Args:
        minimum: from `minimise_real_loss`.
    """
    above = np.array(minimum.history) - minimum.history[-1]
    floor = 1e-16 * max(1.0, abs(minimum.value))
    height = np.maximum(above, floor)
    kinds = np.array(("start", *minimum.steps))
    colors = {"start": "black", "mm": "blue", "newton": "orange", "escape": "red"}
    labels = {
        "start": "start",
        "mm": "majorise–minimise",
        "newton": "Newton on the support",
        "escape": "negative curvature",
    }
    with style():
        figure, axes = plt.subplots(figsize=(4.4, 3.0))
        axes.semilogy(height, color=COLORS["grey"], lw=1, zorder=1)
        for kind, color in colors.items():
            at = np.flatnonzero(kinds == kind)
            if at.size:
                axes.scatter(at, height[at], s=16, color=COLORS[color], label=labels[kind], zorder=2)
        axes.set(xlabel="step", ylabel="J above its final value (nats)")
        axes.set_title(f"J falls to {minimum.value:.4g} nats; {minimum.nonzeros} of {minimum.mu.size} gates open")
        axes.legend()
    return figure
