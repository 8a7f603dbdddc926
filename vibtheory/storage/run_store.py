"""The run store of tables, sweeps and studies: names of runs, their sealed rows, tables that many calls add to."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from vibtheory.errors import CheckpointError, reject
from vibtheory.storage.files import locked, read_sealed, write_sealed, write_text

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["PATIENCE", "RecordedTable", "fingerprint", "read_record"]

PATIENCE = 120.0
"""Seconds for another process to let go of a folder: of a table, which it holds for a moment, or of a run, which the
workers of a killed sweep may still hold."""

Checked = TypeVar("Checked")


def fingerprint(settings: Any) -> str:
    """Ten hexadecimal digits that name `settings` (plain JSON types) in a folder."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:10]


def read_record(path: Path, check: Callable[[dict[str, Any]], Checked], expected: str, remedy: str) -> Checked:
    """What `check` makes of the sealed file `path`.

    Args:
        path: written by `vibtheory.storage.write_sealed`.
        check: raises ValueError where the content is something else.
        expected, remedy: for the message.

    Raises:
        CheckpointError: the file is missing, damaged, changed, or refused by `check`.
    """
    try:
        return check(read_sealed(path))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not readable ({type(error).__name__}: {error}), expected {expected}. Remedy: {remedy}"
        ) from error


@dataclass(frozen=True)
class RecordedTable:
    """A CSV file to which many calls add the rows of their runs, one call at a time.

    Attributes:
        path: of the file; its folder is locked for the moment of each step.
        row: dataclass that declares the columns; one whose field has a default may be missing.
        run: columns that name a run. Its new rows replace its old ones as a whole; all others stay.
        settings: what all rows have in common and no column tells, in JSON types; kept sealed beside the table
            (`path` with the suffix .json), and a table of other settings is refused. None: nothing.
    """

    path: Path
    row: type
    run: tuple[str, ...]
    settings: Mapping[str, Any] | None = None

    def hold(self) -> AbstractContextManager[None]:
        """The folder's lock; raises VibTheoryError where another process keeps it for longer than `PATIENCE`."""
        return locked(self.path.parent, wait=PATIENCE)

    def check(self) -> None:
        """Raise what `add` would raise: before hours of work, not after."""
        with self.hold():
            self.read()

    def read(self) -> DataFrame | None:
        """The rows of earlier calls; None where there are none.

        Raises:
            InvalidInputError: they are of other settings, or of no such table.
            CheckpointError: the file that holds the settings is missing or damaged.
        """
        import pandas as pd

        if not self.path.exists():
            return None
        remedy = f"move {self.path.name} away; the runs stay, and finished ones are only read"
        if self.settings is not None:
            names = {name: type(value) for name, value in self.settings.items()}
            label, what = self.path.with_suffix(".json"), f"the settings of {self.path.name}"
            before = read_record(label, lambda plain: _of_kinds(plain, names), what, remedy)
            if before != self.settings:
                reject("out", f"{self.path} of another {_difference(before, self.settings)}",
                       "a folder for each, or an empty one", "choose another folder")  # fmt: skip
        kinds = get_type_hints(self.row)
        # Exactly: a price must compare equal to a new run's, and these rows are written back as they were.
        readers: dict[Any, Callable[[str], Any]] = dict.fromkeys((float, float | None), lambda c: float(c or "nan"))
        readers[str] = str
        converters = {name: readers[kind] for name, kind in kinds.items() if kind in readers}
        expected = "a table that such a call wrote"
        try:
            text = self.path.read_text("utf-8")
            table = pd.read_csv(io.StringIO(text), converters=converters)
        except (OSError, ValueError) as error:
            reject("out", f"{self.path} ({error})", expected, remedy)
        missing = [f.name for f in fields(self.row) if f.default is MISSING and f.name not in table]
        if missing:
            reject("out", f"{self.path} without the columns {', '.join(missing)}", expected, remedy)
        codes = {bool: "b", int: "iu"}
        wrong = [name for name, kind in kinds.items() if kind in codes and table[name].dtype.kind not in codes[kind]]
        if wrong and len(table):
            reject("out", f"{self.path} with other entries in {', '.join(wrong)}", expected, remedy)
        same, whole = table.to_csv(index=False, lineterminator="\n"), re.compile(r"\.0(?=[,\n])")  # 1 is 1.0
        if whole.sub("", same) != whole.sub("", text):  # a spreadsheet rounds prices: a run would stand there twice
            reject("out", f"{self.path} as another program saved it", "every digit as it was written", remedy)
        return table

    def add(self, rows: DataFrame) -> tuple[DataFrame, int]:
        """Write `rows` and the earlier rows of other runs; all of them, and the number of earlier ones.

        Raises:
            InvalidInputError, CheckpointError: as `read`.
            VibTheoryError: the folder is held or cannot be written.
        """
        import pandas as pd

        with self.hold():
            old, kept = self.read(), 0
            if old is None and self.settings is not None:
                write_sealed(self.path.with_suffix(".json"), self.settings)  # first: alone it counts for nothing
            if old is not None:
                names = list(self.run)
                ours = set(rows[names].itertuples(index=False, name=None))
                stays = old[[run not in ours for run in old[names].itertuples(index=False, name=None)]]
                kept = len(stays)
                rows = pd.concat([stays, rows], ignore_index=True) if kept else rows
            write_text(self.path, rows.to_csv(index=False, lineterminator="\n"))
        return rows, kept


def _of_kinds(plain: dict[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    for name, kind in kinds.items():
        if not isinstance(plain.get(name), kind):
            raise ValueError(f"{name} is {plain.get(name)!r:.80}, expected {kind.__name__}")
    return plain


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first difference between two settings, in words."""
    name = next(name for name in now if before[name] != now[name])
    old, new = before[name], now[name]
    if not isinstance(new, dict) or "builder" in new:
        return f"{name} ({old}, now {new})"
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return f"{name} ({'; '.join(f'{key} {old.get(key)}, now {new.get(key)}' for key in changed)})"
