"""I(h; y): what a layer tells about the label, the second coordinate of the information plane (docs/theory.md P1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_generator, check_choice, plain
from vibtheory.information.channel import GatedChannel, check_channel
from vibtheory.information.result import MutualInformation, sampling_error

__all__ = ["relevance"]

Array = NDArray[np.float64]
_BLOCK_ENTRIES = 2**23  # 64 MiB of float64 per block of log densities
_TRIAL_ROWS = 64  # whose log densities say how wide a kernel may be
_POWERS = 12


@np.errstate(under="ignore")
def relevance(
    channel: GatedChannel,
    y: ArrayLike,
    *,
    over: Literal["rows", "population"] = "population",
    seed: int | np.random.Generator = 0,
) -> MutualInformation:
    """I(h; y) in nats, y one of a few classes, with one draw of h per row.

    Over the population: a lower bound, in expectation, H(y) + E log q(y|h) with q a classifier made of one half of the
    rows and judged on the other, and the other way round: the posterior of the mixtures of rows by class, each density
    to a power β ≤ 1 and the whole mixed with the classes' shares, β and that share chosen on the first half. So it is
    near 0 at worst, not far below, where rows are far apart. H(y) is that of the rows, on average a little too small.

    Over the rows (x uniform on them, y its label): an estimate, E log p(h|y)/p(h) with both mixtures over all rows,
    whose expectation is I(h; y) exactly.

    Assumes: rows drawn independently; over the rows, y a function of x. Cost: 4N²d operations. Ceiling: none of the
    method (I(h; y) ≤ H(y) itself, which is a part).

    Args:
        channel: the layer's law given x, N rows.
        y: [N] labels.
        over: "rows" or "population".
        seed: of the draws of h, and of the halves.

    Returns:
        The bound or the estimate; a warning says where over 5 % of the draws meet no row of their class.

    Raises:
        InvalidInputError: labels of another length or no numbers, no seed.
    """
    check_channel(channel)
    check_choice("over", over, ("rows", "population"))
    as_array("y", y, (channel.n,), "pass one label per row of the channel")
    # as they are: float64 would make one label of 2⁵³ and 2⁵³ + 1
    labels = np.unique(plain(y), return_inverse=True)[1].reshape(-1)
    share = np.bincount(labels) / channel.n
    generator = as_generator("seed", seed, "relevance")
    h = channel.sample(generator)
    if over == "rows":
        terms, good = _own_mixtures(channel, h, labels)
    else:
        terms, good = _held_out(channel, h, labels, share, generator.permutation(channel.n))
    lost = f"{100 * (1 - good.mean()):.0f} % of the draws meet no other row of their class. Remedy: more rows or noise"
    error: dict[str, Any] = sampling_error(terms)
    error["warnings"] = (*error.get("warnings", ()), *(() if good.mean() > 0.95 else (lost,)))
    return MutualInformation(
        nats=float(terms.mean()),
        kind="estimate" if over == "rows" else "lower",
        method="mixtures of rows by class",
        parts={"H(y)": float(-(share * np.log(share)).sum())},
        assumes=("y a function of x, over the rows",)
        if over == "rows"
        else ("rows drawn independently: a lower bound, in expectation, on the population's I(h; y)",),
        **error,
    )


def _blocks(rows: NDArray[np.intp], n: int) -> Iterator[NDArray[np.intp]]:
    size = max(1, _BLOCK_ENTRIES // n)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _own_mixtures(channel: GatedChannel, h: Array, labels: NDArray[np.intp]) -> tuple[Array, NDArray[np.bool_]]:
    """log p(h|y)/p(h) with each draw's own row in both mixtures, of the rows where it is a number, and where: [N]."""
    terms = np.empty(channel.n)
    for own in _blocks(np.arange(channel.n), channel.n):
        density = channel._log_density(h[own], channel.pattern[own])  # [B, N]
        weight = np.exp(density - density.max(axis=1)[:, None])
        same = labels[own, None] == labels
        inside = (weight * same).sum(axis=1) / same.sum(axis=1)
        terms[own] = np.log(inside) - np.log(weight.sum(axis=1) / channel.n)
    good = np.isfinite(terms)
    return terms[good], good


def _held_out(
    channel: GatedChannel, h: Array, labels: NDArray[np.intp], share: Array, order: NDArray[np.intp]
) -> tuple[Array, NDArray[np.bool_]]:
    """log q(y|h)/P(y) by the classifier of the other half of the rows, and whether it has a row near enough: [N]."""
    n, terms, good = channel.n, np.empty(channel.n), np.empty(channel.n, dtype=np.bool_)
    for train, test in ((order[: n // 2], order[n // 2 :]), (order[n // 2 :], order[: n // 2])):
        law = (np.bincount(labels[train], minlength=len(share)) + 1.0) / (len(train) + len(share))

        def posterior(rows: NDArray[np.intp], powers: Array, train: NDArray[np.intp] = train) -> Array:
            """P(own class | h) for each power by the training rows but the draw's own, [powers, rows]; NaN if none."""
            found = [np.empty((len(powers), 0))]
            for own in _blocks(rows, n):
                density = channel._log_density(h[own], channel.pattern[own])[:, train]
                density[own[:, None] == train] = -np.inf
                top = density.max(axis=1, initial=-np.inf)
                density -= np.where(np.isfinite(top), top, 0.0)[:, None]
                same = labels[own, None] == labels[train]
                weights = (np.exp(power * density) for power in powers)
                with np.errstate(invalid="ignore"):
                    found.append(np.array([(weight * same).sum(axis=1) / weight.sum(axis=1) for weight in weights]))
            return np.concatenate(found, axis=1)

        def score(inside: Array, mixed: float, rows: NDArray[np.intp], law: Array = law) -> Array:
            base = law[labels[rows]]
            score: Array = np.log(np.where(np.isnan(inside), base, (1 - mixed) * inside + mixed * base))
            return score

        few = train[:_TRIAL_ROWS]
        trial = channel._log_density(h[few], channel.pattern[few])[:, train]
        gap = (trial.max(axis=1, initial=-np.inf)[:, None] - trial)[np.isfinite(trial)]
        powers = np.geomspace(1.0, 1 / max(1.0, float(gap.mean()) if gap.size else 1.0), _POWERS)
        fitted = posterior(train, powers)
        choices = [
            (k, max(len(train), 1) ** -exponent) for k in range(_POWERS) for exponent in (1.0, 0.75, 0.5, 0.25, 0.0)
        ]
        k, mixed = max(choices, key=lambda choice: float(score(fitted[choice[0]], choice[1], train).sum()))
        judged = posterior(test, powers[[k, -1]])
        terms[test] = score(judged[0], mixed, test) - np.log(share[labels[test]])
        good[test] = judged[1] > 0  # of the widest kernel: NaN and 0 are alone
    return terms, good
