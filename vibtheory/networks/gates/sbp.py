"""SBP: truncated log-normal gates under a log-uniform prior (Neklyudov, Molchanov, Ashukha, Vetrov, NIPS 2017).

log z ~ N(m, s²) on [a, b] = [−20, 0]; prior: log z uniform there. With A = (a − m)/s, B = (b − m)/s, Z = Φ(B) − Φ(A),
KL = log(b − a) − log(s Z √(2πe)) − (Aφ(A) − Bφ(B))/(2Z), exact (the entropy of a truncated normal), and
E z^k = exp(km + k²s²/2) (Φ(B − ks) − Φ(A − ks))/Z. A unit is kept while its signal-to-noise ratio Ez/√Var z exceeds 1.

Here m = −softplus(−location), so that the mode stays below b and no gradient vanishes there (the paper clips m to
[−20, 5]); m ≥ a, e⁻¹⁰ ≤ s ≤ e⁵. "SBPa", the variant for speed, is the same law with the KL of early layers weighed
more: in the authors' script for the VGG-like net (group-sparsity-sbp, vgglike-sbpa.py) 10 on the first block's
convolutions, 5 on the second's, 1 on all others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.networks.gates.law import GateLaw

__all__ = ["SBPGate"]

_A, _B = -20.0, 0.0


class SBPGate(GateLaw):
    """Truncated log-normal gates; penalty: KL to the log-uniform prior, in nats.

    Args:
        features, multiplier, axis: see `GateLaw`.
        threshold: a unit is kept while the signal-to-noise ratio Ez/√Var z exceeds it.
        location, log_scale: initial location (m = −softplus(−location)) and log s.

    Attributes:
        location, log_scale: Parameters [d].

    Raises:
        InvalidInputError: as `GateLaw`.
    """

    law: ClassVar[str] = "sbp"
    usual_threshold: ClassVar[float] = 1.0
    options: ClassVar[Mapping[str, float]] = {"location": 3.0, "log_scale": -4.0}
    starts: ClassVar[Mapping[str, str]] = {"location": "location", "log_scale": "log_scale"}
    location: nn.Parameter
    log_scale: nn.Parameter

    def _normal(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """m, s, A, B of each unit [d] in float64: differences of Φ far out need it."""
        m = functional.logsigmoid(self.location.double()).clamp_min(_A)
        s = self.log_scale.double().clamp(-10.0, 5.0).exp()
        return m, s, (_A - m) / s, (_B - m) / s

    def _log_moment(self, k: int) -> Tensor:
        """log E z^k, [d] in float64."""
        m, s, low, high = self._normal()
        mass = _log_mass(low - k * s, high - k * s) - _log_mass(low, high)
        return k * m + 0.5 * (k * s) ** 2 + mass

    def _draw(self, n: int, rows: slice) -> Tensor:
        m, s, low, high = (value.float() for value in self._normal())
        u = torch.rand(n, self.features, dtype=m.dtype, device=m.device)[rows]
        below = torch.special.ndtr(low)
        inside = (below + u * (torch.special.ndtr(high) - below)).clamp(1e-7, 1 - 1e-7)
        return torch.exp((m + s * torch.special.ndtri(inside)).clamp(_A, _B))

    def _expectation(self) -> Tensor:
        return self._log_moment(1).exp().float()

    def _unit_penalty(self) -> Tensor:
        _, s, low, high = self._normal()
        log_z = _log_mass(low, high)
        ends = (low * _density(low) - high * _density(high)) * torch.exp(-log_z)
        entropy = 0.5 * math.log(2 * math.pi * math.e) + s.log() + log_z + 0.5 * ends
        return (math.log(_B - _A) - entropy).float()

    def _measure(self) -> Tensor:
        ratio = self._log_moment(2) - 2 * self._log_moment(1)  # log(1 + 1/SNR²)
        return torch.rsqrt(torch.expm1(ratio).clamp_min(1e-12)).float()


def _density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _log_mass(low: Tensor, high: Tensor) -> Tensor:
    """log(Φ(high) − Φ(low)) for low < high and low ≤ 0, from logarithms."""
    top, bottom = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    mass: Tensor = top + torch.log(-torch.expm1(bottom - top))
    return mass
