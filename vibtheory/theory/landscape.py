"""What is known of Φ before it is minimised (docs/theory.md T7): ‖β‖², γ and Φ in nats, b = −2Aᵀβ with β ∈ range A.

Existence: b ∈ range(AᵀA) and all w_j > 0 make Φ coercive. Then ḡ ≥ c − ‖β‖², so Φ(μ) ≤ Φ(0) = c forces ρ_j(μ_j) ≤ ‖β‖²
for every gate: a box that holds every global minimum. Convexity: ∇²Φ/2 = D_w^½ (G − diag 1/(2+α)) D_w^½ off the
corners, which themselves are convex, so λ_min(G) ≥ ½ makes Φ strictly convex: one minimum.

Budget, whatever the rank: multiply the gradient of Φ by μ and sum; since |μ_j|ρ_j' = 2γ_jα_j/(1+α_j),

    Σ_j γ_j α_j/(1+α_j) = (β − Aμ)ᵀAμ ≤ ¼‖β‖²    at every stationary point, minimum or not.

Closure: at μ = 0 the penalty's corner 2√(γ_jw_j) must outweigh |b_j|: a strict local minimum if γ_j > b_j²/(4w_j) for
all j, none if "<" for some j. Globally: at a stationary point with μ_j ≠ 0, r = β − Aμ, T1 and Cauchy–Schwarz give
γ_j(1−u_j) = (a_jᵀr)²/w_j ≤ ‖r‖², and the budget Σγu = rᵀβ − ‖r‖² > 0 gives ‖r‖ < ‖β‖; together
γ_j ≤ ‖r‖² + Σγu = rᵀβ < ‖β‖²: a gate with γ_j ≥ ‖β‖² is closed at *every* stationary point, whatever the others do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_scalar, reject
from vibtheory.storage.report import Report
from vibtheory.theory.gram import unit_diagonal
from vibtheory.theory.penalty import root_noise
from vibtheory.theory.quadratic import QuadraticBound, check_bound
from vibtheory.theory.redundancy import CertifiedPoint

__all__ = [
    "BudgetReport",
    "ClosureReport",
    "ConvexityReport",
    "ExistenceReport",
    "check_budget",
    "check_closure",
    "check_convexity",
    "check_existence",
    "survivor_limit",
]

Array = NDArray[np.float64]

# The gradient's share of its own terms below which a point counts as stationary for the identity.
_STATIONARY = 1e-6
# Relative distance of γ from b²/(4w) below which neither side is claimed.
_TIE = 1e-12


@dataclass(frozen=True, eq=False)
class ExistenceReport(Report):
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
class ConvexityReport(Report):
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


@dataclass(frozen=True, eq=False)
class ClosureReport(Report):
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


@dataclass(frozen=True)
class BudgetReport(Report):
    """T7's budget at one stationary point.

    Attributes:
        verdict: holds | violated | not applicable.
        reason: in words; names the remedy where the check does not apply.
        spent: Σ_j γ_jα_j/(1+α_j), nats.
        earned: (β − Aμ)ᵀAμ, nats; equal to `spent` at a stationary point.
        ceiling: ¼‖β‖², nats.
        identity_error: |spent − earned|, nats.
        allowed_error: what the gradient that is left explains, ½Σ|μ_j∇_j|, plus rounding in the terms summed; nats.
        level: a.
        count: gates with α_j ≥ a.
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


def check_existence(bound: QuadraticBound) -> ExistenceReport:
    """Decide whether Φ has a global minimum, and the box that holds it (T7, "existence").

    Args:
        bound: ḡ with d gates.
    """
    check_bound(bound)
    free = np.flatnonzero(bound.w == 0)
    direction = bound.unbounded_direction()
    if direction is not None:
        reason = (
            f"the slope along a direction in A's null space is {bound.b @ direction:.3g}. "
            "Remedy: see QuadraticBound.require_bounded, which names the direction."
        )
        return ExistenceReport("unbounded below", reason, free, direction, np.full(bound.d, np.inf), -np.inf)
    beta_squared = bound._beta_squared_above
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
    check_bound(bound)
    live = bound.live
    if live.size == 0:
        return ConvexityReport("convex", np.inf, np.inf)
    gram = unit_diagonal(bound.gram[np.ix_(live, live)], bound.w[live])
    least = float(scipy.linalg.eigvalsh(gram, subset_by_index=[0, 0], check_finite=False)[0])
    rounding = 4 * live.size * bound._ulps
    verdict: Literal["convex", "not convex", "undecided"]
    if abs(least - 0.5) <= rounding and live.size > 1:
        verdict = "undecided"
    else:
        verdict = "convex" if least > 0.5 else "not convex"
    return ConvexityReport(verdict, least, least - 0.5)


