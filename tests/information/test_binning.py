"""Binning against the exact information of the binned channel, its saturation, its bins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from vibtheory.information import binning, discrete_memoryless
from vibtheory.information.channel import GatedChannel


@pytest.mark.parametrize("tau", [0.0, 6.0])
def test_one_unit_with_many_rows_is_the_binned_channel(tau, scalar_information):
    values, mu, sigma = np.array([0.0, 10.0, 30.0]), 0.8, 0.2
    channel = GatedChannel(np.repeat(values, 6000)[:, None], mu, sigma, tau)
    h = channel.sample(np.random.default_rng(4)).ravel()
    edges = np.linspace(h.min(), h.max(), 9)[1:-1]
    transition = []
    for f in values:
        if tau == 0 and f == 0:
            transition.append([0.0] * 8 + [1.0])  # zeros have a bin of their own
        else:
            below = norm.cdf(edges, f * mu, np.hypot(f * sigma, tau))
            transition.append([*np.diff(below, prepend=0, append=1), 0.0])
    result = binning(channel, bins=8, seed=np.random.default_rng(4))
    exact = discrete_memoryless(transition)
    assert result.nats == pytest.approx(exact, abs=0.01)
    assert exact <= scalar_information(values, mu, sigma, tau)
    assert result.nats == pytest.approx(result.parts["entropy of the bins"] - result.parts["given x"])


def test_many_units_saturate_and_closed_gates_do_not():
    result = binning(GatedChannel(np.random.default_rng(0).normal(size=(100, 20)), 1.0, 0.1))
    assert np.isnan(result.nats)
    assert result.saturated
    assert "no number" in str(result)
    assert "100 % of 100 draws of 20 units are alone in their joint bin" in str(result)
    assert "entropy of the bins" in str(result)
    assert binning(GatedChannel(np.ones((100, 2)), 0.0, 0.0)).nats == 0
