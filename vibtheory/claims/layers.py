"""Decider of T7, several layers: two gated layers of one network brought to a joint stationary point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.instances import Effort
from vibtheory.theory.minima import LocalMinimum, find_local_minimum
from vibtheory.theory.network_report import JointSparsityReport, check_joint_sparsity
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.sparsity import check_sparsity_bound

__all__ = ["several_layers"]

Array = NDArray[np.float64]
Gates = tuple[Array, Array]  # a layer's (μ, σ)
_TURNS = 200


@dataclass(frozen=True)
class _Chain:
    """ŷ = V diag(z₂) W diag(z₁) f with two gated layers, under squared error; one price.

    The loss is quadratic in either layer's z alone, so averaged over the other's noise each layer has an exact ḡ.
    """

    f: Array  # [n, d1]
    w: Array  # [d2, d1]
    v: Array  # [k, d2]
    y: Array  # [n, k]
    gamma: float

    def first(self, other: Gates) -> QuadraticBound:
        """ḡ of layer 1, given layer 2's (μ, σ)."""
        behind = self.w.T @ (self.v.T @ self.v * _second_moment(other)) @ self.w
        b = -2 * (self.f * (self.y @ self.v * other[0] @ self.w)).mean(axis=0)
        return QuadraticBound.from_gram(behind * (self.f.T @ self.f / len(self.f)), b, self._constant, self.gamma)

    def second(self, other: Gates) -> QuadraticBound:
        """ḡ of layer 2, given layer 1's (μ, σ)."""
        arriving = self.w @ (self.f.T @ self.f / len(self.f) * _second_moment(other)) @ self.w.T
        b = -2 * ((self.f * other[0] @ self.w.T) * (self.y @ self.v)).mean(axis=0)
        return QuadraticBound.from_gram((self.v.T @ self.v) * arriving, b, self._constant, self.gamma)

    @property
    def _constant(self) -> float:
        return float((self.y**2).sum(axis=1).mean())


def _second_moment(gates: Gates) -> Array:
    """E zzᵀ [d, d]."""
    mu, sigma = gates
    return np.asarray(np.outer(mu, mu) + np.diag(sigma**2))


def _gates(minimum: LocalMinimum) -> Gates:
    """(μ, σ); a column that the other layer has closed is closed too (its own minimum leaves σ = ∞ and μ free)."""
    free = ~np.isfinite(minimum.sigma)
    return np.where(free, 0.0, minimum.mu), np.where(free, 0.0, minimum.sigma)


def _random_chain(rng: np.random.Generator) -> _Chain:
    """3…8 gates in each layer; few examples and outputs, so that ranks are low."""
    d1, d2, k, n = (int(rng.integers(low, high)) for low, high in ((3, 9), (3, 9), (1, 4), (2, 5)))
    f, w, v = rng.standard_normal((n, d1)), rng.standard_normal((d2, d1)), rng.standard_normal((k, d2))
    return _Chain(f, w, v, 3 * rng.standard_normal((n, k)), 10.0 ** rng.uniform(-3, 0))


def _start(rng: np.random.Generator, d: int) -> Gates:
    return np.asarray(rng.standard_normal(d)), np.full(d, 0.1)


def _settled(chain: _Chain, rng: np.random.Generator) -> tuple[Gates, Gates] | None:
    """From a random start, each layer to its minimum by turns, until neither moves; None if they go on moving."""
    one, two = (_start(rng, matrix.shape[1]) for matrix in (chain.f, chain.v))
    for _ in range(_TURNS):
        before = one[0], two[0]
        one = _gates(find_local_minimum(chain.first(two), one[0]))
        two = _gates(find_local_minimum(chain.second(one), two[0]))
        if all(np.abs(old - new).max() <= 1e-7 for old, new in zip(before, (one[0], two[0]), strict=True)):
            return one, two
    return None


def several_layers(
    effort: Effort, changed: Callable[[JointSparsityReport], bool] = lambda found: found.verdict == "holds"
) -> Finding:
    """T7, several layers: Σ_i ‖α_i‖₀ ≤ Σ_i rank A_i where every layer is at a minimum of its ḡ given the others' gates.

    That is necessary at a local minimum of the joint bound, so what holds there holds at those.
    """
    rng = effort.rng("T7 layers")
    outcomes: list[Outcome] = []
    left: Counter[str] = Counter()
    vacuous, disagreement = 0, 0.0
    for _ in range(effort.size(60, 300)):
        chain = _random_chain(rng)
        gates = _settled(chain, rng)
        if gates is None:
            left[f"not settled in {_TURNS} turns"] += 1
            continue
        one, two = gates
        if not one[0].any() or not two[0].any():
            left["all closed"] += 1
            continue
        bounds = chain.first(two), chain.second(one)
        both = [bound.expectation(*own) for bound, own in zip(bounds, gates, strict=True)]  # one loss, written twice
        disagreement = max(disagreement, abs(both[0] - both[1]) / abs(both[0]))
        found = check_joint_sparsity(
            check_sparsity_bound(bound, own[0]) for bound, own in zip(bounds, gates, strict=True)
        )
        if found.verdict == "not applicable":
            left[found.verdict] += 1
            continue
        vacuous += found.rank == sum(bound.live.size for bound in bounds)
        outcomes.append((changed(found), str(found)))
    evidence = {"vacuous: total rank = live gates": vacuous, "joint loss, written twice, differs by": disagreement,
                "left out": dict(left)}  # fmt: skip
    return Finding(Tally.of(outcomes, independent=True), evidence=evidence)
