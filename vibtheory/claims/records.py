"""Deciders of what was printed: the tables' rows, how the metrics count, "state of the art", and Figure 2.

"Metrics" and "State of the art" read the printed rows alone; the others a recorded table, without which they are not
run. One rule for means over seeds, here and in `width`: at least `SEEDS` of them; "reaches" and "no worse" ask that the
mean be no worse than the target by more than half a unit of its last printed digit, "better" that the whole 95 %
interval be on the better side. Intervals stand in the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.effort import Effort, NotRecorded
from vibtheory.counting import Compression, fully_connected, lenet_5_caffe, vgg16
from vibtheory.figures.figure2_runs import GAMMA
from vibtheory.figures.figure2_shape import REQUIRED, mean_interval, shape_table
from vibtheory.tables import published

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "SEEDS", "figure2_regular", "figure2_size", "figure2_vibnet", "metrics", "size_and_information",
    "state_of_the_art", "table_row",
]  # fmt: skip

SEEDS = 3  # fewer decide nothing
_SIZES = {"r_w": "r_w", "r_n": "r_n", "flop": "flop_mil"}  # ours → printed
_MILLION = {"flop": 1e6}


def _vibnet(table: int, row: str) -> dict[str, Any]:
    """The printed row of VIBNet; of Tables 3 and 4 the one that `row` names, such as 3.2."""
    ours = [line for line in published(table).to_dict("records") if line["method"] == "VIBNet"]
    return {str(key): value for key, value in ours[int(row.split(".")[1]) - 1 if row else 0].items()}


def _unit(table: int, column: str) -> float:
    """One unit of the last printed digit."""
    if column.startswith("error"):
        return 0.1
    return 0.01 if column != "flop_mil" else 0.001 if table == 2 else 0.1


def table_row(effort: Effort, table: int, row: str = "") -> Finding:
    """Ours against VIBNet's printed row: no mean over seeds worse by more than half a unit of the last printed digit.

    Bare: the sizes, and the error of the pruned nets; where an error in parentheses is printed, fine-tuned nets are
    held against that. Corrected, where none is: the sizes, and the error after fine-tuning.
    """
    name = f"table{table}.csv"
    results = effort.table(name, ("mode", "stage", "seed", "error_last", *_SIZES, *(["row"] if row else [])))
    results = results[results["mode"] == "full"]
    if row:
        results = results[results["row"].astype(str) == row]
    seeds = sorted({int(seed) for seed in results["seed"]})
    if len(seeds) < SEEDS:
        raise NotRecorded(f"{name} has {len(seeds)} full runs{row and ' of row ' + row}; {SEEDS} are needed")
    printed = _vibnet(table, row)
    evidence: dict[str, Any] = {"seeds": seeds}

    def judged(label: str, values: Any, column: str) -> list[Outcome]:
        if math.isnan(printed[column]):
            return []
        mean, low, high = mean_interval(values.to_numpy(dtype=np.float64))
        evidence[label] = f"{mean:.4g} [{low:.4g}, {high:.4g}], printed {printed[column]:g}"
        return [(bool(mean <= printed[column] + _unit(table, column) / 2), f"{label}: {evidence[label]}")]

    stages = {str(stage): group for stage, group in results.groupby("stage")}
    pruned, tuned = stages["pruned"], stages.get("finetuned")
    sizes = [
        outcome
        for ours, column in _SIZES.items()
        for outcome in judged(column, pruned[ours] / _MILLION.get(ours, 1.0), column)
    ]
    bare = [*sizes, *judged("error, pruned", pruned["error_last"], "error")]
    corrected = None
    if tuned is not None and math.isnan(printed["error_finetuned"]):
        corrected = Tally.of([*sizes, *judged("error, fine-tuned", tuned["error_last"], "error")])
    elif tuned is not None:
        bare += judged("error, fine-tuned", tuned["error_last"], "error_finetuned")
    return Finding(Tally.of(bare), corrected, evidence, f"table{table}.png")


def _recount(table: int, kept: list[int]) -> Compression:
    if table == 1:
        return fully_connected((784, 300, 100, 10), kept)
    return lenet_5_caffe(*kept) if table == 2 else vgg16(kept)


def metrics(effort: Effort) -> Finding:
    """r_W, r_N and FLOP follow from each printed architecture; bare: in every row, corrected: where no note objects.

    To within a whole unit of the last printed digit: some rows are rounded, some truncated.
    """
    bare: list[Outcome] = []
    corrected: list[Outcome] = []
    for table in (1, 2, 3):
        for line in published(table).to_dict("records"):
            if not line["architecture"]:
                continue
            found = _recount(table, [int(k) for k in str(line["architecture"]).split("-")])
            wrong = {}
            for ours, column in _SIZES.items():
                value = getattr(found, ours) / _MILLION.get(ours, 1.0)
                if not math.isnan(line[column]) and abs(value - line[column]) > 1.001 * _unit(table, column):
                    wrong[column] = f"{value:.4g}, printed {line[column]:g}"
            words = f"Table {table}, {line['method']} {line['architecture']}: {wrong}"
            bare.append((not wrong, words))
            # A note beside the row, such as "542-83-61 gives r_W 19.03, …", states what we find: the known exception.
            if not (wrong and "gives r_W" in line["note"] and set(wrong) == {"r_w"}):
                corrected.append((not wrong, words))
    return Finding(Tally.of(bare), Tally.of(corrected))


def state_of_the_art(effort: Effort) -> Finding:
    """No printed method with an error as low is smaller. Bare: in r_W, r_N and FLOP; corrected: in r_N and FLOP.

    An error as low: at most half a unit of its last digit above VIBNet's, before fine-tuning.
    """
    bare: list[Outcome] = []
    corrected: list[Outcome] = []
    evidence: dict[str, Any] = {"read from": "the printed rows alone"}
    for table in (1, 2, 3, 4):
        rivals: list[dict[Any, Any]] = []
        before = len(bare)
        for line in published(table).to_dict("records"):
            if line["method"] != "VIBNet":
                rivals.append(line)
                continue
            for column in _SIZES.values():
                for rival in rivals:
                    if rival["error"] <= line["error"] + 0.05 and not math.isnan(rival[column]):
                        theirs = f"{rival['method']} has {column} {rival[column]:g} at error {rival['error']:g}"
                        words = f"Table {table}: {theirs}, VIBNet {line[column]:g} at {line['error']:g}"
                        bare.append((line[column] <= rival[column], words))
                        if column != "r_w":
                            corrected.append(bare[-1])
            rivals = []
        evidence[f"Table {table}: comparisons at an error as low"] = len(bare) - before
    return Finding(Tally.of(bare), Tally.of(corrected), evidence)


def _figure2(effort: Effort) -> DataFrame:
    """The recorded table of Figure 2 at its own price, with the regular nets; in quick mode the short one's will do."""
    try:
        table = effort.table("figure2.csv", REQUIRED)
    except NotRecorded:
        if effort.mode == "full":
            raise
        table = effort.table("figure2_quick.csv", REQUIRED)
    table = table[~table["gated"] | (table["gamma"] == GAMMA)]
    if table["gated"].nunique() < 2:
        raise NotRecorded("figure2.csv has no VIBNets, or no regular nets; the command makes both")
    return table


