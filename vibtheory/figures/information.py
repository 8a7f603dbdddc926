"""Pictures of bounds on information (docs/theory.md P1 to P3, F): gaps, ReLU zeros, numbers of units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from vibtheory.errors import reject
from vibtheory.figures.style import COLORS, needs, style, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from vibtheory.bridge.layer_information import LayerInformation
    from vibtheory.information.layer_bound import LayerBound

__all__ = ["plot_gap", "plot_layer_information", "plot_relu_bounds", "plot_sandwich", "relu_zeros"]


@style()
def plot_gap(bound: LayerBound) -> Figure:
    """P1 as two bars: what is bounded, and the bound as that plus the parts of its gap; in nats.

    Args:
        bound: from `layer_bound`, finite.

    Raises:
        InvalidInputError: an infinite bound.
    """
    if not np.isfinite(bound.bound):
        reject("bound", "an infinite one", "a finite one", 'ask layer_bound for prior="pattern", which has the atoms')
    parts = (
        ("γ KL(p(h)‖q(h)): the prior", bound.gamma * bound.prior_gap, "orange"),
        ("E KL(p(y|h_L)‖q(y|h_L)): the classifier", bound.classifier_gap, "green"),
        ("I(h_i;y) − I(h_L;y): lost downstream", bound.processing_gap, "purple"),
    )
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


@style()
def plot_layer_information(report: LayerInformation) -> Figure:
    """Left: every bound on I(h; x) with its 95 % interval, beside log N. Right: the best two at other noises and N.

    Args:
        report: from `vibtheory.information_of`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 0.4 * len(report.bounds) + 1.6), width_ratios=[1.5, 1])
    for place, bound in enumerate(report.bounds):
        color = COLORS["blue" if bound.kind == "lower" else "red"]
        mark = "D" if bound in (report.lower, report.upper) else "o"
        left.errorbar(bound.nats, place, xerr=1.96 * bound.stderr, color=color, marker=mark, capsize=3)
        _mark_infinite(left, bound.nats, place, color)
    rows = [row for row in report._table() if row["of"] == "I(h; x)"]
    kinds = [row["kind"] if row["over"] == report.over else f"{row['kind']}, rows" for row in rows]
    left.set_yticks(range(len(rows)), [f"{row['method']} ({kind})" for row, kind in zip(rows, kinds, strict=True)])
    left.axvline(np.log(report.n), color=COLORS["black"], lw=1, label=f"log N, N = {report.n}")
    left.invert_yaxis()
    left.set(xlabel="nats", title=f"I({wrapped(report.layer, 24)}; x), τ = {report.noise:.3g} of the scale")
    left.legend()
    here = {"tau": report.tau, "n": report.n, "lower": report.lower.nats, "upper": report.upper.nats}
    for place, row in enumerate([here, *report.sensitivity]):
        right.plot([row["lower"], row["upper"]], [place, place], color=COLORS["grey"])
        right.plot(row["lower"], place, ">", row["upper"], place, "<", color=COLORS["black"])
        _mark_infinite(right, row["upper"], place, COLORS["black"])
    rows = [here, *report.sensitivity]
    right.set_yticks(range(len(rows)), [f"τ = {row['tau']:.3g}, N = {row['n']:.0f}" for row in rows])
    right.invert_yaxis()
    right.set(xlabel="nats", title="noise and rows")
    for axes, nats in (
        (left, [bound.nats for bound in report.bounds]),
        (right, [row[side] for row in rows for side in ("lower", "upper")]),
    ):
        seen = [value for value in nats if np.isfinite(value)]
        if max(seen) > 100 * np.log(report.n):  # on a linear axis the lower bounds would be one point with 0
            axes.set_xscale("symlog", linthresh=1)
            axes.set_xlim(min(0.0, *seen), 5 * max(seen))
            axes.set_xticks([0, *10.0 ** np.linspace(0, np.log10(max(seen)), 4).astype(int)])
            axes.minorticks_off()
    return figure


def _mark_infinite(axes: Axes, nats: float, place: int, color: str) -> None:
    """A sign at the right end of the row `place` for a bound of +inf, which no axis reaches."""
    if nats == np.inf:
        axes.text(1.0, place, "∞ ", transform=axes.get_yaxis_transform(), ha="right", va="center", color=color)


