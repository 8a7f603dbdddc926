"""Is this table what it should be? Columns by name and kind, checked before anything is computed from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from vibtheory.errors import reject

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["check_columns"]

# What a column holds goes by its name, the same in every table of the project; the others hold finite numbers.
_TEXT = frozenset({"layer", "kind", "level", "certificate", "verdict", "mode", "stage", "method", "network"})
_FLAGS = frozenset({"gated", "saturated", "vacuous"})
_MAY_BE_INFINITE = frozenset({"nats", "ceiling"})


def check_columns(argument: str, table: DataFrame, columns: Iterable[str], optional: Iterable[str] = ()) -> None:
    """Raise unless `table` has a row, all `columns`, and in each of them what its name promises.

    Args:
        argument: what the error calls the table.
        columns: names; text, yes or no, or finite numbers (nats and ceilings may be infinite).
        optional: those of them whose cells may be empty.

    Raises:
        InvalidInputError: no row, a column missing, an empty cell, or a cell of another kind; names the column.
    """
    remedy = "record the table again, or correct that column"
    missing = [name for name in columns if name not in table.columns]
    if missing or table.empty:
        reject(argument, f"no {', '.join(missing) or 'row'}", "a table with them", remedy)
    for name in columns:
        cells = table[name]
        if cells.isna().any():
            if name not in set(optional):
                reject(argument, f"{int(cells.isna().sum())} empty cells in {name}", "none", remedy)
            cells = cells.dropna()
        if name in _TEXT:
            fits, expected = all(isinstance(cell, str) for cell in cells), "text"
        elif name in _FLAGS:
            fits, expected = all(isinstance(cell, bool | np.bool_) for cell in cells), "True or False"
        else:
            numbers = cells.dtype.kind in "iuf"
            fits = numbers and (name in _MAY_BE_INFINITE or bool(np.isfinite(cells).all()))
            expected = "finite numbers"
        if len(cells) and not fits:
            reject(argument, f"other entries in {name}", expected, remedy)
