"""T1 against mpmath at 60 digits, numerical minimisation, and finite differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import matplotlib
import mpmath
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from vibtheory.errors import InvalidInputError
from vibtheory.figures import (
    classical_penalties,
    plot_penalty_comparison,
    plot_penalty_surface,
    slide_surface,
)
from vibtheory.theory.penalty import (
    noise_fraction,
    optimal_u,
    optimal_variance,
    penalty,
    penalty_curvature,
    penalty_slope,
    snr,
)

mpmath.mp.dps = 60
mpf = mpmath.mpf

# (w, gamma): the scales of t = |μ|√(w/γ) do not come from μ alone.
SCALES = [(1.0, 1.0), (3e-7, 20.0), (5e6, 1e-6), (0.37, 41.0), (1e-200, 1e100), (1e180, 1e-80)]
T = np.concatenate([np.logspace(-12, 12, 97), [0.99, 1.0, 2.0, 1.5]])


def _exact_u(t: mpmath.mpf) -> mpmath.mpf:
    return t / 2 * (mpmath.sqrt(t * t + 4) - t)  # the textbook form: 60 digits absorb its cancellation


EXACT: dict[str, Callable[..., mpmath.mpf]] = {
    "snr": lambda t, w, g: _exact_u(t) / (1 - _exact_u(t)),
    "variance": lambda t, w, g: g * _exact_u(t) / w,
    "penalty": lambda t, w, g: g * (_exact_u(t) - mpmath.log(1 - _exact_u(t))),
    "slope": lambda t, w, g: 2 * mpmath.sqrt(g * w) * mpmath.sqrt(1 - _exact_u(t)),
    "curvature": lambda t, w, g: -2 * w / (2 + _exact_u(t) / (1 - _exact_u(t))),
}
OURS = {
    "snr": snr,
    "variance": optimal_variance,
    "penalty": penalty,
    "slope": penalty_slope,
    "curvature": penalty_curvature,
}


def _relative(ours: np.ndarray, exact: list[mpmath.mpf]) -> float:
    return max(float(abs(mpf(float(o)) - e) / abs(e)) for o, e in zip(ours, exact, strict=True))


@pytest.mark.parametrize(("w", "gamma"), SCALES)
@pytest.mark.parametrize("name", list(EXACT))
def test_closed_forms_to_1e_12_over_24_decades(name: str, w: float, gamma: float) -> None:
    mu = T * (np.sqrt(gamma) / np.sqrt(w)) * np.where(np.arange(T.size) % 2, 1, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = OURS[name](mu, w, gamma)
    t_exact = [abs(mpf(float(m))) * mpmath.sqrt(mpf(w) / mpf(gamma)) for m in mu]
    assert _relative(ours, [EXACT[name](t, mpf(w), mpf(gamma)) for t in t_exact]) < 1e-12


def test_fractions_to_1e_12() -> None:
    exact = [_exact_u(mpf(float(t))) for t in T]
    assert _relative(optimal_u(T), exact) < 1e-12
    assert _relative(noise_fraction(T), [1 - u for u in exact]) < 1e-12


@pytest.mark.parametrize("mu", [1e160, 1e300])
def test_no_overflow_where_only_the_snr_does(mu: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert snr(mu, 2.0, 0.5) == np.inf
        assert penalty(mu, 2.0, 0.5) == pytest.approx(float(0.5 * (1 + 2 * mpmath.log(2 * mpf(mu)))), rel=1e-12)
        assert optimal_variance(mu, 2.0, 0.5) == pytest.approx(0.25, rel=1e-12)
        assert penalty_curvature(mu, 2.0, 0.5) == pytest.approx(0.0, abs=1e-300)


@pytest.mark.parametrize(
    ("mu", "w", "gamma"), [(0.7, 2.0, 0.3), (-3.0, 0.05, 4.0), (1e-3, 5e4, 1e-2), (40.0, 1.0, 0.2)]
)
def test_variance_minimises_the_objective(mu: float, w: float, gamma: float) -> None:
    """Independent of the closed forms: minimise γ log(1 + μ²/σ²) + wσ² over log σ² numerically."""

    def cost(s: float) -> float:
        return float(gamma * np.log1p(mu**2 * np.exp(-s)) + w * np.exp(s))

    start = float(np.log(gamma / w))
    best = minimize_scalar(cost, bracket=(start - 2, start), method="golden", options={"xtol": 1e-12})
    assert best.fun == pytest.approx(float(penalty(mu, w, gamma)), rel=1e-12)
    assert np.exp(best.x) == pytest.approx(float(optimal_variance(mu, w, gamma)), rel=1e-5)
    assert float(snr(mu, w, gamma)) == pytest.approx(mu**2 / float(optimal_variance(mu, w, gamma)), rel=1e-12)


@pytest.mark.parametrize(
    ("mu", "w", "gamma"), [(0.7, 2.0, 0.3), (-3.0, 0.05, 4.0), (1e-3, 5e4, 1e-2), (40.0, 1.0, 0.2)]
)
def test_slope_and_curvature_by_finite_differences(mu: float, w: float, gamma: float) -> None:
    h = 1e-5 * abs(mu)
    slope = (penalty(mu + h, w, gamma) - penalty(mu - h, w, gamma)) / (2 * h)
    assert slope == pytest.approx(np.sign(mu) * penalty_slope(mu, w, gamma), rel=1e-8)
    curvature = np.sign(mu) * (penalty_slope(mu + h, w, gamma) - penalty_slope(mu - h, w, gamma)) / (2 * h)
    assert curvature == pytest.approx(float(penalty_curvature(mu, w, gamma)), rel=1e-7)


def test_the_slides_surface_is_the_penalty_up_to_a_constant() -> None:
    """The authors' slide shows 2|μ|/(|μ| + √(μ²+4λ)) + log(2λ + μ² + |μ|√(μ²+4λ)); with λ = γ/w it is ρ/γ + log 2λ."""
    mu, lam = np.meshgrid(np.linspace(-2, 2, 41), np.linspace(0.01, 1, 23))
    root = np.abs(mu) * np.sqrt(mu**2 + 4 * lam)
    slide = 2 * np.abs(mu) / (np.abs(mu) + np.sqrt(mu**2 + 4 * lam)) + np.log(2 * lam + mu**2 + root)
    np.testing.assert_allclose(slide_surface(mu, lam), slide, rtol=1e-12, atol=1e-13)
    gamma = 0.3
    ours = penalty(mu, gamma / lam, gamma) / gamma + np.log(2 * lam)
    np.testing.assert_allclose(ours, slide, rtol=1e-12, atol=1e-13)


