"""The law of h given x: densities against scipy, atoms, zero patterns, sampling, and every rejected input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from vibtheory.errors import InvalidInputError
from vibtheory.information.channel import GatedChannel

F = np.array([[0.0, 20.0, 0.03], [5.0, 0.0, 0.01], [2.0, 0.0, -0.02], [0.0, 3.0, 0.5], [0.0, 0.0, 0.0]])
MU, SIGMA = np.array([1.5, -0.2, 40.0]), np.array([0.3, 2.0, 11.0])


def _log_density(h, f, tau):
    """Unit by unit, against Lebesgue + δ₀ (τ = 0) or Lebesgue."""
    total = 0.0
    for x, a, m, s in zip(h, f, MU, SIGMA, strict=True):
        if tau == 0 and a == 0:
            total += 0.0 if x == 0 else -np.inf
        elif tau == 0 and x == 0:
            total = -np.inf
        else:
            total += norm.logpdf(x, a * m, np.hypot(a * s, tau))
    return total


@pytest.mark.parametrize("tau", [0.0, 0.7])
def test_log_density_is_that_of_the_mixed_measure(tau):
    channel = GatedChannel(F, MU, SIGMA, tau)
    h = channel.sample(3)
    expected = np.array([[_log_density(point, row, tau) for row in F] for point in h])
    np.testing.assert_allclose(channel.log_density(h), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(channel.log_density(h, channel.pattern), channel.log_density(h))
    own = expected[np.arange(5), np.arange(5)]
    top = expected.max(1)
    ratio = own - top - np.log(np.exp(expected - top[:, None]).mean(1))
    np.testing.assert_allclose(channel.log_density_ratio(h, np.arange(5)), ratio, atol=1e-9)


@pytest.mark.parametrize("tau", [0.0, 0.7])
def test_draws_in_turn_are_those_of_one_call(tau):
    channel = GatedChannel(F, MU, SIGMA, tau)
    one, other, first = (np.random.default_rng(3) for _ in range(3))
    in_turn = np.concatenate([channel.sample(one) for _ in range(3)])
    np.testing.assert_array_equal(channel._draws(other, channel.f, 3), in_turn)
    expected = F * (MU + SIGMA * first.standard_normal(F.shape))
    np.testing.assert_array_equal(in_turn[:5], expected + (tau * first.standard_normal(F.shape) if tau else 0.0))


def test_a_pattern_that_no_row_has_is_impossible():
    channel = GatedChannel(F, MU, SIGMA)
    assert np.isneginf(channel.log_density([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])).all()


def test_zero_patterns_and_their_entropy():
    channel = GatedChannel(F, MU, SIGMA)
    _, expected = np.unique(F != 0, axis=0, return_inverse=True)
    same = channel.pattern[:, None] == channel.pattern[None, :]
    np.testing.assert_array_equal(same, expected.ravel()[:, None] == expected.ravel()[None, :])
    share = np.array([2, 2, 1]) / 5
    assert channel.pattern_entropy() == pytest.approx(-(share * np.log(share)).sum())
    np.testing.assert_array_equal(channel.active, F != 0)
    noisy = GatedChannel(F, MU, SIGMA, 0.1)
    assert noisy.active.all()
    assert noisy.pattern_entropy() == 0


def test_underflowing_activations_count_as_zeros_everywhere():
    channel = GatedChannel([[1e-160], [2.0], [0.0]], 1.0, 0.5)
    np.testing.assert_array_equal(channel.active.ravel(), [False, True, False])
    h = channel.sample(0)
    np.testing.assert_array_equal(h.ravel() != 0, [False, True, False])
    assert not np.isnan(channel.log_density(h)).any()


@pytest.mark.parametrize("tau", [0.0, 2.0])
def test_samples_have_the_stated_moments_and_exact_zeros(tau):
    channel = GatedChannel(F, MU, SIGMA, tau)
    draws = channel.sample(5, rows=np.tile(np.arange(5), 4000)).reshape(4000, 5, 3)
    error = np.sqrt(channel.variance / 4000)
    assert (np.abs(draws.mean(0) - channel.mean) <= 4.5 * error).all()
    np.testing.assert_allclose(draws.var(0), channel.variance, rtol=0.12)
    if tau == 0:
        np.testing.assert_array_equal(draws == 0, np.broadcast_to(F == 0, draws.shape))
    some = channel.sample(0, rows=[3, 3, 1])
    assert some.shape == (3, 3)
    np.testing.assert_array_equal(channel.sample(7), channel.sample(7))


@pytest.mark.parametrize("tau", [0.0, 0.7])
def test_mean_log_density_ratio_is_the_information(scalar_information, tau):
    f = np.array([0.0, 0.0, 4.0, 30.0])
    channel = GatedChannel(f[:, None], 0.9, 0.4, tau)
    rows = np.tile(np.arange(4), 5000)
    ratio = channel.log_density_ratio(channel.sample(1, rows), rows)
    assert abs(ratio.mean() - scalar_information(f, 0.9, 0.4, tau)) < 4 * ratio.std() / np.sqrt(len(rows))


def test_closed_gates_are_dropped_and_all_closed_carries_nothing():
    channel = GatedChannel(F, [0.0, 2.0, 0.0], [0.0, 1.0, 0.0])
    assert (channel.d, channel.width, channel.n) == (1, 3, 5)
    assert "open=1 of 3" in repr(channel)
    with pytest.raises(InvalidInputError, match="index: got no rows"):
        channel.rows([False] * 5)
    part = channel.rows([True, False, False, True, False])
    assert (part.n, part.d, part.width) == (2, 1, 3)
    np.testing.assert_array_equal(part.f.ravel(), [20.0, 3.0])
    for tau in (0.0, 0.3):
        closed = GatedChannel(F, 0.0, 0.0, tau)
        assert closed.d == 0
        h = closed.sample(0)
        np.testing.assert_array_equal(closed.log_density_ratio(h, np.arange(5)), np.zeros(5))
        assert closed.pattern_entropy() == 0


def test_regular_layers_have_stated_noise_and_float32_is_taken():
    channel = GatedChannel.regular(F.astype(np.float32), 0.25)
    np.testing.assert_allclose(channel.mean, F, rtol=1e-6)
    np.testing.assert_allclose(channel.variance, 0.0625)
    assert channel.f.dtype == np.float64


@pytest.mark.parametrize("far", [1e3, 1e9])
def test_log_density_of_rows_far_from_the_others(far):
    """Against the same rows without the far ones: products of sizes far²/τ² would leave nothing of a near distance."""
    near = np.arange(3.0)[:, None]
    channel, alone = GatedChannel.regular(np.concatenate([near, far + near]), 1.0), GatedChannel.regular(near, 1.0)
    h = alone.sample(0)
    density = channel.log_density(np.concatenate([h, far + h]))
    shifted = (far + h) - far  # what float64 leaves of h there
    np.testing.assert_allclose(density[:3, :3], norm.logpdf(h, near.T), rtol=1e-9)
    np.testing.assert_allclose(density[3:, 3:], norm.logpdf(shifted, near.T), rtol=1e-9, atol=1e-6)


def test_noise_that_float64_does_not_hold_is_refused():
    with pytest.raises(InvalidInputError, match=r"sigma: .*square a float64 does not hold"):
        GatedChannel([[1.0], [2.0]], 1.0, 1e-160)
    with pytest.raises(InvalidInputError, match=r"sigma: .*noise below 1e-13 of the unit"):
        GatedChannel([[1.0], [2.0]], 1.0, 1e-15).sample(0)
    with pytest.raises(InvalidInputError, match=r"tau: .*noise below 1e-13 of the unit"):
        GatedChannel.regular([[1e9], [2e9]], 1e-6).sample(0)
