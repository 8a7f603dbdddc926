"""The fitted program by Newton's method on its logarithmic barrier (Boyd & Vandenberghe 2004, chapter 11).

    minimise  t m·x − Σ_k log(F_k·x − g_k) − Σ_j log q_j − log det C,   m the mean row of F,

for t growing: at its minimiser the objective m·x is within (number of terms)/t of the program's. Each step costs
N D²/2 multiplications (a symmetric product) and D³/6, on dense arrays, where a general conic solver factors the same
matrix as a sparse one: 27 times less CPU at d = 20 (`python benchmarks/fitted.py`).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from vibtheory.errors import SolverError
from vibtheory.surrogates.quadratic_family import QuadraticFamily

__all__ = ["least_mean_above"]

Array = NDArray[np.float64]
_GAP = 1e-5  # of the mean of ḡ, in units of g's spread
_GROWTH = 30.0  # of t between centrings
_STEPS = 100  # Newton steps per centring; about 10 are taken
_BLOCK = 2048  # rows of F weighted at a time


def least_mean_above(family: QuadraticFamily, features: Array, g: Array) -> Array:
    """x [D] with features·x > g everywhere and q, C ≻ 0, whose mean of features·x is least up to 1e-5.

    Args:
        family: what x stands for.
        features: F [N, D], of rank D.
        g: [N], of unit spread.

    Raises:
        SolverError: Newton's method broke down.
    """
    program = _Barrier(family, features, g)
    x = program.start()
    t = float(program.terms)
    while True:
        x = program.centre(x, t)
        if program.terms / t <= _GAP:
            return x
        t *= _GROWTH


class _Barrier:
    def __init__(self, family: QuadraticFamily, features: Array, g: Array) -> None:
        self.family, self.features, self.g = family, features, g
        self.mean = features.mean(0)
        self.terms = len(g) + family.diagonal + family.order

    def start(self) -> Array:
        """Q = I (or 2I on U), b = 0 and c large enough."""
        x = np.zeros(self.family.unknowns)
        i, j = self.family.upper
        x[: self.family.diagonal] = 1.0
        x[self.family.core] = i == j
        x[-1] = float((self.g - self.features @ x).max()) + 1.0
        return x

    def centre(self, x: Array, t: float) -> Array:
        """Damped Newton steps to the minimiser at t."""
        here = self.value(x, t)
        for _ in range(_STEPS):
            gradient, hessian = self.derivatives(x, t)
            try:
                factor = scipy.linalg.cho_factor(hessian, overwrite_a=True, check_finite=False)
            except np.linalg.LinAlgError:
                break
            step = -scipy.linalg.cho_solve(factor, gradient, check_finite=False)
            decrement = -float(gradient @ step)
            length = 1.0
            while not (there := self.value(x + length * step, t)) <= here - 0.1 * length * decrement:
                length /= 2
                if length < 1e-10:  # rounding hides the decrease
                    return x
            x, here = x + length * step, there
            if decrement < 1e-2:
                return x
        raise SolverError(
            f"the fitted bound's Newton steps did not converge at t = {t:.3g}. "
            "Remedy: pass solver='cvxpy', more samples, or use kind='tangent'"
        )

    def value(self, x: Array, t: float) -> float:
        """The barrier function; inf outside its domain."""
        diagonal = x[: self.family.diagonal]
        slack = self.features @ x - self.g
        if min(slack.min(), diagonal.min(initial=np.inf)) <= 0:
            return np.inf
        try:
            root = np.linalg.cholesky(self.family.matrix(x))
        except np.linalg.LinAlgError:
            return np.inf
        logarithms = np.log(slack).sum() + np.log(diagonal).sum() + 2 * np.log(np.diag(root)).sum()
        return float(t * (self.mean @ x) - logarithms)

    def derivatives(self, x: Array, t: float) -> tuple[Array, Array]:
        """Gradient [D] and Hessian [D, D]; with P = C⁻¹, the second derivative of −log det C in (ij), (kl) is
        tr(P E_ij P E_kl), E_ij = e_ie_jᵀ + e_je_iᵀ off the diagonal and e_ie_iᵀ on it."""
        p, core = self.family.diagonal, self.family.core
        i, j = self.family.upper
        weight = np.where(i == j, 0.5, 1.0)
        inverse = np.linalg.inv(self.family.matrix(x))
        reciprocal = 1 / (self.features @ x - self.g)
        gradient = t * self.mean - self.features.T @ reciprocal
        gradient[:p] -= 1 / x[:p]
        gradient[core] -= 2 * weight * inverse[i, j]
        hessian = np.zeros((x.size, x.size))
        for begin in range(0, len(reciprocal), _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            scaled = self.features[rows] * reciprocal[rows, None]
            hessian += scaled.T @ scaled
        hessian[np.arange(p), np.arange(p)] += 1 / x[:p] ** 2
        pairs = inverse[np.ix_(i, i)] * inverse[np.ix_(j, j)] + inverse[np.ix_(i, j)] * inverse[np.ix_(j, i)]
        hessian[core, core] += 2 * np.outer(weight, weight) * pairs
        return gradient, hessian
