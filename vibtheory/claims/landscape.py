"""Deciders of T7: the rank-free budget, everything closed, existence, convexity, and the real loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import NDArray

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.instances import Effort, gate_units, random_bound, random_start
from vibtheory.theory.certificate import CERTIFIED, NOT_CONVERGED, certify
from vibtheory.theory.landscape import BudgetReport, check_budget, check_closure, check_convexity, check_existence
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.penalty import penalty_slope
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.real_loss import check_real_loss, minimise_real_loss
from vibtheory.theory.softmax_loss import SoftmaxLoss

__all__ = ["budget", "closed", "convexity", "existence", "real_loss"]

Array = NDArray[np.float64]
Index = NDArray[np.intp]


def _budget(bound: QuadraticBound, mu: Array) -> tuple[float, float, float, int]:
    """Σγα/(1+α), (β−Aμ)ᵀAμ and ¼‖β‖² in nats, and #{α ≥ 1}: from A, b, γ alone, with T1's α."""
    assert bound.A is not None
    t = np.abs(mu) * np.sqrt(bound.w / bound.gamma)
    alpha = t * (t + np.hypot(t, 2)) / 2
    fit, beta = bound.A @ mu, np.linalg.lstsq(bound.A.T, -bound.b / 2, rcond=None)[0]
    spent = float(bound.gamma @ (alpha / (1 + alpha)))
    return spent, float((beta - fit) @ fit), float(beta @ beta) / 4, int((alpha >= 1).sum())


def budget(effort: Effort, limit: Callable[[BudgetReport], int] = lambda report: report.count_limit) -> Finding:
    """Σγα/(1+α) = (β−Aμ)ᵀAμ ≤ ¼‖β‖², and #{α ≥ 1} within the a-priori limit, at minima."""
    rng = effort.rng("T7 budget")
    outcomes: list[Outcome] = []
    attained = 0
    for bound in effort.bounds(rng, 700, 7000):
        minimum = find_local_minimum(bound, random_start(rng, bound))
        report = check_budget(bound, minimum)
        if report.verdict == "not applicable":
            continue
        spent, earned, ceiling, count = _budget(bound, minimum.mu)
        attained += int(count == limit(report))
        agree = abs(spent - earned) <= 1e-6 * ceiling and count == report.count
        held = report.verdict == "holds" and agree and spent <= (1 + 1e-9) * ceiling and count <= limit(report)
        outcomes.append((held, f"{report}; here {spent:.6g} = {earned:.6g} of {ceiling:.6g} nats, {count} gates"))
    recorded: list[Outcome] = []
    for row in effort.rows("budget_lenet_300_100.csv", ("layer", "gamma", "survivors", "budget", "certificate")):
        if row["certificate"] == CERTIFIED:
            words = f"LeNet-300-100 {row['layer']}, γ = {row['gamma']:.3g}: {row['survivors']}, limit {row['budget']}"
            recorded.append((row["survivors"] <= row["budget"], words))
    tally = Tally.of(outcomes, independent=True) + Tally.of(recorded)
    evidence = {"count limit attained": attained, "recorded minima of trained networks": len(recorded)}
    return Finding(tally, evidence=evidence, figure="budget_lenet_300_100.png" if recorded else "")


def _other_stationary_point(rng: np.random.Generator, bound: QuadraticBound) -> bool:
    """Whether root finding from 20 random supports, signs and starts meets a stationary point other than 0."""
    unit = gate_units(bound)
    for _ in range(20):
        support = np.flatnonzero((rng.random(bound.d) < 0.6) & (bound.w > 0))
        if not support.size:
            continue
        signs = rng.choice([-1.0, 1.0], support.size)

        def at(size: Array, support: Index = support, signs: Array = signs) -> Array:
            mu = np.zeros(bound.d)
            mu[support] = signs * size * unit[support]
            return mu

        def gradient(size: Array, support: Index = support, signs: Array = signs, at: Any = at) -> Array:
            """∂Φ/∂μ over the penalty's own slope, which goes to 0 far out."""
            mu = at(size)
            slope = penalty_slope(mu[support], bound.w[support], bound.gamma[support])
            return np.asarray(bound.smooth_gradient(mu)[support] / slope + signs)

        found = scipy.optimize.root(gradient, np.exp(rng.normal(0, 2, support.size)))
        settled = found.success and (found.x > 1e-6).all() and np.abs(gradient(found.x)).max() < 1e-6
        if settled and certify(bound, at(found.x)).status != NOT_CONVERGED:
            return True
    return False


