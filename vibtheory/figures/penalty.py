"""Figures of the penalty ρ(μ; w) (docs/theory.md T1), and of Φ over two gates with its minima (T2, T6).

The authors' talk plots 2|μ|/(|μ| + √(μ²+4λ)) + log(2λ + μ² + |μ|√(μ²+4λ)) over "activation strength" μ and a
"curvature metric" λ ∈ [0, 1]. That is ρ/γ + log 2λ with λ = γ/w: the metric is the *inverse* of the data term's
curvature w in units of γ. So a flat direction (λ large) is penalised nearly linearly, a steep one like log|μ|.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_positive, reject
from vibtheory.figures.style import COLORS, style
from vibtheory.theory.penalty import penalty, snr

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vibtheory.theory.minima import LocalMinimum
    from vibtheory.theory.quadratic import QuadraticBound

__all__ = ["classical_penalties", "plot_landscape", "plot_penalty_comparison", "plot_penalty_section",
           "plot_penalty_surface", "slide_surface"]  # fmt: skip

Array = NDArray[np.float64]


def slide_surface(mu: ArrayLike, metric: ArrayLike) -> Array:
    """ρ/γ + log 2λ at mu = μ and metric λ = γ/w > 0 (no unit, they broadcast); at λ → 0 it tends to 1 + log 2μ².

    Raises:
        InvalidInputError: λ ≤ 0 or not finite.
    """
    lam = as_positive("metric", metric)
    return np.asarray(penalty(mu, 1 / lam, 1.0) + np.log(2 * lam))


def classical_penalties(t: ArrayLike) -> dict[str, Array]:
    """ℓ1, log and ℓ0 over t = |μ|√(w/γ), scaled to share what they can with ρ/γ.

    ℓ1 = 2t shares its slope at 0; log = 2 log(1 + t) that slope and the growth at infinity; ℓ0 = 4·1[t ≠ 0] has
    no scale of its own.
    """
    size = np.abs(np.asarray(t, dtype=np.float64))
    return {"ℓ1": 2 * size, "log": 2 * np.log1p(size), "ℓ0": 4.0 * (size > 0)}


@style()
def plot_penalty_surface() -> Figure:
    """The surface of the authors' talk beside ρ(μ; w) at γ = 1."""
    mu = np.linspace(-2, 2, 61)
    figure = plt.figure(figsize=(8.6, 3.7))
    panels = (
        ("as in the talk: ρ/γ + log 2λ", "curvature metric λ = γ/w", np.linspace(1e-3, 1, 41), slide_surface),
        ("ρ(μ; w) at γ = 1 nat", "squared column norm w", np.linspace(0, 8, 41), lambda m, w: penalty(m, w, 1.0)),
    )
    for place, (title, label, values, surface) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, 2, place, projection="3d")
        x, y = np.meshgrid(mu, values)
        axes.plot_surface(x, y, surface(x, y), cmap="cividis", rstride=1, cstride=1, lw=0.1, edgecolor="black")
        axes.set_xlabel("activation strength μ")
        axes.set_ylabel(label)
        axes.set_zlabel("penalty (nats / γ)")
        axes.set_xticks([-2, -1, 0, 1, 2])
        axes.view_init(elev=22, azim=-38)
        axes.set_box_aspect(None, zoom=0.78)  # constrained layout does not know the labels of a 3D axis
        axes.set_title(title, y=0.92)
    return figure


@style()
def plot_penalty_comparison() -> Figure:
    """ρ/γ over t = |μ|√(w/γ) against ℓ1, log and ℓ0; and over μ for several w: the shape adapts to the curvature."""
    t = np.linspace(-5, 5, 1001)
    notes = {"ℓ1": "ℓ1 (2t: same slope at 0)", "log": "log (2 log(1+t): same growth)", "ℓ0": "ℓ0 (any level)"}
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.1))
    left.plot(t, penalty(t, 1.0, 1.0), color=COLORS["blue"], lw=2.2, label="ρ/γ (profiled penalty)")
    _classical(left, t, t, notes)
    left.set(xlabel="μ√(w/γ)", ylabel="penalty (nats / γ)", ylim=(0, 13), title="between log and ℓ1")
    left.legend(loc="upper center")
    mu = np.linspace(-3, 3, 601)
    for w, color in ((0.01, "sky"), (0.1, "green"), (1.0, "blue"), (10.0, "purple"), (100.0, "red")):
        right.plot(mu, penalty(mu, w, 1.0), color=COLORS[color], label=f"w = {w:g}")
    right.set(xlabel="activation strength μ", ylabel="ρ(μ; w) (nats), γ = 1", title="it adapts to the curvature w")
    right.legend(loc="upper center", ncols=2)
    right.set_ylim(0, 11.5)
    return figure


