"""Gates by interception: the model stays the user's own; its activations and attentions are caught as they happen.

Hooks say which module is running and a `TorchFunctionMode` sees every torch function that it calls. A place is the
path of the innermost module and the ordinal of the call within it in one forward pass, so that loops, branches,
options and modules used many times stay as they are.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from vibtheory.errors import reject
from vibtheory.networks.activations import ACTIVATION_NAMES, TORCH_ACTIVATIONS, is_activation
from vibtheory.networks.attention import SplitAttention, can_be_split, split_attention
from vibtheory.networks.equivalence import device_of_inputs, opened, training_batches
from vibtheory.networks.forward import MISFIT
from vibtheory.networks.places import Place, Rule, choose
from vibtheory.networks.sequential import free_name
from vibtheory.networks.streams import random_state_kept
from vibtheory.networks.unit_axes import UnitAxes, name_of

__all__ = ["hooks_of", "intercept", "places_of"]

_PRODUCTS = frozenset({"matmul", "bmm", "einsum", "__matmul__"})
_SDPA = "scaled_dot_product_attention"


class Found(NamedTuple):
    value: Tensor  # what a gate would multiply
    axis: int
    layer: str
    kind: str


class _Recorder(UnitAxes):
    """Also notes each place where a gate can stand."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        forwards = {kind.forward for kind in TORCH_ACTIVATIONS}
        self.own = {  # activations of the user's own, behind which their gates come
            path
            for path, module in net.named_modules()
            if path and type(module).forward not in forwards and is_activation(module) and not _makes_weights(path)
        }
        self.made = {id(v): v for v in (*net.parameters(), *net.buffers())}  # weights, and what is made of them alone
        self.counts: Counter[tuple[str, str]] = Counter()
        self.places: dict[Place, Found] = {}
        self.outputs: dict[Place, Found] = {}
        self._weights: dict[int, Tensor] = {}  # attention weights, held as `_Units` are
        self.unread: dict[int, tuple[Tensor, Place]] = {}  # results of in-place activations that nothing has used yet

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.read((args, kwargs))
        result = super().__torch_function__(func, types, args, kwargs)
        self.make((args, kwargs), args[0] if result is None and args else result)  # w[0] = x gives None
        place = _next_place(self, func, result)
        given = [v for v in pytree.tree_leaves((args, kwargs)) if id(v) in self._weights]
        if isinstance(result, Tensor) and result.ndim == 4:
            same = any(v.shape == result.shape for v in given)
            if name_of(func) == "softmax" or (same and name_of(func) not in _PRODUCTS):
                self._weights[id(result)] = result
        if place is None or place.path in self.own or _makes_weights(place.path):
            return result
        if not torch.is_grad_enabled():  # inside torch.no_grad() or an autograd.Function
            return result
        if place.group == "activation":
            axis, layer, kind = self.of(result)
            if any(v is result for v in pytree.tree_leaves((args, kwargs))):  # in place
                before, result = result, result.view_as(result)  # an id of its own: does the model go on from it?
                self.unread[id(result)] = result, place
                if id(before) in self._units:
                    self._units[id(result)] = self._units[id(before)]._replace(value=result)
            self.places[place] = Found(result, axis, layer or place.path or name_of(func).rstrip("_"), kind)
            return result
        heads = 1 if place.group == "sdpa" else _heads_axis(func, args, kwargs, given[0], result) if given else None
        if heads is not None and result.ndim == 4:
            self.places[place] = Found(result, heads, place.path or "attention", "heads")
        return result

    def read(self, values: Any) -> None:
        for value in pytree.tree_leaves(values):
            self.unread.pop(id(value), None)

    def make(self, given: Any, result: Any) -> None:
        tensors = [v for v in pytree.tree_leaves(given) if isinstance(v, Tensor)]
        results = {id(v): v for v in pytree.tree_leaves(result) if isinstance(v, Tensor)}
        if tensors and all(id(v) in self.made for v in tensors):
            self.made |= results
        else:  # a buffer that the input was written into, or a part of one
            for value in results.values():
                self.made.pop(id(value), None)
                self.made.pop(id(value._base), None)

    def leaving(self, path: str, inputs: Any, output: Any) -> Any:
        if path in self.own:  # others hear more than what is passed by position
            self.make(inputs, output)
        value = next((v for v in pytree.tree_leaves(output) if isinstance(v, Tensor)), None)
        if value is not None and value.is_floating_point():
            place = _count(self, path, "output")
            axis, layer, kind = self.of(value)
            if path in self.own and value.ndim > 1 and torch.is_grad_enabled():
                if any(v is value for v in pytree.tree_leaves(inputs)):  # in place, see above
                    value = output = value.view_as(value)
                    self.unread[id(value)] = value, place
                self.places[place] = Found(value, axis, layer or path, kind)
            else:
                self.outputs[place] = Found(value, axis, path, "output")
        return output


