"""The quadratics among which `fitted` searches, linear in their unknowns (docs/theory.md T5).

    ḡ(u) = uᵀQu + bᵀu + c = features(u)·x,   Q = C   or   Q = diag(q) + UCUᵀ,   x = (q, C's upper triangle, b, c).

Q ⪰ 0 is asked for by C ⪰ 0 and q ≥ 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["QuadraticFamily"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class QuadraticFamily:
    """All ḡ on d variables with a full Q, or with Q diagonal plus low rank.

    Attributes:
        d: number of variables.
        directions: U [d, r] with orthonormal columns; None: Q is full.
    """

    d: int
    directions: Array | None = None

    @property
    def diagonal(self) -> int:
        """Entries of q: 0 or d."""
        return 0 if self.directions is None else self.d

    @property
    def order(self) -> int:
        """Rows of C: d or r."""
        return self.d if self.directions is None else self.directions.shape[1]

    @cached_property
    def upper(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and column of each unknown of C."""
        rows, columns = np.triu_indices(self.order)
        return rows, columns

    @property
    def core(self) -> slice:
        """Where C's unknowns stand in x."""
        return slice(self.diagonal, self.diagonal + self.upper[0].size)

    @property
    def unknowns(self) -> int:
        """D, the length of x."""
        return int(self.core.stop) + self.d + 1

    def features(self, u: Array) -> Array:
        """[n, D] for u [n, d]: what each unknown adds to ḡ."""
        inner = u if self.directions is None else u @ self.directions
        i, j = self.upper
        pairs = inner[:, i] * inner[:, j]
        pairs[:, i != j] *= 2.0
        return np.hstack([u[:, : self.diagonal] ** 2, pairs, u, np.ones((len(u), 1))])

    def matrix(self, x: Array) -> Array:
        """C [order, order]."""
        matrix = np.zeros((self.order, self.order))
        matrix[self.upper] = x[self.core]
        matrix.T[self.upper] = x[self.core]
        return matrix

    def quadratic(self, x: Array) -> tuple[Array, Array, float]:
        """Q [d, d], b [d], c."""
        q = self.matrix(x)
        if self.directions is not None:
            q = np.diag(x[: self.diagonal]) + self.directions @ q @ self.directions.T
        return q, x[self.core.stop : -1], float(x[-1])
