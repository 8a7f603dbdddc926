"""Rank and soft rank against planted spectra, numpy's SVD and brute-force eigenvalue counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.rank import numerical_rank, rank_from_gram, rank_of_rows, spectrum
from vibtheory.theory.soft_rank import soft_rank, soft_rank_of


def _low_rank(m: int, d: int, rank: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, m, d, rank])
    columns = scale * np.exp(2 * rng.normal(size=d))  # units that differ by e^±4 between gates
    return rng.normal(size=(m, rank)) @ rng.normal(size=(rank, d)) * columns


def _unit(A: np.ndarray) -> np.ndarray:
    return A / np.linalg.norm(A, axis=0)


CASES = [(30, 50, 7), (50, 30, 12), (20, 20, 20), (1, 5, 1), (5, 1, 1), (3, 100, 3)]


@pytest.mark.parametrize(("m", "d", "rank"), CASES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_planted_rank_from_every_source(m: int, d: int, rank: int, scale: float) -> None:
    A = _low_rank(m, d, rank, scale)
    expected = np.linalg.svd(_unit(A), compute_uv=False)
    bound = QuadraticBound(A, np.zeros(d))
    reports = {
        "factor": numerical_rank(A),
        "bound": numerical_rank(bound),
        "gram": numerical_rank(QuadraticBound.from_gram(A.T @ A, np.zeros(d))),
        "rows": rank_of_rows(np.array_split(A, 3)),
        "randomized": numerical_rank(A, method="randomized"),
    }
    for name, report in reports.items():
        assert report.rank == rank, name
        # Q holds singular values of A below √(d·eps) as rounding only: a rank below d is not decided by it
        unresolved = name == "gram" and rank < d
        assert report.status.startswith(f"unresolved between {rank} and {d}" if unresolved else "determined"), name
        assert report.full == (rank == d)
        assert report.remainder == 0
        np.testing.assert_allclose(report.singular_values[:rank], expected[:rank], rtol=1e-6)
        assert report.gap > 1e4
        assert f"rank {rank} of {d}" in str(report)
    np.testing.assert_allclose(spectrum(bound)[:rank], expected[:rank] ** 2, rtol=1e-10)
    assert reports["gram"].resolution > 1e3 * reports["factor"].resolution  # √eps against eps, and said so


def test_zero_columns_do_not_count() -> None:
    A = _low_rank(6, 9, 4)
    A[:, [2, 5]] = 0
    for report in (numerical_rank(A), rank_from_gram(A.T @ A), rank_of_rows([A])):
        assert (report.rank, report.live, report.d) == (4, 7, 9)
    for report in (
        numerical_rank(np.zeros((3, 4))),
        rank_from_gram(np.zeros((4, 4))),
        rank_of_rows([np.zeros((3, 4))]),
    ):
        assert (report.rank, report.live, report.gap) == (0, 0, np.inf)
        assert report.full


def test_ambiguous_rank_says_so_with_the_range_and_remedy() -> None:
    """Singular values 1/k⁴: no gap anywhere near the tolerance."""
    rng = np.random.default_rng(1)
    values = np.diag(10.0 ** -np.arange(16))
    left, right = (np.linalg.qr(rng.normal(size=(40, 16)))[0] for _ in range(2))
    A = left @ values @ right.T
    report = numerical_rank(A, tolerance=1e-6)
    assert report.status.startswith("ambiguous: rank ")
    assert "soft rank" in report.status
    ranks = [r for _, r in report.sensitivity]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] > report.rank > ranks[-1]
    exact = np.linalg.svd(_unit(A), compute_uv=False)
    for tolerance, rank in report.sensitivity:
        assert rank == int((exact > tolerance).sum())
    from_gram = rank_from_gram(A.T @ A)
    assert from_gram.rank < numerical_rank(A).rank  # what squares cannot resolve
    assert from_gram.singular_values[from_gram.rank - 1] > from_gram.resolution


@pytest.mark.parametrize("rank", [5, 70])
def test_randomized_bounds_what_it_leaves_out(rank: int) -> None:
    A = _low_rank(400, 500, rank)
    noise = 1e-6 * np.random.default_rng(2).normal(size=A.shape) * np.linalg.norm(A, axis=0) / 20
    exact = np.linalg.svd(_unit(A + noise), compute_uv=False)
    report = numerical_rank(A + noise, tolerance=1e-3, method="randomized")
    assert report.source == "randomized"
    assert report.rank == rank
    kept = report.singular_values.size
    assert kept < 400
    assert 0 < report.remainder < 1e-3
    assert exact[kept] <= report.remainder
    np.testing.assert_array_less(report.singular_values**2, exact[:kept] ** 2 * (1 + 1e-12))
    np.testing.assert_array_less(exact[:kept] ** 2, report.singular_values**2 + report.remainder**2 * (1 + 1e-9))


def test_randomized_falls_back_on_a_full_spectrum() -> None:
    A = np.random.default_rng(3).normal(size=(200, 300))
    report = numerical_rank(A, method="randomized")
    assert report.rank == 200
    assert report.remainder == 0


@pytest.mark.parametrize("rank", [9, 60])
def test_pivoted_cholesky_for_large_gram_matrices(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vibtheory.theory.rank._EXACT_LIMIT", 10)
    A = _low_rank(80, 60, rank, 1e3)
    report = rank_from_gram(A.T @ A)
    exact = np.linalg.svd(_unit(A), compute_uv=False)
    assert report.rank == rank
    assert report.status.startswith("unresolved between 9 and 60" if rank < 60 else "determined")
    assert report.remainder < report.tolerance
    np.testing.assert_allclose(report.singular_values[:rank], exact[:rank], rtol=1e-5)


def test_partial_spectrum_with_a_large_remainder_is_a_lower_bound_only() -> None:
    from dataclasses import replace

    report = replace(numerical_rank(np.eye(3)), remainder=0.5)
    assert report.status.startswith("lower bound only")
    assert 'method="exact"' in report.status


@pytest.mark.parametrize("smallest", [1e-13, 1e-14, 1e-15])
def test_a_gram_matrix_does_not_decide_what_it_cannot_show(smallest: float) -> None:
    """A has rank 6 by its own singular values, down to 1e-15 of the largest; Q shows five and says up to where."""
    rng = np.random.default_rng(4)
    left, right = np.linalg.qr(rng.normal(size=(40, 6)))[0], np.linalg.qr(rng.normal(size=(6, 6)))[0]
    A = left @ np.diag([1, 0.8, 0.6, 0.5, 0.4, smallest]) @ right.T
    report = numerical_rank(QuadraticBound.from_gram(A.T @ A, np.zeros(6)))
    assert report.rank == 5
    assert report.status.startswith("unresolved between 5 and 6")
    assert "build the bound from A" in report.status
    if smallest > 40 * np.finfo(float).eps:
        assert numerical_rank(QuadraticBound(A, np.zeros(6))).rank == 6
    assert rank_from_gram(A.T @ A, tolerance=1e-3).status == "determined"  # said to count only above 1e-3


def test_tolerance_below_the_resolution_is_unresolved() -> None:
    A = _low_rank(30, 20, 7)
    report = rank_from_gram(A.T @ A, tolerance=1e-14)
    assert report.status.startswith("unresolved: the tolerance is below the resolution")


def test_rows_stream_once_and_match_the_whole() -> None:
    A = _low_rank(5000, 40, 13)

    def stream() -> Iterator[np.ndarray]:
        for start in range(0, 5000, 640):
            yield A[start : start + 640].astype(np.float64)

    report = rank_of_rows(stream())
    assert report.rank == 13
    assert report.source == "rows"
    np.testing.assert_allclose(report.singular_values[:13], np.linalg.svd(_unit(A), compute_uv=False)[:13], rtol=1e-10)
    assert rank_of_rows([row[None, :] for row in A[:60]]).rank == 13  # fewer rows than columns at first


def _brute(A: np.ndarray, alpha: np.ndarray) -> tuple[int, int]:
    live = np.linalg.norm(A, axis=0) > 0
    unit, snr = _unit(A[:, live]), alpha[live]
    gram = unit.T @ unit
    root = np.sqrt(2 + snr)
    plain = (np.linalg.eigvalsh(gram) >= 1 / (2 + snr.max())).sum()
    return int(plain), int((np.linalg.eigvalsh(root[:, None] * gram * root) >= 1).sum())


@pytest.mark.parametrize(("m", "d"), [(30, 12), (12, 30), (5, 40), (25, 25)])
@pytest.mark.parametrize("size", [0.0, 0.3, 30.0, 1e5])
def test_soft_rank_counts_as_the_definition(m: int, d: int, size: float) -> None:
    rng = np.random.default_rng([m, d])
    A = rng.normal(size=(m, d)) / np.arange(1, m + 1)[:, None] ** 2 * np.exp(rng.normal(size=d))
    A[:, 3] = 0
    alpha = size * rng.exponential(size=d) * (rng.random(d) < 0.3)
    alpha[3] = 0
    plain, sharp = _brute(A, alpha)
    for bound in (QuadraticBound(A, np.zeros(d)), QuadraticBound.from_gram(A.T @ A, np.zeros(d))):
        report = soft_rank_of(bound, alpha)
        assert (report.plain, report.sharp) == (plain, sharp)
        assert report.status == "determined"
        assert min(report.margin, report.margin_sharp) > report.tolerance
        assert report.threshold == pytest.approx(1 / (2 + alpha.max()))
    assert report.sharp <= report.plain
    assert f"soft rank {plain}" in str(report)
    assert soft_rank(A.T @ A, np.sum(A**2, axis=0), alpha).plain == plain


def test_soft_rank_by_inertia_agrees_with_eigenvalues(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    for trial in range(20):
        A = rng.normal(size=(30, 40)) / (1 + np.arange(30)[:, None])
        alpha = 50 * rng.exponential(size=40) * (rng.random(40) < 0.4)
        bound = QuadraticBound.from_gram(A.T @ A, np.zeros(40))
        by_eigenvalues = soft_rank_of(bound, alpha)
        with monkeypatch.context() as patch:
            patch.setattr("vibtheory.theory.soft_rank._EIGENVALUES_LIMIT", 10)
            by_inertia = soft_rank_of(bound, alpha)
        assert (by_inertia.plain, by_inertia.sharp) == (by_eigenvalues.plain, by_eigenvalues.sharp), trial
        assert by_inertia.ties == by_inertia.ties_sharp == 0
        assert by_inertia.margin == by_inertia.tolerance


@pytest.mark.parametrize("limit", [2000, 1])
def test_eigenvalue_on_the_threshold_is_counted(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two unit columns at cosine ½ have eigenvalues ½ and 3/2; α = 0 puts the threshold exactly on ½."""
    monkeypatch.setattr("vibtheory.theory.soft_rank._EIGENVALUES_LIMIT", limit)
    gram = np.array([[1.0, 0.5], [0.5, 1.0]])
    report = soft_rank(gram * 9, np.array([9.0, 9.0]), np.zeros(2))
    assert report.plain == report.sharp == 2
    assert report.ties == report.ties_sharp == 1
    assert report.margin <= report.tolerance
    assert "still an upper bound" in report.status
    assert "still an upper bound" in str(report)


def test_huge_snr_keeps_the_bound_valid_and_says_that_eigenvalues_tie() -> None:
    A = _low_rank(5, 40, 5)
    alpha = np.zeros(40)
    alpha[[1, 4]] = 1e15  # threshold 1e-15: below what rounding resolves in Q
    from_factor = soft_rank_of(QuadraticBound(A, np.zeros(40)), alpha)
    assert from_factor.plain == 5
    from_gram = soft_rank_of(QuadraticBound.from_gram(A.T @ A, np.zeros(40)), alpha)
    assert from_gram.plain >= 5
    assert from_gram.ties > 0
    assert "build the bound from A" in from_gram.status


def test_soft_rank_without_live_columns() -> None:
    report = soft_rank(np.zeros((3, 3)), np.zeros(3), np.zeros(3))
    assert (report.plain, report.sharp, report.ties) == (0, 0, 0)
