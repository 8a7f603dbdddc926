"""The checker: verdicts against counts made apart from it, every verdict reachable, reports readable by others."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from vibtheory.theory import sparsity
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.network_report import NetworkReport
from vibtheory.theory.quadratic import Guarantee, QuadraticBound
from vibtheory.theory.sparsity import Inequality, SparsityReport, check_sparsity_bound


def _bound(
    m: int, d: int, gamma: float, scale: float = 1.0, decay: float = 0.0, seed: int = 0, gram: bool = False
) -> QuadraticBound:
    """A of rank min(m, d) with spectrum ~ 1/k^decay, b in its row space; A in units of scale, γ in scale²."""
    rng = np.random.default_rng([seed, m, d])
    A = scale * rng.normal(size=(m, d)) / np.arange(1, m + 1)[:, None] ** decay
    b = -2 * A.T @ (A @ rng.normal(size=d))
    if gram:
        return QuadraticBound.from_gram(A.T @ A, b, gamma=gamma * scale**2)
    return QuadraticBound(A, b, gamma=gamma * scale**2)


@pytest.mark.parametrize("gram", [False, True])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    ("m", "d", "gamma", "decay"), [(20, 100, 0.3, 0), (30, 30, 1.0, 1), (60, 25, 0.1, 2), (1, 9, 2, 0)]
)
def test_holds_with_counts_made_apart(m: int, d: int, gamma: float, decay: float, scale: float, gram: bool) -> None:
    bound = _bound(m, d, gamma, scale, decay, gram=gram)
    report = check_sparsity_bound(bound)
    assert report.verdict == "holds"
    assert report.certificate.certified
    mu, alpha = report.minimum.mu, report.minimum.alpha
    gram_matrix = np.array(bound.gram)
    root = np.sqrt(np.diag(gram_matrix))
    G = gram_matrix / np.outer(root, root)
    assert report.nonzeros == np.count_nonzero(mu) == np.count_nonzero(alpha)
    assert report.rank == min(m, d)
    assert report.soft_rank == (np.linalg.eigvalsh(G) >= 1 / (2 + alpha.max())).sum()
    weight = np.sqrt(2 + alpha)
    assert report.soft_rank_sharp == (np.linalg.eigvalsh(weight[:, None] * G * weight) >= 1).sum()
    assert report.nonzeros <= report.soft_rank_sharp <= report.soft_rank
    assert (report.slack, report.tight_slack) == (min(m, d) + 1 - report.nonzeros, min(m, d) - report.nonzeros)
    assert report.vacuous == (m >= d)
    kept = np.flatnonzero(mu)
    if kept.size > 1:  # T4a by brute force
        a = alpha[kept]
        limit = np.outer((1 + a) / (2 + a), (1 + a) / (2 + a))
        off = ~np.eye(kept.size, dtype=bool)
        assert (G[np.ix_(kept, kept)] ** 2 <= limit + 1e-9)[off].all()
    assert [s.name.split(":")[0] for s in report.statements] == ["T2 (paper)", "T2 (tight)", "T3", "T3 (sharp)",
                                                                  "T9", "T4a"]  # fmt: skip
    assert all(s.holds for s in report.statements)


def test_tight_instance_reaches_the_rank() -> None:
    report = check_sparsity_bound(QuadraticBound(3.0 * np.eye(6), np.full(6, -90.0), gamma=0.5))
    assert report.nonzeros == report.rank == 6
    assert report.tight_slack == 0
    assert report.slack == 1


def test_says_when_the_rank_is_vacuous_and_the_soft_rank_is_not() -> None:
    report = check_sparsity_bound(_bound(60, 60, 0.1, decay=2))
    assert report.vacuous
    assert report.rank == 60
    assert report.soft_rank < 60
    assert "rank bound is vacuous" in report.information
    assert "soft-rank bound is not" in report.information
    assert report.information in str(report)
    both = check_sparsity_bound(QuadraticBound(np.eye(3), np.full(3, -50.0)))
    assert "So is the soft-rank bound (3)" in both.information
    assert "informative" in check_sparsity_bound(_bound(3, 9, 0.1)).information
    assert [s.vacuous for s in both.statements] == [True, True, True, True, True, False]


def test_everything_closed_and_zero_columns() -> None:
    A = np.array([[1.0, 0.0, 2.0], [0.5, 0.0, -1.0]])
    report = check_sparsity_bound(QuadraticBound(A, [0.1, 0.0, 0.1], gamma=9.0))
    assert report.verdict == "holds"
    assert (report.nonzeros, report.live, report.d) == (0, 2, 3)
    nothing = check_sparsity_bound(QuadraticBound(np.zeros((2, 3)), np.zeros(3)))
    assert (nothing.verdict, nothing.nonzeros, nothing.rank, nothing.soft_rank) == ("holds", 0, 0, 0)
    one = check_sparsity_bound(QuadraticBound([[2]], [-40]))
    assert (one.verdict, one.nonzeros, one.rank) == ("holds", 1, 1)


def test_starts_at_the_trained_gates_and_shows_them_without_judging() -> None:
    plain = _bound(20, 40, 0.3)
    trained = np.ones(40)
    bound = QuadraticBound(
        np.asarray(plain.A), plain.b, gamma=plain.gamma, layer="h1", guarantee=Guarantee("bohning", "rigorous"),
        trained_mu=trained, trained_sigma=np.where(np.arange(40) < 33, 0.5, 2.0),
    )  # fmt: skip
    report = check_sparsity_bound(bound)
    assert report.trained_nonzeros == 33  # more than rank + 1 = 21, and still "holds"
    assert report.verdict == "holds"
    np.testing.assert_array_equal(report.minimum.mu, find_local_minimum(plain, start=trained).mu)
    other = np.random.default_rng(1).normal(size=40)
    chosen = check_sparsity_bound(bound, start=other)
    np.testing.assert_array_equal(chosen.minimum.mu, find_local_minimum(plain, start=other).mu)
    assert "trained network 33 (shown, not judged)" in str(report)
    assert check_sparsity_bound(plain).trained_nonzeros is None


def test_cvxpy_solver_gives_the_same_verdict() -> None:
    bound = _bound(6, 12, 0.3)
    report = check_sparsity_bound(bound, solver="cvxpy")
    assert report.minimum.solver == "cvxpy"
    assert report.verdict == "holds"


def test_near_zeros_of_a_solver_are_not_survivors() -> None:
    """The known trap: an iterate with |μ| ~ 1e-5 where zeros belong has 100 "non-zeros" for rank 20."""
    bound = _bound(20, 100, 0.3)
    exact = check_sparsity_bound(bound)
    rough = exact.minimum.mu + 1e-5 * np.random.default_rng(0).normal(size=100)
    assert (np.abs(rough) > 1e-6).sum() > 21
    report = check_sparsity_bound(bound, start=rough)
    assert report.verdict == "holds"
    assert report.nonzeros <= 20


def test_a_point_that_is_not_certified_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparsity, "find_local_minimum", functools.partial(find_local_minimum, max_iterations=0))
    bound = _bound(20, 100, 0.3)
    report = check_sparsity_bound(bound, start=np.ones(100))
    assert report.nonzeros == 100 > report.rank_plus_one  # would be "violated" if it were judged
    assert report.verdict == "not applicable"
    assert "local minima" in report.reason
    assert report.certificate.status in report.reason
    assert check_sparsity_bound(bound, start=np.ones(100)).to_frame()["verdict"].tolist() == ["not applicable"]


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_run_that_overflowed_is_a_status_not_an_error(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = _bound(5, 12, 0.3)
    found = find_local_minimum(bound, max_iterations=0)
    alpha = found.alpha.copy()
    alpha[0] = value
    monkeypatch.setattr(sparsity, "find_local_minimum", lambda *_: replace(found, alpha=alpha))
    report = check_sparsity_bound(bound)
    assert report.verdict == "not applicable"
    assert report.collinearity is None
    assert "not computed" in str(report)
    json.loads(report.to_json())


def test_a_false_rank_is_reported_as_violated(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = _bound(20, 100, 0.3)
    honest = check_sparsity_bound(bound)
    lie = replace(honest.rank_report, rank=honest.nonzeros - 2)
    monkeypatch.setattr(sparsity, "numerical_rank", lambda _: lie)
    report = check_sparsity_bound(bound)
    assert report.verdict == "violated"
    assert report.slack == -1
    assert "T2 (paper)" in report.reason
    assert "BROKEN: T2 (tight)" in str(report)


@pytest.mark.parametrize("broken", range(5))
def test_each_statement_alone_can_break_the_verdict(broken: int) -> None:
    report = check_sparsity_bound(_bound(5, 9, 0.1))
    planted = list(report.statements)
    planted[broken] = replace(planted[broken], value=planted[broken].limit + 1)
    verdict, reason = sparsity._judge(tuple(planted), report.certificate, unresolved=False)
    assert verdict == "violated"
    assert planted[broken].name in reason


def test_a_rank_below_float64_is_not_applicable_rather_than_violated() -> None:
    report = check_sparsity_bound(_bound(5, 9, 0.1))
    planted = (Inequality("T2", 5, 3), *report.statements[1:])
    verdict, reason = sparsity._judge(planted, report.certificate, unresolved=True)
    assert verdict == "not applicable"
    assert "from A instead of Q" in reason


def test_survivors_in_directions_that_a_gram_matrix_cannot_resolve() -> None:
    """Two columns at angle 1e-8, tiny γ: rank 2 from A; from Q the angle is gone, and that is no violation."""
    A = np.array([[1.0, 1.0], [0.0, 1e-8]])
    b = -2 * A.T @ (A @ np.array([30.0, 40.0]))
    report = check_sparsity_bound(QuadraticBound(A, b, gamma=1e-18), start=[30.0, 40.0])
    assert report.rank == 2
    assert report.verdict != "violated"
    squared = check_sparsity_bound(QuadraticBound.from_gram(A.T @ A, b, gamma=1e-18), start=[30.0, 40.0])
    assert squared.verdict != "violated"


@pytest.fixture(scope="module")
def report() -> SparsityReport:
    bound = _bound(12, 30, 0.2, decay=1)
    return check_sparsity_bound(
        QuadraticBound(np.asarray(bound.A), bound.b, 1.5, bound.gamma, layer="h2", trained_mu=np.ones(30),
                       trained_sigma=np.full(30, 0.1), guarantee=Guarantee("tangent", "statistical", "level 0.1 %"))
    )  # fmt: skip


def test_json_round_trip(report: SparsityReport) -> None:
    back = json.loads(report.to_json())
    assert back == report.to_dict()
    assert back["version"] == 1
    for name in ("verdict", "nonzeros", "rank", "soft_rank", "soft_rank_sharp", "slack", "tight_slack", "d", "layer"):
        assert back[name] == getattr(report, name)
    assert back["alpha"] == report.minimum.alpha.tolist()
    assert back["certificate"]["status"] == "certified local minimum"
    assert back["guarantee"] == {"kind": "tangent", "level": "statistical", "detail": "level 0.1 %"}
    assert len(back["statements"]) == 6
    json.loads(check_sparsity_bound(QuadraticBound(np.eye(2), [0, 0])).to_json(indent=1))  # infinities become null
    assert (
        json.loads(check_sparsity_bound(QuadraticBound(np.eye(2), [0, 0])).to_json())["certificate"]["min_eigenvalue"]
        is None
    )


def test_frame_and_text(report: SparsityReport) -> None:
    frame = report.to_frame()
    assert frame.shape[0] == 1
    assert frame.loc[0, "rank_plus_one"] == 13
    text = str(report)
    for part in ("h2: holds", "rank[A] + 1 = 13", "tangent (statistical): level 0.1 %", "certified local minimum"):
        assert part in text


def test_network_report(report: SparsityReport) -> None:
    closed = check_sparsity_bound(QuadraticBound(np.eye(3), np.zeros(3)))
    network = NetworkReport((report, closed))
    assert len(network) == 2
    assert [r.d for r in network] == [30, 3]
    assert network.layers == ("h2", "1")
    assert network["h2"] is network[0] is report
    assert network["1"] is network[-1] is closed
    assert network.verdict == "holds"
    assert network.to_frame()["layer"].tolist() == ["h2", "1"]
    assert json.loads(network.to_json())["layers"][0]["layer"] == "h2"
    text = str(network)
    assert "holds: 2 gated layers" in text
    assert "h2: The rank bound is informative" in text
    stopped = replace(closed, verdict="not applicable", reason="stopped early")
    assert NetworkReport((report, stopped)).verdict == "not applicable"
    assert "1: stopped early" in str(NetworkReport((report, stopped)))
    assert NetworkReport((stopped, replace(closed, verdict="violated"))).verdict == "violated"


def test_figures(report: SparsityReport) -> None:
    closed = check_sparsity_bound(QuadraticBound(np.eye(3), np.zeros(3)))
    zero = check_sparsity_bound(QuadraticBound(np.zeros((1, 2)), np.zeros(2)))
    figure = report.plot()
    figure.canvas.draw()
    labels = [t.get_text() for t in figure.axes[2].get_yticklabels()]
    assert "trained ‖α‖₀ (not judged)" in labels
    shown = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert any(f"soft rank {report.soft_rank}" in t for t in shown)
    assert any(f"rank {report.rank}" in t for t in shown)
    network = NetworkReport((report, closed, zero)).plot()
    network.canvas.draw()
    assert len(network.axes) == 9
    assert any(t.get_text() == "no gate survives" for t in network.axes[4].texts)
    plt.close("all")
