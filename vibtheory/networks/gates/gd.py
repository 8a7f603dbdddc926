"""GD: Bernoulli gates with a Beta prior (Srinivas & Babu, Generalized Dropout, arXiv 2016).

z ~ Bernoulli(θ), θ = sigmoid(logit) ~ Beta(p, q); the penalty is −log Beta(θ; p, q), exact, in nats up to sign. With
p < 1 it falls without bound as θ → 0, linearly in the logit ("stochastic architecture learning"): it pushes gates shut.
The gradient of a sample is straight-through, dz/dθ = 1, which is that of its mean. Evaluation multiplies by θ, and a
unit is kept while θ > ½ (the paper rounds θ there).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.errors import as_positive
from vibtheory.networks.gates.law import GateLaw

__all__ = ["GDGate"]


class GDGate(GateLaw):
    """Bernoulli gates; penalty: minus the log density of θ under its Beta prior, in nats.

    Args:
        features, multiplier, axis: see `GateLaw`.
        threshold: a unit is kept while θ exceeds it.
        logit: initial log θ/(1 − θ).
        prior_open, prior_closed: p, q > 0 of the Beta prior.

    Attributes:
        logit: Parameter [d].

    Raises:
        InvalidInputError: as `GateLaw`; a prior that is not positive.
    """

    law: ClassVar[str] = "gd"
    usual_threshold: ClassVar[float] = 0.5
    options: ClassVar[Mapping[str, float]] = {"logit": 3.0, "prior_open": 0.1, "prior_closed": 1.0}
    starts: ClassVar[Mapping[str, str]] = {"logit": "logit"}
    logit: nn.Parameter

    def __init__(self, features: int, **options: Any) -> None:
        super().__init__(features, **options)
        self.prior = tuple(float(as_positive(name, self.given[name])) for name in ("prior_open", "prior_closed"))

    def _draw(self, n: int, rows: slice) -> Tensor:
        theta = self._expectation()
        u = torch.rand(n, self.features, dtype=theta.dtype, device=theta.device)[rows]
        return theta + ((u < theta).float() - theta).detach()

    def _expectation(self) -> Tensor:
        return torch.sigmoid(self.logit.float())

    def _unit_penalty(self) -> Tensor:
        p, q = self.prior
        logit = self.logit.float()
        constant = math.lgamma(p) + math.lgamma(q) - math.lgamma(p + q)
        return (p - 1) * functional.softplus(-logit) + (q - 1) * functional.softplus(logit) + constant

    _measure = _expectation
