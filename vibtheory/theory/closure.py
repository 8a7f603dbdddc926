"""When is everything closed? (T7): the prices at which μ = 0 is a minimum, and the only stationary point.

At μ = 0 the penalty's corner 2√(γ_jw_j) must outweigh |b_j|: a strict local minimum if γ_j > b_j²/(4w_j) for all j,
none if "<" for some j. Globally: at a stationary point with μ_j ≠ 0, r = β − Aμ, T1 and Cauchy–Schwarz give
γ_j(1−u_j) = (a_jᵀr)²/w_j ≤ ‖r‖², and the budget Σγu = rᵀβ − ‖r‖² > 0 gives ‖r‖ < ‖β‖; together

    γ_j ≤ ‖r‖² + Σγu = rᵀβ < ‖β‖²,

so a gate with γ_j ≥ ‖β‖² is closed at *every* stationary point, whatever the others do (T7, gate by gate). Nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vibtheory.theory.quadratic import QuadraticBound

__all__ = ["ClosureReport", "check_closure"]

Array = NDArray[np.float64]

# Relative distance of γ from b²/(4w) below which neither side is claimed.
_TIE = 1e-12


@dataclass(frozen=True, eq=False)
class ClosureReport:
    """What is known about μ = 0 at the bound's prices.

    Attributes:
        verdict: "only stationary point", "strict local minimum", "tie" or "not a local minimum": of the point μ = 0.
        reason: in words.
        margins: γ_j − b_j²/(4w_j) [d] in nats; inf where w_j = 0.
        always_closed: gates with γ_j ≥ ‖β‖² [d], boolean: closed at every stationary point.
        local_price: the least single γ above which 0 is a strict local minimum, max_j b_j²/(4w_j), nats.
        global_price: ‖β‖², nats: from this single γ on, 0 is the only stationary point.
    """

    verdict: Literal["only stationary point", "strict local minimum", "tie", "not a local minimum"]
    reason: str
    margins: Array
    always_closed: NDArray[np.bool_]
    local_price: float
    global_price: float

    def __str__(self) -> str:
        return (
            f"mu = 0: {self.verdict}. {self.reason} Strict local minimum for gamma > {self.local_price:.6g}, "
            f"alone from gamma = {self.global_price:.6g} nats on."
        )


def check_closure(bound: QuadraticBound) -> ClosureReport:
    """Decide what μ = 0 is at the bound's prices, and which gates are closed at every stationary point (T7).

    Args:
        bound: ḡ with d gates.

    Raises:
        InvalidInputError: Φ is unbounded below (b outside A's row space: there is no β).
    """
    bound.require_bounded()
    live = bound.w > 0
    needed = np.zeros(bound.d)
    needed[live] = (bound.b[live] / np.sqrt(bound.w[live])) ** 2 / 4
    margins = np.where(live, bound.gamma - needed, np.inf)
    beta_squared = bound.beta_norm() ** 2
    always = ~live | (bound.gamma >= beta_squared)

    verdict: Literal["only stationary point", "strict local minimum", "tie", "not a local minimum"]
    tight = np.where(live, margins / bound.gamma, np.inf)
    worst = int(np.argmin(tight))
    if always.all():
        verdict, reason = "only stationary point", "Every price is at least ||beta||^2."
    elif tight[worst] > _TIE:
        verdict, reason = (
            "strict local minimum",
            f"Closest to opening: gate {worst} (margin {margins[worst]:.3g} nats).",
        )
    elif tight[worst] < -_TIE:
        open_ = int(np.sum(tight < -_TIE))
        verdict, reason = "not a local minimum", f"{open_} gates gain by opening, gate {worst} most."
    else:
        verdict, reason = "tie", f"Gate {worst} has gamma = b^2/(4w) to rounding: first order does not decide."
    return ClosureReport(verdict, reason, margins, always, float(needed.max()), beta_squared)
