"""Bayesian compression (Louizos, Ullrich, Welling, NIPS 2017): group normal-Jeffreys and group horseshoe.

Only the group variable z of a unit is stochastic here; the weights are learned as ever (the paper adds noise to them).

GNJ: z ~ N(μ, σ²), prior 1/|z|. With l = log α = log μ²/σ² the approximation of Molchanov et al. (2017), which the
paper takes over, reads KL ≈ k₁ sigmoid(k₃ l − k₂) + ½ log(1 + α): VIB's price, and a bounded reward of noise on top.
The exact KL is E log|ε| + ½ l + ½(γ_E + log 2), ε ~ N(1, 1/α), with the constant at which it vanishes for α → 0. The
largest error of the approximation, against quadrature over −12 ≤ l ≤ 12: 0.0094 nats, at l = 3.5.

GHS: z = √(s_a s_b a b), s shared by the layer, a and b of the unit: s_a ~ Γ(½, τ₀²), a ~ Γ(½, 1), s_b, b ~ Γ⁻¹(½, 1),
posteriors log-normal with location m, variance v. Exact: KL to Γ(½, τ²) is
−½m − ½ log(2πev) + e^{m + v/2}/τ² + ½ log π + log τ, to Γ⁻¹(½, 1) it is ½m − ½ log(2πev) + e^{−m + v/2} + ½ log π.
log z is normal, its variance v_z a quarter of the sum; a unit is kept while its signal-to-noise ratio Ez/√Var z =
(e^v_z − 1)^-½ exceeds 1, where the paper compares the mode of z with a threshold set by eye. The paper's τ₀ = 1e-5
presumes weights that grow by 1/z; here τ₀ = 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vibtheory.errors import as_positive
from vibtheory.networks.gates.law import GateLaw
from vibtheory.networks.gates.vib import Gate

__all__ = ["GHSGate", "GNJGate", "log_uniform_divergence"]

_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695


def log_uniform_divergence(log_alpha: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ 1/|z|) in nats for log_alpha = log μ²/σ² of any shape, approximated (Molchanov et al. 2017)."""
    return _K1 * torch.sigmoid(_K3 * log_alpha - _K2) + 0.5 * nn.functional.softplus(log_alpha)


class GNJGate(Gate):
    """Normal gates; penalty: KL to the log-uniform prior, in nats. Arguments, attributes and errors as of `Gate`.

    A unit is kept while α exceeds the threshold; the paper sets one per layer by eye.
    """

    law: ClassVar[str] = "bc-gnj"

    def penalty(self) -> Tensor:
        """Σ_j KL_j of the units that are not closed, a scalar in nats."""
        magnitude = self.mu.float().abs().clamp_min(1e-30)
        return (log_uniform_divergence(2 * torch.log(magnitude) - self.log_var.float()) * self.active).sum()


class GHSGate(GateLaw):
    """Log-normal gates, one factor of each layer's own; penalty: KL to the horseshoe prior, in nats.

    Args:
        features, multiplier, axis: see `GateLaw`.
        threshold: a unit is kept while the signal-to-noise ratio Ez/√Var z exceeds it.
        log_variance: initial log v of all factors; their locations start at 0.
        scale: τ₀ > 0 of the layer's prior.

    Attributes:
        gamma_location, gamma_log_var, inverse_location, inverse_log_var: Parameters [d] of a and b.
        layer_gamma_location, layer_gamma_log_var, layer_inverse_location, layer_inverse_log_var: Parameters, scalars,
            of s_a and s_b.

    Raises:
        InvalidInputError: as `GateLaw`; a scale that is not positive.
    """

    law: ClassVar[str] = "bc-ghs"
    usual_threshold: ClassVar[float] = 1.0
    options: ClassVar[Mapping[str, float]] = {"log_variance": -9.0, "scale": 1.0}

    def __init__(self, features: int, **options: Any) -> None:
        super().__init__(features, **options)
        self.log_scale = math.log(as_positive("scale", self.given["scale"]))
        for prefix, shape in (("", (features,)), ("layer_", ())):
            for name in ("gamma", "inverse"):
                setattr(self, f"{prefix}{name}_location", nn.Parameter(torch.zeros(shape, dtype=torch.float32)))
                log_var = torch.full(shape, float(self.given["log_variance"]), dtype=torch.float32)
                setattr(self, f"{prefix}{name}_log_var", nn.Parameter(log_var))

    def _factor(self, name: str) -> tuple[Tensor, Tensor]:
        """Location and variance of log of a factor, in float32, where no exponential overflows."""
        location, log_var = getattr(self, f"{name}_location").float(), getattr(self, f"{name}_log_var").float()
        return location.clamp(-60.0, 20.0), log_var.clamp(-60.0, 3.0).exp()

    def _log_normal(self, prefix: str) -> tuple[Tensor, Tensor]:
        """Location and variance of the unit's ("") or the layer's ("layer_") part of log z."""
        (m, v), (other_m, other_v) = self._factor(f"{prefix}gamma"), self._factor(f"{prefix}inverse")
        return 0.5 * (m + other_m), 0.25 * (v + other_v)

    def _draw(self, n: int, rows: slice) -> Tensor:
        (m, v), (layer_m, layer_v) = self._log_normal(""), self._log_normal("layer_")
        noise = torch.randn(n, self.features + 1, dtype=m.dtype, device=m.device)[rows]
        return torch.exp(m + v.sqrt() * noise[:, 1:] + layer_m + layer_v.sqrt() * noise[:, :1])

    def _expectation(self) -> Tensor:
        (m, v), (layer_m, layer_v) = self._log_normal(""), self._log_normal("layer_")
        return torch.exp(m + layer_m + 0.5 * (v + layer_v))

    def _unit_penalty(self) -> Tensor:
        return self._divergence("", 0.0)

    def _divergence(self, prefix: str, log_scale: float) -> Tensor:
        """KL of both factors to Γ(½, τ²) and Γ⁻¹(½, 1), log τ = log_scale."""
        total = torch.as_tensor(log_scale)
        for name, sign, shift in (("gamma", 1.0, 2 * log_scale), ("inverse", -1.0, 0.0)):
            m, v = self._factor(f"{prefix}{name}")
            entropy = 0.5 * torch.log(2 * math.pi * math.e * v)
            total = total - 0.5 * sign * m - entropy + torch.exp(sign * m + 0.5 * v - shift) + 0.5 * math.log(math.pi)
        return total

    def penalty(self) -> Tensor:
        """KL of the units that are not closed and of the layer's own factors, a scalar in nats."""
        return super().penalty() + self._divergence("layer_", self.log_scale)

    def _measure(self) -> Tensor:
        return torch.rsqrt(torch.expm1(self._log_normal("")[1] + self._log_normal("layer_")[1]))
