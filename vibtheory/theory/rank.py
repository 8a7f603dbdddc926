"""Numerical rank of A: singular values, a stated tolerance, the gap, what other tolerances would say (T2).

The rank is read off Ã, A with its columns scaled to unit length: same rank in exact arithmetic, and independent of the
gates' units. From Q = AᵀA only squares are known, so singular values below √eps of the largest cannot be told from
zero: every report states what its source can resolve. The soft rank (`soft_rank`) needs no such threshold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack

from vibtheory.errors import as_array, as_generator, as_positive, check_choice, reject
from vibtheory.theory.gram import checked_gram, unit_diagonal
from vibtheory.theory.quadratic import QuadraticBound, check_bound

__all__ = ["RankReport", "numerical_rank", "rank_from_gram", "rank_of_rows", "spectrum"]

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
_FACTORS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
# Past this order "auto" computes only as many singular values as are needed, with a bound on the rest.
_EXACT_LIMIT = 2000


@dataclass(frozen=True)
class RankReport:
    """The numerical rank of Ã [·, d] and how far to trust it.

    Attributes:
        rank: how many singular values exceed `tolerance`.
        tolerance: absolute, on the singular values of Ã (unit columns, so the largest lies in [1, √d]).
        singular_values: descending; all min(m, d) of them, or the leading ones where `remainder` bounds the rest.
        gap: singular value number `rank` over the next (or over the bound on it); inf where there is none or it is 0.
        sensitivity: (tolerance, rank) for tolerances from 1/1000 to 1000 times the one used.
        resolution: singular values below this are rounding, for the given source.
        remainder: ≥ every singular value left out (0 when none is).
        source: factor | gram | rows | randomized.
        d, live: number of columns, and of nonzero ones.
    """

    rank: int
    tolerance: float
    singular_values: Array = field(repr=False)
    gap: float
    sensitivity: tuple[tuple[float, int], ...] = field(repr=False)
    resolution: float
    remainder: float
    source: str
    d: int
    live: int

    @property
    def full(self) -> bool:
        """Rank equals the number of nonzero columns: ‖α*‖₀ ≤ rank[A] then says nothing (T3c)."""
        return self.rank == self.live

    @property
    def status(self) -> str:
        """ "determined", or why it is not, with the ranks that are possible and the remedy.

        "ambiguous": a tolerance ten times off would give another rank. "unresolved": Q = AᵀA holds A's singular values
        below `resolution` as rounding only, so any number of the others may be zero.
        """
        if self.remainder > self.tolerance:
            return (
                f"lower bound only: singular values up to {self.remainder:.2g} were not computed; "
                'remedy: method="exact"'
            )
        if self.tolerance < 0.99 * self.resolution:
            return f"unresolved: the tolerance is below the resolution {self.resolution:.2g}; remedy: raise it above"
        near = [
            r
            for t, r in self.sensitivity
            if max(0.05 * self.tolerance, 0.99 * self.resolution) < t < 20 * self.tolerance
        ]
        if not near or min(near) == max(near):
            if self.source == "gram" and not self.full and self.tolerance <= 1.01 * self.resolution:
                return (
                    f"unresolved between {self.rank} and {self.live}: Q does not show singular values of A below "
                    f"{self.resolution:.2g}; remedy: build the bound from A"
                )
            return "determined"
        return (
            f"ambiguous: rank {min(near)} to {max(near)} for tolerances a factor 10 apart; remedy: use the soft rank, "
            "whose threshold is given by the theory" + (", or build the bound from A" if self.source == "gram" else "")
        )

    def __str__(self) -> str:
        return (
            f"rank {self.rank} of {self.live} nonzero columns (d = {self.d}), tolerance {self.tolerance:.2g} on the "
            f"singular values with unit columns, gap {self.gap:.2g}, resolution {self.resolution:.2g} ({self.source}); "
            f"{self.status}"
        )


def numerical_rank(
    source: QuadraticBound | ArrayLike, *, tolerance: float | None = None, method: str = "auto", seed: int = 0
) -> RankReport:
    """The numerical rank of a bound's A, or of a matrix A [m, d].

    Args:
        source: a bound (its A, else its Gram matrix) or a matrix [m, d].
        tolerance: absolute, on the singular values of A with unit columns; default max(m, d)·eps·largest, from a Gram
            matrix √(d·eps)·largest.
        method: "exact" computes every singular value; "randomized" (factor) a range finder whose residual is computed,
            not estimated; "auto" takes "exact" up to 2000 rows or columns.
        seed: of the range finder.

    Raises:
        InvalidInputError: shapes, NaN or infinity, tolerance ≤ 0, an unknown method, "randomized" without a factor.
    """
    check_choice("method", method, ("auto", "exact", "randomized"))
    tolerance = _checked(tolerance)
    if isinstance(source, QuadraticBound):
        if source.A is None:
            if method == "randomized":
                reject("method", "'randomized' for a bound without A", "'auto' or 'exact'",
                       "'auto' uses a pivoted Cholesky factor, which bounds what it leaves out")  # fmt: skip
            return _from_gram(source.gram, tolerance, method)
        matrix = source.A
    else:
        matrix = as_array("A", source, (None, None), "pass a matrix with one column per gate, or a QuadraticBound")
    unit, d = _unit_columns(matrix)
    if min(unit.shape) == 0:
        return _report(np.zeros(0), 0.0, tolerance, 0.0, "factor", d, 0)
    relative = max(matrix.shape) * _EPS
    if method == "randomized" or (method == "auto" and min(unit.shape) > _EXACT_LIMIT):
        generator = as_generator("seed", seed, "numerical_rank")
        values, remainder = _randomized(unit, relative, tolerance, generator)
        return _report(values, remainder, tolerance, relative, "randomized", d, unit.shape[1])
    values = scipy.linalg.svdvals(unit, check_finite=False)
    return _report(values, 0.0, tolerance, relative, "factor", d, unit.shape[1])


def rank_from_gram(gram: ArrayLike, *, tolerance: float | None = None, method: str = "auto") -> RankReport:
    """The numerical rank from Q = AᵀA [d, d]; singular values below √(d·eps) of the largest are unresolved.

    For d > 2000 "auto" uses a Cholesky factor with complete pivoting, LLᵀ ≤ Q: its residual's trace bounds every
    eigenvalue left out, and costs d·rank².

    Args and raised errors: as `numerical_rank`; `gram` symmetric positive semidefinite, tested as by
    `QuadraticBound.from_gram`.
    """
    check_choice("method", method, ("auto", "exact"))
    return _from_gram(checked_gram(gram), _checked(tolerance), method)


def _from_gram(matrix: Array, tolerance: float | None, method: str) -> RankReport:
    w = np.diag(matrix)
    live = np.flatnonzero(w > 0)
    if live.size == 0:
        return _report(np.zeros(0), 0.0, tolerance, 0.0, "gram", w.size, 0)
    scaled = unit_diagonal(matrix[np.ix_(live, live)], w[live])
    relative = float(np.sqrt(live.size * _EPS))
    if method == "exact" or live.size <= _EXACT_LIMIT:
        squares, rest = scipy.linalg.eigvalsh(scaled, check_finite=False)[::-1], 0.0
    else:
        squares, rest = _pivoted_cholesky(scaled)
    values = np.sqrt(np.maximum(squares, 0.0))
    return _report(values, float(np.sqrt(rest)), tolerance, relative, "gram", w.size, live.size)


def rank_of_rows(chunks: Iterable[ArrayLike], *, tolerance: float | None = None) -> RankReport:
    """The numerical rank of a tall A that arrives in chunks of rows [·, d], held in memory as one R [d, d] only.

    Each step is a QR factorisation of R on top of the chunk (TSQR), so singular values are resolved as from A itself,
    not as from its square.

    Raises:
        InvalidInputError: no chunk, chunks of different widths, NaN or infinity, tolerance ≤ 0.
    """
    tolerance = _checked(tolerance)
    if not isinstance(chunks, Iterable):
        reject("chunks", type(chunks).__name__, "blocks of rows [n, d]", "pass a list or an iterator of arrays")
    upper: Array | None = None
    rows = 0
    for number, chunk in enumerate(chunks):
        width = None if upper is None else upper.shape[1]
        block = as_array(f"chunks[{number}]", chunk, (None, width), "pass row blocks of one matrix")
        rows += block.shape[0]
        stacked = block if upper is None else np.vstack([upper, block])
        upper = stacked if stacked.shape[0] <= stacked.shape[1] else np.asarray(np.linalg.qr(stacked, mode="r"))
    if upper is None or upper.size == 0:
        reject("chunks", "no rows", "at least one block [n, d]", "check the iterator: it may be exhausted already")
    unit, d = _unit_columns(upper)
    values = scipy.linalg.svdvals(unit, check_finite=False) if unit.size else np.zeros(0)
    return _report(values, 0.0, tolerance, max(rows, d) * _EPS, "rows", d, unit.shape[1])


def spectrum(bound: QuadraticBound) -> Array:
    """Eigenvalues of G, descending [k ≤ d]: squared singular values of A with unit columns, zero columns left out.

    From a factor with m < d rows the d − m zeros are not listed; past 2000 rows and columns, or from a larger Gram
    matrix, only the leading ones (`numerical_rank` bounds the rest).
    """
    check_bound(bound)
    return numerical_rank(bound).singular_values ** 2


def _report(
    values: Array, remainder: float, tolerance: float | None, relative: float, source: str, d: int, live: int
) -> RankReport:
    resolution = relative * float(values[0]) if values.size else 0.0
    used = resolution if tolerance is None else tolerance
    rank = int((values > used).sum())
    following = float(values[rank]) if rank < values.size else remainder
    gap = float(values[rank - 1]) / following if rank and following > 0 else np.inf
    sensitivity = tuple((used * f, int((values > used * f).sum())) for f in _FACTORS)
    return RankReport(rank, used, values, gap, sensitivity, resolution, remainder, source, d, live)


def _checked(tolerance: float | None) -> float | None:
    if tolerance is None:
        return None
    return float(as_positive("tolerance", tolerance, (), "pass an absolute tolerance > 0, or None"))


def _unit_columns(matrix: Array) -> tuple[Array, int]:
    """The nonzero columns at unit length, and how many columns there were; no overflow in the norms."""
    largest = np.abs(matrix).max(axis=0) if matrix.size else np.zeros(matrix.shape[1])
    live = np.flatnonzero(largest > 0)
    bounded = matrix[:, live] / largest[live]
    return bounded / np.sqrt(np.einsum("ij,ij->j", bounded, bounded)), matrix.shape[1]


def _randomized(unit: Array, relative: float, tolerance: float | None, rng: np.random.Generator) -> tuple[Array, float]:
    """Leading singular values of Ã, and a bound on what they miss (Halko, Martinsson & Tropp 2011, residual computed).

    With V orthonormal and E = Ã − VVᵀÃ, the singular values s_i of VᵀÃ satisfy s_i² ≤ σ_i² ≤ s_i² + ‖E‖², so ‖E‖_F
    bounds every one left out. The sketch doubles until that is below the tolerance; past half of the full size every
    singular value is computed.
    """
    size = 64
    small = min(unit.shape)
    wanted = tolerance if tolerance is not None else relative
    while size < small / 2:
        sketch = unit @ rng.standard_normal((unit.shape[1], size))
        basis = np.linalg.qr(sketch)[0]
        basis = np.linalg.qr(unit @ (unit.T @ basis))[0]  # one power iteration sharpens slow spectra
        core = basis.T @ unit
        remainder = float(np.linalg.norm(unit - basis @ core))
        values = scipy.linalg.svdvals(core, check_finite=False)
        if remainder <= wanted * (values[0] if tolerance is None else 1.0):
            return values, remainder
        size *= 2
    return scipy.linalg.svdvals(unit, check_finite=False), 0.0


def _pivoted_cholesky(scaled: Array) -> tuple[Array, float]:
    """Eigenvalues of LLᵀ, descending, for G ≈ LLᵀ with complete pivoting; and the residual's trace."""
    d = scaled.shape[0]
    factor, pivots, rank, _ = lapack.dpstrf(np.asfortranarray(scaled), lower=1, tol=d * _EPS)
    lower = np.tril(factor)[:, :rank]
    rest = np.diag(scaled)[pivots - 1] - np.einsum("ij,ij->i", lower, lower)
    values = scipy.linalg.eigvalsh(lower.T @ lower, check_finite=False)[::-1]
    return np.asarray(values, dtype=np.float64), float(np.maximum(rest, 0.0)[rank:].sum())
