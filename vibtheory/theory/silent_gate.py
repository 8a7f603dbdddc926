"""Prop 1 decided (T4): I(h_j; h_prev) = 0 ⇒ α_j = 0?  As printed it needs care; here are both sides, exactly.

`constant_unit`: f ≡ c ≠ 0 carries no information, I = 0, but acts as a bias. With no bias downstream, squared loss
(y − wz)² and price γ, the global minimum is γ(1 + log(y²/γ)) at α = y²/γ − 1 whenever y² > γ: a counter-example.

`closed_mean_information`: the converse. At μ_j = 0, σ_j > 0 the gate still multiplies by noise whose scale is |f|σ:
h = fσε reveals |f|, and I(h; f) ≤ H_b(π) + (π/2)ψ⁺ with ψ⁺ = log E[f²|f≠0] − E[log f²|f≠0] (P2). I = 0 iff |f| is
constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.integrate
import scipy.special
from numpy.typing import ArrayLike

from vibtheory.errors import as_array, as_positive, as_scalar, reject

__all__ = ["ClosedMeanInformation", "ConstantUnit", "closed_mean_information", "constant_unit"]


@dataclass(frozen=True)
class ConstantUnit:
    """The unit f ≡ 1 with nothing else: min over w, μ, σ of E(y − wz)² + γ log(1+α).

    Attributes:
        open_value: the least objective with the gate open, nats; inf where none is stationary (y² ≤ γ).
        open_alpha: α there.
        closed_value: the objective with the gate closed, y², nats.
        refutes: whether the global minimum has α > 0 although I(h; h_prev) = 0.
    """

    open_value: float
    open_alpha: float
    closed_value: float

    @property
    def refutes(self) -> bool:
        """Whether the open gate is better, which the bare statement of Prop 1 denies."""
        return self.open_value < self.closed_value

    def __str__(self) -> str:
        side = "a counter-example to the bare Prop 1" if self.refutes else "no counter-example at this price"
        return (
            f"f = 1, no bias: {self.open_value:.6g} nats at alpha = {self.open_alpha:.6g}, {self.closed_value:.6g} at "
            f"alpha = 0: {side}. Remedy for the proposition: a bias downstream, at a global minimum."
        )


@dataclass(frozen=True)
class ClosedMeanInformation:
    """What a gate with μ = 0 and 0 < σ < ∞ still reveals about its unit.

    Attributes:
        nats: I(h; f) by quadrature.
        bound: H_b(π) + (π/2)ψ⁺ ≥ I, nats; ½ψ where f ≠ 0 always.
        error: the quadrature's own estimate of its absolute error, nats.
    """

    nats: float
    bound: float
    error: float

    @property
    def bits(self) -> float:
        """The same in bits."""
        return self.nats / float(np.log(2))

    def __str__(self) -> str:
        return f"I = {self.nats:.6f} nats ({self.bits:.6f} bits) at mu = 0, at most {self.bound:.6f}"


def constant_unit(target: float = 5.0, gamma: float = 0.1) -> ConstantUnit:
    """T4's counter-example in closed form.

    w and (μ, σ) enter only through wμ, wσ, so w = 1. With T1's u: 2(μ − y) + 2√γ√(1−u) = 0 and μ = √γ·u/√(1−u) give
    √(1−u) = √γ/|y|, hence 1 + α = y²/γ and (y−μ)² + ρ = γ²/y² + γ(1 − γ/y²) + γ log(y²/γ) = γ(1 + log(y²/γ)).

    Args:
        target: y.
        gamma: γ > 0, nats per log(1+α).

    Raises:
        InvalidInputError: γ ≤ 0 or not finite, or a y whose y² or y²/γ is too large for a float64.
    """
    y, price = as_scalar("target", target), float(as_positive("gamma", gamma, ()))
    ratio = y * y / price
    if not np.isfinite(ratio):
        reject("target", target, "y² and y²/gamma below 1e308", "use a larger unit for y, and gamma in its square")
    if ratio <= 1:
        return ConstantUnit(np.inf, 0.0, y * y)
    return ConstantUnit(price * (1 + float(np.log(ratio))), ratio - 1, y * y)


def closed_mean_information(
    values: ArrayLike, probabilities: ArrayLike | None = None, sigma: float = 1.0
) -> ClosedMeanInformation:
    """I(h; f) of h = fσε, ε ~ N(0, 1), for a unit that takes finitely many values, by quadrature (P3's mixed measure).

    Args:
        values: f [n].
        probabilities: [n], > 0, normalised here; equal by default.
        sigma: σ > 0; the result does not depend on it.

    Raises:
        InvalidInputError: no value, wrong shape, a probability or σ not positive.
    """
    f = as_array("values", values, (None,), "pass the values that the unit takes")
    if f.size == 0:
        reject("values", "none", "at least one value", "pass the values that the unit takes")
    raw = np.full(f.size, 1.0) if probabilities is None else as_positive("probabilities", probabilities, (f.size,))
    deviation = float(as_positive("sigma", sigma, ()))
    raw = raw / raw.max()  # sums of huge ones would overflow
    p = raw / raw.sum()
    on = f != 0
    active = float(p[on].sum())
    pattern = float(scipy.special.entr(active) + scipy.special.entr(1 - active))  # H_b(π): h = 0 exactly iff f = 0
    if not on.any():
        return ClosedMeanInformation(0.0, 0.0, 0.0)
    share, scales = p[on] / active, np.abs(f[on]) * deviation
    log_square = 2 * np.log(scales)
    spread = float(scipy.special.logsumexp(log_square, b=share) - share @ log_square)  # ψ⁺, in which σ cancels

    def integrand(log_h: float) -> float:
        # in t = log h, so that scales far apart are all resolved; both signs of h: twice the half line
        h = np.exp(log_h)
        with np.errstate(over="ignore"):  # far outside a narrow part
            log_parts = -0.5 * (h / scales) ** 2 - np.log(scales) - 0.5 * np.log(2 * np.pi)
        log_parts = np.maximum(log_parts, -1e300)  # 0 times its logarithm is 0
        log_mixture = float(scipy.special.logsumexp(log_parts, b=share))
        return float(2 * h * (share @ (np.exp(log_parts) * (log_parts - log_mixture))))

    edges = np.sort(np.log(np.unique(scales)))
    nats, error = scipy.integrate.quad(
        integrand, edges[0] - 40, edges[-1] + 4, points=edges, limit=200 + 4 * edges.size, epsabs=1e-12, epsrel=1e-11
    )
    return ClosedMeanInformation(pattern + active * nats, pattern + active / 2 * spread, active * error)
