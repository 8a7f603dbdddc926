"""Deciding "local minimum" in floating point (T6): necessary and sufficient conditions with rounding bounds.

Columns with w_j = 0 are removed. In the normalised coordinates x = μ√(w/γ₀) of `theory.normalised`, with F = Φ/γ₀ and
S the exact non-zeros, the certificate establishes

1. gradient 0 on S, up to η = (‖∇_S F‖ + rounding)/m, an upper bound on ‖H⁻¹∇‖; where rounding in float64 makes η
   coarse, ∇_S F is taken in long double and η = ‖y‖ + (‖∇_S F − Hy‖ + rounding)/m, with y ≈ H⁻¹∇;
2. m > 0, a lower bound on λ_min(H), H = 2(G_S − diag(1/(2+α_S))) (twice the matrix that T6 writes), rounding removed;
3. strict off-support slack 2√D_j − |2G_jᵀx + p_j| > 4η‖G_jS‖ + rounding;
4. Kantorovich: ηℓ/m ≤ ½ and 2η < min|x_S|, ℓ = max r'''/√D over the ball of radius 2η (≤ ½, T6's constant): Newton's
   method from x converges to an exact stationary point within 2η of x, with the same signs and a positive definite
   Hessian. By 3 the slack is still positive there: an exact strict local minimum of Φ, with exactly this support.

Where a slack is smaller in size than what floating point can decide, it is a tie; then H on S ∪ T (α_T = 0) must be
strictly copositive on {d_j·grad_j ≤ 0}: d_S is free, so its Schur complement on T, in the descending signs, must be.

Everything is dimensionless: multiplying A, b, γ so that Φ is only rescaled, or rescaling μ, changes no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_generator
from vibtheory.storage.report import Report
from vibtheory.theory.normalised import EPS, NormalisedProblem, normalise
from vibtheory.theory.penalty import root_noise
from vibtheory.theory.quadratic import QuadraticBound, check_bound

__all__ = [
    "CERTIFIED",
    "LARGE",
    "NOT_CONVERGED",
    "STATIONARY",
    "STATIONARY_TOLERANCE",
    "Certificate",
    "certify",
    "certify_normalised",
    "copositivity_violation",
    "least_eigenvalue",
    "support_hessian",
]

Array = NDArray[np.float64]
Index = NDArray[np.intp]

CERTIFIED = "certified local minimum"
STATIONARY = "stationary, not certified"
NOT_CONVERGED = "not converged"
# |∇F_j| ≤ 1e-8 of the slope 2√D_j of the penalty at 0, beyond rounding: what counts as stationary.
STATIONARY_TOLERANCE = 1e-8
LARGE = 1000
_POWER_STEPS = 20
_COARSE = 1e-3  # η past this share of what the tests allow is worth the cost of long double
MAX_ORDER = 10


@dataclass(frozen=True)
class Certificate(Report):
    """What is proved about one point μ. Lengths and gradients are in x = μ√(w/γ₀), γ₀ = min γ, with F = Φ/γ₀.

    Attributes:
        status: "certified local minimum", "stationary, not certified" or "not converged".
        reason: what was proved, or which condition failed and the remedy.
        gradient_norm: ‖∇_S F‖ plus its rounding bound.
        off_support_slack: min over j ∉ S of 2√D_j − |2G_jᵀx + p_j|, before rounding; inf if S is everything.
        min_eigenvalue: m, a lower bound on λ_min of the Hessian of F on S; inf if S is empty.
        newton_bound: η ≥ ‖H⁻¹∇‖; inf where m ≤ 0.
        kantorovich: ηℓ/m; proved convergence needs ≤ ½.
        radius: 2η: an exact minimum lies this near, if certified.
        ties: indices j ∉ S whose slack floating point cannot tell from 0.
        support: S, indices of the exact non-zeros among columns with w_j > 0.
        escape: a direction in μ [d] along which Φ falls to second order, where one was found, else None.
    """

    status: str
    reason: str
    gradient_norm: float
    off_support_slack: float
    min_eigenvalue: float
    newton_bound: float
    kantorovich: float
    radius: float
    ties: tuple[int, ...]
    support: tuple[int, ...]
    escape: Array | None = None

    @property
    def certified(self) -> bool:
        """Whether `status` is "certified local minimum"."""
        return self.status == CERTIFIED

    def __str__(self) -> str:
        return (
            f"{self.status}: {self.reason} (|S| = {len(self.support)}, gradient {self.gradient_norm:.2g}, "
            f"slack {self.off_support_slack:.3g}, m {self.min_eigenvalue:.3g}, eta {self.newton_bound:.2g}, "
            f"kantorovich {self.kantorovich:.2g}, {len(self.ties)} ties)"
        )


def certify(bound: QuadraticBound, mu: ArrayLike) -> Certificate:
    """Decide whether a local minimum of Φ with exactly the non-zeros of `mu` lies at `mu` (T6).

    Args:
        bound: ḡ with its prices γ.
        mu: [d] gate means; a zero must be exactly 0 (polish a solver's output first: 1e-7 is not a zero).

    Returns:
        Certificate; never raises for a numerical failure.

    Raises:
        InvalidInputError: mu of the wrong shape or not finite.

    Source: docs/theory.md T6; Kantorovich's theorem.
    """
    check_bound(bound)
    point = as_array("mu", mu, (bound.d,), "pass one μ per gate")
    stuck = np.flatnonzero((bound.w == 0) & (bound.b != 0))
    if stuck.size:
        return _failed(
            NOT_CONVERGED,
            f"gate {stuck[0]} has w = 0 and b ≠ 0, so Φ is linear in it and has no minimum; set b to 0 there",
            np.flatnonzero((point != 0) & (bound.w > 0)),
        )
    problem = normalise(bound)
    return certify_normalised(problem, problem.coordinates(point))


def certify_normalised(problem: NormalisedProblem, x: Array, response: Array | None = None) -> Certificate:
    """`certify` at `x` [k] of a `NormalisedProblem`, the `problem`; x is not checked, nor its `response` if given."""
    support = np.flatnonzero(x)
    every_root = np.sqrt(problem.price)
    response = problem.response(x) if response is None else response
    error = problem.response_error(x)
    closed = np.ones(problem.size, dtype=bool)
    closed[support] = False

    root = every_root[support]
    v = root_noise(np.abs(x[support]) / root)
    gradient = response[support] + 2.0 * root * v * np.sign(x[support])
    gradient_norm = float(np.linalg.norm(gradient) + np.linalg.norm(error[support]))
    slack = 2.0 * every_root - np.abs(response)
    smallest_slack = float(slack[closed].min()) if closed.any() else np.inf
    found = problem.live[support]

    if (4.0 * error[support] > root).any():  # not so much as the sign of the gradient is known
        reason = f"|x| up to {np.abs(x).max():.2g}: rounding hides the gradient; start nearer to 0"
        return _failed(NOT_CONVERGED, reason, found, gradient_norm, smallest_slack)
    limit = STATIONARY_TOLERANCE * 2.0 * root + 4.0 * error[support]
    if (np.abs(gradient) > limit).any() or not np.isfinite(gradient_norm):
        worst = float((np.abs(gradient) / root).max())
        reason = f"gradient on the support is {worst:.2g} of the gate's unit; run the solver longer, or polish"
        return _failed(NOT_CONVERGED, reason, found, gradient_norm, smallest_slack)

    if len(support) > LARGE and (closed & (slack < -1e-6 * every_root)).any():  # spare the eigenvalue: no minimum
        gate = int(problem.live[np.argmin(np.where(closed, slack, np.inf))])
        reason = f"Φ falls when gate {gate} opens; run the solver longer"
        return _failed(NOT_CONVERGED, reason, found, gradient_norm, smallest_slack)
    hessian, m, vector, blur = _curvature(problem, support, v)
    eta = gradient_norm / m if m > 0 else np.inf  # nothing open: gradient 0, m = inf, eta = 0
    smallest = float(np.abs(x[support]).min(initial=np.inf))
    if hessian is not None and m > 0 and len(support) <= LARGE and eta > _COARSE * min(m, smallest):
        gradient, rounding = problem.fine_gradient(x, support)
        step = np.linalg.solve(hessian, gradient)
        rest = float(np.linalg.norm(gradient - hessian @ step)) + 2.0 * blur * float(np.linalg.norm(step))
        eta = min(eta, float(np.linalg.norm(step)) + (rest + float(np.linalg.norm(rounding))) / m)
    # What rounding and the distance to the exact stationary point could do to |response_j|.
    doubt = error
    if hessian is not None and np.isfinite(eta):
        doubt = error + 4.0 * eta * np.sqrt(0.5 * np.linalg.norm(hessian) + 0.5)  # ‖G_jS‖² ≤ λ_max(G_S)
        unclear = np.flatnonzero(closed & (np.abs(slack) <= doubt))
        doubt[unclear] = error[unclear] + 4.0 * eta * np.linalg.norm(problem.block(unclear, support), axis=1)
    opening = closed & (slack < -doubt)
    if opening.any():
        worst_gate = int(problem.live[np.argmin(np.where(opening, slack, np.inf))])
        reason = f"Φ falls when gate {worst_gate} opens; run the solver longer"
        return _failed(NOT_CONVERGED, reason, found, gradient_norm, smallest_slack, m)
    if m <= 0:
        reason = f"the Hessian on the support is not positive definite (m = {m:.2g}): a saddle or a flat direction; "
        reason += "follow the negative curvature (find_local_minimum does)"
        direction = None if vector is None else _lift(problem, support, vector)
        return _failed(STATIONARY, reason, found, gradient_norm, smallest_slack, m, escape=direction)

    nearest = np.maximum(np.abs(x[support]) - 2.0 * eta, 0.0) / root
    near_v = root_noise(nearest)
    lipschitz = float((4.0 * (near_v / (1.0 + near_v**2)) ** 3 / root).max()) if len(support) else 0.0
    ratio = eta * lipschitz / m if len(support) else 0.0
    numbers = (gradient_norm, smallest_slack, m, eta, ratio)
    if ratio > 0.5 or 2.0 * eta >= smallest:
        reason = f"too near singular for Kantorovich's test (eta {eta:.2g}, eta·l/m {ratio:.2g}); polish, or change γ"
        return _failed(STATIONARY, reason, found, *numbers)

    tied = np.flatnonzero(closed & (slack <= doubt))
    ties = tuple(int(j) for j in problem.live[tied])
    if len(tied):
        direction = _tie_escape(problem, support, tied, hessian, response)
        if direction is not None:
            escape = _lift(problem, np.arange(problem.size), direction) if direction.any() else None
            reason = f"tie at gates {list(ties)[:5]} and the Hessian with them is not copositive: Φ can fall; "
            reason += "restart a little off the tie, or change γ"
            return _failed(STATIONARY, reason, found, *numbers, ties=ties, escape=escape)
    how = f"within {2 * eta:.2g} of an exact strict local minimum with these signs"
    if len(tied):
        how = (
            f"up to ties at gates {list(ties)[:5]}, resolved only to {float(doubt[tied].max()):.2g} and decided by "
            f"copositivity; if they are exact, within {2 * eta:.2g} of a strict local minimum with these signs"
        )
    return Certificate(CERTIFIED, how, *numbers, 2.0 * eta, ties, tuple(int(j) for j in found))


def support_hessian(problem: NormalisedProblem, support: Index, v: Array) -> Array:
    """H [s, s] = 2(G_S − diag(1/(2+α_S))), 1/(2+α) = v²/(1+v²): the Hessian of F = Φ/γ₀ on S.

    Takes the `problem` in x coordinates, `support` [s], the places of S among its k columns, and `v` [s] = 1/√(1+α_S).
    """
    hessian = np.asarray(2.0 * problem.block(support, support))
    hessian[np.diag_indices(len(support))] -= 2.0 * v**2 / (1.0 + v**2)
    return hessian


def _curvature(problem: NormalisedProblem, support: Index, v: Array) -> tuple[Array | None, float, Array | None, float]:
    """H on S, a rigorous lower bound m on its least eigenvalue, that eigenvector where m ≤ 0, and H's rounding."""
    size = len(support)
    if size == 0:
        return None, np.inf, None, 0.0
    hessian = support_hessian(problem, support, v)
    error = 2.0 * size * (problem.entry_error + 8 * EPS) + 10 * size * EPS * float(np.linalg.norm(hessian))
    smallest, vector = least_eigenvalue(hessian)
    m = smallest - error
    if m <= 0 and vector is None:
        vector = np.asarray(np.linalg.eigh(hessian)[1][:, 0])
    return hessian, m, vector, error


def least_eigenvalue(matrix: Array) -> tuple[float, Array | None]:
    """A number ≤ λ_min(matrix) up to the rounding of `eigvalsh`, and an eigenvector where it is not positive.

    Up to order 1000 λ_min itself. Past it, where the matrix is positive definite: inverse iteration gives an estimate
    λ ≥ λ_min, and a Cholesky factorisation of matrix − ½λ that succeeds proves ½λ less the factorisation's backward
    error, (n + 1)·eps·trace; a fraction of the cost of all eigenvalues.

    Args:
        matrix: [n, n] symmetric, n ≥ 1.
    """
    size = len(matrix)
    if size <= LARGE:
        smallest = float(np.linalg.eigvalsh(matrix)[0])
        return smallest, None if smallest > 0 else np.asarray(np.linalg.eigh(matrix)[1][:, 0])
    try:
        factor = scipy.linalg.cho_factor(matrix, check_finite=False)
        vector = as_generator("seed", 0, "power iteration").standard_normal(size)
        growth = 1.0
        for _ in range(_POWER_STEPS):
            solved = scipy.linalg.cho_solve(factor, vector / np.linalg.norm(vector), check_finite=False)
            growth = float(np.linalg.norm(solved))
            vector = solved
        shift = 0.5 / growth
        scipy.linalg.cholesky(matrix - shift * np.eye(size), lower=True, overwrite_a=True, check_finite=False)
        return shift - (size + 1) * EPS * float(np.trace(matrix)), None
    except scipy.linalg.LinAlgError:
        values, vectors = scipy.linalg.eigh(matrix, subset_by_index=[0, 0], check_finite=False)
        return float(values[0]), np.asarray(vectors[:, 0])


def _tie_escape(
    problem: NormalisedProblem, support: Index, tied: Index, hessian: Array | None, response: Array
) -> Array | None:
    """None if H on S ∪ T is strictly copositive on the critical cone, else a direction [k] (0 if undecided)."""
    signs = -np.sign(response[tied])
    corner = np.asarray(2.0 * problem.block(tied, tied) - np.eye(len(tied)), dtype=np.float64)  # α_T = 0: 2·1/(2+0) = 1
    solved: Array = np.zeros((0, len(tied)))
    if hessian is not None:
        across = 2.0 * problem.block(support, tied)
        solved = np.asarray(np.linalg.solve(hessian, across), dtype=np.float64)
        corner = np.asarray(corner - across.T @ solved)
    corner = np.asarray(signs[:, None] * corner * signs)
    margin = 1e-10 * (1.0 + float(np.abs(corner).max()))
    outward = copositivity_violation(0.5 * (corner + corner.T), margin)
    if outward is None:
        return None
    direction = np.zeros(problem.size)
    direction[tied] = signs * outward
    direction[support] = -solved @ direction[tied]
    return direction


def copositivity_violation(matrix: Array, margin: float) -> Array | None:
    """None if `matrix` − margin·I is strictly copositive, else a direction x ≥ 0 where it is not, or may not be.

    Args:
        matrix: [n, n] symmetric.
        margin: ≥ 0: what rounding could have hidden.

    Returns:
        None (strictly copositive with that margin), or x [n] ≥ 0 with ‖x‖ = 1 and xᵀMx ≤ margin, the least such
        value over the principal eigenvectors; for n > `MAX_ORDER` an undecided matrix returns all zeros.
    """
    size = len(matrix)
    if size == 0:
        return None
    shifted = matrix - margin * np.eye(size)
    if np.linalg.eigvalsh(shifted)[0] > 0:
        return None
    if size > MAX_ORDER:
        nonnegative = bool((shifted >= 0).all() and (np.diag(shifted) > 0).all())
        return None if nonnegative else np.zeros(size)
    worst, direction = np.inf, None
    for order in range(1, size + 1):
        for chosen in combinations(range(size), order):
            values, vectors = np.linalg.eigh(shifted[np.ix_(chosen, chosen)])
            # With a repeated eigenvalue a basis vector may hide a positive one; mixed-sign ones of smaller faces
            # are covered by their own submatrix, so near-zeros are accepted as non-negative here.
            for value, vector in zip(values, vectors.T, strict=True):
                one_sided = bool((vector >= -1e-12).all() or (vector <= 1e-12).all())
                if value <= 0 and one_sided and value < worst:
                    worst = value
                    direction = np.zeros(size)
                    direction[list(chosen)] = np.abs(vector)
    return direction


def _lift(problem: NormalisedProblem, where: Index, values: Array) -> Array:
    direction = np.zeros(problem.size)
    direction[where] = values
    return problem.means(direction)


def _failed(
    status: str,
    reason: str,
    support: Index,
    gradient_norm: float = np.nan,
    slack: float = np.nan,
    m: float = np.nan,
    eta: float = np.inf,
    ratio: float = np.inf,
    ties: tuple[int, ...] = (),
    escape: Array | None = None,
) -> Certificate:
    found = tuple(int(j) for j in support)
    return Certificate(status, reason, gradient_norm, slack, m, eta, ratio, 2 * eta, ties, found, escape)
