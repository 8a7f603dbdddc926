"""Ground truth for channels, by scipy's adaptive quadrature: nothing of vibtheory takes part."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.integrate import quad


def _scalar_information(f, mu, sigma, tau=0.0):
    """I(h; x) in nats of h = f z + τn, x uniform, as ∫ Σ_i p(x_i) p(h|x_i) log p(h|x_i)/p(h) dh, plus the atom at 0."""
    f = np.asarray(f, dtype=float)
    centre, scale = f * mu, np.hypot(f * sigma, tau)
    on = scale > 0
    share = on.mean()
    total = 0.0 if share == 1 else -(1 - share) * np.log(1 - share)
    centre, scale = centre[on], scale[on]

    def integrand(h):
        log_p = -0.5 * ((h - centre) / scale) ** 2 - np.log(scale * np.sqrt(2 * np.pi))
        top = log_p.max()
        mixture = top + np.log(np.exp(log_p - top).sum() / len(f))
        return (np.exp(log_p) * (log_p - mixture)).sum() / len(f)

    edges = np.unique((centre[:, None] + scale[:, None] * np.array([-10, -6, -3, 0, 3, 6, 10])).ravel())
    return total + sum(quad(integrand, a, b, epsabs=1e-12, epsrel=1e-11)[0] for a, b in itertools.pairwise(edges))


@pytest.fixture(scope="session")
def scalar_information():
    """(f [N], mu, sigma, tau) → I(h; x) of one gated unit, in nats, to about 1e-10."""
    return _scalar_information


@pytest.fixture(scope="session")
def product_channels(scalar_information):
    """[(name, f, mu, sigma, tau, I)]: two units with independent inputs, so that I(h; x) = I₁ + I₂ exactly."""
    relu = np.array([0.0, 0.0, 3.0, 40.0, 7.0])
    cases = {
        "relu": (relu, np.array([0.0, 0.02, 0.05]), [0.7, -20.0], [0.2, 9.0], 0.0),
        "dense": (np.array([-9.0, 4.0, 30.0, 31.0]), np.array([0.5, 0.1]), [1.3, 5.0], [0.3, 4.0], 0.0),
        "noisy gate": (relu, np.array([0.0, 2.0, 3.0]), [0.7, -2.0], [0.2, 0.9], 1.7),
        "regular": (relu, np.array([0.0, 2.0, 9.0]), [1.0, 1.0], [0.0, 0.0], 2.5),
        "closed mean": (np.array([1.0, -30.0, 5.0]), np.array([0.0, 0.3, 2.0]), [0.0, 0.0], [0.1, 7.0], 0.0),
    }
    result = []
    for name, (a, b, mu, sigma, tau) in cases.items():
        f = np.array([[x, y] for x in a for y in b])
        truth = scalar_information(a, mu[0], sigma[0], tau) + scalar_information(b, mu[1], sigma[1], tau)
        result.append((name, f, np.array(mu), np.array(sigma), tau, truth))
    return result
