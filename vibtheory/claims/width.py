"""Deciders of the claims on width, from the table of `benchmarks/width_study.py`.

"A becomes low-rank if the network is over-parameterised", and the abstract's "increase accuracy by facilitating the use
of a larger base architecture"; and what the first would mean for the survivors. The study widens LeNet-300-100's
hidden layers by 1, 2, 4, 8. Judged at the widths that at least `SEEDS` seeds have, where a 95 % interval says more or
less; wider ones are shown beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.instances import Effort, NotRecorded
from vibtheory.claims.printed_tables import SEEDS
from vibtheory.figures.figure2_shape import mean_interval
from vibtheory.theory.certificate import CERTIFIED

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["interpolated", "larger_base", "low_rank", "survivors"]

_FIGURE = "width_study.png"


def _study(effort: Effort) -> tuple[DataFrame, list[int]]:
    """The table, and the widths that enough seeds have."""
    table = effort.table("width_study.csv", (
        "width", "seed", "gamma", "layer", "live", "rank", "soft_rank_sharp", "nonzeros", "certificate", "error",
        "weights",
    ))  # fmt: skip
    seeds = table.groupby("width")["seed"].nunique()
    widths = [int(width) for width in seeds.index[seeds >= SEEDS]]
    if len(widths) < 2:
        raise NotRecorded(f"width_study.csv has {len(widths)} widths with {SEEDS} seeds; two are needed")
    return table, widths


def low_rank(effort: Effort) -> Finding:
    """Bare: rank[A] is at most half the live units, in the widest net. Corrected: the sharp soft rank's share falls.

    Shares of the units that are not dead: a dead unit's column is 0 and lowers the rank without being redundant.
    """
    table, common = _study(effort)
    table = table[table["certificate"] == CERTIFIED]
    tallies: dict[str, list[Outcome]] = {"rank": [], "soft_rank_sharp": []}
    evidence: dict[str, Any] = {"judged at": f"×{common[-1]} against ×{common[0]}"}
    for (layer, seed), own in table.groupby(["layer", "seed"]):
        for column, outcomes in tallies.items():
            shares = (own[column] / own["live"]).groupby(own["width"]).mean()
            words = f"{layer}, seed {seed}: {column}/live = {shares.round(4).to_dict()}"
            evidence[words.split(" = ")[0]] = shares.round(4).to_dict()
            if set(common) <= set(shares.index):
                first, last = shares[common[0]], shares[common[-1]]
                outcomes.append((bool(last <= 0.5 if column == "rank" else last < first), words))
    return Finding(Tally.of(tallies["rank"]), Tally.of(tallies["soft_rank_sharp"]), evidence, _FIGURE)


def larger_base(effort: Effort) -> Finding:
    """At equal weights, interpolated over the prices, a wider base net errs less."""
    said = "error at equal weights, points", "change of the error, points"
    return _at_equal_size({"": _study(effort)[0]}, "weights", "error", np.subtract, 0.0, said)


def survivors(effort: Effort) -> Finding:
    """At equal error, fewer gates of a layer survive ḡ's minimum in a wider net, interpolated over the prices."""
    layers = {f"{layer}, ": own for layer, own in _study(effort)[0].groupby("layer")}
    said = "survivors at equal error, ratio", "ratio of survivors"
    return _at_equal_size(layers, "error", "nonzeros", np.divide, 1.0, said)


def _at_equal_size(
    tables: dict[str, DataFrame], size: str, value: str, compare: np.ufunc, target: float, said: tuple[str, str]
) -> Finding:
    """Whether `value` at equal `size`, `compare`d with the narrowest net's, lies below `target`: by table and width.

    Decided where its mean's 95 % interval says so or the opposite; `said` names the values and their mean.
    """
    outcomes: list[Outcome] = []
    evidence: dict[str, Any] = {}
    for part, table in tables.items():
        for width, wider, narrowest in _pairs(interpolated(table, size, value)):
            shown, name = (f"{part}width ×{width}: {words}" for words in said)
            values = compare(wider, narrowest)
            evidence[shown] = [float(each) for each in values]
            if len(values) >= SEEDS:
                mean, low, high = mean_interval(values)
                evidence[name] = f"{mean:.3f} [{low:.3f}, {high:.3f}]"
                if not low <= target <= high:
                    outcomes.append((high < target, f"{name}: {evidence[name]}"))
    why = {} if outcomes else {"why": f"{SEEDS} seeds do not resolve it: every 95 % interval contains no change"}
    return Finding(Tally.of(outcomes), None, evidence | why, _FIGURE)


def _pairs(values: DataFrame) -> list[tuple[int, Any, Any]]:
    """(width, its values, the narrowest net's) seed by seed, of seeds that have both."""
    widths = sorted({int(width) for width in values["width"]})
    by_seed = values.pivot_table(index="seed", columns="width", values="value")
    pairs = []
    for width in widths[1:]:
        both = by_seed.reindex(columns=[widths[0], width]).dropna()
        if len(both):
            pairs.append((width, both[width].to_numpy(), both[widths[0]].to_numpy()))
    return pairs


def interpolated(table: DataFrame, size: str, value: str) -> DataFrame:
    """`value` of each width and seed at equal `size`, linear in log `size` over the prices; NaN outside their range.

    The common `size` is the median over all runs. Columns width, seed, value.
    """
    import pandas as pd

    runs = table.drop_duplicates(["width", "seed", "gamma"])
    target = float(np.log(runs[size].median()))
    rows = []
    for (width, seed), own in runs.groupby(["width", "seed"]):
        ordered = own.sort_values(size)
        at = np.interp(target, np.log(ordered[size]), ordered[value], left=np.nan, right=np.nan)
        rows.append({"width": width, "seed": seed, "value": float(at)})
    return pd.DataFrame(rows, columns=["width", "seed", "value"])
