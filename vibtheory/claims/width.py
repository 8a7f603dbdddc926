"""Deciders of the claims on width, from the table of `benchmarks/width_study.py`.

"A becomes low-rank if the network is over-parameterised", and the abstract's "increase accuracy by facilitating the use
of a larger base architecture"; and what the first would mean for the survivors. The study widens LeNet-300-100's
hidden layers by 1, 2, 4, 8. Judged at the widths that at least `SEEDS` seeds have; wider ones are shown beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.effort import Effort, NotRecorded
from vibtheory.claims.records import SEEDS
from vibtheory.figures.figure2_shape import mean_interval
from vibtheory.theory.certificate import CERTIFIED

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["interpolated", "larger_base", "low_rank", "survivors"]

_FIGURE = "width_study.png"
_HALF_A_DIGIT = 0.05  # points of error, as in the tables


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
    """At equal weights, interpolated over the prices, a wider base net errs less, or (corrected) no more.

    Bare: the 95 % interval of the mean difference over seeds lies below 0. Corrected: the mean is at most half a
    printed digit above 0, 0.05 points.
    """
    errors = interpolated(_study(effort)[0], "weights", "error")
    less: list[Outcome] = []
    no_more: list[Outcome] = []
    evidence: dict[str, Any] = {}
    for width, wider, narrowest in _pairs(errors):
        difference = wider - narrowest
        evidence[f"width ×{width}: error at equal weights, points"] = [float(each) for each in difference]
        if len(difference) >= SEEDS:
            mean, low, high = mean_interval(difference)
            words = f"width ×{width}: error changes by {mean:+.3f} points [{low:+.3f}, {high:+.3f}]"
            less.append((bool(high < 0), words))
            no_more.append((bool(mean <= _HALF_A_DIGIT), words))
    return Finding(Tally.of(less), Tally.of(no_more), evidence, _FIGURE)


def survivors(effort: Effort) -> Finding:
    """At equal error, no more gates of a layer survive ḡ's minimum in a wider net, interpolated over the prices.

    No more: the mean ratio over seeds is at most 1; its interval stands beside.
    """
    outcomes: list[Outcome] = []
    evidence: dict[str, Any] = {}
    for layer, own in _study(effort)[0].groupby("layer"):
        for width, wider, narrowest in _pairs(interpolated(own, "error", "nonzeros")):
            ratio = wider / narrowest
            evidence[f"{layer}, width ×{width}: survivors at equal error, ratio"] = [float(each) for each in ratio]
            if len(ratio) >= SEEDS:
                mean, low, high = mean_interval(ratio)
                words = f"{layer}, width ×{width}: {mean:.3f} times the survivors [{low:.3f}, {high:.3f}]"
                outcomes.append((bool(mean <= 1), words))
    return Finding(Tally.of(outcomes), evidence=evidence, figure=_FIGURE)


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
