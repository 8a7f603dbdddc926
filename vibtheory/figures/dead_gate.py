"""Figures of gates that say nothing or that nobody listens to (T4): path, and α against time or steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from vibtheory.errors import reject
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from vibtheory.studies.propositions import DeadUnitReport
    from vibtheory.theory.dead_gate import DeadGateFlow

__all__ = ["plot_dead_unit", "plot_dead_units", "plot_flow"]


def plot_flow(flow: DeadGateFlow) -> Figure:
    """The gate's path in the (μ, σ) plane at constant invariant, and α against flow time.

    Args:
        flow: from `dead_gate_flow`.
    """
    circle = flow.coordinates == "sigma"
    with style():
        figure, (plane, decay) = plt.subplots(1, 2, figsize=(6.6, 3.0))
        if circle:
            angle = np.linspace(0, np.pi / 2, 200)
            radius = np.sqrt(flow.invariant)
            plane.plot(
                radius * np.cos(angle), radius * np.sin(angle), color=COLORS["grey"], lw=1, label="μ² + σ² = const"
            )
            plane.set_aspect("equal")
        else:
            mu = np.linspace(0, np.abs(flow.mu).max(), 200)
            sigma = np.exp((flow.invariant - mu**2) / 8)
            plane.plot(mu, sigma, color=COLORS["grey"], lw=1, label="μ² + 4 log σ² = const")
        plane.plot(np.abs(flow.mu), flow.sigma, ".", ms=4, color=COLORS["blue"], label="the gate, equal times")
        plane.plot(np.abs(flow.mu[:1]), flow.sigma[:1], "o", ms=5, color=COLORS["green"], label="start")
        plane.set(xlabel="|μ|", ylabel="σ", title="what the flow conserves")
        plane.legend(loc="best")
        decay.semilogy(flow.time, np.maximum(flow.alpha, 1e-300), color=COLORS["blue"])
        decay.axhline(1, color=COLORS["red"], lw=1, ls="--", label="closed below α = 1")
        decay.set(xlabel="flow time", ylabel="α", title="Prop 2: α falls")
        decay.legend()
    return figure


def plot_dead_unit(report: DeadUnitReport) -> Figure:
    """α of a killed unit against training steps.

    Args:
        report: from `check_dead_unit`.
    """
    with style():
        figure, axes = plt.subplots(figsize=(4.0, 2.8))
        axes.semilogy(np.arange(len(report.alpha)), np.maximum(report.alpha, 1e-12), color=COLORS["blue"])
        axes.axhline(1, color=COLORS["red"], lw=1, ls="--", label="closed below α = 1")
        axes.set(xlabel="step on the gates", ylabel=f"α of {report.layer}[{report.unit}]")
        axes.set_title(f"Prop {report.proposition}: {report.verdict}")
        axes.legend()
    return figure


def plot_dead_units(table: pd.DataFrame) -> Figure:
    """α of one killed unit per layer against training steps on the gates, a panel per proposition.

    Args:
        table: columns layer, unit, proposition, step, alpha.

    Raises:
        InvalidInputError: a column is missing, or no row.
    """
    missing = {"layer", "unit", "proposition", "step", "alpha"} - set(table)
    if missing or table.empty:
        got = f"no column {', '.join(sorted(missing))}" if missing else "0 rows"
        expected = "rows with layer, unit, proposition, step, alpha"
        reject("table", got, expected, "pass what benchmarks/network_theory.py writes")
    words = {1: "Prop 1: the unit says nothing", 2: "Prop 2: nobody listens"}
    colors = dict(zip(dict.fromkeys(table["layer"]), ("blue", "red", "green", "purple"), strict=False))
    with style():
        figure, panels = plt.subplots(1, 2, figsize=(7.0, 2.9), sharey=True)
        for axes, (proposition, title) in zip(panels, words.items(), strict=True):
            part = table[table["proposition"] == proposition]
            for (layer, unit), line in part.groupby(["layer", "unit"], sort=False):
                color = COLORS[colors[layer]]
                axes.semilogy(line["step"], line["alpha"].clip(lower=1e-12), color=color, label=f"{layer}, unit {unit}")
            axes.axhline(1, color=COLORS["grey"], lw=1, ls="--", label="closed below α = 1")
            axes.set(xlabel="step on the gates", title=title)
            axes.legend()
        panels[0].set_ylabel("α of the killed unit")
    return figure
