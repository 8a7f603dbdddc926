"""Regularisers of the weights around a unit, as gates that sample nothing: z = 1, or 0 where a unit is not kept.

in_j are the weights into unit j (its filter), out_j those out of it (its column). `networks.sequential.join_weights`
tells each gate which layers hold them; the packaged networks and `insert_gates` call it. All penalties are exact: they
are functions of the weights. A norm comes near 0 under Adam, never to it, hence the thresholds: GL and DN
keep a unit while |in_j||out_j|, which no rescaling of a ReLU's unit changes, exceeds that share of its layer's largest.

GL: Σ_j |in_j| + |out_j|, filters and columns (Wen et al., structured sparsity learning, NIPS 2016).
DN: the same, li + lo, and `l1` times the sum of the sizes of out_j's entries (Pan, Dong, Guo, DropNeuron, 2016).
NS: Σ_j |γ_j|, the scale of the BatchNorm before the gate (Liu et al., ICCV 2017); kept while |γ_j| > threshold, where
the paper cuts a share of all channels. γ moves at the gates' learning rate.
PF: no penalty; the threshold is the share of filters to cut, those of least Σ|in_j| (Li et al., ICLR 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vibtheory.errors import as_positive, reject
from vibtheory.networks.gates.law import GateLaw

__all__ = ["DNGate", "GLGate", "NSGate", "OpenGate", "PFGate", "WeightLaw"]

_WEIGHTS = (nn.Linear, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class WeightLaw(GateLaw):
    """What the regularisers share: the modules around a gate.

    Attributes:
        around: the modules between the gate before (or the input) and the gate after (or the output), on either side;
            held without being submodules, so that their parameters keep one name.
    """

    around: tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]] = ((), ())

    def join(self, name: str, before: tuple[nn.Module, ...], after: tuple[nn.Module, ...]) -> None:
        """Say what stands between this gate, `name`, and its neighbours.

        Raises:
            InvalidInputError: the law needs something that is not there.
        """
        self.around = before, after

    def _neighbour(self, side: int) -> nn.Linear | nn.Conv2d | None:
        """The layer whose weights end at this gate's units (0), or start from them (1); None: there is none."""
        if "around" not in vars(self):
            reject("law", f"a gate of {self.law!r} that knows no weights", "one that has been joined to its network",
                   "use insert_gates, or call vibtheory.networks.sequential.join_weights(net)")  # fmt: skip
        modules = self.around[1] if side else reversed(self.around[0])
        return next((m for m in modules if isinstance(m, _WEIGHTS)), None)

    def _by_unit(self, side: int, weight: Tensor) -> Tensor:
        """A tensor shaped as a neighbour's weight as rows [d, …]; after a Flatten with all positions of a channel."""
        if side == 0:
            return weight.flatten(1)
        return weight.reshape(len(weight), self.features, -1).transpose(0, 1).flatten(1)

    def _weight(self, side: int) -> Tensor | None:
        """in_j or out_j as rows [d, …]; None where no weights stand there."""
        layer = self._neighbour(side)
        return None if layer is None else self._by_unit(side, layer.weight)

    def _norms(self) -> list[Tensor]:
        sides = (self._weight(0), self._weight(1))
        return [torch.linalg.vector_norm(side.float(), dim=1) for side in sides if side is not None]

    def _draw(self, n: int, rows: slice) -> Tensor:
        return torch.ones(n, self.features, device=self.active.device)[rows]

    def _expectation(self) -> Tensor:
        return torch.ones(self.features, device=self.active.device)


class GLGate(WeightLaw):
    """Group lasso on filters and columns. Arguments and errors as of `GateLaw`; threshold: relative to the layer's."""

    law: ClassVar[str] = "gl"
    usual_threshold: ClassVar[float] = 0.01

    def _unit_penalty(self) -> Tensor:
        return torch.stack([*self._norms(), torch.zeros_like(self.active, dtype=torch.float32)]).sum(0)

    def _measure(self) -> Tensor:
        size = torch.stack([*self._norms(), torch.ones_like(self.active, dtype=torch.float32)]).prod(0)
        return size / size.max().clamp_min(1e-30)


class DNGate(GLGate):
    """DropNeuron. Arguments and errors as of `GLGate`; l1 > 0: weight of the sizes of single outgoing weights."""

    law: ClassVar[str] = "dn"
    options: ClassVar[Mapping[str, float]] = {"l1": 0.1}

    def __init__(self, features: int, **options: Any) -> None:
        super().__init__(features, **options)
        self.l1 = float(as_positive("l1", self.given["l1"]))

    def _unit_penalty(self) -> Tensor:
        outgoing = self._weight(1)
        single = 0.0 if outgoing is None else self.l1 * outgoing.float().abs().sum(1)
        return super()._unit_penalty() + single


class NSGate(WeightLaw):
    """Network slimming. Arguments as of `GLGate`; threshold: of |γ_j|.

    Raises:
        InvalidInputError: as `GateLaw`; `join`: no BatchNorm before the gate.
    """

    law: ClassVar[str] = "ns"
    usual_threshold: ClassVar[float] = 0.01

    def join(self, name: str, before: tuple[nn.Module, ...], after: tuple[nn.Module, ...]) -> None:
        """As `WeightLaw.join`."""
        if not any(isinstance(m, _NORMS) and m.affine for m in before):
            reject("law", f"'ns' with no BatchNorm before the gate {name!r}", "a network that has one before each gate",
                   "use vgg19_cifar, or another law")  # fmt: skip
        super().join(name, before, after)

    def learned(self) -> list[nn.Parameter]:
        """The scales γ, [d]."""
        return [next(m for m in reversed(self.around[0]) if isinstance(m, _NORMS)).weight]

    def _scale(self) -> Tensor:
        return self.learned()[0].float().abs()

    _unit_penalty = _measure = _scale


class OpenGate(WeightLaw):
    """Gates that only pass on: no penalty, all units kept until closed (`compression.close_ranked`). As `GLGate`."""

    law: ClassVar[str] = "open"

    def _unit_penalty(self) -> Tensor:
        return torch.zeros_like(self.active, dtype=torch.float32)

    def _measure(self) -> Tensor:
        return torch.full_like(self.active, torch.inf, dtype=torch.float32)


class PFGate(OpenGate):
    """Filters ranked by their ℓ1 norm. Arguments as of `GLGate`; threshold: the share of each layer's filters to cut.

    Gates that no convolution feeds keep all their units.

    Raises:
        InvalidInputError: as `GateLaw`; building the network: it has no convolution.
    """

    law: ClassVar[str] = "pf"
    usual_threshold: ClassVar[float] = 0.5

    def _measure(self) -> Tensor:
        incoming = self._weight(0)
        if incoming is None or not any(isinstance(m, nn.Conv2d) for m in self.around[0]):
            return super()._measure()
        order = incoming.detach().float().abs().sum(1).argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(1, len(order) + 1, device=order.device)
        return rank / len(order)  # the least is 1/d: cut where at most the threshold
