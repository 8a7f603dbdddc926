"""What training came to: a run's history, error against size, the threshold on α, the width study.

Error against size. Tables 1 and 2: one panel, r_W, with our γ sweep as a curve and the record, which trains longer, as
points. Tables 3 and 4: multiply-adds and r_N, a colour for each of the table's comparisons (nets of different depth, so
their points do not lie on one curve).
"""

from __future__ import annotations

from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from vibtheory.errors import check_choice, reject
from vibtheory.figures.style import COLORS, needs, style
from vibtheory.studies.tables import DECAYED, TITLES, own_recipe, published, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["plot_training", "threshold_figure", "tradeoff", "width_figure"]


@style()
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
    check_choice("error", error, ("error_last", "error_best"))
    if table in (3, 4):
        return _two_panels(results, table, error)
    if results is None:
        reject("results", None, "rows of ours for Tables 1 and 2", f"run `vibtheory table {table} --quick` first")
    rows = published(table).dropna(subset=["r_w"])
    summarise(results, table)  # raises where there is nothing to draw
    own = results[results["table"] == table]
    own = own[own["status"].ne("collapsed")] if "status" in own else own
    record = own["mode"].eq("full") if "mode" in own else pd.Series(False, index=own.index)
    parts = [summarise(part, table) for _, part in own.groupby(["network", record])]
    figure, axes = plt.subplots(figsize=(7.5, 5.0))
    looks = (("pruned", "pruned", COLORS["blue"], "o"), ("finetuned", "fine-tuned", COLORS["green"], "s"))
    for ours in parts:
        for stage, words, color, marker in looks:
            curve = ours[ours["stage"] == stage].sort_values("r_w")
            if curve.empty:
                continue
            alone, gates = len(curve) == 1, curve["network"].iloc[0].endswith(DECAYED)
            epochs, seeds = ("/".join(map(str, sorted(set(curve[name])))) for name in ("epochs", "seeds"))
            name = own_recipe(curve["network"].iloc[0])
            label = f"ours{name}, {words}{', gates decayed' * gates}, {epochs} epochs ({seeds} seeds, mean ± std)"
            look: dict[str, Any] = (
                {"ls": "none", "ms": 6, "zorder": 4} if alone else {"mfc": "white", "ls": "-", "ms": 4, "zorder": 2}
            )
            axes.errorbar(curve["r_w"], curve[error], xerr=curve["r_w_std"].fillna(0), label=label, capsize=2, **look,
                          yerr=curve[f"{error}_std"].fillna(0), color=color, marker=marker)  # fmt: skip
    rows = rows.sort_values("r_w")
    colors = [COLORS["red"] if method == "VIBNet" else COLORS["grey"] for method in rows["method"]]
    axes.scatter(rows["r_w"], rows["error"], marker="x", color=colors, zorder=5)
    axes.margins(x=0.1, y=0.15)
    axes.set_xscale("log")
    one_two_five(axes.xaxis)
    which = "last" if error == "error_last" else "best"
    axes.set(xlabel="$r_W$ (% of weights kept)", ylabel=f"test error (%), {which} epoch", title=TITLES[table])
    if axes.containers:
        figure.legend(loc="outside lower center", ncols=2)
    figure.draw_without_rendering()  # the layout, on which the labels' extents depend
    _labels(axes, list(zip(rows["method"], rows["r_w"], rows["error"], colors, strict=True)))
    return figure


def _labels(axes: Axes, points: list[tuple[str, float, float, str]]) -> None:
    """Write each point's name (name, x, y, color) beside it, where it covers no other name, no point and no line."""
    places = [axes.transData.transform([(x, y) for _, x, y, _ in points])]
    for line in axes.lines:
        path = axes.transData.transform(line.get_xydata())
        steps = np.linspace(0, 1, 20)[:, None] if line.get_linestyle() == "-" else np.zeros((1, 1))
        places += [path, *(start + steps * (end - start) for start, end in pairwise(path))]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in np.concatenate(places)]
    sides = [(dx, dy) for far in (1, 2, 3, 4) for dx, dy in ((5, 4), (5, -4), (-5, 4), (-5, -4), (0, 7), (0, -7))
             for dx, dy in ((dx * far, dy * far),)]  # fmt: skip
    for name, x, y, color in points:
        for dx, dy in sides:
            note = axes.annotate(
                name, (x, y), (dx, dy), textcoords="offset points", fontsize=8, color=color, zorder=6,
                ha="left" if dx > 0 else "right" if dx < 0 else "center", va="bottom" if dy > 0 else "top",
                arrowprops={"arrowstyle": "-", "lw": 0.5, "color": color} if abs(dy) > 7 else None,
            )  # fmt: skip
            note.get_window_extent()  # moves it to its offset; with its arrow
            box = Text.get_window_extent(note).padded(1)  # without
            if not any(box.overlaps(other) for other in taken) and axes.bbox.contains(*box.min):
                break
            if (dx, dy) != sides[-1]:
                note.remove()
        taken.append(box)


