"""P2: the best prior by numerical minimisation, ψ, and the ReLU bound against the exact I(h; x)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from vibtheory.information.gaussian_prior import activation_statistics, expected_kl, psi, zero_share
from vibtheory.information.layer_bound import layer_bound

RNG = np.random.default_rng(5)
F = np.exp(RNG.normal(size=(200, 3))) * [0.01, 1.0, 300.0]
MU, SIGMA = np.array([0.5, -2.0, 0.0]), np.array([0.2, 3.0, 0.7])


def test_best_prior_and_minimum_by_optimisation():
    stats = activation_statistics(F)
    scale = (F**2).mean(0)
    best = minimize(lambda v: expected_kl(F, MU, SIGMA, np.exp(v) * scale), np.zeros(3), method="BFGS", tol=1e-10)
    np.testing.assert_allclose(stats.best_variance(MU, SIGMA), np.exp(best.x) * scale, rtol=1e-4)
    np.testing.assert_allclose(stats.minimum_kl(MU, SIGMA), best.fun, rtol=1e-9)
    alpha = (MU / SIGMA) ** 2
    jensen = np.log((F**2).mean(0)) - np.log(F**2).mean(0)
    np.testing.assert_allclose(stats.minimum_kl(MU, SIGMA), 0.5 * (np.log1p(alpha) + jensen).sum(), rtol=1e-12)


def test_zeros_make_psi_infinite_and_batches_agree_with_one_array():
    f = np.maximum(RNG.normal(size=(500, 4)) * [1, 2, 0.1, 5] - [0, 1, 0, 100], 0)
    whole, streamed = activation_statistics(f), activation_statistics(f[i : i + 70] for i in range(0, 500, 70))
    np.testing.assert_allclose(whole.psi_plus, streamed.psi_plus, rtol=1e-12)
    assert whole.pattern_entropy == pytest.approx(streamed.pattern_entropy)
    np.testing.assert_allclose(zero_share(f), (f == 0).mean(0))
    for j in range(3):
        on = f[f[:, j] > 0, j]
        np.testing.assert_allclose(psi(f)[j], np.log((on**2).mean()) - np.log(on**2).mean(), rtol=1e-10)
    assert psi(f)[3] == 0
    assert np.isinf(whole.psi[:3]).all()
    assert whole.minimum_kl(np.ones(4), np.ones(4)) == np.inf
    assert expected_kl(f, np.ones(4), np.ones(4), np.ones(4)) == np.inf
    _, counts = np.unique(f != 0, axis=0, return_counts=True)
    np.testing.assert_allclose(whole.pattern_entropy, -(counts / 500 * np.log(counts / 500)).sum(), rtol=1e-12)
    assert whole.pattern_entropy_bound >= whole.pattern_entropy
    assert "units" in str(whole)


@pytest.mark.parametrize("seed", range(6))
def test_relu_bound_is_above_the_exact_information(seed):
    rng = np.random.default_rng(seed)
    f = np.maximum(rng.normal(size=(4, 2)) * [1, 30], 0)
    f[0] += 0.3
    mu, sigma = rng.normal(size=2) * [2, 0.1], rng.uniform(0.2, 1, size=2) * [1, 0.1]
    uniform = np.full((4, 1), 0.25)
    exact = layer_bound(uniform, f, mu, sigma, lambda h: np.zeros((len(h), 1)))
    stats = activation_statistics(f)
    assert stats.relu_bound(mu, sigma) >= exact.information - 1e-9
    # It is E KL to the best prior with the true pattern probabilities, which P1's quadrature computes node by node.
    np.testing.assert_allclose(stats.relu_bound(mu, sigma), exact.rate, rtol=1e-10)
    assert stats.relu_bound(mu, sigma, factorised=True) >= stats.relu_bound(mu, sigma) - 1e-12


def test_closed_gates_cost_nothing_and_noiseless_ones_everything():
    stats = activation_statistics(F)
    alone = activation_statistics(F[:, :1])
    closed = stats.minimum_kl([0.5, 0, 0], [0.2, 0, 0])
    np.testing.assert_allclose(closed, alone.minimum_kl([0.5], [0.2]), rtol=1e-12)
    assert stats.relu_bound([0.5, 1, 0], [0.2, 0, 0]) == np.inf
    np.testing.assert_allclose(activation_statistics([[1.0, 2.0], [1.0, 4.0]]).psi_plus[0], 0, atol=1e-15)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unit", [1e-170, 1e-12, 1e12])
def test_a_divergence_does_not_need_the_square_of_f(unit):
    """One row, h ~ N(2.6, 1.4²) in that unit, prior N(0, 9·10⁻²⁴⁰): its logarithms are sums of logarithms."""
    log_ratio = 2 * np.log(1.4) + 2 * np.log(unit) - np.log(9) + 240 * np.log(10)
    square = (1.4**2 + 2.6**2) / 9 * (unit * 1e120) ** 2
    expected = 0.5 * (square - 1 - log_ratio)
    assert expected_kl([[2 * unit]], [1.3], [0.7], [9e-240]) == pytest.approx(expected, rel=1e-12)
