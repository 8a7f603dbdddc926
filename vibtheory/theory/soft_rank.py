"""Soft rank: a bound on ‖α*‖₀ whose threshold the theory sets, not the floating-point unit (docs/theory.md T3).

With G the Gram matrix of A's columns scaled to unit length and D = diag(2 + α*), at a local minimum G_S ⪰ D_S⁻¹. So

    ‖α*‖₀ ≤ #{i : λ_i(G) ≥ 1/(2 + α_max)},   and, sharper,   ‖α*‖₀ ≤ #{i : λ_i(D^½ G D^½) ≥ 1}.

Both counts are inertias: by Sylvester's law D^½GD^½ − I has as many eigenvalues ≥ 0 as G − D⁻¹, which is well scaled
where D^½GD^½ (norm ~ α_max, up to 1e16) is not. Eigenvalues within rounding of 0 are counted: the bound stays a bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from vibtheory.errors import as_array, reject
from vibtheory.theory.gram import checked_gram, unit_diagonal
from vibtheory.theory.quadratic import QuadraticBound, check_bound

__all__ = ["SoftRank", "soft_rank", "soft_rank_of"]

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_EIGENVALUES_LIMIT = 2000  # past this order, inertia by LDLᵀ (d³/3) instead of all eigenvalues


@dataclass(frozen=True)
class SoftRank:
    """Both forms of T3, with what rounding could do to them.

    Attributes:
        plain: the number of λ_i(G) ≥ threshold, the first form.
        sharp: the number of λ_i(D^½GD^½) ≥ 1, never above `plain`.
        threshold: 1/(2 + α_max), no unit.
        alpha_max: the largest α*.
        tolerance: eigenvalues of G − 1/(2+α_max), and of G − D⁻¹, above −tolerance were counted.
        margin, margin_sharp: distance from 0 of the nearest such eigenvalue; for more than 2000 columns only whether it
            is within the tolerance is known, and the margin is that tolerance, or 0.
        ties, ties_sharp: how many lay within the tolerance of 0 and were counted for safety.
    """

    plain: int
    sharp: int
    threshold: float
    alpha_max: float
    tolerance: float
    margin: float
    margin_sharp: float
    ties: int
    ties_sharp: int

    @property
    def status(self) -> str:
        """ "determined", or how many eigenvalues at the threshold were counted for safety, and the remedy."""
        if self.ties == self.ties_sharp == 0:
            return "determined"
        return (
            f"{max(self.ties, self.ties_sharp)} eigenvalue(s) within {self.tolerance:.1g} of the threshold counted for "
            "safety: still an upper bound; remedy: build the bound from A in float64 rather than from Q"
        )

    def __str__(self) -> str:
        return (
            f"soft rank {self.plain} (λ(G) ≥ {self.threshold:.3g} = 1/(2+α_max)), sharp {self.sharp}; "
            f"margins {self.margin:.2g}, {self.margin_sharp:.2g}; {self.status}"
        )


def soft_rank(gram: ArrayLike, w: ArrayLike, alpha: ArrayLike) -> SoftRank:
    """Both soft ranks of T3 from Q = AᵀA.

    Args:
        gram: Q [d, d], symmetric positive semidefinite, tested as by `QuadraticBound.from_gram`.
        w: squared column norms diag Q [d] ≥ 0, to 1e-4 of each; columns with w = 0 are left out, they never count.
        alpha: α* [d] ≥ 0 at a local minimum, 0 off the support.

    Raises:
        InvalidInputError: shapes, NaN or infinity, Q not symmetric or indefinite, w negative or not its diagonal,
            α negative, α > 0 on a column with w = 0.
    """
    norms = as_array("w", w, (None,), "pass diag Q")
    d = norms.size
    as_array("gram", gram, (d, d), "pass Q = AᵀA with one row per entry of w")
    if (norms < 0).any():
        reject("w", f"smallest entry {norms.min():g}", "entries >= 0", "pass squared column norms")
    matrix = checked_gram(gram)
    own = np.diag(matrix)
    odd = np.flatnonzero(np.abs(norms - own) > 1e-4 * own)  # sums of many squares in float32 differ by less
    if odd.size:
        reject("w", f"{norms[odd[0]]:g} at {odd[0]}, where Q has {own[odd[0]]:g}", "the diagonal of Q",
               "pass squared column norms, diag Q")  # fmt: skip
    return _from_gram(matrix, norms, _checked_alpha(alpha, norms))


def _from_gram(matrix: Array, norms: Array, snr: Array, rows: int = 0) -> SoftRank:
    """`soft_rank` of checked arrays; `rows` of A were summed into each entry of the matrix."""
    live = np.flatnonzero(norms > 0)
    if live.size == 0:
        return SoftRank(0, 0, 0.5, 0.0, 0.0, np.inf, np.inf, 0, 0)
    scaled = unit_diagonal(matrix[np.ix_(live, live)], norms[live])
    noise = 1 / (2 + snr[live])
    lowest = np.full(live.size, noise.min())
    norm = _norm_bound(scaled)
    tolerance = 4 * (live.size + rows) * _EPS * norm
    plain, ties, margin = _count(scaled, lowest, tolerance)
    sharp, ties_sharp, margin_sharp = _count(scaled, noise, tolerance)
    return _result(plain, sharp, snr, tolerance, (margin, margin_sharp), (ties, ties_sharp))


def soft_rank_of(bound: QuadraticBound, alpha: ArrayLike) -> SoftRank:
    """`soft_rank` of a bound; with a factor A of m < d/2 rows both counts come from m×m matrices.

    The eigenvalues of ÃÃᵀ and of ÃDÃᵀ [m, m] are those of G and of D^½GD^½ without zeros. The second is used while
    rounding, of relative size eps·α_max, stays below 1e-8; α_max above that goes through Q.

    Args:
        bound: d gates.
        alpha: α* [d] ≥ 0 at a local minimum.

    Raises:
        InvalidInputError: as `soft_rank`.
    """
    check_bound(bound)
    return of_alpha(bound, _checked_alpha(alpha, bound.w))


def of_alpha(bound: QuadraticBound, snr: Array) -> SoftRank:
    """`soft_rank_of` for an α [d] that is known to be one (T3); not checked."""
    live = bound.live
    m = 0 if bound.A is None else bound.A.shape[0]
    if bound.A is None or 2 * m > live.size or live.size == 0:
        return _from_gram(bound.gram, bound.w, snr, m)
    unit = bound.A[:, live] / np.sqrt(bound.w[live])
    inner = unit @ unit.T
    tolerance = 4 * live.size * _EPS * _norm_bound(inner)
    weighted = (unit * (2 + snr[live])) @ unit.T
    tolerance_sharp = 4 * live.size * _EPS * _norm_bound(weighted)
    if tolerance_sharp > 1e-8:
        dense = _from_gram(bound.gram, bound.w, snr, m)  # eigenvalues that are exactly 0 may tie there: the rank is ≤ m
        return replace(dense, plain=min(dense.plain, m), sharp=min(dense.sharp, m))
    plain, ties, margin = _count(inner, np.full(m, 1 / (2 + snr.max())), tolerance)
    sharp, ties_sharp, margin_sharp = _count(weighted, np.ones(m), tolerance_sharp)
    # the eigenvalues that are exactly 0, not listed here, lie at the thresholds' own distance
    margins = min(margin, 1 / (2 + float(snr.max()))), min(margin_sharp, 1.0)
    return _result(plain, sharp, snr, max(tolerance, tolerance_sharp), margins, (ties, ties_sharp))


def _result(
    plain: int, sharp: int, snr: Array, tolerance: float, margins: tuple[float, float], ties: tuple[int, int]
) -> SoftRank:
    top = float(snr.max())
    # D⁻¹ ⪰ I/(2+α_max), so sharp ≤ plain in exact arithmetic; ties may be counted in one and not in the other
    return SoftRank(plain, min(plain, sharp), 1 / (2 + top), top, tolerance, *margins, *ties)


def _checked_alpha(alpha: ArrayLike, w: Array) -> Array:
    snr = as_array("alpha", alpha, (w.size,), "pass one α per gate, 0 off the support")
    if (snr < 0).any():
        reject("alpha", f"smallest entry {snr.min():g}", "entries >= 0", "pass α = μ²/σ², not its logarithm")
    free = np.flatnonzero((w == 0) & (snr > 0))
    if free.size:
        reject("alpha", f"α > 0 on gate {free[0]}, whose w is 0", "α = 0 on columns with w = 0",
               "pass the α of a local minimum: σ² is unbounded there")  # fmt: skip
    return snr


def _norm_bound(matrix: Array) -> float:
    """max row sum ≥ the largest eigenvalue."""
    return float(np.abs(matrix).sum(axis=1).max())


def _count(matrix: Array, shift: Array, tolerance: float) -> tuple[int, int, float]:
    """Eigenvalues of matrix − diag(shift) that are ≥ −tolerance; those within ±tolerance; distance of the nearest."""
    shifted = matrix.copy()
    shifted[np.diag_indices(shift.size)] -= shift
    if shift.size <= _EIGENVALUES_LIMIT:
        values = scipy.linalg.eigvalsh(shifted, check_finite=False)
        margin = float(np.abs(values).min())
        return int((values >= -tolerance).sum()), int((np.abs(values) <= tolerance).sum()), margin
    safe = _positive(shifted, tolerance)
    strict = _positive(shifted, -tolerance)
    return safe, safe - strict, 0.0 if safe > strict else tolerance


def _positive(matrix: Array, added: float) -> int:
    """How many eigenvalues of matrix + added·I are ≥ 0: the inertia of its Bunch–Kaufman LDLᵀ (Sylvester's law)."""
    shifted = np.asfortranarray(matrix)
    shifted[np.diag_indices(matrix.shape[0])] += added
    work = int(lapack.dsytrf_lwork(matrix.shape[0], lower=1)[0])
    factor, pivots, _ = lapack.dsytrf(shifted, lower=1, lwork=work, overwrite_a=0)
    # A pair of negative pivots is a 2×2 block; by the choice of pivots its determinant is negative: one eigenvalue > 0.
    pairs = int((pivots < 0).sum()) // 2
    return pairs + int((np.diag(factor)[pivots > 0] >= 0).sum())
