"""Deciders of the claims on width, from the table of `benchmarks/width_study.py`.

"A becomes low-rank if the network is over-parameterised", and the abstract's "increase accuracy by facilitating the use
of a larger base architecture"; and what the first would mean for the survivors. The study widens LeNet-300-100's
hidden layers by 1, 2, 4, 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vibtheory.claims.claim import Finding, Tally
from vibtheory.claims.effort import Effort
from vibtheory.figures.figure2_shape import mean_interval

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["interpolated", "larger_base", "low_rank", "survivors"]

TABLE = "width_study.csv"
NOT_TRIED = Finding(Tally())


def low_rank(effort: Effort) -> Finding:
    """Bare: rank[A] is at most d/2 in the widest net. Corrected: the share of the sharp soft rank falls with width."""
    table = effort.table(TABLE)
    if table is None:
        return NOT_TRIED
    tallies: dict[str, list[tuple[bool, str]]] = {"rank": [], "soft_rank_sharp": []}
    evidence: dict[str, Any] = {}
    for (layer, seed), own in table[table["certificate"] == "certified local minimum"].groupby(["layer", "seed"]):
        for column, outcomes in tallies.items():
            shares = (own[column] / own["d"]).groupby(own["width"]).mean()
            if len(shares) > 1:
                words = f"{layer}, seed {seed}: {column}/d = {shares.round(3).to_dict()}"
                limit = 0.5 if column == "rank" else np.nextafter(shares.iloc[0], 0)
                outcomes.append((bool(shares.iloc[-1] <= limit), words))
                evidence[f"{layer}, seed {seed}, {column}/d by width"] = shares.round(4).to_dict()
    return Finding(Tally.of(tallies["rank"]), Tally.of(tallies["soft_rank_sharp"]), evidence, "width_study.png")


def larger_base(effort: Effort) -> Finding:
    """At equal weights, interpolated over the prices, a wider base net errs less, or (corrected) not clearly more.

    Bare: the 95 % interval of the mean difference over seeds lies below 0; corrected: it does not lie above.
    """
    table = effort.table(TABLE)
    if table is None:
        return NOT_TRIED
    less, no_more, evidence = [], [], {}
    errors = interpolated(table, "weights", "error")
    for width in sorted(set(errors["width"]))[1:]:
        both = errors[errors["width"] == width].merge(errors[errors["width"] == errors["width"].min()], on="seed")
        difference = (both["value_x"] - both["value_y"]).dropna()
        if len(difference) > 1:
            mean, low, high = mean_interval(difference.to_numpy())
            words = f"width ×{width}: error changes by {mean:+.3f} points [{low:+.3f}, {high:+.3f}]"
            less.append((bool(high < 0), words))
            no_more.append((bool(low <= 0), words))
        if len(difference):
            evidence[f"width ×{width}: error at equal weights, points"] = [float(each) for each in difference]
    return Finding(Tally.of(less), Tally.of(no_more), evidence, "width_study.png")


def survivors(effort: Effort) -> Finding:
    """At equal error, no more gates of a layer survive ḡ's minimum in a wider net, interpolated over the prices."""
    table = effort.table(TABLE)
    if table is None:
        return NOT_TRIED
    outcomes, evidence = [], {}
    for layer, own in table.groupby("layer"):
        counts = interpolated(own, "error", "nonzeros")
        narrowest = counts[counts["width"] == counts["width"].min()]
        for width in sorted(set(counts["width"]))[1:]:
            both = counts[counts["width"] == width].merge(narrowest, on="seed")
            ratio = (both["value_x"] / both["value_y"]).dropna()
            if len(ratio):
                words = f"{layer}, width ×{width}: {ratio.mean():.3f} times the survivors over {len(ratio)} seeds"
                outcomes.append((bool(ratio.mean() <= 1), words))
                evidence[f"{layer}, width ×{width}: survivors at equal error, ratio"] = [float(each) for each in ratio]
    return Finding(Tally.of(outcomes), evidence=evidence, figure="width_study.png")


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