def figure2_size(effort: Effort) -> Finding:
    """Figure 2, left: VIBNet's r_W leaves 1 and falls, below ½; the regular net's stays at 1."""
    outcomes: list[Outcome] = []
    ends = []
    for (gated, seed), run in _figure2(effort).groupby(["gated", "seed"]):
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


def figure2_vibnet(effort: Effort) -> Finding:
    """Figure 2, right: I(h₁; x) of every VIBNet rises, turns and falls below its start.

    Bare: whichever of the estimates is drawn. Corrected: ½ log det(I + Cov/τ²) at the least recorded noise τ.
    """
    table = _figure2(effort)
    every, chosen = _runs(table[table["gated"]], _as_printed)
    beside = [_as_printed(run) for run in _curves(table[~table["gated"]], chosen=True)]
    evidence: dict[str, Any] = {
        "regular nets beside them, weights decayed, of that shape too": f"{sum(beside)} of {len(beside)}",
        **_shapes(table[table["gated"]], effort),
    }
    return Finding(Tally.of(every), Tally.of(chosen), evidence, "figure2.png")


def figure2_regular(effort: Effort) -> Finding:
    """Figure 2, right: I(h₁; x) of every regular net rises, and does not turn.

    Bare: the nets beside the VIBNets, by every estimate. Corrected: those whose weights are not decayed, by
    ½ log det(I + Cov/τ²) at the least recorded noise τ.
    """
    table = _figure2(effort)
    every, _ = _runs(table[~table["gated"]], _rises)
    evidence: dict[str, Any] = _shapes(table[~table["gated"]], effort)
    try:
        undecayed = effort.table("figure2_decay.csv", REQUIRED)
    except NotRecorded:
        return Finding(Tally.of(every), None, evidence, "figure2.png")
    regular = undecayed[~undecayed["gated"]]
    _, chosen = _runs(regular, _rises)
    evidence["without decay: largest dip on the way, nats"] = [
        float((np.maximum.accumulate(run.nats) - run.nats).max()) for run in _curves(regular, chosen=True)
    ]
    return Finding(Tally.of(every), Tally.of(chosen), evidence, "figure2.png")


