"""Error against r_W: our γ sweep as a curve with error bars over seeds, the published methods as labelled points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vibtheory.errors import check_choice
from vibtheory.figures.style import COLORS, style
from vibtheory.tables import TITLES, published, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["tradeoff"]


def tradeoff(results: DataFrame, table: int, error: str = "error_last") -> Figure:
    """The trade-off of one table, from the results table only.

    Args:
        results: as `vibtheory.tables.summarise` takes them.
        table: 1 to 4.
        error: "error_last" (last epoch) or "error_best" (best epoch over training).

    Returns:
        A figure: r_W in percent (logarithmic) against test error in percent.

    Raises:
        InvalidInputError: as `summarise`; or an unknown `error`.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    check_choice("error", error, ("error_last", "error_best"))
    ours, rows = summarise(results, table), published(table).dropna(subset=["r_w"])
    with style():
        figure, axes = plt.subplots(figsize=(5.2, 3.6))
        looks = (("pruned", COLORS["blue"], "o"), ("finetuned", COLORS["green"], "s"))
        for stage, color, marker in looks:
            curve = ours[ours["stage"] == stage].sort_values("r_w")
            if curve.empty:
                continue
            axes.errorbar(
                curve["r_w"],
                curve[error],
                xerr=curve["r_w_std"].fillna(0),
                yerr=curve[f"{error}_std"].fillna(0),
                color=color,
                marker=marker,
                markersize=4,
                capsize=2,
                label=f"ours, {stage} ({'/'.join(map(str, sorted(set(curve['seeds']))))} seeds, mean ± std)",
            )
        lift, before = 3, (0.0, 0.0)
        rows = rows.sort_values(["error", "r_w"])
        for method, r_w, value in zip(rows["method"], rows["r_w"], rows["error"], strict=True):
            color = COLORS["red"] if method == "VIBNet" else COLORS["grey"]
            axes.plot(r_w, value, "x", color=color, zorder=3)
            crowded = value == before[1] and r_w < 1.25 * before[0]  # the label would cover its neighbour's
            lift, before = lift + 8 if crowded else 3, (r_w, value)
            axes.annotate(method, (r_w, value), xytext=(4, lift), textcoords="offset points", fontsize=7, color=color)
        axes.margins(x=0.1, y=0.15)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        which = "last" if error == "error_last" else "best"
        axes.set(xlabel="$r_W$ (% of weights kept)", ylabel=f"test error (%), {which} epoch", title=TITLES[table])
        axes.legend()
    return figure
