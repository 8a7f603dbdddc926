"""The certificate (T6): each condition on its own, the known traps, and what must never be certified."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest

from tests.theory.strategies import draw, random_start
from vibtheory.theory import certificate as certificate_module
from vibtheory.theory.certificate import (
    CERTIFIED,
    NOT_CONVERGED,
    STATIONARY,
    certify,
    copositivity_violation,
    least_eigenvalue,
)
from vibtheory.theory.coordinate_descent import sweep
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.normalised import normalise
from vibtheory.theory.penalty import root_noise
from vibtheory.theory.quadratic import QuadraticBound


def _phi(A, b, gamma, mu):
    """Φ from the definition alone, by minimising over σ in closed form written differently: σ² solves a quadratic."""
    w = (A**2).sum(axis=0)
    mu = np.atleast_2d(mu)
    s2 = (-(mu**2) + np.sqrt(mu**4 + 4 * gamma * mu**2 / w)) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        penalty = np.where(mu == 0, 0.0, gamma * np.log1p(mu**2 / s2) + w * s2)
    return ((mu @ A.T) ** 2).sum(axis=1) + mu @ b + penalty.sum(axis=1)


@pytest.fixture(scope="module")
def solved():
    rng = np.random.default_rng(3)
    A = 0.7 * rng.standard_normal((4, 7))
    bound = QuadraticBound(A, -2 * A.T @ (3 * rng.standard_normal(4)), 1.3, 0.2)
    minimum = find_local_minimum(bound)
    assert minimum.certificate.status == CERTIFIED
    assert 0 < minimum.nonzeros < 7
    return bound, minimum


def test_kkt_gradient_on_the_support(solved):
    bound, minimum = solved
    on = minimum.mu != 0
    unit = np.sqrt(bound.gamma * bound.w)
    assert np.abs(bound.gradient(minimum.mu)[on] / unit[on]).max() < 1e-12


def test_kkt_strict_slack_off_the_support(solved):
    bound, minimum = solved
    off = minimum.mu == 0
    smooth = 2 * bound.A.T @ (bound.A @ minimum.mu) + bound.b
    slack = (2 * np.sqrt(bound.gamma * bound.w) - np.abs(smooth))[off]
    assert slack.min() > 0
    # reported in x = μ√(w/γ₀), F = Φ/γ₀: divide by √(γw)
    normal = (2 - np.abs(smooth) / np.sqrt(bound.gamma * bound.w))[off].min()
    assert minimum.certificate.off_support_slack == pytest.approx(normal, rel=1e-9)


def test_kkt_second_order_on_the_support(solved):
    bound, minimum = solved
    on = minimum.mu != 0
    w, alpha = bound.w[on], minimum.alpha[on]
    unit = bound.A[:, on] / np.sqrt(w)
    m = 2 * np.linalg.eigvalsh(unit.T @ unit - np.diag(1 / (2 + alpha)))[0]
    assert 0 < minimum.certificate.min_eigenvalue <= m
    assert minimum.certificate.min_eigenvalue == pytest.approx(m, rel=1e-9)
    assert minimum.certificate.support == tuple(np.flatnonzero(on))


def test_kantorovich_numbers(solved):
    certificate = solved[1].certificate
    assert certificate.radius == 2 * certificate.newton_bound
    assert certificate.kantorovich <= 0.5
    assert certificate.newton_bound >= certificate.gradient_norm / certificate.min_eigenvalue * (1 - 1e-12)
    assert certificate.newton_bound < 1e-10


def test_alpha_sigma_are_stationary_in_sigma(solved):
    bound, minimum = solved
    on = minimum.mu != 0
    for factor in (0.9, 1.1):
        sigma = minimum.sigma.copy()
        sigma[on] *= factor
        assert bound.objective(minimum.mu, sigma) > bound.objective(minimum.mu, minimum.sigma)
    assert bound.objective(minimum.mu, minimum.sigma) == pytest.approx(minimum.value, rel=1e-12)


@pytest.mark.parametrize("size", [1e-5, 1e-3, 0.1, 1.0])
def test_perturbed_points_never_certify(solved, size):
    bound, minimum = solved
    rng = np.random.default_rng(5)
    on = minimum.mu != 0
    unit = np.sqrt(bound.gamma / bound.w)
    for _ in range(20):
        mu = minimum.mu + size * unit * rng.standard_normal(7) * on
        assert certify(bound, mu).status != CERTIFIED
        assert certify(bound, minimum.mu + size * unit * rng.standard_normal(7)).status != CERTIFIED


def test_interior_point_dust_never_certifies(solved):
    """1e-7 is not a zero (T6)."""
    bound, minimum = solved
    dusty = np.where(minimum.mu == 0, 1e-7, minimum.mu)
    assert certify(bound, dusty).status == NOT_CONVERGED


def test_wrong_zero_is_not_converged(solved):
    bound, minimum = solved
    mu = minimum.mu.copy()
    mu[np.argmax(np.abs(mu))] = 0.0
    assert certify(bound, mu).status == NOT_CONVERGED


def _tie():
    """T6's tie: μ = (.3, 0), gradient₂ = −2 exactly."""
    A = np.array([[1.0, 0.95], [0.0, np.sqrt(1 - 0.95**2)]])
    mu = np.array([0.3, 0.0])
    u = 0.15 * (np.sqrt(4.09) - 0.3)
    b = -2 * A.T @ A @ mu + np.array([-2 * np.sqrt(1 - u), -2.0])
    return A, b, mu, QuadraticBound(A, b, 0.0, 1.0)


