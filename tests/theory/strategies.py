"""Random instances of Φ for the tests and for benchmarks/stress_theory.py: the families of the minimum stress.

`draw(rng, family)` is the one generator; `bounds()` wraps it as a hypothesis strategy (shrinking over its seed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from vibtheory.theory.quadratic import QuadraticBound

Array = NDArray[np.float64]
FAMILIES = ("gaussian", "low rank", "duplicates", "zero columns", "spectrum 1/k^2", "prices differ", "gram only")
ILL_CONDITIONED = ("hilbert", "vandermonde")


@dataclass(frozen=True)
class Instance:
    """One random problem.

    Attributes:
        bound: ḡ with its prices.
        family: one of FAMILIES or ILL_CONDITIONED.
        rank: the rank that A was built with (duplicates and zero columns only lower it).
        beta: b = −2Aᵀβ, plus `outside` [d], which A does not reach (0 where b is in the row space).
    """

    bound: QuadraticBound
    family: str
    rank: int
    beta: Array
    outside: Array


def draw(rng: np.random.Generator, family: str, largest: int = 12, outside: bool = False) -> Instance:
    """A random instance: d in 2…`largest`, scale of A 1e-6…1e6, γ 1e-6…1e2, ‖β‖ from below to far above √γ."""
    d = int(rng.integers(2, largest + 1))
    rank = int(rng.integers(1, d + 1))
    if family == "low rank" or outside:
        rank = int(rng.integers(1, max(2, d // 2 + 1)))
    factor = rng.standard_normal((rank, d))
    if family == "duplicates":
        source, target = rng.integers(d, size=2)
        factor[:, target] = factor[:, source] * rng.choice([1.0, -1.0, 2.0])
    if family == "zero columns":
        factor[:, rng.integers(d)] = 0.0
        if not factor.any():
            factor[:, 0] = 1.0
    if family == "spectrum 1/k^2":
        left, _, right = np.linalg.svd(factor, full_matrices=False)
        factor = (left / (1.0 + np.arange(rank)) ** 2) @ right
    if family == "hilbert":
        factor = 1.0 / (np.arange(rank)[:, None] + np.arange(d) + rng.uniform(0.5, 2))
    if family == "vandermonde":
        factor = np.vander(rng.uniform(-1, 1, d), rank, increasing=True).T
    scale = 10.0 ** rng.uniform(-6, 6)
    gamma = 10.0 ** rng.uniform(-6, 2)
    prices = gamma * 10.0 ** rng.uniform(-1, 1, d) if family == "prices differ" else np.full(d, gamma)
    # ‖β‖/√γ decides how many gates open (T7): from everything closed to nearly least squares.
    beta = rng.standard_normal(rank) * np.sqrt(gamma) * 10.0 ** rng.uniform(-0.5, 2)
    b = -2.0 * (scale * factor).T @ beta
    extra = np.zeros(d)
    if outside and rank < d:
        null = np.linalg.svd(factor)[2][rank]
        extra = null * float(np.linalg.norm(b) + np.sqrt(gamma) * scale) / (1.0 + float(np.linalg.norm(null)))
    if family == "gram only":
        gram = (scale * factor).T @ (scale * factor)
        bound = QuadraticBound.from_gram(0.5 * (gram + gram.T), b + extra, 0.0, prices)
    else:
        bound = QuadraticBound(scale * factor, b + extra, 0.0, prices)
    return Instance(bound, family, rank, beta, extra)


def random_start(rng: np.random.Generator, bound: QuadraticBound) -> Array:
    """A start [d] whose typical |μ|√(w/γ) ranges over 0.1…30, some gates closed."""
    unit = np.sqrt(bound.gamma) / np.sqrt(np.where(bound.w > 0, bound.w, 1.0))
    return np.asarray(unit * rng.standard_normal(bound.d) * 10.0 ** rng.uniform(-1, 1.5) * (rng.random(bound.d) < 0.9))


@st.composite
def instances(draw_one: st.DrawFn, largest: int = 10) -> Instance:
    """Hypothesis strategy over FAMILIES."""
    family = draw_one(st.sampled_from(FAMILIES))
    seed = draw_one(st.integers(0, 2**32 - 1))
    return draw(np.random.default_rng(seed), family, largest)
