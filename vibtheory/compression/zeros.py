"""Which entries are exactly 0 because gates are closed, whatever the input and the other weights are.

Zeros are followed through the operations by their meaning: a closed gate makes them, element-wise functions with
f(0) = 0, pooling and reshaping keep them, sums have them where all terms do, and everything else (weights, biases,
normalisation) may end them. No value of the run decides, so a unit that merely looked silent is never among them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from vibtheory.compression.fixed_modules import FixedScale

__all__ = ["silent_inputs"]

aten = torch.ops.aten
# Entries move, repeat, or are combined with weights >= 0: the result is non-zero only where a non-zero entry went in.
_MOVES = {
    *(aten.view, aten._unsafe_view, aten.permute, aten.transpose, aten.t, aten.expand, aten.select, aten.slice),
    *(aten.squeeze, aten.unsqueeze, aten.cat, aten.stack, aten.clone, aten.split, aten.split_with_sizes, aten.unbind),
    *(aten.index_select, aten.repeat, aten.roll, aten.flip, aten.detach, aten.alias, aten._to_copy, aten.as_strided),
    *(aten.pixel_shuffle, aten.pixel_unshuffle, aten.channel_shuffle, aten.native_channel_shuffle, aten.chunk),
    *(aten.max_pool2d_with_indices, aten.max_pool3d_with_indices, aten.avg_pool2d, aten.avg_pool3d, aten.mean),
    *(aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d, aten.adaptive_max_pool2d, aten.sum, aten.amax, aten.lift),
    *(aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_bilinear2d, aten.reshape, aten._reshape_alias),
}
_WITH_INDICES = (aten.max_pool2d_with_indices, aten.max_pool3d_with_indices, aten.adaptive_max_pool2d)


class _Zeros(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps for every tensor a tensor of the same shape: 1 where it may be non-zero, 0 where it is 0 for certain."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[
            int, tuple[Tensor, Tensor]
        ] = {}  # id → (the tensor itself, so that its id stays its own; mask)

    def may_be_nonzero(self, value: Tensor) -> Tensor:
        found = self._known.get(id(value))
        return torch.ones(value.shape) if found is None else found[1]

    def declare(self, value: Tensor, mask: Tensor) -> None:
        self._known[id(value)] = (value, mask)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        known = any(id(v) in self._known for v in tensors)
        masks = [self.may_be_nonzero(v) for v in tensors] if known else []
        result = func(*args, **kwargs)
        changed = [v for v in pytree.tree_leaves(result) if isinstance(v, Tensor)]
        if func._schema.is_mutable:
            self._forget_views_of(changed)
        if known and changed:
            mask = self._through(func, args, kwargs, tensors, masks)
            for value, each in zip(changed, mask, strict=False):
                if each is not None and each.shape == value.shape:
                    self.declare(value, each)
        return result

    def _forget_views_of(self, values: list[Tensor]) -> None:
        """What shares memory with a tensor that was written to is no longer known."""
        places = {v.untyped_storage().data_ptr() for v in values}
        for key, (value, _) in list(self._known.items()):
            if value.untyped_storage().data_ptr() in places:
                del self._known[key]

    def _through(
        self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], masks: list[Tensor]
    ) -> list[Tensor | None]:
        packet = func.overloadpacket
        if packet in (aten.mul, aten.mul_):
            return [masks[0] * masks[-1]]
        if packet in (aten.div, aten.div_):
            return [masks[0] * torch.ones_like(masks[-1])]
        if packet is aten.constant_pad_nd:
            return [func(masks[0], args[1], 0.0 if len(args) < 3 or args[2] == 0 else 1.0)]
        if packet in _MOVES:
            replaced = iter(masks)
            args, kwargs = pytree.tree_map(lambda v: next(replaced) if isinstance(v, Tensor) else v, (args, kwargs))
            if packet in (aten.view, aten._unsafe_view, aten._reshape_alias):
                moved: Any = args[0].reshape(args[1])
            else:
                moved = args[0] if packet is aten._to_copy else func(*args, **kwargs)
            leaves = [leaf for leaf in pytree.tree_leaves(moved) if isinstance(leaf, Tensor)]
            leaves = leaves[:1] if packet in _WITH_INDICES else leaves
            return [(leaf > 0).float() for leaf in leaves]
        if torch.Tag.pointwise in func.tags or func._schema.name.endswith("_"):
            return [self._pointwise(func, args, kwargs, masks)]
        return [None]

    def _pointwise(self, func: Any, args: Any, kwargs: Any, masks: list[Tensor]) -> Tensor | None:
        """All inputs 0 and f(0, …, 0) = 0: the result is 0."""
        zero_args, zero_kwargs = pytree.tree_map(
            lambda v: torch.zeros((), dtype=v.dtype, device=v.device) if isinstance(v, Tensor) else v, (args, kwargs)
        )
        try:
            at_zero = func(*zero_args, **zero_kwargs)
        except (RuntimeError, NotImplementedError):
            return None
        if not isinstance(at_zero, Tensor) or at_zero.ndim or float(at_zero) != 0:
            return None
        return reduce(torch.maximum, masks)


def silent_inputs(net: nn.Module, example: tuple[Any, ...]) -> dict[str, Tensor]:
    """For each convolution and linear layer, which units of its input are 0 because of closed gates: boolean [d].

    Args:
        net: in evaluation mode, its gates replaced by `FixedScale`.
        example: its positional inputs; only shapes matter.
    """
    mode = _Zeros()
    silent: dict[str, Tensor] = {}

    def listen(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            mask = mode.may_be_nonzero(inputs[0])
            axis = mask.ndim - 1 if isinstance(module, nn.Linear) else mask.ndim - len(module.kernel_size) - 1  # type: ignore[arg-type]
            zero = (mask == 0).movedim(axis, 0).flatten(1).all(1)
            silent[name] = silent.get(name, torch.ones_like(zero)) & zero

        return hook

    watched = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    handles = [m.register_forward_pre_hook(listen(name)) for name, m in net.named_modules() if isinstance(m, watched)]
    for module in net.modules():
        if isinstance(module, FixedScale):
            mode.declare(module.weight, (module.weight != 0).float().cpu())
    try:
        with torch.no_grad(), mode:
            net(*example)
    finally:
        for handle in handles:
            handle.remove()
    return silent