def test_tie_with_its_numbers():
    A, b, mu, bound = _tie()
    assert (2 * A.T @ A @ mu + b)[1] == pytest.approx(-2, abs=1e-14)
    certificate = certify(bound, mu)
    assert certificate.status == STATIONARY
    assert certificate.ties == (1,)
    assert "copositive" in certificate.reason
    u = 0.15 * (np.sqrt(4.09) - 0.3)  # λ_min of the 1×1 matrix on S: 1 − 1/(2+α), 1/(2+α) = (1−u)/(2−u)
    assert certificate.min_eigenvalue / 2 == pytest.approx(1 - (1 - u) / (2 - u), abs=1e-12)
    assert certificate.min_eigenvalue / 2 == pytest.approx(0.574, abs=1e-3)
    angle = np.linspace(0, 2 * np.pi, 2001)
    circle = mu + 0.1 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    fall = _phi(A, b, 1.0, mu)[0] - _phi(A, b, 1.0, circle).min()
    assert fall == pytest.approx(0.004, abs=1e-3)


def test_escape_from_the_tie_goes_down_to_a_certified_minimum():
    A, b, mu, bound = _tie()
    minimum = find_local_minimum(bound, mu)
    assert minimum.certificate.status == CERTIFIED
    assert minimum.value < _phi(A, b, 1.0, mu)[0] - 0.004


def test_tie_that_is_copositive_is_certified():
    """Orthogonal columns: the tied coordinate alone has Φ = x² + (−2)x + ρ, minimum exactly at 0."""
    A = np.eye(2)
    u = 0.15 * (np.sqrt(4.09) - 0.3)
    bound = QuadraticBound(A, [-0.6 - 2 * np.sqrt(1 - u), -2.0], 0.0, 1.0)
    certificate = certify(bound, [0.3, 0.0])
    assert certificate.status == CERTIFIED
    assert certificate.ties == (1,)
    assert str(certificate).startswith("certified local minimum: up to ties at gates [1], resolved only to ")
    assert "an exact strict" not in str(certificate)
    step = np.array([[0.3, 1e-3], [0.3, -1e-3], [0.3, 1e-2], [0.301, 1e-3]])
    assert (_phi(A, bound.b, 1.0, step) > _phi(A, bound.b, 1.0, np.array([0.3, 0.0]))[0]).all()