_COMPARISON_COLORS = ("blue", "orange", "purple")


@style()
def _two_panels(results: DataFrame | None, table: int, error: str) -> Figure:
    rows = published(table)
    # A comparison ends with the paper's own row: 3.1, 3.2, 3.3 and 4.1, 4.2.
    part = rows["method"].eq("VIBNet").shift(fill_value=False).cumsum()
    rows["color"] = [COLORS[_COMPARISON_COLORS[i]] for i in part]
    ours = None if results is None else summarise(results, table)
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.6), sharey=True)
    for axes, column in zip(panels, ("flop_mil", "r_n"), strict=True):
        _published_points(axes, rows.dropna(subset=[column]), column)
        if ours is not None and "row" in ours:
            _our_points(axes, ours, column, error)
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


def _our_points(axes: Axes, ours: DataFrame, column: str, error: str) -> None:
    scale, name = (1e-6, "flop") if column == "flop_mil" else (1.0, "r_n")
    for row in ours.to_dict("records"):
        part = int(str(row["row"]).partition(".")[2] or 1) - 1
        spread = {"xerr": scale * row[f"{name}_std"], "yerr": row[f"{error}_std"]} if row["seeds"] > 1 else {}
        axes.errorbar(scale * row[name], row[error], fmt="o" if row["stage"] == "pruned" else "s", ms=5, capsize=2,
                      mfc="none" if str(row["network"]).endswith(DECAYED) else None,
                      color=COLORS[_COMPARISON_COLORS[part]], **spread)  # fmt: skip


def one_two_five(axis: Axis) -> None:
    """Plain numbers at 1, 2, 5, 10, … of a logarithmic axis."""
    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