def _makes_weights(path: str) -> bool:
    """Of a module that a parametrization of weights runs."""
    return "parametrizations" in path.split(".")


def _heads_axis(func: Any, args: Any, kwargs: Any, weights: Tensor, result: Any) -> int | None:
    """On which axis the product of attention weights [N, heads, T, S] with values has the heads; None: not seen."""
    if not isinstance(result, Tensor) or result.ndim != 4 or weights.shape[1] < 2:
        return None
    index = torch.arange(float(weights.shape[1])).view(1, -1, 1, 1).expand(weights.shape).to(weights)
    args, kwargs = pytree.tree_map(
        lambda v: index if v is weights else torch.ones_like(v) if isinstance(v, Tensor) else v, (args, kwargs or {})
    )
    placed = func(*args, **kwargs)
    varying = [a for a in range(1, 4) if placed.shape[a] > 1 and bool(placed.diff(dim=a).any())]
    return varying[0] if len(varying) == 1 else None


def _count(mode: Any, path: str, group: str) -> Place:
    place = Place(path, group, mode.counts[path, group])
    mode.counts[path, group] += 1
    return place


def _next_place(mode: Any, func: Any, result: Any) -> Place | None:
    """The place of this call, which counts it; None where no gate can stand."""
    name = getattr(func, "__name__", "")
    if not isinstance(result, Tensor) or result.ndim < 2:
        return None
    group = "activation" if name in ACTIVATION_NAMES else "sdpa" if name == _SDPA else "product"
    return _count(mode, mode.stack[-1], group) if group != "product" or name in _PRODUCTS else None


class _Gates(TorchFunctionMode):
    """Puts the gate of its place behind each call, and the sizes of a smaller model into what rearranges its units."""

    def __init__(self, net: nn.Module, hooks: Hooks) -> None:
        super().__init__()
        self.net, self.hooks = net, hooks
        self.stack = [""]
        self.counts: Counter[tuple[str, str]] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__iter__":
            return iter(self.__torch_function__(Tensor.unbind, types, args))
        call = _count(self, self.stack[-1], name) if name in _RESIZING else None
        if call in self.hooks.resized:
            args = _with_sizes(name, args, self.hooks.resized[call])
        result = func(*args, **kwargs)
        if self.hooks.observer is not None:
            self.hooks.observer(func, args, kwargs, result, call)
        place = _next_place(self, func, result)
        return result if place is None else self._gated(place, result)

    def _gated(self, place: Place, value: Tensor) -> Tensor:
        calls = self.hooks.calls.get((place.path, place.group))
        if calls is not None and place.ordinal >= calls:
            got = f"more calls that may have a gate in {place.path or 'forward'!r} than the {calls} of the example"
            reject("model", got, "each gate at its own call", "insert gates with an example that runs all of the model "
                   "(the longest sequence, every option), or put vibtheory.Gate into it by hand")  # fmt: skip
        name = self.hooks.gate_at.get(place)
        gated: Tensor = value if name is None else self.net.get_submodule(name)(value)
        return gated

    def leaving(self, path: str, _: Any, output: Any) -> Any:
        place = _count(self, path, "output")
        leaves, structure = pytree.tree_flatten(output)
        first = next((k for k, v in enumerate(leaves) if isinstance(v, Tensor)), None)
        if first is None or (place.path, place.group) not in self.hooks.calls:
            return None
        leaves[first] = self._gated(place, leaves[first])
        return pytree.tree_unflatten(leaves, structure)


_RESIZING = frozenset({"view", "reshape", "unflatten", "split"})