def _saddle(sign):
    """Two nearly collinear columns, both open with equal μ: stationary by symmetry, indefinite on the support."""
    A = 3.0 * np.array([[1.0, sign * 0.9], [0.0, np.sqrt(1 - 0.81)]])
    mu = np.array([0.05, sign * 0.05])
    bound = QuadraticBound(A, np.zeros(2), 0.0, 1.0)
    return QuadraticBound(A, -bound.gradient(mu), 0.0, 1.0), mu


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_planted_saddle_is_stationary_and_left_downwards(sign):
    bound, mu = _saddle(sign)
    certificate = certify(bound, mu)
    assert certificate.status == STATIONARY
    assert certificate.min_eigenvalue < 0
    assert certificate.gradient_norm < 1e-12
    step = 1e-3 * certificate.escape / np.linalg.norm(certificate.escape)
    here = _phi(bound.A, bound.b, 1.0, mu)[0]
    assert min(_phi(bound.A, bound.b, 1.0, mu + step)[0], _phi(bound.A, bound.b, 1.0, mu - step)[0]) < here
    minimum = find_local_minimum(bound, mu)
    assert minimum.certificate.status == CERTIFIED
    assert minimum.value < here


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("gamma", [1e-6, 1e-2, 1e2])
def test_verdict_and_numbers_do_not_depend_on_scale(scale, gamma):
    rng = np.random.default_rng(11)
    A = rng.standard_normal((5, 8))
    beta = 4 * rng.standard_normal(5)
    reference = find_local_minimum(QuadraticBound(A, -2 * A.T @ beta, 0.0, 1.0))
    root = np.sqrt(gamma)
    bound = QuadraticBound(scale * A, -2 * scale * A.T @ beta * root, 0.0, gamma)
    certificate = certify(bound, reference.mu * root / scale)
    assert certificate.status == CERTIFIED
    assert certificate.min_eigenvalue == pytest.approx(reference.certificate.min_eigenvalue, rel=1e-8)
    assert certificate.off_support_slack == pytest.approx(reference.certificate.off_support_slack, rel=1e-8)
    assert certify(bound, reference.mu * root / scale * 1.001).status == NOT_CONVERGED


def test_empty_support_zero_columns_and_dimension_one():
    assert certify(QuadraticBound(np.zeros((2, 3)), np.zeros(3), 0.0, 1.0), np.ones(3)).status == CERTIFIED
    closed = certify(QuadraticBound([[2.0]], [-3.9], 0.0, 1.0), [0.0])
    assert closed.status == CERTIFIED
    assert closed.off_support_slack == pytest.approx(2 - 3.9 / 2)
    assert closed.support == ()
    assert certify(QuadraticBound([[2.0]], [-4.1], 0.0, 1.0), [0.0]).status == NOT_CONVERGED
    stuck = certify(QuadraticBound([[1.0, 0.0]], [0.0, 1.0], 0.0, 1.0), [0.0, 0.0])
    assert stuck.status == NOT_CONVERGED
    assert "w = 0" in stuck.reason


def test_certificate_reads_as_text(solved):
    text = str(solved[1].certificate)
    assert text.startswith(CERTIFIED)
    assert "slack" in text
    assert solved[1].certificate.certified


def least_along(q: float, price: float) -> float:
    """Where one sweep puts a gate that is alone."""
    x = np.zeros(1)
    sweep(np.eye(1), np.array([q]), x, np.array([price]), 1, 0.0)
    return float(x[0])


def test_garrote_is_the_coordinate_minimiser():
    """x² + qx + D r(|x|/√D) on a grid, r = u + log(1+α) from the definition of u."""
    for q, price in itertools.product([-30.0, -4.1, -2.3, 0.0, 1.9, 2.1, 7.0], [1.0, 3.7]):
        x = np.linspace(-20, 20, 400_001)
        t = np.abs(x) / np.sqrt(price)
        u = t / 2 * (np.sqrt(t**2 + 4) - t)
        objective = x**2 + q * x + price * (u - np.log1p(-u))
        best = least_along(q, price)
        assert best == pytest.approx(x[np.argmin(objective)], abs=2e-4)
        if abs(q) <= 2 * np.sqrt(price):
            assert best == 0.0


def test_third_derivative_bound_falls_with_t():
    """r''' = 4(v/(1+v²))³ ≤ ½, decreasing: against differences of r'' = −2/(2+α) from the definition of α."""
    t = np.linspace(0.01, 20, 500)
    h = 1e-5
    alpha = lambda s: s * (s + np.sqrt(s**2 + 4)) / 2  # noqa: E731
    third = (-2 / (2 + alpha(t + h)) + 2 / (2 + alpha(t - h))) / (2 * h)
    v = root_noise(t)
    np.testing.assert_allclose(4 * (v / (1 + v**2)) ** 3, third, rtol=1e-5, atol=1e-8)
    assert (np.diff(third) < 0).all()
    assert third.max() < 0.5


_HORN = np.array(
    [[1, -1, 1, 1, -1], [-1, 1, -1, 1, 1], [1, -1, 1, -1, 1], [1, 1, -1, 1, -1], [-1, 1, 1, -1, 1]], dtype=float
)


