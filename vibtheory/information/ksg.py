"""Nearest neighbours: Kraskov, Stögbauer & Grassberger (2004) with ties as in Gao et al. (2017), in nats; to teach."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma

from vibtheory.errors import as_array, as_generator, as_positive, as_whole, reject
from vibtheory.information.channel import GatedChannel, check_channel
from vibtheory.information.result import MutualInformation

__all__ = ["in_range", "ksg", "ksg_samples", "spread"]

Array = NDArray[np.float64]
_HEAVY = 0.03  # kurtosis/N: 200 repeats of t with 3 degrees covered .90 instead of .95


def ksg(
    channel: GatedChannel,
    k: int = 3,
    seed: int | np.random.Generator = 0,
    alpha: float | None = None,
    halves: int = 30,
) -> MutualInformation:
    """KSG on (f(x), h) with a draw of h per row (by `seed`); I(h; x) = I(h; f), as h depends on x through f only.

    Direction: none. Assumes: rows drawn independently, few units, gates of the order of 1 (f and h in comparable
    units, or too little is found): its bias grows with d and with I; zeros of a ReLU and other ties are seen to. Cost:
    about N log N for few units, N² for many. Ceiling: ψ(N) − ψ(k+1), about log N − log k.

    Args:
        channel: the gated layer's law. k, alpha, halves: as in `ksg_samples`. seed: of the draw.

    Raises:
        InvalidInputError: as `ksg_samples`, or no seed.
    """
    check_channel(channel)
    return ksg_samples(channel.f, channel.sample(as_generator("seed", seed, "ksg")), k, alpha, halves)


def ksg_samples(
    x: ArrayLike, y: ArrayLike, k: int = 3, alpha: float | None = None, halves: int = 30
) -> MutualInformation:
    """I(X; Y) ≈ ψ(N) + ⟨ψ(k_i) − ψ(n_x) − ψ(n_y)⟩ from N joint samples, maximum norm (Gao et al. 2017).

    n_x, n_y: samples strictly closer in x, in y than the k-th neighbour, oneself included; k_i = k. That is Kraskov et
    al. (2004), eq. 8, where the law has a density. Where the k-th neighbour is a copy, all three count the copies: the
    law may have atoms, in x, in y or in both.

    Args:
        x: [N, p]. y: [N, q]. Each in any unit; rescaling one of them changes the estimate (not the truth).
        k: number of neighbours, ≥ 1.
        alpha: in (0, 1): add the local non-uniformity correction (Gao, Ver Steeg & Galstyan 2015) wherever the
            neighbours' box along their principal axes is smaller than alpha times that along the coordinates, as where
            one variable is nearly a function of the other; needs k > p + q. None: without.
        halves: random halves of the rows, from whose spread the standard error comes; below 2: none, NaN.

    Returns:
        The estimate without clipping: it may be a little below 0. The standard error (NaN below
        2k + 4 rows) does not contain the bias, which dominates for many units; a warning says where it may be too
        small: under heavy tails (a coordinate's kurtosis above 0.03 N).

    Raises:
        InvalidInputError: k no integer from 1 to N − 1, different numbers of rows, alpha out of range or k too small.
    """
    first, second = as_array("x", x, (None, None)), as_array("y", y, (None, None))
    n = len(first)
    if len(second) != n:
        reject("y", f"{len(second)} rows", f"{n} rows, one per row of x", "pass paired samples")
    k, halves = as_whole("k", k, 1, n - 1, "use k = 3, or more rows"), as_whole("halves", halves, 0)
    if alpha is not None:
        alpha = float(as_positive("alpha", alpha, ()))
        if alpha >= 1:
            reject("alpha", alpha, "a number between 0 and 1", "use 0.25, or None for no correction")
        if k <= first.shape[1] + second.shape[1]:
            reject("k", k, f"more than the {first.shape[1] + second.shape[1]} coordinates, for alpha", "raise k")
    if first.shape[1] == 0 or second.shape[1] == 0:
        return MutualInformation(0.0, "estimate", "ksg", assumes=("a constant carries nothing",))
    terms, tied, correction = _terms(first, second, k, alpha)
    share = float(tied.mean())
    heavy = max(_kurtosis(first), _kurtosis(second)) > _HEAVY * n
    warning = "heavy tails: the standard error may be too small. Remedy: a monotone map of each coordinate"
    return MutualInformation(
        nats=float(terms.mean()),
        kind="estimate",
        method="ksg",
        stderr=_standard_error(first, second, k, alpha, halves),
        ceiling=math.inf if share or alpha is not None else float(digamma(n) - digamma(k + 1)),
        assumes=("rows drawn independently", f"{100 * share:.3g} % of them have copies" if share else "no ties"),
        parts={} if alpha is None else {"non-uniformity": float(correction.mean())},
        warnings=(warning,) if heavy else (),
    )


def in_range(points: Array, axis: int | None) -> Array:
    """points [N, p] in a unit of a power of 2, exactly, so that squares neither over- nor underflow.

    Args:
        points: [N, p]. axis: 0: each column in a unit of its own; None: all in one.
    """
    scaled: Array = np.ldexp(points, -np.frexp(np.abs(points).max(axis=axis))[1])
    return scaled


def spread(points: Array) -> Array:
    """The standard deviation [p] of points [N, p] along axis 0; 1 of what is constant."""
    deviation = points.std(axis=0)
    return np.asarray(np.where(deviation > 0, deviation, 1.0))


def _kurtosis(points: Array) -> float:
    """The largest over coordinates of E c⁴/(E c²)², c centred; 0 for constants."""
    points = in_range(points, 0)
    square = (points - points.mean(axis=0)) ** 2
    spread = np.maximum(square.mean(axis=0), np.finfo(np.float64).tiny)
    return float(((square / spread) ** 2).mean(axis=0).max())


def _terms(first: Array, second: Array, k: int, alpha: float | None) -> tuple[Array, NDArray[np.bool_], Array]:
    """Each row's term, whether its k-th neighbour is a copy, and what the term has of the correction: [N] each."""
    joint, n = np.hstack([first, second]), len(first)
    tree = cKDTree(joint)
    distance, near = tree.query(joint, np.arange(1, k + 2), p=np.inf)  # the nearest point is the point itself
    radius = np.asarray(distance)[:, -1]
    tied = radius == 0
    inside = np.nextafter(radius, 0)  # strictly inside; of ties, all copies
    neighbours = np.full(n, k)
    if tied.any():
        neighbours[tied] = tree.query_ball_point(joint[tied], 0.0, p=np.inf, return_length=True)
    terms = digamma(neighbours) + digamma(n)
    for points in (first, second):
        terms -= digamma(cKDTree(points).query_ball_point(points, inside, p=np.inf, return_length=True))
    correction = np.zeros(n)
    if alpha is not None:
        correction = _non_uniformity(joint[np.asarray(near)[:, 1:]] - joint[:, None], alpha)
    return terms + correction, tied, correction


def _standard_error(first: Array, second: Array, k: int, alpha: float | None, halves: int) -> float:
    """Spread over random halves of the rows, which is that of new rows (Politis & Romano 1994); NaN for few rows."""
    n = len(first)
    half = n // 2
    if half < k + 2 or halves < 2:
        return math.nan
    generator = as_generator("seed", 0, "halves of the rows")
    chosen = [generator.permutation(n)[:half] for _ in range(halves)]
    values = [_terms(first[rows], second[rows], k, alpha)[0].mean() for rows in chosen]
    return float(np.std(values, ddof=1) * math.sqrt(half / (n - half)))


def _non_uniformity(offset: Array, alpha: float) -> Array:
    """log of the neighbours' box along the coordinates over that along their principal axes, [N]; else 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        straight = np.log(np.abs(offset).max(axis=1)).sum(axis=1)
        axes = np.linalg.eigh(offset.swapaxes(1, 2) @ offset)[1]
        turned = np.log(np.abs(offset @ axes).max(axis=1)).sum(axis=1)
        gain = straight - turned
        return np.where(np.isfinite(gain) & (gain > -math.log(alpha)), gain, 0.0)
