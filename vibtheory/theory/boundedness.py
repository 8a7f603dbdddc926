"""Is Φ bounded below? Otherwise along which direction it falls for ever, and what to do (T2, T7 "existence").

Two ways: a column of A that is zero with b_j ≠ 0, or a component of b outside the row space of A.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import reject
from vibtheory.theory import row_space
from vibtheory.theory.semidefinite import few

__all__ = ["falling_direction", "reject_unbounded"]

Array = NDArray[np.float64]


def falling_direction(bound: Any) -> Array | None:
    """A unit vector n [d] with Qn = 0 and bᵀn < 0; None if there is none. Tolerances: `row_space.null_component`."""
    direction = np.zeros(bound.d)
    free = (bound.w == 0) & (bound.b != 0)
    if free.any():
        direction[free] = -bound.b[free]
    elif bound.live.size:
        live, every = bound.live, bound.live.size == bound.d
        A = bound.A if bound.A is None or every else bound.A[:, live]
        needs_gram = A is None or min(A.shape) > row_space.SVD_LIMIT
        gram = (bound.gram if every else bound.gram[np.ix_(live, live)]) if needs_gram else None
        rest = row_space.null_component(A, gram, bound.w[live], bound.b[live])
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