@pytest.mark.parametrize(
    ("matrix", "copositive"),
    [
        (np.eye(3), True),
        (np.array([[1.0, 5.0], [5.0, 1.0]]), True),  # indefinite, non-negative
        (np.array([[1.0, -2.0], [-2.0, 1.0]]), False),
        (np.array([[0.0, 1.0], [1.0, 1.0]]), False),  # copositive, not strictly
        (_HORN, False),
        (_HORN + 0.1 * np.eye(5), True),
        (np.diag([1.0] * 11 + [-1.0]), False),  # larger than the exact test: the safe answer
    ],
)
def test_strict_copositivity(matrix, copositive):
    """Horn's matrix is copositive but not strictly, and not a sum of a semidefinite and a positive one."""
    direction = copositivity_violation(np.asarray(matrix, dtype=float), 0.0 if copositive else 1e-9)
    assert (direction is None) == copositive
    if direction is not None and direction.any():
        assert (direction >= 0).all()
        assert direction @ matrix @ direction <= 1e-8
    sample = np.abs(np.random.default_rng(0).standard_normal((2000, len(matrix))))
    if copositive:
        assert (np.einsum("ni,ij,nj->n", sample, matrix, sample) > 0).all()


def test_both_forms_of_the_bound_give_the_same_certificate():
    rng = np.random.default_rng(2)
    A = rng.standard_normal((4, 9))
    b = -2 * A.T @ (4 * rng.standard_normal(4))
    one = QuadraticBound(A, b, 0.0, 0.5)
    two = QuadraticBound.from_gram(A.T @ A, b, 0.0, 0.5)
    assert normalise(one).factor is not None
    assert normalise(two).factor is None
    mu = find_local_minimum(one).mu
    first, second = certify(one, mu), certify(two, mu)
    assert first.status == second.status == CERTIFIED
    assert first.min_eigenvalue == pytest.approx(second.min_eigenvalue, rel=1e-9)


def test_least_eigenvalue_of_a_large_matrix_is_bounded_below(monkeypatch):
    """The Cholesky route (past order 1000), here from order 1: never above λ_min, and at least 0.4 of it."""
    monkeypatch.setattr(certificate_module, "LARGE", 0)
    rng = np.random.default_rng(1)
    for size in (1, 5, 60):
        orthogonal = np.linalg.qr(rng.standard_normal((size, size)))[0]
        for smallest in (1e-6, 0.03, 2.0):
            values = np.concatenate([[smallest], smallest + rng.uniform(0.5, 5, size - 1)])
            m, vector = least_eigenvalue((orthogonal * values) @ orthogonal.T)
            assert 0.4 * smallest < m <= smallest
            assert vector is None
        values[0] = -0.2
        m, vector = least_eigenvalue((orthogonal * values) @ orthogonal.T)
        assert m == pytest.approx(-0.2, rel=1e-9)
        assert vector @ ((orthogonal * values) @ orthogonal.T) @ vector == pytest.approx(-0.2, rel=1e-9)


def test_a_large_support_certifies_alike(monkeypatch, solved):
    """With the limit at 0 the small instance takes the large route: same verdicts, m within a factor of 2 below."""
    bound, minimum = solved
    monkeypatch.setattr(certificate_module, "LARGE", 0)
    again = certify(bound, minimum.mu)
    assert again.status == CERTIFIED
    assert 0.4 * minimum.certificate.min_eigenvalue < again.min_eigenvalue <= minimum.certificate.min_eigenvalue
    wrong = minimum.mu.copy()
    wrong[np.argmax(np.abs(wrong))] = 0.0
    smaller = find_local_minimum(bound, wrong, max_iterations=0)
    assert smaller.certificate.status == NOT_CONVERGED


