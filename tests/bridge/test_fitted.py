"""The fitted bound: two solvers of one program, its derivatives, what it is tighter than, and where it must fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from vibtheory.bridge import fitted, fitted_interior_point
from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.checking import quadratic_bound, verify_bound
from vibtheory.bridge.fitted_interior_point import least_mean_by_interior_point
from vibtheory.bridge.fitted_program import QuadraticFamily, _solve, least_mean_by_cvxpy
from vibtheory.datasets import Dataset
from vibtheory.errors import SolverError
from vibtheory.theory.quadratic import QuadraticBound

Dense = Callable[..., nn.Module]
Data = Callable[..., Dataset]
Array = NDArray[np.float64]


def _family(d: int, rank: int | None) -> QuadraticFamily:
    if rank is None:
        return QuadraticFamily(d)
    return QuadraticFamily(d, np.linalg.qr(np.random.default_rng(1).standard_normal((d, rank)))[0])


def _losses(u: Array) -> Array:
    """Mean of softplus along 9 directions, on unit spread: convex, and no quadratic."""
    directions = np.random.default_rng(2).standard_normal((9, u.shape[1]))
    g = np.logaddexp(0, u @ directions.T - 1).mean(1)
    return np.asarray((g - g.mean()) / g.std())


FAMILIES = [(1, None), (4, None), (6, None), (6, 2), (5, 5)]


@pytest.mark.parametrize(("d", "rank"), FAMILIES)
def test_features_times_unknowns_are_the_quadratic(d: int, rank: int | None) -> None:
    family, rng = _family(d, rank), np.random.default_rng(3)
    x, u = rng.standard_normal(family.unknowns), rng.standard_normal((7, d))
    q, b, c = family.quadratic(x)
    np.testing.assert_allclose(q, q.T, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(family.features(u) @ x, [v @ q @ v + b @ v + c for v in u], rtol=1e-12, atol=1e-12)
    assert fitted.unknowns(d, d if rank is None else 0, rank or 1) == family.unknowns


@pytest.mark.parametrize(("d", "rank"), FAMILIES)
@pytest.mark.parametrize("shift", [0.0, -2.5])
def test_the_interior_point_method_solves_the_program_that_cvxpy_solves(d: int, rank: int | None, shift: float) -> None:
    family = _family(d, rank)
    u = np.random.default_rng(4).standard_normal((10 * family.unknowns, d))
    g = _losses(u) + shift * (u[:, 0] ** 2 - 1)  # shift < 0: concave along u₁, so that Q ⪰ 0 binds
    features = family.features(u)
    fast, slow = (method(family, features, g) for method in (least_mean_by_interior_point, least_mean_by_cvxpy))
    assert (features @ fast - g).min() > 0
    assert np.linalg.eigvalsh(family.matrix(fast))[0] > 0
    assert fast[: family.diagonal].min(initial=1.0) > 0
    assert 0 <= features.mean(0) @ (fast - slow) + 1e-6 <= 2e-5  # cvxpy's is exact to 1e-6, the other above by 1e-5
    if shift:
        assert np.linalg.eigvalsh(family.quadratic(fast)[0])[0] < 1e-3


@pytest.mark.parametrize(("d", "rank"), [(4, None), (5, 2)])
def test_a_step_solves_the_linearised_equations(d: int, rank: int | None) -> None:
    family = _family(d, rank)
    u = np.random.default_rng(5).standard_normal((3 * family.unknowns, d))
    program = fitted_interior_point._Program(family, family.features(u), _losses(u))
    at = program.advance(program.start())  # off the central path: its products differ
    i, j = family.upper
    units = []
    for k, m in zip(i, j, strict=True):  # ∂C/∂C_km
        units.append(np.zeros((family.order, family.order)))
        units[-1][k, m] = units[-1][m, k] = 1.0
    full = program._places(program.features.T @ at.lam, at.nu, at.z)
    expected = program.features.T @ at.lam
    expected[: family.diagonal] += at.nu
    expected[family.core] += [np.sum(unit * at.z) for unit in units]
    np.testing.assert_allclose(full, expected, rtol=1e-12)
    v = np.random.default_rng(6).standard_normal((family.order, family.order))
    v = v @ v.T
    curvature = program._curvature(at, v)
    expected = program.features.T @ np.diag(at.lam / at.slack) @ program.features
    expected[: family.diagonal, : family.diagonal] += np.diag(at.nu / at.x[: family.diagonal])
    expected[family.core, family.core] += [[np.trace(v @ a @ v @ b) for b in units] for a in units]
    np.testing.assert_allclose(curvature, expected, rtol=1e-10)


def test_the_gap_bounds_the_distance_from_the_optimum_at_every_step() -> None:
    family = _family(6, 2)
    u = np.random.default_rng(4).standard_normal((10 * family.unknowns, 6))
    features, g = family.features(u), _losses(u)
    best = features.mean(0) @ least_mean_by_cvxpy(family, features, g)
    program = fitted_interior_point._Program(family, features, g)
    point, gaps = program.start(), []
    while not gaps or gaps[-1] > 1e-5:
        gaps.append(program.gap(point))
        assert -1e-6 <= program.mean @ point.x - best <= gaps[-1] + 1e-6
        assert min(point.slack.min(), point.x[: family.diagonal].min(), point.lam.min(), point.nu.min()) > 0
        point = program.advance(point)
    assert len(gaps) < 20


def test_a_direction_that_no_sample_sees_still_gives_a_bound_above_every_sample() -> None:
    family = QuadraticFamily(2)
    u = np.random.default_rng(6).standard_normal((40, 2))
    u[:, 1] = u[:, 0]  # the features have rank 3 of 6
    features, g = family.features(u), _losses(u)
    x = least_mean_by_interior_point(family, features, g)
    assert (features @ x - g).min() > 0
    assert np.linalg.eigvalsh(family.matrix(x))[0] > 0


def test_systems_with_badly_scaled_and_nearly_singular_curvature() -> None:
    scale = 10.0 ** np.arange(-8, 8, 2)
    shape = np.eye(8) + 0.3
    x = np.linspace(1, 2, 8) / scale
    solve = fitted_interior_point._solver(shape * np.outer(scale, scale))
    np.testing.assert_allclose(solve(scale * (shape @ (scale * x))), x, rtol=1e-12)
    flat = np.ones((3, 3))  # rank 1
    np.testing.assert_allclose(flat @ fitted_interior_point._solver(flat)(np.full(3, 6.0)), 6.0, rtol=1e-6)


def test_failures_are_errors_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SolverError, match=r"not positive definite.*Remedy: pass more samples"):
        fitted_interior_point._solver(np.array([[1.0, 2.0], [2.0, 1.0]]))
    family = QuadraticFamily(2)
    u = np.random.default_rng(6).standard_normal((60, 2))
    monkeypatch.setattr(fitted_interior_point, "_STEPS", 2)
    with pytest.raises(SolverError, match=r"gap .* after 2 steps, expected at most 1e-05.*solver='cvxpy'"):
        least_mean_by_interior_point(family, family.features(u), _losses(u))


def test_both_solvers_give_the_same_bound_on_a_network(dense: Dense, flat_data: Data) -> None:
    net, data = dense(), flat_data()
    fast, slow = (quadratic_bound(net, data, "h2", "fitted", 0.03, solver=name) for name in ("fast", "cvxpy"))
    assert fast.trained_mu is not None
    assert fast.trained_sigma is not None
    means = [bound.expectation(fast.trained_mu, fast.trained_sigma) for bound in (fast, slow)]
    assert means[0] == pytest.approx(means[1], abs=1e-4)


def test_fitted_is_tighter_than_bohning_where_it_was_sampled(dense: Dense, flat_data: Data) -> None:
    net, data = dense(), flat_data()
    fit, rigorous = (quadratic_bound(net, data, "h2", kind, 0.03) for kind in ("fitted", "bohning"))
    assert fit.trained_mu is not None
    assert fit.trained_sigma is not None
    truth = verify_bound(fit, net, data, samples=3000, seed=4).mean_gap
    other = verify_bound(replace_level(rigorous, fit), net, data, samples=3000, seed=4).mean_gap
    assert 0 < truth < other


def replace_level(bound: QuadraticBound, like: QuadraticBound) -> QuadraticBound:
    """The same quadratic under the other's guarantee, so that both are compared on the same z."""
    return QuadraticBound.from_gram(
        bound.gram, bound.b, bound.c, bound.gamma, guarantee=replace(like.guarantee), layer=bound.layer,
        trained_mu=bound.trained_mu, trained_sigma=bound.trained_sigma,
    )  # fmt: skip


