"""Is b in the row space of A? Decided after scaling A to unit columns, so that units of measurement do not matter.

With w_j = ‖a_j‖² > 0, Ã = A diag(w)^{−½} and b̃ = b/√w: b = −2Aᵀβ if and only if b̃ = −2Ãᵀβ, with the same β ∈ range A.
If b̃ has a component ñ in the null space of Ã, then Φ falls for ever along −ñ: the quadratic is flat there, the linear
term falls like −‖ñ‖ per unit length, and the penalty grows only like 2γ log (docs/theory.md T2, T7 "existence").
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

__all__ = ["SVD_LIMIT", "least_norm_beta", "null_component", "unit_diagonal"]

Array = NDArray[np.float64]

# A component of b outside the row space below this share of ‖b̃‖ is taken as rounding: b computed in float32 has 6e-8.
_SHARE = 1e-7
# Up to this size of the smaller side of A its singular values are computed; past it, the Gram matrix is factorised.
SVD_LIMIT = 1000


def unit_diagonal(gram: Array, w: Array) -> Array:
    """G = diag(w)^{−½} Q diag(w)^{−½} for w > 0, with its diagonal exactly 1.

    Args:
        gram: Q [d, d], symmetric.
        w: its diagonal [d], all > 0.
    """
    root = 1 / np.sqrt(w)
    scaled = gram * root[:, None] * root[None, :]
    np.fill_diagonal(scaled, 1.0)
    return scaled


def null_component(A: Array | None, gram: Array | None, w: Array, b: Array) -> Array | None:
    """The component of b̃ in the null space of Ã, or None where it is within rounding of zero.

    Args:
        A: factor [m, d], used where its smaller side is at most 1000; else
        gram: Q [d, d] decides. One of the two must be given.
        w: squared column norms [d], all > 0.
        b: linear term [d].

    Returns:
        ñ [d] with Ãñ ≈ 0 and b̃ᵀñ > 0, or None. From A, directions with singular value ≤ max(m, d)·eps·largest are
        null and a share of b̃ above 1e-7 counts. From Q, singular values of Ã are resolved to √ridge only, with
        ridge = max(1e-12, 4d·eps) on the unit diagonal (more where Q is semidefinite only to less), and the share that
        counts is 4√ridge: 4e-6 for d ≤ 1000.
    """
    scaled_b = b / np.sqrt(w)
    size = float(np.linalg.norm(scaled_b))
    if size == 0:
        return None
    if A is not None and min(A.shape) <= SVD_LIMIT:
        _, _, rows = _unit_column_svd(A, w)
        rest = scaled_b - rows.T @ (rows @ scaled_b)
        rest -= rows.T @ (rows @ rest)  # once more: the first pass leaves rounding of size eps·‖b̃‖ in the range
        share = _SHARE
    else:
        assert gram is not None
        factor, ridge = _ridge_factor(unit_diagonal(gram, w))
        # ridge·(G + ridge)⁻¹ keeps the null space and shrinks a direction of eigenvalue λ by ridge/(λ + ridge).
        # Each pass adds what the passes before it left of the null component (their eigenvalues are rounding, not 0).
        rest = np.zeros_like(scaled_b)
        for _ in range(3):
            part = scaled_b - rest
            for _ in range(3):
                part = ridge * scipy.linalg.cho_solve((factor, True), part, check_finite=False)
            rest += part
        share = max(_SHARE, 4 * float(np.sqrt(ridge)))
    return rest if float(np.linalg.norm(rest)) > share * size else None


def least_norm_beta(A: Array | None, gram: Array | None, w: Array, b: Array) -> Array:
    """β ∈ range A with b = −2Aᵀβ, the least-squares one if b is outside the row space (w > 0 everywhere).

    Returns:
        β [m] from A; from Q alone β [d] for the symmetric factor A = G^½ diag(√w), whose ‖β‖ is that of every factor.
    """
    scaled_b = b / np.sqrt(w)
    if A is not None:
        left, values, rows = _unit_column_svd(A, w)
        return np.asarray(-0.5 * left @ ((rows @ scaled_b) / values))
    assert gram is not None
    eigenvalues, vectors = scipy.linalg.eigh(unit_diagonal(gram, w), check_finite=False)
    kept = eigenvalues > b.size * np.finfo(np.float64).eps * eigenvalues[-1]
    coordinates = (vectors[:, kept].T @ scaled_b) / np.sqrt(eigenvalues[kept])
    return np.asarray(-0.5 * vectors[:, kept] @ coordinates)


def _ridge_factor(scaled: Array) -> tuple[Array, float]:
    """Lower Cholesky factor of G + ridge·I with the least ridge (in steps of ten) that makes it positive definite."""
    d = scaled.shape[0]
    ridge = max(1e-12, 4 * d * float(np.finfo(np.float64).eps))
    while True:
        shifted = scaled.copy()
        shifted[np.diag_indices(d)] += ridge
        try:
            return scipy.linalg.cholesky(shifted, lower=True, overwrite_a=True, check_finite=False), ridge
        except scipy.linalg.LinAlgError:  # G is semidefinite up to rounding only, e.g. computed in float32
            ridge *= 10


def _unit_column_svd(A: Array, w: Array) -> tuple[Array, Array, Array]:
    """Thin SVD of Ã without the singular values that are zero in floating point."""
    left, values, rows = scipy.linalg.svd(A / np.sqrt(w), full_matrices=False, check_finite=False)
    kept = values > max(A.shape) * np.finfo(np.float64).eps * values[0]
    return left[:, kept], values[kept], rows[kept]