def _newton_in_fifty_digits(bound, mu):
    """From `mu`, on its support: the exact stationary point's distance in x, its signs' agreement, its least slack."""
    with mpmath.workdps(50):
        A, support = mpmath.matrix(bound.A.tolist()), [int(j) for j in np.flatnonzero(mu)]
        Q, gamma, b = A.T * A, mpmath.mpf(float(bound.gamma.min())), [mpmath.mpf(float(v)) for v in bound.b]
        start = point = mpmath.matrix([float(mu[j]) for j in support])
        for _ in range(30):
            gradient, hessian = mpmath.matrix(len(support), 1), mpmath.matrix(len(support))
            for i, j in enumerate(support):
                t = abs(point[i]) * mpmath.sqrt(Q[j, j] / gamma)
                v = 2 / (t + mpmath.sqrt(t * t + 4))
                pull = sum(2 * Q[j, k] * point[c] for c, k in enumerate(support)) + b[j]
                gradient[i] = pull + mpmath.sign(point[i]) * 2 * mpmath.sqrt(gamma * Q[j, j]) * v
                for c, k in enumerate(support):
                    hessian[i, c] = 2 * Q[j, k]
                hessian[i, i] -= 2 * Q[j, j] * v**2 / (1 + v**2)
            point = point - mpmath.lu_solve(hessian, gradient)
        mpmath.cholesky(hessian)  # raises unless positive definite
        moved = mpmath.sqrt(sum((point[i] - start[i]) ** 2 * Q[j, j] / gamma for i, j in enumerate(support)))
        same = all(mpmath.sign(point[i]) == mpmath.sign(start[i]) for i in range(len(support)))
        closed = [j for j in range(bound.d) if j not in support]
        pulls = [abs(sum(2 * Q[j, k] * point[c] for c, k in enumerate(support)) + b[j]) for j in closed]
        slack = min((2 * mpmath.sqrt(gamma * Q[j, j]) - pull for j, pull in zip(closed, pulls, strict=True)), default=1)
        return float(moved), same, slack > 0, float(mpmath.norm(gradient))


@pytest.mark.parametrize("index", [20681, 41777, 92960])
def test_where_float64_is_too_coarse_long_double_certifies_what_fifty_digits_confirm(index):
    """Vandermonde instances of the stress (seed 3) with λ_min(H) ~ 1e-8, uncertified before."""
    rng = np.random.default_rng([3, index])
    bound = draw(rng, "vandermonde", 20 if index % 20 == 0 else 8).bound
    minimum = find_local_minimum(bound, random_start(rng, bound))
    assert minimum.certificate.certified
    assert 0 < minimum.certificate.min_eigenvalue < 1e-7
    moved, same, open_slack, left = _newton_in_fifty_digits(bound, minimum.mu)
    assert same
    assert open_slack
    assert left < 1e-30
    assert moved <= minimum.certificate.radius


def test_planted_ties_end_certified_with_the_tied_gate_closed():
    """b from A and μ so that one closed gate's slope is exactly its threshold, up to rounding."""
    for seed in range(30):
        rng = np.random.default_rng([7, seed])
        A, gamma, mu = rng.standard_normal((8, 6)), 10.0 ** rng.uniform(-3, 0), np.zeros(6)
        unit = np.sqrt(gamma / (A**2).sum(axis=0))
        mu[:3] = unit[:3] * rng.choice([-20.0, 20.0], 3)
        threshold = 2 * gamma / unit
        slope = threshold * np.array([0, 0, 0, *rng.uniform(-0.9, 0.9, 2), rng.choice([-1.0, 1.0])])
        flat = QuadraticBound(A, np.zeros(6), 0.0, gamma)
        b = np.where(mu != 0, -flat.gradient(mu), slope - 2 * A.T @ (A @ mu))
        bound = QuadraticBound(A, b, 0.0, gamma)
        near = mu * (1 + 1e-6 * rng.standard_normal(6))
        near[5] = 1e-9 * unit[5]
        minimum = find_local_minimum(bound, near)
        assert minimum.certificate.certified, seed
        if certify(bound, mu).certified:
            assert minimum.alpha[5] == 0.0
            np.testing.assert_allclose(minimum.mu, mu, rtol=1e-5, atol=1e-5 * unit.max())


@pytest.mark.parametrize("both", [1.0, -1.0])
def test_two_ties_are_judged_in_the_directions_in_which_their_gates_would_open(both):
    """At 0, G₁₂ = .8: opening both the same way costs 4xy·.8, opening them against each other gains it."""
    A = np.array([[1.0, 0.8], [0.0, 0.6]])
    certificate = certify(QuadraticBound(A, [-2.0, -2.0 * both], 0.0, 1.0), [0.0, 0.0])
    assert certificate.ties == (0, 1)
    steps = 1e-2 * np.stack([np.cos(np.linspace(0, 2 * np.pi, 721)), np.sin(np.linspace(0, 2 * np.pi, 721))], axis=1)
    falls = _phi(A, np.array([-2.0, -2.0 * both]), 1.0, steps).min() < 0
    assert falls == (both < 0)
    assert certificate.certified == (not falls)


