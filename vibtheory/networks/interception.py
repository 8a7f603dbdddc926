"""Gates by interception: the model stays the user's own; its calls of activation functions are caught as they happen.

Hooks say which module is running and a `TorchFunctionMode` sees every torch function that it calls. A place is the
path of the innermost module and the ordinal of the activation within it in one forward pass, so that loops, branches,
options and modules used many times stay as they are.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from vibtheory.errors import reject
from vibtheory.networks.equivalence import training_batches

__all__ = ["ACTIVATION_NAMES", "UnitAxes", "intercept"]

_NAMES = ["relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "tanh"]
_NAMES += ["sigmoid", "hardswish", "hardsigmoid", "hardtanh"]
ACTIVATION_NAMES = frozenset([*_NAMES, *(f"{name}_" for name in _NAMES)])
# Functions that make units, and the axis they make them on; what follows moves or keeps it.
_LAST = ["linear", "embedding", "matmul", "bmm", "mm", "addmm", "einsum", "lstm", "gru", "rnn_tanh", "rnn_relu"]
_LAST += ["scaled_dot_product_attention", "multi_head_attention_forward"]
_MAKERS = dict.fromkeys(_LAST, -1) | {f"conv{kind}{d}d": 1 for kind in ("", "_transpose") for d in (1, 2, 3)}
_LAYOUT = frozenset({
    "transpose", "permute", "movedim", "swapaxes", "t", "flatten", "unflatten", "view", "reshape", "squeeze",
    "unsqueeze", "contiguous", "select", "chunk", "split", "unbind", "expand", "__getitem__", "adjoint", "T", "mT",
})  # fmt: skip


class _Units(NamedTuple):
    value: Tensor  # held, so that its id stays its own
    axis: int
    layer: str  # whose units they are; empty where several layers are summed


class UnitAxes(TorchFunctionMode):
    """Inside a `with` block, which axis of each tensor its units are on: as the function that made them put it."""

    def __init__(self) -> None:
        super().__init__()
        self._units: dict[int, _Units] = {}
        self.stack = [""]

    def of(self, value: Any) -> tuple[int, str]:
        """(axis, name of the layer, empty if unknown): axis 1, or -1 where it is the last of more than two."""
        found = self._units.get(id(value))
        if found is None or value.ndim == 2:
            return 1, "" if found is None else found.layer
        return (-1 if found.axis == value.ndim - 1 and found.axis > 1 else found.axis), found.layer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "__get__":  # a property such as x.T
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        given = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        known = [self._units[id(v)] for v in given if id(v) in self._units]
        for k, value in enumerate(v for v in pytree.tree_leaves(result) if isinstance(v, Tensor)):
            if name in _MAKERS:
                axis, layer = _MAKERS[name] % max(value.ndim, 1), self.stack[-1]
            elif name == "layer_norm" and not known:
                axis, layer = value.ndim - 1, ""
            elif known:
                source = known[0]
                layer = source.layer if len({u.layer for u in known}) == 1 else ""
                moved = _moved(func, name, args, kwargs, source, k)
                if moved is None or moved >= value.ndim:
                    continue
                axis = moved
            else:
                continue
            self._units[id(value)] = _Units(value, axis, layer)
        return result


def _moved(func: Any, name: str, args: Any, kwargs: Any, source: _Units, k: int) -> int | None:
    """Where the units' axis goes: kept, or, for what rearranges, the one axis along which an index still varies."""
    if name not in _LAYOUT:
        return source.axis
    shape = source.value.shape
    index = torch.arange(shape[source.axis]).view([-1 if a == source.axis else 1 for a in range(len(shape))])
    index = index.expand(shape).contiguous().to(source.value.device)
    args, kwargs = pytree.tree_map(lambda v: index if v is source.value else v, (args, kwargs))
    placed = [v for v in pytree.tree_leaves(func(*args, **kwargs)) if isinstance(v, Tensor)][k]
    varying = [a for a in range(placed.ndim) if placed.shape[a] > 1 and bool(placed.diff(dim=a).any())]
    return varying[0] if len(varying) == 1 else None


