"""InfoNCE and leave-one-out: their sides of the truth in expectation, unique zero patterns, ceilings."""

from __future__ import annotations

import numpy as np
import pytest

from vibtheory.information import known_conditional
from vibtheory.information.channel import GatedChannel
from vibtheory.information.known_conditional import infonce, leave_one_out, leave_one_out_per_unit


def _mean_and_error(bound, channel, seeds=80):
    values = np.array([bound(channel, seed).nats for seed in range(seeds)])
    return values.mean(), values.std(ddof=1) / np.sqrt(seeds)


def test_infonce_is_unbiased_on_the_rows_and_leave_one_out_above(product_channels):
    for name, f, mu, sigma, tau, truth in product_channels:
        channel = GatedChannel(np.repeat(f, 2, axis=0), mu, sigma, tau)  # twice each row: no pattern is unique
        mean, error = _mean_and_error(infonce, channel)
        assert abs(mean - truth) < 4 * error, name
        for bound in (leave_one_out, leave_one_out_per_unit):
            mean, error = _mean_and_error(bound, channel)
            assert mean > truth - 4 * error, name


def test_against_the_population():
    """x ~ N(0, s²), h = x + τn: I = ½ log(1 + s²/τ²); InfoNCE below it in expectation, leave-one-out above."""
    rng = np.random.default_rng(0)
    truth = 0.5 * np.log1p(30.0**2 / 2.0**2)
    low, high = [], []
    for _ in range(200):
        channel = GatedChannel.regular(30.0 * rng.normal(size=(20, 1)), 2.0)
        low.append(infonce(channel, rng).nats)
        high.append(leave_one_out(channel, rng).nats)
    assert np.mean(low) < truth - 4 * np.std(low) / np.sqrt(200)
    assert np.mean(high) > truth + 2 * np.std(high) / np.sqrt(200)


def test_unit_by_unit_against_the_population():
    """20 independent units: their own leave-one-out says d/2 log(1 + s²/τ²) nearly, where rows as a whole are alone."""
    rng, truth = np.random.default_rng(2), 10 * np.log1p(30.0**2 / 6.0**2)
    channels = [GatedChannel.regular(30.0 * rng.normal(size=(100, 20)), 6.0) for _ in range(20)]
    values = np.array([leave_one_out_per_unit(channel, rng).nats for channel in channels])
    assert truth - 3 * values.std() / np.sqrt(20) < values.mean() < 1.1 * truth
    assert leave_one_out(channels[0]).nats > 2 * truth
    assert leave_one_out_per_unit(channels[0]).ceiling == pytest.approx(20 * np.log(100))


def test_unit_by_unit_zero_patterns_are_not_unique():
    """Bits behind a common switch: the pattern of 40 is unique, each alone has an atom that half the rows share."""
    rng = np.random.default_rng(4)
    f = (rng.random((200, 40)) < 0.5) * (rng.random((200, 1)) < 0.5) * 1.0
    channel = GatedChannel(f, 1.0, 1.0)
    assert leave_one_out(channel).nats == np.inf
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))  # h_j = f_j z tells f_j and no more
    found = leave_one_out_per_unit(channel)
    assert found.nats == pytest.approx(40 * entropy, abs=4 * found.stderr)
    assert not found.saturated
    alone = leave_one_out_per_unit(GatedChannel(np.diag([1.0, 2.0, 3.0]), 1.0, 0.5))
    assert (alone.nats, alone.saturated) == (np.inf, True)


