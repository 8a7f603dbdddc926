"""The rank-free budget (docs/theory.md T7): how many gates can be open, from ‖β‖²/γ alone.

With b = −2Aᵀβ, β ∈ range A, multiply the gradient of Φ by μ and sum: since |μ_j|ρ_j' = 2γ_jα_j/(1+α_j),

    Σ_j γ_j α_j/(1+α_j) = (β − Aμ)ᵀAμ ≤ ¼‖β‖²    at every stationary point, minimum or not.

So #{α_j ≥ a} ≤ ‖β‖²(1+a)/(4aγ_min), before anything is solved. γ, β², and the budget are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from vibtheory.errors import as_array, as_scalar, reject
from vibtheory.theory.penalty import noise_fraction, penalty_slope, snr
from vibtheory.theory.quadratic import QuadraticBound

if TYPE_CHECKING:
    from vibtheory.theory.redundancy import CertifiedPoint

__all__ = ["BudgetReport", "check_budget", "survivor_limit"]

# The gradient's share of its own terms below which a point counts as stationary for the identity.
_STATIONARY = 1e-6


@dataclass(frozen=True)
class BudgetReport:
    """T7's budget at one stationary point.

    Attributes:
        verdict: holds | violated | not applicable.
        reason: in words; names the remedy where the check does not apply.
        spent: Σ_j γ_jα_j/(1+α_j), nats.
        earned: (β − Aμ)ᵀAμ, nats; equal to `spent` at a stationary point.
        ceiling: ¼‖β‖², nats.
        identity_error: |spent − earned|, nats.
        allowed_error: what the gradient that is left explains, ½Σ|μ_j∇_j|, plus rounding; nats.
        level: a.
        count: #{α_j ≥ a}.
        count_limit: the a-priori bound on `count` (`survivor_limit`).
    """

    verdict: Literal["holds", "violated", "not applicable"]
    reason: str
    spent: float
    earned: float
    ceiling: float
    identity_error: float
    allowed_error: float
    level: float
    count: int
    count_limit: int

    def __str__(self) -> str:
        return (
            f"T7 budget {self.verdict}: spent {self.spent:.6g} of at most {self.ceiling:.6g} nats "
            f"(identity to {self.identity_error:.1e}); {self.count} gates with alpha >= {self.level:g}, "
            f"at most {self.count_limit} possible. {self.reason}"
        )


def survivor_limit(bound: QuadraticBound, level: float = 1.0) -> int:
    """The most gates with α_j ≥ a that any stationary point can have, whatever the rank; nothing is solved.

    A gate with α_j ≥ a spends at least γ_ja/(1+a) of ¼‖β‖². With equal prices this is ⌊‖β‖²(1+a)/(4aγ)⌋, as in T7;
    with unequal ones the cheapest gates are counted first, which is never looser than γ_min for all.

    Args:
        bound: ḡ with d gates, b in A's row space.
        level: a > 0.

    Returns:
        A count between 0 and the number of columns with w > 0.

    Raises:
        InvalidInputError: a ≤ 0, or Φ is unbounded below (b outside the row space: there is no β).
    """
    a = as_scalar("level", level)
    if a <= 0:
        reject("level", a, "a number > 0", "use 1, the value at which signal equals noise")
    bound.require_bounded()
    available = bound.beta_norm() ** 2 / 4 * (1 + a) / a
    prices = np.sort(bound.gamma[bound.live])
    # Relative 1e-12: ‖β‖ is computed, and a limit that is attained must not be rounded away.
    return int(np.searchsorted(np.cumsum(prices), available * (1 + 1e-12), side="right"))


def check_budget(bound: QuadraticBound, minimum: CertifiedPoint | ArrayLike, level: float = 1.0) -> BudgetReport:
    """Verify the budget identity, its ceiling and the a-priori count at a stationary point (T7).

    Args:
        bound: ḡ with d gates.
        minimum: a stationary point: anything with `.mu`, or μ [d] itself. Being a minimum is not required.
        level: a > 0, the α from which a gate is counted.

    Raises:
        InvalidInputError: wrong shape, level ≤ 0, or Φ unbounded below.
    """
    limit = survivor_limit(bound, level)
    mu = as_array("minimum", _mean_of(minimum), (bound.d,), "pass a minimum of this bound, or its mu")
    live = np.where(bound.w > 0, mu, 0.0)
    scale = np.abs(live) * np.sqrt(bound.w / bound.gamma)
    spent = float(bound.gamma @ (1 - noise_fraction(scale)))
    quadratic = float(bound.value(live)) - bound.c - float(bound.b @ live)  # ‖Aμ‖²
    earned = -0.5 * float(bound.b @ live) - quadratic
    ceiling = bound.beta_norm() ** 2 / 4

    on = live != 0
    gradient = np.where(on, bound.gradient(live), 0.0)
    left = 0.5 * float(np.abs(live) @ np.abs(gradient))
    # Each gate's share of what is spent is a difference of numbers up to γ.
    terms = quadratic + 0.5 * float(np.abs(bound.b) @ np.abs(live)) + float(bound.gamma[live != 0].sum())
    rounding = 64 * np.finfo(np.float64).eps * np.sqrt(bound.d) * terms
    error, allowed = abs(spent - earned), left + rounding
    count = int(np.sum(snr(live, bound.w, bound.gamma) >= level))

    # On the support the penalty's slope balances the rest; off it, it must be able to.
    slope = penalty_slope(live, bound.w, bound.gamma)
    excess = np.where(on, np.abs(gradient), np.maximum(np.abs(bound.smooth_gradient(live)) - slope, 0.0))
    allowance = _STATIONARY * slope + 1e-9 * np.abs(bound.b)
    stationary = bool((excess <= allowance)[bound.live].all())
    verdict: Literal["holds", "violated", "not applicable"]
    if not stationary:
        verdict = "not applicable"
        reason = "The point is not stationary. Remedy: continue with find_local_minimum(bound, start=mu)."
    elif error <= allowed and spent <= ceiling + allowed and count <= limit:
        verdict, reason = "holds", "Identity, ceiling and count agree."
    else:
        verdict, reason = "violated", "A stationary point breaks the budget: please report it with its bound."
    return BudgetReport(verdict, reason, spent, earned, ceiling, error, allowed, float(level), count, limit)


def _mean_of(minimum: Any) -> Any:
    return getattr(minimum, "mu", minimum)
