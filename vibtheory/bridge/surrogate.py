"""A surrogate zᵀQz + bᵀz + c by its coefficients, and from value, slope and curvature at an anchor z⁰."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Quadratic", "about"]

Array = NDArray[np.float64]
_DEAD = 1e-28  # share of the largest w_j, in units of the gates, below which a column is rounding of zero, about eps²
_ROUNDING = 1e-12  # share of the largest possible slope below which one is rounding of zero


@dataclass(frozen=True)
class Quadratic:
    """zᵀQz + bᵀz + c in nats; `note` is the sentence that its guarantee carries.

    `held`: independent z [S, d] and their g [S] of which one alone set its height, so that they say its level.
    """

    gram: Array
    b: Array
    c: float
    note: str = ""
    held: tuple[Array, Array] | None = None

    def value(self, z: Array) -> Array:
        """ḡ [S] at points z [S, d]."""
        return np.asarray(np.einsum("si,ij,sj->s", z, self.gram, z, optimize=True) + z @ self.b + self.c)


def about(
    gram: Array, gradient: Array, value: float, anchor: Array, note: str = "", unit: Array | float = 1.0
) -> Quadratic:
    """value + gradientᵀ(z − z⁰) + (z − z⁰)ᵀQ(z − z⁰), expanded, Q the symmetric part of `gram`.

    Columns that are zero up to rounding, with z_j in its own `unit` [d], become zero, and so does b.
    """
    w = np.diag(gram)
    size = w * np.square(unit)
    dead = size <= _DEAD * max(float(size.max()), 0.0)
    gram = np.where(dead[:, None] | dead[None, :], 0.0, (gram + gram.T) / 2)
    gradient = np.where(dead, 0.0, gradient)
    b, rise = gradient - 2 * gram @ anchor, float(anchor @ gram @ anchor)
    # a slope in z_j is at most of the size of √w_j times the losses' and the anchor's √: far below it, it is rounding
    size = np.sqrt(np.where(dead, 1.0, w)) * np.sqrt(max(value, rise, 0.0))
    if (np.abs(b) <= _ROUNDING * size).all():
        b = np.zeros_like(b)
    return Quadratic(gram, b, float(value - gradient @ anchor + rise), note)