@style()
def threshold_figure(table: DataFrame) -> Figure:
    """Two panels over the threshold (logarithmic): kept units per layer, and the test error.

    Args:
        table: one row per threshold: threshold, one column of kept units per layer, r_w and error (percent).

    Raises:
        InvalidInputError: a column is missing, or no layer is left.
    """
    needed = {"threshold", "r_w", "error"}
    layers = [column for column in table.columns if column not in needed]
    if not needed <= set(table.columns) or not layers:
        expected = "threshold, the layers' kept units, r_w, error"
        reject("table", list(table.columns), expected, "write it with benchmarks/threshold.py")
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 2.8))
    colors, marks = ("blue", "orange", "green", "red", "purple", "grey"), "osv^DxP"
    for layer, color, mark in zip(layers, cycle(colors), cycle(marks), strict=False):
        left.plot(table["threshold"], table[layer], mark + "-", color=COLORS[color], label=layer, ms=4)
    left.set(ylabel="units kept")
    left.legend(ncols=1 + len(layers) // 8)
    right.plot(table["threshold"], table["error"], "o-", color=COLORS["blue"], ms=4)
    right.set(ylabel="test error (%)", yscale="log", ylim=(0.8 * float(table["error"].min()), 130))
    one_two_five(right.yaxis)
    for axes in (left, right):
        axes.axvline(1.0, color=COLORS["grey"], linestyle="--", linewidth=1)
        axes.set(xscale="log", xlabel=r"threshold on $\alpha$")
    return figure


@style()
def width_figure(table: DataFrame) -> Figure:
    """Three panels: rank[A], soft rank and open gates over width; survivors over error; error over weights.

    The first as shares of the live units, whose column of A is not 0.

    Args:
        table: one row per (width, seed, gamma, layer), as `benchmarks/width_study.py` writes it; r_w_of_narrowest in
            percent of the narrowest net's weights, error in percent.

    Raises:
        InvalidInputError: a column is missing, or there is no row.
    """
    needs(table, ("width", "seed", "gamma", "layer", "live", "rank", "soft_rank_sharp", "nonzeros", "kept", "error",
                  "r_w_of_narrowest"), "python benchmarks/width_study.py")  # fmt: skip
    widths = sorted(table["width"].unique())
    lines = {"rank": ("-", "rank[A]"), "soft_rank_sharp": ("--", "sharp soft rank"), "nonzeros": (":", "open gates")}
    figure, (ranks, survivors, errors) = plt.subplots(1, 3, figsize=(10.5, 3.8))
    marks = {"h1": ("s", "grey"), "h2": ("o", "black")}  # colours are widths, in the other two panels
    for layer, (mark, color) in marks.items():
        own = table[table["layer"] == layer]
        shares = own.assign(**{name: own[name] / own["live"] for name in lines}).groupby("width")[list(lines)]
        for name, (line, label) in lines.items():
            ranks.errorbar(widths, shares.mean()[name], yerr=shares.std()[name], fmt=mark + line, color=COLORS[color],
                           ms=4, capsize=2, label=f"{layer}: {label}")  # fmt: skip
    ranks.set(xscale="log", xlabel="width (1 = 300-100)", ylabel="share of the layer's live units", ylim=(0, 1.05))
    ranks.set_xticks(widths, [f"×{width}" for width in widths])
    ranks.minorticks_off()
    ranks.legend(fontsize=7, handlelength=3.5, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for width, color in zip(widths, cycle(("blue", "green", "orange", "red", "purple", "sky")), strict=False):
        own = table[table["width"] == width]
        for layer, (mark, _) in marks.items():
            _mean_std(survivors, own[own["layer"] == layer], "error", "kept", mark, color,
                      f"×{width}" if layer == "h1" else None)  # fmt: skip
        _mean_std(errors, own.drop_duplicates(["seed", "gamma"]), "r_w_of_narrowest", "error", "o", color, f"×{width}")
    survivors.set(xlabel="test error (%)", ylabel="units kept: h1 squares, h2 circles", yscale="log")
    errors.set(xlabel="weights kept (% of the ×1 net's)", ylabel="test error (%)", xscale="log")
    one_two_five(survivors.yaxis)
    one_two_five(errors.xaxis)
    survivors.legend()
    errors.legend()
    seeds = table.groupby("width")["seed"].nunique()
    counts = ", ".join(f"×{width}: {count}" for width, count in seeds.items())
    figure.supxlabel(f"mean ± standard deviation over seeds ({counts}), on the left over prices too", fontsize=8)
    return figure


def _mean_std(axes: Axes, rows: DataFrame, x: str, y: str, mark: str, color: str, label: str | None) -> None:
    """`y` over `x`, a point for each price: mean and standard deviation over seeds."""
    prices = rows.groupby("gamma")[[x, y]]
    mean, spread = prices.mean(), prices.std().fillna(0.0)
    axes.errorbar(mean[x], mean[y], xerr=spread[x], yerr=spread[y], fmt=mark + "-", color=COLORS[color], ms=4,
                  capsize=2, label=label)  # fmt: skip


@style()
def plot_training(history: DataFrame) -> Figure:
    """Left: mean cross-entropy and Σ ½ log(1+α) in nats over epochs. Right: open gates per layer, in percent.

    Args:
        history: `Run.history` of a gated network.

    Raises:
        InvalidInputError: no kept_… column: the network has no gates; or no epoch.
    """
    layers = [name.removeprefix("kept_") for name in history.columns if name.startswith("kept_")]
    if not layers:
        reject("history", "no kept_ columns", "the history of a gated network", "train a net with gates")
    needs(history, ("epoch", "cross_entropy", "information"), "train for at least one epoch")
    many = len(layers) > 6
    columns = min(4, max(1, 120 // (16 + max(map(len, layers)))))  # of a legend 8 inches wide
    figure, (loss, kept) = plt.subplots(1, 2, figsize=(8, 3.0 + many * 0.22 * len(layers) / columns))
    epoch, mark = history["epoch"], "o" if len(history) == 1 else None
    loss.plot(epoch, history["cross_entropy"], marker=mark, color=COLORS["red"])
    loss.set(xlabel="epoch", ylabel="cross-entropy (nats)")
    loss.yaxis.label.set_color(COLORS["red"])
    right = loss.twinx()
    right.plot(epoch, history["information"], marker=mark, color=COLORS["blue"], ls="--")
    for axes, column in ((loss, "cross_entropy"), (right, "information")):
        axes.set_yscale("log" if history[column].gt(0).any() else "linear")  # zeros alone have no logarithm
    right.set_ylabel("information Σ ½ log(1+α) (nats)", color=COLORS["blue"])
    right.spines["right"].set_visible(True)
    right.grid(visible=False)
    loss.set_title("what is paid for, and what it costs", loc="left")
    for place, layer in enumerate(layers):  # with six colours, 24 looks
        units, dash = history[f"kept_{layer}"], ("-", "--", ":", "-.")[(place + place // 12) % 4]
        kept.plot(epoch, 100 * units / units.iloc[0], marker=mark, ls=dash, label=f"{layer}: {units.iloc[-1]} open")
    kept.set(xlabel="epoch", ylabel="gates open (% of the first epoch's)", ylim=(0, 105))
    kept.set_title("the gates close", loc="left")
    figure.legend(loc="outside lower center", ncols=columns) if many else kept.legend()
    return figure
