"""The reference solver: majorise–minimise with cvxpy (the same minima as the fast one, slowly).

ρ is concave in |μ|, so its tangent at the current |μ| majorises it: each step is the weighted-ℓ1 quadratic program

    minimise ‖Ãx‖² + pᵀx + Σ_j s_j|x_j|,   s_j = 2√D_j √(1−u_j) the slope at the current point (T1),

whose value never exceeds the last: Φ descends. The program is built once, with s a cvxpy parameter (DPP), and solved by
the first solver of a chain that returns an optimal status. An interior-point answer has no exact zeros (T6's trap), so
the run ends in the same polish and certificate as the fast solver.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import SolverError
from vibtheory.theory.certificate import Certificate
from vibtheory.theory.coordinate_descent import descend
from vibtheory.theory.normalised import NormalisedProblem
from vibtheory.theory.penalty import root_noise

__all__ = ["CVXPY_SOLVERS", "majorise_minimise", "reweighted_steps"]

Array = NDArray[np.float64]
CVXPY_SOLVERS = ("CLARABEL", "OSQP", "SCS")
_STALLED = 1e-9  # stop when Φ falls by less than this, relative to |Φ| + 1
_ZERO = 1e-5  # relative: interior-point answers below this are left to the polish to close


def majorise_minimise(
    problem: NormalisedProblem, x: Array, max_iterations: int, solvers: Sequence[str]
) -> tuple[Array, Certificate, int]:
    """Weighted-ℓ1 steps until Φ stalls, then the polish and the certificate.

    Args:
        problem: Φ in normalised coordinates.
        x: [k] the start.
        max_iterations: quadratic programs; polish steps come out of the same budget.
        solvers: cvxpy solver names, tried in order.

    Returns:
        x [k], its certificate, and the programs solved plus polish steps.

    Raises:
        SolverError: every solver of the chain failed; the message holds each status.
    """
    raw, used = reweighted_steps(problem, x, max_iterations, solvers)
    if used >= max_iterations:
        return (*descend(problem, raw, 0)[:2], used)
    candidate = raw.copy()
    slope = 2.0 * np.sqrt(problem.price)
    small = (np.abs(raw) <= _ZERO * max(1.0, float(np.abs(raw).max(initial=0.0)))) & (
        np.abs(problem.response(raw)) <= slope * (1.0 + 1e-3)
    )
    candidate[small] = 0.0
    if problem.value(candidate) > problem.value(raw) + 1e-6 * (1.0 + abs(problem.value(raw))):
        candidate = raw
    polished, certificate, steps = descend(problem, candidate, max_iterations - used)
    return polished, certificate, used + steps


def reweighted_steps(
    problem: NormalisedProblem, x: Array, count: int, solvers: Sequence[str] = CVXPY_SOLVERS
) -> tuple[Array, int]:
    """Only the quadratic programs: the raw interior-point iterate [k] and how many were solved (T6's trap shows on it).

    Args and raised errors: as `majorise_minimise`.
    """
    if not problem.size or count <= 0:
        return x, 0
    program, variable, weights = _program(problem)
    value = problem.value(x)
    root = np.sqrt(problem.price)
    used = 0
    while used < count:
        weights.value = 2.0 * root * root_noise(np.abs(x) / root)
        step = _solve(program, variable, solvers)
        used += 1
        new = problem.value(step)
        if new < value:
            x = step
        if not value - new > _STALLED * (1.0 + abs(value)):
            break
        value = new
    return x, used


def _program(problem: NormalisedProblem) -> tuple[Any, Any, Any]:
    import cvxpy as cp

    cvxpy: Any = cp  # its functions are exported dynamically
    variable = cvxpy.Variable(problem.size)
    weights = cvxpy.Parameter(problem.size, nonneg=True)
    quadratic = cvxpy.sum_squares(_factor(problem) @ variable)
    objective = quadratic + problem.linear @ variable + weights @ cvxpy.abs(variable)
    return cvxpy.Problem(cvxpy.Minimize(objective)), variable, weights


def _factor(problem: NormalisedProblem) -> Array:
    """F [r, k] with FᵀF = G: Ã itself, or from the positive eigenvalues of G."""
    if problem.factor is not None:
        return problem.factor / problem.root
    assert problem.gram is not None
    values, vectors = np.linalg.eigh(problem.gram)
    kept = values > len(values) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    return np.asarray((vectors[:, kept] * np.sqrt(values[kept])).T)


def _solve(program: Any, variable: Any, solvers: Sequence[str]) -> Array:
    """The solution by the first solver that reports "optimal" or "optimal_inaccurate" with finite values."""
    import cvxpy

    statuses = []
    for name in solvers:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # an inaccurate answer is judged by Φ, not by a warning
                program.solve(solver=name, warm_start=True)
        except (cvxpy.error.SolverError, cvxpy.error.DCPError, ValueError, ArithmeticError) as error:
            statuses.append(f"{name}: {type(error).__name__} {str(error)[:80]}")
            continue
        found, solved = variable.value, program.status in (cvxpy.OPTIMAL, cvxpy.OPTIMAL_INACCURATE)
        if solved and found is not None and np.isfinite(found).all():
            return np.asarray(found, dtype=np.float64)
        statuses.append(f"{name}: {program.status}")
    raise SolverError(
        f"cvxpy failed on the weighted-l1 program: {'; '.join(statuses)}. "
        "Remedy: use solver='fast', another cvxpy solver, or rescale A, b and gamma"
    )