def closed(effort: Effort) -> Finding:
    """μ = 0 is a strict local minimum above b²/(4w), none below, and the only stationary point from ‖β‖² on.

    Against all minima by enumeration, and against root finding from random starts. A quarter with a price of its own
    for every gate, on either side of its own b_j²/(4w_j).
    """
    rng = effort.rng("T7 closed")
    outcomes: list[Outcome] = []
    counts: Counter[str] = Counter()
    for index, bound in enumerate(effort.bounds(rng, 240, 2400, largest=6)):
        found = check_closure(bound)
        if found.local_price == 0:
            continue
        factor = (0.5, 1.5, 1.05 * found.global_price / found.local_price)[index // 4 % 3]
        own = bound.b**2 / (4 * np.where(bound.w > 0, bound.w, 1.0))
        each = np.maximum(own, 0.01 * own.max()) * rng.uniform(0.95, 2.0, bound.d)
        priced = bound.with_gamma(each if index % 4 == 0 else factor * found.local_price)
        verdict, minima = check_closure(priced).verdict, effort.minima(priced)
        if minima is None or verdict == "tie":
            continue
        counts[verdict + (", prices differ" if index % 4 == 0 else "")] += 1
        at_zero = any(minimum.nonzeros == 0 for minimum in minima)
        words = f"{verdict}: {len(minima)} minima, zero among them: {at_zero}"
        outcomes.append((at_zero == (verdict != "not a local minimum"), words))
        if verdict == "only stationary point":
            alone = len(minima) == 1 and not _other_stationary_point(rng, priced)
            outcomes.append((alone, f"{words}; another stationary point"))
        elif verdict == "strict local minimum":
            counts["the same search finds another stationary point below ‖β‖²"] += _other_stationary_point(rng, priced)
    return Finding(Tally.of(outcomes), evidence=dict(counts))


def existence(effort: Effort) -> Finding:
    """b in A's row space: the global minimum lies in the stated box; outside: Φ falls for ever along the direction."""
    rng = effort.rng("T7 existence")
    outcomes = []
    for bound in effort.bounds(rng, 175, 1750, largest=6):
        found = check_existence(bound)
        minima = effort.minima(bound)
        if minima is not None and not minima:
            outcomes.append((False, f"{found}: no local minimum"))
        for best in (minima or ())[:1]:
            inside = bool((np.abs(best.mu) <= found.box).all()) and best.value >= found.lower_bound - 1e-9
            outcomes.append((found.direction is None and inside, f"{found}: global minimum {best.value:.6g}"))
        low = random_bound(rng, "low rank", largest=6)
        null = np.linalg.svd(low.gram)[2][-1]
        if np.linalg.norm(low.gram @ null) > 1e-9 * np.linalg.norm(low.gram):
            continue  # full rank: nothing lies outside
        off = QuadraticBound(low.A, low.b + null * (np.linalg.norm(low.b) + 1), 0.0, low.gamma)  # type: ignore[arg-type]
        away = check_existence(off).direction
        falls = False
        if away is not None:  # linear fall beats the penalty's logarithm in the end
            values = [off.phi(10.0**k * away * np.sqrt(low.gamma.max() / low.w.max())) for k in (6, 7, 8)]
            falls = values[2] < values[1] < values[0]
        outcomes.append((falls, "b outside the row space, and Φ did not fall"))
    return Finding(Tally.of(outcomes))


def _bends_down(rng: np.random.Generator, bound: QuadraticBound) -> bool:
    """Whether Φ lies above a chord's middle somewhere between 200 random pairs of points near each other or far."""
    unit = gate_units(bound)
    for _ in range(200):
        middle = unit * rng.standard_normal(bound.d) * 10.0 ** rng.uniform(-2, 1)
        step = unit * rng.standard_normal(bound.d) * 10.0 ** rng.uniform(-2, 1)
        ends = bound.phi(middle - step), bound.phi(middle + step)
        if bound.phi(middle) > 0.5 * sum(ends) + 1e-12 * max(map(abs, ends)):
            return True
    return False


def convexity(effort: Effort) -> Finding:
    """λ_min(G) ≥ ½ ⇒ Φ is convex, by chords, with one local minimum, by enumeration; without it there are others."""
    rng = effort.rng("T7 convexity")
    outcomes: list[Outcome] = []
    several = bent = 0
    for index in range(effort.size(200, 2000)):
        d = int(rng.integers(2, 6))
        spread = 0.15 if index % 2 else 1.0  # nearly orthogonal, or not at all
        factor = np.linalg.qr(rng.standard_normal((d, d)))[0] + spread * rng.standard_normal((d, d)) / np.sqrt(d)
        bound = QuadraticBound(factor, -2 * factor.T @ rng.standard_normal(d) * 2, 0.0, float(np.exp(rng.normal() - 1)))
        minima = effort.minima(bound)
        if minima is None:
            continue
        if check_convexity(bound).verdict == "convex":
            convex = len(minima) == 1 and not _bends_down(rng, bound)
            outcomes.append((convex, f"{len(minima)} minima, or a chord below Φ"))
        else:
            several, bent = several + (len(minima) > 1), bent + _bends_down(rng, bound)
    evidence = {"λ_min(G) < ½: several minima": several, "λ_min(G) < ½: a chord below Φ": bent}
    return Finding(Tally.of(outcomes, independent=True), evidence=evidence)


def _real_objective(problem: SoftmaxLoss, f: Array, weights: Array, y: NDArray[np.int64], mu: Array) -> float:
    """J = mean cross-entropy + Σρ in nats, with w_j = ½ v_jᵀBv_j E f_j² and B = ½(I − 11ᵀ/K) (docs/theory.md T5)."""
    logits = (f * mu) @ weights.T
    loss = scipy.special.logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
    centred = weights - weights.mean(axis=0)
    w = 0.25 * (centred**2).sum(axis=0) * (f**2).mean(axis=0)
    t = np.abs(mu) * np.sqrt(w / problem.gamma)
    alpha = t * (t + np.hypot(t, 2)) / 2
    return float(loss.mean() + problem.gamma @ (alpha / (1 + alpha) + np.log1p(alpha)))


def real_loss(effort: Effort) -> Finding:
    """Minimising J = g + Σρ itself: J never rises, and T2, T3 and T4a hold at its certified minima.

    J is written down here once more, and falls along steps of plain majorise–minimise too.
    """
    rng = effort.rng("T7 real loss")
    outcomes, rise, certified, tries = [], 0.0, 0, effort.size(100, 1000)
    for _ in range(tries):
        d, classes, n = int(rng.integers(3, 12)), int(rng.integers(2, 6)), 150
        f = np.maximum(rng.standard_normal((n, d)) @ rng.standard_normal((d, d)), 0)
        weights = rng.standard_normal((classes, d))
        y = np.argmax(f @ weights.T + rng.standard_normal((n, classes)), axis=1)
        problem = SoftmaxLoss(weights, np.zeros(classes), f, y, 10.0 ** rng.uniform(-4, -1))
        minimum = minimise_real_loss(problem)
        report = check_real_loss(minimum)
        steps = float(np.diff(minimum.history).max(initial=0.0))
        rise = max(rise, steps)
        certified += int(minimum.certificate.certified)
        outcomes.append((steps <= 1e-12 * max(1.0, abs(minimum.value)), f"J rose by {steps:.2g} nats"))
        truth = _real_objective(problem, f, weights, y, minimum.mu)
        outcomes.append((abs(truth - minimum.history[-1]) < 1e-9, f"J = {truth:.10g}, told {minimum.history[-1]:.10g}"))
        mu, values = rng.standard_normal(d), []
        for _ in range(5):
            values.append(_real_objective(problem, f, weights, y, mu))
            mu = find_local_minimum(problem.bound_at(mu), mu).mu
        outcomes.append((bool(np.diff(values).max() <= 1e-9), f"J along majorise–minimise: {values}"))
        if report.verdict != "not applicable":
            outcomes.append((report.verdict == "holds", str(report)))
    evidence = {"largest rise of J (nats)": rise, "certified": f"{certified} of {tries}"}
    recorded = effort.rows("real_loss_lenet_300_100.csv", ("layer", "open_at_minimum", "soft_rank_sharp", "verdict"))
    for row in recorded:
        words = f"LeNet-300-100 {row['layer']}: {row['open_at_minimum']} open, soft rank {row['soft_rank_sharp']}"
        outcomes.append((row["verdict"] == "holds", words))
        evidence["recorded"] = words
    figure = "real_loss_lenet_300_100.png" if recorded else ""
    return Finding(Tally.of(outcomes), evidence=evidence, figure=figure)
