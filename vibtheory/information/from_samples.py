"""`from_samples(x, y, method=…)`: I(x; y) from joint samples alone, by name, in nats; sliced and max-sliced too.

Where the law of one given the other is known, as of a gated layer given its input, `estimate` says more.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_generator, check_choice, reject, shown
from vibtheory.information.critics import BOUNDS, critic_bound, entropy_difference
from vibtheory.information.ksg import in_range, ksg_samples, spread
from vibtheory.information.result import MutualInformation

__all__ = ["SAMPLE_METHODS", "from_samples"]

Array = NDArray[np.float64]

SAMPLE_METHODS = (*BOUNDS, "entropy_difference", "ksg", "sliced", "max_sliced")
"""What `from_samples` knows."""


def from_samples(
    x: ArrayLike,
    y: ArrayLike,
    method: str = "infonce",
    *,
    seed: int | np.random.Generator = 0,
    steps: int = 600,
    slices: int = 64,
) -> MutualInformation:
    """I(x; y) from N independent joint samples, in nats, with its direction and standard error.

    | method | what | direction |
    |---|---|---|
    | nwj | Nguyen, Wainwright & Jordan (2010), a critic on held-out rows | lower, in expectation |
    | infonce | van den Oord, Li & Vinyals (2018), likewise; at most log N/4 | lower, in expectation |
    | mine | Donsker & Varadhan's bound (Belghazi et al. 2018), likewise | estimate |
    | smile | the same with a clipped ratio (Song & Ermon 2020) | estimate |
    | entropy_difference | two trained densities (McAllester & Stratos 2020) | estimate |
    | ksg | nearest neighbours (`ksg.ksg_samples`), k = 3, each column over its standard deviation | estimate |
    | sliced | mean of ksg over random projections (Goldfeld & Greenewald 2021) | estimate of a part of I |
    | max_sliced | the best pair of projections found on half the rows, ksg on the rest (Tsur et al. 2023) | the same |

    Args:
        x: [N, p]. y: [N, q]; one-dimensional arrays are one column.
        method: one of `SAMPLE_METHODS`.
        seed: of the split, the weights, the batches and the projections.
        steps: of training, at most (the networks' methods).
        slices: number of projections (sliced), of candidates (max_sliced).

    Raises:
        InvalidInputError: an unknown method, fewer than 32 rows (128 where networks are trained), different numbers of
            rows, no columns, counts < 1.
    """
    check_choice("method", method, SAMPLE_METHODS)
    least = 128 if method in (*BOUNDS, "entropy_difference") else 32
    first, second = _columns("x", x, least), _columns("y", y, least)
    if len(second) != len(first):
        reject("y", f"{len(second)} rows", f"{len(first)} rows, one per row of x", "pass paired samples")
    for name, count in (("steps", steps), ("slices", slices)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            reject(name, shown(count), "an integer >= 1", "use the default")
    rng = as_generator("seed", seed, f"from_samples: {method}")
    if method in BOUNDS:
        return critic_bound(first, second, method, rng, steps)
    if method == "entropy_difference":
        return entropy_difference(first, second, rng, steps)
    if method == "ksg":
        first, second = (points / spread(points) for points in (in_range(first, 0), in_range(second, 0)))
        return ksg_samples(first, second)
    return (_sliced if method == "sliced" else _max_sliced)(first, second, rng, slices)


def _columns(name: str, value: ArrayLike, least: int) -> Array:
    array = as_array(name, value)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) < least or array.shape[1] == 0:
        reject(name, f"shape {list(array.shape)}", f"[N, columns] with N >= {least}", "pass one row per sample")
    return array


def _sliced(x: Array, y: Array, rng: np.random.Generator, slices: int) -> MutualInformation:
    found = []
    x, y = in_range(x, None), in_range(y, None)
    for _ in range(slices):
        a, b = _direction(x.shape[1], rng), _direction(y.shape[1], rng)
        found.append(_projected(x, y, a, b, halves=4))  # few: the mean over slices is used
    nats = np.array([result.nats for result in found])
    # of the draw of projections, and of the rows, on which the projections' errors depend together
    drawn = float(nats.std(ddof=1)) / math.sqrt(slices) if slices > 1 else math.nan
    error = math.hypot(drawn, float(np.mean([result.stderr for result in found])))
    return MutualInformation(
        float(nats.mean()), "estimate", "sliced", error, found[0].ceiling,
        ("the mean of I over random projections, itself at most I(x; y)", "projections in the units of x and y"),
    )  # fmt: skip


def _max_sliced(x: Array, y: Array, rng: np.random.Generator, slices: int) -> MutualInformation:
    x, y = in_range(x, 0), in_range(y, 0)
    order = rng.permutation(len(x))
    half, rest = order[: len(x) // 2], order[len(x) // 2 :]
    x, y = ((points - points[half].mean(axis=0)) / spread(points[half]) for points in (x, y))
    # the canonical pairs see linear dependence, coordinates and random pairs the rest; the best one is refined
    (left, back), (right, forth) = _whitened(x[half]), _whitened(y[half])
    u, _, v = np.linalg.svd(left.T @ right)
    candidates = [(back @ u[:, i], forth @ v[i]) for i in range(min(3, len(v), u.shape[1]))]
    candidates += [(a, b) for a in np.eye(x.shape[1])[:4] for b in np.eye(y.shape[1])[:4]]
    candidates += [(_direction(x.shape[1], rng), _direction(y.shape[1], rng)) for _ in range(slices)]
    scores = [_projected(x[half], y[half], a, b).nats for a, b in candidates]
    best = int(np.argmax(scores))
    (a, b), score = candidates[best], scores[best]
    for round_ in range(slices):
        reach = 0.5 * 0.95**round_
        c = a / np.linalg.norm(a) + reach * _direction(x.shape[1], rng)
        d = b / np.linalg.norm(b) + reach * _direction(y.shape[1], rng)
        tried = _projected(x[half], y[half], c, d).nats
        if tried > score:
            a, b, score = c, d, tried
    held = _projected(x[rest], y[rest], a, b, halves=30)
    return MutualInformation(
        held.nats, "estimate", "max_sliced", held.stderr, held.ceiling,
        ("I of one pair of projections, itself at most I(x; y)", "found on half of the rows, measured on the others"),
    )  # fmt: skip


def _whitened(points: Array) -> tuple[Array, Array]:
    """Orthonormal columns [N, r] that span centred `points` [N, p], and their directions [p, r]; none of constants."""
    u, singular, v = np.linalg.svd(points, full_matrices=False)
    rank = int((singular > max(points.shape) * np.finfo(np.float64).eps * singular[0]).sum())
    return u[:, :rank], v[:rank].T / singular[:rank]


def _direction(width: int, rng: np.random.Generator) -> Array:
    a = rng.standard_normal(width)
    return np.asarray(a / np.linalg.norm(a), dtype=np.float64)


def _projected(x: Array, y: Array, a: Array, b: Array, halves: int = 0) -> MutualInformation:
    """KSG on a pair of projections, each of unit standard deviation: the estimate depends on the ratio of the units."""
    first, second = (points[:, None] / spread(points) for points in (x @ a, y @ b))
    return ksg_samples(first, second, halves=halves)
