"""KSG against a brute-force count, scikit-learn, and a known Gaussian pair."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression

from vibtheory.information import gaussian_channel, ksg, ksg_samples, scalar_gated_channel, uniform_additive_noise
from vibtheory.information.channel import GatedChannel


def _brute_force(x, y, k):
    """Kraskov et al. (2004), eq. 8, from full distance matrices."""
    n = len(x)
    dx = np.abs(x[:, None] - x[None]).max(-1)
    dy = np.abs(y[:, None] - y[None]).max(-1)
    total = 0.0
    for i in range(n):
        others = np.arange(n) != i
        radius = np.sort(np.maximum(dx[i], dy[i])[others])[k - 1]
        total += digamma((dx[i][others] < radius).sum() + 1) + digamma((dy[i][others] < radius).sum() + 1)
    return digamma(k) + digamma(n) - total / n


@pytest.mark.parametrize(("p", "q", "k"), [(1, 1, 3), (2, 3, 1), (4, 1, 7)])
def test_brute_force_to_1e_10(p, q, k):
    rng = np.random.default_rng(k)
    x = rng.normal(size=(250, p)) * 30
    y = x[:, :1] * 0.01 + rng.normal(size=(250, q)) * 0.2
    assert ksg_samples(x, y, k).nats == pytest.approx(_brute_force(x, y, k), abs=1e-10)


def test_scikit_learn_to_1e_10():
    rng = np.random.default_rng(5)
    x = rng.normal(size=400)
    y = x + rng.normal(size=400)
    x, y = x / x.std(), y / y.std()  # it rescales, and adds 1e-10 of noise of its own, so that ties are broken
    ours = ksg_samples(x[:, None], y[:, None], 3).nats
    theirs = mutual_info_regression(x[:, None], y, n_neighbors=3, random_state=0)[0]
    assert ours == pytest.approx(theirs, abs=1e-10)


def test_a_gaussian_channel_and_its_ceiling():
    rng = np.random.default_rng(6)
    channel = GatedChannel.regular(rng.normal(size=(2000, 1)) * 5.0, 3.0)
    result = ksg(channel, seed=1)
    assert result.nats == pytest.approx(gaussian_channel(25.0, 9.0), abs=0.06)
    assert result.kind == "estimate"
    assert 0.01 < result.stderr < 0.04
    sharp = ksg(GatedChannel.regular(rng.normal(size=(300, 1)) * 5.0, 1e-7), k=2)
    assert sharp.nats == pytest.approx(digamma(300) - digamma(3), abs=1e-2)
    assert sharp.nats <= sharp.ceiling + 1e-12
    assert sharp.saturated


def test_a_constant_carries_nothing():
    assert ksg(GatedChannel(np.ones((10, 2)), 0.0, 0.0)).nats == 0


RNG = np.random.default_rng(21)
THREE, FOUR = RNG.integers(0, 3, (2000, 1)) * 1.0, RNG.integers(0, 4, (2000, 1)) * 1.0
ZEROS = np.maximum(RNG.normal(size=(2000, 1)), 0)


@pytest.mark.parametrize(
    ("x", "y", "truth"),
    [
        (THREE, THREE, np.log(3)),
        (ZEROS, RNG.permutation(ZEROS), 0.0),
        (FOUR, -7 * FOUR, np.log(4)),
        (FOUR, FOUR + 0.05 * RNG.normal(size=FOUR.shape), np.log(4)),
    ],
)
def test_ties_and_mixtures(x, y, truth):
    result = ksg_samples(x, y)
    assert abs(result.nats - truth) < 4 * result.stderr + 0.01
    assert not result.saturated


def test_relu_zeros_of_a_gated_unit():
    f = np.repeat(ZEROS[:50], 20, axis=0)
    result = ksg(GatedChannel(f, 1.2, 0.5), seed=2)
    assert abs(result.nats - scalar_gated_channel(ZEROS[:50, 0], 1.2, 0.5)) < 4 * result.stderr
    assert "copies" in result.assumes[1]


@pytest.mark.parametrize("width", [1e-5, 1e-7])
def test_the_correction_sees_a_thin_strip(width):
    """x uniform, y = x + a little: the plain estimate stops near log N, whatever the truth."""
    rng = np.random.default_rng(4)
    x = rng.random((2000, 1))
    y = x + width * rng.random((2000, 1))
    truth = uniform_additive_noise(1.0, width)
    plain, corrected = ksg_samples(x, y, 5), ksg_samples(x, y, 5, alpha=0.25)
    assert plain.nats < truth - 1
    assert abs(corrected.nats - truth) < 0.9
    assert corrected.nats - plain.nats == pytest.approx(corrected.parts["non-uniformity"])
    independent = rng.random((2000, 1))
    assert ksg_samples(x, independent, 5, alpha=0.05).nats == pytest.approx(0, abs=0.06)


def test_heavy_tails_are_said():
    rng = np.random.default_rng(2)
    normal = rng.normal(size=(400, 2))
    assert not ksg_samples(normal, normal + rng.normal(size=(400, 2))).warnings
    heavy = np.sinh(3 * normal)
    assert "heavy tails" in str(ksg_samples(heavy, normal))
    assert "heavy tails" in str(ksg_samples(normal, heavy))
