"""The real loss: derivatives by finite differences, majorisation by sampling, J never rises, certificates."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from vibtheory.theory.real_certificate import certify_real_loss
from vibtheory.theory.real_loss import check_real_loss, minimise_real_loss
from vibtheory.theory.softmax_loss import SoftmaxLoss


def arguments(seed: int, d: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    V, v0 = rng.normal(size=(4, d)) * 3, rng.normal(size=4)
    f = np.maximum(rng.normal(size=(150, d)), 0) * rng.uniform(0.1, 5, size=d)
    y = np.argmax(f @ V.T + v0 + 2 * rng.normal(size=(150, 4)), axis=1)
    return V, v0, f, y


def problem(seed: int, gamma: float = 0.02) -> SoftmaxLoss:
    return SoftmaxLoss(*arguments(seed), gamma, batch=37)


def test_loss_gradient_and_hessian() -> None:
    V, v0, f, y = arguments(0)
    p = problem(0)
    rng = np.random.default_rng(1)
    mu = rng.normal(size=8)
    logits = (f * mu) @ V.T + v0
    direct = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(150), y])
    assert p.loss(mu) == pytest.approx(direct, rel=1e-12)
    step = 1e-5 * np.eye(8)
    np.testing.assert_allclose(
        p.gradient(mu), [(p.objective(mu + e) - p.objective(mu - e)) / 2e-5 for e in step], rtol=1e-6, atol=1e-8
    )
    every = np.arange(8)
    np.testing.assert_allclose(
        p.hessian(mu, every), [(p.gradient(mu + e) - p.gradient(mu - e)) / 2e-5 for e in step], rtol=1e-5, atol=1e-7
    )


def test_bound_touches_and_majorises() -> None:
    p = problem(1)
    rng = np.random.default_rng(2)
    mu = rng.normal(size=8)
    bound = p.bound_at(mu)
    assert float(bound.value(mu)) == pytest.approx(p.loss(mu), rel=1e-11)
    np.testing.assert_allclose(bound.smooth_gradient(mu), p.loss_and_gradient(mu)[1], atol=1e-11)
    for scale in (0.01, 1.0, 30.0):
        for z in mu + scale * rng.normal(size=(100, 8)):
            assert p.loss(z) <= float(bound.value(z)) + 1e-9 * (1 + abs(float(bound.value(z))))
    assert np.linalg.eigvalsh(2 * bound.gram - p.loss_hessian(mu)).min() > -1e-10


def test_the_curvature_is_attained_where_two_classes_are_equally_likely() -> None:
    rng = np.random.default_rng(5)
    p = SoftmaxLoss(rng.normal(size=(2, 3)), np.zeros(2), rng.normal(size=(40, 3)), rng.integers(2, size=40), 0.1)
    closed = np.zeros(3)  # equal logits: p = ½, where the softmax Hessian is Böhning's bound
    np.testing.assert_allclose(2 * p.bound_at(closed).gram, p.loss_hessian(closed), rtol=1e-12)


def test_third_derivative_bound() -> None:
    p = problem(3)
    rng = np.random.default_rng(4)
    support, scale = np.arange(8), rng.uniform(0.2, 2, size=8)
    limit = p.hessian_lipschitz(support, scale)
    for _ in range(50):
        x, y = rng.normal(size=(2, 8)) * 0.3
        change = scale[:, None] * (p.loss_hessian(scale * x) - p.loss_hessian(scale * y)) * scale
        assert np.linalg.norm(change, 2) <= limit * np.linalg.norm(x - y)


def test_third_derivative_bound_is_near_what_two_classes_attain() -> None:
    p = SoftmaxLoss([[1.0], [-1.0]], [0.0, 0.0], [[3.0]], [0], 0.1)
    moves = np.linspace(-1, 1, 2001)
    curvature = np.array([p.loss_hessian([mu])[0, 0] for mu in moves])
    steepest = np.abs(np.diff(curvature)).max() / (moves[1] - moves[0])
    assert steepest == pytest.approx(6**3 / (6 * np.sqrt(3)), rel=1e-5)  # log(1 + e^s) has s-derivatives to 1/(6√3)
    assert steepest <= p.hessian_lipschitz(np.array([0]), np.ones(1)) <= 3 * steepest


def test_a_closed_gate_at_or_past_its_price_is_no_minimum() -> None:
    V, v0, f, y = arguments(0, d=2)
    free = SoftmaxLoss(V, v0, f, y, 1.0)
    at_zero = free.loss_and_gradient(np.zeros(2))[1] ** 2 / (4 * free.w)  # at these prices both are tied at 0
    for share, certified in ((1 + 1e-6, True), (1.0, False), (1 - 1e-6, False)):
        assert certify_real_loss(SoftmaxLoss(V, v0, f, y, share * at_zero), np.zeros(2)).certified is certified
    # gate 1 at 0 while gate 0 is least: beside that point its slack is positive, at it negative
    first = minimise_real_loss(SoftmaxLoss(V, v0, f, y, [0.001, 100.0]), start=[1.0, 0.0]).mu
    slope = free.loss_and_gradient(first)[1][1]
    priced = SoftmaxLoss(V, v0, f, y, [0.001, slope**2 / (4 * free.w[1]) * (1 - 1e-10)])
    toward = -np.sign(free.loss_hessian(first)[0, 1] * slope)
    near = first + np.array([toward * 1e-9, 0.0])
    assert abs(priced.gradient(near)[1]) < 2 * np.sqrt(priced.gamma[1] * priced.w[1]) < abs(priced.gradient(first)[1])
    assert not certify_real_loss(priced, near).certified


@pytest.mark.parametrize(("seed", "gamma"), [(s, g) for s in range(4) for g in (0.003, 0.03, 0.3)])
def test_minimum_is_certified_and_the_theorem_holds_for_the_real_loss(seed: int, gamma: float) -> None:
    p = problem(seed, gamma)
    minimum = minimise_real_loss(p)
    assert minimum.certificate.certified
    assert np.diff(minimum.history).max() <= 1e-13 * max(1, minimum.value)
    assert minimum.value == pytest.approx(p.objective(minimum.mu))
    report = check_real_loss(minimum)
    assert report.verdict == "holds"
    assert minimum.nonzeros <= report.soft_rank <= report.d
    rng = np.random.default_rng(seed)
    for size in (1e-4, 1e-3):
        for step in rng.normal(size=(100, 8)) * size / np.sqrt(p.w):
            assert p.objective(minimum.mu + step) >= minimum.value - 1e-13


def test_perturbed_points_never_certify() -> None:
    p = problem(2)
    minimum = minimise_real_loss(p)
    assert certify_real_loss(p, minimum.mu * 1.01).status == "not converged"
    closed = minimum.mu.copy()
    closed[np.argmax(minimum.alpha)] = 0
    assert certify_real_loss(p, closed).status != "certified local minimum"
    figure = minimum.plot()  # one point set per kind of step, heights above the end
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == len(minimum.history)
    plt.close(figure)
    start = minimise_real_loss(p, max_rounds=1, start=np.full(8, 5.0))
    assert start.value <= start.history[0]


def test_equal_outgoing_weights_and_silent_units_are_free() -> None:
    V, v0, f, y = arguments(5)
    V[:, 2], f[:, 4] = 0.7, 0.0
    p = SoftmaxLoss(V, v0, f.astype(np.float32), y, 0.02)
    assert p.w[2] == p.w[4] == 0
    minimum = minimise_real_loss(p)
    assert minimum.alpha[2] == minimum.alpha[4] == 0
    assert minimum.certificate.certified


@pytest.mark.parametrize("alpha", [0.3, 1.0, 3.0])
def test_kantorovich_knows_the_penalty(alpha: float) -> None:
    """One gate, two classes, so small a price that the loss bends by a thousandth of what the penalty does."""
    gamma, others = 1e-7, (np.ones((2, 1)), np.array([0, 1]), 1e-7)
    w = float(SoftmaxLoss([[1.0], [-1.0]], [0.0, 0.0], *others).w[0])
    t, slope = alpha / np.sqrt(1 + alpha), 2 * np.sqrt(gamma * w / (1 + alpha))
    mu = t * np.sqrt(gamma / w)
    p = 0.5 - slope / 2  # of class 0, at rest: ∂g/∂μ = 2(p − ½)
    settled = SoftmaxLoss([[1.0], [-1.0]], [np.log(p / (1 - p)) - 2 * mu, 0.0], *others)
    found = certify_real_loss(settled, [mu * (1 + 3e-9)])
    assert found.certified
    third = 2 * (t + (t**2 + 2) / np.sqrt(t**2 + 4)) / (2 + alpha) ** 2  # of ρ'' = −2/(2+α)
    share = found.newton_bound / found.min_eigenvalue
    assert share * third < found.kantorovich < 1.05 * share * third
