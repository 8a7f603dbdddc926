"""Which gated units still matter: open gates, minus everything that is dead because all its neighbours are.

A flattened unit is dead where its channel's gate is closed; a channel is dead where none of its flattened units
survives; a layer with nothing alive before or after it is dead. Removing the dead never changes what `eval()` returns
as long as every layer keeps a unit. One function, used by the metrics and by compression.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vibtheory.errors import reject
from vibtheory.networks.gates import GateLaw
from vibtheory.networks.sequential import ordered_modules

__all__ = ["alive", "alive_units", "spread"]


def alive(net: nn.Module) -> dict[str, Tensor]:
    """For each gate of a Sequential net, which units survive after removing what is dead in either direction.

    Only gates decide: a weight that happens to be exactly 0 counts as a weight.

    Args:
        net: a Sequential (nested ones included) of gates, linear layers, convolutions, Flatten and unit-wise layers.

    Returns:
        Boolean mask [features] by layer name, on the CPU, in the order of the forward pass. If some layer has no open
        gate, every mask is all False: nothing of the input reaches the output.

    Raises:
        InvalidInputError: see `ordered_modules`; or a gate or layer that does not fit the one before it.
    """
    rows = alive_units(net)
    return {name: mask for name, module, mask in rows if isinstance(module, GateLaw) and mask is not None}


def alive_units(net: nn.Module) -> list[tuple[str, nn.Module, Tensor | None]]:
    """`alive` after every module: (path name, module, boolean mask of its output's units).

    The mask is None before the first gate or weight layer, where the number of units is not known; after a Flatten it
    is still by channel. Raises as `alive`.
    """
    modules = ordered_modules(net)
    reached = _reached(modules)
    rows: list[tuple[str, nn.Module, Tensor | None]] = []
    listened: Tensor | None = None  # units after the current module that something alive listens to; None: all
    for (name, module), mask in zip(reversed(modules), reversed(reached), strict=True):
        if mask is not None:
            # the reverse of a Flatten: a channel is listened to if one of its positions is
            mask = mask if listened is None else listened.view(len(mask), -1).any(dim=1) & mask
            weights = isinstance(module, nn.Linear | nn.Conv2d)
            listened = mask.any().expand(_width_in(module)) if weights else mask
        rows.append((name, module, mask))
    return rows[::-1]


def _reached(modules: list[tuple[str, nn.Module]]) -> list[Tensor | None]:
    """After each module: mask of the units that something alive reaches through open gates; None: width unknown."""
    mask: Tensor | None = None
    masks: list[Tensor | None] = []
    for name, module in modules:
        if isinstance(module, nn.Linear | nn.Conv2d):
            reached = torch.tensor(True) if mask is None else spread(mask, _width_in(module), name).any()
            mask = reached.expand(module.weight.shape[0])
        elif isinstance(module, GateLaw):
            keep = module.keep.cpu()
            mask = keep if mask is None else spread(mask, len(keep), name) & keep
        masks.append(mask)
    return masks


def spread(mask: Tensor, width: int, name: str) -> Tensor:
    """`mask` over the `width` inputs of layer `name`: as it is, or after a Flatten each channel over its positions."""
    if width % len(mask):
        expected = f"{len(mask)} or, after a Flatten, a multiple of it"
        reject("net", f"{width} units at {name!r}", expected, "make each layer as wide as the one before it gives")
    return mask.repeat_interleave(width // len(mask))


def _width_in(module: nn.Module) -> int:
    """Units that a linear layer or an ungrouped convolution takes."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.shape[1]
