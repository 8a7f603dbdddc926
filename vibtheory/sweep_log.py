"""rows.json: what one run of a sweep has recorded so far."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from vibtheory.errors import CheckpointError
from vibtheory.storage import write_text
from vibtheory.sweep_estimators import Estimator

if TYPE_CHECKING:
    from vibtheory.sweep_run import SweepRun

__all__ = ["RowLog"]

_WRITE_EVERY = 5.0  # seconds of estimates that a kill may cost


class RowLog:
    """rows.json: status, and for each recorded epoch the net's facts and one row per estimate."""

    def __init__(self, run: SweepRun) -> None:
        self.run, self.path = run, run.folder / "rows.json"
        self.status: str | None = None
        self.epochs: dict[str, dict[str, dict[str, Any]]] = {}
        self.written = 0.0
        if self.path.exists():
            try:
                plain = json.loads(self.path.read_text(encoding="utf-8"))
                self.status, self.epochs = plain["status"], plain["epochs"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise CheckpointError(
                    f"out: {self.path} is not readable ({type(error).__name__}: {error}), expected what a sweep wrote. "
                    "Remedy: delete that file; its rows are computed again from the nets beside it"
                ) from error

    def wanted(self, epoch: int) -> list[tuple[str, Estimator, int | None]]:
        """(key, estimator, number of inputs or None for all) of each row of an epoch, in the table's order."""
        plan = [(estimator, estimator.n or self.run.n) for estimator in self.run.estimators]
        rows: list[tuple[str, Estimator, int | None]] = [
            (f"{self.run.layer} {n} {estimator.key}", estimator, n) for estimator, n in plan
        ]
        if self.run.full_at_last and epoch == self.run.recipe.epochs:
            full = [estimator for estimator in self.run.estimators if estimator.full]
            rows += [(f"{self.run.layer} all {estimator.key}", estimator, None) for estimator in full]
        return rows

    def missing(self, epoch: int) -> list[tuple[str, Estimator, int | None]]:
        have = self.epochs.get(str(epoch), {})
        return [entry for entry in self.wanted(epoch) if entry[0] not in have]

    def complete(self) -> bool:
        due = [epoch for epoch in self.run.record if self.status != "collapsed" or str(epoch) in self.epochs]
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
            lost = [epoch for epoch in self.run.record if self.missing(epoch)]
            raise CheckpointError(
                f"out: {self.run.folder} was trained without recording epochs {lost}, expected nets kept at them. "
                "Remedy: record the epochs that were kept, or choose another folder"
            )

    def rows(self) -> list[dict[str, Any]]:
        found = [(self.epochs.get(str(epoch), {}), self.wanted(epoch)) for epoch in self.run.record]
        return [rows[key] for rows, wanted in found for key, _, _ in wanted if key in rows]

    def write(self) -> None:
        write_text(self.path, json.dumps({"status": self.status, "epochs": self.epochs}) + "\n")
        self.written = time.monotonic()