def test_written_out_and_in_blocks(monkeypatch):
    rng = np.random.default_rng(3)
    channel = GatedChannel(np.maximum(rng.normal(size=(40, 2)) * [1, 50], 0), [2.0, 0.1], [0.5, 0.3])
    h = channel.sample(np.random.default_rng(6))
    density = np.exp(channel.log_density(h))
    own = np.diag(density)
    expected = np.log(own / density.mean(1))
    assert infonce(channel, np.random.default_rng(6), draws=1).nats == pytest.approx(expected.mean(), rel=1e-12)
    monkeypatch.setattr(known_conditional, "_BLOCK_ENTRIES", 120)
    assert infonce(channel, np.random.default_rng(6), draws=1).nats == pytest.approx(expected.mean(), rel=1e-12)
    assert infonce(channel, 6).ceiling == pytest.approx(np.log(40))
    assert infonce(channel, 6).kind == "lower"


def test_a_unique_pattern_makes_leave_one_out_infinite():
    channel = GatedChannel([[0.0, 3.0], [0.0, 2.0], [5.0, 0.0]], [1.0, 4.0], [0.2, 0.1])
    result = leave_one_out(channel)
    assert result.nats == np.inf
    assert result.kind == "upper"
    assert np.isnan(result.stderr)
    assert result.saturated
    assert "infinite" in str(result)
    assert "1 of 3 zero patterns are unique" in result.assumes
    assert np.isfinite(infonce(channel).nats)


def test_all_patterns_unique_gives_log_n_exactly():
    f = np.maximum(np.random.default_rng(1).normal(size=(100, 60)) * 7, 0)
    result = infonce(GatedChannel(f, 1.3, 0.4))
    assert result.nats == pytest.approx(np.log(100), abs=1e-12)
    assert result.saturated
    assert "ceiling" in str(result)


def test_closed_gates_and_one_row():
    closed = GatedChannel(np.ones((5, 2)), 0.0, 0.0)
    assert infonce(closed).nats == pytest.approx(0, abs=1e-14)
    assert leave_one_out(closed).nats == pytest.approx(0, abs=1e-14)


def test_few_rows_get_many_draws_and_their_error_covers(scalar_information):
    """Three rows: I(h; x) for x uniform on them, by quadrature."""
    f, tau = np.array([0.0, 1.0, 2.0]), 1.0
    truth = scalar_information(f, 1.0, 0.0, tau)
    hits = 0
    for seed in range(100):
        result = infonce(GatedChannel.regular(f[:, None], tau), seed)
        error = result.parts["error of the draws"]
        assert error < 0.03
        hits += abs(result.nats - truth) < 1.96 * error
    assert hits >= 88  # 5e-4 of the binomial law


@pytest.mark.parametrize("tau", [0.0, 0.8])
def test_the_standard_error_is_the_jackknife(tau):
    """Every row deleted in turn, from the matrix of densities."""
    rng = np.random.default_rng(8)
    channel = GatedChannel(np.maximum(rng.normal(size=(40, 2)), 0), [1.0, 2.0], [0.5, 0.3], tau)
    h = channel.sample(np.random.default_rng(3))
    density = np.exp(channel.log_density(h))

    def value(rows):
        part = density[np.ix_(rows, rows)]
        return np.log(np.diag(part) / part.mean(axis=1)).mean()

    deleted = np.array([value(np.delete(np.arange(40), i)) for i in range(40)])
    jackknife = np.sqrt(39 / 40 * ((deleted - deleted.mean()) ** 2).sum())
    result = infonce(channel, np.random.default_rng(3), draws=1)
    assert result.nats == pytest.approx(value(np.arange(40)))
    assert result.stderr == pytest.approx(jackknife, rel=1e-3)  # pairs beyond 0.999 of a row's mass are cut off


def test_one_unit_is_the_whole_row():
    """Value and error, from the same draws; that the errors cover is measured in benchmarks/interval_coverage.py."""
    channel = GatedChannel(np.random.default_rng(0).normal(size=(80, 1)), 1.0, 0.3, 0.5)
    whole, units = (bound(channel, np.random.default_rng(5)) for bound in (leave_one_out, leave_one_out_per_unit))
    assert (units.nats, units.stderr, units.warnings) == (whole.nats, whole.stderr, whole.warnings)
