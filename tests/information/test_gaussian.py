"""Maximum-entropy bounds under stated noise: above the truth, exact for Gaussian laws, constants accounted for."""

from __future__ import annotations

import numpy as np
import pytest

from vibtheory.information.channel import GatedChannel
from vibtheory.information.gaussian import gaussian, gaussian_tight, logdet

RNG = np.random.default_rng(8)
F = np.maximum(RNG.normal(size=(80, 4)) @ np.diag([0.1, 3.0, 50.0, 1.0]), 0)
MU, SIGMA, TAU = np.array([9.0, -1.0, 0.1, 2.0]), np.array([2.0, 0.0, 0.02, 3.0]), 0.4
CHANNEL = GatedChannel(F, MU, SIGMA, TAU)


@pytest.mark.parametrize("bound", [gaussian, gaussian_tight])
def test_above_the_truth(product_channels, bound):
    seen = 0
    for name, f, mu, sigma, tau, truth in product_channels:
        if tau > 0:
            result = bound(GatedChannel(f, mu, sigma, tau))
            assert result.kind == "upper"
            assert result.nats >= truth - 1e-9, name
            seen += 1
    assert seen == 2


def test_against_the_formula_written_out():
    noise = np.diag((F**2).mean(0) * SIGMA**2)
    covariance = np.cov((F * MU).T, bias=True) + noise
    logdet_i = np.linalg.slogdet(np.eye(4) + covariance / TAU**2)[1]
    conditional = np.log(TAU**2 + F**2 * SIGMA**2).sum(1).mean()
    assert gaussian(CHANNEL).nats == pytest.approx(0.5 * logdet_i, rel=1e-12)
    whole = np.linalg.slogdet(TAU**2 * np.eye(4) + covariance)[1]
    assert gaussian_tight(CHANNEL).nats == pytest.approx(0.5 * (whole - conditional), rel=1e-12)
    assert logdet(CHANNEL).nats == pytest.approx(0.5 * whole, rel=1e-12)
    assert logdet(CHANNEL).kind == "estimate"
    assert gaussian_tight(CHANNEL).nats < gaussian(CHANNEL).nats
    assert gaussian(CHANNEL).nats - logdet(CHANNEL).nats == pytest.approx(-4 * np.log(TAU))


def test_closed_gates_enter_logdet_as_pure_noise_and_gaussian_not_at_all():
    wide = GatedChannel(np.column_stack([F, F[:, :2]]), [*MU, 0, 0], [*SIGMA, 0, 0], TAU)
    assert gaussian(wide).nats == pytest.approx(gaussian(CHANNEL).nats, rel=1e-13)
    assert logdet(wide).nats == pytest.approx(logdet(CHANNEL).nats + 2 * np.log(TAU), rel=1e-13)
    closed = GatedChannel(F, 0.0, 0.0, TAU)
    assert gaussian(closed).nats == 0
    assert gaussian_tight(closed).nats == 0
    assert logdet(closed).nats == pytest.approx(4 * np.log(TAU))


@pytest.mark.parametrize("bound", [gaussian, gaussian_tight, logdet])
def test_standard_error_is_the_jackknife_s(bound):
    rng = np.random.default_rng(1)
    channel = GatedChannel(rng.normal(size=(150, 2)) * [0.1, 30.0], [5.0, 0.2], [1.0, 0.1], 0.3)
    left_out = np.array([bound(channel.rows(np.arange(150) != i)).nats for i in range(150)])
    jackknife = np.sqrt(149 / 150 * ((left_out - left_out.mean()) ** 2).sum())
    assert bound(channel).stderr == pytest.approx(jackknife, rel=0.05)


@pytest.mark.parametrize("tau", [1e-2, 1e-5, 3e-7, 1e-9])
def test_rank_below_the_number_of_units_and_little_noise(tau):
    """Rank 5 in 60 units: ½ Σ log(1 + s²/(Nτ²)) over its five singular values, from a QR of the two factors."""
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(100, 5)), rng.normal(size=(5, 60))
    small = np.linalg.qr(left - left.mean(axis=0))[1] @ np.linalg.qr(right.T)[1].T
    truth = 0.5 * np.log1p(np.linalg.svd(small, compute_uv=False) ** 2 / (100 * tau**2)).sum()
    channel = GatedChannel.regular(left @ right, tau)
    for bound in (gaussian, gaussian_tight):
        assert bound(channel).nats == pytest.approx(truth, abs=1e-5)
        # rows of a Gaussian law in 5 dimensions: the error is about that of log det of their covariance, √(5/2N)
        assert bound(channel).stderr == pytest.approx(np.sqrt(5 / 200), rel=0.3)
    x = left[:, :1]
    copies = gaussian_tight(GatedChannel.regular(np.hstack([x, x, 3 * x]), tau)).nats
    assert copies == pytest.approx(0.5 * np.log1p(11 * x.var() / tau**2), abs=1e-6)


def test_both_ways_agree_with_gates(monkeypatch):
    import sys

    usual = [gaussian(CHANNEL), gaussian_tight(CHANNEL)]
    monkeypatch.setattr(sys.modules["vibtheory.information.gaussian"], "_ROUNDING", 0.0)
    for bound, before in zip((gaussian, gaussian_tight), usual, strict=True):
        assert bound(CHANNEL).nats == pytest.approx(before.nats, rel=1e-12)
        assert bound(CHANNEL).stderr == pytest.approx(before.stderr, rel=1e-10)


def test_a_wide_layer_of_few_rows():
    """Two rows: Cov(h) has rank one beside its diagonal, whose 2e5 units squared nobody can hold."""
    rng = np.random.default_rng(5)
    f, sigma, tau = rng.normal(size=(2, 200_000)), rng.uniform(0.1, 1, 200_000), 30.0
    noise = tau**2 + (f**2).mean(axis=0) * sigma**2
    half = (f[0] - f[1]) / 2
    truth = 0.5 * (np.log(noise).sum() + np.log1p((half**2 / noise).sum()))
    channel = GatedChannel(f, np.ones(200_000), sigma, tau)
    assert logdet(channel).nats == pytest.approx(truth, rel=1e-12)
