"""Figure 2 in numbers and words: which estimates rise, turn and fall, when, and how I(h₁; x) goes with r_W."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vibtheory.errors import as_generator
from vibtheory.storage.schema import check_columns
from vibtheory.studies.tables import markdown

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["MAY_BE_EMPTY", "NAMES", "REQUIRED", "SHAPES", "caption", "estimates", "mean_interval", "shape_table",
           "shape_words"]  # fmt: skip

REQUIRED = ("gated", "gamma", "seed", "epoch", "r_w", "method", "tau", "n", "nats", "stderr", "kind", "saturated",
            "ceiling")  # fmt: skip
MAY_BE_EMPTY = ("stderr",)  # a bound in closed form has none
SHAPES = (
    "rises, turns, falls below its start", "rises, turns, falls", "falls from the start", "rises", "undecided",
    "saturated", "rises, then undecided",
)  # fmt: skip
"""What `shape_table` calls a curve; the first is the printed VIBNet's, "rises" the printed regular net's."""

NAMES = {
    "plain": "½ Σ log(1+α), as trained",
    "variational": "variational (P2)",
    "variational_factorised": "variational, factorised",
    "gaussian": "Gaussian",
    "gaussian_tight": "Gaussian, tight",
    "logdet": "½ log det(τ²I + Cov)",
    "leave_one_out": "leave-one-out",
    "leave_one_out_per_unit": "Σ units, leave-one-out",
    "infonce": "InfoNCE",
    "pairwise": "pairwise KL",
    "pairwise_bhattacharyya": "pairwise Bhattacharyya",
    "per_unit": "Σ units, quadrature",
    "ksg": "KSG",
    "binning": "binning",
}

_BOOTSTRAP = 2000
Array = NDArray[np.float64]


def estimates(table: DataFrame) -> list[tuple[str, float, int]]:
    """(method, tau, n) of every curve, by method and tau; n is the smallest: larger ones are of last epochs only.

    Raises:
        InvalidInputError: a column is missing or holds something else, or there is no row.
    """
    check_columns("table", table, REQUIRED, MAY_BE_EMPTY)
    smallest = table.groupby(["method", "tau"], as_index=False)["n"].min()
    columns = (smallest[name] for name in ("method", "tau", "n"))
    return [(str(method), float(tau), int(n)) for method, tau, n in zip(*columns, strict=True)]


def shape_table(table: DataFrame, seed: int = 0) -> DataFrame:
    """One row per estimate and price: the shape of its curve against epoch; and its correlation with r_W.

    Args:
        table: from `vibtheory.sweep`, several of them concatenated.
        seed: of the bootstrap.

    Returns:
        Columns method, tau, n, net ("VIBNet" or "regular"), gamma (0: regular), seeds, epochs (the last one); start,
        top (at the epoch of the mean curve's maximum) and end: nats, mean over seeds; rise (top − start) and fall
        (top − end) with 95 % intervals over seeds (rise_low … fall_high; Student's t, or the estimates' own standard
        errors with one seed); turn: median over seeds of the recorded epoch of the largest value, turn_low, turn_high:
        smallest and largest over seeds; saturated: share of the curve's points; shape in words. spearman with its
        interval: rank correlation of I with r_W over recorded epochs after the first and seeds, 95 % by bootstrap over
        seeds (NaN with one seed). A last row per estimate, net "all VIBNets", has the same over all prices, and
        spearman_last, over the last epochs' nets only.

    Raises:
        InvalidInputError: as `estimates`.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for method, tau, n in estimates(table):
        own = table[(table["method"] == method) & (table["tau"] == tau) & (table["n"] == n)]
        key = {"method": method, "tau": tau, "n": n}
        for (gated, gamma), part in own.groupby(["gated", "gamma"]):
            if part["epoch"].nunique() > 1:
                size = _correlation("spearman", _after(part), seed) if gated else {}
                rows.append({**key, "net": "VIBNet" if gated else "regular", "gamma": gamma, **_shape(part), **size})
        after = _after(own[own["gated"]])
        if after["gamma"].nunique() > 1:
            last = after[after["epoch"] == after.groupby(["gamma", "seed"])["epoch"].transform("max")]
            both = {**_correlation("spearman", after, seed), **_correlation("spearman_last", last, seed)}
            rows.append({**key, "net": "all VIBNets", **both})
    return pd.DataFrame(rows)


def mean_interval(values: Array, own_error: float = math.nan) -> tuple[float, float, float]:
    """Mean and 95 % interval (Student's t) of independent `values` [n]; of one value, ± 1.96 of its `own_error`.

    `own_error` is the standard error of that value, and not used where there are several.
    """
    mean = float(np.mean(values))
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    else:
        half = 1.96 * own_error
    return mean, mean - half, mean + half


def _shape(part: DataFrame) -> dict[str, Any]:
    curves = part.pivot_table(index="seed", columns="epoch", values="nats", aggfunc="mean").dropna()  # [seeds, epochs]
    errors = part.pivot_table(index="seed", columns="epoch", values="stderr", aggfunc="mean", dropna=False)
    epochs, values = curves.columns.to_numpy(), curves.to_numpy()
    turn = epochs[values.argmax(axis=1)]
    high = values[:, values.mean(axis=0).argmax()]  # one epoch for all seeds: each one's own maximum picks up noise
    noise = float(np.sqrt(2) * np.nanmax(errors.to_numpy())) if errors.notna().to_numpy().any() else math.nan
    rise, rise_low, rise_high = mean_interval(high - values[:, 0], noise)
    fall, fall_low, fall_high = mean_interval(high - values[:, -1], noise)
    _, below_low, _ = mean_interval(values[:, 0] - values[:, -1], noise)
    saturated = float(part["saturated"].mean())
    return {
        "seeds": len(values), "epochs": int(epochs[-1]), "start": float(values[:, 0].mean()), "top": float(high.mean()),
        "end": float(values[:, -1].mean()), "rise": rise, "rise_low": rise_low, "rise_high": rise_high,
        "fall": fall, "fall_low": fall_low, "fall_high": fall_high, "turn": float(np.median(turn)),
        "turn_low": int(turn.min()), "turn_high": int(turn.max()), "saturated": saturated,
        "shape": _words(rise_low > 0, fall_low > 0, fall > 0, below_low > 0, saturated),
    }  # fmt: skip


def _words(rises: bool, falls: bool, lower: bool, below: bool, saturated: float) -> str:
    """`lower`: the end lies below the top, be it decided or not."""
    as_printed, back, falls_only, rises_only, undecided, full, open_end = SHAPES
    if saturated > 0.5:
        return full
    if rises and falls:
        return as_printed if below else back
    if falls:
        return falls_only
    if rises:
        return open_end if lower else rises_only
    return undecided


def _after(rows: DataFrame) -> DataFrame:
    """Rows with training behind them: before it, all nets have r_W = 100 % and differ by chance."""
    return rows[rows["epoch"] > 0]


def _correlation(name: str, rows: DataFrame, seed: int) -> dict[str, float]:
    """Spearman's ρ of I and r_W; interval by bootstrap over seeds, since epochs and prices of a seed go together."""
    by_seed = [group[["nats", "r_w"]].to_numpy(dtype=np.float64) for _, group in rows.groupby("seed")]
    low = high = math.nan
    if len(by_seed) > 1:
        generator = as_generator("seed", seed, "bootstrap over seeds")
        picks = np.sort(generator.integers(0, len(by_seed), size=(_BOOTSTRAP, len(by_seed))), axis=1)
        different, count = np.unique(picks, axis=0, return_counts=True)  # few: the order does not matter
        drawn = np.repeat([_spearman([by_seed[k] for k in pick]) for pick in different], count)
        low, high = np.quantile(drawn, (0.025, 0.975))
    return {name: _spearman(by_seed), f"{name}_low": float(low), f"{name}_high": float(high)}


def _spearman(by_seed: list[Array]) -> float:
    points = np.concatenate(by_seed)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 3 or (points.min(axis=0) == points.max(axis=0)).any():
        return math.nan  # constant: no ranks to compare
    first, second = stats.rankdata(points, axis=0).T
    return float(np.corrcoef(first, second)[0, 1])


def caption(shape: DataFrame, gamma: float) -> str:
    """One sentence per shape with the estimates that have it, for the VIBNet at `gamma` and for the regular net.

    Args:
        shape: from `shape_table`.
        gamma: price of the VIBNet.

    Returns:
        The sentences, a line each. A turn comes with its epoch, the median over seeds.
    """
    vibnet = shape[(shape["net"] == "VIBNet") & (shape["gamma"] == gamma)]
    regular = shape[shape["net"] == "regular"]
    lines = []
    for name, rows in ((f"VIBNet, γ = {gamma:g}", vibnet), ("Regular net", regular)):
        if not len(rows):
            continue
        size = f"{int(rows['seeds'].max())} seeds, {int(rows['epochs'].max())} epochs"
        lines.append(f"{name} ({size}), by estimate [τ, or τ@epoch of the turn]:")
        for words in SHAPES:
            part = rows[rows["shape"] == words]
            if len(part):
                lines.append(f"{words}: {_listed(part, turn='turns' in words)}.")
    return "\n".join(lines)


def _listed(rows: DataFrame, turn: bool) -> str:
    """Methods in the order of `NAMES`, each with its τ's; τ = 0 is the gates' own noise."""
    noise: dict[str, list[str]] = {}
    present = set(rows["method"])
    for method in [*(name for name in NAMES if name in present), *sorted(present - set(NAMES))]:
        own = rows[rows["method"] == method].sort_values("tau")
        noise[NAMES.get(method, method)] = [
            (f"{tau:g}" if tau else "own noise") + (f"@{epoch:g}" if turn else "")
            for tau, epoch in zip(own["tau"], own["turn"], strict=True)
        ]
    return "; ".join(f"{name} [{', '.join(taus)}]" for name, taus in noise.items())


def shape_words(shape: DataFrame) -> str:
    """`shape` as Markdown: what each estimate does, when it turns, and how it goes with r_W."""
    import pandas as pd

    lines = []
    for row in shape.to_dict("records"):
        curve = row["net"] != "all VIBNets"
        levels = f"{row['start']:.4g} → {row['top']:.4g} → {row['end']:.4g}"
        lines.append(
            {
                "method": row["method"],
                "τ": f"{row['tau']:g}",
                "net": row["net"] + (f", γ = {row['gamma']:g}" if row["net"] == "VIBNet" else ""),
                "shape": f"{row['shape']} ({row['seeds']:g} seeds, {row['epochs']:g} epochs)" if curve else "",
                "start → top → end (nats)": levels if curve else "",
                "turns at epoch": f"{row['turn']:g} ({row['turn_low']:g}…{row['turn_high']:g})" if curve else "",
                "Spearman ρ(I, r_W)": _interval(row, "spearman"),
                "of the last epochs": _interval(row, "spearman_last"),
            }
        )
    return "Figure 2 in numbers (95 % intervals over seeds)\n\n" + markdown(pd.DataFrame(lines))


def _interval(row: dict[Any, Any], name: str) -> str:
    value, low, high = (float(row.get(f"{name}{end}", math.nan)) for end in ("", "_low", "_high"))
    if math.isnan(value):
        return ""
    return f"{value:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")
