"""Pairwise mixture bounds (Kolchinsky & Tracey 2017): KL from above, Bhattacharyya from below, with zero patterns."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vibtheory.information.channel import GatedChannel
from vibtheory.information.result import Kind, MutualInformation, standard_error

__all__ = ["pairwise", "pairwise_bhattacharyya"]

Array = NDArray[np.float64]
_BLOCK_ENTRIES = 2**24  # 128 MiB of float64


def pairwise(channel: GatedChannel, device: str = "cpu", precision: str = "float64") -> MutualInformation:
    """Upper bound −1/N Σ_i log 1/N Σ_j exp(−KL(p_i ‖ p_j)), p_i = p(h|x_i); pairs with other zero patterns have KL = ∞.

    Direction: upper. Assumes: nothing. Cost: 4N²d operations as matrix products (2N²d with equal covariances).
    Ceiling: log N. `device` and `precision` are torch's names.
    """
    return _pairwise(channel, "pairwise", "upper", lambda m, v: _kl_exponents(m, v, device, precision))


def pairwise_bhattacharyya(channel: GatedChannel) -> MutualInformation:
    """Lower bound −1/N Σ_i log 1/N Σ_j ∫√(p_i p_j). Direction: lower. Assumes: nothing. Cost: ~6N²d. Ceiling: log N."""
    return _pairwise(channel, "pairwise_bhattacharyya", "lower", _bhattacharyya_exponents)


_Exponents = Callable[[Array, Array], Callable[[int, int], Array]]


def _pairwise(channel: GatedChannel, method: str, kind: Kind, exponents: _Exponents) -> MutualInformation:
    mass, influence = np.ones(channel.n), np.ones(channel.n)
    order = np.argsort(channel.pattern, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(channel.pattern))[:-1])
    for group in groups:
        if len(group) == 1:
            continue  # a unique pattern: only its own term
        on = channel.active[group[0]]
        f = channel.f[np.ix_(group, on)]
        mean = f * channel.mu[on]
        variance = (f * channel.sigma[on]) ** 2 + channel.tau**2
        block_of = exponents(mean, variance)
        share = np.zeros(len(group))
        size = max(1, _BLOCK_ENTRIES // len(group))
        for start in range(0, len(group), size):
            stop = min(start + size, len(group))
            weight = block_of(start, stop)  # [B, n]: exp(−distance)
            weight[np.arange(stop - start), np.arange(start, stop)] = 1.0  # distance to oneself is exactly 0
            total = weight.sum(axis=1, dtype=np.float64)
            mass[group[start:stop]] = total
            share += (1 / total).astype(weight.dtype) @ weight
        influence[group] = share
    terms = math.log(channel.n) - np.log(mass)
    return MutualInformation(
        nats=float(terms.mean()),
        kind=kind,
        method=method,
        stderr=standard_error(terms - influence),
        ceiling=math.log(channel.n),
        assumes=("x uniform on these rows",),
    )


def _kl_exponents(mean: Array, variance: Array, device: str, precision: str) -> Callable[[int, int], Array]:
    """−KL(p_i‖p_j) = m_iᵀ(m_j/v_j) − ½(v_i+m_i²)ᵀ(1/v_j) + ½Σ log v_i + d/2 − ½Σ(m_j²/v_j + log v_j)."""
    import torch

    kind = getattr(torch, precision)
    centred = mean - mean.mean(axis=0)  # KL is invariant; centring avoids cancellation
    equal = bool((variance == variance[0]).all())
    if equal:
        white = centred / np.sqrt(variance[0])
        left, right = white, white
        row = -0.5 * (white**2).sum(axis=1)
        column = row
    else:
        left = np.hstack([centred, variance + centred**2])
        right = np.hstack([centred / variance, -0.5 / variance])
        row = 0.5 * np.log(variance).sum(axis=1) + 0.5 * mean.shape[1]
        column = -0.5 * (centred**2 / variance + np.log(variance)).sum(axis=1)
    left_t, right_t, row_t, column_t = (
        torch.from_numpy(a).to(device=device, dtype=kind) for a in (left, right.T.copy(), row, column)
    )
    del left, right

    def block(start: int, stop: int) -> Array:
        exponent = torch.addmm(column_t, left_t[start:stop], right_t).add_(row_t[start:stop, None])
        return exponent.clamp_(max=0).exp_().cpu().numpy()  # type: ignore[no-any-return]

    return block


def _bhattacharyya_exponents(mean: Array, variance: Array) -> Callable[[int, int], Array]:
    """exp −Σ [Δ²/4(v_i+v_j) + ½ log((v_i+v_j)/2√(v_iv_j))]; the logs are taken of products over 8 units."""
    scale = np.sqrt(variance)

    def block(start: int, stop: int) -> Array:
        distance = np.zeros((stop - start, len(mean)))
        product = np.ones_like(distance)
        for k in range(mean.shape[1]):
            total = variance[start:stop, k, None] + variance[None, :, k]
            distance += 0.25 * (mean[start:stop, k, None] - mean[None, :, k]) ** 2 / total
            product *= total / (2 * scale[start:stop, k, None] * scale[None, :, k])
            if k % 8 == 7 or k == mean.shape[1] - 1:
                distance += 0.5 * np.log(product)
                product.fill(1.0)
        weight: Array = np.exp(-distance)
        return weight

    return block
