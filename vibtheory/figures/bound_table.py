"""Figure of all kinds of ḡ on all gated layers: spectra with thresholds, α*, survivors beside their bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from vibtheory.errors import reject
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vibtheory.bound_table import BoundRow, BoundTable

__all__ = ["plot_bound_table"]

_COLOR = {"exact": "black", "bohning": "blue", "lipschitz": "red", "fitted": "green", "tangent": "purple"}


def plot_bound_table(table: BoundTable) -> Figure:
    """One row of three panels per layer; one colour per kind.

    Args:
        table: from `compare_bounds`.

    Raises:
        InvalidInputError: no row has a bound.
    """
    shown = {layer: [r for r in table if r.layer == layer and r.report is not None] for layer in table.layers}
    shown = {layer: rows for layer, rows in shown.items() if rows}
    if not shown:
        reject("table", "no bound in any row", "at least one", "see each row's reason")
    with style():
        figure, axes = plt.subplots(len(shown), 3, figsize=(10.5, 3.1 * len(shown)), squeeze=False)
        for panels, (layer, rows) in zip(axes, shown.items(), strict=True):
            _spectra(panels[0], layer, rows)
            _snr(panels[1], rows)
            _counts(panels[2], rows)
    return figure


def _spectra(axes: Axes, layer: str, rows: list[BoundRow]) -> None:
    for row in rows:
        report, color = row.report, COLORS[_COLOR[row.kind]]
        assert report is not None
        spectrum = report.spectrum
        axes.loglog(
            np.arange(1, spectrum.size + 1), np.maximum(spectrum, 1e-16), ".", ms=3, color=color, label=row.kind
        )
        axes.axhline(report.soft_rank_report.threshold, color=color, lw=1)
        if report.rank_report.tolerance > 0:
            axes.axhline(max(report.rank_report.tolerance**2, 1e-16), color=color, lw=1, ls="--")
    axes.plot([], [], color=COLORS["grey"], lw=1, label="1/(2+α_max)")
    axes.plot([], [], color=COLORS["grey"], lw=1, ls="--", label="rank tolerance²")
    axes.set(xlabel="eigenvalue number", ylabel="eigenvalue of G")
    axes.set_title(f"{layer}: spectrum of unit columns", loc="left")
    axes.legend(loc="lower left")


def _snr(axes: Axes, rows: list[BoundRow]) -> None:
    found = {row.kind: row.report.minimum.alpha for row in rows if row.report is not None}
    found = {kind: alpha[alpha > 0] for kind, alpha in found.items()}
    every = np.concatenate(list(found.values()))
    axes.set(xlabel="α* of survivors (log axis)", ylabel="gates")
    axes.set_title("survivors' α*", loc="left")
    if every.size == 0:
        axes.text(0.5, 0.5, "no gate survives", ha="center", va="center", transform=axes.transAxes)
        return
    low, high = np.log10(every.min()) - 0.1, np.log10(every.max()) + 0.1
    bins = np.logspace(low, high, 25)
    for kind, alpha in found.items():
        if alpha.size:
            axes.hist(alpha, bins=bins.tolist(), histtype="step", lw=1.4, color=COLORS[_COLOR[kind]])
    axes.set_xscale("log")
    axes.axvline(1.0, color=COLORS["grey"], lw=1, ls=":")


def _counts(axes: Axes, rows: list[BoundRow]) -> None:
    labels = ("survivors ‖α*‖₀", "sharp soft rank", "soft rank", "rank[A]")
    height = 0.8 / len(rows)
    most = 1
    for i, row in enumerate(rows):
        r = row.report
        assert r is not None
        counts = (r.nonzeros, r.soft_rank_sharp, r.soft_rank, r.rank)
        places = np.arange(len(labels))[::-1] + 0.4 - (i + 0.5) * height
        axes.barh(places, counts, height=height, color=COLORS[_COLOR[row.kind]])
        for place, count in zip(places, counts, strict=True):
            axes.text(count, place, f" {count}", va="center", fontsize=6)
        most = max(most, r.d)
    first = rows[0].report
    assert first is not None
    axes.axvline(first.d, color=COLORS["black"], lw=1)
    words = f"d = {first.d} (black line)"
    if first.trained_nonzeros is not None:
        axes.axvline(first.trained_nonzeros, color=COLORS["sky"], lw=1)
        words += f"\ntrained {first.trained_nonzeros} (blue line, not judged)"
    axes.set_yticks(np.arange(len(labels))[::-1], labels)
    axes.set_xlim(0, 1.15 * most)
    axes.set_title(words, loc="left")
    axes.grid(axis="y", visible=False)
