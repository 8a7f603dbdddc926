"""Deciders of T7, "Path": how the minimum moves with γ, where gates open, and where it jumps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.instances import Effort, random_bound
from vibtheory.theory.certificate import certify
from vibtheory.theory.landscape import check_closure
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.path import path_slope, sparsity_path
from vibtheory.theory.penalty import snr
from vibtheory.theory.quadratic import QuadraticBound

__all__ = ["jumps", "slope_and_openings"]

Array = NDArray[np.float64]
Index = NDArray[np.intp]


def _opening(bound: QuadraticBound, mu: Array, j: int) -> float:
    """(a_jᵀr)²/w_j with r = β − Aμ: the price in nats below which gate j, closed at μ [d], opens."""
    return float((bound.smooth_gradient(mu)[j] / 2) ** 2 / bound.w[j])


def slope_and_openings(effort: Effort, opening: Callable[[QuadraticBound, Array, int], float] = _opening) -> Finding:
    """dμ/dγ is the stated one; a gate opens at γ = (a_jᵀr)²/w_j; every point of the path is certified."""
    rng = effort.rng("T7 path")
    outcomes, events, worst = [], 0, 0.0
    for _ in range(effort.size(50, 500)):
        bound = random_bound(rng, "gaussian", largest=8)
        top = 1.05 * check_closure(bound).local_price
        found = sparsity_path(bound, np.geomspace(top, top / 300, 20))
        outcomes.append((found.status == "certified", str(found)))
        opened = [event for event in found.events if event.kind == "opens" and len(event.opened) == 1]
        # the path's own minima just before: a solve from afar can end on another branch
        before = sparsity_path(bound, [top, *(event.gamma * (1 + 1e-7) for event in opened)]).mu[1:]
        for event, mu in zip(opened, before, strict=True):
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


def _least_curvature(bound: QuadraticBound, mu: Array, support: Index) -> float:
    """λ_min of Φ's Hessian on `support` in units of every column, 2(G − diag 1/(2+α)); inf where it is empty."""
    if not support.size:
        return np.inf
    root = np.sqrt(bound.w[support])
    g = bound.gram[np.ix_(support, support)] / np.outer(root, root)
    alpha = snr(mu[support], bound.w[support], bound.gamma[support])
    return float(2 * np.linalg.eigvalsh(g - np.diag(1 / (2 + alpha)))[0])


def jumps(effort: Effort, flat: float = 1e-3) -> Finding:
    """Where the path over γ jumps, followed down and up.

    Bare: only where λ_min(H_S) = 0. Corrected: there, or where a gate that reaches its price opens onto negative
    curvature, λ_min(H_{S∪j}) < 0; and a gate that opens without a jump opens onto positive curvature.
    """
    rng = effort.rng("T7 jumps")
    bare: list[Outcome] = []
    corrected: list[Outcome] = []
    counts: Counter[str] = Counter()
    for index in range(effort.size(60, 600)):
        bound = random_bound(rng, ("gaussian", "low rank", "spectrum 1/k^2")[index % 3], largest=8)
        top = check_closure(bound).local_price
        if top == 0:
            continue
        prices, beyond = np.geomspace(1.05 * top, top / 300, 20), 1.0
        if index % 2:
            prices, beyond = prices[::-1], -1.0
        events = sparsity_path(bound, prices).events
        stops = [float(prices[0]), *(event.gamma * (1 + 1e-9 * beyond) for event in events)]
        for event, mu in zip(events, sparsity_path(bound, stops).mu[1:], strict=True):
            here, support = bound.with_gamma(event.gamma), np.flatnonzero(mu)
            slack = 1 - np.abs(here.smooth_gradient(mu)) / (2 * np.sqrt(here.gamma * here.w))
            at_price = np.flatnonzero((mu == 0) & (slack < 1e-5))
            on, wider = (_least_curvature(here, mu, s) for s in (support, np.union1d(support, at_price)))
            words = f"{event}: λ_min {on:.2g} on the open gates, {wider:.2g} with those at their price"
            if event.kind == "jumps":
                by_opening = bool(on >= flat and at_price.size and wider < flat)
                bare.append((on < flat, words))
                corrected.append((on < flat or by_opening, words))
                counts["jumps by an opening gate" if by_opening else "jumps where λ_min(H_S) = 0"] += 1
            elif event.kind == "opens" and at_price.size == 1:  # proportional gates reach theirs together, one opens
                corrected.append((wider > 0, words))
                counts["gates opening without a jump"] += 1
    return Finding(Tally.of(bare), Tally.of(corrected), dict(counts), "sparsity_path.png")
