"""T9 against its definition on a dense grid of a, against enumeration, and its price against either side."""

from __future__ import annotations

import numpy as np
import pytest

from vibtheory.errors import InvalidInputError
from vibtheory.theory.a_priori import a_priori_limit
from vibtheory.theory.enumeration import enumerate_local_minima
from vibtheory.theory.quadratic import QuadraticBound

LEVELS = np.geomspace(1e-3, 1e12, 20_001)


def _bound(seed: int, d: int, m: int, gamma: float, decay: float = 1.0, form: str = "factor") -> QuadraticBound:
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((m, m)))[0]
    A = basis @ (rng.standard_normal((m, d)) / np.arange(1, m + 1)[:, None] ** decay)
    b = -2 * A.T @ rng.standard_normal(m)
    prices = gamma * np.exp(rng.uniform(0, 1, d)) if form == "prices differ" else gamma
    return QuadraticBound.from_gram(A.T @ A, b, 0.0, prices) if form == "gram" else QuadraticBound(A, b, 0.0, prices)


def _by_grid(bound: QuadraticBound) -> int:
    """T9 as it is printed, γ in place of the cheapest-first count where all prices agree."""
    root = np.sqrt(np.diag(bound.gram))
    values = np.linalg.eigvalsh(bound.gram / np.outer(root, root))
    beta2 = float(bound.b @ np.linalg.pinv(bound.gram, rcond=1e-12, hermitian=True) @ bound.b) / 4
    spectrum = (values[None] >= 1 / (2 + LEVELS[:, None])).sum(axis=1)
    prices = np.cumsum(np.sort(bound.gamma))
    budget = np.searchsorted(prices, beta2 * (1 + LEVELS) / (4 * LEVELS), side="right")
    return min(int((spectrum + budget).min()), bound.d)


@pytest.mark.parametrize("form", ["factor", "gram", "prices differ"])
@pytest.mark.parametrize(("d", "m", "decay"), [(12, 12, 2.0), (30, 30, 1.0), (25, 8, 0.5)])
def test_the_least_over_a_dense_grid_of_a(d: int, m: int, decay: float, form: str) -> None:
    found = []
    for seed in range(4):
        for gamma in (3.0, 0.3, 0.1, 0.03):
            bound = _bound(seed, d, m, gamma, decay, form)
            known = a_priori_limit(bound)
            assert known.limit == _by_grid(bound)
            assert known.limit == min(d, known.small + known.large)
            assert known.trivial == min(d, m + 1)
            assert known.informative == (known.limit < known.trivial) == (bound.gamma.max() > known.from_gamma)
            found.append(known.informative)
    assert 0 < sum(found) < len(found)


@pytest.mark.parametrize("form", ["factor", "prices differ"])
def test_informs_above_one_price_and_not_below(form: str) -> None:
    for seed in range(5):
        bound = _bound(seed, 15, 15, 0.1, 2.0, form)
        price = a_priori_limit(bound).from_gamma
        ratios = bound.gamma / bound.gamma.max()
        assert a_priori_limit(bound.with_gamma(price * 1.0001 * ratios)).informative
        assert not a_priori_limit(bound.with_gamma(price * 0.9999 * ratios)).informative


def test_no_enumerated_minimum_has_more_open_gates() -> None:
    slack = []
    for seed in range(25):
        d = 3 + seed % 5
        bound = _bound(seed, d, d, (3.0, 0.5, 0.05)[seed % 3], 2.0)
        known = a_priori_limit(bound)
        slack += [known.limit - minimum.nonzeros for minimum in enumerate_local_minima(bound) if known.informative]
    assert len(slack) > 10
    assert min(slack) == 0  # attained


def test_edges() -> None:
    nothing = a_priori_limit(QuadraticBound(np.zeros((2, 3)), np.zeros(3)))
    assert (nothing.limit, nothing.informative) == (0, False)
    orthogonal = a_priori_limit(QuadraticBound(np.eye(4), np.full(4, -0.2), 0.0, 1.0))  # no eigenvalue below ½
    assert (orthogonal.limit, orthogonal.small, orthogonal.large, orthogonal.level) == (4, 4, 0, np.inf)
    assert "says no more" in str(orthogonal)
    with pytest.raises(InvalidInputError, match="row space"):
        a_priori_limit(QuadraticBound([[1.0, 1.0]], [1.0, 2.0]))
