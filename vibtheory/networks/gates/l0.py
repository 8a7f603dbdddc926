"""L0: hard-concrete gates (Louizos, Welling, Kingma, ICLR 2018): the penalty is the expected number of open units.

u ~ U(0, 1);  s = sigmoid((log u − log(1 − u) + a)/β);  z = min(1, max(0, s(ζ − γ) + γ)), β = 2/3, γ = −0.1, ζ = 1.1.
P(z ≠ 0) = sigmoid(a − β log(−γ/ζ)) is exact. Evaluation takes ẑ = min(1, max(0, sigmoid(a)(ζ − γ) + γ)) (as in the
paper: without noise and temperature), and a unit is kept while ẑ exceeds the threshold 0. "L0-sep" is the same law
with a price per layer (`Recipe.layer_weights`). All weights decay as the recipe says, in the paper the kept ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from vibtheory.networks.gates.law import GateLaw

__all__ = ["L0Gate"]

_BETA, _LOW, _HIGH = 2 / 3, -0.1, 1.1
_SHIFT = _BETA * math.log(-_LOW / _HIGH)


class L0Gate(GateLaw):
    """Hard-concrete gates; penalty: the expected number of open ones.

    Args:
        features, multiplier, axis: see `GateLaw`.
        threshold: a unit is kept while ẑ, the gate of evaluation, exceeds it.
        logit: initial a, the location of log u − log(1 − u) + a.

    Attributes:
        logit: Parameter [d], a.

    Raises:
        InvalidInputError: as `GateLaw`.
    """

    law: ClassVar[str] = "l0"
    options: ClassVar[Mapping[str, float]] = {"logit": 2.0}
    starts: ClassVar[Mapping[str, str]] = {"logit": "logit"}
    logit: nn.Parameter

    def _draw(self, n: int, rows: slice) -> Tensor:
        u = torch.rand(n, self.features, dtype=self.logit.dtype, device=self.logit.device)[rows].clamp(1e-6, 1 - 1e-6)
        return _stretched(torch.sigmoid((torch.logit(u) + self.logit.float()) / _BETA))

    def _expectation(self) -> Tensor:
        return _stretched(torch.sigmoid(self.logit.float()))

    def _unit_penalty(self) -> Tensor:
        return torch.sigmoid(self.logit.float() - _SHIFT)

    _measure = _expectation


def _stretched(s: Tensor) -> Tensor:
    return (s * (_HIGH - _LOW) + _LOW).clamp(0.0, 1.0)
