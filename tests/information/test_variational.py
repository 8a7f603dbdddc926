"""P2's bound: above the truth, equal to the streamed form, standard errors against the jackknife."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from vibtheory.information.channel import GatedChannel
from vibtheory.information.gaussian_prior import activation_statistics
from vibtheory.information.variational import plain, unit_terms, variational, variational_factorised

RNG = np.random.default_rng(2)
F = np.maximum(RNG.normal(size=(60, 3)) * [0.02, 5, 300] + [0.01, 0, 100], 0)
MU, SIGMA = np.array([30.0, -0.4, 0.0]), np.array([8.0, 0.5, 0.1])


@pytest.mark.parametrize("bound", [variational, variational_factorised])
def test_above_the_truth(product_channels, bound):
    for name, f, mu, sigma, tau, truth in product_channels:
        result = bound(GatedChannel(f, mu, sigma, tau))
        assert result.kind == "upper"
        assert result.method == bound.__name__
        assert result.nats >= truth - 1e-9, name


def test_exact_where_the_prior_is():
    """One row: h is Gaussian and so is the best q only if μ = 0; two rows with f = ±c, μ = 0 have I = 0 = the bound."""
    assert variational(GatedChannel([[7.0], [-7.0]], 0.0, 3.0)).nats == pytest.approx(0, abs=1e-14)
    # f_j constant: ψ = 0, I = 0, and the bound keeps ½ log(1+α)
    assert variational(GatedChannel([[7.0], [7.0]], 2.0, 3.0)).nats == pytest.approx(0.5 * np.log(1 + 4 / 9))


def test_agrees_with_the_streamed_form_and_names_its_parts():
    channel, stats = GatedChannel(F, MU, SIGMA), activation_statistics(F)
    result, factorised = variational(channel), variational_factorised(channel)
    assert result.nats == pytest.approx(stats.relu_bound(MU, SIGMA), rel=1e-12)
    assert factorised.nats == pytest.approx(stats.relu_bound(MU, SIGMA, factorised=True), rel=1e-12)
    parts = result.parts
    assert result.nats == pytest.approx(parts["pattern entropy"] + parts["gates"] + parts["psi"])
    assert factorised.nats == pytest.approx(parts["factorised pattern entropy"] + parts["gates"] + parts["psi"])
    assert parts["plain"] == pytest.approx(plain(channel).nats)
    terms = unit_terms(channel)
    np.testing.assert_allclose(terms.psi, stats.psi_plus, rtol=1e-10)
    np.testing.assert_allclose(terms.zero_share, stats.zero_share, atol=1e-15)
    np.testing.assert_allclose(terms.xi, stats.best_variance(MU, SIGMA) / (1 - stats.zero_share), rtol=1e-12)
    assert "3 open gates" in str(terms)


def test_with_added_noise_the_prior_is_the_best_gaussian():
    channel = GatedChannel(F, MU, SIGMA, 0.6)
    second = channel.variance + channel.mean**2

    def expected_kl(log_xi):
        return 0.5 * (log_xi - np.log(channel.variance) + second / np.exp(log_xi) - 1).mean(0).sum()

    best = minimize(expected_kl, np.log(second.mean(0)) + 0.1, method="BFGS", tol=1e-10)
    assert variational(channel).nats == pytest.approx(best.fun, rel=1e-8)


def test_plain_is_what_training_uses_and_no_bound(product_channels):
    result = plain(GatedChannel(F, MU, SIGMA))
    assert result.kind == "estimate"
    assert result.nats == pytest.approx(0.5 * np.log1p((MU / SIGMA) ** 2).sum())
    below = [plain(GatedChannel(f, m, s, t)).nats < truth for _, f, m, s, t, truth in product_channels]
    assert any(below)
    assert not all(below)
    regular = plain(GatedChannel.regular(F, 0.1))
    assert regular.nats == np.inf
    assert "infinite" in str(regular)


@pytest.mark.parametrize("bound", [variational, variational_factorised])
@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_standard_error_is_the_jackknife_s(bound, tau):
    rng = np.random.default_rng(4)
    f = np.maximum(rng.normal(size=(150, 3)) * [0.02, 5, 300] + [0.01, 0, 100], 0)
    channel = GatedChannel(f, [30.0, -0.4, 2.0], [8.0, 0.5, 0.1], tau)
    left_out = np.array([bound(channel.rows(np.arange(150) != i)).nats for i in range(150)])
    jackknife = np.sqrt(149 / 150 * ((left_out - left_out.mean()) ** 2).sum())
    assert bound(channel).stderr == pytest.approx(jackknife, rel=0.04)


def test_saturated_pattern_entropy_is_flagged_and_the_factorised_one_is_not():
    f = np.maximum(np.random.default_rng(0).normal(size=(50, 40)), 0)
    channel = GatedChannel(f, 1.0, 1.0)
    result = variational(channel)
    assert result.parts["pattern entropy"] == pytest.approx(np.log(50))
    assert result.saturated
    assert "pattern entropy" in str(result)
    assert not variational_factorised(channel).saturated


def test_edges_all_closed_a_dead_unit_and_tiny_activations():
    closed = GatedChannel(F, 0.0, 0.0)
    for bound in (variational, variational_factorised, plain):
        assert bound(closed).nats == 0
    assert str(unit_terms(closed)) == "no open gates"
    dead = GatedChannel(np.column_stack([F[:, 1], np.zeros(60)]), 1.0, 0.5)
    alone = GatedChannel(F[:, 1:2], 1.0, 0.5)
    assert variational(dead).nats == pytest.approx(variational(alone).nats)
    assert np.isfinite(variational(dead).stderr)
    tiny = GatedChannel(F[:, 1:2] * 1e-150, 1.0, 0.5)
    assert variational(tiny).nats == pytest.approx(variational(alone).nats)
    assert variational(tiny).stderr == pytest.approx(variational(alone).stderr)
