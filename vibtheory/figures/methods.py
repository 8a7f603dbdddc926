"""The compared methods: each one's trade-off between error and size, and what its nets are like inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from vibtheory.figures.figure2_shape import mean_interval
from vibtheory.figures.results import one_two_five
from vibtheory.figures.style import COLORS, style
from vibtheory.studies.tables import TITLES, published

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["method_curves", "method_information"]

# A colour for each kin of methods, a marker for each method: told apart without the colours, too.
_LOOKS = {
    "VIBNet": ("red", "o", "-"), "VIBNet-BN": ("red", "P", "--"),
    "VD": ("blue", "s", "-"), "SBP": ("blue", "^", "-"), "SBPa": ("blue", "v", "--"),
    "BC-GNJ": ("sky", "^", "-"), "BC-GHS": ("sky", "v", "--"),
    "L0": ("green", "^", "-"), "L0-sep": ("green", "v", "--"), "GD": ("green", "s", ":"),
    "GL": ("purple", "^", "-"), "DN": ("purple", "v", "--"),
    "NS-Single": ("black", "^", "-"), "NS-Best": ("black", "v", "--"),
    "PF": ("orange", "D", "-"), "magnitude": ("orange", "^", "-"), "group norm": ("orange", "v", "--"),
}  # fmt: skip


def _look(name: str) -> dict[str, Any]:
    color, marker, dash = _LOOKS.get(name, ("grey", "x", "-"))
    own = name.startswith("VIBNet")
    return {"color": COLORS[color], "marker": marker, "ls": dash, "lw": 2.2 if own else 1.0, "zorder": 5 if own else 3}


@style()
def method_curves(results: DataFrame, table: int, budget: str = "full") -> Figure:
    """Every compared method's trade-off: held-out error against size over its prices, and its test seeds.

    Args:
        results: as `vibtheory.studies.methods.compare_methods` returns.
        table: 1 (r_W), 2 or 3 (r_W, and multiply-adds).
        budget: named in the title.

    Returns:
        A figure: size (logarithmic) against the fine-tuned error in percent, up to six times the least. Small markers
        and lines: one seed over the prices; VIBNet's band: 95 % intervals of 5,000 held-out images; large ones: means
        over test seeds with 95 % intervals of the mean; crosses: published points.
    """
    panels = [("r_w", "$r_W$ (% of weights kept)", 1.0)]
    panels += [("flop", "multiply-adds (millions)", 1e-6)] if table > 1 else []
    figure, grid = plt.subplots(1, len(panels), figsize=(6.4 * len(panels) + 1.6, 5.0), sharey=True, squeeze=False)
    tuned = results[results["stage"] == "finetuned"]
    for axes, (column, label, scale) in zip(grid[0], panels, strict=True):
        for name in dict.fromkeys(tuned["method"]):
            own, look = tuned[tuned["method"] == name], _look(name)
            curve, test = (own[own["phase"] == phase].sort_values(column) for phase in ("choose", "test"))
            error = curve["error_last"].to_numpy()
            axes.plot(scale * curve[column], error, ms=3.5, label=name, alpha=0.8, **look)
            if name == "VIBNet":
                half = 1.96 * np.sqrt(error * (100 - error) / 5000)
                axes.fill_between(scale * curve[column], error - half, error + half, color=look["color"], alpha=0.15)
            if len(test) > 1:
                (x, *xs), (y, *ys) = (mean_interval(test[key].to_numpy(float)) for key in (column, "error_last"))
                bars = [scale * np.abs(np.array(xs)[:, None] - x), np.abs(np.array(ys)[:, None] - y)]
                bars[0][0] = np.minimum(bars[0][0], 0.99 * scale * x)  # the axis is logarithmic
                axes.errorbar(scale * x, y, bars[1], bars[0], ms=8, mec="black", elinewidth=0.8,
                              **{**look, "ls": "none", "zorder": 6})  # fmt: skip
        printed = published(table).dropna(subset=["r_w"])
        size = printed["r_w"] if column == "r_w" else printed["flop_mil"]
        axes.plot(size, printed["error"], "x", color=COLORS["grey"], label="printed")
        axes.set_xscale("log")
        axes.set(xlabel=label)
        one_two_five(axes.xaxis)
    errors = [*tuned["error_last"], *published(table)["error"].dropna()]
    grid[0][0].set(ylabel="error (%), fine-tuned: held out (lines), test (large)", yscale="log")
    grid[0][0].set_ylim(0.85 * min(errors), 6 * min([*tuned["error_last"]] or errors))
    grid[0][-1].legend(fontsize=7.5, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    one_two_five(grid[0][0].yaxis)
    figure.suptitle(f"{TITLES[table]}: methods rerun, budget {budget}", fontsize=10)
    return figure


@style()
def method_information(nets: DataFrame) -> Figure:
    """I(h; x) of the compared methods' nets against r_W, and the soft rank of their activations against their units.

    Args:
        nets: as `vibtheory.studies.method_nets.measure_nets` returns.

    Returns:
        A figure: left, upper bounds in nats, for VIBNet's nets with a bar down to the lower; right, soft rank, and a
        line where it is full.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 4.4))
    for name, own in nets.groupby("method", sort=False):
        own, look = own.sort_values("r_w"), _look(str(name))
        if str(name).startswith("VIBNet"):
            left.vlines(own["r_w"], own["lower"], own["upper"], color=look["color"], lw=1, alpha=0.4)
        left.plot(own["r_w"], own["upper"], ms=4, label=name, **look)
        right.plot(own["units"], own["soft_rank"], ms=5, **{**look, "ls": "none"})
    left.set(xscale="log", yscale="log", xlabel="$r_W$ (% of weights kept)", ylabel="upper bound on $I(h; x)$ (nats)")
    one_two_five(left.xaxis)
    one_two_five(left.yaxis)
    right.axline((0, 0), slope=1, color=COLORS["grey"], lw=0.8)
    right.set(xlabel="units kept", ylabel="soft rank of their activations")
    figure.legend(fontsize=7.5, loc="outside right center")
    return figure
