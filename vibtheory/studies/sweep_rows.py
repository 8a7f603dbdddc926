"""rows.json: what one run of a sweep has recorded so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Any, Literal

from vibtheory.errors import CheckpointError
from vibtheory.storage import write_sealed
from vibtheory.storage.run_store import read_record
from vibtheory.storage.schema import fit
from vibtheory.studies.estimators import Estimator
from vibtheory.studies.sweep_plan import SweepRun

__all__ = ["COLUMNS", "SweepRow", "SweepRows"]


@dataclass(frozen=True)
class SweepRow:
    """One estimate of one net; `vibtheory.studies.sweep.SweepResult` says what the columns are."""

    network: str
    dataset: str
    gated: bool
    gamma: float
    seed: int
    epoch: int
    error: float | None  # None: a regression
    r_w: float
    r_n: float
    flop: int
    cross_entropy: float
    layer: str
    method: str
    tau: float
    n: int
    nats: float
    stderr: float
    kind: str
    saturated: bool
    ceiling: float
    seconds: float


@dataclass(frozen=True)
class _File:
    """What rows.json holds: None while the run is not at its end; rows by epoch and key."""

    status: Literal["completed", "collapsed"] | None
    epochs: dict[str, dict[str, dict[str, Any]]]


COLUMNS = tuple(field.name for field in fields(SweepRow))
_WRITE_EVERY = 5.0  # seconds of estimates that a kill may cost


class SweepRows:
    """rows.json: status, and for each recorded epoch the net's facts and one row per estimate."""

    def __init__(self, run: SweepRun) -> None:
        self.run, self.path = run, run.folder / "rows.json"
        self.status: str | None = None
        self.epochs: dict[str, dict[str, dict[str, Any]]] = {}
        self.written = 0.0
        if self.path.exists():
            remedy = "delete that file; its rows are computed again from the nets beside it"
            self.status, self.epochs = read_record(self.path, self._checked, "what a sweep wrote", remedy)

    def _checked(self, plain: dict[str, Any]) -> tuple[str | None, dict[str, dict[str, dict[str, Any]]]]:
        """Status and rows. Raises ValueError where they are no such thing, or of another run."""
        fit(_File, plain, "rows")
        own = {"gated": self.run.gated, "gamma": self.run.recipe.gamma, "seed": self.run.seed}
        for row in (row for rows in plain["epochs"].values() for row in rows.values()):
            fit(SweepRow, row, "row", more=True)
            if any(row[name] != value for name, value in own.items()):
                raise ValueError(f"its rows are of {row['network']}, gamma {row['gamma']:g}, seed {row['seed']}")
        return plain["status"], plain["epochs"]

    def wanted(self, epoch: int) -> list[tuple[str, Estimator, int | None]]:
        """(key, estimator, number of inputs or None for all) of each row of an epoch, in the table's order."""
        plan = [(estimator, estimator.n or self.run.plan.n) for estimator in self.run.estimators]
        rows: list[tuple[str, Estimator, int | None]] = [
            (f"{self.run.plan.layer} {n} {estimator.key}", estimator, n) for estimator, n in plan
        ]
        if self.run.plan.full_at_last and epoch == self.run.recipe.epochs:
            full = [estimator for estimator in self.run.estimators if estimator.full]
            rows += [(f"{self.run.plan.layer} all {estimator.key}", estimator, None) for estimator in full]
        return rows

    def missing(self, epoch: int) -> list[tuple[str, Estimator, int | None]]:
        have = self.epochs.get(str(epoch), {})
        return [entry for entry in self.wanted(epoch) if entry[0] not in have]

    def complete(self) -> bool:
        due = [epoch for epoch in self.run.plan.record if self.status != "collapsed" or str(epoch) in self.epochs]
        return self.status is not None and not any(self.missing(epoch) for epoch in due)

    def add(self, epoch: int, key: str, row: dict[str, Any]) -> None:
        """One more row; written at the latest when `write` is called, and at once if the last writing was long ago."""
        self.epochs.setdefault(str(epoch), {})[key] = row
        if time.monotonic() - self.written > _WRITE_EVERY:
            self.write()

    def close(self, status: str) -> None:
        self.status = status
        self.write()

    def check(self) -> None:
        if not self.complete():
            lost = [epoch for epoch in self.run.plan.record if self.missing(epoch)]
            raise CheckpointError(
                f"out: {self.run.folder} was trained without recording epochs {lost}, expected nets kept at them. "
                "Remedy: record the epochs that were kept, or choose another folder"
            )

    def rows(self) -> list[dict[str, Any]]:
        found = [(self.epochs.get(str(epoch), {}), self.wanted(epoch)) for epoch in self.run.plan.record]
        return [rows[key] for rows, wanted in found for key, _, _ in wanted if key in rows]

    def write(self) -> None:
        write_sealed(self.path, {"status": self.status, "epochs": self.epochs})
        self.written = time.monotonic()
