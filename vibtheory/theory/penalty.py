"""The profiled sparsity penalty ρ(μ; w): what a gate costs once its variance is the best one (docs/theory.md T1).

Minimising γ log(1 + μ²/σ²) + wσ² over σ² at fixed μ gives, with t = |μ|√(w/γ),

    u = α/(1+α) ∈ [0, 1),   t = u/√(1−u),   σ² = γu/w,   ρ = γ[u − log(1−u)].

Every function here is cancellation-free. With s = asinh(t/2) the whole table is exponentials of s,

    1 + α = e^{2s},   1 − u = e^{−2s},   √(1−u) = e^{−s} = 2/(t + hypot(t, 2)),   −log(1−u) = 2s,

so that nothing is ever computed as a difference of nearly equal numbers, and ρ does not overflow where α does.
ρ is even in μ, concave in |μ|, and has a corner at 0: the corner is what makes exact zeros. The functions check their
arguments; the rest of the theory, whose arrays were checked before, calls `root_noise` and `Profile`.

Units: γ, ρ in nats (of the data-set mean loss); μ, σ², w, t, u, α are without unit. Arguments broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_positive, reject

__all__ = [
    "Profile",
    "noise_fraction",
    "optimal_u",
    "optimal_variance",
    "penalty",
    "penalty_curvature",
    "penalty_slope",
    "root_noise",
    "snr",
]

Array = NDArray[np.float64]


def root_noise(t: Array) -> Array:
    """v = √(1−u) = 1/√(1+α) ∈ (0, 1] at t ≥ 0 [any shape] (T1); t is not checked."""
    return np.asarray(2.0 / (t + np.hypot(t, 2.0)))


@dataclass(frozen=True, eq=False)
class Profile:
    """The table of T1 at gates whose numbers were checked before; its shapes broadcast.

    Attributes:
        mu, w, gamma: gate means, squared column norms w ≥ 0 and prices γ > 0.
    """

    mu: Array
    w: Array
    gamma: Array

    @property
    def t(self) -> Array:
        """|μ|√(w/γ); roots first, so that w/γ cannot overflow or underflow."""
        return np.asarray(np.abs(self.mu) * (np.sqrt(self.w) / np.sqrt(self.gamma)))

    @property
    def alpha(self) -> Array:
        """α = u/(1−u)."""
        t = self.t
        with np.errstate(over="ignore"):  # α beyond 1.8e308 is inf, rightly
            return np.asarray(t / root_noise(t))

    @property
    def variance(self) -> Array:
        """σ² = γu/w."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            variance = np.abs(self.mu) * root_noise(self.t) * (np.sqrt(self.gamma) / np.sqrt(self.w))
        return np.asarray(np.where(self.w == 0, np.inf, variance))

    @property
    def deviation(self) -> Array:
        """σ; root by root, so that it is a number where σ² leaves float64."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            ratio = np.sqrt(np.sqrt(self.gamma) / np.sqrt(self.w))
            deviation = np.sqrt(np.abs(self.mu)) * np.sqrt(root_noise(self.t)) * ratio
        return np.asarray(np.where(self.w == 0, np.inf, deviation))

    @property
    def value(self) -> Array:
        """ρ = γ[u − log(1−u)]."""
        t = self.t
        return np.asarray(self.gamma * (t * root_noise(t) + 2 * np.arcsinh(t / 2)))

    @property
    def slope(self) -> Array:
        """dρ/d|μ| = 2√(γw)√(1−u)."""
        return np.asarray(2 * np.sqrt(self.gamma) * np.sqrt(self.w) * root_noise(self.t))

    @property
    @np.errstate(under="ignore")
    def curvature(self) -> Array:
        """d²ρ/dμ² = −2w/(2+α)."""
        noise = root_noise(self.t) ** 2  # 1/(1+α), so that 1/(2+α) = noise/(1+noise)
        return np.asarray(-2 * self.w * noise / (1 + noise))


def optimal_u(t: ArrayLike) -> Array:
    """The signal fraction u = α/(1+α) at the optimal variance, as a function of t = |μ|√(w/γ).

    Args:
        t: any shape, ≥ 0.

    Returns:
        u ∈ [0, 1], the shape of `t`. It rounds to 1 for t > 1e8; use `noise_fraction` for 1 − u there.

    Raises:
        InvalidInputError: t negative or not finite.

    Source: T1, u = (t/2)(√(t²+4) − t), written as 2t/(t + hypot(t, 2)).
    """
    t = _nonnegative("t", t)
    return t * root_noise(t)


def noise_fraction(t: ArrayLike) -> Array:
    """1 − u = 1/(1+α) at the optimal variance: the share of noise in the gate's second moment (T1).

    Args:
        t: any shape, ≥ 0.

    Returns:
        1 − u ∈ (0, 1] to full relative accuracy for all t.

    Raises:
        InvalidInputError: t negative or not finite.
    """
    return root_noise(_nonnegative("t", t)) ** 2


def snr(mu: ArrayLike, w: ArrayLike, gamma: ArrayLike) -> Array:
    """The signal-to-noise ratio α = μ²/σ² at the optimal variance (T1: α = u/(1−u) = t(t + hypot(t, 2))/2).

    Args:
        mu: gate means μ, any shape.
        w: squared column norms w ≥ 0, broadcast against `mu`.
        gamma: price γ > 0 in nats, broadcast.

    Returns:
        α ≥ 0; 0 where μ = 0 or w = 0 (a free column carries no information: σ² → ∞).

    Raises:
        InvalidInputError: not finite, w < 0, γ ≤ 0, |μ|√(w/γ) beyond float64, or shapes that do not broadcast.
    """
    return _profile(mu, w, gamma).alpha


def optimal_variance(mu: ArrayLike, w: ArrayLike, gamma: ArrayLike) -> Array:
    """The variance σ² = γu/w that minimises γ log(1 + μ²/σ²) + wσ² (T1).

    Args and raised errors: as `snr`.

    Returns:
        σ² ≥ 0; 0 where μ = 0 (the gate is closed, log σ² has no finite minimiser), inf where w = 0 (column is free).
    """
    return _profile(mu, w, gamma).variance


def penalty(mu: ArrayLike, w: ArrayLike, gamma: ArrayLike) -> Array:
    """The penalty ρ(μ; w, γ) = γ[u − log(1−u)] in nats (T1): 0 at μ = 0, ~ 2√(γw)|μ| near it, ~ 2γ log|μ| far out.

    Args and raised errors: as `snr`.

    Returns:
        ρ ≥ 0 in nats, per gate (not summed); 0 where w = 0.
    """
    return _profile(mu, w, gamma).value


def penalty_slope(mu: ArrayLike, w: ArrayLike, gamma: ArrayLike) -> Array:
    """The slope dρ/d|μ| = 2√(γw)√(1−u) ≥ 0 in nats (T1); at μ = 0 its limit from the right, 2√(γw).

    Args and raised errors: as `snr`. Multiply by sign(μ) for dρ/dμ off zero.
    """
    return _profile(mu, w, gamma).slope


def penalty_curvature(mu: ArrayLike, w: ArrayLike, gamma: ArrayLike) -> Array:
    """The curvature d²ρ/dμ² = −2w/(2+α) ≤ 0 in nats (T1); at μ = 0 its one-sided limit −w.

    Args and raised errors: as `snr`.
    """
    return _profile(mu, w, gamma).curvature


def _nonnegative(name: str, value: ArrayLike) -> Array:
    array = as_array(name, value)
    if (array < 0).any():
        reject(name, f"smallest entry {array.min():g}", "entries >= 0", "pass squared norms (w) or |μ|√(w/γ) (t)")
    return array


def _profile(mu: ArrayLike, w: ArrayLike, gamma: ArrayLike) -> Profile:
    arrays = as_array("mu", mu), _nonnegative("w", w), as_positive("gamma", gamma)
    try:
        np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        shapes = ", ".join(str(list(a.shape)) for a in arrays)
        reject("mu, w, gamma", f"shapes {shapes}", "shapes that broadcast", "use one w and γ per gate, or scalars")
    profile = Profile(*arrays)
    with np.errstate(over="ignore"):
        if not np.isfinite(profile.t).all():
            reject("mu, w, gamma", "|μ|√(w/γ) above 1e308", "numbers in a float64's range", "rescale μ, w and γ")
    return profile
