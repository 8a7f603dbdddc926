"""Bounds and estimates of I(x; y) that train a network on samples: NWJ, MINE, SMILE, InfoNCE, entropies' difference.

In nats. A critic T(x, y) = w·relu(a(x) + b(y)) + c learns log p(x, y)/p(x)p(y) on five eighths of the rows; an eighth
decides when to stop; the value and its standard error come from the rest, which training never saw. torch is loaded
when called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtri

from vibtheory.information.result import Kind, MutualInformation, standard_error

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["BOUNDS", "critic_bound", "entropy_difference", "normal_scores"]

Array = NDArray[np.float64]
Index = NDArray[np.intp]
_AVERAGED = 256  # rows whose p(y|x) make another p(y)
_CLIP = 5.0  # SMILE's: densities' ratios beyond e^±5 are cut
_HIDDEN, _BATCH, _RATE, _LOOK = 64, 128, 2e-3, 25
_PATIENCE = 6  # looks at the stopping rows without a better value
_HELD_OUT = ("rows drawn independently", "the standard error is that of the held-out rows, for this trained network")

BOUNDS: dict[str, tuple[Kind, str]] = {
    "nwj": ("lower", "in expectation over the held-out rows"),
    "mine": ("estimate", "of a lower bound; the logarithm of a sample mean makes it too large, more with few rows"),
    "smile": ("estimate", f"clipped at ±{_CLIP:g}: less variance than MINE's, and no bound"),
    "infonce": ("lower", "in expectation over the held-out rows; at most the logarithm of their number"),
}
"""The critics' bounds with what their direction rests on."""


def critic_bound(x: Array, y: Array, method: str, rng: np.random.Generator, steps: int) -> MutualInformation:
    """I(x; y) in nats by one of `BOUNDS`, from x [N, p] and y [N, q] as `from_samples` checked them.

    Source: Poole et al. (2019), eq. 4 (NWJ), 10 (InfoNCE); Belghazi et al. (2018), eq. 10 (MINE); Song & Ermon (2020).

    Args:
        x: [N, p]. y: [N, q]. method: one of `BOUNDS`. rng: of split, weights and batches. steps: of Adam, at most.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    fit, stop, test = _parts(len(x), rng)
    first, second = (torch.from_numpy(normal_scores(a, fit)).float() for a in (x, y))

    def embedding(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN))

    with _seeded(rng):
        left, right, head = embedding(x.shape[1]), embedding(y.shape[1]), nn.Linear(_HIDDEN, 1)

    def scores(rows: Index, others: Index) -> Tensor:
        """T(x of rows, y of others), [B, n]."""
        result: Tensor = head(torch.relu(left(first[rows])[:, None] + right(second[others])))[..., 0]
        return result

    def loss(rows: Index) -> Tensor:
        table = scores(rows, rows)
        own = table.diagonal()
        if method == "infonce":
            return (table.logsumexp(1) - own).mean() - math.log(len(rows))
        others = table[~torch.eye(len(rows), dtype=torch.bool)]
        if method == "smile":  # Jensen–Shannon's objective trains it, the clipped one measures
            return functional.softplus(-own).mean() + functional.softplus(others).mean()
        if method == "nwj":
            return others.exp().mean() - 1 - own.mean()
        return others.logsumexp(0) - math.log(len(others)) - own.mean()

    _train(nn.ModuleList([left, right, head]), loss, fit, stop, rng, steps)

    def value(rows: Index) -> tuple[float, Array]:
        with torch.no_grad():
            parts = [scores(part, rows).numpy() for part in np.array_split(rows, 1 + len(rows) // _BATCH)]
        return _value(np.concatenate(parts).astype(np.float64), method)

    nats, influence = value(test)
    kind, why = BOUNDS[method]
    error = standard_error(influence)
    return MutualInformation(
        nats, kind, method, error, math.log(len(test)) if method == "infonce" else math.inf, (why, *_HELD_OUT),
        warnings=_overfit(nats, value(fit[: len(test)])[0], error) if kind == "estimate" else (),
    )  # fmt: skip


def entropy_difference(x: Array, y: Array, rng: np.random.Generator, steps: int) -> MutualInformation:
    """H(y) − H(y|x), each as the cross-entropy of a trained density (McAllester & Stratos 2020): no bound.

    p(y|x) is a mixture of four Gaussians with diagonal covariance whose parameters a network gives; p(y) is the same
    without an input. Both cross-entropies are too large; their difference, in nats, can err either way: too small where
    p(y|x) is not learned, too large where p(y) fits worse than it. A p(y) that fits badly is warned of: the average of
    p(y|x) over 256 rows of training, a p(y) as well, tells clearly more of the held-out rows.

    Args:
        x: [N, p]. y: [N, q]. rng: of split, weights and batches. steps: of Adam, at most, for each density.
    """
    import torch
    from torch import nn

    fit, stop, test = _parts(len(x), rng)
    first, second = (torch.from_numpy(normal_scores(a, fit)).float() for a in (x, y))
    width, mixed = y.shape[1], 4

    def density(inputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(inputs, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(),
            nn.Linear(_HIDDEN, mixed * (2 * width + 1)),
        )  # fmt: skip

    def log_density(net: nn.Module, given: Tensor, rows: Index) -> Tensor:
        """log p(y of rows | given), [B]; given: [B, p], or [1, p] for all of them."""
        raw = net(given).view(len(given), mixed, 2 * width + 1)
        mean, log_scale, weight = raw[..., :width], raw[..., width:-1].clamp(-6, 4), raw[..., -1]
        gap = (second[rows][:, None] - mean) * torch.exp(-log_scale)
        terms = -(0.5 * gap**2 + log_scale + 0.5 * math.log(2 * math.pi)).sum(-1)
        return torch.logsumexp(terms + weight.log_softmax(-1), -1)

    def densities(given: Tensor) -> list[Array]:
        """log p(y | given) of the rows held out and of those of training, and of the former given any of 256 rows."""
        with _seeded(rng):
            net = density(given.shape[1])
        _train(net, lambda rows: -log_density(net, given[rows], rows).mean(), fit, stop, rng, steps)
        with torch.no_grad():
            few = torch.stack([log_density(net, given[[m]], test) for m in fit[:_AVERAGED]])
            found = log_density(net, given[test], test), log_density(net, given[fit], fit), few.double().logsumexp(0)
        return [each.double().numpy() for each in found]

    inside, known, summed = densities(first)
    alone, known_alone, _ = densities(torch.ones(len(x), 1))
    terms, known = inside - alone, known - known_alone
    missed = float((summed - math.log(min(_AVERAGED, len(fit))) - alone).mean())
    why = "the difference of two cross-entropies, each too large"
    nats, error = float(terms.mean()), standard_error(terms)
    worse = f"another p(y) tells {missed:.3g} nats more: the densities fit badly. Remedy: another method, or more rows"
    return MutualInformation(
        nats, "estimate", "entropy_difference", error, assumes=(why, *_HELD_OUT),
        warnings=_overfit(nats, float(known.mean()), error) + ((worse,) if missed > 2 * error else ()),
    )  # fmt: skip


def _overfit(nats: float, known: float, error: float) -> tuple[str, ...]:
    """A warning where the rows of training, which give `known` nats, tell otherwise than the held-out ones."""
    if abs(known - nats) <= 2 * error:
        return ()
    return (f"{known:.3g} nats on the rows of training: the bias may exceed the standard error. Remedy: more rows",)


def normal_scores(values: Array, fit: Index) -> Array:
    """Each column of `values` [N, p] through the map that makes the rows `fit` standard normal.

    I(x; y) is invariant under one-to-one maps of coordinates; beyond the range of `fit` values are cut, which can only
    lose information. Heavy tails and scales no longer matter.

    Source: van der Waerden's scores (1952).

    Args:
        values: [N, p]. fit: rows that the maps are made from.
    """
    result = np.empty_like(values)
    for j in range(values.shape[1]):
        knots, counts = np.unique(values[fit, j], return_counts=True)
        rank = np.cumsum(counts) - 0.5 * counts
        result[:, j] = np.interp(values[:, j], knots, ndtri(rank / len(fit)))
    return result


def _parts(n: int, rng: np.random.Generator) -> tuple[Index, Index, Index]:
    """Rows to train on (5/8), to stop by (1/8), to measure on (1/4)."""
    order = rng.permutation(n)
    fit, stop, test = np.split(order, [n * 5 // 8, n * 3 // 4])
    return fit, stop, test


@contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    """Weights drawn from `rng`'s stream; torch's own is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**62)))  # torch.manual_seed sets a GPU's too
        yield


