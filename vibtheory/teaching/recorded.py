"""Recorded runs: small CSV files beside the notebooks. The first line of each says which command makes it again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vibtheory.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["live", "project_file", "recorded", "write_recorded"]

_FOLDER = "notebooks/recorded"


def live() -> bool:
    """Whether the notebook should train instead of reading its record: `python -m vibtheory.teaching run --live`."""
    return os.environ.get("VIBTHEORY_LIVE", "") not in ("", "0")


def project_file(path: str) -> Path:
    """A file of the project by its path from the project's root, wherever in the project the notebook runs.

    Raises:
        DataError: no folder above the working directory has it.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / path).exists():
            return folder / path
    raise DataError(f"{path} is not in {here} or above it. Remedy: open the notebook inside a checkout of the project")


def recorded(name: str) -> pd.DataFrame:
    """The table that `python -m vibtheory.teaching record NAME` wrote.

    Raises:
        DataError: there is no such record.
    """
    import pandas as pd

    return pd.read_csv(project_file(f"{_FOLDER}/{name}.csv"), comment="#")


def write_recorded(name: str, table: pd.DataFrame, folder: Path) -> Path:
    """Write `table` as the record `name`, its command in the first line; returns the path."""
    folder.mkdir(parents=True, exist_ok=True)
    target, partial = folder / f"{name}.csv", folder / f".{name}.partial"
    text = table.to_csv(index=False, float_format="%.8g", lineterminator="\n")
    partial.write_text(f"# python -m vibtheory.teaching record {name}\n{text}", encoding="utf-8")
    partial.replace(target)
    return target
