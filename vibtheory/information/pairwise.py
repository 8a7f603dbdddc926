"""Pairwise mixture bounds (Kolchinsky & Tracey 2017): KL from above, Bhattacharyya from below, with zero patterns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import check_choice, reject, shown
from vibtheory.information.channel import GatedChannel, cancels, check_channel
from vibtheory.information.result import SATURATION_MARGIN, Kind, MutualInformation, sampling_error

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["pairwise", "pairwise_bhattacharyya"]

Array = NDArray[np.float64]
_BLOCK_ENTRIES = 2**24  # 128 MiB of float64: large matrix products
_CACHE_ENTRIES = 2**17  # 1 MiB: elementwise work on a CPU stays near its cache
_KEPT_ENTRIES = 2**26  # 256 MiB of float32: weights that are kept, so that a symmetric pair is computed once
_SMALL_ENTRIES = 2**22  # N²d up to which NumPy is as fast, and loading torch (seconds) is not worth it
_TRIAL_ROWS = 64
_REACH = 40.0  # of logarithms of variances, either way: ratios up to e⁸⁰ are float32s
_TOLERANCE = 1e-4  # nats, of any trial row; the mean over rows is far closer


@np.errstate(under="ignore")
def pairwise(channel: GatedChannel, device: str = "cpu", precision: str = "float64") -> MutualInformation:
    """Upper bound −1/N Σ_i log 1/N Σ_j exp(−KL(p_i ‖ p_j)), p_i = p(h|x_i); pairs with other zero patterns have KL = ∞.

    Direction: upper. Assumes: nothing. Cost: 4N²d operations as matrix products (2N²d with equal covariances).
    Ceiling: log N.

    Args:
        channel: the gated layer's law.
        device: "cpu", "cuda", "cuda:1", ….
        precision: "float64", by differences unit by unit where rows lie so far apart that products would lose 1e-4
            nats. "float32", where the variances fit: half the time; a KL is then wrong by about 1e-7 · Σ_j m_j²/v_j.
            "auto": float32 where its terms of 64 rows, spread over all, agree with float64's to 1e-4 nats, else
            float64.

    Raises:
        InvalidInputError: a device that torch does not have here, or an unknown precision.
    """
    _check(channel, device, precision)

    def exponents(mean: Array, variance: Array, kind: str) -> _Block:
        return _kl_exponents(mean, variance, device, kind)

    return _pairwise(channel, "pairwise", "upper", exponents, _BLOCK_ENTRIES, precision, symmetric=False)


@np.errstate(under="ignore")
def pairwise_bhattacharyya(channel: GatedChannel, device: str = "cpu", precision: str = "float64") -> MutualInformation:
    """Lower bound −1/N Σ_i log 1/N Σ_j ∫√(p_i p_j), in nats.

    Direction: lower. Assumes: nothing. Cost: ~5N²d elementwise operations, no matrix product, and half of them up to
    N = 8,192 (2N²d as a matrix product with equal covariances). Ceiling: log N. `device`, `precision` and errors as in
    `pairwise`; float32 is accurate to about 1e-6 here where covariances differ.
    """
    _check(channel, device, precision)
    entries = _CACHE_ENTRIES if device == "cpu" and channel.sigma.any() else _BLOCK_ENTRIES

    def exponents(mean: Array, variance: Array, kind: str) -> _Block:
        return _bhattacharyya_exponents(mean, variance, device, kind)

    return _pairwise(channel, "pairwise_bhattacharyya", "lower", exponents, entries, precision, symmetric=True)


_Block = Callable[[int, int, int], Array]  # (start, stop, first): rows start … stop − 1, columns from `first` on
_Exponents = Callable[[Array, Array, str], _Block]


def _pairwise(
    channel: GatedChannel, method: str, kind: Kind, exponents: _Exponents, entries: int, precision: str, symmetric: bool
) -> MutualInformation:
    mass, absence = np.ones(channel.n), np.zeros(channel.n)
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
        mass[group], absence[group] = _sums(block_of, len(group), entries, symmetric)
    terms = math.log(channel.n) - np.log(mass)
    return MutualInformation(
        nats=float(terms.mean()),
        kind=kind,
        method=method,
        **sampling_error(terms - absence),
        ceiling=math.log(channel.n),
        saturated_share=float((terms >= math.log(channel.n) - SATURATION_MARGIN).mean()),
        assumes=("x uniform on these rows",),
    )


def _sums(block_of: _Block, n: int, entries: int, symmetric: bool) -> tuple[Array, Array]:
    """Row sums s_i of w_ij = exp(−distance), and −Σ_{i≠j} log(1 − w_ij/s_i), what others lose without row j: [n]."""
    total, absence = np.zeros(n), np.zeros(n)
    half = symmetric and n * n <= _KEPT_ENTRIES
    kept = np.empty((n, n), dtype=np.float32) if half else None
    stop = 0
    while stop < n:
        start, stop = stop, min(stop + max(1, entries // (n - stop if half else n)), n)
        weight = block_of(start, stop, start if half else 0)  # [B, n], or from column `start` on
        own = np.arange(stop - start)
        weight[own, own if half else own + start] = 1.0  # distance to oneself is exactly 0
        total[start:stop] += weight.sum(axis=1, dtype=np.float64)
        if kept is None:
            absence += _lost(weight, total[start:stop], start)
        else:
            total[stop:] += weight[:, stop - start :].sum(axis=0, dtype=np.float64)
            kept[start:stop, start:] = weight
            kept[stop:, start:stop] = weight[:, stop - start :].T
    if kept is not None:
        size = max(1, entries // n)
        for start in range(0, n, size):
            absence += _lost(kept[start : start + size], total[start : start + size], start)
    return total, absence


def _lost(weight: NDArray[np.floating[Any]], total: Array, start: int) -> Array:
    """−Σ_i log(1 − w_ij/s_i) over a block of rows i ≠ j, the first being row `start`: [n]. Overwrites `weight`."""
    weight /= -total[:, None].astype(weight.dtype)
    weight[np.arange(len(weight)), np.arange(start, start + len(weight))] = 0.0
    lost: Array = -np.log1p(weight, out=weight).sum(axis=0, dtype=np.float64)
    return lost


def _precise_enough(mean: Array, variance: Array, exponents: _Exponents) -> str:
    """float32, unless a trial row misses float64's term log Σ_j exp(−distance) by more than the tolerance."""
    size = min(_TRIAL_ROWS // 8, len(mean))
    starts = np.unique(np.linspace(0, len(mean) - size, 8).astype(np.intp))
    terms = []
    for kind in ("float32", "float64"):
        block_of = exponents(mean, variance, kind)
        for start in starts:
            weight = block_of(start, start + size, 0)
            weight[np.arange(size), np.arange(start, start + size)] = 1.0
            terms.append(np.log(weight.sum(axis=1, dtype=np.float64)))
        del block_of  # two copies of the products' factors are many
    half = len(starts)
    error = np.abs(np.concatenate(terms[:half]) - np.concatenate(terms[half:])).max()
    return "float32" if error <= _TOLERANCE else "float64"


def _check(channel: GatedChannel, device: str, precision: str) -> None:
    check_channel(channel)
    check_choice("precision", precision, ("float64", "float32", "auto"))
    if isinstance(device, str) and device == "cpu":
        return  # and torch is not loaded before it is of use
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:  # AssertionError: a torch without CUDA
        reject("device", shown(device), f"a device of this torch ({str(error).splitlines()[0]})", 'use device="cpu"')


def _kl_exponents(mean: Array, variance: Array, device: str, precision: str) -> _Block:
    """−KL(p_i‖p_j) = m_iᵀ(m_j/v_j) − ½(v_i+m_i²)ᵀ(1/v_j) + ½Σ log v_i + d/2 − ½Σ(m_j²/v_j + log v_j)."""
    centred = mean - mean.mean(axis=0)  # KL is invariant; centring avoids cancellation
    if cancels(centred**2 / variance):
        return _kl_by_differences(mean, variance)
    if _equal(variance):
        return _distance_exponents(centred / np.sqrt(variance[0]), device, precision)
    centred, variance, reach = _scaled(centred, variance)
    precision = _holding(reach, precision)
    left = np.hstack([centred, variance + centred**2])
    right = np.hstack([centred / variance, -0.5 / variance])
    row = 0.5 * np.log(variance).sum(axis=1) + 0.5 * mean.shape[1]
    column = -0.5 * (centred**2 / variance + np.log(variance)).sum(axis=1)
    return _product_exponents(left, right, row, column, device, precision)


def _kl_by_differences(mean: Array, variance: Array) -> _Block:
    """−KL unit by unit, slower: for rows so far apart that differences of products say nothing of near ones."""

    def block(start: int, stop: int, first: int) -> Array:
        exponent = np.zeros((stop - start, len(mean) - first))
        for m, v in zip(mean.T, variance.T, strict=True):
            ratio = v[start:stop, None] / v[first:]
            exponent -= 0.5 * ((m[start:stop, None] - m[first:]) ** 2 / v[first:] + ratio - 1 - np.log(ratio))
        return np.exp(np.minimum(exponent, 0))

    return block


def _bhattacharyya_exponents(mean: Array, variance: Array, device: str, precision: str) -> _Block:
    """exp −Σ [Δ²/4(v_i+v_j) + ½ log((v_i+v_j)/2√(v_iv_j))]; the logs are taken of products over units."""
    if _equal(variance):
        centred = mean - mean.mean(axis=0)
        if cancels(centred**2 / variance):
            return _kl_by_differences(0.5 * mean, variance)
        return _distance_exponents(0.5 * centred / np.sqrt(variance[0]), device, precision)
    import torch

    # m halved, so that Δ²/(v_i+v_j) needs no factor, and v, so that v_i+v_j is about 1
    mean, variance, reach = _scaled(mean, variance)
    precision = _holding(reach, precision)
    kind = getattr(torch, precision)
    # units first, [d, n]: a unit's row is then contiguous
    m, v = (
        torch.from_numpy(np.ascontiguousarray(a.T)).to(device=device, dtype=kind)
        for a in (math.sqrt(0.125) * mean, 0.5 * variance)
    )
    # a logarithm costs ten products: one where the next factor could leave the range of the precision
    log_now = np.diff(np.cumsum(reach) // (600 if precision == "float64" else 60), append=-1) != 0
    own = torch.from_numpy(0.25 * np.log(variance).sum(axis=1)).to(device=device, dtype=kind)

    def block(start: int, stop: int, first: int) -> Array:
        exponent = own[start:stop, None] + own[first:]
        product = torch.ones_like(exponent)
        total, gap = torch.empty_like(exponent), torch.empty_like(exponent)
        for k in range(len(m)):
            torch.add(v[k, start:stop, None], v[k, first:], out=total)
            torch.sub(m[k, start:stop, None], m[k, first:], out=gap)
            product.mul_(total)
            exponent.addcdiv_(gap.square_(), total, value=-1)
            if log_now[k]:
                exponent.add_(product.log_(), alpha=-0.5)
                product.fill_(1.0)
        return _numpy(exponent.exp_())

    return block


def _scaled(mean: Array, variance: Array) -> tuple[Array, Array, Array]:
    """Both with each unit in a scale in which its variances are about 1, and how far their logarithms reach, [d]."""
    unit = np.exp(np.log(variance).mean(axis=0))
    variance = variance / unit
    return mean / np.sqrt(unit), variance, np.abs(np.log(variance)).max(axis=0)


def _holding(reach: Array, precision: str) -> str:
    """float64 where a unit's variances, or their ratios, would leave `precision`, float32."""
    return "float64" if reach.max(initial=0.0) > _REACH else precision


def _equal(variance: Array) -> bool:
    return bool((variance == variance[0]).all())


def _distance_exponents(white: Array, device: str, precision: str) -> _Block:
    """exp(−½‖a_i − a_j‖²) for points a [n, d]: what both bounds come to where covariances are equal."""
    norm = -0.5 * (white**2).sum(axis=1)
    return _product_exponents(white, white, norm, norm, device, precision)


def _product_exponents(left: Array, right: Array, row: Array, column: Array, device: str, precision: str) -> _Block:
    """exp min(0, left_iᵀright_j + row_i + column_j), a block of rows at a time."""
    if device == "cpu" and left.size * len(left) <= _SMALL_ENTRIES:
        left, right, row, column = (a.astype(precision) for a in (left, right, row, column))

        def small(start: int, stop: int, first: int) -> Array:
            exponent = left[start:stop] @ right[first:].T + row[start:stop, None] + column[first:]
            return np.exp(np.minimum(exponent, 0))

        return small
    import torch

    kind = getattr(torch, precision)
    left_t, right_t, row_t, column_t = (
        torch.from_numpy(a).to(device=device, dtype=kind) for a in (left, right, row, column)
    )

    def block(start: int, stop: int, first: int) -> Array:
        exponent = torch.addmm(column_t[first:], left_t[start:stop], right_t[first:].T).add_(row_t[start:stop, None])
        return _numpy(exponent.clamp_(max=0).exp_())

    return block


def _numpy(tensor: Tensor) -> Array:
    array: Array = tensor.cpu().numpy()
    return array
