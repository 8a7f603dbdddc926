"""Discrete bottleneck against closed forms, a cvxpy linear program on a grid, and enumeration of all partitions."""

from __future__ import annotations

import itertools

import cvxpy as cp
import numpy as np
import pytest
from scipy.special import entr

from vibtheory.information.bottleneck import blahut_arimoto, deterministic_bottleneck, stability_beta
from vibtheory.information.bottleneck_curve import exact_ib_curve, ib_curve

JOINT = np.random.default_rng(0).dirichlet(np.full(16, 0.6)).reshape(4, 4)


def _binary_entropy(p):
    return entr(p) + entr(1 - p)


def _information(joint):
    return entr(joint.sum(0)).sum() + entr(joint.sum(1)).sum() - entr(joint).sum()


def _grid_lp(joint, rate, steps=24):
    """max I(T;Y) with I(T;X) ≤ rate over a grid of p(x|t): the curve from below, by cvxpy."""
    p_x = joint.sum(1)
    n = joint.shape[0]
    q = np.array([c for c in itertools.product(range(steps + 1), repeat=n) if sum(c) == steps]) / steps
    q = np.vstack([q, p_x])
    w = cp.Variable(len(q), nonneg=True)
    cost = entr(q @ (joint / p_x[:, None])).sum(1)
    problem = cp.Problem(cp.Minimize(cost @ w), [q.T @ w == p_x, entr(q).sum(1) @ w >= entr(p_x).sum() - rate])
    problem.solve(solver=cp.HIGHS)
    return entr(joint.sum(0)).sum() - problem.value


@pytest.mark.parametrize("flip", [0.11, 0.3])
def test_binary_symmetric_channel_is_mrs_gerbers_lemma(flip):
    joint = np.array([[1 - flip, flip], [flip, 1 - flip]]) / 2
    a = np.array([0.4, 0.25, 0.1])
    rates = np.log(2) - _binary_entropy(a)
    truth = np.log(2) - _binary_entropy(a * (1 - flip) + (1 - a) * flip)
    exact = exact_ib_curve(joint, rates)
    assert exact.status == "solved"
    np.testing.assert_allclose(exact.i_ty, truth, atol=1e-8)
    # β is the slope dI(T;X)/dI(T;Y), so that Blahut–Arimoto at that β lands on the same point.
    crossed = a * (1 - flip) + (1 - a) * flip
    betas = np.log((1 - a) / a) / ((1 - 2 * flip) * np.log((1 - crossed) / crossed))
    np.testing.assert_allclose(exact.betas, betas, rtol=1e-3)
    for beta, rate, value in zip(betas, rates, truth, strict=True):
        found = blahut_arimoto(joint, float(beta))
        np.testing.assert_allclose([found.i_tx, found.i_ty], [rate, value], atol=1e-8)


def test_erasure_channel_is_a_line():
    joint = np.array([[0.7, 0, 0.3], [0, 0.7, 0.3]]) * np.array([[0.35], [0.65]])
    rates = np.array([0.1, 0.3, 0.6])
    np.testing.assert_allclose(exact_ib_curve(joint, rates).i_ty, 0.7 * rates, atol=1e-8)


def test_blahut_arimoto_lies_on_the_exact_curve_and_the_grid_program_just_below():
    curve = ib_curve(JOINT, [3.0, 5.5, 9.0, 20.0])
    kept = curve.i_tx > 1e-6
    exact = exact_ib_curve(JOINT, curve.i_tx[kept])
    np.testing.assert_allclose(curve.i_ty[kept], exact.i_ty, atol=1e-7)
    assert exact.gap.max() < 1e-7
    for rate, value in zip(exact.i_tx, exact.i_ty, strict=True):
        below = _grid_lp(JOINT, rate)
        assert below <= value + 1e-7
        assert below >= value - 2e-3
    np.testing.assert_allclose(curve.limit_y, _information(JOINT), atol=1e-12)
    assert curve.relevance(0.0) == 0
    assert "nats" in str(curve)
    assert list(curve.to_frame().columns) == ["beta", "i_tx", "i_ty", "gap", "method"]


def test_solution_matches_its_encoder():
    found = blahut_arimoto(JOINT, 7.0)
    p_tx = JOINT.sum(1)[:, None] * found.encoder
    assert found.status == "converged"
    np.testing.assert_allclose(found.encoder.sum(1), 1)
    np.testing.assert_allclose(found.i_tx, _information(p_tx), atol=1e-12)
    np.testing.assert_allclose(found.i_ty, _information(found.encoder.T @ JOINT), atol=1e-12)
    np.testing.assert_allclose(found.objective, found.i_tx - 7 * found.i_ty, atol=1e-12)
    assert blahut_arimoto(JOINT, 1.0).i_tx < 1e-9
    assert "Remedy" in blahut_arimoto(JOINT, 7.0, max_iterations=2).status
    assert "nats" in str(found)


def _groups():
    """30 inputs in five groups of nearly one p(y|x)."""
    rng = np.random.default_rng(7)
    of_group = rng.dirichlet(np.full(10, 0.5), size=5)
    return (0.9 * np.repeat(of_group, 6, 0) + 0.1 * rng.dirichlet(np.ones(10), size=30)) / 30


