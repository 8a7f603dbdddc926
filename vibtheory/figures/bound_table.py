"""Figure of all kinds of ḡ on all gated layers: spectra with thresholds, α*, survivors beside their bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from vibtheory.errors import reject
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vibtheory.studies.bound_table import BoundTable
    from vibtheory.theory.sparsity_report import SparsityReport

__all__ = ["plot_bound_table"]

_COLOR = {"exact": "black", "bohning": "blue", "lipschitz": "red", "fitted": "green", "tangent": "purple"}
_FLOOR = 1e-16  # zeros on the logarithmic axis of the spectra
_COUNTS = ("survivors ‖α*‖₀", "sharp soft rank", "soft rank", "rank[A]")


def plot_bound_table(table: BoundTable) -> Figure:
    """One row of three panels per layer; one colour per kind.

    Args:
        table: from `compare_bounds`.

    Raises:
        InvalidInputError: no row has a bound.
    """
    shown = {layer: [row for row in table if row.layer == layer and row.report is not None] for layer in table.layers}
    shown = {layer: rows for layer, rows in shown.items() if rows}
    if not shown:
        reject("table", "no bound in any row", "at least one", "see each row's reason")
    kinds = [kind for kind in _COLOR if any(row.kind == kind for rows in shown.values() for row in rows)]
    with style():
        figure, axes = plt.subplots(len(shown), 3, figsize=(10.5, 0.6 + 2.7 * len(shown)), squeeze=False)
        for panels, (layer, rows) in zip(axes, shown.items(), strict=True):
            reports = {row.kind: row.report for row in rows if row.report is not None}
            _spectra(panels[0], layer, reports)
            _snr(panels[1], reports)
            _counts(panels[2], reports)
        figure.legend(handles=_key(kinds), loc="outside upper center", ncols=len(kinds) + 5, columnspacing=1.4)
    return figure


def _key(kinds: list[str]) -> list[Patch | Line2D]:
    """What colours and lines mean in every panel."""
    grey = COLORS["grey"]
    return [
        *(Patch(color=COLORS[_COLOR[kind]], label=kind) for kind in kinds),
        Line2D([], [], color=grey, lw=1, label=r"$1/(2+\alpha_{\max})$"),
        Line2D([], [], color=grey, lw=1, ls="--", label="rank tolerance²"),
        Line2D([], [], color=grey, lw=1, ls=":", label="α* = 1"),
        Line2D([], [], color=COLORS["black"], lw=1, label="gates d"),
        Line2D([], [], color=COLORS["sky"], lw=1.4, label="open in the trained net (not judged)"),
    ]


def _spectra(axes: Axes, layer: str, reports: dict[str, SparsityReport]) -> None:
    for kind, report in reports.items():
        color, place = COLORS[_COLOR[kind]], np.arange(1, report.spectrum.size + 1)
        axes.loglog(place, np.maximum(report.spectrum, _FLOOR), ".", ms=3, color=color)
        axes.axhline(report.soft_rank_report.threshold, color=color, lw=1)
        if report.rank_report.tolerance > 0:
            axes.axhline(max(report.rank_report.tolerance**2, _FLOOR), color=color, lw=1, ls="--")
    axes.set(xlabel="eigenvalue number", ylabel="eigenvalue of G")
    axes.set_title(f"{layer}: spectrum of unit columns", loc="left")


def _snr(axes: Axes, reports: dict[str, SparsityReport]) -> None:
    found = {kind: report.minimum.alpha[report.minimum.alpha > 0] for kind, report in reports.items()}
    every = np.concatenate(list(found.values()))
    axes.set(xlabel="α* of survivors", ylabel="gates")
    axes.set_title("survivors' α*", loc="left")
    if every.size == 0:
        axes.text(0.5, 0.5, "no gate survives", ha="center", va="center", transform=axes.transAxes)
        return
    low, high = np.log10(every.min()) - 0.1, np.log10(every.max()) + 0.1
    for kind, alpha in found.items():
        if alpha.size:
            counts, edges = np.histogram(alpha, np.logspace(low, high, 25))
            axes.stairs(np.where(counts > 0, counts, np.nan), edges, lw=1.4, color=COLORS[_COLOR[kind]])
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.axvline(1.0, color=COLORS["grey"], lw=1, ls=":")


def _counts(axes: Axes, reports: dict[str, SparsityReport]) -> None:
    first = next(iter(reports.values()))
    places = np.arange(len(_COUNTS))[::-1]
    height = 0.8 / len(reports)
    axes.axvline(first.d, color=COLORS["black"], lw=1, zorder=0.5)
    title = f"{first.d} gates"
    if first.trained_nonzeros is not None:
        axes.axvline(first.trained_nonzeros, color=COLORS["sky"], lw=1.4, zorder=0.5)
        title += f", {first.trained_nonzeros} open in the trained net"
    for i, (kind, report) in enumerate(reports.items()):
        counts = (report.nonzeros, report.soft_rank_sharp, report.soft_rank, report.rank)
        beside = places + 0.4 - (i + 0.5) * height
        axes.barh(beside, counts, height=0.92 * height, color=COLORS[_COLOR[kind]])
        for place, count in zip(beside, counts, strict=True):
            axes.annotate(
                str(count), (count, place), (3, 0), textcoords="offset points", va="center", fontsize=6.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
    axes.set_yticks(places, _COUNTS)
    axes.set_xlim(0, 1.12 * max(report.d for report in reports.values()))
    axes.set_title(title, loc="left")
    axes.grid(axis="y", visible=False)
