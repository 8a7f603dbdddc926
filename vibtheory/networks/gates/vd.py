"""VD, sparse variational dropout: noise on every weight (Molchanov, Ashukha, Vetrov, ICML 2017).

w ~ N(θ, σ²) under the prior 1/|w|; with l = log θ²/σ² = −log α the paper's approximation of KL is the one that
`bc.log_uniform_divergence` has (there its error), with constants as in the authors' code. Local reparametrisation:
what a layer adds to its outputs while training is √(σ² * x²) ε, one ε per example, output (and position).

A weight counts as removed where log α > 3; a unit while no weight out of it, or none into it, is left. Single removed
weights of kept units stay: sizes here count whole units. Each layer's σ belongs to the gate before it, or, where there
is none, after it; the layer after the last gate is noisy, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.networks.gates.bc import log_uniform_divergence
from vibtheory.networks.gates.weights import WeightLaw

__all__ = ["VDGate"]

_SIDES = ("into", "out")


class VDGate(WeightLaw):
    """Gates that are 1; penalty: KL of the weights around them to the log-uniform prior, in nats.

    Arguments and errors as of `GateLaw`. threshold: of θ²/σ², e⁻³ as in the paper; log_variance: initial log σ².

    Attributes:
        into, out: Parameters, log σ² shaped as the weights before and after the gate; only those that it owns.
    """

    law: ClassVar[str] = "vd"
    usual_threshold: ClassVar[float] = math.exp(-3)
    options: ClassVar[Mapping[str, float]] = {"log_variance": -8.0}

    def join(self, name: str, before: tuple[nn.Module, ...], after: tuple[nn.Module, ...]) -> None:
        """As `WeightLaw.join`; makes the layers around the gate noisy."""
        super().join(name, before, after)
        for side, kind in enumerate(_SIDES):
            layer = self._neighbour(side)
            if layer is not None and not hasattr(layer, "noise"):
                log_var = torch.full_like(layer.weight, self.given["log_variance"])
                self.register_parameter(kind, nn.Parameter(log_var))
                layer.noise = (self, kind, f"{name}.{kind}")  # type: ignore[assignment]  # a tuple: no submodule
                layer.register_forward_hook(self._add_noise)

    def _add_noise(self, layer: Any, given: tuple[Tensor], output: Tensor) -> Tensor:
        if not (self.training or self.sample_in_eval):
            return output
        variance, x = torch.exp(getattr(self, layer.noise[1]).float()).to(output.dtype), given[0].square()
        if isinstance(layer, nn.Linear):
            spread = functional.linear(x, variance)
        else:
            spread = layer._conv_forward(x, variance, None)  # with the layer's own padding, circular or not
        n, start = self.union or (len(output), 0)
        noise = torch.randn(n, *output.shape[1:], device=output.device, dtype=output.dtype)[start : start + len(output)]
        return output + noise * spread.clamp_min(1e-16).sqrt()

    def _log_ratio(self, side: int) -> Tensor | None:
        """log θ²/σ² of the weights on a side as rows [d, …], whichever gate owns their σ; None: no weights there."""
        layer = self._neighbour(side)
        if layer is None:
            return None
        gate, kind, _ = layer.noise  # type: ignore[misc]
        ratio = 2 * torch.log(layer.weight.float().abs().clamp_min(1e-30)) - getattr(gate, kind).float()
        return self._by_unit(side, ratio)

    def _unit_penalty(self) -> Tensor:
        total = torch.zeros_like(self.active, dtype=torch.float32)
        for side, kind in enumerate(_SIDES):
            ratio = self._log_ratio(side) if kind in self._parameters else None
            total = total if ratio is None else total + log_uniform_divergence(ratio).sum(1)
        return total

    def _measure(self) -> Tensor:
        ratios = [ratio.detach().amax(1) for side in (0, 1) if (ratio := self._log_ratio(side)) is not None]
        best = torch.stack([*ratios, torch.full_like(self.active, 80.0, dtype=torch.float32)]).amin(0)
        return torch.exp(best)
