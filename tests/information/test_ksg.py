"""KSG against a brute-force count, scikit-learn, and a known Gaussian pair."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression

from vibtheory.errors import InvalidInputError
from vibtheory.information import gaussian_channel, ksg, ksg_samples
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
    assert np.isnan(result.stderr)
    sharp = ksg(GatedChannel.regular(rng.normal(size=(300, 1)) * 5.0, 1e-7), k=2)
    assert sharp.nats == pytest.approx(digamma(300) - digamma(3), abs=1e-2)
    assert sharp.nats <= sharp.ceiling + 1e-12
    assert sharp.saturated


def test_a_constant_carries_nothing():
    assert ksg(GatedChannel(np.ones((10, 2)), 0.0, 0.0)).nats == 0


@pytest.mark.parametrize(
    ("x", "y", "k", "message"),
    [
        (np.ones((5, 1)), np.ones((4, 1)), 3, "y: got 4 rows"),
        (np.ones((5, 1)), np.ones((5, 1)), 0, "k: got 0"),
        (np.ones((5, 1)), np.ones((5, 1)), 5, "k: got 5"),
        (np.ones(5), np.ones((5, 1)), 1, "x: got shape"),
        (np.ones((5, 1)), np.ones(5), 1, "y: got shape"),
    ],
)
def test_rejected(x, y, k, message):
    with pytest.raises(InvalidInputError, match=message):
        ksg_samples(x, y, k)