def test_the_slides_metric_must_be_positive() -> None:
    with pytest.raises(InvalidInputError, match=r"^metric: "):
        slide_surface(1.0, 0.0)


def test_classical_penalties_share_slope_or_growth_with_rho() -> None:
    small, large = np.array([1e-6]), np.array([1e6, 1e7])
    near, far = classical_penalties(small), classical_penalties(large)
    for name in ("ℓ1", "log"):
        assert near[name] == pytest.approx(penalty(small, 1.0, 1.0), rel=1e-5), name
    growth = np.diff(penalty(large, 1.0, 1.0))
    assert np.diff(far["log"]) == pytest.approx(growth, rel=1e-5)
    assert np.diff(far["ℓ1"])[0] > 1e5 * growth[0]
    assert np.diff(far["ℓ0"])[0] == 0
    assert classical_penalties(np.zeros(1))["ℓ0"][0] == 0


def test_figures() -> None:
    for plot in (plot_penalty_surface, plot_penalty_comparison):
        figure = plot()
        figure.canvas.draw()
    assert {t.get_text().split(" ")[0] for t in figure.axes[0].get_legend().get_texts()} == {"ρ/γ", "ℓ1", "log", "ℓ0"}
    plt.close("all")


def test_closed_gate() -> None:
    assert snr(0.0, 2.0, 0.5) == 0
    assert penalty(0.0, 2.0, 0.5) == 0
    assert optimal_variance(0.0, 2.0, 0.5) == 0
    assert penalty_slope(0.0, 2.0, 0.5) == pytest.approx(2.0)  # 2√(γw)
    assert penalty_curvature(0.0, 2.0, 0.5) == pytest.approx(-2.0)  # −w


@pytest.mark.parametrize("mu", [0.0, 1.3])
def test_free_column(mu: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert optimal_variance(mu, 0.0, 0.5) == np.inf
        values = [f(mu, 0.0, 0.5) for f in (snr, penalty, penalty_slope, penalty_curvature)]
    assert values == [0, 0, 0, 0]


def test_vectorised_broadcast_and_integer_input() -> None:
    mu = np.arange(-2, 3)[:, None]
    w = np.array([0.0, 0.5, 2.0, 9.0], dtype=np.float32)
    table = penalty(mu, w, 3)
    assert table.shape == (5, 4)
    assert table.dtype == np.float64
    assert table[0, 2] == pytest.approx(float(penalty(-2.0, 2.0, 3.0)))
    np.testing.assert_array_equal(table, table[::-1])  # even in μ


BAD = {
    "nan mu": ((np.nan, 1.0, 1.0), "mu"),
    "infinite mu": ((np.inf, 1.0, 1.0), "mu"),
    "text": (("a", 1.0, 1.0), "mu"),
    "negative w": ((1.0, -1e-9, 1.0), "w"),
    "nan w": ((1.0, np.nan, 1.0), "w"),
    "zero gamma": ((1.0, 1.0, 0.0), "gamma"),
    "negative gamma": ((1.0, 1.0, -2.0), "gamma"),
    "shapes": ((np.ones(2), np.ones(3), 1.0), "mu, w, gamma"),
}


@pytest.mark.parametrize("case", list(BAD))
@pytest.mark.parametrize("name", list(OURS))
def test_bad_input(name: str, case: str) -> None:
    arguments, named = BAD[case]
    with pytest.raises(InvalidInputError, match=f"^{named}: got .* expected .* Remedy: "):
        OURS[name](*arguments)


@pytest.mark.parametrize("function", [optimal_u, noise_fraction])
@pytest.mark.parametrize("t", [-1e-3, np.nan])
def test_bad_t(function: Callable[[float], np.ndarray], t: float) -> None:
    with pytest.raises(InvalidInputError, match=r"^t: "):
        function(t)
