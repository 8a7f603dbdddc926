"""Figure 2 from its table alone: the printed panels with ours over them, then I(h₁; x) against r_W."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from vibtheory.figures.figure2_shape import estimates, mean_interval
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["NAMES", "PRINTED_READING", "figure2", "printed_curves"]

PRINTED_READING = ("gaussian", 0.01)
"""Method and τ of the right-hand printed panel: ½ log det(I + Cov/τ²) is ½ log det(τ²I + Cov) plus a constant, the
likeliest reading of the printed axis (THEORY F (ii))."""

NAMES = {
    "plain": "½ Σ log(1+α), as trained",
    "variational": "variational (P2)",
    "variational_factorised": "variational, factorised",
    "gaussian": "Gaussian",
    "gaussian_tight": "Gaussian, tight",
    "logdet": "½ log det(τ²I + Cov)",
    "leave_one_out": "leave-one-out",
    "infonce": "InfoNCE",
    "pairwise": "pairwise KL",
    "pairwise_bhattacharyya": "pairwise Bhattacharyya",
    "per_unit": "Σ units, quadrature",
    "ksg": "KSG",
    "binning": "binning",
}
_COLUMNS = 5


def printed_curves() -> DataFrame:
    """The printed figure, read off by eye (about ± 2 nats, ± 0.01).

    Returns:
        Columns epoch, r_w_vibnet, r_w_regular (fractions), mi_vibnet, mi_regular (nats, plus an unknown constant).
    """
    import pandas as pd

    with resources.files("vibtheory").joinpath("data/figure2_poster.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream, comment="#")


def figure2(table: DataFrame, gamma: float) -> Figure:
    """Draw Figure 2.

    Top: r_W and I(h₁; x) against epoch, ours (solid; mean and 95 % interval over seeds; thin: the other prices' means)
    over the printed curves (dashed; I on an axis of its own, since it is printed with an unknown constant). Below:
    I(h₁; x) against r_W for every price, one panel per estimate, with the ceiling log N where the estimate has one;
    crosses mark saturated points.

    Args:
        table: from `vibtheory.sweep`, several of them concatenated; nothing else is read.
        gamma: price of the VIBNet in the top panels.

    Raises:
        InvalidInputError: a column is missing, no row, or no VIBNet of that price.
    """
    import matplotlib.pyplot as plt

    from vibtheory.errors import reject

    order = {name: place for place, name in enumerate(NAMES)}
    keys = sorted(estimates(table), key=lambda key: (order.get(key[0], len(order)), key[1]))
    main = table[table["gated"] & (table["gamma"] == gamma)]
    if main.empty:
        prices = sorted(set(table.loc[table["gated"], "gamma"]))
        reject("gamma", gamma, f"a price of the table: {prices}", "name one of those")
    lines = -(-len(keys) // _COLUMNS)
    with style():
        figure = plt.figure(figsize=(10.5, 3.4 + 2.0 * lines))
        grid = figure.add_gridspec(2, 1, height_ratios=[3.0, 0.4 + 2.0 * lines])
        printed, ours = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
        left, right = printed.subplots(1, 2)
        _sizes(left, table, gamma)
        _information(right, table, gamma)
        prices = sorted(set(table.loc[table["gated"], "gamma"]))
        shades = dict(zip(prices, plt.get_cmap("viridis")(np.linspace(0.0, 0.9, len(prices))), strict=True))
        handles: dict[str, Any] = {}
        for place, key in enumerate(keys):
            axes = ours.add_subplot(lines, _COLUMNS, 1 + place)
            rows = table[(table["method"] == key[0]) & (table["tau"] == key[1])]
            handles |= _against_size(axes, rows[np.isfinite(rows["nats"])], key, shades)
            if place % _COLUMNS == 0:
                axes.set_ylabel("I(h₁; x) [nats]")
            if place + _COLUMNS >= len(keys):
                axes.set_xlabel("r_W [%]")
        ours.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 9))
    return figure


def _sizes(axes: Axes, table: DataFrame, gamma: float) -> None:
    """Left printed panel: r_W as a fraction against epoch."""
    printed = printed_curves()
    one = table.drop_duplicates(["gated", "gamma", "seed", "epoch"])  # r_W is the same for every estimate
    _other_prices(axes, one, "r_w", gamma, scale=0.01)
    for net, color, part in _both_nets(one, gamma):
        _band(axes, part, "r_w", color, f"{net}, ours", scale=0.01)
        column = "r_w_vibnet" if net == "VIBNet" else "r_w_regular"
        axes.plot(printed["epoch"], printed[column], color=color, ls="--", lw=1.0, label=f"{net}, printed")
    axes.set(xlabel="epoch", ylabel="compression ratio r_W", ylim=(0, 1.08), xlim=(0, 200))
    axes.set_title(f"size; ours at γ = {gamma:g}")
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.93))


def _information(axes: Axes, table: DataFrame, gamma: float) -> None:
    """Right printed panel: I(h₁; x) against epoch, ours on the left axis, the printed curves on the right one."""
    method, tau = PRINTED_READING
    rows = table[(table["method"] == method) & (table["tau"] == tau)]
    rows = rows[rows["n"] == rows["n"].min()]
    printed, second = printed_curves(), axes.twinx()
    _other_prices(axes, rows, "nats", gamma)
    for net, color, part in _both_nets(rows, gamma):
        _band(axes, part, "nats", color, f"{net}, ours")
        second.plot(printed["epoch"], printed["mi_vibnet" if net == "VIBNet" else "mi_regular"], color=color, ls="--",
                    lw=1.0)  # fmt: skip
    axes.set(xlabel="epoch", ylabel="I(h₁; x) ≤ … [nats]", xlim=(0, 200))
    axes.set_title(f"information; ours: {NAMES[method]} bound, τ = {tau:g}")
    second.set(ylabel="printed: I(h₁; x) + constant [nats]")
    second.spines["right"].set_visible(True)
    second.grid(visible=False)


def _both_nets(table: DataFrame, gamma: float) -> list[tuple[str, str, DataFrame]]:
    gated = table[table["gated"] & (table["gamma"] == gamma)]
    return [("VIBNet", COLORS["blue"], gated), ("regular net", COLORS["red"], table[~table["gated"]])]


def _other_prices(axes: Axes, table: DataFrame, column: str, gamma: float, scale: float = 1.0) -> None:
    others = table[table["gated"] & (table["gamma"] != gamma)]
    for price, part in others.groupby("gamma"):
        mean = scale * part.groupby("epoch")[column].mean()
        axes.plot(mean.index, mean, color=COLORS["sky"], lw=0.7)
        axes.annotate(f"{price:g}", (mean.index[-1], mean.iloc[-1]), fontsize=6, color="#33779C", va="center")


def _band(axes: Axes, rows: DataFrame, column: str, color: str, label: str, scale: float = 1.0) -> None:
    """Mean over seeds against epoch, with its 95 % interval shaded."""
    if not len(rows):
        return
    by_epoch = rows.groupby("epoch")[column]
    epoch = np.array(list(by_epoch.groups), dtype=np.float64)
    intervals = [mean_interval(scale * group.to_numpy(dtype=np.float64), 0.0) for _, group in by_epoch]
    mean, low, high = np.array(intervals).T
    axes.plot(epoch, mean, color=color, label=label)
    axes.fill_between(epoch, low, high, color=color, alpha=0.2, lw=0)


def _against_size(axes: Axes, rows: DataFrame, key: tuple[str, float, int], shades: dict[float, Any]) -> dict[str, Any]:
    """One estimate: a path per price, from the untrained net on the right to the smallest on the left."""
    method, tau, n = key
    handles: dict[str, Any] = {}
    rows, larger = rows[rows["n"] == n], rows[rows["n"] > n]
    for gamma, color in shades.items():
        part = rows[rows["gated"] & (rows["gamma"] == gamma)]
        points = [
            (at["r_w"].mean(), *mean_interval(at["nats"].to_numpy(dtype=np.float64), 0.0), at["saturated"].any())
            for _, at in part.groupby("epoch")
        ]
        if not points:
            continue
        size, mean, low, high, full = np.array(points, dtype=np.float64).T
        (line,) = axes.plot(size, mean, color=color, marker=".", ms=3, lw=1.1)
        # along the path, since several epochs may have one size
        axes.fill(np.r_[size, size[::-1]], np.r_[low, high[::-1]], color=color, alpha=0.2, lw=0)
        flagged = full > 0
        axes.plot(size[flagged], mean[flagged], ls="", marker="x", ms=4, color=COLORS["grey"], zorder=5)
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
    axes.set_xscale("log")
    axes.set_ylim(bottom=min(0.0, float(rows["nats"].min())) if len(rows) else 0.0)
    kind = {"upper": "≥ I", "lower": "≤ I", "estimate": "no bound"}[str(rows["kind"].iloc[0])] if len(rows) else ""
    noise = f"τ = {tau:g}" if tau else "own noise"
    axes.set_title(f"{NAMES.get(method, method)}\n{noise}, {kind}, N = {n:,}", fontsize=8)
    return handles
