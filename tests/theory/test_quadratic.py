"""QuadraticBound: values against sampling and finite differences, row-space decisions, and every rejected input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vibtheory.errors import InvalidInputError
from vibtheory.theory.quadratic import Guarantee, QuadraticBound

SHAPES = [(1, 1), (3, 5), (20, 60), (30, 12), (7, 7)]
SCALES = [1e-6, 0.3, 1e6]


def _instance(
    m: int, d: int, scale: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng([seed, m, d])
    A = scale * rng.normal(size=(m, d)) * np.exp(2 * rng.normal(size=d))  # columns in very different units
    beta = A @ rng.normal(size=d) / scale
    return A, -2 * A.T @ beta, beta, rng


def _pair(m: int, d: int, scale: float) -> tuple[QuadraticBound, QuadraticBound, np.ndarray, np.random.Generator]:
    A, b, beta, rng = _instance(m, d, scale)
    gamma = scale * rng.uniform(0.1, 2, size=d)
    return QuadraticBound(A, b, 0.7, gamma), QuadraticBound.from_gram(A.T @ A, b, 0.7, gamma), beta, rng


@pytest.mark.parametrize(("m", "d"), SHAPES)
@pytest.mark.parametrize("scale", SCALES)
def test_factor_and_gram_agree_with_the_definition(m: int, d: int, scale: float) -> None:
    bound, gram, _, rng = _pair(m, d, scale)
    assert bound.A is not None
    z = rng.normal(size=(4, 3, d))
    plain = np.sum((z @ bound.A.T) ** 2, axis=-1) + z @ bound.b + 0.7
    for each in (bound, gram):
        np.testing.assert_allclose(each.value(z), plain, rtol=1e-9)
        np.testing.assert_allclose(each.w, np.sum(bound.A**2, axis=0), rtol=1e-12)
        assert each.d == d
    np.testing.assert_allclose(bound.gram, gram.gram, rtol=1e-9, atol=1e-12 * bound.w.max())
    np.testing.assert_allclose(bound.smooth_gradient(z[0, 0]), gram.smooth_gradient(z[0, 0]), rtol=1e-6)


def test_expectation_is_the_mean_over_samples() -> None:
    bound, _, _, rng = _pair(3, 5, 0.3)
    mu, sigma = rng.normal(size=5), rng.uniform(0.1, 2, size=5)
    values = bound.value(mu + sigma * rng.normal(size=(400_000, 5)))
    assert abs(values.mean() - bound.expectation(mu, sigma)) < 4 * values.std() / np.sqrt(values.size)


@pytest.mark.parametrize("scale", SCALES)
def test_phi_is_the_objective_minimised_over_sigma(scale: float) -> None:
    bound, _, _, rng = _pair(3, 5, scale)
    mu = rng.normal(size=5)
    mu[2] = 0.0
    grid = np.exp(np.linspace(-12, 12, 4801))  # σ relative to √(γ/w)
    best = bound.c + bound.b @ mu + np.sum((np.asarray(bound.A) @ mu) ** 2)
    for j in (0, 1, 3, 4):
        s2 = bound.gamma[j] / bound.w[j] * grid**2
        best += np.min(bound.gamma[j] * np.log1p(mu[j] ** 2 / s2) + bound.w[j] * s2)
    assert bound.phi(mu) == pytest.approx(best, rel=1e-5)
    sigma = rng.uniform(0.1, 2, size=5)
    assert bound.objective(mu, sigma) == pytest.approx(
        bound.expectation(mu, sigma) + np.sum(bound.gamma * np.log1p((mu / sigma) ** 2)), rel=1e-12
    )
    assert bound.objective(mu, sigma) > bound.phi(mu)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("which", [0, 1])
def test_gradient_and_hessian_by_finite_differences(scale: float, which: int) -> None:
    pair, _, _, rng = _pair(6, 4, scale)
    b = -2 * pair.gram @ rng.normal(size=4)  # of the size of Qμ, and c = 0: neither may swamp the differences
    A = np.asarray(pair.A)
    builds = QuadraticBound(A, b, gamma=pair.gamma), QuadraticBound.from_gram(A.T @ A, b, gamma=pair.gamma)
    bound = builds[which]
    mu = np.array([0.4, -1.3, 2.0, -0.2])
    h = 1e-5
    steps = np.eye(4) * h
    slope = np.array([(bound.phi(mu + e) - bound.phi(mu - e)) / (2 * h) for e in steps])
    np.testing.assert_allclose(bound.gradient(mu), slope, rtol=1e-5, atol=1e-8 * np.abs(slope).max())
    curvature = np.array([(bound.gradient(mu + e) - bound.gradient(mu - e)) / (2 * h) for e in steps])
    np.testing.assert_allclose(bound.hessian(mu), curvature, rtol=1e-6, atol=1e-8 * np.abs(curvature).max())


def test_gradient_at_zero_is_the_smooth_part() -> None:
    bound, _, _, _ = _pair(3, 5, 0.3)
    np.testing.assert_array_equal(bound.gradient(np.zeros(5)), bound.b)
    expected = 2 * bound.gram - np.diag(bound.w)
    np.testing.assert_allclose(bound.hessian(np.zeros(5)), expected, rtol=1e-12)


def test_closed_open_and_free_gates_in_the_objective() -> None:
    bound = QuadraticBound(np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]), [0.0, 0.0, 0.0], gamma=0.5)
    assert bound.objective([0, 0, 0], [0, 0, np.inf]) == 0.0  # α = 0 at μ = σ = 0; the free column adds nothing
    assert bound.objective([1, 0, 5], [0, 0, np.inf]) == np.inf  # σ = 0 ≠ μ: infinite information
    assert bound.objective([1e150, 0, 0], [1e-150, 0, 1]) == pytest.approx(4e300)  # α overflows, log(1+α) does not


@pytest.mark.parametrize(("m", "d"), SHAPES)
@pytest.mark.parametrize("scale", SCALES)
def test_beta_recovers_the_generating_vector(m: int, d: int, scale: float) -> None:
    bound, gram, beta, _ = _pair(m, d, scale)
    size = np.linalg.norm(beta)
    np.testing.assert_allclose(bound.beta(), beta, atol=1e-6 * size)
    assert bound.beta_norm() == pytest.approx(size, rel=1e-8)
    assert gram.beta_norm() == pytest.approx(size, rel=1e-6)
    root = gram.beta()
    assert root.shape == (d,)


@pytest.mark.parametrize(("m", "d"), SHAPES)
@pytest.mark.parametrize("scale", SCALES)
def test_b_in_the_row_space_is_bounded(m: int, d: int, scale: float) -> None:
    for bound in _pair(m, d, scale)[:2]:
        assert bound.unbounded_direction() is None
        bound.require_bounded()


@pytest.mark.parametrize("share", [1.0, 1e-3, 3e-5])
@pytest.mark.parametrize(("m", "d"), [(3, 5), (20, 60)])
@pytest.mark.parametrize("scale", SCALES)
def test_b_outside_the_row_space_is_found_with_its_direction(m: int, d: int, scale: float, share: float) -> None:
    A, b, _, rng = _instance(m, d, scale)
    w = np.sum(A**2, axis=0)
    outside = rng.normal(size=d) * np.sqrt(w)
    b = b + share * np.linalg.norm(b / np.sqrt(w)) / np.linalg.norm(outside / np.sqrt(w)) * outside
    for bound in (QuadraticBound(A, b, gamma=scale), QuadraticBound.from_gram(A.T @ A, b, gamma=scale)):
        n = bound.unbounded_direction()
        assert n is not None
        assert np.linalg.norm(n) == pytest.approx(1)
        assert np.linalg.norm(A @ n) < 1e-7 * np.linalg.norm(A * n)
        assert b @ n < 0
        with pytest.raises(InvalidInputError, match="outside the row space"):
            bound.require_bounded()
        # Φ does fall for ever: at 1e3 … 1e9 times the scale on which the slope beats 2γ log
        unit = d * scale / abs(b @ n)
        falls = [b @ n * t * unit + 2 * scale * np.sum(np.log1p(t * unit * np.abs(n) * np.sqrt(w / scale))) for t in
                 (1e3, 1e6, 1e9)]  # fmt: skip
        assert falls[0] > falls[1] > falls[2]
        # and the remedy in the message works
        cured = b - (b @ n) / np.sum(w * n**2) * w * n
        assert QuadraticBound(A, cured, gamma=scale).unbounded_direction() is None


def test_component_in_float32_rounding_is_not_unbounded() -> None:
    A, b, _, _ = _instance(20, 60, 0.3)
    assert QuadraticBound(A, b.astype(np.float32)).unbounded_direction() is None
    assert QuadraticBound.from_gram(A.T @ A, b.astype(np.float32)).unbounded_direction() is None


def test_decaying_spectrum_is_not_unbounded() -> None:
    """Singular values 1/k² down to 1e-4 of the first: in the row space, and not to be refused."""
    rng = np.random.default_rng(5)
    left, _ = np.linalg.qr(rng.normal(size=(100, 100)))
    right, _ = np.linalg.qr(rng.normal(size=(150, 100)))
    A = 3.0 * left @ np.diag(1 / np.arange(1, 101) ** 2) @ right.T
    b = -2 * A.T @ rng.normal(size=100)
    assert QuadraticBound(A, b).unbounded_direction() is None
    assert QuadraticBound.from_gram(A.T @ A, b).unbounded_direction() is None


def test_free_columns() -> None:
    A = np.array([[1.0, 0.0, 2.0], [2.0, 0.0, 1.0]])
    bound = QuadraticBound(A, [1.0, 0.0, 3.0])
    assert bound.unbounded_direction() is None
    np.testing.assert_array_equal(bound.live, [0, 2])
    assert bound.beta_norm() == pytest.approx(np.linalg.norm(np.linalg.solve(A[:, [0, 2]].T, [-0.5, -1.5])))
    assert QuadraticBound.from_gram(A.T @ A, [1.0, 0.0, 3.0]).beta_norm() == pytest.approx(bound.beta_norm())
    bad = QuadraticBound(A, [1.0, -2.0, 3.0])
    np.testing.assert_array_equal(bad.unbounded_direction(), [0, 1, 0])
    with pytest.raises(InvalidInputError, match=r"columns 1 with w = 0.*set b to 0 there"):
        bad.require_bounded()


def test_all_zero_A_and_one_gate() -> None:
    zero = QuadraticBound(np.zeros((2, 3)), np.zeros(3), 1.5)
    assert zero.unbounded_direction() is None
    assert zero.phi([1.0, -2.0, 0.0]) == 1.5
    assert zero.beta_norm() == 0
    with pytest.raises(InvalidInputError, match="columns 0, 1, 2 with w = 0"):
        QuadraticBound(np.zeros((2, 3)), np.ones(3)).require_bounded()
    one = QuadraticBound([[2]], [-4])
    u = np.sqrt(8) - 2  # t = |μ|√w = 2
    assert one.phi([1.0]) == pytest.approx(4 - 4 + u - np.log(1 - u))
    assert QuadraticBound.from_gram([[4]], [-4]).phi([1.0]) == one.phi([1.0])


def test_many_free_columns_are_abbreviated() -> None:
    with pytest.raises(InvalidInputError, match=r"9, … \(12 in all\)"):
        QuadraticBound(np.zeros((1, 12)), np.ones(12)).require_bounded()


def test_large_A_goes_through_the_gram_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vibtheory.theory.gram.SVD_LIMIT", 2)
    A, b, _, rng = _instance(20, 60, 0.3)
    assert QuadraticBound(A, b).unbounded_direction() is None
    assert QuadraticBound(A, b + rng.normal(size=60)).unbounded_direction() is not None


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
def test_other_dtypes_are_converted(dtype: type) -> None:
    A = np.array([[1, 2, -1], [0, 3, 2]], dtype=dtype)
    bound = QuadraticBound(A, np.zeros(3, dtype=dtype), gamma=np.ones(3, dtype=dtype))
    assert bound.gram.dtype == bound.b.dtype == bound.gamma.dtype == np.float64
    assert QuadraticBound.from_gram(A.T @ A, np.zeros(3, dtype=dtype)).w.tolist() == [1, 13, 5]


def test_float32_gram_passes_and_is_symmetric() -> None:
    A = np.random.default_rng(3).normal(size=(10, 80)).astype(np.float32)
    bound = QuadraticBound.from_gram(A.T @ A, np.zeros(80))
    np.testing.assert_array_equal(bound.gram, bound.gram.T)
    assert bound.unbounded_direction() is None


def test_immutable_and_independent_of_the_callers_arrays() -> None:
    A, b, _, _ = _instance(3, 5, 0.3)
    bound = QuadraticBound(A, b)
    before = bound.gram.copy()
    A[0, 0] = 99
    np.testing.assert_array_equal(bound.gram, before)
    with pytest.raises(dataclasses.FrozenInstanceError):
        bound.c = 2.0  # type: ignore[misc]
    for array in (bound.A, bound.b, bound.w, bound.gamma, bound.gram):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert bound != QuadraticBound(A, b)  # identity, not contents
    assert hash(bound) == hash(bound)


def test_with_gamma_shares_everything_else() -> None:
    bound, gram, _, _ = _pair(3, 5, 0.3)
    for each in (bound, gram):
        other = each.with_gamma(2.5)
        assert other.gamma.tolist() == [2.5] * 5
        assert each.gamma.max() < 1
        assert other.b is each.b
        np.testing.assert_array_equal(other.gram, each.gram)
    with pytest.raises(InvalidInputError, match=r"^gamma"):
        bound.with_gamma(0.0)


def test_carries_its_guarantee_layer_and_trained_gates() -> None:
    guarantee = Guarantee("tangent", "statistical", "violated on < 0.1 % of samples")
    bound = QuadraticBound(
        np.eye(2), [0, 0], guarantee=guarantee, layer="h2", trained_mu=[1, 0], trained_sigma=[0.1, 0]
    )
    assert bound.guarantee is guarantee
    assert bound.layer == "h2"
    assert bound.trained_mu is not None
    assert bound.trained_sigma is not None
    assert repr(bound) == "QuadraticBound(A [2, 2], gamma 1 nats, tangent/statistical, layer h2)"
    assert str(guarantee) == "tangent (statistical): violated on < 0.1 % of samples"
    assert str(Guarantee("exact", "exact")) == "exact (exact)"
    two = QuadraticBound.from_gram(np.eye(2), [0, 0], gamma=[0.5, 1])
    assert repr(two) == "QuadraticBound(Q [2, 2], gamma 0.5…1 nats, given/exact)"
    assert two.guarantee.level == "exact"


def test_indefinite_gram_may_be_forced_but_not_silently_fixed() -> None:
    assert QuadraticBound.from_gram([[1.0, 2.0], [2.0, 1.0]], [0, 0], check=False).gram[0, 1] == 2.0