def test_every_planted_tie_is_named_where_the_point_is_certified():
    certified = 0
    for seed in range(200):
        rng = np.random.default_rng([8, seed])
        A, gamma, mu = rng.standard_normal((8, 6)), 10.0 ** rng.uniform(-3, 0), np.zeros(6)
        unit = np.sqrt(gamma / (A**2).sum(axis=0))
        mu[:3] = unit[:3] * rng.choice([-20.0, 20.0], 3)
        slope = 2 * gamma / unit * np.array([0, 0, 0, 0.5, 0.5, rng.choice([-1.0, 1.0])])
        flat = QuadraticBound(A, np.zeros(6), 0.0, gamma)
        b = np.where(mu != 0, -flat.gradient(mu), slope - 2 * A.T @ (A @ mu))
        certificate = certify(QuadraticBound(A, b, 0.0, gamma), mu)
        certified += certificate.certified
        assert not certificate.certified or certificate.ties == (5,)
    assert certified > 20


def test_slack_that_the_exact_minimum_may_not_have_is_a_tie():
    """The exact minimum's second gate asks to open by 1e-10; beside it, where the gradient is 1e-9, it does not."""
    A = np.array([[1.0, 0.9], [0.0, np.sqrt(1 - 0.9**2)]])
    exact = least_along(-5.0, 1.0)  # of x² − 5x + ρ(x)
    bound = QuadraticBound(A, [-5.0, -2 * 0.9 * exact - 2 - 1e-10], 0.0, 1.0)
    near = [exact + 1e-9, 0.0]
    assert abs(bound.gradient(near)[1]) < 2
    assert abs(bound.gradient([exact, 0.0])[1]) > 2
    assert certify(bound, near).ties == (1,)


@pytest.mark.parametrize("step", 10.0 ** np.arange(-6, -3.5, 0.25))
def test_nothing_is_certified_just_past_a_fold(step):
    """Two gates at cosine −.7 that move together: 0 = 0.6x + q + 2v has no root where −q is below the fold's value."""
    c, v = -0.7, np.sqrt(3 / 7)  # v²/(1+v²) = 1 + c
    x = 1 / v - v
    least = 2 * (1 + c) * x + 2 * v  # convex in x, least where its slope is 0
    sizes = np.linspace(0.01, 4, 100_001)
    assert (2 * (1 + c) * sizes + 2 * root_noise(sizes)).min() == pytest.approx(least, abs=1e-8)
    A = np.array([[1.0, c], [0.0, np.sqrt(1 - c**2)]])
    missing, there = (QuadraticBound(A, [-least + by] * 2, 0.0, 1.0) for by in (1e-11, -1e-6))
    assert not certify(missing, [x + step] * 2).certified
    assert find_local_minimum(there, [x + 1e-3] * 2).certificate.certified


def test_kantorovich_asks_of_the_whole_ball():
    """Its constant is the largest third derivative within 2η, of ρ'' = −2/(2+α), α = t(t + √(t²+4))/2, w = γ = 1."""
    least, alpha = 2e-4, 0.5  # λ_min of the Hessian: two gates at a cosine so high that they hardly stay two
    apart = (least + 2 / (2 + alpha)) / 2
    gram = apart * np.eye(2) + (1 - apart)
    mu = np.full(2, alpha / np.sqrt(1 + alpha))
    bound = QuadraticBound.from_gram(gram, -2 * gram @ mu - 2 / np.sqrt(1 + alpha))
    point = mu + 5e-5 * np.array([1.0, -1.0])
    found = certify(bound, point)
    assert 4e-5 < found.newton_bound < 2e-4

    def third(t):
        return 2 * (t + (t**2 + 2) / np.sqrt(t**2 + 4)) / (2 + t * (t + np.sqrt(t**2 + 4)) / 2) ** 2

    nearest = third(point.min() - 2 * found.newton_bound)
    assert nearest > (1 + 1e-5) * third(point.min())  # it falls with t: the point of the ball nearest to 0 decides
    assert found.kantorovich == pytest.approx(found.newton_bound / found.min_eigenvalue * nearest, rel=1e-7)
