"""The ground truth itself: other closed forms, scipy's quadrature, and every rejected input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from vibtheory.errors import InvalidInputError
from vibtheory.information.closed_form import (
    discrete_memoryless,
    gaussian_channel,
    multivariate_gaussian,
    scalar_gated_channel,
    uniform_additive_noise,
)

COVARIANCE = np.array([[4.0, 30.0], [30.0, 400.0]])


def test_gaussian_channel_and_pair_agree():
    assert gaussian_channel(9.0, 3.0) == pytest.approx(np.log(2))
    assert gaussian_channel([9.0, 0.0], [3.0, 7.0]) == pytest.approx(np.log(2))
    pair = np.array([[9.0, 9.0], [9.0, 12.0]])  # (X, X + N)
    assert multivariate_gaussian(pair, 1) == pytest.approx(np.log(2))
    assert multivariate_gaussian(COVARIANCE, 1) == pytest.approx(-0.5 * np.log(1 - 900 / 1600))


def test_multivariate_gaussian_is_a_difference_of_entropies_in_any_unit():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 7))
    matrix = root @ root.T
    ld = lambda m: np.linalg.slogdet(m)[1]  # noqa: E731
    expected = 0.5 * (ld(matrix[:2, :2]) + ld(matrix[2:, 2:]) - ld(matrix))
    unit = np.diag([1e-6, 1e5, 3.0, 1e-3, 40.0])
    assert multivariate_gaussian(unit @ matrix @ unit, 2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("signal", "noise"), [(7.0, 0.5), (0.5, 7.0), (3.0, 3.0)])
def test_uniform_additive_noise_against_the_trapezoid(signal, noise):
    def density(y):  # overlap of [y − noise, y] with [0, signal]
        return max(0.0, min(signal, y) - max(0.0, y - noise)) / (signal * noise)

    edges = sorted({0.0, signal, noise, signal + noise})
    pieces = [
        quad(lambda y: -density(y) * np.log(density(y)), a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(edges)
    ]
    assert uniform_additive_noise(signal, noise) == pytest.approx(sum(pieces) - np.log(noise), abs=1e-9)


def test_discrete_memoryless_channels():
    e, h = 0.11, -(0.11 * np.log(0.11) + 0.89 * np.log(0.89))
    assert discrete_memoryless([[1 - e, e], [e, 1 - e]]) == pytest.approx(np.log(2) - h)
    erasure = [[0.7, 0.0, 0.3], [0.0, 0.7, 0.3]]
    assert discrete_memoryless(erasure, [0.2, 0.8]) == pytest.approx(-0.7 * (0.2 * np.log(0.2) + 0.8 * np.log(0.8)))
    assert discrete_memoryless(np.eye(5)) == pytest.approx(np.log(5))
    assert discrete_memoryless([[0.4, 0.6]] * 3) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("f", "mu", "sigma", "tau"),
    [
        ([0.0, 0.0, 3.0, 40.0], 0.7, 0.2, 0.0),
        ([0.01, -5.0, 3.0], -2.0, 30.0, 0.0),
        ([1.0, 2.0, 100.0], 1.0, 0.01, 0.0),
        ([1.0, -2.0, 50.0], 0.0, 3.0, 0.0),
        ([0.0, 2.0, 3.0], 4.0, 0.0, 2.5),
        ([0.0, 2.0, -30.0], 0.4, 0.3, 0.9),
        ([5.0], 1.0, 1.0, 0.0),
    ],
)
def test_scalar_gated_channel_to_1e_8(scalar_information, f, mu, sigma, tau):
    truth = scalar_information(f, mu, sigma, tau)
    assert scalar_gated_channel(f, mu, sigma, tau) == pytest.approx(truth, abs=1e-9)
    # a law of x given as repetitions and as probabilities
    law = np.arange(1, len(f) + 1)
    repeated = scalar_gated_channel(np.repeat(f, law), mu, sigma, tau)
    assert scalar_gated_channel(f, mu, sigma, tau, p_x=law / law.sum()) == pytest.approx(repeated, abs=1e-9)


@pytest.mark.parametrize("noise", [1e-2, 1e-7, 4e-8])
def test_scalar_gated_channel_down_to_the_least_noise(noise):
    assert scalar_gated_channel([1.0, 2.0, 3.0], 1.0, noise) == pytest.approx(np.log(3), abs=1e-8)
    assert scalar_gated_channel([1.0, 2.0, 3.0], 1.0, 0.0, noise) == pytest.approx(np.log(3), abs=1e-8)
    for sigma in (1e-9, 1e-12, 1e-17, 1e-160):
        with pytest.raises(InvalidInputError, match=r"sigma: got noise of .* expected at least 1e-8"):
            scalar_gated_channel([1.0, 2.0, 3.0], 1.0, sigma)


def test_inputs_that_never_occur_change_nothing():
    assert discrete_memoryless(np.eye(2), [1, 0]) == 0
    assert discrete_memoryless(np.eye(3), [0.5, 0, 0.5]) == pytest.approx(np.log(2))
    assert discrete_memoryless([[0.5, 0.5, 0], [0, 0, 1], [0, 1, 0]], [0.5, 0, 0.5]) == pytest.approx(
        0.75 * np.log(4 / 3)
    )
    with_them = scalar_gated_channel([1.0, 40.0, 0.0, 3.0], 1.0, 0.2, p_x=[0.25, 0.0, 0.0, 0.75])
    assert with_them == pytest.approx(scalar_gated_channel([1.0, 3.0, 3.0, 3.0], 1.0, 0.2), abs=1e-9)


def test_scalar_gated_channel_edges():
    assert scalar_gated_channel([0.0, 0.0], 1.0, 1.0) == 0
    assert scalar_gated_channel([1.0, 2.0], 0.0, 0.0) == 0
    assert scalar_gated_channel([1.0, 2000.0], 1.0, 0.01) == pytest.approx(np.log(2), abs=1e-12)


def test_ratios_beyond_float64_have_a_logarithm():
    assert gaussian_channel([1e300, 9.0], [1e-300, 3.0]) == pytest.approx(300 * np.log(10) + np.log(2))
    assert uniform_additive_noise(1e300, 1e-300) == pytest.approx(600 * np.log(10))
    assert uniform_additive_noise(1.7e308, 1.7e308) == 0.5


def test_a_channel_of_float32_rows_is_taken_as_its_normalised_one() -> None:
    """A softmax's rows sum to 1 within their own precision only; in float64 the same rows would be a mistake."""
    logits = torch.randn(40, 9, generator=torch.Generator().manual_seed(2))
    rows = torch.softmax(logits, dim=1)
    exact = rows.double() / rows.double().sum(dim=1, keepdim=True)
    assert discrete_memoryless(rows) == discrete_memoryless(exact)
    assert discrete_memoryless(rows.half()) == pytest.approx(discrete_memoryless(exact), abs=2e-3)
    with pytest.raises(InvalidInputError, match="transition: got sums"):
        discrete_memoryless(rows.half().double())


def test_a_covariance_in_float32_has_no_better_half() -> None:
    """torch.cov's two halves differ in rounding; which of them comes first plays no part."""
    cov = torch.cov(torch.randn(5, 50, generator=torch.Generator().manual_seed(1))).numpy()
    cov[0, 3] *= 1 + 1e-6
    assert multivariate_gaussian(cov, 2) == multivariate_gaussian(cov.T, 2)
