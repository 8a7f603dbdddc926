"""Deciders of P1, P2 and P3 on channels small enough for quadrature: which side each bound of I(h; x) stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.instances import Effort
from vibtheory.information import (
    METHODS,
    GatedChannel,
    GatedUnit,
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


def _two_units(rng: np.random.Generator, *, zeros: bool) -> tuple[GatedChannel, float]:
    """Two gated units of two to four inputs, and I(h; x) of both together by quadrature, in nats."""
    while True:
        n = int(rng.integers(2, 5))
        f, mu, sigma = rng.uniform(0.3, 3.0, (n, 2)), rng.uniform(-2, 2, 2), rng.uniform(0.1, 1.0, 2)
        if zeros:
            f[1:] *= rng.random((n - 1, 2)) > 0.4

        def silent(h: Array) -> Array:  # y plays no part: x is all that is asked about
            return np.full((len(h), 1), 0.0)

        found = layer_bound(np.full((n, 1), 1 / n), f, mu, sigma, silent)
        if not found.status.startswith("not resolved"):
            return GatedChannel(f, mu, sigma), found.information


def _deeper(rng: np.random.Generator, mu: float) -> list[GatedUnit]:
    """None, one or (seldom: it is slow) two units behind a gate of mean `mu`: with zeros, and 0.2 or more where not 0.

    A ReLU's values next to 0 would give the next density a pole there, which no quadrature resolves.
    """
    units = []
    for _ in range(int(rng.choice(3, p=[0.4, 0.5, 0.1]))):
        slope, offset = float(np.sign(mu) * rng.uniform(0.5, 2)), float(rng.uniform(-0.5, 1))

        def rectified(h: Array, slope: float = slope, offset: float = offset) -> Array:
            return np.where(slope * h + offset > 0, slope * h + offset + 0.2, 0.0)

        mu = float(rng.choice([-1, 1]) * rng.uniform(0.5, 2))
        units.append(GatedUnit(rectified, mu, float(rng.uniform(0.2, 1.0)), kinks=(-offset / slope,)))
    return units


def layer_wise(effort: Effort, below: Callable[[LayerBound], bool] = lambda found: found.gap >= -_TOLERANCE) -> Finding:
    """P1: L ≤ L̃ − H(y), and the gap is the sum of its three named parts.

    On random chains with and without zeros: one layer of one or two units, or up to three layers, at any of them.
    """
    rng = effort.rng("P1")
    outcomes: list[Outcome] = []
    worst, unresolved, lossy = 0.0, 0, 0
    wanted = effort.size(200, 2000)
    for _ in range(2 * wanted):
        if len(outcomes) == wanted:
            break
        nx, ny, d = int(rng.integers(2, 5)), int(rng.integers(2, 4)), 1 + int(rng.random() < 0.25)
        joint = rng.dirichlet(np.ones(nx * ny)).reshape(nx, ny)
        f = rng.uniform(0.3, 3.0, (nx, d))
        f[1:] *= rng.random((nx - 1, d)) > 0.25  # zeros, but no unit that is always 0
        mu = rng.uniform(0.3, 2, d) * rng.choice([-1, 1], d)
        deeper = _deeper(rng, mu[0]) if d == 1 else []
        weights, offset = rng.standard_normal((1 if deeper else d, ny)), rng.standard_normal(ny)

        def classify(h: Array, v: Array = weights, v0: Array = offset) -> Array:
            return np.asarray(log_softmax(h @ v + v0, axis=1))

        found = layer_bound(
            joint, f, mu, rng.uniform(0.1, 1.0, d), classify, gamma=rng.uniform(0, 3), deeper=deeper,
            layer=int(rng.integers(1, 2 + len(deeper))), order=8,
        )  # fmt: skip
        if found.status.startswith("not resolved"):
            unresolved += 1
            continue
        worst = max(worst, found.identity_error)
        lossy += int(found.processing_gap > _TOLERANCE)
        outcomes.append((below(found) and found.identity_error < _TOLERANCE, str(found)))
    evidence = {
        "chains that lose relevance behind the layer": lossy, "largest error of the gap's identity (nats)": worst,
        "drawn again because quadrature did not resolve them": unresolved,
    }  # fmt: skip
    return Finding(Tally.of(outcomes, independent=True), evidence=evidence)


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
    return Finding(Tally.of(outcomes, independent=True), evidence={"largest relative error": worst})


def relu_zeros(effort: Effort, bare: Method = plain, valid: Method = variational) -> Finding:
    """P2: what (*) charges, ½ log(1+α), is no upper bound of I; with ψ⁺, π and H(pattern) it is one, zeros or not."""
    rng = effort.rng("P2 zeros")
    tallies: tuple[list[Outcome], list[Outcome]] = ([], [])
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
    evidence: dict[str, Any] = {"channels on which the paper's KL is infinite": infinite}
    trained = effort.rows("relu_zeros.csv", ["zero_share"])
    if trained:
        zeros = sum(row["zero_share"] > 0 for row in trained)
        evidence["recorded: units of trained LeNet-300-100 with zeros"] = f"{zeros} of {len(trained)}"
    tried, mended = (Tally.of(outcomes, independent=True) for outcomes in tallies)
    return Finding(tried, mended, evidence, "relu_zeros.png" if trained else "")


def mixed_measure(effort: Effort) -> Finding:
    """P3: a sample of h is possible exactly under the inputs with its own zero pattern."""
    rng = effort.rng("P3")
    outcomes, patterns = [], 0
    for _ in range(effort.size(200, 2000)):
        d = int(rng.integers(1, 6))
        f = np.maximum(rng.standard_normal((30, d)), 0)
        channel = GatedChannel(f, rng.standard_normal(d), np.exp(rng.standard_normal(d) - 1))
        h = channel.sample(rng)
        possible = np.isfinite(channel.log_density(h))
        same = ((h[:, None] != 0) == (f[None] != 0)).all(axis=2)  # of the draw n and the input m: [n, m]
        patterns += int(not same.all())
        outcomes.append((bool((possible == same).all()), f"{int((possible != same).sum())} pairs differ, d = {d}"))
    return Finding(Tally.of(outcomes, independent=True), evidence={"channels with more than one pattern": patterns})


def ceiling(effort: Effort) -> Finding:
    """P3: I ≤ log N always, and I = log N exactly where all zero patterns differ: then every estimate is flagged."""
    rng = effort.rng("P3 ceiling")
    outcomes, unique = [], 0
    for index in range(effort.size(100, 1000)):
        n, d = 80, 2 if index % 2 else 60
        f = np.maximum(rng.standard_normal((n, d)), 0)
        channel = GatedChannel(f, rng.standard_normal(d) + 2, 0.5)
        upper, lower, limit = pairwise(channel), pairwise_bhattacharyya(channel), float(np.log(n))
        held = lower.nats <= upper.nats + _TOLERANCE and upper.nats <= limit + _TOLERANCE
        if len(np.unique(f != 0, axis=0)) == n:
            unique += 1
            held &= abs(lower.nats - limit) < _TOLERANCE and upper.saturated and leave_one_out(channel).nats == np.inf
        outcomes.append((held, f"[{lower.nats:.4f}, {upper.nats:.4f}] nats, log N = {limit:.4f}"))
    evidence = {"channels whose patterns are all different": unique}
    return Finding(Tally.of(outcomes, independent=True), evidence=evidence)


_SIDES: Mapping[str, Method] = {
    name: METHODS[name]
    for name in (
        "variational", "variational_factorised", "pairwise", "pairwise_bhattacharyya", "gaussian", "gaussian_tight",
    )
}  # fmt: skip


def sides(effort: Effort, methods: Mapping[str, Method] = _SIDES) -> Finding:
    """Every bound of I(h; x) stands on the side that it declares, against quadrature: of one unit, and of two together.

    The sampled ones do on the average of 30 draws of 30 channels each, to 5 standard errors: the draws of one channel
    may all miss a rare event on which its average rests.
    """
    rng = effort.rng("sides")
    averages: dict[str, list[tuple[float, float]]] = {}  # by method: slack and its variance, channel by channel
    outcomes: list[Outcome] = []
    narrowest: dict[str, float] = {}

    def judge(channel: GatedChannel, truth: float, chosen: Mapping[str, Method]) -> None:
        for name, method in chosen.items():
            found = method(channel)
            slack = found.nats - truth if found.kind == "upper" else truth - found.nats
            narrowest[name] = min(slack, narrowest.get(name, np.inf))
            words = f"{name} ({found.kind}), {channel.d} units: {found.nats:.5f}, I = {truth:.5f} nats"
            outcomes.append((slack >= -_TOLERANCE, words))

    exact = {name: method for name, method in methods.items() if not name.startswith("gaussian")}
    for index in range(effort.size(300, 3000)):
        tau = 0.0 if index % 2 else float(np.exp(rng.normal() - 1))
        channel = _unit(rng, zeros=index % 4 < 2, tau=tau)
        if channel.d == 0 or not channel.f.any():
            continue
        truth = per_unit(channel).nats
        judge(channel, truth, methods if tau > 0 else exact)
        for sampled in (infonce, leave_one_out):
            draws = [sampled(channel, seed=seed) for seed in range(30)]
            nats = np.array([found.nats for found in draws])
            if np.isfinite(nats).all():
                slack = (nats.mean() - truth) * (1 if draws[0].kind == "upper" else -1)
                averages.setdefault(f"{draws[0].method} ({draws[0].kind})", []).append((slack, nats.var(ddof=1) / 30))
    pairs = effort.size(30, 300)
    for index in range(pairs):
        channel, together = _two_units(rng, zeros=index % 2 == 0)
        judge(channel, together, {**exact, "per_unit": per_unit})
    for name, slacks in averages.items():
        for begin in range(0, len(slacks) - 29, 30):
            means, variances = np.array(slacks[begin : begin + 30]).T
            mean, error = means.mean(), np.sqrt(variances.sum()) / 30
            words = f"{name}: slack {mean:.5f} ± {error:.5f} nats, mean of 30 channels"
            outcomes.append((bool(mean >= -_TOLERANCE - 5 * error), words))
    evidence: dict[str, Any] = {"channels of two units": pairs, "smallest slack of each bound (nats)": narrowest}
    return Finding(Tally.of(outcomes), evidence=evidence)
