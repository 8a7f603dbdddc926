"""Φ in the coordinates in which every gate looks alike, so that no tolerance depends on the scale of A, b or γ.

With x_j = μ_j √(w_j/γ₀), γ₀ = min γ_j and D_j = γ_j/γ₀ ≥ 1 (T1, T3), and the columns with w_j = 0 removed,

    Φ/γ₀ = xᵀGx + pᵀx + Σ_j D_j r(|x_j|/√D_j) + const,   G = ÃᵀÃ with unit columns, p_j = b_j/√(w_j γ₀).

Everything about r(t) = u − log(1−u) is rational in v = √(1−u) = 2/(t + √(t²+4)) ∈ (0, 1] (dv/dt = −v²/(1+v²)):

    t = 1/v − v,   α = 1/v² − 1,   r' = 2v,   r'' = −2v²/(1+v²) = −2/(2+α),   r''' = 4v³/(1+v²)³ ∈ (0, ½].

v/(1+v²) increases on (0, 1], so r''' decreases in t: its largest value on a ball is at the ball's smallest t.

A coordinate alone has a closed form: Φ/γ₀ = x² + qx + Dr(|x|/√D) is least at x = β̂(1 − D/β̂²)₊, β̂ = −q/2, because
2x + q + 2√D v sign(x) = 0 with x = √D(1/v − v) collapses to 2√D/v = |q|. (Breiman's 1995 non-negative garrote.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vibtheory.theory.penalty import root_noise
from vibtheory.theory.quadratic import QuadraticBound

__all__ = ["EPS", "NormalisedProblem", "normalise"]

Array = NDArray[np.float64]
Index = NDArray[np.intp]
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class NormalisedProblem:
    """Φ/γ₀ in x coordinates; k is the number of columns with w_j > 0.

    Attributes:
        d: number of gates, zero columns included.
        live: [k] their indices.
        scale: [k] μ_live = scale·x.
        price: [k] D_j = γ_j/γ₀ ≥ 1.
        linear: [k] p.
        factor: the live columns of A [m, k]; None when the Gram form is cheaper or all there is.
        root: [k] their lengths √w.
        gram: G [k, k]; None when `factor` is used.
        entry_error: bound on |fl(G_ij) − G_ij|.
        gamma_unit: γ₀ in nats.
        bound: ḡ itself; None for a `part`.
    """

    d: int
    live: Index
    scale: Array
    price: Array
    linear: Array
    factor: Array | None
    root: Array
    gram: Array | None
    entry_error: float
    gamma_unit: float
    bound: QuadraticBound | None

    @property
    def size(self) -> int:
        """k: how many columns have w_j > 0."""
        return len(self.live)

    def coordinates(self, mu: Array) -> Array:
        """x [k] of μ [d]."""
        return mu[self.live] / self.scale

    def means(self, x: Array) -> Array:
        """μ [d] of x [k]; 0 on the columns with w_j = 0, which leave Φ unchanged."""
        mu = np.zeros(self.d)
        mu[self.live] = self.scale * x
        return mu

    def response(self, x: Array) -> Array:
        """2Gx + p [k], the smooth part's gradient; costs O(k·m + |support|·m) or O(k·|support|)."""
        support = np.flatnonzero(x)
        few = 2 * len(support) < self.size
        if self.factor is not None:
            scaled = x / self.root
            image = self.factor[:, support] @ scaled[support] if few else self.factor @ scaled
            return np.asarray(2.0 * (image @ self.factor) / self.root + self.linear)
        assert self.gram is not None
        product = x[support] @ self.gram[support] if few else self.gram @ x
        return np.asarray(2.0 * product + self.linear)

    def response_error(self, x: Array) -> Array:
        """A bound [k] on the rounding error of `response` plus the slope of the penalty, summation in any order."""
        support = np.flatnonzero(x)
        size = np.abs(x[support])
        terms = len(support) + 12
        if self.factor is not None:  # columns have length 1, so Cauchy–Schwarz bounds the second product's terms
            terms += len(self.factor)
            image = np.abs(self.factor[:, support]) @ (size / self.root[support])
            quadratic = np.full(self.size, 2.0 * terms * EPS * float(np.linalg.norm(image)))
        else:
            assert self.gram is not None
            quadratic = 2.0 * terms * EPS * (size @ np.abs(self.gram[support])) + 2.0 * self.entry_error * size.sum()
        slope = 2.0 * (self.entry_error + 8 * EPS) * np.sqrt(self.price)
        return np.asarray(quadratic + 4 * EPS * np.abs(self.linear) + slope)

    def fine_gradient(self, x: Array, support: Index) -> tuple[Array, Array]:
        """∇_S F [s] in long double from ḡ itself, and a bound [s] on its rounding, summation in any order."""
        assert self.bound is not None
        live, eps = self.live[support], float(np.finfo(np.longdouble).eps)
        point = x[support].astype(np.longdouble)
        if self.bound.A is not None:
            columns = self.bound.A[:, live].astype(np.longdouble)
            root = np.sqrt((columns**2).sum(axis=0))
            columns /= root
            product, terms = (columns @ point) @ columns, len(support) // 2 + len(columns) + 8
            size = np.full(len(support), np.linalg.norm(np.asarray(np.abs(columns) @ np.abs(point), np.float64)))
        else:
            gram = self.bound.gram[np.ix_(live, live)].astype(np.longdouble)
            root = np.sqrt(np.diag(gram))
            gram /= np.outer(root, root)
            product, terms = gram @ point, len(support) // 2 + 8
            size = np.asarray(np.abs(gram) @ np.abs(point), np.float64)
        linear = self.bound.b[live] / root / np.sqrt(np.longdouble(self.gamma_unit))
        edge = np.sqrt(self.bound.gamma[live].astype(np.longdouble) / self.gamma_unit)
        gradient = 2.0 * (product + edge * root_noise(np.abs(point) / edge) * np.sign(point)) + linear
        error = eps * (terms * (2.0 * size + np.abs(linear)) + 16.0 * edge)
        return np.asarray(gradient, np.float64), np.asarray(error + EPS * np.abs(gradient), np.float64)

    def block(self, left: Index, right: Index) -> Array:
        """G[left, right]."""
        if self.factor is not None:
            one = self.factor[:, left] / self.root[left]
            two = one if left is right else self.factor[:, right] / self.root[right]
            return np.asarray(one.T @ two)
        assert self.gram is not None
        return self.gram[np.ix_(left, right)]

    def part(self, places: Index, gram: Array, linear: Array) -> NormalisedProblem:
        """The same problem in the coordinates `places` [s] alone, with their G [s, s] and linear term [s]."""
        return replace(
            self, d=len(places), live=np.arange(len(places)), scale=self.scale[places], price=self.price[places],
            linear=linear, factor=None, root=self.root[places], gram=gram, bound=None,
        )  # fmt: skip

    def value(self, x: Array, response: Array | None = None) -> float:
        """Φ/γ₀ without the constant c/γ₀; `response` where it is at hand."""
        smooth = 0.5 * float(x @ ((self.response(x) if response is None else response) + self.linear))
        support = np.flatnonzero(x)
        price = self.price[support]
        t = np.abs(x[support]) / np.sqrt(price)
        v = root_noise(t)
        return smooth + float(price @ (t * v - 2.0 * np.log(v)))


def normalise(bound: QuadraticBound) -> NormalisedProblem:
    """`bound` in x coordinates; from A where it has fewer rows than columns, else from the Gram matrix."""
    live, gamma = bound.live, bound.gamma
    root = np.sqrt(bound.w[live])
    unit = float(gamma[live].min()) if len(live) else float(gamma.min())
    factor = gram = None
    entry_error = 4 * EPS if bound.A is None else (bound.A.shape[0] + 8) * EPS
    if bound.A is not None and bound.A.shape[0] < len(live):
        factor = bound.A if len(live) == bound.d else bound.A[:, live]
    else:
        gram = bound.gram[np.ix_(live, live)] / root[:, None] / root
    return NormalisedProblem(
        d=bound.d,
        live=live,
        scale=np.sqrt(unit) / root,
        price=gamma[live] / unit,
        linear=bound.b[live] / root / np.sqrt(unit),
        factor=factor,
        root=root,
        gram=gram,
        entry_error=entry_error,
        gamma_unit=unit,
        bound=bound,
    )
