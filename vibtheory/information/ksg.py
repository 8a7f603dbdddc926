"""The nearest-neighbour estimator of Kraskov, Stögbauer & Grassberger (2004), algorithm 1, in nats: for teaching."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma

from vibtheory.errors import as_array, as_generator, reject
from vibtheory.information.channel import GatedChannel
from vibtheory.information.result import MutualInformation

__all__ = ["ksg", "ksg_samples"]

Array = NDArray[np.float64]


def ksg(channel: GatedChannel, k: int = 3, seed: int | np.random.Generator = 0) -> MutualInformation:
    """KSG on (f(x), h) with a draw of h per row (by `seed`); I(h; x) = I(h; f), as h depends on x through f only.

    Direction: none. Assumes: densities (τ > 0, or no zeros), rows drawn independently, few units: its bias grows with
    d and with I. Cost: about N log N for few units, N² for many. Ceiling: ψ(N) − ψ(k+1), about log N − log k.

    Raises:
        InvalidInputError: k < 1, or fewer than k + 1 rows.
    """
    return ksg_samples(channel.f, channel.sample(as_generator("seed", seed, "ksg")), k)


def ksg_samples(x: ArrayLike, y: ArrayLike, k: int = 3) -> MutualInformation:
    """I(X; Y) ≈ ψ(k) + ψ(N) − ⟨ψ(n_x+1) + ψ(n_y+1)⟩ from N joint samples, maximum norm (Kraskov et al. 2004, eq. 8).

    Args:
        x: [N, p]. y: [N, q]. Each in any unit; rescaling one of them changes the estimate (not the truth).
        k: number of neighbours, ≥ 1.

    Returns:
        The estimate without clipping: it may be a little below 0. No standard error is claimed: neighbours' terms
        are dependent, and the bias dominates.

    Raises:
        InvalidInputError: k < 1, k ≥ N, or different numbers of rows.
    """
    first, second = as_array("x", x, (None, None)), as_array("y", y, (None, None))
    n = len(first)
    if len(second) != n:
        reject("y", f"{len(second)} rows", f"{n} rows, one per row of x", "pass paired samples")
    if not 1 <= k < n:
        reject("k", k, f"an integer between 1 and {n - 1}", "use k = 3, or more rows")
    ceiling = float(digamma(n) - digamma(k + 1))
    assumes = ("rows drawn independently, from a law with a density",)
    if first.shape[1] == 0 or second.shape[1] == 0:
        return MutualInformation(0.0, "estimate", "ksg", ceiling=ceiling, assumes=("a constant carries nothing",))
    joint = np.hstack([first, second])
    distance, _ = cKDTree(joint).query(joint, [k + 1], p=np.inf)  # the nearest point is the point itself
    strict = np.nextafter(
        np.asarray(distance).reshape(n), 0
    )  # eq. 8 counts points strictly inside the distance to the k-th neighbour
    total = np.zeros(n)
    for points in (first, second):
        inside = cKDTree(points).query_ball_point(points, strict, p=np.inf, return_length=True)  # n_x + 1
        total += digamma(inside)
    value = float(digamma(k) + digamma(n) - total.mean())
    return MutualInformation(value, "estimate", "ksg", stderr=math.nan, ceiling=ceiling, assumes=assumes)
