"""The fitted program as a semidefinite program in cvxpy: the reference for `fitted_newton`, practical to d of about 30.

Only the constraints that bind matter: they are added in rounds, the worst violated first, until none is violated.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vibtheory.bridge.quadratic_family import QuadraticFamily
from vibtheory.errors import SolverError

__all__ = ["least_mean_above"]

Array = NDArray[np.float64]
_TIGHT = 1e-7  # a violation, in units of g's spread, that ends the rounds
_ROUNDS = 60


def least_mean_above(family: QuadraticFamily, features: Array, g: Array) -> Array:
    """x [D] with features·x ≥ g up to 1e-7 and q, C ⪰ 0, whose mean of features·x is least.

    Args:
        family: what x stands for.
        features: F [N, D].
        g: [N], of unit spread.

    Raises:
        SolverError: every solver failed; each status is named.
    """
    import cvxpy

    cp: Any = cvxpy  # its stubs miss the atoms

    core = cp.Variable((family.order, family.order), PSD=True)
    rest = cp.Variable(family.d + 1)
    parts = [core[family.upper], rest]
    if family.diagonal:
        parts.insert(0, cp.Variable(family.diagonal, nonneg=True))
    x: Any = cp.hstack(parts)
    objective = cp.Minimize(features.mean(0) @ x)
    # First the points with large g and a regular part of the others, which bound Q, b and c; then the worst violated.
    size = min(len(g), 2 * family.unknowns + 50)
    active = np.union1d(np.argsort(-g)[: size // 4], np.linspace(0, len(g) - 1, size - size // 4).astype(int))
    for _ in range(_ROUNDS):
        _run(cp.Problem(objective, [features[active] @ x >= g[active]]))
        short = g - features @ x.value
        if short.max() <= _TIGHT or active.size == len(g):
            break
        worst = np.argsort(-short)[: max(size // 2, 20)]
        active = np.union1d(active, worst[short[worst] > 0])
    return np.asarray(x.value, dtype=np.float64)


def _run(problem: Any) -> None:
    """Solve with Clarabel, then SCS; raise SolverError with each status."""
    import cvxpy

    cp: Any = cvxpy
    tried = []
    for solver in (cp.CLARABEL, cp.SCS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "may be inaccurate": c is corrected on the samples afterwards
                problem.solve(solver=solver)
        except cp.error.SolverError as error:
            tried.append(f"{solver}: {error}")
            continue
        if problem.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
            return
        tried.append(f"{solver}: {problem.status}")
    raise SolverError(
        "the semidefinite program of the fitted bound failed (" + "; ".join(tried) + "). "
        "Remedy: pass more samples, or use kind='tangent'"
    )
