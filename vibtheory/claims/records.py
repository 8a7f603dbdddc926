"""Deciders of what was printed: the tables' rows, how the metrics count, "state of the art", Figure 2, and width.

They read recorded tables only; a table that is not there makes the claim "not run".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from vibtheory.claims.claim import Finding, Tally
from vibtheory.claims.effort import Effort
from vibtheory.counting import Compression, fully_connected, lenet_5_caffe, vgg16
from vibtheory.figures.figure2_runs import GAMMA
from vibtheory.figures.figure2_shape import mean_interval, shape_table
from vibtheory.tables import published

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["figure2_regular", "figure2_size", "figure2_vibnet", "metrics", "state_of_the_art", "table_row"]

NOT_TRIED = Finding(Tally())
_PRINTED = (("r_w", "r_w", 0.01, 1.0), ("r_n", "r_n", 0.01, 1.0), ("flop", "flop_mil", None, 1e6))


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
    """Ours against VIBNet's printed row: no number significantly worse.

    A number breaks the claim where even the lower end of its 95 % interval over seeds (Student's t; the value itself
    with one seed) lies above the printed one by more than half a unit of its last digit. Fine-tuned nets are held
    against the error in parentheses where one is printed.
    """
    results = effort.table(f"table{table}.csv")
    if results is not None:
        results = results[results["mode"] == "full"]
        if row:
            results = results[results["row"].astype(str) == row] if "row" in results else results.iloc[:0]
    if results is None or results.empty:
        return NOT_TRIED
    printed = _vibnet(table, row)
    outcomes: list[tuple[bool, str]] = []
    evidence: dict[str, Any] = {}
    for stage, group in results.groupby("stage"):
        error = "error_finetuned" if stage == "finetuned" and not math.isnan(printed["error_finetuned"]) else "error"
        for name, column in (("r_w", "r_w"), ("r_n", "r_n"), ("flop", "flop_mil"), ("error_last", error)):
            target = printed[column]
            if math.isnan(target):
                continue
            mean, low, high = mean_interval(group[name].to_numpy() / (1e6 if name == "flop" else 1.0))
            low, high = (mean, mean) if math.isnan(low) else (low, high)
            words = f"{mean:.4g} [{low:.4g}, {high:.4g}], printed {target:g}"
            evidence[f"{stage}: {column}"] = words
            outcomes.append((low <= target + _unit(table, column) / 2, f"{stage} {column}: {words}"))
    evidence |= {"seeds": sorted({int(seed) for seed in results["seed"]}), "rule": "95 % interval reaches the printed"}
    return Finding(Tally.of(outcomes), evidence=evidence, figure=f"table{table}.png")


def _recount(table: int, kept: list[int]) -> Compression:
    if table == 1:
        return fully_connected((784, 300, 100, 10), kept)
    return lenet_5_caffe(*kept) if table == 2 else vgg16(kept)


def metrics(effort: Effort) -> Finding:
    """r_W, r_N and FLOP follow from each printed architecture; bare: in every row, corrected: where no note objects."""
    bare, corrected = [], []
    for table in (1, 2, 3):
        for line in published(table).to_dict("records"):
            if not line["architecture"]:
                continue
            found = _recount(table, [int(k) for k in str(line["architecture"]).split("-")])
            wrong = []
            for name, column, _, unit in _PRINTED:
                target, value = line[column], getattr(found, name) / unit
                if not math.isnan(target) and abs(value - target) > 1.001 * _unit(table, column):
                    wrong.append(f"{column} {value:.4g}, printed {target:g}")
            words = f"Table {table}, {line['method']} {line['architecture']}: {', '.join(wrong)}"
            bare.append((not wrong, words))
            if f"gives {column_of(wrong)}" not in line["note"]:
                corrected.append((not wrong, words))
    return Finding(Tally.of(bare), Tally.of(corrected))


def column_of(wrong: list[str]) -> str:
    """How a note beside the printed row names what it contradicts: "r_W 19.03"; a word no note has where nothing is."""
    return wrong[0].split(",")[0].replace("r_w", "r_W").replace("r_n", "r_N") if wrong else "nothing"


def state_of_the_art(effort: Effort) -> Finding:
    """No printed method with an error as low is smaller. Bare: in r_W, r_N and FLOP; corrected: in r_N and FLOP."""
    bare, corrected = [], []
    for table in (1, 2, 3, 4):
        rivals: list[dict[Any, Any]] = []
        for line in published(table).to_dict("records"):
            if line["method"] != "VIBNet":
                rivals.append(line)
                continue
            best = min(line["error"], line["error_finetuned"]) if line["error_finetuned"] > 0 else line["error"]
            for column in ("r_w", "r_n", "flop_mil"):
                for rival in rivals:
                    if rival["error"] <= best + 0.05 and not math.isnan(rival[column]):
                        theirs = f"{rival['method']} has {column} {rival[column]:g} at error {rival['error']:g}"
                        words = f"Table {table}: {theirs}, VIBNet {line[column]:g} at {best:g}"
                        bare.append((line[column] <= rival[column], words))
                        if column != "r_w":
                            corrected.append(bare[-1])
            rivals = []
    return Finding(Tally.of(bare), Tally.of(corrected), {"read from": "the printed rows alone"})


def _figure2(effort: Effort) -> DataFrame | None:
    """The recorded table of Figure 2's own price and of the regular nets; the short version's where it is all there."""
    for name in ("figure2.csv", "figure2_quick.csv"):
        table = effort.table(name)
        if table is not None:
            return table[~table["gated"] | (table["gamma"] == GAMMA)]
    return None


def figure2_size(effort: Effort) -> Finding:
    """Figure 2, left: VIBNet's r_W leaves 1 and falls; the regular net's stays at 1."""
    table = _figure2(effort)
    if table is None:
        return NOT_TRIED
    outcomes, ends = [], []
    for (gated, seed), run in table.groupby(["gated", "seed"]):
        sizes = run.groupby("epoch")["r_w"].first()
        if gated:
            ends.append(float(sizes.iloc[-1]))
            held = bool((sizes.diff().dropna() <= 1e-9).all() and sizes.iloc[-1] < 50)
        else:
            held = bool((sizes == 100).all())
        outcomes.append((held, f"{'VIBNet' if gated else 'regular'}, seed {seed}: {sizes.tolist()}"))
    mean, low, high = mean_interval(_array(ends))
    evidence = {"last r_W of VIBNet (%)": mean, "95 % interval": [low, high], "printed at epoch 200 (%)": 18}
    return Finding(Tally.of(outcomes), evidence=evidence, figure="figure2.png")


def figure2_vibnet(effort: Effort) -> Finding:
    """Figure 2, right: VIBNet's I(h₁; x) rises, turns and falls below its start.

    Bare: whichever of the estimates is drawn. Corrected: ½ log det(I + Cov/τ²) at the least recorded noise τ.
    """
    table = _figure2(effort)
    if table is None:
        return NOT_TRIED
    bare, corrected, evidence = _information(table[table["gated"]], effort, "rises, turns, falls below its start")
    return Finding(Tally.of(bare), Tally.of(corrected), evidence, "figure2.png")


def figure2_regular(effort: Effort) -> Finding:
    """Figure 2, right: the regular net's I(h₁; x) rises.

    Bare: the nets beside the VIBNets, by every estimate. Corrected: those whose weights are not decayed, by
    ½ log det(I + Cov/τ²) at the least recorded noise τ.
    """
    table, undecayed = _figure2(effort), effort.table("figure2_decay.csv")
    if table is None:
        return NOT_TRIED
    bare, _, evidence = _information(table[~table["gated"]], effort, "rises")
    if undecayed is None:
        return Finding(Tally.of(bare), None, evidence, "figure2.png")
    _, corrected, more = _information(undecayed[~undecayed["gated"]], effort, "rises")
    return Finding(
        Tally.of(bare),
        Tally.of(corrected),
        evidence | {f"without decay: {k}": v for k, v in more.items()},
        "figure2.png",
    )


def _information(table: DataFrame, effort: Effort, wanted: str) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Outcomes of every estimate, those of the Gaussian bound at the least noise, and the evidence."""
    shapes = shape_table(table, effort.seed)
    shapes = shapes[shapes["net"].isin(["VIBNet", "regular"])]
    least = shapes.loc[shapes["method"] == "gaussian", "tau"].min()
    every, chosen, evidence = [], [], {}
    for row in shapes.to_dict("records"):
        name = f"{row['method']}, τ = {row['tau']:g}, {row['net']}"
        outcome = (row["shape"] == wanted, f"{name}: {row['shape']}")
        every.append(outcome)
        if row["method"] == "gaussian" and row["tau"] == least:
            chosen.append(outcome)
            evidence[f"{name}: rise (nats)"] = [row["rise_low"], row["rise_high"]]
            evidence[f"{name}: fall (nats)"] = [row["fall_low"], row["fall_high"]]
        evidence[name] = row["shape"]
    return every, chosen, evidence


def _array(values: list[float]) -> Any:
    import numpy as np

    return np.array(values)
