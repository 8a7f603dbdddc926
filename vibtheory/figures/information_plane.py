"""The information plane: I(T;Y) against I(T;X) for information curves and single encoders, in nats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vibtheory.errors import reject
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vibtheory.information.bottleneck import BottleneckSolution
    from vibtheory.information.bottleneck_curve import IBCurve

__all__ = ["information_plane", "plot_curve"]


def information_plane(
    curves: Mapping[str, IBCurve], encoders: Mapping[str, BottleneckSolution] | None = None
) -> Figure:
    """Draw curves, and encoders as points, with the region that data processing forbids shaded.

    Nothing lies above I(T;Y) = min(I(T;X), I(X;Y)); nothing lies above the curve of its own joint either. The limits
    drawn are those of the first curve.

    Args:
        curves: information curves by label, at least one; in nats.
        encoders: single solutions by label, for example deterministic bottlenecks.

    Raises:
        InvalidInputError: no curve.
    """
    import matplotlib.pyplot as plt

    if not curves:
        reject("curves", "none", "at least one information curve", "pass {label: ib_curve(...)}")
    points = dict(encoders or {})
    first = next(iter(curves.values()))
    right = max(
        [float(c.i_tx.max()) for c in curves.values()]
        + [s.i_tx for s in points.values()]
        + ([first.limit_x] if np.isfinite(first.limit_x) else [])
        + [1.2 * first.limit_y]
    )
    right, top = 1.05 * right, 1.12 * max(c.limit_y for c in curves.values())
    with style():
        figure, axes = plt.subplots(figsize=(4.8, 3.4))
        edge = np.array([0.0, first.limit_y, right])
        axes.fill_between(edge, np.minimum(edge, first.limit_y), top, color=COLORS["grey"], alpha=0.15, lw=0)
        axes.plot(edge, np.minimum(edge, first.limit_y), color=COLORS["grey"], lw=0.8)
        axes.annotate(
            "excluded by data processing",
            (right, first.limit_y),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=7,
            color="#555555",
        )
        if np.isfinite(first.limit_x):
            axes.axvline(first.limit_x, color=COLORS["grey"], lw=0.8, ls=":", label="H(X)")
        for index, (label, curve) in enumerate(curves.items()):
            # The hull is achievable by mixing encoders; the markers are the points that were solved.
            axes.plot(*curve.hull(), ls=("-", "--", "-.", ":")[index % 4], label=label)
            shade = axes.lines[-1].get_color()
            if curve.i_tx.size <= 40:
                axes.plot(curve.i_tx, curve.i_ty, ls="", marker="o", ms=2.5, color=shade)
        markers = "s^Dv*P"
        for index, (label, solution) in enumerate(points.items()):
            axes.plot(
                [solution.i_tx],
                [solution.i_ty],
                ls="",
                marker=markers[index % len(markers)],
                ms=5,
                mfc="white",
                color=COLORS["black"],
                label=label,
                zorder=5,
            )
        axes.set(
            xlim=(0, right),
            ylim=(0, top),
            xlabel="compression: I(T;X) [nats]",
            ylabel="relevance: I(T;Y) [nats]",
            title="Information plane",
        )
        axes.legend(loc="lower right")
    return figure


def plot_curve(curve: IBCurve) -> Figure:
    """The information plane with this one curve."""
    return information_plane({curve.method: curve})
