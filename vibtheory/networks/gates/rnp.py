"""RNP, runtime neural pruning: how many channels a convolution computes is decided per input (Lin et al., NIPS 2017).

A gated convolution's channels form k groups in order. A policy looks at the map that enters the convolution (its mean
over positions) and chooses a ∈ {1, …, k}: the first a groups are computed, the others are 0 for this input. No weight
leaves the network; multiply-adds are an average over inputs, `compression.metrics.average_flop`.

The paper learns the Q-values of one policy for all layers by reinforcement, its rewards falling with the cost of what
is computed and with the loss at the end. Here each convolution has a linear policy, and the gradient of a sampled
choice (Gumbel noise) is that of its probabilities (straight-through), so that the one objective of all laws trains it.
The penalty is the number of channels that are computed, averaged over the batch: exact given its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.errors import reject
from vibtheory.networks.gates.weights import OpenGate

__all__ = ["RNPGate"]


class RNPGate(OpenGate):
    """Channels that open by group, per input; penalty: how many are computed on average over the batch seen last.

    Arguments and errors as of `GateLaw`; groups: k ≥ 1, at most d. Gates that no convolution feeds pass everything on.

    Attributes:
        policy: from the means of the channels that enter [N, channels in] to logits [N, k]; None before `join`, or
            where no convolution feeds the gate.
    """

    law: ClassVar[str] = "rnp"
    per_input: ClassVar[bool] = True
    options: ClassVar[Mapping[str, float]] = {"groups": 4}
    group: Tensor

    def __init__(self, features: int, **options: Any) -> None:
        super().__init__(features, **options)
        self.groups = int(self.given["groups"])
        if not 1 <= self.groups <= features:
            reject("groups", self.groups, f"from 1 to {features}, the number of channels", "pass fewer groups")
        self.register_buffer("group", torch.arange(features) * self.groups // features, persistent=False)
        self.policy: nn.Linear | None = None
        self._seen: Tensor | None = None  # [N, channels in] of the last forward pass

    def join(self, name: str, before: tuple[nn.Module, ...], after: tuple[nn.Module, ...]) -> None:
        """As `WeightLaw.join`; the convolution before the gate shows it its inputs from now on."""
        super().join(name, before, after)
        layer = self._neighbour(0)
        if isinstance(layer, nn.Conv2d):
            self.policy = nn.Linear(layer.in_channels, self.groups)
            nn.init.zeros_(self.policy.weight)
            self.policy.bias.data = torch.linspace(-2.0, 2.0, self.groups)  # most inputs get all groups
            layer.register_forward_pre_hook(self._look)

    def _look(self, layer: nn.Module, given: tuple[Tensor]) -> None:
        self._seen = given[0].detach().mean(dim=(2, 3))

    def _log_probability(self) -> Tensor | None:
        """Of each choice, [N, k] in float32; None: nothing to choose from, or no input yet."""
        if self.policy is None or self._seen is None:
            return None
        logits = functional.linear(self._seen.float(), self.policy.weight.float(), self.policy.bias.float())
        return logits.log_softmax(1)

    def _computed(self, choice: Tensor) -> Tensor:
        """Of weights on the choices [N, k]: on each channel's being computed, Σ_{a ≥ its group} [N, d]."""
        return choice.flip(1).cumsum(1).flip(1)[:, self.group]

    def _draw(self, n: int, rows: slice) -> Tensor:
        log_p = self._log_probability()
        if log_p is None:
            return super()._draw(n, rows)
        noise = -torch.empty(n, self.groups, device=log_p.device).exponential_().clamp_min(1e-30).log()[rows]
        soft = (log_p + noise).softmax(1)
        return self._computed(_hard(soft) + (soft - soft.detach()))

    def decide(self) -> Tensor | None:
        """0 or 1 for each channel and input of the last forward pass, [N, d]; None: all, always."""
        log_p = self._log_probability()
        return None if log_p is None else self._computed(_hard(log_p)) * self.open

    def forward(self, h: Tensor) -> Tensor:
        """As `GateLaw.forward`; `eval()` takes the likeliest choice of each input."""
        if self.training or self.sample_in_eval or (z := self.decide()) is None:
            return super().forward(h)
        return h * z.to(h.dtype).view(*z.shape, *[1] * (h.ndim - 2))

    def _unit_penalty(self) -> Tensor:
        log_p = self._log_probability()
        return super()._unit_penalty() if log_p is None else self._computed(log_p.exp()).mean(0)


def _hard(scores: Tensor) -> Tensor:
    """1 at the largest of each row, [N, k]."""
    return functional.one_hot(scores.argmax(1), scores.shape[1]).to(scores.dtype)
