"""Σ_j I(h_j; x) by one-dimensional quadrature: the information of each unit alone, in nats (docs/theory.md F (v))."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vibtheory.information.channel import GatedChannel, check_channel
from vibtheory.information.result import MutualInformation, sampling_error

__all__ = ["per_unit", "unit_information"]

Array = NDArray[np.float64]

_REACH = 9.0  # standard deviations; what lies outside is below 1e-18
_STEP = 0.1  # in (nearly) standard deviations; errors stay below 1e-9, see the tests
_BLOCK_ENTRIES = 2**17  # 1 MiB of float64: stays in the cache


@np.errstate(under="ignore")
def per_unit(channel: GatedChannel) -> MutualInformation:
    """Σ_j I(h_j; x) by quadrature, to 1e-8 a unit (1e-2 where noise is 1e-13 of its mean): an upper bound on I(h; x).

    Units are independent given x, so I(h; x) = Σ_j I(h_j; x) − (total correlation of h) ≤ Σ_j I(h_j; x).

    Direction: upper. Assumes: nothing upstream is noisy (true of every `GatedChannel`). Cost: about 500 Nd density
    evaluations. Ceiling: none; each term is at most log N, and a single unit at log N is flagged.

    Raises:
        InvalidInputError: noise below 1e-13 of a unit's mean.
    """
    check_channel(channel)
    rows = _divergences(channel)  # [N, d]
    units = rows.mean(axis=0)
    return MutualInformation(
        nats=float(units.sum()),
        kind="upper",
        method="per_unit",
        **sampling_error(rows.sum(axis=1)),
        ceiling=math.log(channel.n) if channel.d <= 1 else math.inf,
        assumes=("units independent given x",),
        parts={"largest unit": float(units.max(initial=0.0))},
    )


@np.errstate(under="ignore")
def unit_information(channel: GatedChannel) -> Array:
    """I(h_j; x) of each open gate in nats, [d]. Errors and accuracy as of `per_unit`."""
    check_channel(channel)
    units: Array = _divergences(channel).mean(axis=0)
    return units


def _divergences(channel: GatedChannel) -> Array:
    """KL(p(h_j|x_n) ‖ p(h_j)) in nats, [N, d]; its mean over rows is I(h_j; x)."""
    channel.check_resolved()
    active, mean, scale = channel.active, channel.mean, np.sqrt(channel.variance)
    result = np.zeros((channel.n, channel.d))
    for j in range(channel.d):
        on = active[:, j]
        share = on.mean()
        with np.errstate(divide="ignore"):
            result[~on, j] = -np.log1p(-share)  # an atom at 0 says "one of those rows", no more
        if on.any():
            gate = abs(channel.sigma[j] / channel.mu[j]) if channel.mu[j] != 0 else math.inf
            result[on, j] = _mixture_divergence(mean[on, j], scale[on, j], gate) - math.log(share)
    return result


def _mixture_divergence(centre: Array, scale: Array, slope: float) -> Array:
    """KL(N_n ‖ mixture of all N_n), [n], by the trapezoid rule under h = (a/b) sinh(bt).

    A unit's standard deviations follow √(τ² + (m/√α)²), so with a their smallest and b = 1/√α ≤ 1 a step in t is a
    fraction of a standard deviation everywhere. Each component is evaluated on its own window of ±9 of them.
    """
    a, b = float(scale.min()), min(max(slope, 1e-16), 1.0)

    def to_t(h: Array) -> Array:
        t: Array = np.arcsinh(h * (b / a)) / b
        return t

    first = np.floor(to_t(centre - _REACH * scale) / _STEP).astype(np.int64)
    last = np.ceil(to_t(centre + _REACH * scale) / _STEP).astype(np.int64)
    start, number = _nodes(first, last)
    t = _STEP * number
    h = (a / b) * np.sinh(b * t)  # [Q]
    measure = _STEP * a * np.cosh(b * t)
    width = int((last - first).max()) + 1
    density = np.zeros(len(t))
    log_scale = np.log(scale)
    size = max(1, _BLOCK_ENTRIES // width)
    blocks = [slice(i, i + size) for i in range(0, len(centre), size)]

    def component(block: slice) -> tuple[NDArray[np.int64], Array]:
        """Nodes [B, width] and the probability that each component has there, density × measure."""
        node = np.minimum(start[block, None] + np.arange(width), len(t) - 1)
        inside = node <= (start[block] + (last - first)[block])[:, None]
        inside[:, 1:] &= node[:, 1:] > node[:, :-1]  # nodes past the end were folded onto the last one
        exponent = -0.5 * ((h[node] - centre[block, None]) / scale[block, None]) ** 2 - log_scale[block, None]
        return node, np.where(inside, np.exp(exponent) * measure[node], 0.0) / math.sqrt(2 * math.pi)

    for block in blocks:
        node, mass = component(block)
        density += np.bincount(node.ravel(), weights=mass.ravel(), minlength=len(t))
    density /= len(centre) * measure
    surprise = -np.log(np.where(density > 0, density, 1.0))
    divergence = np.empty(len(centre))
    for block in blocks:
        node, mass = component(block)
        divergence[block] = (mass * surprise[node]).sum(axis=1)
    divergence -= 0.5 * math.log(2 * math.pi * math.e) + log_scale  # minus the component's own entropy
    return divergence


def _nodes(first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each window first … last starts among all nodes that some window holds, [n], and those nodes' numbers."""
    order = np.argsort(first, kind="stable")
    begin, reach = first[order], np.maximum.accumulate(last[order])
    new = np.append(True, begin[1:] > reach[:-1])  # a gap before this window: no nodes there
    end = reach[np.append(np.flatnonzero(new)[1:] - 1, len(order) - 1)]
    length = end - begin[new] + 1
    shift = begin[new] - (np.cumsum(length) - length)  # number − place
    start = np.empty_like(first)
    start[order] = begin - shift[np.cumsum(new) - 1]
    return start, np.arange(int(length.sum())) + np.repeat(shift, length)
