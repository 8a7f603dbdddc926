"""T7, path: the derivative by finite differences, events against their own conditions, points against fresh solves."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from tests.theory.strategies import FAMILIES, draw
from vibtheory.theory.certificate import certify
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.path import SparsityPath, path_slope, sparsity_path
from vibtheory.theory.quadratic import QuadraticBound


def _bound(scale: float = 1.0, gram: bool = False, ratios: np.ndarray | float = 1.0) -> QuadraticBound:
    rng = np.random.default_rng(0)
    A = scale * rng.normal(size=(8, 16)) / np.arange(1, 9)[:, None] * np.exp(rng.normal(size=16))
    b = -2 * A.T @ (A @ rng.normal(size=16)) / scale
    return QuadraticBound.from_gram(A.T @ A, b, gamma=ratios) if gram else QuadraticBound(A, b, gamma=ratios)


@pytest.fixture(scope="module")
def falling() -> tuple[QuadraticBound, SparsityPath]:
    bound = _bound()
    return bound, sparsity_path(bound, np.logspace(2.5, -2, 19))


@pytest.fixture(scope="module")
def rising() -> tuple[QuadraticBound, SparsityPath]:
    bound = _bound()
    return bound, sparsity_path(bound, np.logspace(-2, 2.5, 19))


@pytest.mark.parametrize("gram", [False, True])
@pytest.mark.parametrize("ratios", [1.0, np.linspace(0.5, 2, 16)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_slope_by_finite_differences(scale: float, ratios: np.ndarray | float, gram: bool) -> None:
    bound = _bound(scale, gram, ratios)
    shape = bound.gamma / bound.gamma.max()
    gamma = 0.3
    middle = find_local_minimum(bound.with_gamma(gamma * shape))
    assert middle.nonzeros >= 2
    h = 1e-5 * gamma
    ends = [find_local_minimum(bound.with_gamma((gamma + s) * shape), start=middle.mu) for s in (-h, h)]
    difference = (ends[1].mu - ends[0].mu) / (2 * h)
    slope = path_slope(bound.with_gamma(gamma * shape), middle.mu)
    np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-7 * np.abs(difference).max())
    np.testing.assert_array_equal(slope[middle.mu == 0], 0)


@pytest.mark.parametrize("which", ["falling", "rising"])
def test_every_point_is_a_minimum_at_its_own_price(which: str, request: pytest.FixtureRequest) -> None:
    bound, path = request.getfixturevalue(which)
    assert path.status == "certified"
    for gamma, minimum, mu in zip(path.gammas, path.minima, path.mu, strict=True):
        here = bound.with_gamma(gamma)
        assert certify(here, mu).certified
        np.testing.assert_allclose(find_local_minimum(here, start=mu).mu, mu, rtol=1e-6, atol=1e-9)
        assert minimum.value == pytest.approx(here.phi(mu), rel=1e-12)


@pytest.mark.parametrize("which", ["falling", "rising"])
def test_events_account_for_every_change_of_support(which: str, request: pytest.FixtureRequest) -> None:
    _, path = request.getfixturevalue(which)
    assert path.events
    support = set(np.flatnonzero(path.alpha[0]))
    pending = list(path.events)
    sign = 1 if which == "rising" else -1
    for gamma, alpha in zip(path.gammas[1:], path.alpha[1:], strict=True):
        while pending and sign * pending[0].gamma < sign * gamma:
            event = pending.pop(0)
            assert not support & set(event.opened)
            assert set(event.closed) <= support
            support = (support | set(event.opened)) - set(event.closed)
        assert support == set(np.flatnonzero(alpha))
    assert not pending


def test_gates_open_where_the_residual_says(falling: tuple[QuadraticBound, SparsityPath]) -> None:
    """γ = (a_jᵀr)²/w_j with r = β − Aμ (T7), evaluated by a fresh solve just before the event."""
    bound, path = falling
    opens = [e for e in path.events if e.kind == "opens"]
    assert len(opens) >= 2
    assert opens[0].gamma == pytest.approx(
        np.max(bound.b**2 / (4 * bound.w)), rel=1e-8
    )  # from 0: T7, everything closed
    for event in opens:
        (j,) = event.opened
        later = np.argmax(path.gammas < event.gamma)
        before = sparsity_path(bound, [path.gammas[later - 1], event.gamma * (1 + 1e-7)], start=path.mu[later - 1])
        r = bound.beta() - np.asarray(bound.A) @ before.mu[-1]
        assert (np.asarray(bound.A)[:, j] @ r) ** 2 / bound.w[j] == pytest.approx(event.gamma, rel=1e-5)


def test_gates_close_continuously_and_jumps_are_folds(rising: tuple[QuadraticBound, SparsityPath]) -> None:
    bound, path = rising
    kinds = {e.kind for e in path.events}
    assert kinds == {"closes", "jumps"}
    for event in path.events:
        later = int(np.argmax(path.gammas > event.gamma))
        near = sparsity_path(bound, [path.gammas[later - 1], event.gamma * (1 - 1e-9)], start=path.mu[later - 1])
        support = np.flatnonzero(near.mu[-1])
        unit = np.sqrt(bound.w[support])
        here = bound.with_gamma(event.gamma).hessian(near.mu[-1])[np.ix_(support, support)] / np.outer(unit, unit)
        smallest = np.linalg.eigvalsh(here)[0]
        if event.kind == "closes":
            (j,) = event.closed
            assert abs(near.mu[-1][j]) * np.sqrt(bound.w[j] / event.gamma) < 1e-6
            assert event.distance < 1e-6 * np.sqrt(event.gamma)
        elif len(event.opened) == 0:
            assert smallest < 1e-3  # λ_min(H_S) → 0 like the square root of the distance in γ
            assert event.distance > 1e-3


def test_past_a_jump_it_is_where_plain_descent_lands_in_small_enough_steps() -> None:
    """Descent that oversteps the fold starts beyond it, and here ends at another minimum."""
    bound = draw(np.random.default_rng([7, 18]), FAMILIES[18 % 7]).bound
    gammas = float(bound.gamma.max()) * np.geomspace(100, 1e-3, 60)[:12]
    path = sparsity_path(bound, gammas)
    assert [e.kind for e in path.events if e.gamma < gammas[10]] == ["jumps"]
    before, after = path.minima[10:]
    values = {}
    for steps in (8, 200):
        mu = before.mu
        for gamma in np.geomspace(gammas[10], gammas[11], steps + 1)[1:]:
            found = find_local_minimum(bound.with_gamma(gamma), mu)
            mu = found.mu
        values[steps] = found.value
    assert values[200] == pytest.approx(after.value, rel=1e-12)
    assert values[8] > after.value + 1


def test_one_gate_follows_the_garrote_and_closes_where_it_must() -> None:
    """d = 1 in closed form: μ√w = β̂(1 − γ/β̂²)₊, β̂ = −b/(2√w) (Breiman 1995)."""
    a, b = 3.0, -12.0
    bound = QuadraticBound([[a]], [b])
    hat = -b / (2 * a)
    gammas = np.linspace(0.1, 6, 12)
    path = sparsity_path(bound, gammas)
    np.testing.assert_allclose(path.mu[:, 0], np.maximum(hat * (1 - gammas / hat**2), 0) / a, rtol=1e-10)
    (event,) = path.events
    assert (event.kind, event.opened, event.closed) == ("closes", (), (0,))
    assert event.gamma == pytest.approx(hat**2, rel=1e-9)


def test_identical_columns_and_zero_columns() -> None:
    A = np.array([[1.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    bound = QuadraticBound(A, -2 * A.T @ [3.0, 1.0])
    path = sparsity_path(bound, np.logspace(1.5, -1, 9), start=[0.1, 0, 0])
    assert path.status == "certified"
    assert path.nonzeros.max() == 1  # T4a: never both


def test_report(rising: tuple[QuadraticBound, SparsityPath]) -> None:
    _, path = rising
    frame = path.to_frame()
    assert frame["nonzeros"].tolist() == path.nonzeros.tolist()
    assert set(frame["certificate"]) == {"certified local minimum"}
    events = path.events_to_frame()
    assert len(events) == len(path.events)
    assert "survivors" in str(path)
    assert all(f"{e.gamma:.10g}" in str(e) and e.kind in str(e) for e in path.events)
    empty = sparsity_path(QuadraticBound([[1.0]], [0.1]), [1.0, 2.0])
    assert "no events" in str(empty)
    assert empty.events_to_frame().empty
    for each in (path, empty):
        figure = each.plot()
        figure.canvas.draw()
        assert figure.axes[0].get_lines()
    plt.close("all")


def test_uncertified_points_are_named() -> None:
    from dataclasses import replace

    path = sparsity_path(QuadraticBound([[1.0]], [-9.0]), [1.0, 2.0])
    bad = replace(path.minima[1], certificate=replace(path.minima[1].certificate, status="not converged"))
    broken = SparsityPath(path.gammas, (path.minima[0], bad), (), 1)
    assert "1 of 2 points not certified (γ = 2); remedy" in broken.status


def test_event_limit_still_ends_at_certified_points() -> None:
    bound = _bound()
    path = sparsity_path(bound, np.logspace(2.5, -2, 5), max_events=1)
    assert len(path.events) == 1
    assert path.status == "certified"


def test_a_path_that_nothing_certifies_ends() -> None:
    """At 1e200 nothing is a minimum; the path had gone on in steps of 1e-4 of the price."""
    A = np.random.default_rng(0).normal(size=(4, 6))
    with np.errstate(all="ignore"):
        path = sparsity_path(QuadraticBound(A, A.sum(axis=0)), np.geomspace(1e-3, 1, 5), np.full(6, 1e200))
    assert path.steps == 0
    assert path.status.startswith("5 of 5 points not certified")


@pytest.mark.parametrize("prices", [(1e-12, 1e300), (1e300, 1e-12)])
def test_prices_whose_ratio_leaves_float64(prices: tuple[float, float]) -> None:
    """The logarithm of their ratio was infinite, and so was the walk. Gates open at γ = b²/(4w)."""
    path = sparsity_path(QuadraticBound(np.eye(2), [-2.0, -4.0]), prices)
    assert path.status == "certified"
    assert sorted(event.gamma for event in path.events) == pytest.approx([1.0, 4.0], rel=1e-9)