# Objectives of plain Blahut–Arimoto (annealed, from T = X and from six random encoders), recorded beforehand.
@pytest.mark.parametrize(
    ("joint", "clusters", "recorded"),
    [
        (_groups(), None, {1.5: 0, 3: -0.007526358118, 6: -0.756044461756, 15: -4.244296332871, 40: -14.000174585978}),
        (
            np.random.default_rng(104).dirichlet(np.full(60, 0.5)).reshape(20, 3),
            None,
            {1.5: 0, 3: -0.004290565924, 6: -0.44703947013, 15: -2.855436346398, 40: -10.528288886798},
        ),
        (_groups(), 2, {3: 0, 6: -0.369761344529, 15: -1.6671755015}),
    ],
)
def test_never_worse_than_many_plain_starts(joint, clusters, recorded):
    for beta, objective in recorded.items():
        found = blahut_arimoto(joint, beta, clusters=clusters)
        assert found.objective <= objective + 1e-8
        assert found.clusters <= (clusters or 30)
        assert found.status == "converged"


def test_the_gap_is_what_is_missing():
    rushed = blahut_arimoto(_groups(), 6.0, max_iterations=3)
    best = blahut_arimoto(_groups(), 6.0)
    assert 0 <= best.gap < 1e-7
    assert 0 < rushed.objective - best.objective <= rushed.gap
    curve = ib_curve(JOINT, [3.0, 9.0])
    assert (curve.i_ty + curve.gap + 1e-9 >= exact_ib_curve(JOINT, curve.i_tx).i_ty).all()


def test_clusters_are_distinct_and_transitions_can_be_read():
    counts = [blahut_arimoto(_groups(), beta).clusters for beta in (0.5, 2.0, 3.0, 8.0, 30.0)]
    assert counts[:2] == [1, 1]
    assert counts[2] == 2
    assert counts[-1] == 5
    assert counts == sorted(counts)
    symmetric = np.array([[0.4, 0.1], [0.1, 0.4]])
    assert [blahut_arimoto(symmetric, factor * stability_beta(symmetric)).clusters for factor in (0.9, 1.1)] == [1, 2]


@pytest.mark.parametrize("factor", [0.9999, 1.0, 1.0001])
def test_converged_at_the_critical_price(factor):
    joint = np.array([[0.4, 0.1], [0.1, 0.4]])
    found = blahut_arimoto(joint, factor * stability_beta(joint))
    assert found.status == "converged"
    assert abs(found.objective) < 1e-7


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_single_precision_probabilities_are_taken(kind):
    logits = np.random.default_rng(3).normal(size=(40, 10))
    exact = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) / 40
    rounded = exact.astype(kind)
    assert abs(rounded.sum(dtype=np.float64) - 1) > 1e-9
    np.testing.assert_allclose(blahut_arimoto(rounded, 9.0).objective, blahut_arimoto(exact, 9.0).objective, atol=5e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(5))
def test_a_price_at_which_factors_underflow_keeps_everything(seed):
    joint = np.random.default_rng(seed).dirichlet(np.ones(10)).reshape(5, 2)
    assert blahut_arimoto(joint, 1e9).i_ty == pytest.approx(_information(joint), abs=1e-8)


def test_trivial_encoder_loses_stability_at_the_second_singular_value():
    flip = 0.2
    joint = np.array([[1 - flip, flip], [flip, 1 - flip]]) / 2
    critical = stability_beta(joint)
    np.testing.assert_allclose(critical, 1 / (1 - 2 * flip) ** 2, rtol=1e-12)
    assert blahut_arimoto(joint, 0.97 * critical).i_tx < 1e-6
    assert blahut_arimoto(joint, 1.1 * critical).i_tx > 1e-3
    assert stability_beta(np.outer([0.3, 0.7], [0.4, 0.6])) == np.inf


@pytest.mark.parametrize("beta", [1.5, 4.0, 12.0, 40.0])
def test_deterministic_bottleneck_is_the_best_of_all_partitions(beta):
    best = np.inf
    for labels in itertools.product(range(4), repeat=4):
        joint = np.eye(4)[list(labels)].T @ JOINT
        best = min(best, entr(joint.sum(1)).sum() - beta * _information(joint))
    found = deterministic_bottleneck(JOINT, beta)
    np.testing.assert_allclose(found.objective, best, atol=1e-12)
    assert set(np.unique(found.encoder)) <= {0.0, 1.0}
    assert found.status == "converged"


@pytest.mark.parametrize("start", [np.ones((3, 1)), [[1, 0, 0], [0, 1, 0], [0, 1, 0]]])
def test_goes_on_from_an_encoder_of_fewer_clusters(start):
    joint = np.random.default_rng(0).dirichlet(np.ones(9)).reshape(3, 3)
    found, fresh = blahut_arimoto(joint, 30.0, start=start), blahut_arimoto(joint, 30.0)
    assert found.status == "converged"
    assert found.objective == pytest.approx(fresh.objective, abs=1e-9)


def test_an_encoder_in_half_precision_is_one():
    joint = np.array([[0.2, 0.1], [0.1, 0.2], [0.3, 0.1]])
    start = np.array([[0.21, 0.79], [0.64, 0.36], [0.13, 0.87]], dtype=np.float16)
    assert abs(start.astype(float).sum(1) - 1).max() > 1e-6
    assert blahut_arimoto(joint, 20.0, start=start).objective == pytest.approx(
        blahut_arimoto(joint, 20.0).objective, abs=1e-9
    )
