"""Binning, the estimator of the first information planes (Shwartz-Ziv & Tishby 2017), in nats: for teaching."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, ndtr

from vibtheory.errors import as_generator, as_whole
from vibtheory.information.channel import GatedChannel, check_channel
from vibtheory.information.result import SATURATION_MARGIN, MutualInformation

__all__ = ["binning"]

Array = NDArray[np.float64]
_BLOCK_ENTRIES = 2**22
_UNSEEN = 0.05  # share of draws alone in their joint bin


def binning(channel: GatedChannel, bins: int = 30, seed: int | np.random.Generator = 0) -> MutualInformation:
    """H(binned h) − H(binned h | x): each unit cut into equal bins over the range of one draw per row.

    The first entropy is that of the observed joint bins (plug-in), so it cannot exceed log N and is there already for
    a handful of units; the second is exact, from the Gaussian law of each unit. Zeros (τ = 0) have a bin of their own.
    Where over 5 % of the draws are alone in their joint bin, as much of h's law has not been seen at all (Good 1953):
    the first entropy is then too small by an unknown amount, the difference can be far below 0, and the result is NaN
    with a warning; its `parts` hold both entropies.

    Direction: none (binning loses information, and the plug-in entropy is too small). Assumes: rows drawn
    independently, and many rows per joint bin. Cost: N d · bins. Ceiling: log N − H(binned h | x).

    Args:
        channel: the gated layer's law.
        bins: per unit, ≥ 2; the outermost two are open.
        seed: for the draw of h.

    Raises:
        InvalidInputError: bins no integer >= 2, or no seed.
    """
    check_channel(channel)
    bins = as_whole("bins", bins, 2)
    h, active = channel.sample(as_generator("seed", seed, "binning")), channel.active
    label = np.empty(h.shape, dtype=np.int64)
    conditional = 0.0
    mean, scale = channel.mean, np.sqrt(channel.variance)
    for j in range(channel.d):
        on = active[:, j]
        edges = np.linspace(h[:, j].min(), h[:, j].max(), bins + 1)[1:-1]  # inner edges
        label[:, j] = np.where(on, np.searchsorted(edges, h[:, j], side="right"), -1)
        size = max(1, _BLOCK_ENTRIES // bins)
        centre, deviation = mean[on, j], scale[on, j]
        for start in range(0, len(centre), size):
            part = slice(start, start + size)
            below = ndtr((edges - centre[part, None]) / deviation[part, None])  # [B, bins − 1]
            share = np.diff(below, axis=1, prepend=0.0, append=1.0)
            conditional += float(entr(np.maximum(share, 0)).sum()) / channel.n
    joint = alone = 0.0
    if channel.d:
        count = np.unique(label, axis=0, return_counts=True)[1]
        joint, alone = float(entr(count / channel.n).sum()), float((count == 1).sum()) / channel.n
    full = joint >= math.log(channel.n) - SATURATION_MARGIN
    unseen = (
        f"{100 * alone:.0f} % of {channel.n} draws of {channel.d} units are alone in their joint bin: their entropy "
        "is not that of the layer. Remedy: fewer units, fewer bins, more rows, or another method"
    )
    return MutualInformation(
        nats=math.nan if alone > _UNSEEN else joint - conditional,
        kind="estimate",
        method="binning",
        ceiling=math.log(channel.n),
        assumes=(f"{bins} bins a unit, many rows per joint bin",),
        parts={"entropy of the bins": joint, "given x": conditional},
        saturated_part="entropy of the bins" if full else "",
        warnings=(unseen,) if alone > _UNSEEN else (),
    )
