"""Gaussian bottleneck against the scalar closed form, Chechik's eigenproblem, log-determinants and the discrete one."""

from __future__ import annotations

import numpy as np
import pytest

from vibtheory.information.bottleneck import blahut_arimoto
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