def size_and_information(effort: Effort) -> Finding:
    """Over prices and seeds, the smaller net's I(h₁; x) is smaller: Spearman's ρ of I and r_W after the last epoch > 0.

    Its 95 % interval, by bootstrap over seeds, lies above 0. Bare: by every estimate; corrected: by every one that is
    not at its ceiling, log N, where it says nothing.
    """
    table = effort.table("figure2.csv", REQUIRED)
    gated = table[table["gated"]]
    if gated["gamma"].nunique() < 2 or gated["seed"].nunique() < SEEDS:
        raise NotRecorded(f"figure2.csv has fewer than two prices, or than {SEEDS} seeds; the command makes more")
    bare: list[Outcome] = []
    corrected: list[Outcome] = []
    evidence: dict[str, Any] = {}
    shapes = shape_table(table, effort.seed)
    for line in shapes[shapes["net"] == "all VIBNets"].to_dict("records"):
        own = gated[(gated["method"] == line["method"]) & (gated["tau"] == line["tau"]) & (gated["n"] == line["n"])]
        full = float(own["saturated"].mean())
        name = f"{line['method']}, τ = {line['tau']:g}"
        interval = [line["spearman_last_low"], line["spearman_last_high"]]
        evidence[f"{name}: ρ"] = [line["spearman_last"], *interval]
        outcome = (bool(interval[0] > 0), f"{name}: ρ {line['spearman_last']:.3g}, {full:.0%} of the points saturated")
        bare.append(outcome)
        if full <= 0.5:
            corrected.append(outcome)
    return Finding(Tally.of(bare), Tally.of(corrected), evidence, "figure2.png")


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


def _runs(table: DataFrame, wanted: Callable[[_Curve], bool]) -> tuple[list[Outcome], list[Outcome]]:
    """Outcomes of every estimate and net, and of the chosen estimate's."""

    def outcomes(curves: list[_Curve]) -> list[Outcome]:
        return [(wanted(run), f"{run.name}: {np.round(run.nats, 1).tolist()}") for run in curves]

    return outcomes(_curves(table)), outcomes(_curves(table, chosen=True))


def _shapes(table: DataFrame, effort: Effort) -> dict[str, Any]:
    """The mean curve in words, by estimate."""
    shapes = shape_table(table, effort.seed)
    lines = shapes[shapes["net"].isin(["VIBNet", "regular"])].to_dict("records")
    return {f"{line['method']}, τ = {line['tau']:g}: mean curve": line["shape"] for line in lines}
