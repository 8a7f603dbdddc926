"""Pairwise mixture bounds (Kolchinsky & Tracey 2017): KL from above, Bhattacharyya from below, with zero patterns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import check_choice, reject
from vibtheory.information.channel import GatedChannel
from vibtheory.information.result import Kind, MutualInformation, standard_error

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["pairwise", "pairwise_bhattacharyya"]

Array = NDArray[np.float64]
_BLOCK_ENTRIES = 2**24  # 128 MiB of float64: large matrix products
_CACHE_ENTRIES = 2**16  # 512 KiB: elementwise work on a CPU stays in its cache
_TRIAL_ROWS = 64
_TOLERANCE = 1e-4  # nats, of any trial row; the mean over rows is far closer


def pairwise(channel: GatedChannel, device: str = "cpu", precision: str = "float64") -> MutualInformation:
    """Upper bound −1/N Σ_i log 1/N Σ_j exp(−KL(p_i ‖ p_j)), p_i = p(h|x_i); pairs with other zero patterns have KL = ∞.

    Direction: upper. Assumes: nothing. Cost: 4N²d operations as matrix products (2N²d with equal covariances).
    Ceiling: log N.

    Args:
        channel: the gated layer's law.
        device: "cpu", "cuda", "cuda:1", ….
        precision: "float64", or "float32": half the time; a KL is then wrong by about 1e-7 · Σ_j m_j²/v_j. "auto":
            float32 where its terms of 64 rows, spread over all, agree with float64's to 1e-4 nats, else float64.

    Raises:
        InvalidInputError: a device that torch does not have here, or an unknown precision.
    """
    _check_torch(device, precision)

    def exponents(mean: Array, variance: Array, kind: str) -> Callable[[int, int], Array]:
        return _kl_exponents(mean, variance, device, kind)

    return _pairwise(channel, "pairwise", "upper", exponents, _BLOCK_ENTRIES, precision)


def pairwise_bhattacharyya(channel: GatedChannel, device: str = "cpu", precision: str = "float64") -> MutualInformation:
    """Lower bound −1/N Σ_i log 1/N Σ_j ∫√(p_i p_j), in nats.

    Direction: lower. Assumes: nothing. Cost: ~8N²d elementwise operations, no matrix product (2N²d as a matrix product
    with equal covariances). Ceiling: log N. `device`, `precision` and errors as in `pairwise`; float32 is accurate to
    about 1e-6 here where covariances differ.
    """
    _check_torch(device, precision)
    entries = _CACHE_ENTRIES if device == "cpu" and channel.sigma.any() else _BLOCK_ENTRIES

    def exponents(mean: Array, variance: Array, kind: str) -> Callable[[int, int], Array]:
        return _bhattacharyya_exponents(mean, variance, device, kind)

    return _pairwise(channel, "pairwise_bhattacharyya", "lower", exponents, entries, precision)


_Exponents = Callable[[Array, Array, str], Callable[[int, int], Array]]


def _pairwise(
    channel: GatedChannel, method: str, kind: Kind, exponents: _Exponents, entries: int, precision: str
) -> MutualInformation:
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
        del f  # many rows fill gigabytes
        chosen = _precise_enough(mean, variance, exponents) if precision == "auto" else precision
        block_of = exponents(mean, variance, chosen)
        share = np.zeros(len(group))
        size = max(1, entries // len(group))
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


def _precise_enough(mean: Array, variance: Array, exponents: _Exponents) -> str:
    """float32, unless a trial row misses float64's term log Σ_j exp(−distance) by more than the tolerance."""
    size = min(_TRIAL_ROWS // 8, len(mean))
    starts = np.unique(np.linspace(0, len(mean) - size, 8).astype(np.intp))
    terms = []
    for kind in ("float32", "float64"):
        block_of = exponents(mean, variance, kind)
        for start in starts:
            weight = block_of(start, start + size)
            weight[np.arange(size), np.arange(start, start + size)] = 1.0
            terms.append(np.log(weight.sum(axis=1, dtype=np.float64)))
        del block_of  # two copies of the products' factors are many
    half = len(starts)
    error = np.abs(np.concatenate(terms[:half]) - np.concatenate(terms[half:])).max()
    return "float32" if error <= _TOLERANCE else "float64"


def _check_torch(device: str, precision: str) -> None:
    import torch

    check_choice("precision", precision, ("float64", "float32", "auto"))
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises AssertionError where CUDA was not compiled in
        reject("device", repr(device), f"a device of this torch ({str(error).splitlines()[0]})", 'use device="cpu"')


def _kl_exponents(mean: Array, variance: Array, device: str, precision: str) -> Callable[[int, int], Array]:
    """−KL(p_i‖p_j) = m_iᵀ(m_j/v_j) − ½(v_i+m_i²)ᵀ(1/v_j) + ½Σ log v_i + d/2 − ½Σ(m_j²/v_j + log v_j)."""
    centred = mean - mean.mean(axis=0)  # KL is invariant; centring avoids cancellation
    if _equal(variance):
        return _distance_exponents(centred / np.sqrt(variance[0]), device, precision)
    left = np.hstack([centred, variance + centred**2])
    right = np.hstack([centred / variance, -0.5 / variance])
    row = 0.5 * np.log(variance).sum(axis=1) + 0.5 * mean.shape[1]
    column = -0.5 * (centred**2 / variance + np.log(variance)).sum(axis=1)
    return _product_exponents(left, right, row, column, device, precision)


def _bhattacharyya_exponents(mean: Array, variance: Array, device: str, precision: str) -> Callable[[int, int], Array]:
    """exp −Σ [Δ²/4(v_i+v_j) + ½ log((v_i+v_j)/2√(v_iv_j))]; the logs are taken of products over 8 units."""
    import torch

    if _equal(variance):
        centred = mean - mean.mean(axis=0)
        return _distance_exponents(0.5 * centred / np.sqrt(variance[0]), device, precision)
    kind = getattr(torch, precision)
    # units first, [d, n]: a unit's row is then contiguous
    m, v, s = (torch.from_numpy(a.T.copy()).to(device=device, dtype=kind) for a in (mean, variance, np.sqrt(variance)))

    def block(start: int, stop: int) -> Array:
        distance = torch.zeros((stop - start, m.shape[1]), device=device, dtype=kind)
        product = torch.ones_like(distance)
        for k in range(len(m)):
            total = v[k, start:stop, None] + v[k]
            square = (m[k, start:stop, None] - m[k]).square_()
            distance.addcdiv_(square, total, value=0.25)
            product.mul_(total.div_(2 * s[k, start:stop, None]).div_(s[k]))
            if k % 8 == 7 or k == len(m) - 1:
                distance.add_(product.log_(), alpha=0.5)
                product.fill_(1.0)
        return _numpy(distance.neg_().exp_())

    return block


def _equal(variance: Array) -> bool:
    return bool((variance == variance[0]).all())


def _distance_exponents(white: Array, device: str, precision: str) -> Callable[[int, int], Array]:
    """exp(−½‖a_i − a_j‖²) for points a [n, d]: what both bounds come to where covariances are equal."""
    norm = -0.5 * (white**2).sum(axis=1)
    return _product_exponents(white, white, norm, norm, device, precision)


def _product_exponents(
    left: Array, right: Array, row: Array, column: Array, device: str, precision: str
) -> Callable[[int, int], Array]:
    """exp min(0, left_iᵀright_j + row_i + column_j), a block of rows at a time."""
    import torch

    kind = getattr(torch, precision)
    left_t, right_t, row_t, column_t = (
        torch.from_numpy(a).to(device=device, dtype=kind) for a in (left, right, row, column)
    )

    def block(start: int, stop: int) -> Array:
        exponent = torch.addmm(column_t, left_t[start:stop], right_t.T).add_(row_t[start:stop, None])
        return _numpy(exponent.clamp_(max=0).exp_())

    return block


def _numpy(tensor: Tensor) -> Array:
    array: Array = tensor.cpu().numpy()
    return array
