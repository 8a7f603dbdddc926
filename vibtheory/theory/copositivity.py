"""Strict copositivity of small symmetric matrices: xᵀMx > 0 for every x ≥ 0, x ≠ 0 (what decides a tie in T6).

Kaplan (2000): M is strictly copositive iff no principal submatrix has an eigenvector v > 0 with eigenvalue ≤ 0.
There are 2ⁿ − 1 of them, so that test is for n ≤ `MAX_ORDER`; past it only sufficient conditions are tried, and an
undecided matrix counts as not copositive (the safe side: nothing is certified).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_ORDER", "copositivity_violation"]

Array = NDArray[np.float64]
MAX_ORDER = 10


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
