"""Figures of the sparsity bounds (docs/theory.md T2, T3, T5), for one ḡ or for all kinds.

Spectrum of G with thresholds, α*, counts side by side; and the paper's sketch with real numbers, ḡ above g along an
active and along a redundant gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, reject
from vibtheory.figures.style import COLORS, facets, needs, style, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from vibtheory.studies.bound_table import BoundTable
    from vibtheory.theory.network_report import NetworkReport
    from vibtheory.theory.quadratic import QuadraticBound
    from vibtheory.theory.sparsity import SparsityReport

__all__ = ["plot_bound_counts", "plot_bound_sections", "plot_bound_table", "plot_network", "plot_sparsity", "sections"]

Array = NDArray[np.float64]


_COLOR = {"exact": "black", "bohning": "blue", "lipschitz": "red", "fitted": "green", "tangent": "purple"}


@style()
def plot_sparsity(report: SparsityReport) -> Figure:
    """Three panels for one layer (docs/theory.md T2, T3).

    Args:
        report: from `check_sparsity_bound`.
    """
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.9), width_ratios=[1.25, 1, 1])
    _row(axes, report, report.layer or "bound")
    return figure


@style()
def plot_network(report: NetworkReport) -> Figure:
    """One row of panels per layer.

    Args:
        report: from `check_network`.
    """
    figure, axes = plt.subplots(len(report), 3, figsize=(9, 2.7 * len(report)), squeeze=False,
                                width_ratios=[1.25, 1, 1])  # fmt: skip
    for row, name, layer in zip(axes, report.layers, report, strict=True):
        _row(row, layer, name)
    return figure


def _row(axes: np.ndarray, report: SparsityReport, name: str) -> None:
    place = np.arange(1, report.spectrum.size + 1)
    floor = (report.rank_report.resolution / 100) ** 2 if report.rank_report.resolution > 0 else 1e-30
    axes[0].semilogy(place, np.maximum(report.spectrum, floor), ".", ms=4, color=COLORS["blue"], label="λ(G)")
    soft = report.soft_rank_report.threshold
    axes[0].axhline(soft, color=COLORS["red"], lw=1.2, label=f"1/(2+α_max): soft rank {report.soft_rank}")
    if report.rank_report.tolerance > 0:
        axes[0].axhline(report.rank_report.tolerance**2, color=COLORS["black"], lw=1.2, ls="--",
                        label=f"rank tolerance²: rank {report.rank}")  # fmt: skip
    axes[0].set(xlabel="eigenvalue number", ylabel="eigenvalue of G")
    axes[0].legend(loc="best")
    axes[0].set_title(f"{name}: {report.verdict} ({report.guarantee.kind}, {report.guarantee.level})", loc="left")
    alpha = _survivors(axes[1], [report], " (log axis)")[0]
    if alpha.size:
        low, high = np.log10(alpha.min()), np.log10(alpha.max())
        pad = max(0.1, 0.05 * (high - low))
        axes[1].hist(alpha, bins=np.logspace(low - pad, high + pad, 25).tolist(), color=COLORS["blue"])
    axes[1].set_title(f"{report.nonzeros} of {report.d} gates survive", loc="left")
    _counts(axes[2], report)
    axes[2].set_title("rank bound vacuous" if report.vacuous else "bounds on the survivors", loc="left")


def _survivors(axes: Axes, reports: Sequence[SparsityReport], scale: str = "") -> list[Array]:
    """α* of each report's survivors, on a logarithmic axis with α* = 1 marked, or the words that there are none."""
    found = [report.minimum.alpha[report.minimum.alpha > 0] for report in reports]
    axes.set(xlabel=f"α* of survivors{scale}", ylabel="gates")
    if any(alpha.size for alpha in found):
        axes.set_xscale("log")
        axes.axvline(1.0, color=COLORS["grey"], lw=1, ls=":")
    else:
        axes.text(0.5, 0.5, "no gate survives", ha="center", va="center", transform=axes.transAxes)
    return found


def _counts(axes: Axes, report: SparsityReport) -> None:
    bars = [
        ("survivors ‖α*‖₀", report.nonzeros, "blue"), ("sharp soft rank", report.soft_rank_sharp, "red"),
        ("soft rank", report.soft_rank, "red"), ("rank[A]", report.rank, "grey"),
        ("rank[A] + 1", report.rank_plus_one, "grey"),
        ("T9, a priori", report.a_priori.limit, "orange"), ("gates d", report.d, "black"),
    ]  # fmt: skip
    if report.trained_nonzeros is not None:
        bars.insert(0, ("trained ‖α‖₀ (not judged)", report.trained_nonzeros, "sky"))
    names, counts, colors = zip(*bars, strict=True)
    places = np.arange(len(bars))[::-1]
    axes.barh(places, counts, color=[COLORS[color] for color in colors], height=0.65)
    for place, count in zip(places, counts, strict=True):
        axes.text(count, place, f" {count}", va="center", fontsize=8)
    axes.set_yticks(places, names)
    axes.set_xlim(0, 1.2 * max(1, *counts))
    axes.grid(axis="y", visible=False)


