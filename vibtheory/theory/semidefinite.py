"""Is Q a Gram matrix? Symmetry and semidefiniteness, decided with the diagonal scaled to 1: units do not matter."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from vibtheory.errors import reject
from vibtheory.theory.row_space import unit_diagonal

__all__ = ["checked_gram", "few"]

Array = NDArray[np.float64]


def few(indices: NDArray[np.intp]) -> str:
    shown = ", ".join(str(i) for i in indices[:10])
    return f"{shown}, … ({indices.size} in all)" if indices.size > 10 else shown


def checked_gram(matrix: Array, tolerance: float, check: bool) -> Array:
    """Q made exactly symmetric, after the tests that `from_gram` promises."""
    w = np.diag(matrix)
    negative = np.flatnonzero(w < 0)
    if negative.size:
        reject("gram", f"negative diagonal {w[negative[0]]:g} at {few(negative)}", "a positive semidefinite matrix",
               "pass Q = AᵀA")  # fmt: skip
    live = w > 0
    root = np.where(live, 1 / np.sqrt(np.where(live, w, 1.0)), 0.0)
    skew = np.abs(matrix - matrix.T) * root[:, None] * root[None, :]
    worst = np.unravel_index(int(np.argmax(skew)), skew.shape)
    free = np.flatnonzero(~live & (matrix.any(axis=0) | matrix.any(axis=1)))
    if free.size:
        reject("gram", f"zero diagonal but nonzero row at {few(free)}", "a positive semidefinite matrix",
               "pass Q = AᵀA: a zero column has a zero row")  # fmt: skip
    if skew[worst] > tolerance:
        reject("gram", f"Q{list(map(int, worst))} = {matrix[worst]:g} but its mirror entry {matrix.T[worst]:g}",
               "a symmetric matrix", "pass Q = AᵀA, or (Q + Qᵀ)/2 if that is what you mean")  # fmt: skip
    matrix = (matrix + matrix.T) / 2
    index = np.flatnonzero(live)
    if check and index.size:
        scaled = unit_diagonal(matrix[np.ix_(index, index)], w[index])
        scaled[np.diag_indices(index.size)] += tolerance
        try:
            scipy.linalg.cholesky(scaled, lower=True, check_finite=False)
        except scipy.linalg.LinAlgError:
            _reject_indefinite(matrix, scaled, index, tolerance)
    return matrix


def _reject_indefinite(matrix: Array, shifted: Array, index: NDArray[np.intp], tolerance: float) -> None:
    values, vectors = scipy.linalg.eigh(shifted, subset_by_index=[0, 0], check_finite=False)
    lowest = float(values[0]) - tolerance
    if lowest >= -tolerance:  # Cholesky broke down by rounding, the eigenvalue is within tolerance
        return
    plain = float(scipy.linalg.eigh(matrix, eigvals_only=True, subset_by_index=[0, 0], check_finite=False)[0])
    gate = int(index[np.argmax(np.abs(vectors[:, 0]))])
    reject("gram", f"eigenvalue 0 (the smallest) of Q is {plain:.6g}, {lowest:.6g} with the diagonal scaled to 1, its "
           f"eigenvector largest at index {gate}", f"a positive semidefinite matrix (tolerance {-tolerance:.1g})",
           "pass Q = AᵀA, or clip the negative eigenvalues and check that ḡ still bounds the loss")  # fmt: skip
