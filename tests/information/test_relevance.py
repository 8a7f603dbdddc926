"""I(h; y) against quadrature, and its sides: the rows' own law exactly, the population's nearly."""

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
    assert found.kind == "estimate"
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


@pytest.mark.parametrize(("over", "left_out"), [("rows", 0), ("population", 1)])
def test_few_rows_by_brute_force(over, left_out):
    """log p(h|y)/p(h) of the very draws, each mixture written out; six rows tell n from n - 1."""
    f, y, tau = np.array([0.0, 0.4, 1.0, 1.1, 2.0, 2.3]), np.array([0, 0, 0, 1, 1, 1]), 0.7
    channel = GatedChannel.regular(f[:, None], tau)
    h = channel.sample(as_generator("seed", 5, "relevance"))[:, 0]
    terms = []
    for i in range(6):
        others = [j for j in range(6) if j != i or not left_out]
        inside = np.mean([norm(f[j], tau).pdf(h[i]) for j in others if y[j] == y[i]])
        terms.append(np.log(inside / np.mean([norm(f[j], tau).pdf(h[i]) for j in others])))
    assert relevance(channel, y, over=over, seed=5).nats == pytest.approx(np.mean(terms), rel=1e-12)


def test_a_class_of_one_row_is_left_out_and_said():
    channel = GatedChannel.regular(np.arange(10.0)[:, None], 0.1)
    found = relevance(channel, np.arange(10) // 2)
    assert "of the draws meet no other row" in relevance(channel, np.arange(10)).warnings[-1]
    assert np.isfinite(found.nats) or found.warnings