def _with_sizes(name: str, args: Any, sizes: dict[int, Any]) -> Any:
    """The call's arguments with the size `sizes[axis]` of those axes of the result (of a split, its list of sizes)."""
    if name == "split":
        return (args[0], next(iter(sizes.values())), *args[2:])
    first = 2 if name == "unflatten" else 1
    asked = list(args[first] if isinstance(args[first], tuple | list | torch.Size) else args[first:])
    start = args[1] % args[0].ndim if name == "unflatten" else 0
    for axis, size in sizes.items():
        asked[axis - start] = size
    return (*args[:first], tuple(asked))


class Hooks:
    """What the hooks of one model share; copied and stored with it.

    Attributes:
        gate_at: the gate of each place, by its path in the model.
        resized: which calls of view, reshape, unflatten and split name other sizes in a model whose heads were cut:
            sizes by the axis of the result (of a split, the list of them).
        observer: called with each torch function that the model calls: func, args, kwargs, result, place.
        calls: how often each kind of place with a gate, by path and group, is reached at most.
        mode: of this thread's innermost run of the model.
    """

    def __init__(self, mode: Any = None) -> None:
        self.gate_at: dict[Place, str] = {}
        self.resized: dict[Place | None, dict[int, Any]] = {}
        self.observer: Callable[..., None] | None = None
        self.calls: dict[tuple[str, str], int] = {}
        self._modes: dict[int, list[Any]] = {} if mode is None else {get_ident(): [mode]}

    @property
    def mode(self) -> Any:
        return next(reversed(self._modes.get(get_ident(), [])), None)

    def begin(self, net: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        first = self.gate_at.get(_INPUT)
        if first is not None:
            inputs = (net.get_submodule(first)(inputs[0]), *inputs[1:])
        mode = _Gates(net, self)
        mode.__enter__()  # type: ignore[no-untyped-call]
        self._modes.setdefault(get_ident(), []).append(mode)
        return inputs

    def end(self, *_: Any) -> None:
        modes = self._modes.get(get_ident(), [])
        if modes:
            modes.pop().__exit__(None, None, None)
        if not modes:
            self._modes.pop(get_ident(), None)

    def enter(self, path: str, *_: Any) -> None:
        if self.mode is not None:
            self.mode.stack.append(path)
        elif torch._C._current_graph_task_id() != -1:
            reject("model", f"activation checkpointing around {path!r}, whose second pass knows no gates",
                   "one forward pass", "turn checkpointing off in the model")  # fmt: skip
        elif _makes_weights(path):
            pass  # whoever reads such a weight runs it
        elif any(place.path in (path, "") for place in self.gate_at):
            reject("model", f"{path!r} run by itself, without the gates", "model(x), in which they work",
                   "call the model, or put vibtheory.Gate into it by hand")  # fmt: skip

    def leave(self, path: str, _: nn.Module, inputs: Any, output: Any) -> Any:
        if self.mode is None:
            return None
        self.mode.stack.pop()
        return self.mode.leaving(path, inputs, output)

    def former_names(self, _: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
        """States saved when gates were beside the activation ("act.gate", "act.activation") load into today's."""
        for place, name in self.gate_at.items():
            for old, new in ((f"{place.path}.gate.", f"{name}."), (f"{place.path}.activation.", f"{place.path}.")):
                for key in [key for key in state if key.startswith(prefix + old)]:
                    state[prefix + new + key.removeprefix(prefix + old)] = state.pop(key)


_INPUT = Place("", "input")


def hooks_of(net: nn.Module) -> Hooks | None:
    """The hooks of an intercepted model."""
    owners = (getattr(hook, "__self__", None) for hook in net._forward_pre_hooks.values())
    return next((owner for owner in owners if isinstance(owner, Hooks)), None)


def _watch(net: nn.Module, hooks: Hooks) -> None:
    """`hooks` learn which module of `net` is running."""
    for path, module in net.named_modules():
        if path:
            module.register_forward_pre_hook(partial(hooks.enter, path), prepend=True)
            module.register_forward_hook(partial(hooks.leave, path), always_call=True)


def _record(net: nn.Module, inputs: tuple[Any, ...]) -> tuple[_Recorder, set[int]]:
    """What one forward pass of `net` shows of its places, and the ids of its outputs."""
    recorder = _Recorder(net)
    _watch(net, Hooks(recorder))
    with torch.enable_grad(), random_state_kept(device_of_inputs(inputs)), recorder:
        outputs = pytree.tree_leaves(opened(net(*inputs)))
    recorder.read(outputs)
    return recorder, {id(value) for value in outputs}


def places_of(
    net: nn.Module, inputs: tuple[Any, ...], rules: list[Rule]
) -> tuple[dict[Place, Found], dict[Place, Rule]]:
    """The places in `net` that `rules` take, but not outputs of `net` that are activations; and the rule of each.

    Raises:
        InvalidInputError: a rule takes nothing, or an in-place activation whose result is not used by name (its gate
            would have no effect).
    """
    recorder, outputs = _record(copy.deepcopy(net), inputs)
    seen = {place: found for place, found in recorder.places.items() if id(found.value) not in outputs}
    chosen = choose(rules, {place: (found.kind, found.layer) for place, found in seen.items()}, recorder.outputs)
    made = recorder.made  # no axis of examples, nor have tables of positions
    tables = {place for place, found in seen.items() if found.axis == 0 or id(found.value) in made}
    chosen = {place: rule for place, rule in chosen.items() if place not in tables or rule.kind != "activation"}
    for _, place in recorder.unread.values():
        if place in chosen:
            reject("model", f"an in-place activation after {seen[place].layer!r} whose result is unused",
                   "a used result", "use the activation's result (x = relu(x)) instead of its side effect")  # fmt: skip
    return {place: found for place, found in (seen | recorder.outputs).items() if place in chosen}, chosen


def intercept(
    net: nn.Module, inputs: tuple[Any, ...], input_axis: int | None, make: Callable[..., nn.Module], rules: list[Rule]
) -> list[Any]:
    """Gates made by `make(shape, axis, options)` in `net` (in place), "<layer>_gate" at its top; all, in order.

    An activation that is itself an output of `net`, on `inputs` in evaluation mode, gets none. The gate of an
    `nn.MultiheadAttention` is its own child `gate`; in a Sequential gates are children of the module that they follow.

    Raises:
        InvalidInputError: in training mode another layer's activation comes at the place of one of them, or a rule
            takes nothing.
    """
    for path, module in net.named_modules():
        if can_be_split(module) and any(rule.takes(path, "heads") for rule in rules):
            split_attention(module)
    seen, chosen = places_of(net, inputs, rules)
    counts = _record(copy.deepcopy(net), inputs)[0].counts
    for batch in training_batches(inputs):
        try:
            trained, _ = _record(copy.deepcopy(net).train(), batch)
        except MISFIT:
            continue
        for place, (value, axis, layer, _) in seen.items():
            other = (trained.places | trained.outputs).get(place)
            if other is None or other.layer != layer or other.value.shape[axis] != value.shape[axis]:
                what = f"in which training has something else in place of {layer!r}'s activation"
                reject("model", f"{type(net).__name__}, {what}", "the same activations in both modes",
                       "put vibtheory.Gate into the model by hand")  # fmt: skip
        counts |= trained.counts  # the larger ones
        break
    hooks = Hooks()
    _watch(net, hooks)
    if input_axis is not None:
        seen = {_INPUT: Found(inputs[0], input_axis, "input", "input")} | seen
        chosen[_INPUT] = Rule()
    gates = []
    for place, (value, axis, layer, _) in seen.items():
        home = net.get_submodule(place.path)
        own = isinstance(home, SplitAttention) and place.group != "output"
        if own and home.gate is not None:
            continue  # called once more: its heads have one gate
        gates.append(make(value.shape, axis, chosen[place].options))
        if own:
            home.gate = gates[-1]
            continue
        path, home, name = "", net, f"{layer.replace('.', '_')}_gate"
        while isinstance(home, nn.Sequential):  # its forward would call the gate as one more layer
            child = place.path[len(path) :].partition(".")[0] or next(iter(home._modules))
            path, home, name = f"{path}{child}.", home.get_submodule(child), "gate"
        name = free_name(name, partial(hasattr, home))
        home.add_module(name, gates[-1])
        hooks.gate_at[place] = path + name
        hooks.calls[place.path, place.group] = counts[place.path, place.group]
    net.register_forward_pre_hook(hooks.begin, prepend=True)
    net.register_forward_hook(hooks.end, always_call=True)
    net.register_load_state_dict_pre_hook(hooks.former_names)  # type: ignore[no-untyped-call]
    return gates
