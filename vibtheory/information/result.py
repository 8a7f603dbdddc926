"""`MutualInformation`: one number in nats, the side it errs on, its standard error and its ceiling (P3, F)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["SATURATION_MARGIN", "Kind", "MutualInformation", "standard_error"]

Kind = Literal["upper", "lower", "estimate"]

SATURATION_MARGIN = 0.1
"""Nats below a ceiling at which a number says more about the ceiling than about the channel (docs/theory.md P3)."""

_EMPTY: Mapping[str, float] = MappingProxyType({})
_SIGN = {"upper": "≤", "lower": "≥", "estimate": "≈"}


@dataclass(frozen=True)
class MutualInformation:
    """A bound on, or an estimate of, I(h; x).

    x is uniform on the N rows that the channel was built from, so I(h; x) ≤ log N. `kind` refers to this I; where the
    direction also holds for the population behind the rows, or only there, `assumes` says so.

    Attributes:
        nats: the value, in nats; +inf where a bound is infinite.
        kind: "upper" (I ≤ nats), "lower" (I ≥ nats) or "estimate" (neither).
        method: the name that `estimate` knows it by.
        stderr: standard error in nats over the draw of the rows and of the noise; it does not contain the bias. NaN
            where none is known.
        ceiling: nats that this method cannot exceed on this many rows, whatever the channel, or (leave-one-out) that
            I itself cannot; inf if there is none.
        assumes: what the direction rests on, one sentence each.
        parts: named parts of the value, in nats.
        saturated_part: name of a part that has reached log N although the sum has no ceiling; "" if none.
    """

    nats: float
    kind: Kind
    method: str
    stderr: float = math.nan
    ceiling: float = math.inf
    assumes: tuple[str, ...] = ()
    parts: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    saturated_part: str = ""

    @property
    def bits(self) -> float:
        """The value in bits."""
        return self.nats / math.log(2)

    @property
    def saturated(self) -> bool:
        """Within 0.1 nat of the ceiling, above it, or with a part at log N: not to be read as information."""
        return bool(self.saturated_part) or self.nats >= self.ceiling - SATURATION_MARGIN

    def __str__(self) -> str:
        error = "" if math.isnan(self.stderr) else f" ± {self.stderr:.2g}"
        text = f"I {_SIGN[self.kind]} {self.nats:.4g}{error} nats = {self.bits:.4g} bits ({self.kind}, {self.method})"
        if self.saturated:
            text += f"; SATURATED: {self._why_saturated()}. Remedy: add noise (tau > 0), or use more rows"
        return text

    def _why_saturated(self) -> str:
        if self.saturated_part:
            return f"the part '{self.saturated_part}' is at log N"
        if math.isinf(self.nats):
            return "the bound is infinite"
        return f"its ceiling is {self.ceiling:.4g} nats"


def standard_error(influence: NDArray[np.float64]) -> float:
    """Standard error of a statistic from its influence values [N] (infinitesimal jackknife), in their unit.

    A statistic T of the empirical law varies like the mean of its influence values (Efron & Stein 1981; Hampel 1974).
    """
    if len(influence) < 2 or not np.isfinite(influence).all():
        return math.nan
    return float(influence.std(ddof=1) / math.sqrt(len(influence)))
