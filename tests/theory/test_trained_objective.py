"""T8 from arrays: against quadratic losses, whose minima the certified solver finds, and against planted noise."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytest

from vibtheory import QuadraticBound, find_local_minimum
from vibtheory.errors import InvalidInputError
from vibtheory.theory.trained_objective import (
    TrainedNetworkReport,
    TrainedReport,
    _least,
    _mean_square,
    check_trained_objective,
)

RNG = np.random.default_rng(4)


def _at_minimum(seed: int, **changes: object) -> tuple[TrainedReport, np.ndarray]:
    """g = ‖Az‖² + bᵀz: E∂g = 2AᵀAμ + b and H = 2AᵀA exactly, and T1–T6 know the minimum; its open gates alone."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((5, 8))
    bound = QuadraticBound(factor, -2 * factor.T @ rng.standard_normal(5) * 3, 0.0, 0.05)
    minimum = find_local_minimum(bound)
    on = np.flatnonzero(minimum.mu)
    h = 2 * bound.gram[np.ix_(on, on)]
    given = {"mu": minimum.mu[on], "sigma": minimum.sigma[on], "gamma": 0.05,
             "gradient": (h @ minimum.mu[on] + bound.b[on])[None], "hessian": h[None]}  # fmt: skip
    return check_trained_objective(**(given | changes)), minimum.alpha[on]  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_it_holds_at_certified_minima_of_quadratic_losses(seed: int) -> None:
    report, alpha = _at_minimum(seed)
    assert report.verdict == "holds"
    assert report.kept == (alpha > 1).sum() == len(report.spectrum)
    assert report.kept <= report.above_one <= report.above_least <= report.rank <= 5
    assert report.offset.value < 1e-12
    assert report.spread.value < 1e-12
    assert report.least.value == report.least_above.value >= 1


def test_a_wrong_price_is_no_minimum() -> None:
    report, _ = _at_minimum(0, gamma=0.1)
    assert report.verdict == "not at a minimum"
    assert report.spread.value == pytest.approx(0.25)  # half of the price's pull is missing: (0.05/0.1 − 1)²
    assert "trained at" in report.reason


def _saddle(bend: float | None, noise: float = 0.0, draws: int = 1) -> TrainedReport:
    """Two equal gates that rest (α = 4, γ = 1, σ = 1), so alike that their difference has too little curvature."""
    mu, diagonal = np.full(2, 2.0), 2 * 4 / 5
    h = diagonal * np.array([[1.0, 0.99], [0.99, 1.0]])
    gradient = np.tile(-2 * mu / 5, (draws, 1)) + noise * RNG.standard_normal((draws, 2))
    asked = None if bend is None else lambda delta: np.full(draws, bend) * np.abs(delta).max()
    return check_trained_objective(mu, np.ones(2), 1.0, gradient, np.tile(h, (draws, 1, 1)), bend=asked)


def test_a_saddle_is_told_and_a_contradiction_is_a_violation() -> None:
    # M = (1+α)²/(2(α−1)) = 25/6: eigenvalues 25/6 · 1.6 · (1 ± .99)
    for bend in (None, -1e-3):
        report = _saddle(bend)
        assert report.verdict == "not at a minimum"
        assert report.least.value == pytest.approx(25 / 6 * 1.6 * 0.01)
        assert "F falls" in report.reason
    assert _saddle(1e-3).verdict == "violated"
    assert _saddle(1e-3).bend is not None
    assert _saddle(1e-3, noise=2.0, draws=4).verdict == "not at a minimum"  # it may rest elsewhere: no contradiction


def test_noise_is_told_from_motion() -> None:
    assert _saddle(None, noise=5.0, draws=4).verdict == "not at a minimum"  # the eigenvalue is known exactly
    exact, alpha = _at_minimum(3)
    d = len(alpha)
    h = np.asarray(np.diag(0.1 * alpha / (1 + alpha) / exact.sigma**2))[None].repeat(6, 0)
    still = -2 * 0.05 * exact.mu / (exact.sigma**2 * (1 + alpha))
    unit = RNG.standard_normal((6, d)) * 0.1 / exact.sigma

    def at(noise: float, bumps: float = 0.0) -> str:
        bumped = h + bumps * RNG.standard_normal((6, d, d)) / np.outer(exact.sigma, exact.sigma)
        return check_trained_objective(exact.mu, exact.sigma, 0.05, still + noise * unit, bumped).verdict

    assert at(1e-3) == "holds"
    assert at(3.0) == "not resolved"
    assert at(1e-3, bumps=0.5) == "not resolved"


def test_what_losses_find_beyond_the_slopes_is_told_from_noise() -> None:
    exact, _ = _at_minimum(3)
    d, rng, unit = exact.d, np.random.default_rng(1), 2 * exact.gamma / exact.sigma

    def at(beyond: float) -> TrainedReport:
        h = np.diag(0.2 / exact.sigma**2 * exact.mu**2 / (exact.sigma**2 + exact.mu**2))[None].repeat(6, 0)
        still = -unit * exact.mu / exact.sigma / (1 + (exact.mu / exact.sigma) ** 2)
        missed = unit * (beyond + rng.standard_normal((6, d)))
        return check_trained_objective(exact.mu, exact.sigma, 0.05, still[None].repeat(6, 0), h, missed=missed)

    words = "otherwise than their slopes say"
    assert sum(words in at(0.0).reason for _ in range(1000)) <= 6  # one in a thousand is expected
    assert [at(2.5).verdict for _ in range(20)] == ["not resolved"] * 20
    found = [at(2.5).missed for _ in range(200)]
    values = [each.value for each in found if each is not None]
    assert np.mean(values) == pytest.approx(2.5**2, abs=4 * np.std(values) / np.sqrt(200))
    assert words in at(2.5).reason
    assert exact.missed is None
    with pytest.raises(InvalidInputError, match="missed"):
        check_trained_objective([1.0], [1.0], 1.0, [[0.0]], [[[1.0]]], missed=[[0.0]])


