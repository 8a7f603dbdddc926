"""Q = AᵀA, decided with A's columns scaled to unit length so that units do not matter: is Q a Gram matrix, is b in
the row space of A, and is Φ bounded below (docs/theory.md T2, T7, "Existence and convexity")?

With w_j = ‖a_j‖² > 0, Ã = A diag(w)^{−½} and b̃ = b/√w: b = −2Aᵀβ if and only if b̃ = −2Ãᵀβ, with the same β ∈ range A.
If b̃ has a component ñ in the null space of Ã, then Φ falls for ever along −ñ: the quadratic is flat there, the linear
term falls like −‖ñ‖ per unit length, and the penalty grows only like 2γ log. A zero column with b_j ≠ 0 is the same.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from vibtheory.errors import as_array, reject, resolution

__all__ = [
    "SVD_LIMIT",
    "checked_gram",
    "falling_direction",
    "few",
    "least_norm_beta",
    "null_component",
    "reject_unbounded",
    "unit_diagonal",
]

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


def few(indices: NDArray[np.intp]) -> str:
    shown = ", ".join(str(i) for i in indices[:10])
    return f"{shown}, … ({indices.size} in all)" if indices.size > 10 else shown


def checked_gram(gram: ArrayLike, check: bool = True) -> Array:
    """Q [d, d] made exactly symmetric, after the tests that `QuadraticBound.from_gram` promises; raises as that."""
    matrix = as_array("gram", gram, (None, None), "pass Q = AᵀA, a square matrix")
    if matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        reject("gram", f"shape {list(matrix.shape)}", "a square matrix [d, d], d >= 1", "pass Q = AᵀA, or A itself")
    tolerance = max(1e-10, matrix.shape[0] * resolution(gram))
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


def falling_direction(bound: Any) -> Array | None:
    """A unit vector n [d] with Qn = 0 and bᵀn < 0; None if there is none. Tolerances: `null_component`."""
    direction = np.zeros(bound.d)
    free = (bound.w == 0) & (bound.b != 0)
    if free.any():
        direction[free] = -bound.b[free]
    elif bound.live.size:
        live, every = bound.live, bound.live.size == bound.d
        A = bound.A if bound.A is None or every else bound.A[:, live]
        needs_gram = A is None or min(A.shape) > SVD_LIMIT
        gram = (bound.gram if every else bound.gram[np.ix_(live, live)]) if needs_gram else None
        rest = null_component(A, gram, bound.w[live], bound.b[live])
        if rest is not None:
            direction[live] = -rest / np.sqrt(bound.w[live])
    size = np.linalg.norm(direction)
    return np.asarray(direction / size) if size > 0 else None


def reject_unbounded(bound: Any, n: Array) -> NoReturn:
    """Raise InvalidInputError that names the direction n [d] and the remedy."""
    free = np.flatnonzero((bound.w == 0) & (bound.b != 0))
    if free.size:
        reject("b", f"nonzero b in columns {few(free)} with w = 0 (largest |b| {np.abs(bound.b[free]).max():.3g})",
               "b_j = 0 wherever column j of A is zero: Φ falls for ever along those gates",
               "set b to 0 there, or drop those columns")  # fmt: skip
    top = np.argsort(-np.abs(n))[:5]
    parts = ", ".join(f"{n[j]:+.3g} on gate {j}" for j in top if n[j] != 0)
    reject("b", f"a component outside the row space of A: slope bᵀn = {bound.b @ n:.3g} along n = ({parts}"
           f"{', …' if np.count_nonzero(n) > 5 else ''}), where An = 0",
           "b = −2Aᵀβ for some β: otherwise Φ falls for ever along n and has no global minimum",
           "use b − (bᵀn/Σw_jn_j²) w⊙n, which is in the row space, or add rows to A along n")  # fmt: skip


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
    if A is not None and len(A) < len(w) and _reached(A, np.sqrt(w), scaled_b, _SHARE * size):
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


def _reached(A: Array, root: Array, scaled_b: Array, allowed: float) -> bool:
    """Whether Ã [m, d] clearly has rank m < d and ‖b̃ + 2Ãᵀβ‖ ≤ `allowed` for some β: from ÃÃᵀ alone, no SVD.

    ÃÃᵀ in float32 costs half; the remainder is taken in float64, so that what it proves is as good.
    """
    for kind, clear in ((np.float32, 1e-4), (np.float64, 1e-10)):
        unit = np.divide(A, root, out=np.empty(A.shape, kind), casting="same_kind")
        square = unit @ unit.T
        factor, failed = (lapack.spotrf if kind is np.float32 else lapack.dpotrf)(square, lower=1)
        condition = lapack.spocon if kind is np.float32 else lapack.dpocon
        if failed or condition(factor, np.abs(square).sum(axis=0).max(), uplo="L")[0] < clear:
            continue
        rest = scaled_b
        for _ in range(4):  # once more where rounding was left
            rest = rest - scipy.linalg.cho_solve((factor, True), A @ (rest / root), check_finite=False) @ A / root
            if float(np.linalg.norm(rest)) <= allowed:
                return True
        return False
    return False


def least_norm_beta(A: Array | None, gram: Array | None, w: Array, b: Array) -> tuple[Array, float]:
    """β ∈ range A with b = −2Aᵀβ, the least-squares one if b is outside the row space (w > 0 everywhere).

    Returns:
        β [m] from A; from Q alone β [d] for the symmetric factor A = G^½ diag(√w), whose ‖β‖ is that of every factor.
        And the relative error that the condition κ of Ã allows in it, n·eps·(κ − 1); from Q, κ is that of G.
    """
    scaled_b = b / np.sqrt(w)
    if A is not None:
        left, values, rows = _unit_column_svd(A, w)
        return np.asarray(-0.5 * left @ ((rows @ scaled_b) / values)), _doubt(values, max(A.shape))
    assert gram is not None
    eigenvalues, vectors = scipy.linalg.eigh(unit_diagonal(gram, w), check_finite=False)
    kept = eigenvalues > b.size * np.finfo(np.float64).eps * eigenvalues[-1]
    coordinates = (vectors[:, kept].T @ scaled_b) / np.sqrt(eigenvalues[kept])
    return np.asarray(-0.5 * vectors[:, kept] @ coordinates), _doubt(eigenvalues[kept], b.size)


def _doubt(values: Array, terms: int) -> float:
    return 4 * terms * float(np.finfo(np.float64).eps) * (float(values.max() / values.min()) - 1)


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
