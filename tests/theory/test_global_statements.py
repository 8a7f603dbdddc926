"""T4a and T7 at non-unit scales; truth by sampling, closed forms and explicit factors."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from vibtheory.errors import InvalidInputError
from vibtheory.theory.landscape import check_budget, check_closure, check_convexity, check_existence, survivor_limit
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.network_report import check_joint_sparsity
from vibtheory.theory.penalty import penalty
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.redundancy import bohning_cosines, check_collinearity, collinearity_limit
from vibtheory.theory.sparsity import SparsityReport


def instance(seed: int, gamma: float, m: int = 6, d: int = 9) -> QuadraticBound:
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(m, d)) * rng.uniform(0.05, 20, size=d)
    return QuadraticBound(A, -2 * A.T @ rng.normal(size=m) * 4, 3.0, gamma * rng.uniform(1, 3, size=d))


CASES = [(seed, gamma) for seed in range(5) for gamma in (0.03, 0.5, 4.0)]


@pytest.mark.parametrize(("seed", "gamma"), CASES)
def test_t4a_and_budget_hold_at_certified_minima(seed: int, gamma: float) -> None:
    bound = instance(seed, gamma)
    minimum = find_local_minimum(bound)
    assert minimum.certificate.certified
    collinear = check_collinearity(bound, minimum)
    assert collinear.verdict == "holds"
    for (i, j), squared in zip(
        [(i, j) for a, i in enumerate(collinear.support) for j in collinear.support[a + 1 :]],
        collinear.squared_cosines,
        strict=True,
    ):
        a, b = bound.A[:, i], bound.A[:, j]  # type: ignore[index]
        assert squared == pytest.approx((a @ b) ** 2 / (a @ a) / (b @ b), abs=1e-12)
    report = check_budget(bound, minimum, level=1.0)
    assert report.verdict == "holds"
    alpha = minimum.alpha
    assert report.spent == pytest.approx(np.sum(bound.gamma * alpha / (1 + alpha)), rel=1e-9, abs=1e-12)
    assert report.earned == pytest.approx(report.spent, rel=1e-7, abs=1e-12)
    assert report.count == np.sum(alpha >= 1) <= report.count_limit


def test_t4a_is_not_judged_without_a_certificate_and_sees_a_violation() -> None:
    bound = QuadraticBound([[3.0, 6.0], [0.0, 0.0]], [-40.0, -80.0], 0.0, 0.1)
    found = find_local_minimum(bound)
    assert found.certificate.certified
    assert found.nonzeros == 1  # collinear columns: never both

    class Claimed:
        def __init__(self, status: str) -> None:
            self.mu = np.array([1.0, 1.0])
            self.certificate = replace(found.certificate, status=status, radius=0.0)

    assert check_collinearity(bound, Claimed("not converged")).verdict == "not applicable"
    forged = check_collinearity(bound, Claimed("certified local minimum"))
    assert forged.verdict == "violated"
    assert forged.worst_pair == (0, 1)
    with pytest.raises(InvalidInputError, match=r"minimum\.mu"):
        check_collinearity(instance(0, 1.0), Claimed("not converged"))


def test_collinearity_limit_closed_form() -> None:
    assert collinearity_limit(0.0, 0.0) == pytest.approx(0.25)
    assert collinearity_limit(3.0, 8.0) == pytest.approx(4 * 9 / (5 * 10))


def test_bohning_cosines_are_those_of_an_explicit_factor() -> None:
    rng = np.random.default_rng(3)
    V, f = rng.normal(size=(4, 5)) * 7, rng.normal(size=(30, 5)) * rng.uniform(0.01, 9, size=5)
    B = 0.5 * (np.eye(4) - 0.25)
    root = np.linalg.cholesky(B + 1e-14 * np.eye(4)).T
    A = np.vstack([root @ V * row for row in f])  # AᵀA = Σ_n D VᵀBV D
    norms = np.linalg.norm(A, axis=0)
    np.testing.assert_allclose(bohning_cosines(V, f).columns, A.T @ A / np.outer(norms, norms), atol=1e-10)


def test_budget_refuses_a_point_that_is_not_stationary() -> None:
    bound = instance(1, 0.5)
    assert check_budget(bound, np.ones(bound.d)).verdict == "not applicable"


def test_budget_is_attained_by_one_gate_and_more_is_violated() -> None:
    """(β − μ)μ is largest at μ = β/2, where the garrote puts it for γ = β²/2."""
    bound = QuadraticBound([[1.0]], [-4.0], 0.0, 2.0)
    minimum = find_local_minimum(bound)
    report = check_budget(bound, minimum)
    assert (report.verdict, report.spent, report.ceiling) == ("holds", pytest.approx(1.0), pytest.approx(1.0))
    bound.__dict__["_beta"] = (0.9 * bound.beta(), 0.0)  # a β that is none
    assert check_budget(bound, minimum, level=1e-6).verdict == "violated"


def test_budget_and_theorem_hold_at_certified_minima_of_ill_conditioned_factors() -> None:
    """Hilbert and Vandermonde: ‖Aμ‖² is many digits below ‖|A||μ|‖², which is what rounding scales with."""
    certified = 0
    for d in (3, 4, 5):
        hilbert = 1 / (1.0 + np.arange(d)[:, None] + np.arange(d))
        for kind, A in enumerate(
            (hilbert, np.vander(np.linspace(0.1, 1, d + 1), d), np.vander(np.arange(1.0, d + 1), d))
        ):
            for size, gamma, seed in itertools.product((1, 100), (1e-4, 0.01, 1.0), range(10)):
                beta = np.random.default_rng([seed, d, kind]).normal(size=len(A))
                beta *= size / np.linalg.norm(beta)
                b = -2 * A.T @ beta
                bound = (
                    QuadraticBound(A, b, 0.0, gamma) if seed % 2 else QuadraticBound.from_gram(A.T @ A, b, 0.0, gamma)
                )
                minimum = find_local_minimum(bound, np.linalg.lstsq(A, beta, rcond=None)[0], max_iterations=300)
                if not minimum.certificate.certified:
                    continue
                certified += 1
                report = check_budget(bound, minimum)
                assert report.verdict == "holds", (A, beta, gamma, str(report))
                assert check_collinearity(bound, minimum).verdict == "holds"
                assert not (check_closure(bound).always_closed & (minimum.alpha > 0)).any()
    assert certified >= 500


def test_survivor_limit_is_attained_by_orthogonal_columns() -> None:
    # A = s·I, b = −2sβ: each gate alone has 1 + α = β²/γ (garrote), so all d are open with α = 1 at β² = 2γ,
    # where ‖β‖²(1+a)/(4aγ) = d·2γ·2/(4γ) = d.
    for d in (1, 4, 7):
        gamma, s = 0.3, 5.0
        bound = QuadraticBound(s * np.eye(d), np.full(d, -2 * s * np.sqrt(2 * gamma)), 0.0, gamma)
        assert survivor_limit(bound, 1.0) == d
        assert find_local_minimum(bound).alpha == pytest.approx(np.ones(d), rel=1e-6)


def test_closure_prices_separate_what_they_claim() -> None:
    bound = instance(2, 1.0)
    report = check_closure(bound)
    local = check_closure(bound.with_gamma(report.local_price * 1.001))
    assert local.verdict == "strict local minimum"
    assert check_closure(bound.with_gamma(report.local_price * 0.999)).verdict == "not a local minimum"
    assert check_closure(bound.with_gamma(report.global_price * 1.001)).verdict == "only stationary point"
    rng = np.random.default_rng(0)
    for scale, expected in ((1.001, True), (0.999, False)):
        tried = bound.with_gamma(report.local_price * scale)
        steps = rng.normal(size=(4000, bound.d)) / np.sqrt(bound.w) * 1e-5
        single = np.eye(bound.d) * (-np.sign(bound.b) * 1e-5 / np.sqrt(bound.w))
        rises = [tried.phi(step) > tried.phi(np.zeros(bound.d)) for step in (*steps, *single)]
        assert all(rises) is expected
    above = bound.with_gamma(report.global_price * 1.001)
    for _ in range(20):
        start = rng.normal(size=bound.d) * 5 / np.sqrt(bound.w)
        assert find_local_minimum(above, start=start).nonzeros == 0
    tie = QuadraticBound([[2.0]], [-4.0], 0.0, 1.0)  # b²/(4w) = 1
    assert check_closure(QuadraticBound(np.diag([2.0, 2.0]), [-4.0, -4.0], 0.0, 1.0)).verdict == "tie"
    assert check_closure(tie).verdict == "only stationary point"


def test_existence_box_holds_the_minimum_and_inverts_the_penalty() -> None:
    bound = instance(4, 0.5)
    report = check_existence(bound)
    assert report.verdict == "coercive"
    assert (np.abs(find_local_minimum(bound).mu) <= report.box).all()
    np.testing.assert_allclose(penalty(report.box, bound.w, bound.gamma), bound.beta_norm() ** 2, rtol=1e-9)
    least = bound.c - bound.b @ np.linalg.lstsq(bound.gram, bound.b, rcond=None)[0] / 4  # of ḡ alone
    assert report.lower_bound == pytest.approx(least, rel=1e-9)
    assert check_existence(QuadraticBound([[1.0, 0.0]], [3.0, 0.0])).verdict == "bounded"
    assert check_existence(QuadraticBound([[1.0, 1.0]], [1.0, -1.0])).verdict == "unbounded below"


@pytest.mark.parametrize(("cosine", "verdict"), [(0.49, "convex"), (0.51, "not convex"), (0.5, "undecided")])
def test_convexity_threshold(cosine: float, verdict: str) -> None:
    gram = np.array([[9.0, 9.0 * cosine * 2], [9.0 * cosine * 2, 36.0]])  # λ_min(G) = 1 − cosine
    report = check_convexity(QuadraticBound.from_gram(gram, np.zeros(2), 0.0, 0.7))
    assert report.verdict == verdict
    assert report.min_eigenvalue == pytest.approx(1 - cosine)


def test_joint_sparsity_sums_layers() -> None:
    def layer(verdict: str, nonzeros: int, rank: int) -> object:
        claimed = {"__init__": lambda _: None, "verdict": verdict, "nonzeros": nonzeros, "rank": rank}
        return type("Claimed", (SparsityReport,), claimed)()

    holds = check_joint_sparsity([layer("holds", 3, 4), layer("holds", 5, 5)])  # type: ignore[list-item]
    assert (holds.verdict, holds.nonzeros, holds.rank, holds.slack) == ("holds", 8, 9, 1)
    assert check_joint_sparsity([layer("holds", 6, 4)]).verdict == "violated"  # type: ignore[list-item]
    assert check_joint_sparsity([layer("not applicable", 1, 4)]).verdict == "not applicable"  # type: ignore[list-item]
