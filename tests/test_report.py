"""The mixin of result objects: rows, frames and JSON from the fields, and what a class overrides."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from vibtheory.errors import InvalidInputError
from vibtheory.storage.report import Report, as_json


@dataclass(frozen=True)
class Inner:
    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Plain(Report):
    verdict: str
    count: np.int64
    gap: float
    alpha: np.ndarray
    inner: Inner
    hidden: float | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Several(Report):
    parts: tuple[Plain, ...]

    def _table(self) -> list[dict[str, Any]]:
        return [part.row() for part in self.parts]


PLAIN = Plain("holds", np.int64(3), np.inf, np.array([1.0, np.nan]), Inner("a", (0.5, -np.inf)))


def test_a_row_holds_the_numbers_and_words() -> None:
    assert PLAIN.row() == {"verdict": "holds", "count": 3, "gap": np.inf, "hidden": None}
    frame = PLAIN.to_frame()
    assert frame.to_dict("records") == [PLAIN.row()]
    assert len(Several((PLAIN, PLAIN)).to_frame()) == 2


def test_json_holds_every_field_and_is_standard() -> None:
    expected = {"verdict": "holds", "count": 3, "gap": None, "alpha": [1.0, None],
                "inner": {"name": "a", "values": [0.5, None]}, "hidden": None}  # fmt: skip
    assert PLAIN.to_dict() == expected
    assert json.loads(Several((PLAIN,)).to_json(indent=1)) == {"parts": [expected]}


def test_what_is_json_already_stays() -> None:
    value = {"ü": [1, 2.5, "x", True, None]}
    assert as_json(value) == value
    assert as_json(np.float32(0.5)) == 0.5


def test_a_result_without_a_picture_says_so() -> None:
    with pytest.raises(InvalidInputError, match="report: got Plain"):
        PLAIN.plot()
