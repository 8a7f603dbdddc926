"""Deciders of the sparsity theorem: T2 (the poster's and the tight one), ‖μ‖₀ = ‖α‖₀, T3, T3c, T4a, T6.

Each takes the limit that it decides as an argument, so that a false one can be put in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from vibtheory.claims.claim import Finding, Tally
from vibtheory.claims.effort import FAMILIES, Effort, random_bound, random_start
from vibtheory.theory.certificate import certify
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.rank import numerical_rank
from vibtheory.theory.redundancy import CollinearityReport
from vibtheory.theory.softmax_loss import SoftmaxLoss
from vibtheory.theory.sparsity_report import SparsityReport

__all__ = ["angles", "certificates", "enumeration", "equal_counts", "full_rank", "only_minima", "survivors"]

Array = NDArray[np.float64]
Limit = Callable[[SparsityReport], int]


def survivors(effort: Effort, limit: Limit) -> Finding:
    """‖α*‖₀ ≤ `limit` at every certified minimum of the shared instances; what is not certified is not judged."""
    judged = [report for report in effort.reports if report.certificate.certified]
    tally = Tally.of(
        (report.nonzeros <= limit(report), f"{report.nonzeros} open gates, limit {limit(report)}, d = {report.d}")
        for report in judged
    )
    limits = np.array([limit(report) for report in judged])
    counts = np.array([report.nonzeros for report in judged])
    ranks = np.array([report.rank for report in judged])
    return Finding(tally, evidence={
        "certificates": dict(Counter(report.certificate.status for report in effort.reports)),
        "limit attained": int((counts == limits).sum()),
        "limit below rank[A]": int((limits < ranks).sum()),
        "limit at least d (vacuous)": int((limits >= np.array([report.live for report in judged])).sum()),
    }, figure="sparsity_path.png")  # fmt: skip


def equal_counts(effort: Effort) -> Finding:
    """‖μ*‖₀ = ‖α*‖₀: refuted where a column of A is zero and b_j = 0 (μ_j is then free), true on the others."""
    rng = effort.rng("equal counts")
    bare, corrected = [], []
    for index in range(effort.size(350, 3500)):
        bound = random_bound(rng, FAMILIES[index % len(FAMILIES)])
        minimum = find_local_minimum(bound, random_start(rng, bound))
        if not minimum.certificate.certified:
            continue
        free = bound.w == 0
        moved = np.where(free, 1.0, minimum.mu)  # as good a minimum wherever b_j = 0 too
        if bound.phi(moved) == bound.phi(minimum.mu) and certify(bound, moved).certified:
            words = f"column {np.flatnonzero(free)} of A is zero: {np.count_nonzero(moved)} means, {minimum.nonzeros} α"
            bare.append((np.count_nonzero(moved) == minimum.nonzeros, words))
        live = ~free
        corrected.append((np.count_nonzero(moved[live]) == np.count_nonzero(minimum.alpha[live]), "live columns"))
    return Finding(Tally.of(bare), Tally.of(corrected))


def full_rank(effort: Effort) -> Finding:
    """T3c: E[ffᵀ] ≻ 0 and v_jᵀBv_j > 0 make Böhning's A of full rank d, however few classes there are."""
    rng = effort.rng("full rank")
    outcomes = []
    for _ in range(effort.size(200, 2000)):
        d, classes, n = int(rng.integers(3, 25)), int(rng.integers(2, 11)), 400
        f = np.maximum(rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + rng.standard_normal(d), 0)
        problem = SoftmaxLoss(
            rng.standard_normal((classes, d)), np.zeros(classes), f, rng.integers(classes, size=n), 0.01
        )
        if np.linalg.matrix_rank(f) < d or (np.ptp(problem.V, axis=0) == 0).any():
            continue  # the premise does not hold
        rank = numerical_rank(problem.bound_at(np.ones(d))).rank
        outcomes.append((rank == d, f"rank {rank}, d = {d}, {classes} classes"))
    evidence = {}
    if effort.mode == "full":
        for name in ("check_lenet_300_100.csv", "check_lenet_5_caffe.csv"):
            table = effort.table(name)
            if table is not None:
                rows = table.dropna(subset=["rank"])
                evidence[f"{name}: bounds of full rank"] = f"{int((rows['rank'] == rows['d']).sum())} of {len(rows)}"
    return Finding(Tally.of(outcomes), evidence=evidence)


def angles(effort: Effort, limits: Callable[[CollinearityReport], Array] = lambda report: report.limits) -> Finding:
    """T4a: cos² of every pair of survivors stays below its limit, at every certified minimum with two or more."""
    pairs = [
        (report.collinearity, report.d)
        for report in effort.reports
        if report.certificate.certified and report.collinearity is not None and report.collinearity.worst_pair
    ]
    tally = Tally.of(
        (bool((found.squared_cosines <= limits(found) + 1e-12).all()), f"d = {d}, slack {found.slack:.3g}")
        for found, d in pairs
    )
    slack = min((found.slack for found, _ in pairs), default=float("nan"))
    return Finding(tally, evidence={"pairs": sum(found.limits.size for found, _ in pairs), "smallest slack": slack})


def _saddle(rng: np.random.Generator) -> tuple[QuadraticBound, Array]:
    """A stationary point with negative curvature on its support: two nearly collinear columns, both open."""
    cosine, gamma = rng.uniform(0.75, 0.99), 10.0 ** rng.uniform(-4, 1)
    factor = 10.0 ** rng.uniform(-3, 3) * np.array([[1.0, cosine], [0.0, np.sqrt(1 - cosine**2)]])
    mu = rng.uniform(0.01, 0.1) * np.ones(2) * np.sqrt(gamma) / factor[0, 0]
    flat = QuadraticBound(factor, np.zeros(2), 0.0, gamma)
    return QuadraticBound(factor, -flat.gradient(mu), 0.0, gamma), mu


def _beside(rng: np.random.Generator, bound: QuadraticBound, mu: Array) -> Iterator[Array]:
    """Points near μ on every gate's own scale."""
    unit = np.sqrt(bound.gamma) / np.sqrt(np.where(bound.w > 0, bound.w, 1.0))
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
            unit = np.sqrt(bound.gamma) / np.sqrt(np.where(bound.w > 0, bound.w, 1.0))
            away = minimum.mu + 0.01 * unit * rng.standard_normal(bound.d) * (bound.w > 0)
            outcomes.append((not certify(bound, away).certified, f"perturbed point {index}"))
            rounding = 1e-12 * (1 + abs(minimum.value) + float(np.abs(bound.b) @ np.abs(minimum.mu)))
            lower = any(bound.phi(near) < minimum.value - rounding for near in _beside(rng, bound, minimum.mu))
            outcomes.append((not lower, f"a lower point beside minimum {index}"))
    return Finding(Tally.of(outcomes), evidence={"certificates of the minima": dict(counts)})


def only_minima(effort: Effort) -> Finding:
    """‖·‖₀ ≤ rank[A] at whatever point a solver stops is false; at certified minima it holds (T6)."""
    rng = effort.rng("only minima")
    bare, corrected = [], []
    for index in range(effort.size(500, 5000)):
        bound = random_bound(rng, "low rank", largest=12)
        rank = numerical_rank(bound).rank
        start = random_start(rng, bound)
        cut = find_local_minimum(bound, start, max_iterations=index % 4)
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
    for index in range(effort.size(100, 1000)):
        bound = random_bound(rng, FAMILIES[index % len(FAMILIES)], largest=6)
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
