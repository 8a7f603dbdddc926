"""Figures of a sparsity check: the spectrum of G with its thresholds, α* on a log axis, and the counts side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vibtheory.theory.network_report import NetworkReport
    from vibtheory.theory.sparsity_report import SparsityReport

__all__ = ["plot_network", "plot_sparsity"]


def plot_sparsity(report: SparsityReport) -> Figure:
    """Three panels for one layer (docs/theory.md T2, T3).

    Args:
        report: from `check_sparsity_bound`.
    """
    with style():
        figure, axes = plt.subplots(1, 3, figsize=(9, 2.9), gridspec_kw={"width_ratios": [1.25, 1, 1]})
        _row(axes, report, report.layer or "bound")
    return figure


def plot_network(report: NetworkReport) -> Figure:
    """One row of panels per layer.

    Args:
        report: from `check_network`.
    """
    with style():
        figure, axes = plt.subplots(len(report), 3, figsize=(9, 2.7 * len(report)), squeeze=False,
                                    gridspec_kw={"width_ratios": [1.25, 1, 1]})  # fmt: skip
        for row, name, layer in zip(axes, report.layers, report, strict=True):
            _row(row, layer, name)
    return figure


def _row(axes: np.ndarray, report: SparsityReport, name: str) -> None:
    _spectrum(axes[0], report)
    _snr(axes[1], report)
    _counts(axes[2], report)
    axes[0].set_title(f"{name}: {report.verdict} ({report.guarantee.kind}, {report.guarantee.level})", loc="left")
    axes[1].set_title(f"{report.nonzeros} of {report.d} gates survive", loc="left")
    axes[2].set_title("rank bound vacuous" if report.vacuous else "bounds on the survivors", loc="left")


def _spectrum(axes: Axes, report: SparsityReport) -> None:
    place = np.arange(1, report.spectrum.size + 1)
    floor = (report.rank_report.resolution / 100) ** 2 if report.rank_report.resolution > 0 else 1e-30
    axes.semilogy(place, np.maximum(report.spectrum, floor), ".", ms=4, color=COLORS["blue"], label="λ(G)")
    soft = report.soft_rank_report.threshold
    axes.axhline(soft, color=COLORS["red"], lw=1.2, label=f"1/(2+α_max): soft rank {report.soft_rank}")
    if report.rank_report.tolerance > 0:
        axes.axhline(report.rank_report.tolerance**2, color=COLORS["black"], lw=1.2, ls="--",
                     label=f"rank tolerance²: rank {report.rank}")  # fmt: skip
    axes.set(xlabel="eigenvalue number", ylabel="eigenvalue of G")
    axes.legend(loc="best")


def _snr(axes: Axes, report: SparsityReport) -> None:
    alpha = report.minimum.alpha[report.minimum.alpha > 0]
    axes.set(xlabel="α* of survivors (log axis)", ylabel="gates")
    if alpha.size == 0:
        axes.text(0.5, 0.5, "no gate survives", ha="center", va="center", transform=axes.transAxes)
        return
    low, high = np.log10(alpha.min()), np.log10(alpha.max())
    pad = max(0.1, 0.05 * (high - low))
    axes.hist(alpha, bins=np.logspace(low - pad, high + pad, 25).tolist(), color=COLORS["blue"])
    axes.set_xscale("log")
    axes.axvline(1.0, color=COLORS["grey"], lw=1, ls=":")


def _counts(axes: Axes, report: SparsityReport) -> None:
    bars = [
        ("survivors ‖α*‖₀", report.nonzeros, COLORS["blue"]),
        ("sharp soft rank", report.soft_rank_sharp, COLORS["red"]),
        ("soft rank", report.soft_rank, COLORS["red"]),
        ("rank[A]", report.rank, COLORS["grey"]),
        ("rank[A] + 1", report.rank_plus_one, COLORS["grey"]),
        ("gates d", report.d, COLORS["black"]),
    ]
    if report.trained_nonzeros is not None:
        bars.insert(0, ("trained ‖α‖₀ (not judged)", report.trained_nonzeros, COLORS["sky"]))
    places = np.arange(len(bars))[::-1]
    axes.barh(places, [b[1] for b in bars], color=[b[2] for b in bars], height=0.65)
    for place, (_, count, _color) in zip(places, bars, strict=True):
        axes.text(count, place, f" {count}", va="center", fontsize=8)
    axes.set_yticks(places, [b[0] for b in bars])
    axes.set_xlim(0, 1.2 * max(1, *(b[1] for b in bars)))
    axes.grid(axis="y", visible=False)
