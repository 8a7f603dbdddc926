"""`MutualInformation`: one number in nats, the side it errs on, its standard error and its ceiling (P3, F)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["SATURATION_MARGIN", "Kind", "MutualInformation", "Rounded", "sampling_error", "standard_error"]

Kind = Literal["upper", "lower", "estimate"]

SATURATION_MARGIN = 0.1
"""Nats below a ceiling at which a number says more about the ceiling than about the channel (docs/theory.md P3)."""

SATURATED_SHARE = 0.05
"""Share of rows at their own ceiling from which a mean over rows hides a part of the information."""

_FEW_ROWS = 0.06  # kurtosis/N of the influence values: the standard error itself is then known to 12 % only
_EMPTY: Mapping[str, float] = MappingProxyType({})
_SIGN = {"upper": "≤", "lower": "≥", "estimate": "≈"}


class Rounded:
    """A frozen dataclass whose numbers are 0 where rounding made them −0 or a little below; the base of every result.

    A difference of nats that is 0 in truth comes out as −1e-17, and would print as −0.
    """

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if isinstance(value, float) and -1e-12 < value <= 0:
                object.__setattr__(self, each.name, 0.0)


@dataclass(frozen=True)
class MutualInformation(Rounded):
    """A bound on, or an estimate of, I(h; x).

    x is uniform on the N rows that the channel was built from, so I(h; x) ≤ log N. `kind` refers to this I; where the
    direction also holds for the population behind the rows, or only there, `assumes` says so.

    Attributes:
        nats: the value, in nats; +inf where a bound is infinite, NaN where the method cannot give one (`warnings`).
        kind: "upper" (I ≤ nats), "lower" (I ≥ nats) or "estimate" (neither).
        method: the name that `estimate` knows it by.
        stderr: standard error in nats over the draw of the rows and of the noise; it does not contain the bias. NaN
            where none is known.
        ceiling: nats that this method cannot exceed on this many rows, whatever the channel, or (leave-one-out) that
            I itself cannot; inf if there is none.
        assumes: what the direction rests on, one sentence each.
        parts: named parts of the value, in nats.
        saturated_part: name of a part that has reached log N although the sum has no ceiling; "" if none.
        saturated_share: share of rows within 0.1 nat of their own ceiling, where the value is a mean over rows.
        warnings: what else keeps the number or its standard error from being relied on, one sentence each.
    """

    nats: float
    kind: Kind
    method: str
    stderr: float = math.nan
    ceiling: float = math.inf
    assumes: tuple[str, ...] = ()
    parts: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    saturated_part: str = ""
    saturated_share: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def bits(self) -> float:
        """The value in bits."""
        return self.nats / math.log(2)

    @property
    def saturated(self) -> bool:
        """Within 0.1 nat of the ceiling, above it, with a part at log N, or with 5 % of the rows at their own ceiling.

        Such a number is not to be read as information.
        """
        whole = self.nats >= self.ceiling - SATURATION_MARGIN
        return bool(self.saturated_part) or whole or self.saturated_share >= SATURATED_SHARE

    def __str__(self) -> str:
        error = "" if math.isnan(self.stderr) else f" ± {self.stderr:.2g}"
        value = f"I {_SIGN[self.kind]} {self.nats:.4g}{error} nats = {self.bits:.4g} bits"
        text = f"{'no number' if math.isnan(self.nats) else value} ({self.kind}, {self.method})"
        if self.saturated:
            text += f"; SATURATED: {self._why_saturated()}. Remedy: add noise (tau > 0), or use more rows"
        return text + "".join(f"; {warning}" for warning in self.warnings)

    def _why_saturated(self) -> str:
        if self.saturated_part:
            return f"the part '{self.saturated_part}' is at log N"
        if math.isinf(self.nats):
            return "the bound is infinite"
        if self.nats < self.ceiling - SATURATION_MARGIN:
            return f"{100 * self.saturated_share:.0f} % of the rows are at their ceiling of {self.ceiling:.4g} nats"
        return f"its ceiling is {self.ceiling:.4g} nats"


def sampling_error(influence: NDArray[np.float64]) -> dict[str, Any]:
    """`stderr` and `warnings` of a `MutualInformation` from its influence values [N].

    Under heavy tails the standard error is too small in most samples, whatever it is computed by; the kurtosis of the
    influence values says so: the variance of a variance is about kurtosis/N of its square.
    """
    error = standard_error(influence)
    if not error > 0:
        return {"stderr": error}
    centred = influence - influence.mean()
    kurtosis = float((centred**4).mean() / (centred**2).mean() ** 2)
    few = kurtosis > _FEW_ROWS * len(influence)
    warning = "the standard error rests on a few rows and may be too small. Remedy: more rows"
    return {"stderr": error, "warnings": (warning,) if few else ()}


def standard_error(influence: NDArray[np.float64]) -> float:
    """Standard error of a statistic from its influence values [N], or from its jackknife pseudo-values, in their unit.

    A statistic T of the empirical law varies like the mean of its influence values (Hampel 1974), or, where it is not
    smooth, like that of its pseudo-values (N−1)(T − T without row i): on average these never err below (Efron & Stein
    1981).
    """
    if len(influence) < 2 or not np.isfinite(influence).all():
        return math.nan
    return float(influence.std(ddof=1) / math.sqrt(len(influence)))
