"""Σ_j I(h_j; x) by quadrature: 1e-8 against the closed form, above the truth, over many scales."""

from __future__ import annotations

import numpy as np
import pytest

from vibtheory.errors import InvalidInputError
from vibtheory.information import per_unit, unit_information
from vibtheory.information.channel import GatedChannel
from vibtheory.information.closed_form import scalar_gated_channel

GATES = [
    (2.0, 0.3, 0.0),
    (2.0, 0.3, 0.5),
    (0.0, 1.0, 0.0),
    (0.0, 1.0, 0.01),
    (1.0, 0.0, 0.2),
    (1.0, 0.011, 0.0),
    (-3.0, 5.0, 0.0),
    (1.0, 0.3, 1e-4),
]


@pytest.mark.parametrize(("mu", "sigma", "tau"), GATES)
@pytest.mark.parametrize("shape", ["relu", "wide", "far"])
def test_scalar_channels_to_1e_8(mu, sigma, tau, shape):
    noise = np.random.default_rng(3).normal(size=12)
    f = {"relu": np.maximum(7 * noise, 0), "wide": np.exp(3 * noise), "far": 100 + noise}[shape]
    truth = scalar_gated_channel(f, mu, sigma, tau)
    assert per_unit(GatedChannel(f[:, None], mu, sigma, tau)).nats == pytest.approx(truth, abs=1e-8)


def test_sum_over_units_is_exact_for_independent_inputs_and_an_upper_bound(product_channels):
    for name, f, mu, sigma, tau, truth in product_channels:
        assert per_unit(GatedChannel(f, mu, sigma, tau)).nats == pytest.approx(truth, abs=2e-8), name
    # the same input twice: the sum counts it twice
    f = np.array([1.0, 30.0, 4.0])
    twice = per_unit(GatedChannel(np.column_stack([f, f]), 1.0, 0.01))
    assert twice.kind == "upper"
    assert twice.nats == pytest.approx(2 * np.log(3), abs=1e-6)
    assert unit_information(GatedChannel(np.column_stack([f, 0 * f]), 1.0, 0.01)) == pytest.approx([np.log(3), 0])


def test_one_unit_at_log_n_is_flagged():
    assert per_unit(GatedChannel([[1.0], [30.0], [4.0]], 1.0, 0.01)).saturated
    assert not per_unit(GatedChannel([[1.0], [1.1], [0.9]], 1.0, 1.0)).saturated


def test_standard_error_is_the_jackknife_s_and_blocks_do_not_matter(monkeypatch):
    import sys

    f = np.maximum(np.random.default_rng(1).normal(size=(60, 2)) * [1, 50] + 1, 0)
    channel = GatedChannel(f, [1.0, 0.2], [0.7, 0.3])
    result = per_unit(channel)
    left_out = np.array([per_unit(channel.rows(np.arange(60) != i)).nats for i in range(60)])
    jackknife = np.sqrt(59 / 60 * ((left_out - left_out.mean()) ** 2).sum())
    assert result.stderr == pytest.approx(jackknife, rel=0.06)
    monkeypatch.setattr(sys.modules["vibtheory.information.per_unit"], "_BLOCK_ENTRIES", 700)
    assert per_unit(channel).nats == pytest.approx(result.nats, rel=1e-13)


def test_closed_gates():
    assert per_unit(GatedChannel(np.ones((3, 2)), 0.0, 0.0)).nats == 0


@pytest.mark.parametrize(("far", "tau"), [(1e6, 1e-3), (3.0, 1e-8)])
def test_memory_does_not_grow_with_the_distance_of_rows(far, tau):
    """Rows 100 noises apart and more, each value twice: I = H(value), and a few MB whatever range over noise."""
    import tracemalloc

    f = np.repeat(np.append(np.arange(1.0, 3.0, 0.1), far), 2)[:, None]
    channel = GatedChannel.regular(f, tau)
    tracemalloc.start()
    nats = per_unit(channel).nats
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert nats == pytest.approx(np.log(len(np.unique(f))), abs=1e-7)
    assert peak < 10**7


@pytest.mark.parametrize("noise", [1e-9, 1e-11, 1e-12])
@pytest.mark.parametrize("own", [True, False])
def test_little_noise_separates_what_differs(noise, own):
    """Rows 1, 2, 3, 3, 8: log 5 − 2/5 log 2, where values that differ do so by 1e8 standard deviations and more."""
    channel = GatedChannel([[1.0], [2.0], [3.0], [3.0], [8.0]], 1.0, noise * own, noise * (not own))
    assert per_unit(channel).nats == pytest.approx(np.log(5) - 0.4 * np.log(2), abs=2e-3)
    with pytest.raises(InvalidInputError, match="noise below 1e-13"):
        per_unit(GatedChannel(channel.f, 1.0, 1e-14 * own, 1e-14 * (not own)))
