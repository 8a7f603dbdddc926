"""Gaussian bottleneck against the scalar closed form, Chechik's eigenproblem, log-determinants and the discrete one."""

from __future__ import annotations

import numpy as np
import pytest

from vibtheory.information.bottleneck import blahut_arimoto
from vibtheory.information.closed_form import multivariate_gaussian
from vibtheory.information.gaussian_bottleneck import gaussian_bottleneck


def _case(seed=3):
    """x [3] at scales 0.1 to 20, y = B x + noise [2]."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, 3)) * np.array([[0.1], [2.0], [20.0]])
    cov_x = root @ root.T
    mix = rng.normal(size=(2, 3)) / np.sqrt(np.diag(cov_x))
    return cov_x, mix @ cov_x @ mix.T + np.diag([0.3, 2.0]), cov_x @ mix.T


def test_scalar_closed_form_at_any_scale():
    rho = 0.8
    gib = gaussian_bottleneck([[49.0]], [[0.01]], [[rho * 7 * 0.1]])
    np.testing.assert_allclose(gib.critical_betas, [1 / rho**2], rtol=1e-12)
    for rate in (0.05, 0.7, 3.0):
        truth = -0.5 * np.log(1 - rho**2 * (1 - np.exp(-2 * rate)))
        np.testing.assert_allclose(gib.relevance(rate), truth, rtol=1e-10)
    assert gib.relevance(0) == 0
    assert "critical" in str(gib)


def test_near_a_function_nothing_is_told_beyond_the_rate():
    share = 2e-11  # 1 − ρ²
    gib = gaussian_bottleneck([[1.0]], [[1.0]], [[1 - 1e-11]])
    for rate in (1e-12, 1e-3, 1.0, 10.0, 1e6):
        truth = -0.5 * np.log(share + (1 - share) * np.exp(-2 * rate)) if rate > 1e-6 else rate
        np.testing.assert_allclose(gib.relevance(rate), truth, rtol=1e-5)
        assert gib.relevance(rate) <= rate


def test_the_rate_is_split_as_no_other_split_betters():
    rho = np.array([0.95, 0.6, 0.3])
    gib = gaussian_bottleneck(np.eye(3), np.eye(3), np.diag(rho))
    part = np.linspace(0, 1, 401)
    first, second = (grid.ravel() for grid in np.meshgrid(part, part))
    splits = np.stack([first, second, 1 - first - second])[:, first + second <= 1]
    for rate in (0.05, 0.8, 2.5):
        told = -0.5 * np.log(1 - rho[:, None] ** 2 * (1 - np.exp(-2 * rate * splits)))
        assert -1e-12 <= gib.relevance(rate) - told.sum(0).max() < 1e-4


def test_no_price_is_too_high_for_the_plane():
    for rho in (1e-6, 0.999999):
        truth = -0.5 * np.log1p(-(rho**2))
        np.testing.assert_allclose(gaussian_bottleneck([[1.0]], [[1.0]], [[rho]]).point(1e200)[1], truth, rtol=1e-9)


def test_critical_betas_are_those_of_chechiks_eigenproblem():
    cov_x, cov_y, cov_xy = _case()
    conditional = cov_x - cov_xy @ np.linalg.solve(cov_y, cov_xy.T)
    eigenvalues = np.sort(np.linalg.eigvals(conditional @ np.linalg.inv(cov_x)).real)
    gib = gaussian_bottleneck(cov_x, cov_y, cov_xy)
    np.testing.assert_allclose(gib.critical_betas, 1 / (1 - eigenvalues[:2]), rtol=1e-7)


@pytest.mark.parametrize("factor", [0.9, 1.5, 20.0])
def test_projection_gives_the_stated_information_and_is_optimal(factor):
    cov_x, cov_y, cov_xy = _case()
    gib = gaussian_bottleneck(cov_x, cov_y, cov_xy)
    beta = float(factor * gib.critical_betas[0])
    conditional = cov_x - cov_xy @ np.linalg.solve(cov_y, cov_xy.T)

    def plane(a):
        total = np.linalg.slogdet(np.eye(len(a)) + a @ cov_x @ a.T)[1] / 2
        return total, total - np.linalg.slogdet(np.eye(len(a)) + a @ conditional @ a.T)[1] / 2

    a = gib.projection(beta)
    np.testing.assert_allclose(plane(a), gib.point(beta), atol=1e-9)
    best = plane(a)[0] - beta * plane(a)[1]
    rng = np.random.default_rng(0)
    for _ in range(200):
        i_tx, i_ty = plane(a + rng.normal(scale=0.05, size=a.shape) / np.sqrt(np.diag(cov_x)))
        assert i_tx - beta * i_ty >= best - 1e-10
    if factor < 1:
        assert gib.point(beta) == (0, 0)


def test_discretised_gaussian_agrees_with_blahut_arimoto():
    rho, beta = 0.9, 2.2
    grid = np.linspace(-4.2, 4.2, 29)
    x, y = np.meshgrid(grid, grid, indexing="ij")
    joint = np.exp(-(x**2 - 2 * rho * x * y + y**2) / (2 * (1 - rho**2)))
    joint /= joint.sum()
    truth = gaussian_bottleneck([[1.0]], [[1.0]], [[rho]])
    i_tx, i_ty = truth.point(beta)
    # Start from the Gaussian encoder itself, on the grid of t: the discrete optimum can only be lower, and hardly is.
    gain = truth.projection(beta)[0, 0]
    t = np.linspace(-4.5, 4.5, 29) * np.sqrt(gain**2 + 1)
    start = np.exp(-0.5 * (t[None] - gain * grid[:, None]) ** 2)
    start /= start.sum(1, keepdims=True)
    found = blahut_arimoto(joint, beta, start=start, restarts=0, max_iterations=1500)
    np.testing.assert_allclose(found.objective, i_tx - beta * i_ty, atol=2e-3)
    np.testing.assert_allclose([found.i_tx, found.i_ty], [i_tx, i_ty], atol=2e-2)


def test_curve_is_concave_with_slope_one_over_beta():
    gib = gaussian_bottleneck(*_case())
    betas = np.geomspace(1.01, 50, 400) * gib.critical_betas[0]
    curve = gib.curve(betas)
    slope = np.diff(curve.i_ty) / np.diff(curve.i_tx)
    np.testing.assert_allclose(slope, 1 / np.sqrt(curve.betas[1:] * curve.betas[:-1]), rtol=1e-2)
    assert (np.diff(slope) < 0).all()
    np.testing.assert_allclose(gib.point(1e14)[1], gib.i_xy, rtol=1e-9)


def test_at_a_rate_beyond_every_beta_it_is_all_of_the_information():
    found = gaussian_bottleneck([[4.0]], [[9.0]], [[3.6]])  # ρ = 0.6
    assert found.relevance(400.0) == pytest.approx(-0.5 * np.log(1 - 0.36), rel=1e-12)
    assert found.relevance(340.0) == pytest.approx(-0.5 * np.log(1 - 0.36), rel=1e-9)


def test_covariances_in_float32_and_to_rounding_symmetric():
    """torch.cov of float32 rows is symmetric to 1e-8 only: both closed forms at the float64 matrix's I(x; y)."""
    rows = np.random.default_rng(0).normal(size=(300, 4)) @ np.array(
        [[1, 0.5, 0.5, 0], [0, 1, 0, 0.6], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    exact = np.cov(rows.T)
    single = exact.astype(np.float32)
    single[1, 0] *= np.float32(1 + 1e-6)
    assert (single != single.T).any()
    truth = -0.5 * np.log(np.linalg.det(exact) / np.linalg.det(exact[:2, :2]) / np.linalg.det(exact[2:, 2:]))
    assert multivariate_gaussian(single, 2) == pytest.approx(truth, abs=1e-5)
    assert gaussian_bottleneck(single[:2, :2], single[2:, 2:], single[:2, 2:]).i_xy == pytest.approx(truth, abs=1e-5)
    nearly = np.diag([1.0, 2.0])
    nearly[0, 1] = 1e-17
    assert gaussian_bottleneck(nearly, np.eye(1), [[0.5], [0.0]]).i_xy == pytest.approx(-0.5 * np.log(0.75))
