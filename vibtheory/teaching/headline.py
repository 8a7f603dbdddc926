"""The numbers that a notebook promises, beside what it found: its last cell, and what the tests hold it to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vibtheory.errors import VibTheoryError, reject

__all__ = ["Headline", "HeadlineError", "headline"]


class HeadlineError(VibTheoryError, AssertionError):
    """A headline number is not what the notebook says."""


@dataclass(frozen=True)
class Headline:
    """Rows (what, here, expected, tolerance), all of which agree."""

    rows: tuple[tuple[str, Any, Any, float], ...]

    def __str__(self) -> str:
        cells = [("number", "here", "expected")]
        cells += [
            (what, _text(got), _text(want) + (f" ± {tol:g}" if tol else "")) for what, got, want, tol in self.rows
        ]
        widths = [max(len(row[i]) for row in cells) for i in range(3)]
        return "\n".join("   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)

    __repr__ = __str__


def headline(*rows: tuple[Any, ...]) -> Headline:
    """Check and tabulate a notebook's headline numbers.

    Args:
        rows: (what, here, expected) compared with ==, or (what, here, expected, tolerance) for numbers.

    Raises:
        HeadlineError: some number is off; every one of them is named.
        InvalidInputError: no row, or one of another length.
    """
    if not rows:
        reject("rows", "none", "at least one", "pass (what, here, expected) or (what, here, expected, tolerance)")
    full: list[tuple[str, Any, Any, float]] = []
    wrong = []
    for row in rows:
        if len(row) not in (3, 4):
            reject("rows", f"a row of {len(row)}", "rows of 3 or 4", "pass (what, here, expected[, tolerance])")
        what, got, want = str(row[0]), row[1], row[2]
        tolerance = float(row[3]) if len(row) == 4 else 0.0
        agrees = got == want if len(row) == 3 else math.isfinite(float(got)) and abs(got - want) <= tolerance
        if not agrees:
            wrong.append(f"{what}: {_text(got)}, expected {_text(want)}" + (f" ± {tolerance:g}" if tolerance else ""))
        full.append((what, got, want, tolerance))
    if wrong:
        raise HeadlineError("; ".join(wrong))
    return Headline(tuple(full))


def _text(value: Any) -> str:
    if isinstance(value, (bool, np.bool_, str)):
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e9 else f"{number:.5g}"
