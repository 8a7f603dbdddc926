"""What all result objects share: a result is data first, and its picture is looked up by its type."""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Report", "as_json"]


class Report:
    """Mixin of result objects: `.plot()`."""

    def plot(self) -> Figure:
        """The figure of this kind of result (`vibtheory.figures.plot`); matplotlib is loaded on first use.

        Raises:
            InvalidInputError: this kind of result has no picture.
        """
        # By name: a report must not know its plots, which are built on reports.
        figure: Figure = importlib.import_module("vibtheory.figures").plot(self)
        return figure


def as_json(value: Any) -> Any:
    """`value` in JSON's types: arrays and tuples become lists, NumPy's numbers plain ones, NaN and infinity None."""
    if isinstance(value, dict):
        return {key: as_json(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist())
    if isinstance(value, list | tuple):
        return [as_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
