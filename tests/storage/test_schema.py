"""Declared data: what fits, what does not and in which words; and a recorded table's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from vibtheory.errors import InvalidInputError
from vibtheory.storage.schema import Declared, Misfit, Price, Seed, check, check_columns, fit


@dataclass(frozen=True)
class _Row:
    seed: int
    nats: float
    gated: bool
    kind: str
    rows: list[Seed] | None = None
    price: Price | Mapping[str, Price] = 0.0
    state: Literal["on", "off"] = "on"


RIGHT: dict[str, Any] = {"seed": 1, "nats": 2, "gated": True, "kind": "upper"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a float for an integer": ({"seed": 1.0}, "seed: got 1.0, expected a whole number"),
    "a flag for an integer": ({"seed": True}, "seed: got True, expected a whole number"),
    "text for a float": ({"nats": "2"}, "nats: got '2', expected a number"),
    "a flag for a float": ({"nats": False}, "nats: got False, expected a number"),
    "an integer for a flag": ({"gated": 1}, "gated: got 1, expected a boolean"),
    "nothing for text": ({"kind": None}, "kind: got None, expected a string"),
    "inside a list": ({"rows": [0, -1]}, "rows[1]: got -1, expected a number greater than or equal to 0"),
    "inside a mapping": (
        {"price": {"h1": -0.5}},
        "price['h1']: got -0.5, expected a number greater than",
    ),
    "neither of two": ({"price": "low"}, "price: got 'low', expected a number or a dictionary"),
    "an integer too long to print": ({"price": 1 << 20_000}, "thousands of digits"),
    "no choice": ({"state": "of"}, "state: got 'of', expected 'on' or 'off'"),
    "not finite": ({"price": float("nan")}, "price: got nan, expected a finite number"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(case: str) -> None:
    change, words = BAD[case]
    with pytest.raises(Misfit) as caught:
        fit(_Row, {**RIGHT, **change}, "row")
    assert words in str(caught.value)
    with pytest.raises(InvalidInputError, match="^section [a-z].*Remedy: give"):
        check(_Row, {**RIGHT, **change}, "row", within="section")


def test_keys() -> None:
    fit(_Row, RIGHT, "row")
    fit(_Row, {**RIGHT, "more": None}, "row", more=True)
    with pytest.raises(Misfit, match="^row: got unknown more, expected keys among seed"):
        fit(_Row, {**RIGHT, "more": None}, "row")
    with pytest.raises(Misfit, match="^row: got no nats, kind, expected the keys seed, nats, gated, kind$"):
        fit(_Row, {"seed": 1, "gated": True}, "row")
    with pytest.raises(Misfit, match=r"^row: got \[1\], expected an object"):
        fit(_Row, [1], "row")


def test_an_object_keeps_the_values_that_it_was_given() -> None:
    @dataclass(frozen=True)
    class Settings(Declared):
        price: float = 0.5

    assert type(Settings(3).price) is int  # its JSON is "3", as it was when a fingerprint was made of it
    with pytest.raises(InvalidInputError, match="^price: got 'x', expected a number. Remedy: give price such a value"):
        Settings("x")  # type: ignore[arg-type]


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
