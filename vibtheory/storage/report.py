"""What all result objects share: a result is data first, and its picture is looked up by its type."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["Report", "as_json"]

_PLAIN = (str, bool, int, float, np.generic, type(None))


class Report:
    """Mixin of result objects (dataclasses): `.row()`, `.to_frame()`, `.to_dict()`, `.to_json()`, `.plot()`.

    A class overrides what differs: `row` (default: the fields that are one number or word), `_table` (rows or columns
    of the frame; default the one row) and `_content` (what JSON holds; default every field).
    """

    def row(self) -> dict[str, Any]:
        """The result as one flat row of numbers and words."""
        return {name: value for name, value in _fields(self).items() if isinstance(value, _PLAIN)}

    def to_frame(self) -> DataFrame:
        """The result as a table; pandas is loaded on first use."""
        import pandas as pd

        return pd.DataFrame(self._table())

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types; numbers that are not finite become None."""
        plain: dict[str, Any] = as_json(self._content())
        return plain

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as standard JSON."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False, ensure_ascii=False)

    def plot(self) -> Figure:
        """The figure of this kind of result (`vibtheory.figures.plot`); matplotlib is loaded on first use.

        Raises:
            InvalidInputError: this kind of result has no picture.
        """
        # By name: a report must not know its plots, which are built on reports.
        figure: Figure = importlib.import_module("vibtheory.figures").plot(self)
        return figure

    def _table(self) -> Any:
        return [self.row()]

    def _content(self) -> dict[str, Any]:
        return _fields(self)


def as_json(value: Any) -> Any:
    """`value` in JSON's types: reports, dataclasses and dicts become objects, arrays and tuples lists, NumPy's numbers
    plain ones, NaN and infinity None.
    """
    if isinstance(value, Report):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(_fields(value))
    if isinstance(value, Mapping):
        return {key: as_json(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist())
    if isinstance(value, list | tuple):
        return [as_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}