def _classical(axes: Axes, x: Array, t: Array, notes: Mapping[str, str] | None = None) -> None:
    """ℓ1, log and ℓ0 over `x`."""
    looks = (("orange", "--"), ("green", "-."), ("black", ":"))
    for (name, values), (color, dash) in zip(classical_penalties(t).items(), looks, strict=True):
        axes.plot(x, values, color=COLORS[color], ls=dash, label=(notes or {}).get(name, name))


@style()
def plot_penalty_section(w: float, gamma: float) -> Figure:
    """Left: ρ/γ over μ and w at price γ, the chosen w as a line. Right: that section beside the classical penalties.

    Args:
        w: squared column norm (half the data term's curvature), in nats per μ².
        gamma: price γ in nats.

    Raises:
        InvalidInputError: w < 0 or γ ≤ 0.
    """
    mu = np.linspace(-3, 3, 301)
    section = penalty(mu, w, gamma) / gamma
    norms = np.geomspace(0.03, 30, 80)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.1))
    surface = penalty(mu[None, :], norms[:, None], gamma) / gamma
    filled = left.contourf(mu, norms, surface, levels=np.linspace(0, 10, 21), cmap="cividis", extend="max")
    left.set_yscale("log")
    left.axhline(w, color="white", lw=2)
    left.set(xlabel="gate mean μ", ylabel="curvature w (nats/μ²)", title=f"ρ/γ at γ = {gamma:g} nats")
    left.grid(visible=False)
    figure.colorbar(filled, ax=left, label="ρ/γ (nats per nat)", ticks=[0, 2, 4, 6, 8, 10])
    right.plot(mu, section, color=COLORS["blue"], lw=2.4, label="ρ/γ")
    _classical(right, mu, mu * np.sqrt(w / gamma))
    alpha = float(snr(1.0, w, gamma))
    right.set(xlabel="gate mean μ", ylabel="penalty / γ", ylim=(0, 12))
    right.set_title(f"w = {w:g}: a gate with μ = 1 has α = {alpha:.3g}")
    right.legend(loc="upper center", ncols=4)
    return figure


@style()
def plot_landscape(
    bound: QuadraticBound,
    minima: Sequence[LocalMinimum],
    points: Mapping[str, ArrayLike] | None = None,
    title: str = "",
) -> Figure:
    """Contours of Φ(μ₁, μ₂) in nats; the global minimum a star, the others circles, `points` as crosses.

    Args:
        bound: ḡ with d = 2 gates.
        minima: its local minima, the lowest first, as `enumerate_local_minima` returns them.
        points: further points [2] by label.
        title: above the picture; by default the count of minima.

    Raises:
        InvalidInputError: the bound has not two gates, or a point is not [2].
    """
    if bound.d != 2:
        reject("bound", f"{bound.d} gates", "2 gates", "use SparsityReport.plot for more")
    others = {name: as_array("points", value, (2,)) for name, value in (points or {}).items()}
    seen = np.array([np.zeros(2), *(m.mu for m in minima), *others.values()])
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = 0.35 * max(float((high - low).max()), 1.0)
    x, y = (np.linspace(low[i] - margin, high[i] + margin, 161) for i in (0, 1))
    grid = np.stack(np.meshgrid(x, y), axis=-1)  # [161, 161, 2]
    height = bound.value(grid) + penalty(grid, bound.w, bound.gamma).sum(axis=-1)
    bottom = float(height.min())
    # Square-root spacing: narrow bands near the minima, wide ones on the slopes.
    levels = bottom + (np.linspace(0, 1, 22) ** 2) * (float(np.quantile(height, 0.9)) - bottom)
    figure, axes = plt.subplots(figsize=(4.9, 3.9))
    filled = axes.contourf(x, y, height, levels=levels, cmap="cividis", extend="max")
    figure.colorbar(filled, ax=axes, label="Φ (nats)", format="%.2g")
    axes.grid(visible=False)
    axes.axhline(0, color="white", lw=0.7)
    axes.axvline(0, color="white", lw=0.7)
    named: set[str] = set()
    for minimum in minima:
        lowest = minimum.value <= minima[0].value + 1e-9 * max(1.0, abs(minima[0].value))
        name = "global minimum" if lowest else "local minimum"
        axes.plot(*minimum.mu, marker="*" if lowest else "o", ms=14 if lowest else 8, ls="", mec="white", zorder=3,
                  color=COLORS["red"], label=None if name in named else name, clip_on=False)  # fmt: skip
        named.add(name)
    for name, point in others.items():
        axes.plot(*point, marker="X", ms=9, ls="", color="white", mec="black", label=name, zorder=4)
    axes.set(xlabel="gate mean μ₁", ylabel="gate mean μ₂")
    count = f"{len(minima)} local minim{'um' if len(minima) == 1 else 'a'}"
    axes.set_title(title or count, loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    return figure
