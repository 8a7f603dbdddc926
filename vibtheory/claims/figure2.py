"""Deciders of Figure 2, left and right, and of I(h₁; x) against size, from the table of `vibtheory figure 2`.

Judged net by net. Which estimate the paper draws is not said: the bare claims ask for the printed shape from all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.instances import Effort, NotRecorded
from vibtheory.claims.printed_tables import SEEDS
from vibtheory.figures.figure2_shape import MAY_BE_EMPTY, REQUIRED, mean_interval, shape_table
from vibtheory.studies.figure2 import GAMMA

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["regular", "size", "size_and_information", "vibnet"]


def _table(effort: Effort) -> DataFrame:
    """The recorded table of Figure 2 at its own price, with the regular nets; in quick mode the short one's will do."""
    try:
        table = effort.table("figure2.csv", REQUIRED, MAY_BE_EMPTY)
    except NotRecorded:
        if effort.mode == "full":
            raise
        table = effort.table("figure2_quick.csv", REQUIRED, MAY_BE_EMPTY)
    table = table[~table["gated"] | (table["gamma"] == GAMMA)]
    if table["gated"].nunique() < 2:
        raise NotRecorded("figure2.csv has no VIBNets, or no regular nets; the command makes both")
    return table


def _undecayed(effort: Effort) -> DataFrame | None:
    """Nets of both kinds without weight decay, if they are recorded."""
    try:
        return effort.table("figure2_panels.csv", REQUIRED, MAY_BE_EMPTY)
    except NotRecorded:
        return None


def size(effort: Effort) -> Finding:
    """Figure 2, left: VIBNet's r_W leaves 1 and falls, below ½; the regular net's stays at 1."""
    outcomes: list[Outcome] = []
    ends = []
    for (gated, seed), run in _table(effort).groupby(["gated", "seed"]):
        sizes = run.groupby("epoch")["r_w"].first()
        if gated:
            ends.append(float(sizes.iloc[-1]))
            held = sizes.iloc[0] == 100 and bool((sizes.diff().dropna() <= 1e-9).all()) and sizes.iloc[-1] < 50
        else:
            held = bool((sizes == 100).all())
        outcomes.append((held, f"{'VIBNet' if gated else 'regular'}, seed {seed}: {sizes.tolist()}"))
    mean, low, high = mean_interval(np.array(ends))
    evidence = {"last r_W of VIBNet (%)": mean, "95 % interval": [low, high], "printed at epoch 200 (%)": 18}
    return Finding(Tally.of(outcomes), evidence=evidence, figure="figure2.png")


def vibnet(effort: Effort) -> Finding:
    """Figure 2, right: I(h₁; x) of every VIBNet rises, turns and falls below its start.

    Bare: whichever of the estimates is drawn. Corrected: ½ log det(I + Cov/τ²) at the least recorded noise τ, of the
    VIBNets whose weights are not decayed too, where those are recorded.
    """
    table = _table(effort)
    every = _outcomes(table[table["gated"]], _as_printed)
    chosen = _outcomes(table[table["gated"]], _as_printed, chosen=True)
    undecayed = _undecayed(effort)
    if undecayed is not None:
        chosen += _outcomes(undecayed[undecayed["gated"]], _as_printed, chosen=True)
    beside = [_as_printed(run) for run in _curves(table[~table["gated"]], chosen=True)]
    evidence: dict[str, Any] = {
        "regular nets beside them, weights decayed, of that shape too": f"{sum(beside)} of {len(beside)}",
        **_shapes(table[table["gated"]], effort),
    }
    return Finding(Tally.of(every), Tally.of(chosen), evidence, "figure2.png")


def regular(effort: Effort) -> Finding:
    """Figure 2, right: I(h₁; x) of every regular net rises, to within 5 % of its top at the end (the 5 % are ours).

    Bare: the nets beside the VIBNets, by every estimate. Corrected: those whose weights are not decayed, by
    ½ log det(I + Cov/τ²) at the least recorded noise τ.
    """
    table = _table(effort)
    every = _outcomes(table[~table["gated"]], _rises)
    evidence: dict[str, Any] = _shapes(table[~table["gated"]], effort)
    undecayed = _undecayed(effort)
    if undecayed is None:
        why = {"why": "no figure2_panels.csv is recorded; the command makes it"}
        return Finding(Tally.of(every), Tally(), evidence | why, "figure2.png")
    undecayed = undecayed[~undecayed["gated"]]
    chosen = _outcomes(undecayed, _rises, chosen=True)
    evidence["without decay: largest dip on the way, nats"] = [
        float((np.maximum.accumulate(run.nats) - run.nats).max()) for run in _curves(undecayed, chosen=True)
    ]
    return Finding(Tally.of(every), Tally.of(chosen), evidence, "figure2.png")


