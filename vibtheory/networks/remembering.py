"""What a model holds beside its parameters: modes, buffers, and plain attributes that move as it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer
from torch.utils import _pytree as pytree

__all__ = ["let_graphs_go", "remembered"]

_KEPT = {"training", "_buffers"}
_OTHERS = vars(nn.Module()).keys() - _KEPT  # parameters, modules, hooks


def remembered(net: nn.Module) -> Callable[[], None]:
    """A function that puts all of that back as it is now: numbers, tensors, and lists, dicts and sets of them."""
    undo: list[Callable[[], None]] = []
    seen: dict[int, Any] = {}

    def note(value: Any) -> None:
        if id(value) in seen:
            return
        seen[id(value)] = value
        if isinstance(value, Tensor):
            learned = isinstance(value, nn.Parameter | UninitializedBuffer)
            if not (learned or value.is_meta or value.layout != torch.strided):
                undo.append(partial(_copy_back, value, value.detach().clone()))
        elif isinstance(value, dict):
            put_back(value, dict(value))
        elif isinstance(value, list | deque | set):
            undo.append(partial(_fill, value, list(value)))
            for each in value:
                note(each)
        elif isinstance(value, tuple):
            for each in value:
                note(each)

    def put_back(home: dict[Any, Any], before: dict[Any, Any]) -> None:
        undo.append(partial(_restore, home, before))
        for each in before.values():
            note(each)

    for module in net.modules():
        put_back(vars(module), {key: value for key, value in vars(module).items() if key not in _OTHERS})

    def restore() -> None:
        for each in undo:
            each()

    return restore


def let_graphs_go(net: nn.Module) -> None:
    """Tensors that modules keep from their last forward pass (an attention map, old weight norm) lose its graph."""

    def leaf(value: Tensor) -> Tensor:
        return value if value.is_leaf else value.detach()

    for module in net.modules():
        for name, value in vars(module).items():
            kept = [v for v in pytree.tree_leaves(value) if isinstance(v, Tensor)] if name not in _OTHERS else []
            if not all(v.is_leaf for v in kept):
                vars(module)[name] = pytree.tree_map_only(Tensor, leaf, value)


@torch.no_grad()
def _copy_back(value: Tensor, before: Tensor) -> None:
    if not torch.equal(value, before):
        value.copy_(before)


def _fill(value: Any, before: list[Any]) -> None:
    value.clear()
    value.extend(before) if isinstance(value, list | deque) else value.update(before)


def _restore(home: dict[Any, Any], before: dict[Any, Any]) -> None:
    for key in [key for key in home if key not in before and key not in _OTHERS]:
        del home[key]
    home.update(before)
