"""Gaussian maximum-entropy bounds under stated additive noise τ, and log det (docs/theory.md, F (ii)), in nats."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import reject
from vibtheory.information.channel import GatedChannel, check_channel
from vibtheory.information.result import MutualInformation, sampling_error

__all__ = ["gaussian", "gaussian_tight", "logdet"]

Array = NDArray[np.float64]
_EPSILON = float(np.finfo(np.float64).eps)
_ROUNDING = 1e-6  # nats that the covariance's own rounding may cost


def gaussian(channel: GatedChannel) -> MutualInformation:
    """Upper bound ½ log det(I + Cov(h)/τ²) on I(h + τn; x): most entropy for this covariance, least noise.

    Cov(h) = Cov(f⊙μ) + diag(σ² E f²), without τ².

    Direction: upper, on the information of the noisy layer h + τn; on neither side of the noiseless one's. Assumes:
    τ > 0. Cost: Nd min(N, d). Ceiling: none.

    Raises:
        InvalidInputError: τ = 0.
    """
    value, quadratic = _log_determinant(channel, "gaussian")
    return MutualInformation(
        nats=value - channel.d * math.log(channel.tau),
        kind="upper",
        method="gaussian",
        **sampling_error(quadratic),
        assumes=(f"of the layer with added noise tau = {channel.tau:g}",),
    )


def gaussian_tight(channel: GatedChannel) -> MutualInformation:
    """Upper bound ½ log det(τ²I + Cov(h)) − ½ E_x Σ_j log(τ² + f_j²σ_j²): the conditional entropy is exact.

    Direction: upper, on I(h + τn; x). Assumes: τ > 0. Cost: Nd min(N, d). Ceiling: none.

    Raises:
        InvalidInputError: τ = 0.
    """
    value, quadratic = _log_determinant(channel, "gaussian_tight")
    conditional = 0.5 * np.log(channel.variance).sum(axis=1)  # [N]
    return MutualInformation(
        nats=value - float(conditional.mean()),
        kind="upper",
        method="gaussian_tight",
        **sampling_error(quadratic - conditional),
        assumes=(f"of the layer with added noise tau = {channel.tau:g}",),
    )


def logdet(channel: GatedChannel) -> MutualInformation:
    """½ log det(τ²I + Cov(h)), "+constant": `gaussian` without its −d log τ, over all gates, open and closed.

    The likeliest reading of Figure 2's printed axis. Differences between nets of one width and one τ mean the same as
    those of `gaussian`; the number itself depends on the unit of h and may be negative.

    Direction: none. Assumes: τ > 0. Cost: Nd min(N, d). Ceiling: none.

    Raises:
        InvalidInputError: τ = 0.
    """
    value, quadratic = _log_determinant(channel, "logdet")
    closed = channel.width - channel.d  # each is pure noise: ½ log τ²
    return MutualInformation(
        nats=value + closed * math.log(channel.tau),
        kind="estimate",
        method="logdet",
        **sampling_error(quadratic),
        assumes=("up to a constant that depends on width and tau only",),
    )


def _log_determinant(channel: GatedChannel, method: str) -> tuple[float, Array]:
    """½ log det(τ²I + Cov(h)) over the open gates, and its influence values [N]."""
    check_channel(channel)
    if channel.tau <= 0:
        reject("channel", "tau = 0", f"tau > 0 for method {method!r}", "state the noise: GatedChannel(..., tau=0.01)")
    mean = channel.mean
    centred = mean - mean.mean(axis=0)
    noise = channel.variance  # [N, d], contains τ²
    if (
        channel.d > channel.n
        or channel.d * _EPSILON * float((centred**2 / noise.mean(axis=0)).sum()) / channel.n > _ROUNDING
    ):
        return _by_singular_values(centred, noise)
    covariance = centred.T @ centred / channel.n + np.diag(noise.mean(axis=0))  # [d, d]
    factor = np.linalg.cholesky(covariance)
    inverse = np.linalg.inv(factor)  # L⁻¹; covariance ⪰ τ²I, so it exists
    white = centred @ inverse.T
    precision = (inverse**2).sum(axis=0)  # diagonal of the inverse covariance
    influence = 0.5 * ((white**2).sum(axis=1) + noise @ precision)
    return float(np.log(np.diag(factor)).sum()), influence


def _by_singular_values(centred: Array, noise: Array) -> tuple[float, Array]:
    """The same where there are fewer rows than units, or noise is lost in rounding: by the whitened rows themselves."""
    n, level = len(centred), noise.mean(axis=0)
    left, s, right = np.linalg.svd(centred / np.sqrt(level) / math.sqrt(n), full_matrices=False)
    kept = 1 / (1 + (1 / np.maximum(s, np.finfo(np.float64).tiny)) ** 2)  # s²/(1 + s²)
    quadratic = n * (left**2) @ kept + (noise / level) @ (1 - kept @ right**2)
    return float(np.log(np.hypot(1, s)).sum() + 0.5 * np.log(level).sum()), 0.5 * quadratic
