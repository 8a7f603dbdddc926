"""The Clopper–Pearson limit and the count of violations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from vibtheory.bridge.verification import clopper_pearson_upper, compare


@pytest.mark.parametrize(("k", "n"), [(0, 10), (0, 100_000), (3, 50), (49, 50)])
def test_clopper_pearson_inverts_the_binomial_tail(k: int, n: int) -> None:
    limit = clopper_pearson_upper(k, n)
    assert scipy.stats.binom.cdf(k, n, limit) == pytest.approx(0.05, rel=1e-6)


def test_clopper_pearson_of_all_is_one() -> None:
    assert clopper_pearson_upper(7, 7) == 1.0


LEVELS = [("rigorous", "rebuild it"), ("statistical", "more samples")]


@pytest.mark.parametrize(("level", "remedy"), LEVELS)
def test_violations_are_counted_and_named(level: str, remedy: str) -> None:
    points = np.linspace(-2, 2, 41)
    check = compare(3 * points**2, np.full(41, 3.0), level, "x")
    assert check.violations == int((3 * points**2 < 3 - 1e-9).sum()) == 19
    assert check.worst == pytest.approx(3.0)
    assert remedy in str(check)


def test_rounding_is_no_violation() -> None:
    check = compare(np.full(5, 1e6), np.full(5, 1e6 + 1e-5), "exact", "x")
    assert check.violations == 0
    assert check.status == "no violation found"