def size_and_information(effort: Effort) -> Finding:
    """Over prices and seeds, the smaller net's I(h₁; x) is smaller: Spearman's ρ of I and r_W after the last epoch > 0.

    Its 95 % interval, by bootstrap over seeds, lies above 0, by every estimate that has one: at the ceiling log N of
    nearly all points an estimate is a constant, and ρ is not defined.
    """
    table = effort.table("figure2.csv", REQUIRED, MAY_BE_EMPTY)
    gated = table[table["gated"]]
    if gated["gamma"].nunique() < 2 or gated["seed"].nunique() < SEEDS:
        raise NotRecorded(f"figure2.csv has fewer than two prices, or than {SEEDS} seeds; the command makes more")
    outcomes: list[Outcome] = []
    evidence: dict[str, Any] = {}
    shapes = shape_table(table, effort.seed)
    for line in shapes[shapes["net"] == "all VIBNets"].to_dict("records"):
        name = f"{line['method']}, τ = {line['tau']:g}"
        interval = [line["spearman_last_low"], line["spearman_last_high"]]
        if np.isnan(interval).any():
            evidence[f"{name}: ρ"] = "not defined: at its ceiling"
            continue
        evidence[f"{name}: ρ"] = [line["spearman_last"], *interval]
        outcomes.append((bool(interval[0] > 0), f"{name}: ρ {line['spearman_last']:.3g}, interval {interval}"))
    return Finding(Tally.of(outcomes), None, evidence, "figure2.png")


@dataclass(frozen=True)
class _Curve:
    """One net's estimate of I(h₁; x) against epoch: nats [epochs], the noise of a difference, share at the ceiling."""

    name: str
    nats: NDArray[np.float64]
    noise: float
    saturated: float


def _curves(table: DataFrame, *, chosen: bool = False) -> list[_Curve]:
    """Every estimate of every net; `chosen`: those of ½ log det(I + Cov/τ²) at the least recorded noise τ."""
    if chosen:
        table = table[table["method"] == "gaussian"]
        table = table[table["tau"] == table["tau"].min()]
    curves = []
    for (method, tau), own in table.groupby(["method", "tau"]):
        smallest = own[own["n"] == own["n"].min()]  # larger ones are of last epochs only
        for seed, run in smallest.groupby("seed"):
            ordered = run.sort_values("epoch")
            if len(ordered) > 1:
                noise = 4 * float(np.nan_to_num(ordered["stderr"].max()))
                nats, full = ordered["nats"].to_numpy(dtype=np.float64), float(ordered["saturated"].mean())
                curves.append(_Curve(f"{method}, τ = {tau:g}, seed {seed}", nats, noise, full))
    return curves


def _as_printed(run: _Curve) -> bool:
    """Rises, turns and falls below its start, by more than four standard errors each."""
    start, top, end = run.nats[0], run.nats.max(), run.nats[-1]
    return bool(run.saturated <= 0.5 and min(top - start, top - end, start - end) > run.noise)


def _rises(run: _Curve) -> bool:
    """Rises by more than four standard errors, and ends within 5 % of the rise below its top."""
    start, top, end = run.nats[0], run.nats.max(), run.nats[-1]
    return bool(run.saturated <= 0.5 and top - start > run.noise and top - end <= 0.05 * (top - start))


def _outcomes(table: DataFrame, wanted: Callable[[_Curve], bool], *, chosen: bool = False) -> list[Outcome]:
    curves = _curves(table, chosen=chosen)
    return [(wanted(run), f"{run.name}: {np.round(run.nats, 1).tolist()}") for run in curves]


def _shapes(table: DataFrame, effort: Effort) -> dict[str, Any]:
    """The mean curve in words, by estimate."""
    shapes = shape_table(table, effort.seed)
    lines = shapes[shapes["net"].isin(["VIBNet", "regular"])].to_dict("records")
    return {f"{line['method']}, τ = {line['tau']:g}: mean curve": line["shape"] for line in lines}
