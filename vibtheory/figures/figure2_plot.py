"""Figure 2 from its table alone: the printed panels with ours over them; on a page of its own, I(h₁; x) against r_W."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator

from vibtheory.errors import reject
from vibtheory.figures.figure2_shape import NAMES, SHAPES, caption, estimates, mean_interval, shape_table
from vibtheory.figures.printed_figure2 import NETS, PRINTED_READING, printed_curves, printed_fit
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from vibtheory.figures.printed_figure2 import PrintedFit

__all__ = ["figure2", "figure2_estimates", "verdicts"]

_COLUMNS = 5
_WIDTH = 7.5  # inches, the text width of a page: the fonts below are what is read
_EPOCHS = 200  # printed
_LETTERS: Any = {"font.size": 7, "axes.titlesize": 7.5, "axes.labelsize": 7.5, "xtick.labelsize": 6.5,
            "ytick.labelsize": 6.5, "legend.fontsize": 7, "lines.linewidth": 1.2}  # fmt: skip


def figure2(table: DataFrame, gamma: float, shape: DataFrame | None = None) -> Figure:
    """Draw Figure 2's two panels: r_W and I(h₁; x) against epoch, ours over the printed curves, a verdict on each.

    Ours is solid (mean and 95 % interval over seeds; thin: the other prices' means), printed dashed. The printed I has
    an unknown constant and its own axis, the affine map of `printed_fit`; below the panels it is stated, with the
    ratios that no axis can change. Epochs are on a square-root scale where ours are few.

    Args:
        table: from `vibtheory.sweep`, several of them concatenated; nothing else is read.
        gamma: price of the VIBNet.
        shape: `shape_table(table)` if it is there already.

    Raises:
        InvalidInputError: a column is missing, no row, no VIBNet of that price, or no curves for `printed_fit`.
    """
    shape = shape_table(table) if shape is None else shape
    shades, fit = _shades(table, gamma), printed_fit(table, gamma)
    with style(), plt.rc_context(_LETTERS):
        figure, (left, right) = plt.subplots(1, 2, figsize=(_WIDTH, 3.5))
        _sizes(left, table, gamma, shades)
        _information(right, table, gamma, shades, fit)
        words = [*verdicts(table, gamma, shape), *textwrap.wrap(f"Right: {fit}", 145)]
        figure.supxlabel("\n".join(words), fontsize=7)
    return figure


def _shades(table: DataFrame, gamma: float) -> dict[float, Any]:
    """A colour for each price; `gamma` must be one of them."""
    prices = sorted(set(table.loc[table["gated"], "gamma"]))
    if gamma not in prices:
        reject("gamma", gamma, f"a price of the table: {prices}", "name one of those")
    return dict(zip(prices, plt.get_cmap("viridis")(np.linspace(0.0, 0.9, len(prices))), strict=True))


def verdicts(table: DataFrame, gamma: float, shape: DataFrame | None = None) -> list[str]:
    """One sentence per printed curve: what ours does, what is printed, and whether that is the same.

    Args:
        table, gamma, shape: as `figure2` takes them.
    """
    shape = shape_table(table) if shape is None else shape
    lines, printed = [], printed_curves()
    sizes = table.groupby(["gated", "gamma", "epoch"])["r_w"].mean() / 100
    for net, gated in (("VIBNet", True), ("regular", False)):
        price = gamma if gated else sizes[False].index[0][0]
        ours, theirs = sizes[gated, price], printed[f"r_w_{NETS[net]}"].fillna(1.0)
        alike = bool((ours.diff().dropna() <= 0).all()) and (ours.iloc[-1] < 0.5 if gated else (ours == 1).all())
        lines.append(_verdict(f"r_W, {net}", f"{ours.iloc[0]:.2g} → {ours.iloc[-1]:.2g}",
                              f"{theirs.iloc[0]:.2g} → {theirs.iloc[-1]:.2g}", alike))  # fmt: skip
    method, tau = PRINTED_READING
    rows = shape[(shape["method"] == method) & (shape["tau"] == tau)]
    for net, wanted in (("VIBNet", SHAPES[0]), ("regular", SHAPES[3])):
        row = rows[(rows["net"] == net) & ((rows["gamma"] == gamma) | (net == "regular"))].iloc[0]
        turn = f" (turns at epoch {row['turn']:g})" if "turns" in row["shape"] else ""
        lines.append(_verdict(f"I, {net}", f"{row['shape']}{turn}", wanted, row["shape"] == wanted))
    return lines


def _verdict(curve: str, ours: str, printed: str, alike: bool) -> str:
    return f"{curve}: ours {ours}; printed: {printed}. {'The' if alike else 'NOT the'} printed shape."


def figure2_estimates(table: DataFrame, gamma: float, shape: DataFrame | None = None) -> Figure:
    """I(h₁; x) against r_W for every price, one panel per estimate, with the ceiling log N where the estimate has one.

    Crosses mark saturated points. The caption says which estimates have the printed shape.

    Args:
        table, gamma, shape: as `figure2` takes them.

    Raises:
        InvalidInputError: as `figure2`.
    """
    shape = shape_table(table) if shape is None else shape
    shades = _shades(table, gamma)
    order = {name: place for place, name in enumerate(NAMES)}
    keys = sorted(estimates(table), key=lambda key: (order.get(key[0], len(order)), key[1]))
    text = [line for sentence in caption(shape, gamma).split("\n") for line in textwrap.wrap(sentence, 132)]
    columns = min(_COLUMNS, len(keys))
    lines = -(-len(keys) // columns)
    heights = [0.5 + 1.35 * lines, 0.1 + 0.125 * len(text)]
    with style(), plt.rc_context(_LETTERS):
        figure = plt.figure(figsize=(_WIDTH, sum(heights)))
        grid = figure.add_gridspec(2, 1, height_ratios=heights)
        ours, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
        sizes = table.loc[table["gated"], "r_w"]
        handles: dict[str, Any] = {}
        for place, key in enumerate(keys):
            axes = ours.add_subplot(lines, columns, 1 + place)
            rows = table[(table["method"] == key[0]) & (table["tau"] == key[1])]
            handles |= _against_size(axes, rows[np.isfinite(rows["nats"])], key, shades)
            axes.set_xscale("log")
            axes.set_xlim(0.8 * sizes.min(), 130)
            axes.set_xticks([tick for tick in (1, 3, 10, 30, 100) if tick > 0.8 * sizes.min()], minor=False)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
            if place % columns == 0:
                axes.set_ylabel("I(h₁; x) [nats]")
            if place + columns >= len(keys):
                axes.set_xlabel("r_W [%]")
        ours.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 6))
        below.text(0.01, 1.0, "\n".join(text), va="top", fontsize=7)
    return figure


def _sizes(axes: Axes, table: DataFrame, gamma: float, shades: dict[float, Any]) -> None:
    """Left printed panel: r_W as a fraction against epoch."""
    one = table.drop_duplicates(["gated", "gamma", "seed", "epoch"])  # r_W is the same for every estimate
    _against_epoch(axes, axes, one.assign(r_w=0.01 * one["r_w"]), "r_w", "r_w", gamma, shades)
    axes.set(ylabel="compression ratio r_W", ylim=(0, 1.08))
    axes.set_title(f"size; ours at γ = {gamma:g}" + (", thin: dearer ones" if len(shades) > 1 else ""))
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.93))
    _epoch_axis(axes, table)


def _information(axes: Axes, table: DataFrame, gamma: float, shades: dict[float, Any], fit: PrintedFit) -> None:
    """Right printed panel: I(h₁; x) against epoch, ours on the left axis, the printed curves on the right one."""
    method, tau = PRINTED_READING
    rows = table[(table["method"] == method) & (table["tau"] == tau)]
    rows = rows[rows["n"] == rows["n"].min()]
    second = axes.twinx()
    _against_epoch(axes, second, rows, "nats", "mi", gamma, shades)
    ours, theirs = np.array(axes.get_ylim()), np.array(second.get_ylim())
    if fit.slope > 0:  # one map for both axes, wide enough for all curves
        theirs = (theirs - fit.constant) / fit.slope
        ours = np.array([min(ours[0], theirs[0]), max(ours[1], theirs[1])])
        axes.set_ylim(*ours)
        second.set_ylim(*(fit.constant + fit.slope * ours))
    axes.set_ylabel("ours (solid) [nats]")
    axes.set_title(f"information; ours: ½ log det(I + Cov/τ²) ≥ I(h₁ + τn; x), τ = {tau:g}")
    second.set_ylabel("printed (dashed): I + constant [nats]")
    second.spines["right"].set_visible(True)
    second.grid(visible=False)
    _epoch_axis(axes, table)


def _epoch_axis(axes: Axes, table: DataFrame) -> None:
    """0 … 200 as printed; on a square-root scale where ours would be a sliver of it."""
    few = table["epoch"].max() < _EPOCHS / 2
    if few:
        axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
        axes.set_xticks([0, 5, 20, 50, 100, 200])
    axes.set(xlabel="epoch" + (" (square-root scale)" if few else ""), xlim=(0, _EPOCHS))


def _against_epoch(
    axes: Axes, second: Axes, rows: DataFrame, column: str, printed: str, gamma: float, shades: dict[float, Any]
) -> None:
    """On `axes` ours, mean and interval over seeds, other prices thin; on `second`, dashed, the `printed` curves."""
    theirs, gated = printed_curves(), rows[rows["gated"]]
    for price in (price for price in shades if price != gamma):
        axes.plot(gated[gated["gamma"] == price].groupby("epoch")[column].mean(), color=shades[price], lw=0.7)
    regular = rows[~rows["gated"]]
    nets = (("VIBNet", "vibnet", "blue", gated[gated["gamma"] == gamma]), ("regular net", "regular", "red", regular))
    for net, name, color, part in nets:
        if len(part):
            mean, low, high = _intervals(part, column)
            axes.plot(sorted(set(part["epoch"])), mean, color=COLORS[color], label=f"{net}, ours")
            axes.fill_between(sorted(set(part["epoch"])), low, high, color=COLORS[color], alpha=0.2, lw=0)
        second.plot(theirs["epoch"], theirs[f"{printed}_{name}"], color=COLORS[color], ls="--", lw=1.0,
                    label=f"{net}, printed")  # fmt: skip


def _intervals(rows: DataFrame, column: str) -> np.ndarray:
    """Mean over seeds and its 95 % interval at each epoch, [3, epochs]."""
    by_epoch = rows.groupby("epoch")[column]
    return np.array([mean_interval(values.to_numpy(dtype=np.float64), 0.0) for _, values in by_epoch]).T


def _against_size(axes: Axes, rows: DataFrame, key: tuple[str, float, int], shades: dict[float, Any]) -> dict[str, Any]:
    """One estimate: a path per price, from the untrained net on the right to the smallest on the left."""
    method, tau, n = key
    handles: dict[str, Any] = {}
    rows, larger = rows[rows["n"] == n], rows[rows["n"] > n]
    for gamma, color in shades.items():
        part = rows[rows["gated"] & (rows["gamma"] == gamma)]
        if part.empty:
            continue
        by_epoch = part.groupby("epoch")
        size, flagged = by_epoch["r_w"].mean().to_numpy(), by_epoch["saturated"].any().to_numpy(dtype=bool)
        mean, low, high = _intervals(part, "nats")
        (line,) = axes.plot(size, mean, color=color, marker=".", ms=3, lw=1.1)
        # along the path, since several epochs may have one size
        axes.fill(np.r_[size, size[::-1]], np.r_[low, high[::-1]], color=color, alpha=0.2, lw=0)
        axes.plot(size[flagged], mean[flagged], ls="", marker="x", ms=3, mew=0.7, color=COLORS["grey"], zorder=5)
        axes.plot(size[-1], mean[-1], ls="", marker="o", ms=4, color=color)
        handles[f"γ = {gamma:g}"] = line
    regular = rows[~rows["gated"]]
    if len(regular):
        ends = regular.groupby("epoch")["nats"].mean()
        (line,) = axes.plot([100] * len(ends), ends, color=COLORS["red"], lw=1.1)
        axes.plot([100], [ends.iloc[-1]], ls="", marker="o", ms=4, color=COLORS["red"])
        handles["regular net"] = line
    for _, part in larger.groupby(["gated", "gamma"]):
        color = shades[float(part["gamma"].iloc[0])] if part["gated"].iloc[0] else COLORS["red"]
        (square,) = axes.plot(part["r_w"].mean(), part["nats"].mean(), ls="", marker="s", ms=4, mfc="none", color=color)
        handles[f"N = {part['n'].max():,}, last epoch"] = square
    ceiling = rows["ceiling"].max()
    if np.isfinite(ceiling):
        handles["ceiling, log N"] = axes.axhline(ceiling, color=COLORS["grey"], ls=":", lw=1.2)
    if rows["saturated"].any():
        (cross,) = axes.plot([], [], ls="", marker="x", ms=4, color=COLORS["grey"])
        handles["saturated"] = cross
    low, high = axes.get_ylim()
    axes.set_ylim(min(0.0, low) if len(rows) and rows["nats"].min() < 0 else 0.0, high * 1.05)
    kind = {"upper": "≥ I", "lower": "≤ I", "estimate": "no bound"}[str(rows["kind"].iloc[0])] if len(rows) else ""
    noise = f"τ = {tau:g}" if tau else "own noise"
    axes.set_title(f"{NAMES.get(method, method)}\n{noise}, {kind}, N = {n:,}", fontsize=6.5)
    return handles
