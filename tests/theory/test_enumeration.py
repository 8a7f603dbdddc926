"""Enumeration is complete (T6): against multistart, against closed forms, and each entry certified."""

from __future__ import annotations

import numpy as np
import pytest

from tests.theory.strategies import FAMILIES, draw, random_start
from vibtheory.errors import SolverError
from vibtheory.theory import branch_and_prune
from vibtheory.theory.branch_and_prune import _inverses
from vibtheory.theory.certificate import CERTIFIED
from vibtheory.theory.enumeration import enumerate_local_minima
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.quadratic import QuadraticBound


def _key(mu):
    return tuple(np.sign(mu).astype(int))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(2))
def test_every_multistart_minimum_is_enumerated(family, seed):
    rng = np.random.default_rng(100 + seed)
    instance = draw(rng, family, largest=8)
    minima = enumerate_local_minima(instance.bound)
    by_sign = {_key(minimum.mu): minimum for minimum in minima}
    assert len(by_sign) == len(minima) > 0
    for minimum in minima:
        assert minimum.certificate.status == CERTIFIED
        assert minimum.nonzeros <= instance.rank
    values = [minimum.value for minimum in minima]
    assert values == sorted(values)
    for _ in range(30):
        found = find_local_minimum(instance.bound, random_start(rng, instance.bound))
        assert found.certificate.status == CERTIFIED
        same = by_sign[_key(found.mu)]
        np.testing.assert_allclose(found.mu, same.mu, rtol=1e-6, atol=1e-9 * np.abs(found.mu).max())
        assert found.value >= values[0] - 1e-9 * (1e-12 * float(instance.bound.gamma.min()) + abs(values[0]))


def test_one_gate_in_closed_form():
    """Φ = x² − 2βx + ρ: one minimum, β(1 − γ/β²) if β² > γ, else 0."""
    for beta, gamma in ((2.0, 1.0), (0.9, 1.0), (-3.0, 0.25)):
        minima = enumerate_local_minima(QuadraticBound([[1.0]], [-2 * beta], 0.0, gamma))
        assert len(minima) == 1
        assert minima[0].mu[0] == pytest.approx(beta * max(0.0, 1 - gamma / beta**2), rel=1e-12)


def test_twin_columns_give_twin_minima():
    """Two equal columns: either may carry the signal, never both (T4a), and both choices are listed."""
    minima = enumerate_local_minima(QuadraticBound([[1.0, 1.0]], [-6.0, -6.0], 0.0, 1.0))
    assert [_key(minimum.mu) for minimum in minima] in ([(1, 0), (0, 1)], [(0, 1), (1, 0)])
    assert minima[0].value == pytest.approx(minima[1].value, rel=1e-12)


def test_orthogonal_columns_have_one_minimum():
    beta = np.array([3.0, 0.5, -2.0, 1.5])
    minima = enumerate_local_minima(QuadraticBound(np.eye(4), -2 * beta, 0.0, 1.0))
    assert len(minima) == 1
    np.testing.assert_allclose(minima[0].mu, beta * np.maximum(0, 1 - 1 / beta**2), rtol=1e-12)


def test_tight_instances_reach_the_rank():
    minima = enumerate_local_minima(QuadraticBound(3 * np.eye(3), [-60.0, 60.0, -90.0], 0.0, 0.5))
    assert max(minimum.nonzeros for minimum in minima) == 3


def test_zero_columns_and_unbounded_directions():
    assert enumerate_local_minima(QuadraticBound([[1.0, 0.0]], [-6.0, 1.0], 0.0, 1.0)) == ()
    minima = enumerate_local_minima(QuadraticBound([[1.0, 0.0]], [-6.0, 0.0], 0.0, 1.0))
    assert [minimum.nonzeros for minimum in minima] == [1]
    nothing = enumerate_local_minima(QuadraticBound(np.zeros((1, 3)), np.zeros(3), 2.0, 1.0))
    assert [(minimum.nonzeros, minimum.value) for minimum in nothing] == [(0, 2.0)]


@pytest.mark.parametrize(("rank", "gamma"), [(3, 0.1), (12, 0.1)])
def test_twelve_gates_at_low_and_full_rank(rank, gamma):
    """d = 12: what multistart finds is listed, and no more points than T2 allows are open."""
    rng = np.random.default_rng(1)
    A = rng.standard_normal((rank, 12))
    bound = QuadraticBound(A, -2 * A.T @ (3 * rng.standard_normal(rank)), 0.0, gamma)
    minima = enumerate_local_minima(bound)
    by_sign = {_key(minimum.mu): minimum for minimum in minima}
    assert max(minimum.nonzeros for minimum in minima) <= rank
    for _ in range(30):
        found = find_local_minimum(bound, random_start(rng, bound))
        assert found.value == pytest.approx(by_sign[_key(found.mu)].value, rel=1e-9)


def test_a_region_that_needs_bisection_is_searched():
    """Two nearly equal columns: stationary points with M near singular; a grid of starts agrees with the list."""
    A = np.array([[1.0, 0.999], [0.0, np.sqrt(1 - 0.999**2)]])
    bound = QuadraticBound(A, -2 * A.T @ np.array([4.0, 30.0]), 0.0, 0.05)
    keys = {_key(minimum.mu) for minimum in enumerate_local_minima(bound)}
    starts = [np.array([x, y]) for x in np.linspace(-900, 900, 13) for y in np.linspace(-900, 900, 13)]
    assert {_key(find_local_minimum(bound, start).mu) for start in starts} == keys


def test_an_undecided_region_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr(branch_and_prune, "_MOST_BOXES", 1)
    monkeypatch.setattr(branch_and_prune, "_NEWTON", 0)
    with pytest.raises(SolverError, match=r"support \[0\].*Remedy"):
        enumerate_local_minima(QuadraticBound([[1.0]], [-6.0], 0.0, 1.0))


def test_batched_inverses_know_which_matrices_are_definite():
    rng = np.random.default_rng(2)
    factors = rng.standard_normal((200, 6, 6))
    matrices = factors @ factors.transpose(0, 2, 1) - rng.uniform(0, 1, 200)[:, None, None] * np.eye(6)
    inverses, definite = _inverses(matrices)
    np.testing.assert_array_equal(definite, np.linalg.eigvalsh(matrices)[:, 0] > 0)
    assert 0 < definite.sum() < 200
    np.testing.assert_allclose(
        inverses[definite] @ matrices[definite], np.tile(np.eye(6), (definite.sum(), 1, 1)), atol=1e-6
    )
