"""Deciders of T6: what certifies and what must not, how far off a certified point can be, and enumeration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vibtheory.claims.claim import Finding, Tally
from vibtheory.claims.instances import FAMILIES, Effort, gate_units, random_bound, random_start
from vibtheory.theory.certificate import certify
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.rank import numerical_rank

__all__ = ["certificates", "enumeration", "only_minima", "radius"]

Array = NDArray[np.float64]


def _saddle(rng: np.random.Generator) -> tuple[QuadraticBound, Array]:
    """A stationary point with negative curvature on its support: two nearly collinear columns, both open."""
    cosine, gamma = rng.uniform(0.75, 0.99), 10.0 ** rng.uniform(-4, 1)
    factor = 10.0 ** rng.uniform(-3, 3) * np.array([[1.0, cosine], [0.0, np.sqrt(1 - cosine**2)]])
    mu = rng.uniform(0.01, 0.1) * np.ones(2) * np.sqrt(gamma) / factor[0, 0]
    flat = QuadraticBound(factor, np.zeros(2), 0.0, gamma)
    return QuadraticBound(factor, -flat.gradient(mu), 0.0, gamma), mu


def _beside(rng: np.random.Generator, bound: QuadraticBound, mu: Array) -> Iterator[Array]:
    """Points near μ on every gate's own scale."""
    unit = gate_units(bound)
    for _ in range(60):
        yield mu + 1e-4 * unit * rng.standard_normal(bound.d) * np.where(rng.random() < 0.5, 1.0, mu != 0)


def certificates(effort: Effort) -> Finding:
    """T6: saddles, ties and perturbed points never certify; beside a certified minimum Φ is nowhere lower."""
    rng = effort.rng("certificates")
    factor = np.array([[1.0, 0.95], [0.0, np.sqrt(1 - 0.95**2)]])
    tie = QuadraticBound(factor, np.zeros(2), 0.0, 1.0)
    at = np.array([0.3, 0.0])
    b = np.array([-tie.gradient(at)[0], -2.0 - tie.smooth_gradient(at)[1]])  # gradient 0 on S, exactly −2 off it
    outcomes = [(not certify(QuadraticBound(factor, b, 0.0, 1.0), at).certified, "the tie of T6")]
    counts: Counter[str] = Counter()
    for index in range(effort.size(350, 3500)):
        outcomes.append((not certify(*_saddle(rng)).certified, f"saddle {index}"))
        bound = random_bound(rng, FAMILIES[index % len(FAMILIES)])
        minimum = find_local_minimum(bound, random_start(rng, bound))
        counts[minimum.certificate.status] += 1
        if minimum.certificate.certified:
            away = minimum.mu + 0.01 * gate_units(bound) * rng.standard_normal(bound.d) * (bound.w > 0)
            outcomes.append((not certify(bound, away).certified, f"perturbed point {index}"))
            rounding = 1e-12 * (1 + abs(minimum.value) + float(np.abs(bound.b) @ np.abs(minimum.mu)))
            lower = any(bound.phi(near) < minimum.value - rounding for near in _beside(rng, bound, minimum.mu))
            outcomes.append((not lower, f"a lower point beside minimum {index}"))
    return Finding(Tally.of(outcomes), evidence={"certificates of the minima": dict(counts)})


def radius(effort: Effort, shrink: float = 1.0) -> Finding:
    """T6, Kantorovich: an exact minimum lies within 2η of every certified point, in x = μ√(w/γ₀).

    Put to certified points that were moved off a minimum, by 1e-14…1e-8 of a gate's scale; the minimum itself is known
    to rounding.
    """
    rng = effort.rng("radius")
    outcomes, widest = [], 0.0
    for bound in effort.bounds(rng, 350, 3500):
        minimum = find_local_minimum(bound, random_start(rng, bound))
        if not minimum.certificate.certified or minimum.nonzeros == 0:
            continue
        away = 10.0 ** rng.uniform(-14, -8) * gate_units(bound) * rng.standard_normal(bound.d)
        moved = minimum.mu + away * (minimum.alpha > 0)
        found = certify(bound, moved)
        if found.certified:
            distance = float(np.linalg.norm((moved - minimum.mu) * np.sqrt(bound.w / bound.gamma.min())))
            limit = shrink * found.radius + minimum.certificate.radius
            widest = max(widest, distance / limit)
            outcomes.append((distance <= limit, f"minimum {distance:.3g} away, 2η = {found.radius:.3g}"))
    return Finding(Tally.of(outcomes, independent=True), evidence={"largest share of 2η that was needed": widest})


def only_minima(effort: Effort) -> Finding:
    """‖·‖₀ ≤ rank[A] at whatever point a solver stops is false; at certified minima it holds (T6)."""
    rng = effort.rng("only minima")
    bare, corrected = [], []
    for index in range(effort.size(500, 5000)):
        bound = random_bound(rng, "low rank", largest=12)
        rank = numerical_rank(bound).rank
        start = random_start(rng, bound)
        cut = find_local_minimum(bound, start, max_iterations=1 + index % 4)
        whole = find_local_minimum(bound, start)
        words = f"{cut.nonzeros} open gates after {cut.iterations} steps, rank {rank}, {cut.certificate.status}"
        bare.append((cut.nonzeros <= rank, words))
        for found in (cut, whole):
            if found.certificate.certified:
                corrected.append((found.nonzeros <= rank, f"{found.nonzeros} open gates, rank {rank}"))
    return Finding(Tally.of(bare), Tally.of(corrected))


def enumeration(effort: Effort) -> Finding:
    """T6: every minimum that descent finds from a random start is among those enumerated."""
    rng = effort.rng("enumeration")
    outcomes, several = [], 0
    for index, bound in enumerate(effort.bounds(rng, 100, 1000, largest=6)):
        minima = effort.minima(bound)
        if minima is None:
            continue
        known = {tuple(np.sign(minimum.mu)) for minimum in minima}
        several += len(known) > 1
        for _ in range(10):
            minimum = find_local_minimum(bound, random_start(rng, bound))
            if minimum.certificate.certified:
                signs = tuple(np.sign(minimum.mu * (bound.w > 0)))
                outcomes.append((signs in known, f"instance {index}: signs {signs} not enumerated"))
    return Finding(Tally.of(outcomes), evidence={"instances with several minima": several})
