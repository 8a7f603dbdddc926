"""The shape of Φ (docs/theory.md T7): do minima exist, where can they be, and when is there only one?

Existence: b ∈ range(AᵀA) and all w_j > 0 make Φ coercive. Then ḡ ≥ c − ‖β‖², so Φ(μ) ≤ Φ(0) = c forces ρ_j(μ_j) ≤ ‖β‖²
for every gate: a box that holds every global minimum. Convexity: ∇²Φ/2 = D_w^½ (G − diag 1/(2+α)) D_w^½ off the
corners, which themselves are convex, so λ_min(G) ≥ ½ makes Φ strictly convex: one minimum. ‖β‖², Φ in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.row_space import unit_diagonal

__all__ = ["ConvexityReport", "ExistenceReport", "check_convexity", "check_existence"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ExistenceReport:
    """Does Φ have a global minimum?

    Attributes:
        verdict: "coercive" (minima exist, in the box), "bounded" (some w_j = 0: those gates are free, minima exist in
            the others) or "unbounded below".
        reason: in words; names the remedy.
        free: indices of gates with w_j = 0.
        direction: unit vector [d] along which Φ falls for ever, or None.
        box: |μ_j| ≤ box_j [d] wherever Φ(μ) ≤ Φ(0), hence at every global minimum; inf on free gates and where the
            number leaves float64.
        lower_bound: Φ ≥ c − ‖β‖² everywhere, nats; −inf if unbounded below.
    """

    verdict: Literal["coercive", "bounded", "unbounded below"]
    reason: str
    free: NDArray[np.intp]
    direction: Array | None
    box: Array
    lower_bound: float

    def __str__(self) -> str:
        return f"Phi is {self.verdict}: {self.reason}"


@dataclass(frozen=True)
class ConvexityReport:
    """Is Φ convex?

    Attributes:
        verdict: "convex" (λ_min(G) ≥ ½: one minimum), "not convex" (negative curvature next to μ = 0) or "undecided"
            (λ_min within rounding of ½).
        min_eigenvalue: λ_min(G) of the Gram matrix of unit columns; inf if no column has w > 0.
        margin: λ_min(G) − ½.
    """

    verdict: Literal["convex", "not convex", "undecided"]
    min_eigenvalue: float
    margin: float

    def __str__(self) -> str:
        meaning = {
            "convex": "there is one local minimum, the global one",
            "not convex": "several local minima are possible",
            "undecided": "the margin is within rounding",
        }[self.verdict]
        return f"Phi is {self.verdict}: lambda_min(G) = {self.min_eigenvalue:.6g} against 1/2, so {meaning}."


def check_existence(bound: QuadraticBound) -> ExistenceReport:
    """Decide whether Φ has a global minimum, and the box that holds it (T7, "existence").

    Args:
        bound: ḡ with d gates.
    """
    free = np.flatnonzero(bound.w == 0)
    direction = bound.unbounded_direction()
    if direction is not None:
        reason = (
            f"the slope along a direction in A's null space is {bound.b @ direction:.3g}. "
            "Remedy: see QuadraticBound.require_bounded, which names the direction."
        )
        return ExistenceReport("unbounded below", reason, free, direction, np.full(bound.d, np.inf), -np.inf)
    beta_squared = bound.beta_norm() ** 2
    box = np.full(bound.d, np.inf)
    live = bound.live
    with np.errstate(over="ignore"):
        box[live] = _inverse_penalty(beta_squared / bound.gamma[live]) * np.sqrt(bound.gamma[live] / bound.w[live])
    lower = bound.c - beta_squared
    if free.size:
        reason = f"gates with w = 0 are free ({free.size} of {bound.d}); minima exist in the others."
        return ExistenceReport("bounded", reason, free, None, box, lower)
    reason = "b is in A's row space and every w > 0, so global minima exist, inside the box."
    return ExistenceReport("coercive", reason, free, None, box, lower)


def check_convexity(bound: QuadraticBound) -> ConvexityReport:
    """Decide G ⪰ ½I, which makes Φ strictly convex in the gates with w > 0 (T7, "convexity").

    "Not convex" is exact too: where λ_min(G) < ½ the curvature next to μ = 0, all gates just open, is negative.

    Args:
        bound: ḡ with d gates. Cost: the least eigenvalue of a [d, d] matrix.
    """
    live = bound.live
    if live.size == 0:
        return ConvexityReport("convex", np.inf, np.inf)
    gram = unit_diagonal(bound.gram[np.ix_(live, live)], bound.w[live])
    least = float(scipy.linalg.eigvalsh(gram, subset_by_index=[0, 0], check_finite=False)[0])
    rounding = 16 * live.size * float(np.finfo(np.float64).eps)
    verdict: Literal["convex", "not convex", "undecided"]
    if abs(least - 0.5) <= rounding and live.size > 1:
        verdict = "undecided"
    else:
        verdict = "convex" if least > 0.5 else "not convex"
    return ConvexityReport(verdict, least, least - 0.5)


def _inverse_penalty(y: Array) -> Array:
    """t with u(t) + log(1+α(t)) = y: ρ/γ inverted. With t = 2 sinh s it reads 1 − e^{−2s} + 2s = y; Newton in s."""
    # 1 − e^{−2s} + 2s is concave and increasing, and at most min(4s, 1 + 2s): this start is at or left of the root,
    # where Newton's step overshoots nothing and climbs monotonically.
    s = np.maximum(y / 4, (y - 1) / 2)
    for _ in range(60):
        step = (y + np.expm1(-2 * s) - 2 * s) / (2 + 2 * np.exp(-2 * s))
        s = s + step
        if (np.abs(step) <= 1e-15 * (1 + s)).all():
            break
    return np.asarray(2 * np.sinh(s) * (1 + 1e-12))  # rounded outwards: the box must hold the minimum
