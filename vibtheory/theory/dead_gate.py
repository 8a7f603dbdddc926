"""A gate that nobody listens to (docs/theory.md T4, Prop 2): only the price of information moves it, and α falls to 0.

With F = γ log(1+α) alone, α = μ²/σ², ∂F/∂σ = −2γα/(σ(1+α)) ≠ 0 wherever 0 < σ < ∞ and α > 0: no stationary point has
α > 0. What the gradient flow conserves depends on the coordinates that it runs in:

    in (μ, σ):        μ² + σ² = R²,        μ' = −2γμ/R²  ⇒  μ(s) = μ₀ e^{−2γs/R²},  α = μ²/(R² − μ²)
    in (μ, log σ²):   μ² + 4 log σ² = C    (the package's gates hold log σ²), α = μ² e^{−(C − μ²)/4}

The first is T4's remark; in the second, μ² shrinks along (μ²)' = −4γα/(1+α), which integrates with E₁. γ in nats per
log(1+α), flow time s in units of 1/(step size · number of steps); μ, σ, α without unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_positive, as_scalar, check_choice, reject
from vibtheory.storage.report import Report

__all__ = ["DeadGateFlow", "dead_gate_flow"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DeadGateFlow(Report):
    """The gradient flow of a dead gate in closed form.

    Attributes:
        time: flow time [T].
        mu, sigma, alpha: the gate [T] along it.
        coordinates: "sigma" or "log_variance".
        invariant: μ² + σ², or μ² + 4 log σ².
    """

    time: Array
    mu: Array
    sigma: Array
    alpha: Array
    coordinates: str
    invariant: float

    def __str__(self) -> str:
        name = "mu^2 + sigma^2" if self.coordinates == "sigma" else "mu^2 + 4 log sigma^2"
        return (
            f"dead gate in ({self.coordinates}): alpha {self.alpha[0]:.4g} -> {self.alpha[-1]:.4g} "
            f"at time {self.time[-1]:.4g}; {name} = {self.invariant:.6g} throughout"
        )


def dead_gate_flow(mu: float, sigma: float, gamma: float, time: ArrayLike, coordinates: str = "sigma") -> DeadGateFlow:
    """Where gradient flow on γ log(1+μ²/σ²) alone takes a gate (T4, Prop 2).

    Args:
        mu: μ₀ at time 0.
        sigma: σ₀ > 0.
        gamma: γ > 0, nats per log(1+α): (training γ)·(multiplier)/2.
        time: flow times ≥ 0 [T].
        coordinates: "sigma" (the gate holds σ) or "log_variance" (it holds log σ², as `Gate` does).

    Raises:
        InvalidInputError: σ₀ or γ not positive, μ₀ or σ₀ whose squares leave float64, a negative time, unknown
            coordinates.
    """
    check_choice("coordinates", coordinates, ("sigma", "log_variance"))
    first, deviation = as_scalar("mu", mu), float(as_positive("sigma", sigma, ()))
    price, times = float(as_positive("gamma", gamma, ())), as_array("time", time, (None,), "pass a vector of times")
    if times.size == 0 or (times < 0).any():
        reject("time", times[:5].tolist(), "at least one time, all >= 0", "start the clock at 0")
    size = np.array([abs(first) or 1.0, deviation])
    if (size < 1e-150).any() or (size > 1e150).any():
        reject("mu, sigma", f"{first:g} and {deviation:g}, whose squares leave float64",
               "1e-150 <= sigma, |mu| <= 1e150 (or mu = 0)", "use another unit for both")  # fmt: skip
    if coordinates == "sigma":
        total = first**2 + deviation**2
        means = first * np.exp(-2 * price * times / total)
        deviations = np.sqrt(deviation**2 - first**2 * np.expm1(-4 * price * times / total))
        return DeadGateFlow(times, means, deviations, (means / deviations) ** 2, coordinates, total)
    invariant = first**2 + 4 * np.log(deviation**2)
    squares = np.array([_square_at(first**2, float(np.log(deviation**2)), price * s) for s in times])
    deviations = np.exp(0.5 * np.log(deviation**2) + (first**2 - squares) / 8)
    return DeadGateFlow(
        times, np.sign(first) * np.sqrt(squares), deviations, squares / deviations**2, coordinates, float(invariant)
    )


def _square_at(start: float, log_variance: float, elapsed: float) -> float:
    """x = μ² with 4·elapsed = ∫_x^{x₀} (1 + 1/α) dx', 1/α = e^{s₀ + (x₀ − x')/4}/x' (elapsed is γ·time)."""
    if start == 0 or elapsed == 0:
        return start
    # past 700 its exponential is none any more
    remaining = partial(
        _remaining_in_logs if log_variance + start / 4 > 700 else _remaining,
        start=start, log_variance=log_variance, elapsed=elapsed,
    )  # fmt: skip
    top = np.log(start)
    if remaining(top) >= 0:  # it moves by less than rounding shows
        return start
    low = top - 1
    while remaining(low) < 0 and low > -690:
        low -= 2 * (top - low)
    if remaining(low) < 0:
        return 0.0
    return float(np.exp(scipy.optimize.brentq(remaining, low, top, xtol=1e-15, rtol=1e-14)))


def _remaining(log_x: float, start: float, log_variance: float, elapsed: float) -> float:
    """∫ − 4·elapsed."""
    x = np.exp(log_x)
    between = scipy.special.exp1(x / 4) - scipy.special.exp1(start / 4)
    return float((start - x) + np.exp(log_variance + start / 4) * between - 4 * elapsed)


def _remaining_in_logs(log_x: float, start: float, log_variance: float, elapsed: float) -> float:
    """log ∫ − log(4·elapsed): of the same sign, from E₁(t)eᵗ."""
    x = min(np.exp(log_x), start)
    fallen = start - x
    if fallen == 0:
        return -800.0  # the logarithm of no time, and below that of any
    between = max(_scaled_exp1(x / 4) - np.exp(-fallen / 4) * _scaled_exp1(start / 4), 1e-300)
    return float(np.logaddexp(np.log(fallen), log_variance + fallen / 4 + np.log(between)) - np.log(4 * elapsed))


def _scaled_exp1(t: float) -> float:
    """E₁(t)eᵗ; past 100 its asymptotic series, whose twelfth term is below rounding."""
    if t < 100:
        return float(scipy.special.exp1(t) * np.exp(t))
    return float(np.polyval([(-1) ** k * math.factorial(k) for k in range(11, -1, -1)], 1 / t) / t)
