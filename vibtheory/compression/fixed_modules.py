"""What compression leaves behind where nothing can be folded: a selection of units, their places, a scale per unit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Expand", "FixedScale", "Select", "Surrounded"]


class Select(nn.Module):
    """Passes on the units `index` of an axis: how a compressed net takes the original, unpruned input.

    Args:
        index: positions of the kept units, int64 [k].
        axis: the units' axis.
    """

    index: Tensor

    def __init__(self, index: Tensor, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("index", index.to(torch.int64))

    def forward(self, h: Tensor) -> Tensor:
        """h [N, d, ...] → [N, k, ...]."""
        return h.index_select(self.axis, self.index)

    def extra_repr(self) -> str:
        return f"{len(self.index)} units, axis={self.axis}"


class Expand(nn.Module):
    """Puts units back to their places among those that others still need; what stands between them is constant.

    Args:
        order: of each of the d places, the unit that it takes from [h, fill], int64 [d].
        fill: the constants; a buffer, never trained.
        axis: the units' axis.
    """

    order: Tensor
    fill: Tensor

    def __init__(self, order: Tensor, fill: Tensor, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("order", order.to(torch.int64))
        self.register_buffer("fill", fill)

    def forward(self, h: Tensor) -> Tensor:
        """h [N, k, ...] → [N, d, ...]."""
        sizes, shape = list(h.shape), [1] * h.ndim
        sizes[self.axis] = shape[self.axis] = self.fill.shape[0]
        filled = torch.cat([h, self.fill.to(h.dtype).view(shape).expand(sizes)], self.axis)
        return filled.index_select(self.axis, self.order)

    def extra_repr(self) -> str:
        return f"{self.order.shape[0]} units, axis={self.axis}"


class FixedScale(nn.Module):
    """Multiplies each unit by a constant: a gate's mean that cannot be folded into a neighbouring weight.

    Args:
        weight: the constants [d]; a buffer, never trained.
        axis: the units' axis.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("weight", weight)

    def forward(self, h: Tensor) -> Tensor:
        """h [N, d, ...] → h ⊙ weight."""
        shape = [1] * h.ndim
        shape[self.axis] = -1
        return h * self.weight.to(h.dtype).view(shape)

    def extra_repr(self) -> str:
        return f"{len(self.weight)} units, axis={self.axis}"


class Surrounded(nn.Sequential):
    """A `layer` between a Select and an Expand; what else a forward pass reads of it (a stride) is the layer's."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)
