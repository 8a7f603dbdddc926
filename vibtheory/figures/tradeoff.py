"""Error against size: our nets with error bars over seeds, the published methods as labelled points.

Tables 1 and 2: one panel, r_W, with our γ sweep as a curve and the record, which trains longer, as points. Tables 3
and 4: multiply-adds and r_N, a colour for each of the table's comparisons (nets of different depth, so their points do
not lie on one curve).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vibtheory.errors import check_choice, reject
from vibtheory.figures.style import COLORS, style
from vibtheory.studies.tables import DECAYED, TITLES, published, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["tradeoff"]


def tradeoff(results: DataFrame | None, table: int, error: str = "error_last") -> Figure:
    """The trade-off of one table, from the results table only.

    Args:
        results: as `studies.tables.summarise` takes them; None for Tables 3 and 4: the published points alone. Rows
            whose column "mode" is "full" are the record, others a sweep.
        table: 1 to 4.
        error: "error_last" (last epoch) or "error_best" (best epoch over training).

    Returns:
        A figure: size (logarithmic r_W in percent; or millions of multiply-adds and r_N in percent) against test error
        in percent.

    Raises:
        InvalidInputError: as `summarise`; or an unknown `error`.
    """
    import matplotlib.pyplot as plt
    import pandas as pd
    from matplotlib.ticker import LogLocator, NullFormatter

    check_choice("error", error, ("error_last", "error_best"))
    if table in (3, 4):
        return _two_panels(results, table, error)
    if results is None:
        reject("results", None, "rows of ours for Tables 1 and 2", f"run `vibtheory table {table} --quick` first")
    rows = published(table).dropna(subset=["r_w"])
    summarise(results, table)  # raises where there is nothing to draw
    own = results[results["table"] == table]
    record = own["mode"].eq("full") if "mode" in own else pd.Series(False, index=own.index)
    decayed = own["network"].astype(str).str.endswith(DECAYED)
    parts = [summarise(part, table) for _, part in own.groupby([decayed, record])]
    with style():
        figure, axes = plt.subplots(figsize=(5.2, 3.6))
        looks = (("pruned", "pruned", COLORS["blue"], "o"), ("finetuned", "fine-tuned", COLORS["green"], "s"))
        for ours in parts:
            for stage, words, color, marker in looks:
                curve = ours[ours["stage"] == stage].sort_values("r_w")
                if curve.empty:
                    continue
                alone, gates = len(curve) == 1, curve["network"].iloc[0].endswith(DECAYED)
                epochs, seeds = ("/".join(map(str, sorted(set(curve[name])))) for name in ("epochs", "seeds"))
                axes.errorbar(
                    curve["r_w"],
                    curve[error],
                    xerr=curve["r_w_std"].fillna(0),
                    yerr=curve[f"{error}_std"].fillna(0),
                    color=color,
                    marker=marker,
                    linestyle="none" if alone else "-",
                    mfc=color if alone else "white",
                    markersize=6 if alone else 4,
                    capsize=2,
                    zorder=4 if alone else 2,
                    label=f"ours, {words}{', gates decayed' * gates}, {epochs} epochs ({seeds} seeds, mean ± std)",
                )
        lift, before = -11, (0.0, 0.0)
        rows = rows.sort_values(["error", "r_w"])
        sizes = [*rows["r_w"], *(size for ours in parts for size in ours["r_w"])]
        near = (max(sizes) / min(sizes)) ** 0.14  # a label takes about a seventh of the logarithmic axis
        for method, r_w, value in zip(rows["method"], rows["r_w"], rows["error"], strict=True):
            color = COLORS["red"] if method == "VIBNet" else COLORS["grey"]
            axes.plot(r_w, value, "x", color=color, zorder=5)
            crowded = value == before[1] and r_w < near * before[0]  # the label would cover its neighbour's
            lift, before = lift - 8 if crowded else -11, (r_w, value)
            axes.annotate(
                method, (r_w, value), xytext=(3, lift), textcoords="offset points", fontsize=7, color=color, zorder=5
            )
        axes.margins(x=0.1, y=0.15)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        which = "last" if error == "error_last" else "best"
        axes.set(xlabel="$r_W$ (% of weights kept)", ylabel=f"test error (%), {which} epoch", title=TITLES[table])
        axes.legend()
    return figure


_COMPARISON_COLORS = ("blue", "orange", "purple")


def _two_panels(results: DataFrame | None, table: int, error: str) -> Figure:
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    rows = published(table)
    # A comparison ends with the poster's own row: 3.1, 3.2, 3.3 and 4.1, 4.2.
    part = rows["method"].eq("VIBNet").shift(fill_value=False).cumsum()
    rows["color"] = [COLORS[_COMPARISON_COLORS[i]] for i in part]
    ours = None if results is None else summarise(results, table)
    with style():
        figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.6), sharey=True)
        for axes, column in zip(panels, ("flop_mil", "r_n"), strict=True):
            _published_points(axes, rows.dropna(subset=[column]), column)
            if ours is not None and "row" in ours:
                _our_points(axes, ours, column, error, table)
            axes.margins(x=0.2, y=0.12)  # room for the rightmost label
        which = "last" if error == "error_last" else "best"
        panels[0].set(xlabel="multiply-adds (millions)", ylabel=f"test error (%), ours: {which} epoch")
        panels[1].set(xlabel=f"$r_N$ (% of activations kept; not printed for {'NS' if table == 3 else 'NS and RNP'})")
        looks = [
            Line2D([], [], ls="", marker=marker, color=COLORS["black"], label=label)
            for marker, label in (("x", "published"), ("*", "VIBNet, published"))
        ]
        looks += [
            Line2D([], [], color=COLORS[_COMPARISON_COLORS[i]], label=f"comparison {table}.{i + 1}")
            for i in range(int(part.max()) + 1)
        ]
        if ours is None:
            looks.append(Line2D([], [], ls="", label="ours: not run"))
        else:
            for marker, label in (("o", "ours, pruned"), ("s", "ours, fine-tuned")):
                looks.append(Line2D([], [], ls="", marker=marker, color=COLORS["black"], label=label))
        figure.legend(handles=looks, loc="outside lower center", ncols=4)
        figure.suptitle(TITLES[table], fontsize=10)
    return figure


def _published_points(axes: Axes, rows: DataFrame, column: str) -> None:
    span = rows[column].max() - rows[column].min()
    points = rows[[column, "error"]].to_numpy()
    for row in rows.to_dict("records"):
        x, y, theirs = row[column], row["error"], row["method"] == "VIBNet"
        axes.plot(x, y, "*" if theirs else "x", color=row["color"], markersize=9 if theirs else 6, zorder=3)
        # To the left where the label would run into a neighbour.
        left = any(0 < a - x < 0.15 * span and abs(b - y) < 0.11 for a, b in points)
        axes.annotate(row["method"], (x, y), xytext=(-5 if left else 5, 3), textcoords="offset points", fontsize=7,
                      ha="right" if left else "left", color=row["color"])  # fmt: skip


def _our_points(axes: Axes, ours: DataFrame, column: str, error: str, table: int) -> None:
    scale, name = (1e-6, "flop") if column == "flop_mil" else (1.0, "r_n")
    for row in ours.to_dict("records"):
        part = int(str(row["row"]).partition(".")[2] or 1) - 1
        axes.errorbar(
            scale * row[name],
            row[error],
            xerr=scale * row[f"{name}_std"] if row["seeds"] > 1 else None,
            yerr=row[f"{error}_std"] if row["seeds"] > 1 else None,
            fmt="o" if row["stage"] == "pruned" else "s",
            mfc="none" if str(row["network"]).endswith(DECAYED) else None,
            color=COLORS[_COMPARISON_COLORS[part]],
            markersize=5,
            capsize=2,
        )
