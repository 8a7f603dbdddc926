"""The fitted program by a primal–dual interior-point method (Nesterov & Todd 1997; Mehrotra 1992), on dense arrays.

    minimise  m·x   subject to  s = Fx − g ≥ 0,  q ≥ 0,  C ⪰ 0,   m the mean row of F; q and C are parts of x.

Its dual has a multiplier for each constraint, λ ≥ 0, ν ≥ 0, Z ⪰ 0 with Fᵀλ + ν + Z = m (ν and Z at q's and C's places
in x), and s·λ + q·ν + tr(CZ) is then the distance from the optimum. Each step makes the three products equal to a
falling μ, to first order, and costs N D²/2 + D³/6 multiplications, where a general conic solver factors the same
matrix as a sparse one (`python benchmarks/fitted.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from vibtheory.bridge.fitted_program import QuadraticFamily
from vibtheory.errors import SolverError

__all__ = ["least_mean_by_interior_point"]

Array = NDArray[np.float64]
_GAP = 1e-5  # of the mean of ḡ, in units of g's spread
_STEPS = 100  # about 20 are taken
_INSIDE = 0.98  # share of the way to the boundary
_BLOCK = 2048  # rows of F weighted at a time


def least_mean_by_interior_point(family: QuadraticFamily, features: Array, g: Array) -> Array:
    """x [D] with features·x > g everywhere and q, C ≻ 0, whose mean of features·x is least up to 1e-5.

    Args:
        family: what x stands for.
        features: F [N, D].
        g: [N], of unit spread.

    Raises:
        SolverError: the method broke down; the gap that it reached is named.
    """
    program = _Program(family, features, g)
    point = program.start()
    for _ in range(_STEPS):
        if program.gap(point) <= _GAP:
            return point.x
        point = program.advance(point)
    raise SolverError(
        f"the fitted bound's interior-point method did not converge: gap {program.gap(point):.3g} after {_STEPS} "
        f"steps, expected at most {_GAP:g}. Remedy: pass solver='cvxpy', more samples, or use kind='tangent'"
    )


class _Point(NamedTuple):
    """Primal x [D], s = Fx − g [N] and C as a matrix; multipliers λ [N], ν (q's) and Z (C's). Or a step in all six."""

    x: Array
    slack: Array
    core: Array
    lam: Array
    nu: Array
    z: Array


class _Program:
    def __init__(self, family: QuadraticFamily, features: Array, g: Array) -> None:
        self.family, self.features, self.g = family, features, g
        self.mean = features.mean(0)
        self.terms = len(g) + family.diagonal + family.order
        i, j = family.upper
        self.weight = np.where(i == j, 1.0, 2.0)  # how often an unknown of C stands in C

    def start(self) -> _Point:
        """Q = I (or 2I on U), b = 0, c large enough for slacks within a factor of 2; multipliers that solve the dual
        equations: λ = 1/N does with ν = Z = 0, and is moved by least squares to make room for both."""
        p, n = self.family.diagonal, len(self.g)
        x = np.zeros(self.family.unknowns)
        i, j = self.family.upper
        x[:p] = 1.0
        x[self.family.core] = i == j
        short = self.g - self.features @ x
        x[-1] = 2 * short.max() - short.min() + 1.0
        slack, core = self.features @ x - self.g, self.family.matrix(x)
        solve = _solver(self.features.T @ self.features)
        mu = float(slack.mean()) / n
        while True:
            nu, z = np.full(p, mu), mu * np.eye(len(core))
            lam = 1 / n - self.features @ solve(self._places(np.zeros_like(x), nu, z))
            if lam.min() > 0.1 / n:
                return _Point(x, slack, core, lam, nu, z)
            mu /= 4

    def products(self, at: _Point) -> float:
        """s·λ + q·ν + tr(CZ)."""
        return float(at.slack @ at.lam + at.x[: self.family.diagonal] @ at.nu + np.sum(at.core * at.z))

    def gap(self, at: _Point) -> float:
        """How far m·x is from the optimum at most: the products, and what the dual equations miss, at this x."""
        missing = self.mean - self._places(self.features.T @ at.lam, at.nu, at.z)
        return self.products(at) + float(np.abs(missing) @ np.maximum(np.abs(at.x), 1.0))

    def advance(self, at: _Point) -> _Point:
        """Mehrotra's predictor and corrector with one factorisation."""
        q = at.x[: self.family.diagonal]
        root = np.linalg.cholesky(at.core)
        values, vectors = np.linalg.eigh(root.T @ at.z @ root)
        half = scipy.linalg.solve_triangular(root, vectors * np.maximum(values, 0) ** 0.25, lower=True, trans="T")
        inverse_scaling = half @ half.T  # W⁻¹, W Z W = C
        inverse_core = scipy.linalg.cho_solve((root, True), np.eye(len(root)))
        solve = _solver(self._curvature(at, inverse_scaling))

        def step(mu: float, bent: Array, bent_q: Array) -> _Point:
            """Towards products of μ; `bent` [N] and `bent_q` are the second-order part of λ's and ν's equations."""
            pull, pull_q = (mu - bent) / at.slack, (mu - bent_q) / q
            x = solve(self._places(self.features.T @ pull, pull_q, mu * inverse_core) - self.mean)
            slack, core = self.features @ x, self.family.matrix(x)
            lam = pull - at.lam - at.lam / at.slack * slack
            nu = pull_q - at.nu - at.nu / q * x[: q.size]
            return _Point(x, slack, core, lam, nu, mu * inverse_core - at.z - inverse_scaling @ core @ inverse_scaling)

        mu = self.products(at) / self.terms
        aim = step(0.0, np.zeros_like(at.slack), np.zeros_like(q))
        reached = self.products(self._moved(at, aim, 1.0)) / self.terms
        sigma = min(1.0, max(reached / mu, 0.0)) ** 3
        return self._moved(at, step(sigma * mu, aim.slack * aim.lam, aim.x[: q.size] * aim.nu), _INSIDE)

    def _moved(self, at: _Point, step: _Point, share: float) -> _Point:
        """As far along the step as `share` of the way to the boundary allows, primal and dual apart."""
        q = at.x[: self.family.diagonal]
        primal = min(1.0, share * min(
            _reach(at.slack, step.slack), _reach(q, step.x[: q.size]), _reach_matrix(at.core, step.core)
        ))  # fmt: skip
        dual = min(1.0, share * min(
            _reach(at.lam, step.lam), _reach(at.nu, step.nu), _reach_matrix(at.z, step.z)
        ))  # fmt: skip
        x = at.x + primal * step.x
        return _Point(
            x, self.features @ x - self.g, self.family.matrix(x),
            at.lam + dual * step.lam, at.nu + dual * step.nu, at.z + dual * step.z,
        )  # fmt: skip

    def _places(self, every: Array, nu: Array, z: Array) -> Array:
        """every [D] plus ν and Z at q's and C's places."""
        total = every.copy()
        total[: nu.size] += nu
        total[self.family.core] += self.weight * z[self.family.upper]
        return total

    def _curvature(self, at: _Point, inverse_scaling: Array) -> Array:
        """Fᵀdiag(λ/s)F, ν/q on q's diagonal, and tr(W⁻¹E_ij W⁻¹E_kl) at C's places, E_ij = ∂C/∂C_ij; [D, D]."""
        p, core, (i, j) = self.family.diagonal, self.family.core, self.family.upper
        roots = np.sqrt(at.lam / at.slack)
        matrix = np.zeros((at.x.size, at.x.size))
        for begin in range(0, len(roots), _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            scaled = self.features[rows] * roots[rows, None]
            matrix += scaled.T @ scaled
        matrix[np.arange(p), np.arange(p)] += at.nu / at.x[:p]
        v = inverse_scaling
        pairs = v[np.ix_(i, i)] * v[np.ix_(j, j)] + v[np.ix_(i, j)] * v[np.ix_(j, i)]
        matrix[core, core] += np.outer(self.weight, self.weight) / 2 * pairs
        return matrix


def _solver(matrix: Array) -> Callable[[Array], Array]:
    """v ↦ M⁻¹v; where M [D, D] is singular to rounding, with the least ridge (relative to its diagonal) that helps."""
    scale = 1 / np.sqrt(np.diag(matrix))
    matrix = matrix * scale[:, None] * scale
    for ridge in (0.0, 1e-14, 1e-12, 1e-10, 1e-8):
        np.fill_diagonal(matrix, 1 + ridge)
        try:
            factor = scipy.linalg.cho_factor(matrix, check_finite=False)
        except np.linalg.LinAlgError:
            continue
        return lambda v: np.asarray(scale * scipy.linalg.cho_solve(factor, scale * v, check_finite=False))
    raise SolverError(
        "the fitted bound's curvature is not positive definite: the samples leave a direction of Q undetermined. "
        "Remedy: pass more samples, or use kind='tangent'"
    )


def _reach(at: Array, step: Array) -> float:
    """The largest a with at + a·step ≥ 0."""
    falls = step < 0
    return float(np.min(-at[falls] / step[falls], initial=np.inf))


def _reach_matrix(at: Array, step: Array) -> float:
    """The largest a with at + a·step ⪰ 0, at ≻ 0."""
    lowest = float(scipy.linalg.eigh(step, at, eigvals_only=True)[0])
    return -1 / lowest if lowest < 0 else np.inf
