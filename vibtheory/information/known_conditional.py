"""Sample bounds with a known conditional p(h|x): InfoNCE from below, leave-one-out from above (Poole et al. 2019).

In nats; `seed`, or a generator, decides the draws of h.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import as_generator, reject
from vibtheory.information.channel import GatedChannel
from vibtheory.information.result import MutualInformation, standard_error

__all__ = ["infonce", "leave_one_out"]

Array = NDArray[np.float64]
_BLOCK_ENTRIES = 2**23  # 64 MiB of float64 per block of log densities


def infonce(channel: GatedChannel, seed: int | np.random.Generator = 0) -> MutualInformation:
    """Lower bound E log p(h|x) − log(1/N Σ_n p(h|x_n)), a draw of h per row by `seed` (Poole et al. 2019, eq. 12).

    Direction: lower, in expectation, for the population behind the rows; for x uniform on the rows themselves its
    expectation is I(h; x) exactly. Assumes: rows drawn independently. Cost: 4N²d operations. Ceiling: log N.
    """
    own, total, influence = _ratios(channel, seed, leave_out=False)
    terms = own - total + math.log(channel.n)
    return MutualInformation(
        nats=float(terms.mean()),
        kind="lower",
        method="infonce",
        stderr=standard_error(terms - influence),
        ceiling=math.log(channel.n),
        assumes=(
            "rows drawn independently: a lower bound, in expectation, on the population's I",
            "unbiased for x uniform on these rows",
        ),
    )


def leave_one_out(channel: GatedChannel, seed: int | np.random.Generator = 0) -> MutualInformation:
    """Upper bound E log p(h|x) − log(1/(N−1) Σ_{n≠i} p(h|x_n)), h drawn by `seed` (Poole et al. 2019, eq. 13).

    Direction: upper, in expectation, for the rows and for the population. Assumes: rows drawn independently. Cost:
    4N²d operations. Ceiling: log N in use; itself unbounded, +inf as soon as one zero pattern is unique (P3).

    Raises:
        InvalidInputError: fewer than two rows.
    """
    if channel.n < 2:
        reject("channel", f"{channel.n} row", "at least two rows", "leaving one out must leave one in")
    own, total, influence = _ratios(channel, seed, leave_out=True)
    terms = own - total + math.log(channel.n - 1)
    unique = int((np.bincount(channel.pattern) == 1).sum()) if channel.tau == 0 else 0
    return MutualInformation(
        nats=float(terms.mean()),
        kind="upper",
        method="leave_one_out",
        stderr=standard_error(terms - influence) if np.isfinite(terms).all() else math.nan,
        ceiling=math.log(channel.n),
        assumes=("rows drawn independently; upper in expectation", f"{unique} of {channel.n} zero patterns are unique"),
    )


def _ratios(channel: GatedChannel, seed: int | np.random.Generator, leave_out: bool) -> tuple[Array, Array, Array]:
    """Own log density [N], log of the others' summed density [N], and each row's part in the others' sums [N].

    The third is Σ_i p(h_i|x_k)/Σ_n p(h_i|x_n): a row enters the statistic through its own term and through every
    denominator, and the standard error needs both.
    """
    h = channel.sample(as_generator("seed", seed, "leave_one_out" if leave_out else "infonce"))
    size = max(1, _BLOCK_ENTRIES // channel.n)
    own, total, influence = np.empty(channel.n), np.empty(channel.n), np.zeros(channel.n)
    for start in range(0, channel.n, size):
        stop = min(start + size, channel.n)
        density = channel.log_density(h[start:stop], channel.pattern[start:stop])  # [B, N]
        block = np.arange(stop - start)
        own[start:stop] = density[block, np.arange(start, stop)]
        if leave_out:
            density[block, np.arange(start, stop)] = -np.inf
        top = density.max(axis=1)
        alone = np.isneginf(top)  # a unique zero pattern: nobody else could have made this h
        np.exp(density - np.where(alone, 0.0, top)[:, None], out=density)
        mass = density.sum(axis=1)
        total[start:stop] = np.where(alone, -np.inf, top + np.log(np.where(alone, 1.0, mass)))
        influence += (~alone / np.where(alone, 1.0, mass)) @ density
    return own, total, influence
