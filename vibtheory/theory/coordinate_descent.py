"""The fast solver: exact coordinate descent, then Newton on the support, until the certificate holds.

One coordinate of Φ has a closed-form minimiser, the garrote of `theory.normalised`: x_j = β̂_j(1 − D_j/β̂_j²)₊. A sweep
visits only the open gates and those whose gradient asks to open (|2G_jᵀx + p_j| > 2√D_j), so closed gates cost one
matrix product per sweep. Coordinate descent finds the support; `theory.polish` finishes on it, drops what a flat or
negatively curved direction can drop, and the loop repeats until nothing opens and nothing falls.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from vibtheory.theory.certificate import NOT_CONVERGED, Certificate, certify_normalised
from vibtheory.theory.normalised import NormalisedProblem
from vibtheory.theory.polish import newton_on_support, step_along

__all__ = ["default_start", "descend"]

Array = NDArray[np.float64]
_SWEEPS_PER_ROUND = 6
_SWEEPS_WHEN_LARGE = 60
_NEWTON_STEPS = 30
_LARGE = 300  # open gates from which a Newton step, |S|³, costs more than many sweeps
_RIDGE = 0.1


def default_start(problem: NormalisedProblem) -> Array:
    """All gates open: the ridge solution of (G + 0.1 I)x = −p/2 [k], by a few conjugate-gradient steps."""
    if not problem.size:
        return np.zeros(0)

    def apply(vector: Array) -> Array:
        if problem.rows is not None:
            return np.asarray(problem.rows @ (vector @ problem.rows) + _RIDGE * vector)
        assert problem.gram is not None
        return np.asarray(problem.gram @ vector + _RIDGE * vector)

    operator = LinearOperator((problem.size, problem.size), matvec=apply, dtype=np.float64)
    solution, _ = cg(operator, -0.5 * problem.linear, rtol=1e-3, maxiter=30)
    return np.asarray(solution, dtype=np.float64)


def descend(problem: NormalisedProblem, x: Array, max_iterations: int) -> tuple[Array, Certificate, int]:
    """Monotone descent of Φ from x to a certified local minimum.

    Args:
        problem: Φ in normalised coordinates.
        x: [k] the start.
        max_iterations: sweeps plus Newton steps; a run cut short returns where it stands, certified as such.

    Returns:
        x [k], its certificate, and the iterations used.
    """
    x = np.array(x, dtype=np.float64)
    used = 0
    previous = math.inf
    while True:
        open_before = problem.size + 1
        while used < max_iterations:
            sweeps = _SWEEPS_WHEN_LARGE if np.count_nonzero(x) > _LARGE else _SWEEPS_PER_ROUND
            x, swept = _sweeps(problem, x, min(sweeps, max_iterations - used))
            used += swept
            open_now = int(np.count_nonzero(x))
            # On a large support, go on while that closes gates quickly.
            if open_now <= _LARGE or open_now > 0.97 * open_before:
                break
            open_before = open_now
        if used < max_iterations:
            x, stepped = newton_on_support(problem, x, min(_NEWTON_STEPS, max_iterations - used))
            used += stepped
        certificate = certify_normalised(problem, x)
        if certificate.certified or used >= max_iterations:
            return x, certificate, used
        if certificate.escape is not None:
            moved = step_along(problem, x, problem.coordinates(certificate.escape))
            if moved is not None:
                x = moved
                used += 1
                continue
        value = problem.value(x)
        if certificate.status != NOT_CONVERGED and not value < previous:
            return x, certificate, used
        previous = value


def _sweeps(problem: NormalisedProblem, x: Array, count: int) -> tuple[Array, int]:
    """Up to `count` sweeps of exact coordinate minimisation; stops early once nothing moves by more than 1e-3."""
    values: list[float] = x.tolist()
    thresholds = 2.0 * np.sqrt(problem.price)
    linear: list[float] = problem.linear.tolist()
    price4: list[float] = (4.0 * problem.price).tolist()
    used = 0
    while used < count:
        used += 1
        current = np.array(values)
        response = problem.response(current)
        candidates = np.flatnonzero((current != 0) | (np.abs(response) > thresholds))
        if problem.rows is not None:
            largest = _sweep_rows(problem.rows, values, candidates, linear, price4)
        else:
            assert problem.gram is not None
            largest = _sweep_gram(problem.gram, response, values, candidates, price4)
        if largest < 1e-3:
            break
    return np.array(values), used


def _sweep_rows(
    rows: Array, values: list[float], candidates: NDArray[np.intp], linear: list[float], price4: list[float]
) -> float:
    """One sweep with the residual r = Ãx kept up to date: O(m) per gate."""
    residual = np.array(values) @ rows
    buffer = np.empty_like(residual)
    largest = 0.0
    for j, row in zip(candidates.tolist(), rows[candidates], strict=True):
        old = values[j]
        q = 2.0 * (float(row.dot(residual)) - old) + linear[j]
        new = -0.5 * q * (1.0 - price4[j] / (q * q)) if q * q > price4[j] else 0.0
        if new != old:
            np.multiply(row, new - old, out=buffer)
            residual += buffer
            values[j] = new
            largest = max(largest, abs(new - old) / (0.5 * math.sqrt(price4[j]) + abs(new)))
    return largest


def _sweep_gram(
    gram: Array, response: Array, values: list[float], candidates: NDArray[np.intp], price4: list[float]
) -> float:
    """One sweep with the response 2Gx + p kept up to date, on the candidates alone where they are few."""
    few = 2 * len(candidates) < len(gram)
    block = gram[np.ix_(candidates, candidates)] if few else gram
    local = response[candidates] if few else response.copy()
    places = range(len(candidates)) if few else candidates.tolist()
    buffer = np.empty_like(local)
    largest = 0.0
    for i, j in zip(places, candidates.tolist(), strict=True):
        old = values[j]
        q = float(local[i]) - 2.0 * old
        new = -0.5 * q * (1.0 - price4[j] / (q * q)) if q * q > price4[j] else 0.0
        if new != old:
            np.multiply(block[i], 2.0 * (new - old), out=buffer)
            local += buffer
            values[j] = new
            largest = max(largest, abs(new - old) / (0.5 * math.sqrt(price4[j]) + abs(new)))
    return largest
