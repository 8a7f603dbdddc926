"""Pictures of the variational bound: the gap of P1 in its parts, and what ReLU zeros do to the closed form of P2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from vibtheory.information.layer_bound import LayerBound

__all__ = ["plot_gap", "plot_relu_bounds"]


def plot_gap(bound: LayerBound) -> Figure:
    """P1 as two bars: what is bounded, and the bound as that plus the parts of its gap; in nats.

    Args:
        bound: from `layer_bound`, finite.
    """
    parts = (
        ("γ KL(p(h)‖q(h)): the prior", bound.gamma * bound.prior_gap, "orange"),
        ("E KL(p(y|h_L)‖q(y|h_L)): the classifier", bound.classifier_gap, "green"),
        ("I(h_i;y) − I(h_L;y): lost downstream", bound.processing_gap, "purple"),
    )
    with style():
        figure, (terms, gap) = plt.subplots(1, 2, figsize=(8, 2.7), gridspec_kw={"width_ratios": [1, 1.3]})
        names = ["γ I(h; h_prev)", "I(h; y)", "L", "L̃ − H(y)"]
        values = [bound.gamma * bound.information, bound.relevance, bound.objective, bound.bound - bound.entropy_y]
        terms.barh(names[::-1], values[::-1], color=[COLORS[c] for c in ("red", "blue", "sky", "sky")], height=0.6)
        terms.axvline(0, color=COLORS["black"], lw=1)
        terms.set(xlabel="nats", title="the two sides")
        terms.grid(axis="y", visible=False)
        left = bound.objective
        gap.barh(["L̃ − H(y)", "L"], [0, 0])
        gap.axvline(bound.objective, ymax=0.25, color=COLORS["blue"], lw=2, label=f"L = {bound.objective:.4f}")
        for name, width, color in parts:
            gap.barh(["L̃ − H(y)"], [width], left=left, color=COLORS[color], height=0.5, label=f"{name}: {width:.4f}")
            left += width
        gap.axvline(bound.bound - bound.entropy_y, ymax=0.25, color=COLORS["red"], lw=2, label=f"L̃ − H(y) = {left:.4f}")
        gap.set(xlabel="nats", yticks=[])
        gap.set_title(f"the gap: {bound.gap:.4f} nats", loc="left")
        gap.set_ylim(-0.4, 4.2)
        gap.legend(loc="upper left")
        gap.grid(visible=False)
    return figure


def plot_relu_bounds(table: DataFrame) -> Figure:
    """Left: exact I(h;x) of one ReLU unit beside the valid bound and training's ½ log(1+α). Right: ψ⁺ and the zeros.

    Args:
        table: columns threshold, exact, valid, plain, psi (nats) and zero_share.
    """
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.0))
        left.plot(table["threshold"], table["valid"], color=COLORS["red"], label="valid bound (P2 with zeros)")
        left.plot(table["threshold"], table["exact"], color=COLORS["blue"], lw=2.4, label="exact I(h;x)")
        left.plot(table["threshold"], table["plain"], color=COLORS["black"], ls=":", label="½ log(1+α), in training")
        left.set(xlabel="threshold b of f = max(x − b, 0)", ylabel="information (nats)")
        left.set_ylim(bottom=0)
        left.legend()
        right.plot(table["threshold"], table["psi"], color=COLORS["green"], label="ψ⁺ (nats)")
        right.plot(
            table["threshold"], table["zero_share"], color=COLORS["purple"], ls="--", label="share of zeros 1 − π"
        )
        right.set(xlabel="threshold b of f = max(x − b, 0)", ylabel="ψ⁺ (nats), share (no unit)")
        right.set_ylim(bottom=0)
        right.legend()
    return figure
