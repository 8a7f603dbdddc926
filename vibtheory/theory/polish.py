"""The active-set polish (docs/theory.md T6): Newton on the support with exact zeros, and the way down from a saddle.

On the support Φ is smooth. Each step goes along the Newton direction where the Hessian is positive definite, else along
its eigenvector of least eigenvalue; the line search looks at the points where a coordinate reaches zero as well, and
leaves such a coordinate at exactly 0. Φ never rises beyond rounding. Gates are opened elsewhere
(`theory.coordinate_descent`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

from vibtheory.theory.certificate import LARGE, Certificate, certify_normalised, support_hessian
from vibtheory.theory.normalised import EPS, NormalisedProblem
from vibtheory.theory.penalty import root_noise

__all__ = ["certified_end", "newton_on_support", "step_along"]

Array = NDArray[np.float64]
_FRACTIONS = 0.5 ** np.arange(0, 12)
_REACH = 2.0 ** np.arange(-12, 9)
_CROSSINGS = 24
_RIDGE = 1e-2
_REFINEMENTS = 12


def newton_on_support(problem: NormalisedProblem, x: Array, steps: int) -> tuple[Array, int]:
    """Descend on the support of `x`, which may shrink but not grow, for at most `steps` steps.

    Args:
        x: [k] normalised coordinates.
        steps: how many directions may be tried.

    Returns:
        The new x [k], with exact zeros, and the number of steps taken.
    """
    x = x.copy()
    for used in range(steps):
        support = np.flatnonzero(x)
        if not len(support):
            return x, used
        root = np.sqrt(problem.price[support])
        v = root_noise(np.abs(x[support]) / root)
        response = problem.response(x)[support]
        gradient = response + 2.0 * root * v * np.sign(x[support])
        hessian = support_hessian(problem, support, v)
        factor, failed = lapack.dpotrf(hessian, lower=1, clean=0)
        definite = not failed
        if definite:
            direction = -lapack.dpotrs(factor, gradient, lower=1)[0]
        else:
            clamped = _clamped_step(problem, x, support, gradient, hessian, v)
            if clamped is not None:
                x = clamped
                continue
            direction = _negative(hessian, factor, failed)
        moved = _line_search(problem, x, support, direction, response, hessian, v, definite)
        if moved is None:
            if not definite or not _settle(problem, x, support, direction, gradient):
                return x, used + 1
        else:
            x = moved
    return x, steps


def certified_end(problem: NormalisedProblem, x: Array, response: Array | None = None) -> tuple[Array, Certificate]:
    """x [k] and its certificate; where rounding alone is in the way, the point that iterative refinement moves x to.

    Those are Newton steps on the support with the gradient in long double (`response` is 2Gx + p where at hand); gates
    as near to 0 as the certificate can tell are closed first: the minimum may be a tie.
    """
    certificate, support = certify_normalised(problem, x, response), np.flatnonzero(x)
    if certificate.certified or certificate.escape is not None or not 0 < len(support) <= LARGE:
        return x, certificate
    refined, shortest = x.copy(), np.inf
    if np.isfinite(certificate.radius):
        refined[np.abs(x) <= certificate.radius] = 0.0
        support = np.flatnonzero(refined)
    root = np.sqrt(problem.price[support])
    for _ in range(_REFINEMENTS if len(support) else 0):
        gradient, _ = problem.fine_gradient(refined, support)
        hessian = support_hessian(problem, support, root_noise(np.abs(refined[support]) / root))
        factor, failed = lapack.dpotrf(hessian, lower=1)
        if failed:
            break
        step = lapack.dpotrs(factor, gradient, lower=1)[0]
        after, length = refined[support] - step, float(np.linalg.norm(step))
        if not length < shortest or (np.sign(after) != np.sign(x[support])).any():
            break
        refined[support], shortest = after, length
    better = certify_normalised(problem, refined)
    return (refined, better) if better.certified else (x, certificate)


def _negative(hessian: Array, factor: Array, order: int) -> Array:
    """A direction of curvature ≤ 0, from the Cholesky factor that failed at this `order` where that is clear of 0.

    There the leading matrix of one order less is LLᵀ, and (−(LLᵀ)⁻¹a, 1) has the pivot that failed as its curvature.
    """
    before = order - 1
    corner = np.append(np.zeros(before), 1.0)
    if before:
        solved, _ = lapack.dpotrs(factor[:before, :before], hessian[:before, before], lower=1)
        corner[:before] = -solved
    corner /= np.linalg.norm(corner)
    if corner @ hessian[:order, :order] @ corner < -1e-6:
        return np.append(corner, np.zeros(len(hessian) - order))
    return np.asarray(np.linalg.eigh(hessian)[1][:, 0])


def step_along(problem: NormalisedProblem, x: Array, direction: Array) -> Array | None:
    """The best point on the line x ± t·direction [k] (gates may open), or None if nothing on it is lower than x."""
    support = np.flatnonzero((x != 0) | (direction != 0))
    v = root_noise(np.abs(x[support]) / np.sqrt(problem.price[support]))
    hessian = support_hessian(problem, support, v)
    response = problem.response(x)[support]
    return _line_search(problem, x, support, direction[support], response, hessian, v, False)


def _clamped_step(
    problem: NormalisedProblem, x: Array, support: NDArray[np.intp], gradient: Array, hessian: Array, v: Array
) -> Array | None:
    """Drop many gates at once where the columns are dependent: a majorised Newton step, clamped where signs change.

    The penalty's curvature is left out and a ridge added, so that the direction descends; along a null direction of
    G_S it is long, and every coordinate it drives through zero stays at zero. None unless Φ falls and a gate closes.
    """
    majoriser = hessian.copy()
    majoriser[np.diag_indices(len(support))] += 2.0 * v**2 / (1.0 + v**2) + _RIDGE
    try:
        direction = -cho_solve(cho_factor(majoriser, check_finite=False), gradient, check_finite=False)
    except LinAlgError:
        return None
    start = x[support]
    points = start + _REACH[:, None] * direction
    points[np.sign(points) != np.sign(start)] = 0.0
    points = np.vstack([start, points])
    price, linear = problem.price[support], problem.linear[support]
    majoriser[np.diag_indices(len(support))] -= _RIDGE  # 2G_S again
    t = np.abs(points) / np.sqrt(price)
    noise = root_noise(t)
    values = np.einsum("ns,ns->n", points, 0.5 * (points @ majoriser) + linear)
    values += (t * noise - 2.0 * np.log(noise)) @ price
    best = int(np.argmin(values))
    if not values[best] < values[0] - 1e-13 * abs(values[0]) or points[best].all():
        return None
    result = x.copy()
    result[support] = points[best]
    return result


def _line_search(
    problem: NormalisedProblem,
    x: Array,
    support: NDArray[np.intp],
    direction: Array,
    response: Array,
    hessian: Array,
    v: Array,
    definite: bool,
) -> Array | None:
    """The lowest of the trial points on the line, coordinates that reach zero set to exactly 0; None if none is lower.

    A Newton direction is searched on (0, 1], a direction of negative curvature on both sides as far as the last zero.
    """
    start = x[support]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        zeros = -start / direction
    crossing = np.isfinite(zeros) & (zeros > 0) & (zeros <= 1) if definite else np.isfinite(zeros) & (zeros != 0)
    order = np.flatnonzero(crossing)
    order = order[np.argsort(np.abs(zeros[order]))][:_CROSSINGS]
    if definite:
        trial = np.concatenate([_FRACTIONS, zeros[order]])
    else:
        reach = _REACH * np.sqrt(float(problem.price[support].max()))
        trial = np.concatenate([reach, -reach, zeros[order]])
    # dᵀGd, never below 0 whatever rounding says: else Φ would seem to fall for ever along a null line.
    curvature = max(0.0, float(direction @ (0.5 * hessian @ direction + direction * v**2 / (1.0 + v**2))))
    points = start + trial[:, None] * direction
    hit = len(trial) - len(order) + np.arange(len(order))
    points[hit, order] = 0.0
    root = np.sqrt(problem.price[support])
    t = np.abs(points) / root
    noise = root_noise(t)
    here = np.abs(start) / root
    change = (t * noise - 2.0 * np.log(noise)) - (here * v - 2.0 * np.log(v))
    fall = change @ problem.price[support] + trial * float(response @ direction) + trial**2 * curvature
    # A fall must exceed the rounding in the two terms that grow with the step.
    length = float(np.abs(direction).sum())
    fall += 8 * EPS * (trial**2 * length**2 + np.abs(trial) * float(np.abs(response) @ np.abs(direction)))
    best = int(np.argmin(fall))
    size = abs(float(response @ start)) + float(np.abs(problem.price[support] * t[best]).sum())
    if not fall[best] < -8 * EPS * size:
        return None
    result = x.copy()
    result[support] = points[best]
    return result


def _settle(problem: NormalisedProblem, x: Array, support: NDArray[np.intp], direction: Array, gradient: Array) -> bool:
    """Take the whole Newton step in place where Φ no longer resolves it but the gradient does; False when done."""
    before = x[support].copy()
    after = before + direction
    if (np.sign(after) != np.sign(before)).any() or not np.isfinite(after).all():
        return False
    x[support] = after
    root = np.sqrt(problem.price[support])
    v = root_noise(np.abs(after) / root)
    new = problem.response(x)[support] + 2.0 * root * v * np.sign(after)
    if np.linalg.norm(new) < 0.5 * np.linalg.norm(gradient):
        return True
    if np.linalg.norm(new) >= np.linalg.norm(gradient):
        x[support] = before
    return False
