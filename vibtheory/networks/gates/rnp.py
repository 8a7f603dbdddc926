"""RNP, runtime neural pruning: how many channels a convolution computes is decided per input (Lin et al., NIPS 2017).

A gated convolution's channels form k groups in order. A policy looks at the map that enters the convolution (its mean
over positions) and chooses a ∈ {1, …, k}: the first a groups are computed, the others are 0 for this input. No weight
leaves the network; multiply-adds are an average over inputs, `compression.metrics.average_flop`.

The paper learns the Q-values of one policy for all layers by reinforcement, its rewards falling with the cost of what
is computed and with the loss at the end. Here each convolution has a linear policy, whose choice is sampled, and the
one objective of all laws trains it: what reaches the score of a choice is its advantage, the objective's slope towards
this choice less the policy's own average (multiplicative weights). The slope of the mean over choices would have the
choice's probability as a factor, and what is once rare would never be learned; for the same reason scores are bounded.
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

_BOUND = 4.0  # of scores: no choice has odds below exp(-8) to another


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
        if (groups := self.given["groups"]) not in range(1, features + 1):
            expected = f"from 1 to {features}, the number of channels, without a fraction"
            reject("groups", f"{groups:g}", expected, "pass fewer groups")
        self.groups = int(groups)
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

    def _scores(self) -> Tensor | None:
        """Of each choice, [N, k] in float32; None: nothing to choose from, or no input yet."""
        if self.policy is None or self._seen is None:
            return None
        scores = functional.linear(self._seen.float(), self.policy.weight.float(), self.policy.bias.float())
        return _BOUND * (scores / _BOUND).tanh()

    def _computed(self, choice: Tensor) -> Tensor:
        """Of weights on the choices [N, k]: on each channel's being computed, Σ_{a ≥ its group} [N, d]."""
        return choice.flip(1).cumsum(1).flip(1)[:, self.group]

    def _draw(self, n: int, rows: slice) -> Tensor:
        if (scores := self._scores()) is None:
            return super()._draw(n, rows)
        noise = -scores.new_empty(n, self.groups).exponential_().clamp_min(1e-30).log()[rows]
        return self._computed(_by_advantage(scores, _hard(scores.detach() + noise)))

    def decide(self) -> Tensor | None:
        """0 or 1 for each channel and input of the last forward pass, [N, d]; None: all, always."""
        return None if (scores := self._scores()) is None else self._computed(_hard(scores)) * self.open

    def forward(self, h: Tensor) -> Tensor:
        """As `GateLaw.forward`; `eval()` takes the likeliest choice of each input."""
        if self.training or self.sample_in_eval or (z := self.decide()) is None:
            return super().forward(h)
        return h * z.to(h.dtype).view(*z.shape, *[1] * (h.ndim - 2))

    def _unit_penalty(self) -> Tensor:
        if (scores := self._scores()) is None:
            return super()._unit_penalty()
        return self._computed(_by_advantage(scores, scores.detach().softmax(1))).mean(0)


def _by_advantage(scores: Tensor, weights: Tensor) -> Tensor:
    """`weights` on the choices, [N, k] as `scores` are, which get the slope less its mean under their probabilities."""
    none = scores - scores.detach()  # 0, but for its slope
    return weights + none - scores.detach().softmax(1) * none.sum(1, keepdim=True)


def _hard(scores: Tensor) -> Tensor:
    """1 at the largest of each row, [N, k]."""
    return functional.one_hot(scores.argmax(1), scores.shape[1]).to(scores.dtype)