@style()
def plot_relu_bounds(table: DataFrame) -> Figure:
    """Left: exact I(h;x) of one ReLU unit beside the valid bound and training's ½ log(1+α). Right: ψ⁺ and the zeros.

    Args:
        table: columns threshold, exact, valid, plain, psi (nats) and zero_share.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.0))
    left.plot(table["threshold"], table["valid"], color=COLORS["red"], label="valid bound (P2 with zeros)")
    left.plot(table["threshold"], table["exact"], color=COLORS["blue"], lw=2.4, label="exact I(h;x)")
    left.plot(table["threshold"], table["plain"], color=COLORS["black"], ls=":", label="½ log(1+α), in training")
    left.set_ylabel("information (nats)")
    right.plot(table["threshold"], table["psi"], color=COLORS["green"], label="ψ⁺ (nats)")
    right.plot(table["threshold"], table["zero_share"], color=COLORS["purple"], ls="--", label="share of zeros 1 − π")
    right.set_ylabel("ψ⁺ (nats), share (no unit)")
    for axes in (left, right):
        axes.set_xlabel("threshold b of f = max(x − b, 0)")
        axes.set_ylim(bottom=0)
        axes.legend()
    return figure


@style()
def relu_zeros(table: DataFrame, net: str = "") -> Figure:
    """Share of inputs on which a unit is exactly 0, and ψ⁺ against it, one colour per layer.

    Args:
        table: one row per kept unit: layer, zero_share (a fraction), psi (nats).
        net: its name, for the title.

    Raises:
        InvalidInputError: a column is missing, or no row.
    """
    needs(table, ("layer", "zero_share", "psi"), "run benchmarks/relu_zeros.py")
    parts = table.groupby("layer", sort=table["layer"].nunique() <= 6)
    many = parts.ngroups > 6  # than the style has colours
    columns = max(1, 100 // (16 + max(len(str(layer)) for layer in table["layer"])))  # of a legend 7 inches wide
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.9 + many * 0.22 * parts.ngroups / columns))
    bins = [k / 25 for k in range(26)]
    for place, (layer, part) in enumerate(parts):
        color = plt.get_cmap("viridis")(place / parts.ngroups) if many else None
        share, look = 100 * part["zero_share"], {"alpha": 0.6, "color": color}
        left.hist(share, bins=[100 * edge for edge in bins], label=f"layer {layer}", **look)
        right.plot(share, part["psi"], ls="", marker=".", ms=4, label=str(layer), **look)
    left.set(xlabel="inputs on which the unit is 0 [%]", ylabel="kept units", xlim=(0, 100))
    right.set(xlabel="inputs on which the unit is 0 [%]", ylabel="ψ⁺ [nats]", xlim=(0, 100), ylim=(0, None))
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=columns
    ) if many else left.legend()
    if net:
        figure.suptitle(net, fontsize=10)
    return figure


_LOOKS = {
    "infonce": ("InfoNCE (lower)", "blue", "-"),
    "pairwise_bhattacharyya": ("Bhattacharyya (lower)", "sky", "--"),
    "leave_one_out": ("leave-one-out (upper)", "red", "-"),
    "pairwise": ("pairwise KL (upper)", "orange", "--"),
    "gaussian_tight": ("Gaussian, tight (upper)", "green", "-."),
    "per_unit": ("Σ units (upper)", "purple", ":"),
}


@style()
def plot_sandwich(table: DataFrame, samples: int) -> Figure:
    """Estimates in nats over the number of units, one line per method.

    Args:
        table: columns units, method, nats.
        samples: N, whose logarithm caps every estimate from N points.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for method, rows in table.groupby("method", sort=False):
        label, color, dash = _LOOKS.get(str(method), (str(method), "grey", "-"))
        axes.loglog(rows["units"], rows["nats"], color=COLORS[color], ls=dash, marker=".", label=label)
    axes.axhline(np.log(samples), color=COLORS["black"], lw=1.2, label=f"log N, N = {samples}")
    axes.set(xlabel="number of units", ylabel="I(h + τn; x) (nats)")
    figure.legend(loc="outside lower center", ncols=3)  # log N, or what lies near it, runs through the whole top
    return figure
