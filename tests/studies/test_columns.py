"""A recorded table's columns, checked by name and kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from vibtheory.errors import InvalidInputError
from vibtheory.studies.columns import check_columns

COLUMNS = ("seed", "nats", "gated", "mode", "stderr")
ROW: dict[str, Any] = {"seed": 0, "nats": 1.5, "gated": True, "mode": "full", "stderr": None, "other": None}


def _table(**change: Any) -> pd.DataFrame:
    return pd.DataFrame([ROW, ROW | change])


@pytest.mark.parametrize("change", [{}, {"nats": np.inf}, {"stderr": 0.1}, {"gated": False}, {"other": "x"}])
def test_what_passes(change: dict[str, Any]) -> None:
    check_columns("table", _table(**change), COLUMNS, ("stderr",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "x"}, "other entries in seed, expected finite numbers"),
        ({"seed": np.inf}, "other entries in seed, expected finite numbers"),
        ({"seed": True}, "other entries in seed, expected finite numbers"),
        ({"nats": "x"}, "other entries in nats, expected finite numbers"),
        ({"nats": None}, "1 empty cells in nats, expected none"),
        ({"gated": "maybe"}, "other entries in gated, expected True or False"),
        ({"gated": 1}, "other entries in gated, expected True or False"),
        ({"gated": None}, "1 empty cells in gated"),
        ({"mode": 3}, "other entries in mode, expected text"),
        ({"mode": None}, "1 empty cells in mode"),
        ({"stderr": "x"}, "other entries in stderr"),
    ],
)
def test_what_does_not(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^table: got {words}.*Remedy"):
        check_columns("table", _table(**change), COLUMNS, ("stderr",))


def test_missing_columns_and_rows() -> None:
    with pytest.raises(InvalidInputError, match="got no seed, mode, expected a table with them"):
        check_columns("table", _table().drop(columns=["seed", "mode"]), COLUMNS)
    with pytest.raises(InvalidInputError, match="got no row"):
        check_columns("table", _table().iloc[:0], COLUMNS)
