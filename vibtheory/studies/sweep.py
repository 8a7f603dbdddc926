"""`sweep`: γ × seeds × recorded epochs → one table of size, error and information; resumable row by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vibtheory.errors import reject
from vibtheory.storage.run_store import RecordedTable
from vibtheory.studies.side_by_side import side_by_side
from vibtheory.studies.sweep_plan import SweepPlan
from vibtheory.studies.sweep_rows import COLUMNS, SweepRow
from vibtheory.studies.sweep_run import finish

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["COLUMNS", "SweepPlan", "SweepResult", "sweep"]


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What `sweep` returns.

    Attributes:
        table: one row per (gated, gamma, seed, epoch, method, tau, n), columns `COLUMNS`. Epoch 0 is the net before
            any noisy epoch (after pretraining, if there is any). error: test set, percent; NaN of a
            regression. r_w, r_n: percent.
            cross_entropy: mean −log q(y|x) on the sweep's n training inputs, gates at their masked means, nats.
            nats, stderr, ceiling: of I(h; x), nats; kind: upper, lower or estimate. seconds: of that estimate.
        path: the CSV with the same content, and with the rows of earlier calls about other runs or layers.
        status: "completed", or which runs collapsed (their later epochs are not in the table), with the remedy.
        kept: rows of earlier calls in the CSV.
    """

    table: DataFrame
    path: Path
    status: str
    kept: int = 0

    def __str__(self) -> str:
        runs = len(self.table.groupby(["gated", "gamma", "seed"]))
        kept = f" beside {self.kept} of earlier sweeps" if self.kept else ""
        return f"Sweep of {runs} runs, {len(self.table)} estimates in {self.path}{kept}: {self.status}"


def sweep(plan: SweepPlan | None = None, *, jobs: int = 1, cluster: str | None = None, **settings: Any) -> SweepResult:
    """Train a network for each γ and seed, and record size, error and I(h; x) of one layer at chosen epochs.

    Each run keeps a checkpoint, its rows, and the net at each recorded epoch in `out`: the same call continues a
    stopped sweep and ends with the same table (but for `seconds`); other estimators are computed without training.

    `out`/table.csv gathers the sweeps of one network, data set and recipe (prices and epochs may differ): rows of a run
    (gated, gamma, seed) and layer of this call replace those of an earlier one, all others stay.

    Args:
        plan: what to train and record; None: `SweepPlan` of the `settings`.
        jobs: processes on this machine, one thread each. With 1, OPENBLAS_NUM_THREADS=1 makes it the same to the bit.
        cluster: address of a Dask scheduler ("tcp://…") to use instead; its workers must see `out`.
        settings: the fields of `SweepPlan` by name: gammas, seeds, dataset, network, out, epochs, record, ….

    Returns:
        SweepResult, also written to `out`/table.csv after each finished run.

    Raises:
        InvalidInputError: as `SweepPlan`; settings beside a plan, or unknown ones; a cluster that does not answer, an
            `out` whose table is of another network, data set or recipe.
        MissingDependencyError: `cluster` without the extra of that name.
        CheckpointError, DataError, DivergedError: from the runs.
    """
    if plan is not None and settings:
        reject("settings", ", ".join(settings), "none beside a plan", "put them into the plan")
    known = SweepPlan.__dataclass_fields__
    if unknown := [name for name in settings if name not in known]:
        reject("settings", f"unknown {', '.join(unknown)}", f"some of {', '.join(known)}", "correct their spelling")
    plan = plan or SweepPlan(**settings)
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        reject("jobs", repr(jobs), "an integer >= 1", "pass the number of processes")
    store = RecordedTable(Path(plan.out) / "table.csv", SweepRow, ("gated", "gamma", "seed", "layer"), plan.settings)
    store.check()
    groups = plan.groups()
    results: dict[int, list[tuple[list[dict[str, Any]], str]]] = {}
    table, kept = pd.DataFrame(columns=list(COLUMNS)), 0
    for number, found in side_by_side(finish, groups, jobs, cluster):
        results[number] = found
        done = [rows for place in sorted(results) for rows, _ in results[place]]
        table = pd.DataFrame([row for rows in done for row in rows], columns=list(COLUMNS)).astype({"error": float})
        kept = store.add(table)[1]
    ended = [(run, status) for place, group in enumerate(groups)
             for run, (_, status) in zip(group, results[place], strict=True)]  # fmt: skip
    collapsed = [run.folder.name for run, status in ended if status == "collapsed"]
    status = "completed"
    if collapsed:
        status = f"{len(collapsed)} of {len(ended)} runs collapsed ({', '.join(collapsed)}); use smaller gammas there"
    return SweepResult(table, store.path, status, kept)