@style()
def plot_bound_table(table: BoundTable) -> Figure:
    """All kinds of ḡ on all gated layers: one row of three panels per layer, one colour per kind.

    Args:
        table: from `compare_bounds`.

    Raises:
        InvalidInputError: no row has a bound.
    """
    shown: dict[str, dict[str, SparsityReport]] = {}
    for row in table:
        if row.report is not None:
            shown.setdefault(row.layer, {})[row.kind] = row.report
    if not shown:
        reject("table", "no bound in any row", "at least one", "see each row's reason")
    kinds = [kind for kind in _COLOR if any(kind in reports for reports in shown.values())]
    figure, axes = plt.subplots(len(shown), 3, figsize=(10.5, 0.6 + 2.7 * len(shown)), squeeze=False)
    for panels, (layer, reports) in zip(axes, shown.items(), strict=True):
        _spectra(panels[0], layer, reports)
        _histograms(panels[1], reports)
        _side_by_side(panels[2], reports)
    grey = COLORS["grey"]
    meaning = [
        *(Patch(color=COLORS[_COLOR[kind]], label=kind) for kind in kinds),
        Line2D([], [], color=grey, lw=1, label=r"$1/(2+\alpha_{\max})$"),
        Line2D([], [], color=grey, lw=1, ls=":", label="α* = 1"),
        Line2D([], [], color=COLORS["black"], lw=1, label="gates d"),
        Line2D([], [], color=COLORS["sky"], lw=1.4, label="open in the trained net (not judged)"),
    ]
    figure.legend(handles=meaning, loc="outside upper center", ncols=len(meaning), columnspacing=1.4)
    return figure


def _spectra(axes: Axes, layer: str, reports: dict[str, SparsityReport]) -> None:
    for kind, report in reports.items():
        color, place = COLORS[_COLOR[kind]], np.arange(1, report.spectrum.size + 1)
        axes.loglog(place, report.spectrum, ".", ms=3, color=color)
        axes.axhline(report.soft_rank_report.threshold, color=color, lw=1)
    shown = [report.spectrum[report.spectrum > report.rank_report.tolerance**2] for report in reports.values()]
    lowest = min(
        [report.soft_rank_report.threshold for report in reports.values()] + [v.min() for v in shown if v.size]
    )
    axes.set(xlabel="eigenvalue number", ylabel="eigenvalue of G", ylim=(lowest / 10, None))
    axes.set_title(f"{layer}: spectrum of unit columns", loc="left")


