"""Figures of the penalty ρ(μ; w) (docs/theory.md T1): the authors' surface, ours, and what it is between (ℓ1, log, ℓ0).

The authors' slide plots 2|μ|/(|μ| + √(μ²+4λ)) + log(2λ + μ² + |μ|√(μ²+4λ)) over "activation strength" μ and a
"curvature metric" λ ∈ [0, 1]. That is ρ/γ + log 2λ with λ = γ/w: the metric is the *inverse* of the data term's
curvature w in units of γ. So a flat direction (λ large) is penalised nearly linearly, a steep one like log|μ|.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_positive
from vibtheory.figures.style import COLORS, style
from vibtheory.theory.penalty import penalty

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["classical_penalties", "plot_penalty_comparison", "plot_penalty_surface", "slide_surface"]

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


def plot_penalty_surface() -> Figure:
    """The slide's surface beside ρ(μ; w) at γ = 1."""
    mu = np.linspace(-2, 2, 61)
    with style():
        figure = plt.figure(figsize=(8, 3.6))
        panels = (
            ("slide: ρ/γ + log 2λ", "curvature metric λ = γ/w", np.linspace(1e-3, 1, 41), slide_surface),
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
            axes.set_box_aspect(None, zoom=0.85)
            axes.set_title(title, y=0.92)
    return figure


def plot_penalty_comparison() -> Figure:
    """ρ/γ over t = |μ|√(w/γ) against ℓ1, log and ℓ0; and over μ for several w: the shape adapts to the curvature."""
    t = np.linspace(-5, 5, 1001)
    looks = {"ℓ1": (COLORS["orange"], "--"), "log": (COLORS["green"], "-."), "ℓ0": (COLORS["black"], ":")}
    notes = {"ℓ1": "ℓ1 (2t: same slope at 0)", "log": "log (2 log(1+t): same growth)", "ℓ0": "ℓ0 (any level)"}
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.1))
        left.plot(t, penalty(t, 1.0, 1.0), color=COLORS["blue"], lw=2.2, label="ρ/γ (profiled penalty)")
        for name, values in classical_penalties(t).items():
            left.plot(t, values, color=looks[name][0], ls=looks[name][1], label=notes[name])
        left.set(xlabel="μ√(w/γ)", ylabel="penalty (nats / γ)", ylim=(0, 13), title="between log and ℓ1")
        left.legend(loc="upper center")
        mu = np.linspace(-3, 3, 601)
        for w, color in ((0.01, "sky"), (0.1, "green"), (1.0, "blue"), (10.0, "purple"), (100.0, "red")):
            right.plot(mu, penalty(mu, w, 1.0), color=COLORS[color], label=f"w = {w:g}")
        right.set(xlabel="activation strength μ", ylabel="ρ(μ; w) (nats), γ = 1", title="it adapts to the curvature w")
        right.legend(loc="upper center", ncols=2)
        right.set_ylim(0, 11.5)
    return figure
