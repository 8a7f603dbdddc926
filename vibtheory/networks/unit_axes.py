"""Where units are: the axis of each tensor that its units are on, followed through torch's functions as they run."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

__all__ = ["LAYOUT", "UnitAxes", "name_of"]

# Functions that make units, and the axis they make them on; what follows moves or keeps it.
_LAST = ["linear", "embedding", "matmul", "bmm", "mm", "addmm", "einsum", "lstm", "gru", "rnn_tanh", "rnn_relu"]
_LAST += ["scaled_dot_product_attention", "multi_head_attention_forward"]
_MAKERS = dict.fromkeys(_LAST, -1) | {f"conv{kind}{d}d": 1 for kind in ("", "_transpose") for d in (1, 2, 3)}
LAYOUT = frozenset({
    "transpose", "permute", "movedim", "swapaxes", "t", "flatten", "unflatten", "view", "reshape", "squeeze",
    "unsqueeze", "contiguous", "select", "chunk", "split", "unbind", "expand", "__getitem__", "adjoint", "T", "mT",
    "reshape_as", "view_as", "moveaxis", "swapdims",
})  # fmt: skip


class _Units(NamedTuple):
    value: Tensor  # held, so that its id stays its own
    axis: int
    layer: str  # whose units they are; empty where several layers are summed
    maker: str  # the function that made them


class UnitAxes(TorchFunctionMode):
    """Inside a `with` block, which axis of each tensor its units are on: as the function that made them put it."""

    def __init__(self) -> None:
        super().__init__()
        self._units: dict[int, _Units] = {}
        self.stack = [""]

    def of(self, value: Any) -> tuple[int, str, str]:
        """(axis, layer, kind of place): axis 1, or -1 where it is the last of more than two; no layer if unknown."""
        found = self._units.get(id(value))
        if found is None:
            return 1, "", "activation"
        kind = "channels" if found.maker.startswith("conv") else "mlp"
        if value.ndim == 2:
            return 1, found.layer, kind
        return (-1 if found.axis == value.ndim - 1 and found.axis > 1 else found.axis), found.layer, kind

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        if name == "__iter__":  # q, k, v = packed
            return iter(self.__torch_function__(Tensor.unbind, types, args))
        result = func(*args, **kwargs)
        given = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        known = [self._units[id(v)] for v in given if id(v) in self._units]
        for k, value in enumerate(v for v in pytree.tree_leaves(result) if isinstance(v, Tensor)):
            if name in _MAKERS:
                axis, layer, maker = _MAKERS[name] % max(value.ndim, 1), self.stack[-1], name
                if name in ("matmul", "mm") and isinstance(given[0], nn.Parameter) and value.ndim > 1:
                    other = self._units.get(id(given[-1]))  # weight @ x: a unit for each of the weight's rows
                    axis -= other is None or other.axis != other.value.ndim - 1
            elif name == "layer_norm" and not known:
                axis, layer, maker = value.ndim - 1, "", name
            elif known:
                source = known[0]
                maker = source.maker
                layer = source.layer if len({u.layer for u in known}) == 1 else ""
                moved = _moved(func, name, args, kwargs, source, k, value.ndim)
                if moved is None or moved >= value.ndim:
                    continue
                axis = moved
            else:
                continue
            self._units[id(value)] = _Units(value, axis, layer, maker)
        return result


def name_of(func: Any) -> str:
    """A torch function's name; of a property such as x.T the property's."""
    name = getattr(func, "__name__", "")
    return getattr(getattr(func, "__self__", None), "__name__", "") if name == "__get__" else name


def _moved(func: Any, name: str, args: Any, kwargs: Any, source: _Units, k: int, ndim: int) -> int | None:
    """Where the units' axis goes: kept, or, for what rearranges or sums over axes, the one along which an index varies.

    Args:
        k: which of the results; ndim: how many axes it has.
    """
    shape = source.value.shape
    if name not in LAYOUT and ndim == len(shape):
        return source.axis
    index = torch.arange(float(shape[source.axis])).view([-1 if a == source.axis else 1 for a in range(len(shape))])
    index = index.expand(shape).contiguous().to(source.value.device)
    args, kwargs = pytree.tree_map(lambda v: index if v is source.value else v, (args, kwargs))
    try:
        placed = [v for v in pytree.tree_leaves(func(*args, **kwargs)) if isinstance(v, Tensor)][k]
    except (RuntimeError, TypeError, ValueError, IndexError):  # one that asks for other numbers
        return None
    varying = [a for a in range(placed.ndim) if placed.shape[a] > 1 and bool(placed.diff(dim=a).any())]
    return varying[0] if len(varying) == 1 else None
