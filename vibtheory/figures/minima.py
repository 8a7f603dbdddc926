"""Figures of minima (docs/theory.md T4, T7): over γ, down to one, what one costs, how many gates stay open, and which.

And of gates that say nothing or that nobody listens to: path, and α against time or steps.
"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from vibtheory.figures.style import COLORS, facets, needs, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from vibtheory.studies.propositions import DeadUnitReport
    from vibtheory.theory.dead_gate import DeadGateFlow
    from vibtheory.theory.path import SparsityPath
    from vibtheory.theory.real_loss import RealLossMinimum
    from vibtheory.theory.redundancy import CollinearityReport

__all__ = [
    "plot_budget", "plot_collinearity", "plot_dead_unit", "plot_dead_units", "plot_descent", "plot_flow", "plot_path",
    "plot_solver_cost",
]  # fmt: skip

_CYCLE = ("blue", "red", "green", "purple", "orange", "sky")


@style()
def plot_path(path: SparsityPath) -> Figure:
    """Signal share u = α/(1+α) of every gate, and survivors, over γ (docs/theory.md T7).

    Args:
        path: from `sparsity_path`.
    """
    figure, (shares, counts) = plt.subplots(2, 1, figsize=(5.2, 4.4), sharex=True, height_ratios=[2, 1])
    share, gammas = path.alpha / (1 + path.alpha), path.gammas
    ever = np.flatnonzero(share.max(axis=0) > 0)  # the others would cover each other at 0
    ever = ever[np.argsort((share[:, ever] > 0).sum(axis=0))] if ever.size else np.array([0])
    shades = plt.get_cmap("viridis_r")(np.linspace(0.05, 1, ever.size))  # the longer open, the darker
    jumps = [event.gamma for event in path.events if event.kind == "jumps"]
    pieces = (gammas[:, None] <= np.array(jumps)).sum(axis=1)  # a line would claim what lies between
    for piece in sorted(set(pieces)):
        at = pieces == piece
        for j, shade in zip(ever, shades, strict=True):
            shares.semilogx(gammas[at], share[at, j], ".-" if at.sum() == 1 else "-", lw=1.2, ms=2, color=shade)
    for jump in jumps:
        shares.axvline(jump, color=COLORS["purple"], lw=0.8, ls=":")
    shares.set(ylabel="signal share u = α/(1+α)", ylim=(-0.02, 1.04))
    counts.step(gammas, path.nonzeros, marker="o" if gammas.size == 1 else None, where="mid", color=COLORS["black"],
                lw=1.2)  # fmt: skip
    for kind, marker, color in (("opens", "^", "green"), ("closes", "v", "red"), ("jumps", "D", "purple")):
        at = np.array([e.gamma for e in path.events if e.kind == kind])
        if at.size:
            counts.plot(at, np.zeros(at.size), marker, color=COLORS[color], ms=4, clip_on=False,
                        label=f"{at.size} × {kind}")  # fmt: skip
    if path.events:
        counts.legend(loc="best", ncols=3)
    counts.set(xlabel="price γ of log(1+α) (nats)", ylabel="survivors ‖α*‖₀")
    counts.set_ylim(bottom=0)
    counts.yaxis.set_major_locator(MaxNLocator(integer=True))
    shares.set_title(
        f"{path.nonzeros[0]} to {path.nonzeros[-1]} of {share.shape[1]} gates open; {path.status}", loc="left"
    )
    return figure


@style()
def plot_descent(minimum: RealLossMinimum, of: str = "") -> Figure:
    """J − J_end in nats after each step, by kind of step, on a log axis that ends at 1e-10 of J: below is rounding.

    Args:
        minimum: from `minimise_real_loss`.
        of: net and layer, for the title.
    """
    above = np.array(minimum.history) - minimum.history[-1]
    floor = 1e-10 * abs(minimum.value)
    height = np.maximum(above, floor)
    kinds = np.array(("start", *minimum.steps))
    looks = (("start", "start", "black"), ("mm", "majorise–minimise", "blue"),
             ("newton", "Newton on the support", "orange"), ("escape", "negative curvature", "red"))  # fmt: skip
    figure, axes = plt.subplots(figsize=(4.4, 3.0))
    axes.semilogy(height, color=COLORS["grey"], lw=1, zorder=1)
    for kind, label, color in looks:
        at = np.flatnonzero(kinds == kind)
        if at.size:
            axes.scatter(at, height[at], s=16, color=COLORS[color], label=label, zorder=2, clip_on=False)
    axes.set(xlabel="step", ylabel="J above its final value (nats)", ylim=(floor, None))
    words = f"J falls to {minimum.value:.4g} nats; {minimum.nonzeros} of {minimum.mu.size} gates open"
    axes.set_title(f"{of}\n{words}" if of else words)
    axes.legend()
    return figure


@style()
def plot_collinearity(report: CollinearityReport) -> Figure:
    """cos² of each pair of survivors against its limit (docs/theory.md T4a): points must stay right of the diagonal.

    Args:
        report: from `check_collinearity`.
    """
    figure, axes = plt.subplots(figsize=(3.6, 3.2))
    axes.fill_between([0, 1], [0, 1], [1, 1], color=COLORS["red"], alpha=0.12, label="forbidden by T4a")
    axes.plot([0, 1], [0, 1], color=COLORS["red"], lw=1)
    axes.scatter(report.limits, report.squared_cosines, s=10, color=COLORS["blue"], label="pairs of survivors")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="limit from the two SNRs")
    axes.set_ylabel("cos² of the angle between columns")
    axes.set_title(f"T4a {report.verdict}: {report.support.size} survivors, least slack {report.slack:.2g}")
    axes.legend(loc="upper left")
    return figure


@style()
def plot_budget(table: DataFrame) -> Figure:
    """One panel per layer: what T7 and T9 allow, the gates of a certified minimum, rank[A], over γ / trained γ.

    Args:
        table: columns layer, kind, d, factor (γ over the trained γ), budget and survivors (α ≥ 1), a_priori and open
            (α > 0), rank; one row per layer and γ.

    Raises:
        InvalidInputError: a column is missing, or no row.
    """
    columns = ("layer", "kind", "d", "factor", "budget", "survivors", "a_priori", "open", "rank")
    needs(table, columns, "make it with benchmarks/network_theory.py")
    figure, panels = facets(table.sort_values("factor", kind="stable"), "layer", figsize=(3.2, 3.0))
    for axis, layer, rows in panels:
        axis.plot(rows["factor"], rows["budget"], color=COLORS["red"], label="T7: most gates with α ≥ 1")
        axis.plot(rows["factor"], rows["survivors"], "o-", ms=4, color=COLORS["blue"],
                  label="α* ≥ 1 at a certified minimum")  # fmt: skip
        axis.plot(rows["factor"], rows["a_priori"], color=COLORS["orange"], label="T9: most gates with α > 0")
        axis.plot(rows["factor"], rows["open"], "s:", ms=3, color=COLORS["sky"], label="‖α*‖₀ there")
        axis.plot(rows["factor"], rows["rank"], color=COLORS["grey"], ls="--", label="rank[A]")
        axis.axvline(1.0, color=COLORS["black"], lw=0.8, ls=":")
        axis.set(xscale="log", yscale="symlog", xlabel="γ / trained γ", ylim=(0, 2.2 * rows["d"].max()))
        axis.set_title(f"{layer} (d = {rows['d'].iloc[0]}, {rows['kind'].iloc[0]})", loc="left")
    panels[0][0].set_ylabel("gates")
    panels[0][0].legend(loc="lower left")
    return figure


@style()
def plot_solver_cost(table: DataFrame) -> Figure:
    """CPU seconds of the fast solver and of the cvxpy loop over d (rank 100), and of the fast one over the rank.

    Args:
        table: one row per instance with columns d, rank, gamma, fast_s, cvxpy_s (NaN where not run), as
            `benchmarks/solvers.py` writes it.

    Raises:
        InvalidInputError: a column is missing, or no row.
    """
    needs(table, ("d", "rank", "gamma", "fast_s", "cvxpy_s"), "pass benchmarks/results/solvers.csv")
    colors = [COLORS[name] for name in _CYCLE]
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 2.9), sharey=True)
    by_size = table[table["rank"] == 100].drop_duplicates(["d", "gamma"])
    for color, (gamma, part) in zip(cycle(colors), by_size.groupby("gamma"), strict=False):
        part = part.sort_values("d")
        axes[0].loglog(part["d"], part["fast_s"], "o-", color=color, label=f"fast, γ = {gamma:g}")
        both = part.dropna(subset=["cvxpy_s"])
        axes[0].loglog(both["d"], both["cvxpy_s"], "s--", color=color, label=f"cvxpy loop, γ = {gamma:g}")
    axes[0].set(xlabel="gates d (rank 100)", ylabel="CPU seconds to a certified minimum")
    several = table[table["gamma"] == 0.1].groupby("d").filter(lambda part: part["rank"].nunique() > 1)
    for color, (size, part) in zip(cycle(colors), several.groupby("d"), strict=False):
        part = part.sort_values("rank")
        axes[1].loglog(part["rank"], part["fast_s"], "o-", color=color, label=f"fast, d = {size:g}, γ = 0.1")
    axes[1].set(xlabel="rank of A")
    for axis, ticks in ((axes[0], by_size["d"]), (axes[1], several["rank"])):
        every = np.unique(ticks)
        places = every[np.append(True, every[1:] > 1.4 * every[:-1])[: every.size]]  # closer ones would be unreadable
        axis.set_xticks(places, [f"{place:g}" for place in places])
        axis.minorticks_off()
    axes[0].legend(loc="center right", bbox_to_anchor=(1.0, 0.62))
    axes[1].legend(loc="upper left")
    return figure


@style()
def plot_flow(flow: DeadGateFlow) -> Figure:
    """The gate's path in the (μ, σ) plane at constant invariant, and α against flow time.

    Args:
        flow: from `dead_gate_flow`.
    """
    figure, (plane, decay) = plt.subplots(1, 2, figsize=(6.6, 3.0))
    if flow.coordinates == "sigma":
        angle = np.linspace(0, np.pi / 2, 200)
        radius = np.sqrt(flow.invariant)
        mu, sigma, conserved = radius * np.cos(angle), radius * np.sin(angle), "μ² + σ² = const"
        plane.set_aspect("equal")
    else:
        mu = np.linspace(0, np.abs(flow.mu).max(), 200)
        sigma, conserved = np.exp((flow.invariant - mu**2) / 8), "μ² + 4 log σ² = const"
    plane.plot(mu, sigma, color=COLORS["grey"], lw=1, label=conserved)
    plane.plot(np.abs(flow.mu), flow.sigma, ".", ms=4, color=COLORS["blue"], label="the gate, equal times")
    plane.plot(np.abs(flow.mu[:1]), flow.sigma[:1], "o", ms=5, color=COLORS["green"], label="start")
    plane.set(xlabel="|μ|", ylabel="σ", title="what the flow conserves")
    plane.legend(loc="best")
    decay.semilogy(flow.time, np.maximum(flow.alpha, 1e-300), color=COLORS["blue"])
    decay.set(xlabel="flow time", ylabel="α", title="Prop 2: α falls")
    _closed_below(decay)
    return figure


@style()
def plot_dead_unit(report: DeadUnitReport) -> Figure:
    """α of a killed unit against training steps.

    Args:
        report: from `check_dead_unit`.
    """
    figure, axes = plt.subplots(figsize=(4.0, 2.8))
    axes.semilogy(np.arange(len(report.alpha)), np.maximum(report.alpha, 1e-12), color=COLORS["blue"])
    axes.set(xlabel="step on the gates", ylabel=f"α of {report.layer}[{report.unit}]")
    axes.set_title(f"Prop {report.proposition}: {report.verdict}")
    _closed_below(axes)
    return figure


@style()
def plot_dead_units(table: DataFrame, net: str = "") -> Figure:
    """α of one killed unit per layer against training steps on the gates, a panel per proposition.

    Args:
        table: columns layer, unit, proposition, step, alpha.
        net: its name, for the title.

    Raises:
        InvalidInputError: a column is missing, or no row.
    """
    needs(table, ("layer", "unit", "proposition", "step", "alpha"), "pass what benchmarks/network_theory.py writes")
    words = {1: "Prop 1: the unit says nothing", 2: "Prop 2: nobody listens"}
    colors = dict(zip(dict.fromkeys(table["layer"]), cycle(_CYCLE), strict=False))
    figure, panels = plt.subplots(1, 2, figsize=(7.0, 2.9), sharey=True)
    for axes, (proposition, title) in zip(panels, words.items(), strict=True):
        part = table[table["proposition"] == proposition]
        for (layer, unit), line in part.groupby(["layer", "unit"], sort=False):
            color = COLORS[colors[layer]]
            axes.semilogy(
                line["step"], line["alpha"].clip(lower=1e-12), color=color, label=f"layer {layer}, unit {unit}"
            )
        axes.set(xlabel="step on the gates", title=title)
        _closed_below(axes, "grey")
    panels[0].set_ylabel("α of the killed unit")
    if net:
        figure.suptitle(net, fontsize=10)
    return figure


def _closed_below(axes: Axes, color: str = "red") -> None:
    axes.axhline(1, color=COLORS[color], lw=1, ls="--", label="closed below α = 1")
    axes.legend()
