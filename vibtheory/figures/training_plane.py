"""The information plane from its table alone: one row a network, one column a definition of h, one path a layer."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from vibtheory.figures.style import COLORS, needs, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["compression_table", "plane_words", "plot_training_plane"]

_TITLES = {
    "binning": "h in 30 bins a unit",
    "noise": "h + τn, τ fixed",
    "noise of the scale": "h + τn, τ a part of h's scale",
}
_LAYERS = ("sky", "blue", "green", "orange", "red")
_MARKS = ("o", "s", "^", "D", "v")
_WIDTH = 7.5  # inches, the text width of a page


def compression_table(table: DataFrame) -> DataFrame:
    """By how much I(h; x) ends below its largest earlier value, in nats.

    Args:
        table: from `vibtheory.studies.training_plane`.

    Returns:
        One row per net, method and layer: fall and its standard deviation over seeds (NaN for one seed), start, peak,
        last (means over seeds, nats), last_y = I(h; y) at the end.

    Raises:
        InvalidInputError: a column is missing, or there is no row.
    """
    needs(table, ("net", "seed", "epoch", "layer", "method", "i_x", "i_y"), "pass the table of training_plane")
    runs = []
    for key, run in table.groupby(["net", "method", "layer", "seed"], sort=False):
        path = run.sort_values("epoch")
        peak, last = float(path["i_x"].max()), float(path["i_x"].iloc[-1])
        start, relevant = float(path["i_x"].iloc[0]), float(path["i_y"].iloc[-1])
        runs.append((*key[:3], peak - last, start, peak, last, relevant))
    found = pd.DataFrame(runs, columns=["net", "method", "layer", "fall", "start", "peak", "last", "last_y"])
    by = found.groupby(["net", "method", "layer"], sort=False)
    means = by.mean()
    means.insert(1, "spread", by["fall"].std())
    return means.reset_index()


def plane_words(table: DataFrame) -> str:
    """What each school found, beside what these runs show; one sentence each, numbers from `compression_table`."""
    falls = compression_table(table)

    def fall(net: str, method: str) -> str:
        part = falls[(falls["net"] == net) & (falls["method"] == method)]["fall"]
        return f"{part.min():.1f} to {part.max():.1f}"

    return "\n".join([
        "Nats by which I(h; x) of the five layers ends below its peak:",
        f"tanh, bins (Shwartz-Ziv & Tishby 2017: a phase of compression): {fall('tanh', 'binning')}.",
        f"ReLU, bins (Saxe et al. 2018: none without saturation): {fall('ReLU', 'binning')}.",
        f"Noise in the layer (Goldfeld et al. 2019: it falls where classes cluster): tanh {fall('tanh', 'noise')}, "
        f"ReLU {fall('ReLU', 'noise')}.",
        "The same with noise that grows with the layer, so that large weights do not count (Geiger 2021: what shows is "
        f"geometry): tanh {fall('tanh', 'noise of the scale')}, ReLU {fall('ReLU', 'noise of the scale')}.",
        f"VIBNet, which pays for I(h; x): {fall('VIBNet', 'binning')} in bins, {fall('VIBNet', 'noise')} with noise, "
        f"{fall('VIBNet', 'noise of the scale')} with noise of the scale.",
    ])  # fmt: skip


@style()
def plot_training_plane(table: DataFrame) -> Figure:
    """I(h; y) against I(h; x), both in nats, means over seeds; hollow: the net as drawn, filled: the last epoch.

    Args:
        table: from `vibtheory.studies.training_plane`; nothing else is read.

    Raises:
        InvalidInputError: a column is missing, or there is no row.
    """
    how = f"Means over {table['seed'].nunique()} seeds; hollow: the net as drawn, filled: epoch {table['epoch'].max()}."
    words = [line for sentence in [how, *plane_words(table).split("\n")] for line in textwrap.wrap(sentence, 140)]
    nets, methods = list(dict.fromkeys(table["net"])), list(dict.fromkeys(table["method"]))
    with plt.rc_context({"font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 8, "lines.linewidth": 1.1}):
        figure, panels = plt.subplots(len(nets), len(methods), figsize=(_WIDTH, 2.05 * len(nets) + 1.4), sharex=True,
                                      sharey=True, squeeze=False)  # fmt: skip
        handles: dict[str, Any] = {}
        for row, net in enumerate(nets):
            for column, method in enumerate(methods):
                axes: Axes = panels[row, column]
                rows = table[(table["net"] == net) & (table["method"] == method)]
                handles |= _paths(axes, rows)
                whole = axes.axhline(np.log(2), color=COLORS["grey"], ls="--", lw=0.8)
                ceiling = axes.axvline(np.log(rows["n"].max()), color=COLORS["grey"], ls=":", lw=0.8)
                if row == 0:
                    axes.set_title(_TITLES.get(method, method))
                if row == len(nets) - 1:
                    axes.set_xlabel("I(h; x) [nats]")
                if column == 0:
                    axes.set_ylabel(f"{net}\nI(h; y) [nats]")
        handles["log N"] = ceiling
        handles["I(x; y) = log 2"] = whole
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=7)
        figure.supxlabel("\n".join(words), x=0.01, ha="left", fontsize=7)
    return figure


def _paths(axes: Axes, rows: DataFrame) -> dict[str, Any]:
    handles: dict[str, Any] = {}
    for layer, part in rows.groupby("layer"):
        place = (int(str(layer)) - 1) % len(_LAYERS)
        color, mark = COLORS[_LAYERS[place]], _MARKS[place]
        mean = part.groupby("epoch")[["i_x", "i_y"]].mean()
        (line,) = axes.plot(mean["i_x"], mean["i_y"], color=color, marker=mark, ms=1.8)
        first, last = mean.iloc[0], mean.iloc[-1]
        axes.plot(first["i_x"], first["i_y"], color=color, marker=mark, ms=4.5, mfc="white")
        axes.plot(last["i_x"], last["i_y"], color=color, marker=mark, ms=4.5)
        handles[f"layer {layer}"] = line
    return handles
