"""The width study: rank and soft rank against width, survivors at equal error, error at equal size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vibtheory.errors import reject
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["width_figure"]

_NEEDED = ("width", "seed", "gamma", "layer", "live", "rank", "soft_rank_sharp", "nonzeros", "kept", "error",
           "r_w_of_narrowest")  # fmt: skip
_LAYERS = (("h1", "red", "s"), ("h2", "blue", "o"))


def width_figure(table: DataFrame) -> Figure:
    """Three panels: rank[A], soft rank and open gates over width; survivors over error; error over weights.

    The first as shares of the live units, whose column of A is not 0.

    Args:
        table: one row per (width, seed, gamma, layer), as `benchmarks/width_study.py` writes it; r_w_of_narrowest in
            percent of the narrowest net's weights, error in percent.

    Raises:
        InvalidInputError: a column is missing, or there is no row.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    missing = [name for name in _NEEDED if name not in table.columns]
    if missing or table.empty:
        reject(
            "table", f"no {', '.join(missing) or 'row'}", "the width study's table", "python benchmarks/width_study.py"
        )
    widths = sorted(table["width"].unique())
    with style():
        figure, (ranks, survivors, errors) = plt.subplots(1, 3, figsize=(10.5, 3.6))
        for layer, color, mark in _LAYERS:
            own = table[table["layer"] == layer]
            shares = own.assign(**{name: own[name] / own["live"] for name in ("rank", "soft_rank_sharp", "nonzeros")})
            means = shares.groupby("width")[["rank", "soft_rank_sharp", "nonzeros"]].mean()
            lines = (
                ("rank", "-", "rank[A]"),
                ("soft_rank_sharp", "--", "sharp soft rank"),
                ("nonzeros", ":", "open gates"),
            )
            for name, line, label in lines:
                ranks.plot(means.index, means[name], mark + line, color=COLORS[color], ms=4, label=f"{layer}: {label}")
        ranks.set(xscale="log", xlabel="width (1 = 300-100)", ylabel="share of the layer's live units", ylim=(0, 1.05))
        ranks.set_xticks(widths, [f"×{width}" for width in widths])
        ranks.minorticks_off()
        ranks.legend(fontsize=7, handlelength=3.5, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        colors = ("blue", "green", "orange", "red")
        for width, color in zip(widths, colors, strict=False):
            own = table[table["width"] == width]
            for layer, _, mark in _LAYERS:
                points = own[own["layer"] == layer].groupby("gamma")[["error", "kept"]].mean()
                named = f"×{width}" if layer == "h1" else None
                survivors.plot(points["error"], points["kept"], mark + "-", color=COLORS[color], ms=4, label=named)
            points = own.drop_duplicates(["seed", "gamma"]).groupby("gamma")[["r_w_of_narrowest", "error"]].mean()
            errors.plot(points["r_w_of_narrowest"], points["error"], "o-", color=COLORS[color], ms=4, label=f"×{width}")
        survivors.set(xlabel="test error (%)", ylabel="units kept: h1 squares, h2 circles", yscale="log")
        errors.set(xlabel="weights kept (% of the ×1 net's)", ylabel="test error (%)", xscale="log")
        for axis in (survivors.yaxis, errors.xaxis):
            axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        survivors.legend()
        errors.legend()
    return figure