def check_closure(bound: QuadraticBound) -> ClosureReport:
    """Decide what μ = 0 is at the bound's prices, and which gates are closed at every stationary point (T7).

    Args:
        bound: ḡ with d gates.

    Raises:
        InvalidInputError: Φ is unbounded below (b outside A's row space: there is no β).
    """
    check_bound(bound)
    bound.require_bounded()
    live = bound.w > 0
    needed = np.zeros(bound.d)
    needed[live] = (bound.b[live] / np.sqrt(bound.w[live])) ** 2 / 4
    margins = np.where(live, bound.gamma - needed, np.inf)
    always = ~live | (bound.gamma >= bound._beta_squared_above)

    verdict: Literal["only stationary point", "strict local minimum", "tie", "not a local minimum"]
    tight = np.where(live, margins / bound.gamma, np.inf)
    worst = int(np.argmin(tight))
    if always.all():
        verdict, reason = "only stationary point", "Every price is at least ||beta||^2."
    elif tight[worst] > _TIE:
        verdict = "strict local minimum"
        reason = f"Closest to opening: gate {worst} (margin {margins[worst]:.3g} nats)."
    elif tight[worst] < -_TIE:
        open_ = int(np.sum(tight < -_TIE))
        verdict, reason = "not a local minimum", f"{open_} gates gain by opening, gate {worst} most."
    else:
        verdict, reason = "tie", f"Gate {worst} has gamma = b^2/(4w) to rounding: first order does not decide."
    return ClosureReport(verdict, reason, margins, always, float(needed.max()), bound.beta_norm() ** 2)


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
    check_bound(bound)
    a = as_scalar("level", level)
    if a <= 0:
        reject("level", a, "a number > 0", "use 1, the value at which signal equals noise")
    bound.require_bounded()
    available = bound._beta_squared_above / 4 * (1 + a) / a
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
    level = as_scalar("level", level)
    limit = survivor_limit(bound, level)
    point: Any = minimum
    mu = as_array("minimum", getattr(point, "mu", point), (bound.d,), "pass a minimum of this bound, or its mu")
    live = np.where(bound.w > 0, mu, 0.0)
    profile = bound._profile(live)
    spent = float(bound.gamma @ (1 - root_noise(profile.t) ** 2))
    smooth = bound._smooth_gradient(live)  # 2AᵀAμ + b
    earned = -0.5 * float(live @ smooth)
    ceiling = bound.beta_norm() ** 2 / 4

    # Rounding is relative to the terms that were summed, not to what is left of them: with ill-conditioned A, ‖Aμ‖² is
    # far below ‖|A||μ|‖². Each gate's share of what is spent is a difference of numbers up to γ.
    on = live != 0
    summed = bound._ulps * (2 * bound._summed(live) + np.abs(bound.b))
    slope = profile.slope
    gradient = np.where(on, smooth + np.sign(live) * slope, 0.0)
    left = 0.5 * float(np.abs(live) @ np.abs(gradient))
    rounding = float(np.abs(live) @ summed) + bound._ulps * float(bound.gamma[on].sum())
    error, allowed = abs(spent - earned), left + rounding
    count = int(np.sum(profile.alpha >= level))

    # On the support the penalty's slope balances the rest; off it, it must be able to.
    excess = np.where(on, np.abs(gradient), np.maximum(np.abs(smooth) - slope, 0.0))
    allowance = _STATIONARY * slope + 1e-9 * np.abs(bound.b) + summed
    stationary = bool((excess <= allowance)[bound.live].all())
    verdict: Literal["holds", "violated", "not applicable"]
    if not stationary:
        verdict = "not applicable"
        reason = "The point is not stationary. Remedy: continue with find_local_minimum(bound, start=mu)."
    elif error <= allowed and spent <= bound._beta_squared_above / 4 + allowed and count <= limit:
        verdict, reason = "holds", "Identity, ceiling and count agree."
    else:
        verdict, reason = "violated", "A stationary point breaks the budget: please report it with its bound."
    return BudgetReport(verdict, reason, spent, earned, ceiling, error, allowed, level, count, limit)


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
