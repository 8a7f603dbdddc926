"""Deciders of T7: the rank-free budget, everything closed, existence, convexity, the real loss, and the path over γ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vibtheory.claims.claim import Finding, Tally
from vibtheory.claims.effort import FAMILIES, Effort, random_bound, random_start
from vibtheory.theory.budget import BudgetReport, check_budget
from vibtheory.theory.certificate import certify
from vibtheory.theory.closure import check_closure
from vibtheory.theory.landscape import check_convexity, check_existence
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.path import path_slope, sparsity_path
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.real_loss import minimise_real_loss
from vibtheory.theory.real_report import check_real_loss
from vibtheory.theory.softmax_loss import SoftmaxLoss

__all__ = ["budget", "closed", "convexity", "existence", "path", "real_loss"]

Array = NDArray[np.float64]


def budget(effort: Effort, limit: Callable[[BudgetReport], int] = lambda report: report.count_limit) -> Finding:
    """Σγα/(1+α) = (β−Aμ)ᵀAμ ≤ ¼‖β‖², and #{α ≥ 1} within the a-priori limit, at stationary points."""
    rng = effort.rng("T7 budget")
    outcomes, attained = [], 0
    for index in range(effort.size(700, 7000)):
        bound = random_bound(rng, FAMILIES[index % len(FAMILIES)])
        report = check_budget(bound, find_local_minimum(bound, random_start(rng, bound)))
        if report.verdict != "not applicable":
            attained += int(report.count == limit(report))
            outcomes.append((report.verdict == "holds" and report.count <= limit(report), str(report)))
    evidence = {"count limit attained": attained}
    table = effort.table("budget_lenet_300_100.csv") if effort.mode == "full" else None
    if table is not None:
        for row in table[table["certificate"] == "certified local minimum"].to_dict("records"):
            words = f"LeNet-300-100 {row['layer']}, γ = {row['gamma']:.3g}: {row['survivors']}, limit {row['budget']}"
            outcomes.append((row["survivors"] <= row["budget"], words))
    return Finding(Tally.of(outcomes), evidence=evidence, figure="budget_lenet_300_100.png")


def closed(effort: Effort) -> Finding:
    """μ = 0 is a strict local minimum above b²/(4w), none below, and alone from ‖β‖² on: against all minima."""
    rng = effort.rng("T7 closed")
    outcomes = []
    verdicts: dict[str, int] = {}
    for index in range(effort.size(175, 1750)):
        bound = random_bound(rng, FAMILIES[index % len(FAMILIES)], largest=6)
        found = check_closure(bound)
        factor = (0.5, 1.5, 1.05 * found.global_price / found.local_price if found.local_price else 1.5)[index % 3]
        if found.local_price == 0:
            continue
        priced = bound.with_gamma(factor * found.local_price)
        verdict, minima = check_closure(priced).verdict, effort.minima(priced)
        if minima is None:
            continue
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
        at_zero = any(minimum.nonzeros == 0 for minimum in minima)
        held = {"only stationary point": at_zero and len(minima) == 1, "strict local minimum": at_zero,
                "not a local minimum": not at_zero, "tie": True}[verdict]  # fmt: skip
        outcomes.append((held, f"{verdict}: {len(minima)} minima, zero among them: {at_zero}"))
    return Finding(Tally.of(outcomes), evidence={"verdicts": verdicts})


def existence(effort: Effort) -> Finding:
    """b in A's row space: the global minimum lies in the stated box; outside: Φ falls for ever along the direction."""
    rng = effort.rng("T7 existence")
    outcomes = []
    for index in range(effort.size(175, 1750)):
        bound = random_bound(rng, FAMILIES[index % len(FAMILIES)], largest=6)
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
            values = [off.phi(10.0**k * away * np.sqrt(low.gamma.max()) / np.sqrt(low.w.max())) for k in (6, 7, 8)]
            falls = values[2] < values[1] < values[0]
        outcomes.append((falls, "b outside the row space, and Φ did not fall"))
    return Finding(Tally.of(outcomes))