def test_fitted_recovers_an_exact_quadratic(dense: Dense, flat_data: Data) -> None:
    net, data = dense(2), flat_data("gaussian")
    fit, exact = (quadratic_bound(net, data, "h2", kind, 0.2) for kind in ("fitted", "exact"))
    np.testing.assert_allclose(fit.gram, exact.gram, atol=2e-3 * exact.w.max())
    assert verify_bound(fit, net, data, samples=2000, seed=3).worst < 1e-3


def test_fitted_beyond_the_full_size_is_diagonal_plus_low_rank(
    dense: Dense, flat_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = flat_data()
    layer = GatedLayer(dense(), "h1", data.x_train, data.y_train, "multinomial")
    result = fitted.fitted_bound(layer, layer.anchor, layer.sigma, None, np.random.default_rng(0), full=2, rank=2)
    assert "diagonal plus rank 2" in result.note
    z = layer.anchor + layer.sigma * np.random.default_rng(1).standard_normal((2000, 5))
    above = np.einsum("si,ij,sj->s", z, result.gram, z) + z @ result.b + result.c
    assert np.mean(layer.mean_loss(z) > above + 1e-9) < 0.2
    assert np.linalg.eigvalsh(result.gram).min() > 0


def test_a_failing_solver_is_an_error_with_each_status() -> None:
    import cvxpy

    x = cvxpy.Variable()
    with pytest.raises(SolverError, match=r"CLARABEL: unbounded; SCS: .*Remedy"):
        _solve(cvxpy, cvxpy.Problem(cvxpy.Minimize(x)))
