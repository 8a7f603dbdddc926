"""Compare what two runs of a notebook printed: words exactly, numbers within a tolerance, pictures by their text."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["differences", "printed"]

_WITHIN = re.compile(r"within (\d+)")
_NUMBER = re.compile(r"[-+−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_TINY = 1e-7


def printed(cell: Any) -> str:
    """The text of a code cell's outputs; warnings on stderr included."""
    parts = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            parts.append(output.text)
        elif "data" in output:
            parts.append(output.data.get("text/plain", ""))
        else:
            parts.append(f"{output.output_type}: {output.get('ename', '')} {output.get('evalue', '')}")
    return "\n".join(parts)


def differences(committed: Any, fresh: Any, *, relative: float = 1e-3, approximate: float = 0.05) -> list[str]:
    """One line per code cell whose text differs.

    In cells tagged "within 2" (training, whose course depends on the processor) numbers may differ by that factor; in
    those tagged "approximate" (its last digits) by `approximate`, elsewhere by `relative`. Below 1e-7 all numbers are 0.
    Cells tagged "varies" are left out: headline tables, which hold each number to a range of its own.
    """
    found = []
    for place, (old, new) in enumerate(zip(committed.cells, fresh.cells, strict=True)):
        tags = old.metadata.get("tags", [])
        if old.cell_type != "code" or "varies" in tags:
            continue
        factors = [int(found[1]) for found in map(_WITHIN.fullmatch, tags) if found]
        tolerance = 1 - 1 / factors[0] if factors else approximate if "approximate" in tags else relative
        before, after = printed(old), printed(new)
        if _words(before) != _words(after):
            found.append(f"cell {place}: the words changed from {before!r} to {after!r}")
            continue
        for a, b in zip(_numbers(before), _numbers(after), strict=True):
            if abs(a - b) > tolerance * max(abs(a), abs(b)) + _TINY:
                found.append(f"cell {place}: {a:g} became {b:g} in {after!r}")
                break
    return found


def _words(text: str) -> list[str]:
    return _NUMBER.sub(" # ", text).split()


def _numbers(text: str) -> list[float]:
    return [float(match.replace("−", "-")) for match in _NUMBER.findall(text)]