def _train(
    net: nn.Module, loss: Callable[[Index], Tensor], fit: Index, stop: Index, rng: np.random.Generator, steps: int
) -> None:
    """Adam on batches of `fit`; the weights of the best loss on `stop` are kept."""
    import torch

    optimiser = torch.optim.Adam(net.parameters(), lr=_RATE)
    best, kept, waited = math.inf, net.state_dict(), 0
    for step in range(steps):
        value = loss(rng.choice(fit, min(_BATCH, len(fit)), replace=False))
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if step % _LOOK == _LOOK - 1:
            with torch.no_grad():
                now = float(loss(stop))
            waited += 1
            if now < best:
                best, waited = now, 0
                kept = {name: tensor.clone() for name, tensor in net.state_dict().items()}
            if waited == _PATIENCE:
                break
    net.load_state_dict(kept)


def _value(table: Array, method: str) -> tuple[float, Array]:
    """The bound from the scores of all pairs [n, n] of held-out rows, and its influence values [n].

    Pairs of different rows estimate E over p(x)p(y) without bias; a row enters as x and as y (Hoeffding).
    """
    n = len(table)
    own = table.diagonal()
    if method == "infonce":
        total = logsumexp(table, axis=1)
        terms = own - total + math.log(n)
        return float(terms.mean()), terms - np.exp(table - total[:, None]).sum(axis=0)
    if method == "smile":
        table = np.clip(table, -_CLIP, _CLIP)
    others = np.where(np.eye(n, dtype=bool), -np.inf, table)
    top = others.max()
    ratio = np.exp(others - top)
    mean = ratio.sum() / (n * (n - 1))
    part = (ratio.sum(axis=0) + ratio.sum(axis=1)) / (n - 1)  # of each row, in the mean twice
    if method == "nwj":
        with np.errstate(over="ignore", invalid="ignore"):  # −inf is a lower bound too
            scale = np.exp(top)
            return float(1 + own.mean() - scale * mean), own - scale * part
    return float(own.mean() - math.log(mean) - top), own - part / mean
