"""A lower bound on the least eigenvalue of a symmetric matrix, cheap where the matrix is large (docs/theory.md T6)."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from vibtheory.errors import as_generator
from vibtheory.theory.normalised import EPS

__all__ = ["LARGE", "least_eigenvalue"]

Array = NDArray[np.float64]
LARGE = 1000
_POWER_STEPS = 20


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
