"""The quadratics among which `fitted` searches, linear in their unknowns, and the reference solver (docs/theory.md T5).

    ḡ(u) = uᵀQu + bᵀu + c = features(u)·x,   Q = C   or   Q = diag(q) + UCUᵀ,   x = (q, C's upper triangle, b, c).

Q ⪰ 0 is asked for by C ⪰ 0 and q ≥ 0. As a semidefinite program in cvxpy it is practical to d of about 30; only the
constraints that bind matter there: they are added in rounds, the worst violated first, until none is violated.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import SolverError

__all__ = ["QuadraticFamily", "least_mean_by_cvxpy"]

Array = NDArray[np.float64]
_TIGHT = 1e-7  # a violation, in units of g's spread, that ends the rounds
_ROUNDS = 60


@dataclass(frozen=True, eq=False)
class QuadraticFamily:
    """All ḡ on d variables with a full Q, or with Q diagonal plus low rank.

    Attributes:
        d: number of variables.
        directions: U [d, r] with orthonormal columns; None: Q is full.
    """

    d: int
    directions: Array | None = None

    @property
    def diagonal(self) -> int:
        """Entries of q: 0 or d."""
        return 0 if self.directions is None else self.d

    @property
    def order(self) -> int:
        """Rows of C: d or r."""
        return self.d if self.directions is None else self.directions.shape[1]

    @cached_property
    def upper(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and column of each unknown of C."""
        rows, columns = np.triu_indices(self.order)
        return rows, columns

    @property
    def core(self) -> slice:
        """Where C's unknowns stand in x."""
        return slice(self.diagonal, self.diagonal + self.upper[0].size)

    @property
    def unknowns(self) -> int:
        """D, the length of x."""
        return int(self.core.stop) + self.d + 1

    def features(self, u: Array) -> Array:
        """[n, D] for u [n, d]: what each unknown adds to ḡ."""
        inner = u if self.directions is None else u @ self.directions
        i, j = self.upper
        pairs = inner[:, i] * inner[:, j]
        pairs[:, i != j] *= 2.0
        return np.hstack([u[:, : self.diagonal] ** 2, pairs, u, np.ones((len(u), 1))])

    def matrix(self, x: Array) -> Array:
        """C [order, order]."""
        matrix = np.zeros((self.order, self.order))
        matrix[self.upper] = x[self.core]
        matrix.T[self.upper] = x[self.core]
        return matrix

    def quadratic(self, x: Array) -> tuple[Array, Array, float]:
        """Q [d, d], b [d], c."""
        q = self.matrix(x)
        if self.directions is not None:
            q = np.diag(x[: self.diagonal]) + self.directions @ q @ self.directions.T
        return q, x[self.core.stop : -1], float(x[-1])


def least_mean_by_cvxpy(family: QuadraticFamily, features: Array, g: Array) -> Array:
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
        _solve(cp, cp.Problem(objective, [features[active] @ x >= g[active]]))
        short = g - features @ x.value
        if short.max() <= _TIGHT or active.size == len(g):
            break
        worst = np.argsort(-short)[: max(size // 2, 20)]
        active = np.union1d(active, worst[short[worst] > 0])
    return np.asarray(x.value, dtype=np.float64)


def _solve(cp: Any, problem: Any) -> None:
    """Solve with Clarabel, then SCS; raise SolverError with each status."""
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
