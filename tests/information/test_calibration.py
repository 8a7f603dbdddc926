"""Over many channels: 95 % intervals cover what they should, and upper and lower bounds never cross."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from vibtheory.information import METHODS, GatedChannel, estimate

S, TAU = 6.0, 4.0  # x ~ N(0, S²), h = x + τn
R = S**2 / TAU**2
TRUTH = 0.5 * np.log1p(R)
# The population's value of each statistic. A Gaussian kernel's mean over x' ~ N(0, S²) is again Gaussian in x.
POPULATION = {
    "variational": TRUTH,
    "gaussian": TRUTH,
    "gaussian_tight": TRUTH,
    "logdet": 0.5 * np.log(TAU**2 + S**2),
    "per_unit": TRUTH,
    "infonce": TRUTH,
    "leave_one_out": TRUTH,
    "leave_one_out_per_unit": TRUTH,
    "pairwise": 0.5 * np.log1p(R) + 0.5 * R / (1 + R),
    "pairwise_bhattacharyya": 0.5 * np.log1p(R / 4) + 0.5 * (R / 4) / (1 + R / 4),
    "ksg": TRUTH,
}
REPEATS = 200
LIMITS = binom.ppf([5e-4, 1 - 5e-4], REPEATS, 0.95)


@pytest.mark.parametrize("method", POPULATION)
def test_intervals_cover(method):
    options = {"seed": 0} if method in ("infonce", "leave_one_out", "leave_one_out_per_unit", "ksg") else {}
    rng = np.random.default_rng(17)
    hits, repeats = 0, REPEATS // 4 if method == "ksg" else REPEATS
    low, high = binom.ppf([5e-4, 1 - 5e-4], repeats, 0.95)
    for repeat in range(repeats):
        if options:
            options["seed"] = repeat
        result = estimate(GatedChannel.regular(S * rng.normal(size=(150, 1)), TAU), method, **options)
        hits += abs(result.nats - POPULATION[method]) <= 1.96 * result.stderr
    assert low <= hits <= high, hits


GATES = np.array([2.0, -0.4]), np.array([0.5, 0.3])  # μ, σ of two units
SPREAD = np.array([0.1, 70.0])  # their activations' standard deviations


def _noise_entropy() -> float:
    """½ Σ_j E log(τ² + f_j²σ_j²) for Gaussian f, by Gauss–Hermite quadrature."""
    node, weight = np.polynomial.hermite_e.hermegauss(200)
    variance = TAU**2 + (node[:, None] * SPREAD * GATES[1]) ** 2
    return float(0.5 * (weight @ np.log(variance)).sum() / np.sqrt(2 * np.pi))


@pytest.mark.parametrize("method", ["variational", "gaussian", "gaussian_tight", "logdet"])
def test_intervals_cover_with_gates(method):
    """Two gated units on correlated Gaussian activations: signal and gate noise both enter."""
    mu, sigma = GATES
    covariance = np.outer(SPREAD, SPREAD) * [[1.0, 0.6], [0.6, 1.0]]
    signal = covariance * np.outer(mu, mu) + np.diag(sigma**2 * SPREAD**2 + TAU**2)
    independent = 0.5 * np.log(np.diag(signal)).sum()
    log_det = 0.5 * np.linalg.slogdet(signal)[1]
    truth = {
        "variational": independent - _noise_entropy(),
        "gaussian": log_det - 2 * np.log(TAU),
        "gaussian_tight": log_det - _noise_entropy(),
        "logdet": log_det,
    }[method]
    rng = np.random.default_rng(29)
    root = np.linalg.cholesky(covariance)
    hits = 0
    for _ in range(REPEATS):
        result = estimate(GatedChannel(rng.normal(size=(400, 2)) @ root.T, mu, sigma, TAU), method)
        hits += abs(result.nats - truth) <= 1.96 * result.stderr
    assert LIMITS[0] <= hits <= LIMITS[1], hits


def test_every_standard_error_is_calibrated():
    covered = {*POPULATION, "variational_factorised"}  # the last one with zeros
    channel = GatedChannel(np.random.default_rng(0).normal(size=(50, 2)), 1.0, 0.5, 1.0)
    claims = {method for method in METHODS if estimate(channel, method).stderr > 0}
    assert claims - covered == set()


@pytest.mark.parametrize("method", ["variational", "variational_factorised"])
def test_intervals_cover_with_zeros(method):
    """ReLU of two Gaussians: π = ½, ψ⁺ = log 2 + γ_E (a half-normal's E log f² is log s² − log 2 − γ_E)."""
    mu, sigma = np.array([2.0, -0.1]), np.array([0.5, 0.3])
    psi = np.log(2) + np.euler_gamma
    truth = 2 * np.log(2) + 0.25 * (np.log1p((mu / sigma) ** 2) + psi).sum()
    rng = np.random.default_rng(23)
    hits = 0
    for _ in range(REPEATS):
        f = np.maximum(rng.normal(size=(400, 2)) * [0.1, 70.0], 0)
        result = estimate(GatedChannel(f, mu, sigma), method)
        hits += abs(result.nats - truth) <= 1.96 * result.stderr
    assert LIMITS[0] <= hits <= LIMITS[1], hits


def test_upper_and_lower_bounds_never_cross_on_50_channels():
    path = Path(__file__).parents[2] / "benchmarks" / "stress_information.py"
    spec = importlib.util.spec_from_file_location("stress_information", path)
    stress = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stress)
    rows = [stress.crossing(seed) for seed in range(50)]
    assert [row["seed"] for row in rows if row["slack"] < -1e-8] == []
    assert sum(row["tau"] == 0 for row in rows) >= 10
    assert min(row["slack"] for row in rows) < 0.5  # tight somewhere: the check can fail
