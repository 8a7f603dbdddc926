"""What a forward pass takes beside its tensors: options, which a trace or a cut model holds at the example's."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from vibtheory.errors import reject, shown

__all__ = ["SameOptions", "takes_options"]

_PLAIN = (int, float, str, Enum, type(None), torch.dtype)


def takes_options(net: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Whether `forward` may be given more, fewer or other things than as many tensors as `inputs`."""
    try:
        parameters = inspect.signature(net.forward).parameters.values()
    except ValueError:
        return True
    required = [
        p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return len(required) < len(parameters) or not all(isinstance(v, Tensor) for v in pytree.tree_leaves(inputs))


class SameOptions:
    """A hook before `forward` that refuses other options than those of an example: a branch may depend on them."""

    def __init__(self, net: nn.Module, example: tuple[Any, ...]) -> None:
        self.wanted = _arguments(net, example, {})

    def __call__(self, net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            given = _arguments(net, args, kwargs)
        except TypeError:  # `forward` says so itself
            return
        for name, value in self.wanted.items():
            if given.get(name) != value:
                got, wanted = ("a tensor" if v is Tensor else shown(v) for v in (given.get(name), value))
                reject(name, got, f"{wanted}, as in the example that the model was compressed with",
                       "compress once more, with these inputs as example_input")  # fmt: skip


def _arguments(net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of net(*args, **kwargs) by name; tensors and objects of a kind look alike."""
    bound = inspect.signature(net.forward).bind(*args, **kwargs)
    bound.apply_defaults()

    def alike(value: Any) -> Any:
        return value if isinstance(value, _PLAIN) else Tensor if isinstance(value, Tensor) else type(value)

    found: dict[str, Any] = pytree.tree_map(alike, dict(bound.arguments))
    return found
