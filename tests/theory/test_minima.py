"""The two solvers: same answers, certified, monotone, T2 on what they certify, and the traps of T6."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import minimize_scalar

from tests.theory.strategies import draw, instances, random_start
from vibtheory.errors import InvalidInputError, SolverError
from vibtheory.theory.certificate import CERTIFIED
from vibtheory.theory.coordinate_descent import compiled, sweep
from vibtheory.theory.majorise_minimise import reweighted_steps
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.normalised import normalise
from vibtheory.theory.quadratic import QuadraticBound


def _trap():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((20, 100)) / 10
    return QuadraticBound(A, -2 * A.T @ rng.standard_normal(20), 0.0, 1e-3)


def test_interior_point_trap():
    """d = 100, rank 20: counting |μ| > 1e-6 in an interior-point answer "breaks" the bound; the pipeline does not."""
    bound = _trap()
    problem = normalise(bound)
    raw, _ = reweighted_steps(problem, problem.coordinates(np.ones(100)), 1, ("CLARABEL",))
    survivors = int((np.abs(problem.means(raw)) > 1e-6).sum())
    assert survivors > 20
    for solver in ("fast", "cvxpy"):
        minimum = find_local_minimum(bound, np.ones(100), solver)
        assert minimum.certificate.status == CERTIFIED
        assert minimum.nonzeros <= 20


def test_a_null_direction_is_not_followed_for_ever():
    """Square Gaussian A with one column doubled: dᵀGd = 0 along their difference, and rounding may say less.

    The named instances of this family once ran away: 361 to |μ| = 1e43 at Φ = 3e58, where Φ(0) = 0.
    """
    for seed in (*range(40), 137, 358, 361, 444, 651, 683, 788, 835, 849, 881, 956, 1019):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(4, 13))
        A = rng.standard_normal((d, d))
        A[:, 1] = A[:, 0] * rng.choice([1.0, -1.0, 2.0])
        bound = QuadraticBound(A, -2 * A.T @ (10.0 ** rng.uniform(0, 2) * rng.standard_normal(d)), 0.0, 0.1)
        minimum = find_local_minimum(bound)
        assert minimum.certificate.status == CERTIFIED, seed
        assert minimum.value < bound.phi(np.zeros(d))
        assert minimum.nonzeros < d


@pytest.mark.parametrize("seed", range(12))
def test_fast_and_cvxpy_agree_from_the_same_start(seed):
    rng = np.random.default_rng(seed)
    d, rank = int(rng.integers(3, 25)), int(rng.integers(2, 10))
    A = rng.standard_normal((rank, d)) * 10.0 ** rng.uniform(-2, 2)
    gamma = 10.0 ** rng.uniform(-3, 0)
    bound = QuadraticBound(A, -2 * A.T @ (rng.standard_normal(rank) * 3 * np.sqrt(gamma)), 0.0, gamma)
    start = random_start(rng, bound)
    fast, slow = (find_local_minimum(bound, start, solver) for solver in ("fast", "cvxpy"))
    for minimum in (fast, slow):
        assert minimum.certificate.status == CERTIFIED
        assert minimum.nonzeros <= np.linalg.matrix_rank(A)
        assert minimum.value <= bound.phi(start) * (1 + np.sign(bound.phi(start)) * 1e-12)
    if (np.sign(fast.mu) == np.sign(slow.mu)).all():
        assert fast.value == pytest.approx(slow.value, rel=1e-8, abs=1e-8 * gamma)
        np.testing.assert_allclose(fast.mu, slow.mu, rtol=1e-6, atol=1e-8 * np.abs(fast.mu).max() + 1e-300)


def test_fast_and_cvxpy_reach_the_one_minimum_of_a_convex_problem():
    """G ⪰ ½I makes Φ convex (T7): one minimum, from any start, by either solver."""
    rng = np.random.default_rng(8)
    A = 5.0 * (np.eye(6) + 0.05 * rng.standard_normal((6, 6)))
    bound = QuadraticBound(A, -2 * A.T @ (1.5 * rng.standard_normal(6)), 0.0, 0.3)
    values = [find_local_minimum(bound, random_start(rng, bound), s).value for s in ("fast", "cvxpy") for _ in range(3)]
    np.testing.assert_allclose(values, values[0], rtol=1e-10)


def test_identity_is_tight():
    """A = I, b large: every gate survives, ‖α‖₀ = rank (T2), μ in closed form: β(1 − γ/β²)."""
    beta = np.array([3.0, -4.0, 5.0, 1e3])
    minimum = find_local_minimum(QuadraticBound(np.eye(4), -2 * beta, 0.0, 0.5))
    assert minimum.nonzeros == 4
    np.testing.assert_allclose(minimum.mu, beta * (1 - 0.5 / beta**2), rtol=1e-13)
    assert minimum.certificate.status == CERTIFIED


def test_collinear_columns_do_not_both_survive():
    rng = np.random.default_rng(4)
    A = np.repeat(rng.standard_normal((5, 5)), 3, axis=1) * np.tile([1.0, -2.0, 0.5], 5)
    minimum = find_local_minimum(QuadraticBound(A, -2 * A.T @ (9 * rng.standard_normal(5)), 0.0, 0.1), np.ones(15))
    assert minimum.certificate.status == CERTIFIED
    assert (np.count_nonzero(minimum.mu.reshape(5, 3), axis=1) <= 1).all()


def test_zero_columns_are_free_and_never_count():
    A = np.array([[1.0, 0.0, 0.3], [0.0, 0.0, 2.0]])
    minimum = find_local_minimum(QuadraticBound(A, -2 * A.T @ np.array([3.0, 4.0]), 0.0, 0.1), np.ones(3))
    assert minimum.certificate.status == CERTIFIED
    assert minimum.alpha[1] == 0
    assert minimum.sigma[1] == np.inf
    assert minimum.nonzeros == 2
    nothing = find_local_minimum(QuadraticBound(np.zeros((2, 3)), np.zeros(3), 1.5, 1.0))
    assert (nothing.nonzeros, nothing.value, nothing.certificate.status) == (0, 1.5, CERTIFIED)


@pytest.mark.parametrize("solver", ["fast", "cvxpy"])
@pytest.mark.parametrize("budget", [0, 1, 2])
def test_truncated_runs_never_certify(solver, budget):
    minimum = find_local_minimum(_trap(), np.ones(100), solver, max_iterations=budget)
    assert minimum.certificate.status in ("not converged", "stationary, not certified")


def test_descent_is_monotone_in_the_budget():
    bound = _trap()
    values = [find_local_minimum(bound, np.ones(100), max_iterations=n).value for n in range(0, 60, 3)]
    assert (np.diff(values) <= 1e-12 * np.abs(values[1:])).all()


def test_a_certified_minimum_is_a_fixed_point():
    first = find_local_minimum(_trap())
    again = find_local_minimum(_trap(), first.mu)
    np.testing.assert_allclose(again.mu, first.mu, rtol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(instances())
def test_every_family_ends_certified_and_within_the_rank(instance):
    bound = instance.bound
    minimum = find_local_minimum(bound)
    assert minimum.certificate.status == CERTIFIED
    assert minimum.nonzeros <= instance.rank
    again = find_local_minimum(bound, random_start(np.random.default_rng(1), bound))
    assert again.certificate.status == CERTIFIED
    assert again.nonzeros <= instance.rank


def test_b_outside_the_row_space_is_rejected():
    rng = np.random.default_rng(6)
    for _ in range(10):
        instance = draw(rng, "gaussian", outside=True)
        if instance.outside.any():
            with pytest.raises(InvalidInputError, match="row space"):
                find_local_minimum(instance.bound)


def test_unbounded_bound_is_rejected():
    with pytest.raises(InvalidInputError):
        find_local_minimum(QuadraticBound([[1.0, 0.0]], [0.0, 1.0], 0.0, 1.0))


def test_failing_solver_chain_names_each_status_and_falls_back():
    bound = QuadraticBound(np.eye(2), [-6.0, -6.0], 0.0, 0.5)
    with pytest.raises(SolverError, match=r"NOT_A_SOLVER.*Remedy"):
        find_local_minimum(bound, np.ones(2), "cvxpy", cvxpy_solvers=("NOT_A_SOLVER",))
    minimum = find_local_minimum(bound, np.ones(2), "cvxpy", cvxpy_solvers=("NOT_A_SOLVER", "OSQP"))
    assert minimum.certificate.status == CERTIFIED


def test_gram_only_through_cvxpy():
    rng = np.random.default_rng(9)
    A = rng.standard_normal((3, 6))
    b = -2 * A.T @ (4 * rng.standard_normal(3))
    minimum = find_local_minimum(QuadraticBound.from_gram(A.T @ A, b, 0.0, 0.2), solver="cvxpy")
    assert minimum.certificate.status == CERTIFIED
    assert minimum.nonzeros <= 3


def test_float32_integers_and_text():
    minimum = find_local_minimum(QuadraticBound(np.eye(2, dtype=np.float32), np.array([-6, 0]), 0, 1))
    np.testing.assert_allclose(minimum.mu, [3 * (1 - 1 / 9), 0.0])
    assert "1 of 2 gates open" in str(minimum)
    assert minimum.status == CERTIFIED


@pytest.mark.parametrize("rounds", [1, 2000])
def test_the_compiled_sweep_is_the_plain_one_and_ends_where_no_coordinate_can_fall(rounds):
    rng = np.random.default_rng(1)
    A = rng.standard_normal((12, 9))
    A /= np.linalg.norm(A, axis=0)
    gram, linear, price = A.T @ A, 8 * rng.standard_normal(9), rng.uniform(1, 2, 9)
    x = [3 * rng.standard_normal(9) for _ in range(2)]
    x[1] = x[0].copy()
    response = [2 * gram @ each + linear for each in x]
    room = np.full((12, 12), np.nan)  # the working set's buffer is larger than the set
    room[:9, :9] = gram
    used = [
        run(matrix, response[i], x[i], price, rounds, 1e-9)
        for i, (run, matrix) in enumerate([(sweep, gram), (compiled(), room)])
    ]
    assert used[0] == used[1] <= rounds
    np.testing.assert_allclose(x[0], x[1], rtol=1e-9)
    np.testing.assert_allclose(response[1], 2 * gram @ x[1] + linear, rtol=1e-9, atol=1e-9)
    if rounds > 1:
        assert used[0] < rounds

        def phi(point):  # Φ/γ₀ over a grid, by T1's formula with α in place of u
            t = np.abs(point) / np.sqrt(price)
            alpha = t * (t + np.sqrt(t * t + 4)) / 2
            return point @ gram @ point + linear @ point + price @ (alpha / (1 + alpha) + np.log1p(alpha))

        for j in range(9):
            for step in np.linspace(-6, 6, 241):
                assert phi(x[0] + step * np.eye(9)[j]) >= phi(x[0]) - 1e-9


def test_each_start_and_a_working_set_far_smaller_than_d():
    rng = np.random.default_rng(3)
    A = rng.standard_normal((25, 3000)) / np.sqrt(3000)
    bound = QuadraticBound(A, -2 * A.T @ rng.standard_normal(25), 0.0, 0.05)
    found = {name: find_local_minimum(bound, name) for name in ("continuation", "ridge")}
    found["given"] = find_local_minimum(bound, rng.standard_normal(3000))
    for minimum in found.values():
        assert minimum.certificate.status == CERTIFIED
        assert 0 < minimum.nonzeros <= 25
        slope = np.abs(2 * A.T @ (A @ minimum.mu) + bound.b)  # T6, with nothing of the solver's
        assert (slope <= 2 * np.sqrt(bound.gamma * bound.w) * (1 + 1e-9))[minimum.mu == 0].all()
    np.testing.assert_array_equal(find_local_minimum(bound).mu, found["continuation"].mu)
    dear = bound.with_gamma(1.01 * float((bound.b**2 / 4 / bound.w).max()))  # 0 is a minimum: then from the ridge
    np.testing.assert_array_equal(find_local_minimum(dear).mu, find_local_minimum(dear, "ridge").mu)
    with pytest.raises(InvalidInputError, match="start"):
        find_local_minimum(bound, "middle")


@pytest.mark.parametrize("unit", [1e-165, 1e165])
def test_sigma_where_its_square_leaves_float64(unit: float) -> None:
    """Gates in another unit (mu and sigma times 1/unit) and objectives in another (times c) are the same minimum."""
    rng = np.random.default_rng(3)
    a, c = rng.normal(size=(3, 4)), 1e40 if unit < 1 else 1e-40
    b = -2 * a.T @ rng.normal(size=3)
    plain = find_local_minimum(QuadraticBound(a, b, gamma=0.05))
    other = find_local_minimum(QuadraticBound(a * np.sqrt(c) * unit, b * c * unit, gamma=0.05 * c))
    assert plain.nonzeros > 0
    for j in np.flatnonzero(plain.mu):  # T1's own objective, minimised by another library
        cost = minimize_scalar(
            lambda s, m=plain.mu[j], w=a[:, j] @ a[:, j]: 0.05 * np.log1p((m / s) ** 2) + w * s * s,
            bounds=(1e-6, 10), method="bounded", options={"xatol": 1e-10},
        )  # fmt: skip
        assert plain.sigma[j] == pytest.approx(cost.x, rel=1e-6)
    np.testing.assert_allclose(other.sigma * unit, plain.sigma, rtol=1e-9)
    np.testing.assert_allclose(other.alpha, plain.alpha, rtol=1e-9)
