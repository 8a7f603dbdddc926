"""Pictures of the information bottleneck: the information plane, soft clusters, Gaussian components, binning."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, reject
from vibtheory.figures.style import COLORS, facets, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from vibtheory.information.bottleneck_curve import IBCurve
    from vibtheory.information.bottleneck_solution import BottleneckSolution
    from vibtheory.information.gaussian_bottleneck import GaussianBottleneck

__all__ = ["information_plane", "merge_clusters", "plot_binned_information", "plot_curve", "plot_gaussian_bottleneck",
           "plot_soft_clusters"]  # fmt: skip

Array = NDArray[np.float64]


def merge_clusters(joint: ArrayLike, encoder: ArrayLike, tolerance: float = 1e-3) -> Array:
    """p(t|x) [nx, k] with clusters that say the same about y added up; Blahut–Arimoto leaves such copies.

    Args:
        joint: [nx, ny], p(x, y).
        encoder: [nx, nt], p(t|x); columns without mass are dropped.
        tolerance: clusters whose p(y|t) differ by less in every y are one.

    Returns:
        The merged encoder, its clusters ordered by the mean x they stand for.

    Raises:
        InvalidInputError: shapes that disagree.
    """
    p_xy = as_array("joint", joint, (None, None))
    full = as_array("encoder", encoder, (p_xy.shape[0], None), "pass one row per x")
    full = full[:, p_xy.sum(axis=1) @ full > 1e-9]
    means = p_xy.T @ full
    means = (means / means.sum(axis=0)).T  # [nt, ny], p(y|t)
    groups: list[list[int]] = []
    for t in range(len(means)):
        for group in groups:
            if np.abs(means[t] - means[group[0]]).max() < tolerance:
                group.append(t)
                break
        else:
            groups.append([t])
    merged = np.column_stack([full[:, group].sum(axis=1) for group in groups])
    place = (np.arange(len(merged)) @ merged) / merged.sum(axis=0)
    return np.asarray(merged[:, np.argsort(place)], dtype=np.float64)


@style()
def plot_soft_clusters(joint: ArrayLike, curve: IBCurve, point: tuple[float, float], encoder: ArrayLike,
                       beta: float) -> Figure:  # fmt: skip
    """Left: the information plane with the point at β. Right: its soft clusters p(t|x), equal clusters merged.

    Args:
        joint: [nx, ny], p(x, y).
        curve: the exact curve, drawn as a line.
        point: (I(T;X), I(T;Y)) in nats of this encoder.
        encoder: [nx, nt], p(t|x).
        beta: its price, whose tangent is drawn (slope 1/β).
    """
    merged = merge_clusters(joint, encoder)
    right_edge = 1.04 * curve.limit_x
    figure, (plane, clusters) = plt.subplots(1, 2, figsize=(8, 3.3), gridspec_kw={"width_ratios": [1.5, 1]})
    _forbidden(plane, curve.limit_y, right_edge, 1.12 * curve.limit_y)
    plane.plot(*curve.hull(), color=COLORS["blue"], label="exact curve")
    if beta > 0:
        rate = np.array([max(0.0, point[0] - 0.35), min(right_edge, point[0] + 0.35)])
        plane.plot(rate, point[1] + (rate - point[0]) / beta, color=COLORS["grey"], lw=1, ls="--",
                   label="slope 1/β")  # fmt: skip
    plane.plot(*point, "o", ms=8, color=COLORS["red"], label=f"β = {beta:.3g}", zorder=4, clip_on=False)
    plane.set_title(f"I(T;X) = {point[0]:.3f}, I(T;Y) = {point[1]:.3f} nats", loc="left")
    plane.legend(loc="lower right")
    clusters.imshow(merged, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (x, t), value in np.ndenumerate(merged):
        clusters.text(t, x, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black")
    clusters.grid(visible=False)
    clusters.set_xticks(range(merged.shape[1]), [f"t{t + 1}" for t in range(merged.shape[1])])
    clusters.set_yticks(range(merged.shape[0]), [f"x{x + 1}" for x in range(merged.shape[0])])
    count = merged.shape[1]
    clusters.set_title(f"p(t|x): {count} cluster{'s' if count > 1 else ''}", loc="left")
    return figure


@style()
def plot_gaussian_bottleneck(solution: GaussianBottleneck, beta: float) -> Figure:
    """Left: the exact curve, its critical points and the point at β. Right: each component's share of I(T;X).

    Args:
        solution: from `gaussian_bottleneck`.
        beta: the price β ≥ 0 now shown.
    """
    betas = np.concatenate([[1.0], np.geomspace(1.001, max(60.0, 1.2 * beta), 300)])
    curve = np.array([solution.point(float(b)) for b in betas])
    figure, (plane, parts) = plt.subplots(1, 2, figsize=(8, 3.2))
    right_edge = float(curve[:, 0].max())
    _forbidden(plane, solution.i_xy, right_edge, 1.12 * solution.i_xy)
    plane.plot(*curve.T, color=COLORS["blue"], label="exact curve")
    for index, critical in enumerate(solution.critical_betas[solution.critical_betas <= betas[-1]]):
        plane.plot(*solution.point(float(critical)), "D", ms=5, mfc="white", color=COLORS["black"], clip_on=False,
                   label="a component enters" if index == 0 else None, zorder=3)  # fmt: skip
    plane.plot(*solution.point(beta), "o", ms=8, color=COLORS["red"], label=f"β = {beta:.3g}", zorder=4,
               clip_on=False)  # fmt: skip
    plane.legend(loc="lower right")
    square = solution.correlations**2
    for index, rho2 in enumerate(square):
        snr = np.maximum(betas * rho2 - 1, 0) / (1 - rho2)
        dash = ("-", "--", ":", "-.")[index // 6 % 4]  # with six colours, 24 looks
        parts.semilogx(betas, 0.5 * np.log1p(snr), ls=dash, label=f"component {index + 1}, β* = {1 / rho2:.4g}")
    parts.axvline(max(beta, 1.0), color=COLORS["red"], lw=1)
    parts.set(xlabel="price β (nats per nat)", ylabel="its share of I(T;X) (nats)")
    parts.set_title(f"{int((solution.critical_betas < beta).sum())} of {square.size} components in use", loc="left")
    if square.size:
        parts.legend(loc="upper left", ncols=1 + square.size // 8)
    return figure


@style()
def plot_binned_information(table: DataFrame) -> Figure:
    """Binned estimates of I(h;x) of a deterministic layer over the scale of its weights, beside the true value.

    Args:
        table: columns activation, bins, scale, nats and truth, the true I(h;x) in nats, the same at every scale.
    """
    every = (("green", ":"), ("blue", "-"), ("purple", "--"), ("orange", "-."), ("black", ":"), ("sky", "-"))
    looks = dict(zip(sorted(set(table["bins"])), cycle(every), strict=False))
    figure, panels = facets(table, "activation", figsize=(4, 3.0), sharey=True)
    for axes, name, own in panels:
        axes.axhline(own["truth"].iloc[0], color=COLORS["red"], label="true I(h;x)")
        for bins, rows in own.groupby("bins"):
            color, dash = looks[bins]
            axes.semilogx(rows["scale"], rows["nats"], color=COLORS[color], ls=dash, label=f"{bins} bins")
        axes.set(xlabel="scale of the weights", title=name, ylim=(0, 1.12 * table["truth"].max()))
    panels[0][0].set_ylabel("“information” (nats)")
    panels[-1][0].legend(loc="lower left")
    return figure


def _forbidden(axes: Axes, limit: float, right: float, top: float) -> Array:
    """Shade what lies above I(T;Y) = min(I(T;X), I(X;Y)); returns the corners' rates."""
    edge = np.array([0.0, limit, right])
    axes.fill_between(edge, np.minimum(edge, limit), top, color=COLORS["grey"], alpha=0.15, lw=0)
    axes.text(0.98 * right, limit * 1.01, "excluded by data processing", ha="right", va="bottom", fontsize=7,
              color="#555555")  # fmt: skip
    axes.set(xlim=(0, right), ylim=(0, top))
    axes.set(xlabel="compression: I(T;X) (nats)", ylabel="relevance: I(T;Y) (nats)")
    return edge


@style()
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
    figure, axes = plt.subplots(figsize=(4.8, 3.4))
    edge = _forbidden(axes, first.limit_y, right, top)
    axes.plot(edge, np.minimum(edge, first.limit_y), color=COLORS["grey"], lw=0.8)
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
        axes.plot(solution.i_tx, solution.i_ty, ls="", marker=markers[index % len(markers)], ms=5, mfc="white",
                  color=COLORS["black"], label=label, zorder=5)  # fmt: skip
    axes.set_title("Information plane")
    axes.legend(loc="lower right")
    return figure


def plot_curve(curve: IBCurve) -> Figure:
    """The information plane with this one curve."""
    return information_plane({curve.method: curve})