def convexity(effort: Effort) -> Finding:
    """λ_min(G) ≥ ½ ⇒ one local minimum, by enumeration; without it there can be several."""
    rng = effort.rng("T7 convexity")
    outcomes, several = [], 0
    for index in range(effort.size(200, 2000)):
        d = int(rng.integers(2, 6))
        spread = 0.15 if index % 2 else 1.0  # nearly orthogonal, or not at all
        factor = np.linalg.qr(rng.standard_normal((d, d)))[0] + spread * rng.standard_normal((d, d)) / np.sqrt(d)
        bound = QuadraticBound(factor, -2 * factor.T @ rng.standard_normal(d) * 2, 0.0, float(np.exp(rng.normal() - 1)))
        minima = effort.minima(bound)
        if minima is None:
            continue
        if check_convexity(bound).verdict == "convex":
            outcomes.append((len(minima) == 1, f"{len(minima)} minima of a convex Φ"))
        else:
            several += len(minima) > 1
    return Finding(Tally.of(outcomes), evidence={"not convex and with several minima": several})


def real_loss(effort: Effort) -> Finding:
    """Minimising J = g + Σρ itself: J never rises, and T2, T3 and T4a hold at its certified minima."""
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
        if report.verdict != "not applicable":
            outcomes.append((report.verdict == "holds", str(report)))
    evidence = {"largest rise of J (nats)": rise, "certified": f"{certified} of {tries}"}
    table = effort.table("real_loss_lenet_300_100.csv") if effort.mode == "full" else None
    if table is not None:
        for row in table.to_dict("records"):
            words = f"LeNet-300-100 {row['layer']}: {row['open_at_minimum']} open, soft rank {row['soft_rank_sharp']}"
            outcomes.append((row["verdict"] == "holds", words))
            evidence["recorded"] = words
    return Finding(Tally.of(outcomes), evidence=evidence, figure="real_loss_lenet_300_100.png")


def _opening(bound: QuadraticBound, mu: Array, j: int) -> float:
    """(a_jᵀr)²/w_j with r = β − Aμ: the price in nats below which gate j, closed at μ [d], opens."""
    return float((bound.smooth_gradient(mu)[j] / 2) ** 2 / bound.w[j])


def path(effort: Effort, opening: Callable[[QuadraticBound, Array, int], float] = _opening) -> Finding:
    """dμ/dγ is the stated one; a gate opens at γ = (a_jᵀr)²/w_j; every point of the path is certified."""
    rng = effort.rng("T7 path")
    outcomes, events, worst = [], 0, 0.0
    for _ in range(effort.size(50, 500)):
        bound = random_bound(rng, "gaussian", largest=8)
        top = 1.05 * check_closure(bound).local_price
        found = sparsity_path(bound, np.geomspace(top, top / 300, 20))
        outcomes.append((found.status == "certified", str(found)))
        opened = [event for event in found.events if event.kind == "opens" and len(event.opened) == 1]
        for event, mu in zip(opened, _just_before(bound, top, [event.gamma for event in opened]), strict=True):
            off = abs(opening(bound, mu, event.opened[0]) / event.gamma - 1)
            events, worst = events + 1, max(worst, off)
            outcomes.append((bool(off < 1e-5 and mu[event.opened[0]] == 0), f"{event}: price off by {off:.2g}"))
        middle = found.minima[10]
        gamma = float(found.gammas[10])
        steps = [find_local_minimum(bound.with_gamma(gamma * (1 + h)), middle.mu) for h in (-1e-5, 1e-5)]
        if all((np.sign(step.mu) == np.sign(middle.mu)).all() for step in steps):
            slope = path_slope(bound.with_gamma(gamma), middle.mu)
            difference = (steps[1].mu - steps[0].mu) / (2e-5 * gamma)
            error = float(np.abs(slope - difference).max() / max(float(np.abs(difference).max()), 1e-300))
            outcomes.append((error < 1e-4, f"slope off by {error:.2g} at γ = {gamma:.4g}"))
        outcomes.append((certify(bound.with_gamma(gamma), middle.mu).certified, "a point of the path"))
    evidence = {"gates opening": events, "largest relative error of the price of opening": worst}
    return Finding(Tally.of(outcomes), evidence=evidence, figure="sparsity_path.png")


def _just_before(bound: QuadraticBound, top: float, prices: list[float]) -> list[Array]:
    """The path's own minima, a relative 1e-7 above each price: a solve from afar can end on another branch."""
    stops = [price * (1 + 1e-7) for price in prices]
    return list(sparsity_path(bound, [top, *stops]).mu[1:])
