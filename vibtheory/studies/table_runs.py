"""Tables 1–4: train what their recipe files say, record one results table, and compare it with the printed one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vibtheory.errors import as_whole, reject
from vibtheory.storage.run_store import RecordedTable
from vibtheory.studies.experiment_runs import Row, run_experiment, run_together
from vibtheory.studies.experiments import experiment
from vibtheory.studies.tables import RECIPES, beside, published

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["comparison", "record", "recorded_table"]


@dataclass(frozen=True, kw_only=True)
class _RecordedRow(Row):
    """A run's row in a recorded table."""

    mode: str


def recorded_table(number: int, out: str | Path = "figures") -> RecordedTable:
    """`out`/tableN.csv, which many calls of `record` add to: `.read()` gives its rows, or None where there are none.

    Args:
        number: 1 to 4. Raises InvalidInputError otherwise.
        out: its folder.
    """
    published(number)  # refuses a table that does not exist
    return RecordedTable(Path(out) / f"table{number}.csv", _RecordedRow, ("mode", "network"))


def record(
    number: int,
    modes: Sequence[str],
    *,
    network: str | Sequence[str] | None = None,
    row: str | None = None,
    decay_gates: bool = False,
    out: str | Path = "figures",
    runs: str | Path = "runs",
    jobs: int = 2,
    device: str = "auto",
    root: str | Path | None = None,
    accelerate: str = "none",
    amp: bool | None = None,
    progress: bool = False,
    announce: Callable[[str], None] = lambda line: None,
    together: bool = False,
    seeds: Sequence[int] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> DataFrame | None:
    """Train what a table needs and record it in `out`/tableN.csv, as `vibtheory table N` does.

    New rows replace those of the same mode and recipe there; the others stay, also those that another process adds
    meanwhile. Finished runs are read back, stopped ones resumed.

    Args:
        number: 1 to 4.
        modes: of "quick", "full", "curve"; none: nothing is trained.
        network: packaged recipe of that table, or a TOML file, or several; None: all of the table's.
        row: Tables 3 and 4: one comparison only, such as "3.1".
        decay_gates: weight decay on the gates too, as in the authors' runs.
        out: folder of the table.
        runs: folder of the runs.
        jobs: processes side by side; one at a time for Tables 3 and 4.
        device, accelerate, amp: as in `vibtheory.train`.
        root: folder with the data set's files; None: where `vibtheory.datasets.load` looks.
        progress: a live bar for each run (one job only).
        announce: called with a line before each mode's runs.
        together: all runs take turns in this one process, a training step each: for a GPU.
        seeds: instead of the recipes' own; None: those.
        stop: with `together`, asked at the end of each epoch of each run; True: that run writes its checkpoint and is
            left there, for the same call to go on with.

    Returns:
        All rows that are recorded now, columns as of `run_experiment`; None where there are none.

    Raises:
        InvalidInputError: no such table, recipe, comparison or mode; jobs < 1; an `out` with something else.
        DataError, CheckpointError, DivergedError: from the runs.
    """
    table = recorded_table(number, out)
    results = table.read()
    as_whole("jobs", jobs, 1, remedy="pass the number of processes")  # now, not after a line that announces runs
    names = [network] if isinstance(network, str) else network or RECIPES[number]
    plans = [experiment(name, "network") for name in names]
    for plan in plans:
        if plan.table != number:
            got = f"{plan.name}, of table {plan.table}"
            reject("network", got, f"a recipe of table {number}", "name another one")
    if row is not None:
        known = ", ".join(plan.row for plan in plans if plan.row) or "none: this table has one comparison"
        plans = [plan for plan in plans if plan.row == row]
        if not plans:
            reject("row", row, f"one of {known}", "name one of them")
    if seeds is not None:
        plans = [replace(plan, modes={name: {**mode, "seeds": seeds} for name, mode in plan.modes.items()})
                 for plan in plans]  # fmt: skip
    if decay_gates:
        plans = [plan.with_decayed_gates() for plan in plans]
    planned = [(plan, mode, plan.jobs(mode)) for plan in plans for mode in modes]  # refuses a mode that a recipe lacks
    if planned:
        table.check()  # can it be written? Now, not after hours of training
    for plan, mode, tasks in planned:
        announce(f"{plan.name}, {mode}: {len(tasks)} runs of {tasks[0][0].epochs} epochs, in {runs}")
        if not together:
            new = run_experiment(plan, mode, runs=runs, jobs=min(jobs, 1 if plan.row else len(tasks)), amp=amp,
                                 progress=progress, device=device, root=root, accelerate=accelerate)  # fmt: skip
            results, _ = table.add(new)
    if planned and together:
        every = [(plan, mode, recipe, seed) for plan, mode, tasks in planned for recipe, seed in tasks]
        new = run_together(every, runs=runs, device=device, root=root, accelerate=accelerate, amp=amp, stop=stop)
        results = table.add(new)[0] if len(new) else results
    return results


def comparison(number: int, results: DataFrame | None) -> DataFrame:
    """Printed rows, then ours for each mode apart (they differ in epochs and seeds), or "not run".

    Args:
        number: 1 to 4.
        results: from `record`; None: nothing is recorded.

    Returns:
        Text, columns as of `vibtheory.studies.tables.beside`, whose errors it raises.
    """
    import pandas as pd

    printed = beside(number)
    parts = [printed]
    if results is not None:
        for mode in (mode for mode in ("full", "curve", "quick") if mode in set(results["mode"])):
            ours = beside(number, results[results["mode"] == mode]).iloc[len(printed) :].copy()
            ours["method"] += f" ({mode})"
            parts.append(ours)
    full = pd.DataFrame() if results is None else results[results["mode"] == "full"]
    done = set(full["row"].astype(str)) if "row" in full else set()
    rows = [row for row in (experiment(name).row for name in RECIPES[number]) if row]
    todo = [(f"ours {row}", f"--full --row {row} --device cuda") for row in rows if row not in done]
    if results is None and not rows:
        todo = [("ours", "--quick")]
    blank = {**dict.fromkeys(printed.columns, "not run"), "net": ""}
    for method, options in todo:
        note = f"`vibtheory table {number} {options}`"
        parts.append(pd.DataFrame([{**blank, "method": method, "note": note}]))
    return pd.concat(parts, ignore_index=True)
