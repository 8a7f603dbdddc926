"""Deciders of T1 and of the sparsity theorem: T2 (as printed, and tight), its (μ, σ), ‖μ‖₀ = ‖α‖₀, T3, T3c, T4a.

Each takes the limit that it decides as an argument, so that a false one can be put in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import scipy.differentiate
import scipy.optimize
from numpy.typing import NDArray

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.instances import Effort, gate_units, random_bound, random_start
from vibtheory.theory.certificate import certify
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.penalty import optimal_variance, penalty, penalty_curvature, penalty_slope, snr
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.rank import numerical_rank
from vibtheory.theory.redundancy import CollinearityReport
from vibtheory.theory.softmax_loss import SoftmaxLoss
from vibtheory.theory.sparsity import SparsityReport

__all__ = ["angles", "equal_counts", "full_rank", "in_mean_and_variance", "profiled_penalty", "survivors"]

Array = NDArray[np.float64]
Limit = Callable[[SparsityReport], int]


def profiled_penalty(effort: Effort) -> Finding:
    """σ², α, ρ, its slope and curvature at random (μ, w, γ) over nine decades; ρ is strictly concave in |μ|."""
    rng = effort.rng("T1")
    outcomes, worst = [], 0.0
    for _ in range(effort.size(1000, 10000)):
        w, gamma = 10.0 ** rng.uniform(-4, 4), 10.0 ** rng.uniform(-4, 1)
        mu = np.sqrt(gamma / w) * 10.0 ** rng.uniform(-2, 2)
        bound = QuadraticBound([[np.sqrt(w)]], [0.0], 0.0, gamma)
        variance, rho = float(optimal_variance(mu, w, gamma)), float(penalty(mu, w, gamma))
        best = scipy.optimize.minimize_scalar(
            lambda s, g=bound, m=mu: (g.objective([m], [np.exp(s / 2)]) - g.value([m])) / g.gamma[0],
            bracket=(np.log(variance) - 1, np.log(variance) + 1), options={"xtol": 1e-12},
        )  # fmt: skip
        slope, curvature = (
            float(scipy.differentiate.derivative(function, mu, initial_step=mu / 4, args=(w, gamma)).df)
            for function in (penalty, penalty_slope)
        )
        errors = {
            "penalty": abs(best.fun * gamma / rho - 1),
            "variance": abs(np.exp(best.x) / variance - 1) / 1e3,  # a minimiser is known to half the digits
            "snr": abs(float(snr(mu, w, gamma)) / (mu**2 / variance) - 1),
            "slope": abs(slope / float(penalty_slope(mu, w, gamma)) - 1),
            "curvature": abs(curvature / float(penalty_curvature(mu, w, gamma)) - 1),
        }
        name = max(errors, key=errors.__getitem__)
        worst = max(worst, errors[name])
        held = errors[name] < 1e-8 and float(penalty_curvature(mu, w, gamma)) < 0
        outcomes.append((held, f"{name} at μ = {mu:.3g}, w = {w:.3g}, γ = {gamma:.3g}: {errors[name]:.2g}"))
    evidence = {"largest relative error": worst}
    return Finding(Tally.of(outcomes, independent=True), evidence=evidence, figure="penalty_comparison.png")


def survivors(effort: Effort, limit: Limit, *, tight: bool = False) -> Finding:
    """‖α*‖₀ ≤ `limit` at every certified minimum of the shared instances; what is not certified is not judged.

    `tight`: that the limit is attained somewhere, with gates to spare, is part of the claim.
    """
    judged = [report for report in effort.reports if report.certificate.certified]
    outcomes = [
        (report.nonzeros <= limit(report), f"{report.nonzeros} open gates, limit {limit(report)}, d = {report.d}")
        for report in judged
    ]
    limits = np.array([limit(report) for report in judged])
    counts = np.array([report.nonzeros for report in judged])
    ranks = np.array([report.rank for report in judged])
    live = np.array([report.live for report in judged])
    attained = int(((counts == limits) & (counts < live)).sum())
    missed = len(effort.reports) - len(judged)  # one that broke the bound would not certify
    outcomes.append((missed <= 0.01 * len(effort.reports), f"{missed} of {len(effort.reports)} did not certify"))
    if tight:
        outcomes.append((attained > 0, "attained nowhere but where every gate is open"))
    return Finding(Tally.of(outcomes), evidence={
        "certificates": dict(Counter(report.certificate.status for report in effort.reports)),
        "limit attained": int((counts == limits).sum()), "limit attained, not all gates open": attained,
        "limit below rank[A]": int((limits < ranks).sum()), "limit at least d (vacuous)": int((limits >= live).sum()),
    })  # fmt: skip


def _descent(rng: np.random.Generator, bound: QuadraticBound) -> tuple[Array, Array, float] | None:
    """(μ, σ) and the objective where a generic optimiser ends, which knows of no Φ; None where it gives up.

    In μ and log σ, in units of √(γ/w). A gate that closes takes μ and σ to 0 together: the infimum lies at log σ = −∞,
    so the smallest σ is held at e⁻⁹.
    """
    unit, d, least = gate_units(bound), bound.d, float(bound.gamma.min())

    def objective(point: Array) -> tuple[float, Array]:
        mu, variance = unit * point[:d], (unit * np.exp(point[d:])) ** 2
        half = bound.gram @ mu
        data = bound.c + bound.b @ mu + mu @ half + bound.w @ variance
        price = bound.gamma @ np.log1p(mu**2 / variance)  # of slope 2μ·share in μ, −2μ²·share in log σ
        share = bound.gamma / (mu**2 + variance)
        slope = unit * (2 * half + bound.b + 2 * mu * share)
        return float(data + price) / least, np.concatenate([slope, 2 * (bound.w * variance - mu**2 * share)]) / least

    point = np.concatenate([rng.standard_normal(d) * 10.0 ** rng.uniform(-1, 1, d), rng.normal(-1, 1, d)])
    limits = [(None, None)] * d + [(-9.0, 3.0)] * d
    for _ in range(20):  # restarts: it stops early in the narrow valley of a gate that closes
        found = scipy.optimize.minimize(
            objective, point, jac=True, method="L-BFGS-B", bounds=limits,
            options={"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-16, "gtol": 1e-10},
        )  # fmt: skip
        if np.abs(found.x - point).max() < 1e-6:
            return unit * found.x[:d], unit * np.exp(found.x[d:]), float(found.fun * least)
        point = found.x
    return None


def in_mean_and_variance(effort: Effort) -> Finding:
    """Minima in (μ, σ) are Φ's: descent in (μ, σ) ends at an enumerated minimum, and none falls from one of those.

    And without any certificate: where such a descent ends, at most rank[A] gates are open (|μ| > 0.01·√(γ/w)).
    """
    rng = effort.rng("T2 mu sigma")
    outcomes: list[Outcome] = []
    unfinished = 0
    for index in range(effort.size(30, 300)):
        bound = random_bound(rng, ("gaussian", "low rank", "prices differ")[index % 3], largest=4)
        minima, unit = effort.minima(bound), gate_units(bound)
        if minima is None:
            continue
        found = _descent(rng, bound)
        if found is None:
            unfinished += 1
            continue
        mu, sigma, value = found
        near = min(minima, key=lambda minimum: float(np.abs((minimum.mu - mu) / unit).max()))
        close = all(
            np.abs((ours - theirs) / unit).max() < 1e-2 for ours, theirs in ((mu, near.mu), (sigma, near.sigma))
        )
        above = (value - near.value) / float(bound.gamma.min())
        words = (
            f"descent to μ {np.round(mu / unit, 4)}, σ {np.round(sigma / unit, 4)}, {above:.2g} γ above the nearest "
        )
        words += f"minimum: μ {np.round(near.mu / unit, 4)}, σ {np.round(near.sigma / unit, 4)}"
        outcomes.append((bool(close and abs(above) <= 1e-4), words))
        for minimum in minima:
            sigma = np.maximum(minimum.sigma, 1e-3 * unit)
            beside = (
                bound.objective(minimum.mu + 1e-3 * unit * rng.standard_normal(bound.d),
                                sigma * np.exp(1e-3 * rng.standard_normal(bound.d)))
                for _ in range(50)
            )  # fmt: skip
            outcomes.append((min(beside) >= minimum.value - 1e-12 * (1 + abs(minimum.value)), f"lower than {minimum}"))
    tight = 0
    for _ in range(effort.size(15, 150)):
        bound = random_bound(rng, "low rank", largest=10)
        found = _descent(rng, bound)
        if found is None:
            unfinished += 1
            continue
        count, rank = int((np.abs(found[0]) > 0.01 * gate_units(bound)).sum()), numerical_rank(bound).rank
        tight += count == rank < bound.d
        outcomes.append((count <= rank, f"descent ends with {count} open gates, rank {rank}, d = {bound.d}"))
    evidence = {"descents that did not come to rest": unfinished, "descents that end with rank[A] < d open": tight}
    return Finding(Tally.of(outcomes), evidence=evidence)


def equal_counts(effort: Effort) -> Finding:
    """‖μ*‖₀ = ‖α*‖₀: refuted where a column of A is zero and b_j = 0 (μ_j is then free), true on the others.

    α from the best of 2,000 values of σ, over 16 decades, and not from the closed form.
    """
    rng = effort.rng("equal counts")
    bare, corrected = [], []
    steps = np.geomspace(1e-8, 1e8, 2000)[:, None]
    for bound in effort.bounds(rng, 350, 3500):
        minimum = find_local_minimum(bound, random_start(rng, bound))
        if not minimum.certificate.certified:
            continue
        free = bound.w == 0
        moved = np.where(free, 1.0, minimum.mu)  # as good a minimum wherever b_j = 0 too
        if bound.phi(moved) == bound.phi(minimum.mu) and certify(bound, moved).certified:
            words = f"column {np.flatnonzero(free)} of A is zero: {np.count_nonzero(moved)} means, {minimum.nonzeros} α"
            bare.append((np.count_nonzero(moved) == minimum.nonzeros, words))
        live = ~free
        scale, mu = gate_units(bound)[live] * steps, moved[live]
        cost = bound.gamma[live] * np.log1p((mu / scale) ** 2) + bound.w[live] * scale**2
        best = np.take_along_axis(scale, cost.argmin(axis=0)[None], axis=0)[0]
        settled = (best > scale[0]) & (best < scale[-1])  # 0 < σ < ∞: then α = 0 only where μ = 0
        words = f"{np.count_nonzero(mu)} means, {int((settled & (mu != 0)).sum())} of them at a finite noise"
        corrected.append((bool((settled == (mu != 0)).all()) and np.count_nonzero(mu) == minimum.nonzeros, words))
    return Finding(Tally.of(bare), Tally.of(corrected))


def full_rank(effort: Effort) -> Finding:
    """T3c: E[ffᵀ] ≻ 0 and v_jᵀBv_j > 0 make Böhning's A of full rank d, however few classes there are.

    On trained networks: of full rank on the units that are not dead, so the rank bound is vacuous.
    """
    rng = effort.rng("full rank")
    outcomes: list[Outcome] = []
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
    recorded: list[Outcome] = []
    evidence = {}
    for name in ("check_lenet_300_100.csv", "check_lenet_5_caffe.csv"):
        for row in effort.rows(name, ("layer", "kind", "rank", "vacuous"), ("rank", "vacuous")):
            if row["kind"] == "bohning" and row["rank"] == row["rank"]:
                words = f"{name} {row['layer']}"
                evidence[words] = f"rank {row['rank']:g}: {'' if row['vacuous'] else 'not '}vacuous"
                recorded.append((bool(row["vacuous"]), f"{words}: {evidence[words]}"))
    return Finding(Tally.of(outcomes, independent=True) + Tally.of(recorded), evidence=evidence)


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