def _histograms(axes: Axes, reports: dict[str, SparsityReport]) -> None:
    found = _survivors(axes, list(reports.values()))
    axes.set_title("survivors' α*", loc="left")
    every = np.concatenate(found)
    if every.size == 0:
        return
    low, high = np.log10(every.min()) - 0.1, np.log10(every.max()) + 0.1
    for kind, alpha in zip(reports, found, strict=True):
        if alpha.size:
            counts, edges = np.histogram(alpha, np.logspace(low, high, 25))
            axes.stairs(np.where(counts > 0, counts, np.nan), edges, lw=1.4, color=COLORS[_COLOR[kind]])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _side_by_side(axes: Axes, reports: dict[str, SparsityReport]) -> None:
    first = next(iter(reports.values()))
    names = ("survivors ‖α*‖₀", "sharp soft rank", "soft rank", "rank[A]", "T9, a priori")
    places = np.arange(len(names))[::-1]
    height = 0.8 / len(reports)
    axes.axvline(first.d, color=COLORS["black"], lw=1, zorder=0.5)
    title = f"{first.d} gates"
    if first.trained_nonzeros is not None:
        axes.axvline(first.trained_nonzeros, color=COLORS["sky"], lw=1.4, zorder=0.5)
        title += f", {first.trained_nonzeros} open in the trained net"
    for i, (kind, report) in enumerate(reports.items()):
        counts = (report.nonzeros, report.soft_rank_sharp, report.soft_rank, report.rank, report.a_priori.limit)
        beside = places + 0.4 - (i + 0.5) * height
        axes.barh(beside, counts, height=0.92 * height, color=COLORS[_COLOR[kind]])
        for place, count in zip(beside, counts, strict=True):
            axes.annotate(
                str(count), (count, place), (3, 0), textcoords="offset points", va="center", fontsize=6.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
    axes.set_yticks(places, names)
    axes.set_xlim(0, 1.12 * max(report.d for report in reports.values()))
    axes.set_title(title, loc="left")
    axes.grid(axis="y", visible=False)


def sections(
    bound: QuadraticBound, loss: Callable[[Array], Array], origin: ArrayLike, gates: Mapping[str, int | ArrayLike],
    width: float = 2.0,
) -> DataFrame:  # fmt: skip
    """g and ḡ where one gate's z_j moves and the others stay at `origin`, or all move along one direction.

    Args:
        bound: ḡ with d gates.
        loss: z [S, d] → g(z) [S] in nats.
        origin: z⁰ [d].
        gates: by the name of its panel, the index of the gate to move, or a direction [d].
        width: z_j runs over origin_j ± width; along a direction the step does, over ± width.

    Returns:
        Columns direction, z (z_j, or the step), loss, bound (nats).

    Raises:
        InvalidInputError: origin of the wrong shape, no gate, or an index outside the bound.
    """
    centre = as_array("origin", origin, (bound.d,))
    if not gates or not all(0 <= j < bound.d for j in gates.values() if isinstance(j, int)):
        reject("gates", gates, f"indices in 0 … {bound.d - 1}", "name at least one gate of the bound")
    steps = np.linspace(-width, width, 41)
    tables = []
    for name, along in gates.items():
        direction = np.eye(bound.d)[along] if isinstance(along, int) else as_array("gates", along, (bound.d,))
        points = centre + steps[:, None] * direction
        z = points[:, along] if isinstance(along, int) else steps
        tables.append(pd.DataFrame({"direction": name, "z": z, "loss": loss(points), "bound": bound.value(points)}))
    return pd.concat(tables, ignore_index=True)


@style()
def plot_bound_sections(table: DataFrame) -> Figure:
    """One panel per direction: the loss g and its quadratic bound ḡ over z_j, in nats, on a common scale.

    Args:
        table: from `sections`.
    """
    figure, panels = facets(table, "direction", figsize=(4, 2.9), sharey=True)
    for axes, name, rows in panels:
        axes.plot(rows["z"], rows["loss"], color=COLORS["sky"], lw=3.2, label="g, the network's mean loss")
        axes.plot(rows["z"], rows["bound"], color=COLORS["red"], lw=1.4, label="ḡ, the bound")
        axes.set(xlabel="z_j, or the step along the direction", title=name)
        axes.set_ylim(bottom=0)
    panels[0][0].set_ylabel("nats per example")
    panels[0][0].legend(loc="upper center")
    return figure


@style()
def plot_bound_counts(table: DataFrame) -> Figure:
    """Per layer: gates, rank, both soft ranks, T9's limit, certified survivors and the trained network's open gates.

    Args:
        table: columns layer, d, rank, soft_rank, soft_rank_sharp, nonzeros, trained_nonzeros, and a_priori if there.

    Raises:
        InvalidInputError: no row, or no column layer or d.
    """
    needs(table, ("layer", "d"), "pass a row per gated layer")
    bars = [
        ("d", "gates d", "black"),
        ("rank", "rank[A]", "grey"),
        ("soft_rank", "soft rank", "orange"),
        ("soft_rank_sharp", "sharp soft rank", "red"),
        ("a_priori", "T9, a priori", "purple"),
        ("nonzeros", "survivors ‖α*‖₀ of ḡ's minimum", "blue"),
        ("trained_nonzeros", "open in the trained net (not judged)", "sky"),
    ]
    bars = [bar for bar in bars if bar[0] in table]
    parts = [table[start : start + 4] for start in range(0, len(table), 4)]
    figure, panels = plt.subplots(len(parts), 1, figsize=(7.4, 0.8 + 2.6 * len(parts)), sharey=True, squeeze=False)
    for axes, part in zip(panels[:, 0], parts, strict=True):
        place = np.arange(len(part))
        for index, (column, label, color) in enumerate(bars):
            at = place + (index - (len(bars) - 1) / 2) * 0.125
            axes.bar(at, part[column], width=0.115, color=COLORS[color], label=label)
            for x, count in zip(at, part[column], strict=True):
                axes.text(x, count, f"{count:.0f}", ha="center", va="bottom", fontsize=7)
        axes.set_xticks(place, [wrapped(name, 24) for name in part["layer"]])
        axes.set(ylabel="number of gates", xlim=(-0.5, min(4, len(table)) - 0.5))
        axes.grid(axis="x", visible=False)
    axes.set_xlabel("gated layer")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