class _Recorder(UnitAxes):
    """Also notes each activation's place, its result, and the layer it activates."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.places: dict[tuple[str, int], tuple[Tensor, int, str]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        name = getattr(func, "__name__", "")
        if name in ACTIVATION_NAMES and isinstance(result, Tensor) and result.ndim > 1:
            path = self.stack[-1]
            axis, layer = self.of(result)
            self.places[path, self.counts[path]] = (result, axis, layer or path or name.rstrip("_"))
            self.counts[path] += 1
        return result


class _Gates(TorchFunctionMode):
    """Puts the gate of its place behind each activation."""

    def __init__(self, net: nn.Module, gate_at: dict[tuple[str, int], str]) -> None:
        super().__init__()
        self.net, self.gate_at = net, gate_at
        self.stack = [""]
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") not in ACTIVATION_NAMES or not isinstance(result, Tensor) or result.ndim < 2:
            return result
        path = self.stack[-1]
        name = self.gate_at.get((path, self.counts[path]))
        self.counts[path] += 1
        return result if name is None else self.net.get_submodule(name)(result)


class _Hooks:
    """What the hooks of one model share; copied and stored with it."""

    def __init__(self, mode: Any = None) -> None:
        self.gate_at: dict[tuple[str, int], str] = {}
        self.mode = mode  # while the model runs

    def begin(self, net: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        first = self.gate_at.get(_INPUT)
        if first is not None:
            inputs = (net.get_submodule(first)(inputs[0]), *inputs[1:])
        self.mode = _Gates(net, self.gate_at)
        self.mode.__enter__()
        return inputs

    def end(self, *_: Any) -> None:
        if self.mode is not None:
            self.mode.__exit__(None, None, None)
            self.mode = None

    def enter(self, path: str, *_: Any) -> None:
        if self.mode is not None:
            self.mode.stack.append(path)

    def leave(self, *_: Any) -> None:
        if self.mode is not None:
            self.mode.stack.pop()


_INPUT = ("", -1)


def _watch(net: nn.Module, hooks: _Hooks) -> None:
    """`hooks` learn which module of `net` is running."""
    for path, module in net.named_modules():
        if path:
            module.register_forward_pre_hook(partial(hooks.enter, path), prepend=True)
            module.register_forward_hook(hooks.leave, always_call=True)


def _record(net: nn.Module, inputs: tuple[Any, ...]) -> tuple[dict[tuple[str, int], tuple[Tensor, int, str]], set[int]]:
    """Each activation of one forward pass by its place: result, axis, layer; and the ids of the outputs."""
    recorder = _Recorder()
    _watch(net, _Hooks(recorder))
    with torch.no_grad(), torch.random.fork_rng(devices=[]), recorder:
        outputs = {id(value) for value in pytree.tree_leaves(net(*inputs))}
    return recorder.places, outputs


def intercept(net: nn.Module, inputs: tuple[Any, ...], input_gate: bool, make: Callable[..., nn.Module]) -> list[Any]:
    """Gates made by `make(shape, axis)` in `net` (in place), "<layer>_gate" at its top; all of them, in order.

    An activation that is itself an output of `net`, on `inputs` in evaluation mode, gets none.

    Raises:
        InvalidInputError: in training mode another layer's activation comes at the place of one of them.
    """
    found, outputs = _record(copy.deepcopy(net), inputs)
    places = [(place, *one) for place, one in found.items() if id(one[0]) not in outputs]
    for batch in training_batches(inputs):
        try:
            trained, _ = _record(copy.deepcopy(net).train(), batch)
        except (RuntimeError, TypeError, ValueError, IndexError):
            continue
        for place, value, axis, layer in places:
            other, _, their = trained.get(place, (None, 0, ""))
            if their != layer or other is None or other.shape[axis] != value.shape[axis]:
                what = f"in which training has something else in place of {layer!r}'s activation"
                reject("model", f"{type(net).__name__}, {what}", "the same activations in both modes",
                       "put vibtheory.Gate into the model by hand")  # fmt: skip
        break
    hooks = _Hooks()
    _watch(net, hooks)
    if input_gate:
        places.insert(0, (_INPUT, inputs[0], 1, "input"))
    gates = []
    for place, value, axis, layer in places:
        name, k = f"{layer.replace('.', '_')}_gate", 2
        while hasattr(net, name):
            name, k = f"{layer.replace('.', '_')}_gate_{k}", k + 1
        gates.append(make(value.shape, axis))
        net.add_module(name, gates[-1])
        hooks.gate_at[place] = name
    net.register_forward_pre_hook(hooks.begin, prepend=True)
    net.register_forward_hook(hooks.end, always_call=True)
    return gates