def test_noise_of_a_few_cheap_gates_among_many_is_no_jump() -> None:
    rng, gamma = np.random.default_rng(2), np.r_[np.full(2, 1e-6), np.full(100, 1e-2)]
    point = np.ones(102), np.ones(102), gamma
    noise = rng.standard_normal((400, 4, 102)) * 1e-2
    reports = [check_trained_objective(*point, np.zeros((4, 102)), np.zeros((4, 102, 102)), missed=m) for m in noise]
    assert sum("otherwise than their slopes say" in report.reason for report in reports) <= 8


def test_residuals_lose_their_noise_and_eigenvalues_err_to_their_sides() -> None:
    truth, h = 0.3, np.diag([2.0, 2.0, 2.0, 2.0, 5.0])
    squares, below, above, errors = [], [], [], []
    for _ in range(400):
        squares.append(_mean_square(truth + RNG.standard_normal((5, 40))).value)
        noise = RNG.standard_normal((5, 5, 5))
        least, other, _, _ = _least(h + 0.5 * (noise + noise.transpose(0, 2, 1)))
        below.append(least.value)
        above.append(other.value)
        errors.append(least.stderr)
    assert np.mean(squares) == pytest.approx(truth**2, abs=4 * np.std(squares) / 20)
    assert np.mean(below) < 2 - 4 * np.std(below) / 20
    assert np.mean(above) > 2 - 4 * np.std(above) / 20
    assert np.mean(errors) == pytest.approx(np.std(below), rel=0.5)


def test_reports_are_data() -> None:
    report, _ = _at_minimum(1)
    both = TrainedNetworkReport((report,), before=(_saddle(None),))
    frame = both.to_frame()
    assert list(frame["polished"]) == [False, True]
    assert frame["least_stderr"].iloc[1] == 0
    assert both["gates"] is both[0] is next(iter(both))
    assert both.verdict == "holds"
    assert both.row() == {"verdict": "holds", "parts": 1}
    assert both.to_dict()["reports"][0]["spectrum"] == list(report.spectrum)
    assert "before: gates: not at a minimum" in str(both)
    (panel,) = both.plot().axes
    curves = {str(line.get_label()).split(":")[0]: line.get_ydata() for line in panel.lines}
    assert np.array_equal(curves["polished"], report.spectrum)
    assert len(curves["before"]) == 2
    assert (
        TrainedNetworkReport((report,)).plot().axes[0].get_title(loc="left")
        == f"gates: {report.kept} of {report.kept} are at least 1"
    )
    with pytest.raises(InvalidInputError, match="one of gates"):
        both["h9"]
    with pytest.raises(InvalidInputError, match="at least 3"):
        check_trained_objective([1.0], [1.0], 1.0, [[0.0]] * 2, [[[1.0]]] * 2)


def test_nothing_kept_is_said() -> None:
    report = check_trained_objective([0.1], [1.0], 1.0, [[-0.2 / 1.01]], [[[1.0]]])
    assert report.verdict == "holds"
    assert report.kept == report.above_one == report.above_least == 0
    assert report.least.value == np.inf
    assert "nothing to bound" in report.reason
    assert report.to_dict()["least"]["value"] is None


@pytest.mark.parametrize("unit", [1e-100, 1e-10, 1e10, 1e100])
def test_the_bounds_do_not_depend_on_a_gates_unit(unit: float) -> None:
    sigma, alpha = np.array([0.3, 2.0, 1.0, 0.5]), np.array([5.0, 3.0, 0.2, 20.0])
    root = np.random.default_rng(3).standard_normal((4, 4))
    mu, h = sigma * np.sqrt(alpha), 0.2 * (root @ root.T + np.eye(4)) / np.outer(sigma, sigma)
    gradient = -0.2 * mu / sigma**2 / (1 + alpha)
    scale = np.array([1.0, unit, 1.0, unit])
    arguments = mu * scale, sigma * scale, 0.1, (gradient / scale)[None], (h / np.outer(scale, scale))[None]
    report = check_trained_objective(*arguments)
    assert report.rank == 4  # H is positive definite in any unit
    assert report.kept == report.above_one == 3 <= report.above_least


@pytest.mark.parametrize("seed", range(20))
def test_the_counts_are_those_of_the_hessians_own_eigenvalues(seed: int) -> None:
    """In ordinary units numpy counts them: H's positive eigenvalues, and those of at least 1/max M_jj."""
    rng = np.random.default_rng(seed)
    sigma, alpha, price = rng.uniform(0.5, 2, 6), rng.uniform(0.1, 6, 6), rng.uniform(0.05, 0.2, 6)
    rotation, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    values = rng.uniform(-0.3, 0.9, 6) / 4
    report = check_trained_objective(
        sigma * np.sqrt(alpha), sigma, price, np.zeros((1, 6)), (rotation * values @ rotation.T)[None]
    )
    kept = alpha > 1
    m = (sigma**2 * (1 + alpha) ** 2 / (2 * price * (alpha - 1)))[kept]
    assert report.rank == (values > 0).sum()
    assert report.above_least == (values >= 1 / m.max()).sum()
