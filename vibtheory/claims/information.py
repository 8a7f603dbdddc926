"""Deciders of P1, P2 and P3 on channels small enough for quadrature: which side each bound of I(h; x) stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from vibtheory.claims.claim import Finding, Tally
from vibtheory.claims.effort import Effort
from vibtheory.information import (
    METHODS,
    GatedChannel,
    LayerBound,
    MutualInformation,
    activation_statistics,
    expected_kl,
    infonce,
    layer_bound,
    leave_one_out,
    pairwise,
    pairwise_bhattacharyya,
    per_unit,
    plain,
    variational,
)

__all__ = ["best_prior", "ceiling", "layer_wise", "mixed_measure", "relu_zeros", "sides"]

Array = NDArray[np.float64]
Method = Callable[..., MutualInformation]
_TOLERANCE = 1e-6  # nats; the quadratures are good to 1e-8


def _unit(rng: np.random.Generator, *, zeros: bool, tau: float = 0.0) -> GatedChannel:
    """One gated unit, whose information `per_unit` gives by quadrature; with ReLU zeros or without any."""
    f = rng.standard_normal((int(rng.integers(3, 30)), 1)) * np.exp(rng.normal()) + rng.normal()
    f = np.maximum(f, 0) if zeros else np.abs(f) + 1e-3
    return GatedChannel(f, rng.normal(), float(np.exp(1.5 * rng.normal() - 1)), tau)


def layer_wise(effort: Effort, below: Callable[[LayerBound], bool] = lambda found: found.gap >= -_TOLERANCE) -> Finding:
    """P1: L ≤ L̃ − H(y), and the gap is the sum of its three named parts, on random chains with and without zeros."""
    rng = effort.rng("P1")
    outcomes: list[tuple[bool, str]] = []
    widest = 0.0
    while len(outcomes) < effort.size(200, 2000):
        nx, ny, d = int(rng.integers(2, 5)), int(rng.integers(2, 4)), 1 + int(rng.random() < 0.25)
        joint = rng.dirichlet(np.ones(nx * ny)).reshape(nx, ny)
        f = rng.uniform(0.3, 3.0, (nx, d))
        f[1:] *= rng.random((nx - 1, d)) > 0.25  # zeros, but no unit that is always 0
        weights, offset = rng.standard_normal((d, ny)), rng.standard_normal(ny)

        def classify(h: Array, v: Array = weights, v0: Array = offset) -> Array:
            return np.asarray(log_softmax(h @ v + v0, axis=1))

        found = layer_bound(
            joint, f, rng.uniform(-2, 2, d), rng.uniform(0.1, 1.0, d), classify, gamma=rng.uniform(0, 3)
        )
        if found.status.startswith("not resolved"):
            continue
        widest = max(widest, found.identity_error)
        outcomes.append((below(found) and found.identity_error < _TOLERANCE, str(found)))
    return Finding(Tally.of(outcomes), evidence={"largest error of the gap's identity (nats)": widest})


def best_prior(effort: Effort) -> Finding:
    """P2: ξ_j = (μ²+σ²)E f² is the best prior variance, at Σ ½[log(1+α) + ψ], where f is never 0."""
    rng = effort.rng("P2 closed form")
    outcomes, worst = [], 0.0
    for _ in range(effort.size(250, 2500)):
        d = int(rng.integers(1, 5))
        f = np.exp(rng.standard_normal((60, d))) * rng.choice([-1.0, 1.0], (60, d))
        mu, sigma = rng.standard_normal(d), np.exp(rng.standard_normal(d) - 1)
        statistics = activation_statistics(f)
        xi = statistics.best_variance(mu, sigma)
        closed, direct = statistics.minimum_kl(mu, sigma), expected_kl(f, mu, sigma, xi)
        others = min(expected_kl(f, mu, sigma, xi * np.exp(0.3 * rng.standard_normal(d))) for _ in range(20))
        worst = max(worst, abs(closed / direct - 1))
        held = abs(closed / direct - 1) < 1e-10 and others >= direct - 1e-12 and bool((statistics.psi >= 0).all())
        outcomes.append((held, f"closed {closed:.12g}, direct {direct:.12g}, others from {others:.12g}"))
    return Finding(Tally.of(outcomes), evidence={"largest relative error": worst})


def relu_zeros(effort: Effort, bare: Method = plain, valid: Method = variational) -> Finding:
    """P2: what (*) charges, ½ log(1+α), is no upper bound of I; with ψ⁺, π and H(pattern) it is one, zeros or not."""
    rng = effort.rng("P2 zeros")
    tallies: tuple[list[tuple[bool, str]], list[tuple[bool, str]]] = ([], [])
    infinite = 0
    for index in range(effort.size(300, 3000)):
        channel = _unit(rng, zeros=index % 2 == 0)
        if channel.d == 0 or not channel.f.any():
            continue
        infinite += int(np.isinf(activation_statistics(channel.f).minimum_kl(channel.mu, channel.sigma)))
        truth = per_unit(channel).nats  # exact for one unit
        for method, outcomes in zip((bare, valid), tallies, strict=True):
            found = method(channel).nats
            outcomes.append((found >= truth - _TOLERANCE, f"I = {truth:.4f}, {method.__name__} says {found:.4f} nats"))
    evidence: dict[str, Any] = {"channels on which the poster's KL is infinite": infinite}
    table = effort.table("relu_zeros.csv") if effort.mode == "full" else None
    if table is not None:
        evidence["recorded: units of trained LeNet-300-100 with zeros"] = f"{(table['zero_share'] > 0).mean():.1%}"
    return Finding(Tally.of(tallies[0]), Tally.of(tallies[1]), evidence, "relu_zeros.png")


def mixed_measure(effort: Effort) -> Finding:
    """P3: a sample of h is possible exactly under the inputs with its own zero pattern."""
    rng = effort.rng("P3")
    outcomes, patterns = [], 0
    for _ in range(effort.size(200, 2000)):
        d = int(rng.integers(1, 6))
        f = np.maximum(rng.standard_normal((30, d)), 0)
        channel = GatedChannel(f, rng.standard_normal(d), np.exp(rng.standard_normal(d) - 1))
        possible = np.isfinite(channel.log_density(channel.sample(rng)))
        same = channel.pattern[:, None] == channel.pattern[None, :]
        patterns += int(channel.pattern.max() > 0)
        outcomes.append((bool((possible == same).all()), f"{int((possible != same).sum())} pairs differ, d = {d}"))
    return Finding(Tally.of(outcomes), evidence={"channels with more than one pattern": patterns})


def ceiling(effort: Effort) -> Finding:
    """P3: I ≤ log N always, and I = log N exactly where all zero patterns differ: then every estimate is flagged."""
    rng = effort.rng("P3 ceiling")
    outcomes, unique = [], 0
    for index in range(effort.size(100, 1000)):
        n, d = 80, 2 if index % 2 else 60
        channel = GatedChannel(np.maximum(rng.standard_normal((n, d)), 0), rng.standard_normal(d) + 2, 0.5)
        upper, lower, limit = pairwise(channel), pairwise_bhattacharyya(channel), float(np.log(n))
        held = lower.nats <= upper.nats + _TOLERANCE and upper.nats <= limit + _TOLERANCE
        if channel.pattern.max() == n - 1:
            unique += 1
            held &= abs(lower.nats - limit) < _TOLERANCE and upper.saturated and leave_one_out(channel).nats == np.inf
        outcomes.append((held, f"[{lower.nats:.4f}, {upper.nats:.4f}] nats, log N = {limit:.4f}"))
    return Finding(Tally.of(outcomes), evidence={"channels whose patterns are all different": unique})


_SIDES: Mapping[str, Method] = {
    name: METHODS[name]
    for name in (
        "variational", "variational_factorised", "pairwise", "pairwise_bhattacharyya", "gaussian", "gaussian_tight",
    )
}  # fmt: skip


def sides(effort: Effort, methods: Mapping[str, Method] = _SIDES) -> Finding:
    """Every bound of I(h; x) stands on the side that it declares, against quadrature.

    The sampled ones do on the average of 30 draws of 30 channels each, to 5 standard errors: the draws of one channel
    may all miss a rare event on which its average rests.
    """
    rng = effort.rng("sides")
    averages: dict[str, list[tuple[float, float]]] = {}  # by method: slack and its variance, channel by channel
    outcomes: list[tuple[bool, str]] = []
    narrowest: dict[str, Any] = {}
    for index in range(effort.size(300, 3000)):
        tau = 0.0 if index % 2 else float(np.exp(rng.normal() - 1))
        channel = _unit(rng, zeros=index % 4 < 2, tau=tau)
        if channel.d == 0 or not channel.f.any():
            continue
        truth = per_unit(channel).nats
        exact = {name: method for name, method in methods.items() if tau > 0 or not name.startswith("gaussian")}
        for name, method in exact.items():
            found = method(channel)
            slack = found.nats - truth if found.kind == "upper" else truth - found.nats
            narrowest[name] = min(slack, narrowest.get(name, np.inf))
            outcomes.append((slack >= -_TOLERANCE, f"{name} ({found.kind}): {found.nats:.5f}, I = {truth:.5f} nats"))
        for sampled in (infonce, leave_one_out):
            draws = [sampled(channel, seed=seed) for seed in range(30)]
            nats = np.array([found.nats for found in draws])
            if np.isfinite(nats).all():
                slack = (nats.mean() - truth) * (1 if draws[0].kind == "upper" else -1)
                averages.setdefault(f"{draws[0].method} ({draws[0].kind})", []).append((slack, nats.var(ddof=1) / 30))
    for name, pairs in averages.items():
        for begin in range(0, len(pairs) - 29, 30):
            slacks, variances = np.array(pairs[begin : begin + 30]).T
            mean, error = slacks.mean(), np.sqrt(variances.sum()) / 30
            words = f"{name}: slack {mean:.5f} ± {error:.5f} nats, mean of 30 channels"
            outcomes.append((bool(mean >= -_TOLERANCE - 5 * error), words))
    return Finding(Tally.of(outcomes), evidence={"smallest slack of each bound (nats)": narrowest})
