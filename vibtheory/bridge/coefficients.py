"""Q, b, c of a surrogate zᵀQz + bᵀz + c, and its form around an anchor z⁰."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Quadratic", "about", "symmetric"]

Array = NDArray[np.float64]
_DEAD = 1e-28  # share of the largest w_j below which a column is rounding of zero, about eps²


@dataclass(frozen=True)
class Quadratic:
    """zᵀQz + bᵀz + c in nats; `note` is the sentence that its guarantee carries."""

    gram: Array
    b: Array
    c: float
    note: str = ""

    def value(self, z: Array) -> Array:
        """ḡ [S] at points z [S, d]."""
        return np.asarray(np.einsum("si,ij,sj->s", z, self.gram, z, optimize=True) + z @ self.b + self.c)


def symmetric(gram: Tensor) -> Array:
    """(Q + Qᵀ)/2 as a numpy array."""
    return np.asarray(((gram + gram.T) / 2).cpu().numpy(), dtype=np.float64)


def about(gram: Array, gradient: Array, value: float, anchor: Array, note: str = "") -> Quadratic:
    """value + gradientᵀ(z − z⁰) + (z − z⁰)ᵀQ(z − z⁰), expanded; columns that are zero up to rounding become zero."""
    w = np.diag(gram)
    dead = w <= _DEAD * max(float(w.max()), 0.0)
    gram = np.where(dead[:, None] | dead[None, :], 0.0, gram)
    gradient = np.where(dead, 0.0, gradient)
    b = gradient - 2 * gram @ anchor
    return Quadratic(gram, b, float(value - gradient @ anchor + anchor @ gram @ anchor), note)
