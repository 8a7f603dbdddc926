"""I(h; y) against quadrature, and its sides: the rows' own law exactly, the population's from below."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from vibtheory.errors import as_generator
from vibtheory.information import GatedChannel, estimate, relevance


def _two_centres(distance: float, tau: float) -> float:
    """I(h; y) for y a fair bit and h ~ N(±distance/2, τ²), by quadrature: H(h) − H(h|y)."""
    low, high = norm(-distance / 2, tau), norm(distance / 2, tau)

    def entropy(h: float) -> float:
        p = 0.5 * (low.pdf(h) + high.pdf(h))
        return -p * np.log(p) if p > 0 else 0.0

    whole = quad(entropy, -distance - 12 * tau, distance + 12 * tau, limit=400, points=(-distance / 2, distance / 2))[0]
    return whole - norm(0, tau).entropy()


@pytest.mark.parametrize("distance", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("over", ["rows", "population"])
def test_two_centres(distance, over):
    y = np.arange(4000) % 2
    channel = GatedChannel.regular(distance * (y[:, None] - 0.5) * 7.0, 0.5 * 7.0)  # the unit of h does not matter
    found = relevance(channel, y, over=over, seed=3)
    assert found.kind == {"rows": "estimate", "population": "lower"}[over]
    assert abs(found.nats - _two_centres(distance, 0.5)) < 4 * found.stderr + 5e-4
    assert found.stderr < 0.02


def test_over_the_rows_it_is_unbiased_and_never_above_what_h_tells_about_x():
    rng = np.random.default_rng([4, 1])
    f = rng.normal(size=(60, 3))
    y = rng.integers(0, 3, 60)
    channel = GatedChannel(np.maximum(f, 0), mu=[1.0, 2.0, 0.5], sigma=[0.5, 1.0, 0.4], tau=0.3)
    values = [relevance(channel, y, over="rows", seed=k).nats for k in range(200)]
    # by the chain rule, with the other estimator: I(h; y) = I(h; x) − I(h; x|y), x uniform on the rows
    whole = estimate(channel, "infonce", seed=1, draws=400).nats
    inside = sum(
        (y == k).mean() * estimate(channel.rows(y == k), "infonce", seed=2, draws=400).nats for k in np.unique(y)
    )
    assert abs(np.mean(values) - (whole - inside)) < 4 * np.std(values) / np.sqrt(200) + 0.01
    assert np.mean(values) < whole


def test_few_rows_by_brute_force():
    """log p(h|y)/p(h) of the very draws, each mixture written out."""
    f, y, tau = np.array([0.0, 0.4, 1.0, 1.1, 2.0, 2.3]), np.array([0, 0, 0, 1, 1, 1]), 0.7
    channel = GatedChannel.regular(f[:, None], tau)
    h = channel.sample(as_generator("seed", 5, "relevance"))[:, 0]
    terms = []
    for i in range(6):
        inside = np.mean([norm(f[j], tau).pdf(h[i]) for j in range(6) if y[j] == y[i]])
        terms.append(np.log(inside / np.mean([norm(f[j], tau).pdf(h[i]) for j in range(6)])))
    assert relevance(channel, y, over="rows", seed=5).nats == pytest.approx(np.mean(terms), rel=1e-12)


@pytest.mark.parametrize("tau", [1e-7, 0.1])
@pytest.mark.parametrize("width", [1, 30])
def test_many_units_and_little_noise_give_a_lower_bound_of_use(width, tau):
    """x ~ N(±a, I) along one direction: I(h; y) is that of two centres 2a apart with variance 1 + τ², any width."""
    rng = np.random.default_rng([6, width])
    y = rng.integers(0, 2, 800)
    x = rng.normal(size=(800, width))
    x[:, 0] += 3.0 * (y - 0.5)
    found, truth = relevance(GatedChannel.regular(x, tau), y), _two_centres(3.0, np.hypot(1.0, tau))
    assert 0.5 * truth < found.nats < truth + 2 * found.stderr
    assert not [warning for warning in found.warnings if "meet no other row" in warning]


@pytest.mark.parametrize("distance", [0.0, 2.0])
def test_the_population_s_is_below_in_expectation(distance):
    rng = np.random.default_rng([7, int(distance)])
    values = []
    for seed in range(200):
        y = rng.integers(0, 2, 40)
        f = rng.normal(size=(40, 3))
        f[:, 0] += distance * (y - 0.5)
        values.append(relevance(GatedChannel.regular(f, 0.5), y, seed=seed).nats)
    truth = _two_centres(distance, np.hypot(1.0, 0.5)) if distance else 0.0
    assert -0.1 + 0.5 * truth < np.mean(values) < truth + 3 * np.std(values) / np.sqrt(200)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_hardly_any_rows(rows):
    found = relevance(GatedChannel(np.eye(rows), 1.0, 0.1), np.arange(rows))
    assert found.nats <= found.parts["H(y)"] == pytest.approx(np.log(rows))


def test_a_class_of_one_row_is_left_out_and_said():
    channel = GatedChannel.regular(np.arange(10.0)[:, None], 0.1)
    found = relevance(channel, np.arange(10) // 2)
    assert "of the draws meet no other row" in relevance(channel, np.arange(10)).warnings[-1]
    assert np.isfinite(found.nats) or found.warnings


def test_labels_that_float64_does_not_tell_apart():
    y = np.arange(60) % 2
    channel = GatedChannel.regular(np.random.default_rng(0).normal(size=(60, 1)) + 3 * y[:, None], 0.5)
    assert relevance(channel, y + 2**60) == relevance(channel, y)
