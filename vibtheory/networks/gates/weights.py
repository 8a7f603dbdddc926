"""Regularisers of the weights around a unit, as gates that sample nothing: z = 1, or 0 where a unit is not kept.

in_j are the weights into unit j (its filter), out_j those out of it (its column). `networks.sequential.join_weights`
tells each gate which layers hold them; the packaged networks and `insert_gates` call it. All penalties are exact: they
are functions of the weights. A norm comes near 0 under Adam, never to it, hence the thresholds: GL and DN
keep a unit while |in_j||out_j|, which no rescaling of a ReLU's unit changes, exceeds that share of its layer's largest.

GL: Σ_j |in_j| + |out_j|, filters and columns (Wen et al., NIPS 2016, eq. 2).
DN: the same, li + lo, and `l1` times the sum of the sizes of out_j's entries (Pan, Dong, Guo, DropNeuron, 2016).
NS: Σ_j |γ_j|, the scale of the BatchNorm before the gate (Liu et al., ICCV 2017, eq. 1); kept while |γ_j| > threshold.
PF: no penalty; the threshold is the share of filters to cut, those of least Σ|in_j| (Li et al., ICLR 2017).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vibtheory.errors import as_positive, reject
from vibtheory.networks.gates.law import GateLaw

__all__ = ["DNGate", "GLGate", "NSGate", "PFGate", "WeightLaw"]

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

    def _incoming(self) -> Tensor | None:
        """in_j as rows [d, …]; None where no weights stand between the gate before and this one."""
        layer = next((m for m in reversed(self.around[0]) if isinstance(m, _WEIGHTS)), None)
        return None if layer is None else layer.weight.flatten(1)

    def _outgoing(self) -> Tensor | None:
        """out_j as rows [d, …]; after a Flatten those of all positions of a channel."""
        layer = next((m for m in self.around[1] if isinstance(m, _WEIGHTS)), None)
        if layer is None:
            return None
        return layer.weight.reshape(len(layer.weight), self.features, -1).transpose(0, 1).flatten(1)

    def _norms(self) -> list[Tensor]:
        sides = (self._incoming(), self._outgoing())
        return [torch.linalg.vector_norm(side.float(), dim=1) for side in sides if side is not None]

    def _draw(self, n: int, rows: slice) -> Tensor:
        return torch.ones(n, self.features, device=self.active.device)[rows]

    def _expectation(self) -> Tensor:
        return torch.ones(self.features, device=self.active.device)


class GLGate(WeightLaw):
    """Group lasso on filters and columns. Arguments and errors as of `GateLaw`; threshold: relative to the layer's."""

    law: ClassVar[str] = "gl"

    def __init__(self, features: int, *, multiplier: float = 1.0, threshold: float = 0.01, axis: int = 1) -> None:
        super().__init__(features, multiplier=multiplier, threshold=threshold, axis=axis)

    def _unit_penalty(self) -> Tensor:
        return torch.stack([*self._norms(), torch.zeros_like(self.active, dtype=torch.float32)]).sum(0)

    def _measure(self) -> Tensor:
        size = torch.stack([*self._norms(), torch.ones_like(self.active, dtype=torch.float32)]).prod(0)
        return size / size.max().clamp_min(1e-30)


class DNGate(GLGate):
    """DropNeuron. Arguments and errors as of `GLGate`; l1 > 0: weight of the sizes of single outgoing weights."""

    law: ClassVar[str] = "dn"

    def __init__(
        self, features: int, *, multiplier: float = 1.0, threshold: float = 0.01, axis: int = 1, l1: float = 0.1
    ) -> None:
        super().__init__(features, multiplier=multiplier, threshold=threshold, axis=axis)
        self.l1 = float(as_positive("l1", l1))

    def _unit_penalty(self) -> Tensor:
        outgoing = self._outgoing()
        single = 0.0 if outgoing is None else self.l1 * outgoing.float().abs().sum(1)
        return super()._unit_penalty() + single


class NSGate(WeightLaw):
    """Network slimming. Arguments as of `GLGate`; threshold: of |γ_j|.

    Raises:
        InvalidInputError: as `GateLaw`; `join`: no BatchNorm before the gate.
    """

    law: ClassVar[str] = "ns"

    def __init__(self, features: int, *, multiplier: float = 1.0, threshold: float = 0.01, axis: int = 1) -> None:
        super().__init__(features, multiplier=multiplier, threshold=threshold, axis=axis)

    def join(self, name: str, before: tuple[nn.Module, ...], after: tuple[nn.Module, ...]) -> None:
        """As `WeightLaw.join`."""
        if not any(isinstance(m, _NORMS) and m.affine for m in before):
            reject("law", f"'ns' with no BatchNorm before the gate {name!r}", "a network that has one before each gate",
                   "use vgg19_cifar, or another law")  # fmt: skip
        super().join(name, before, after)

    def _scale(self) -> Tensor:
        norm = next(m for m in reversed(self.around[0]) if isinstance(m, _NORMS))
        return norm.weight.float().abs()

    _unit_penalty = _measure = _scale


class PFGate(WeightLaw):
    """Filters ranked by their ℓ1 norm. Arguments as of `GLGate`; threshold: the share of each layer's filters to cut.

    Gates that no convolution feeds keep all their units.

    Raises:
        InvalidInputError: as `GateLaw`; building the network: it has no convolution.
    """

    law: ClassVar[str] = "pf"

    def __init__(self, features: int, *, multiplier: float = 1.0, threshold: float = 0.5, axis: int = 1) -> None:
        super().__init__(features, multiplier=multiplier, threshold=threshold, axis=axis)

    def _unit_penalty(self) -> Tensor:
        return torch.zeros_like(self.active, dtype=torch.float32)

    def _measure(self) -> Tensor:
        incoming = self._incoming()
        if incoming is None or not any(isinstance(m, nn.Conv2d) for m in self.around[0]):
            return torch.full_like(self.active, torch.inf, dtype=torch.float32)
        order = incoming.detach().float().abs().sum(1).argsort(stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(1, len(order) + 1, device=order.device)
        return rank / len(order)  # the least is 1/d: cut where at most the threshold
