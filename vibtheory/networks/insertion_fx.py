"""Gates in a torch.fx graph: after each activation node, sized by shape propagation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from vibtheory.errors import reject
from vibtheory.networks.activations import ACTIVATION_NAMES, TORCH_ACTIVATIONS, is_activation
from vibtheory.networks.gates import GateLaw
from vibtheory.networks.sequential import free_name
from vibtheory.networks.unit_axes import UnitAxes

__all__ = ["Tracer", "insert_into_graph"]

_FUNCTIONS = {getattr(home, name) for home in (torch, functional) for name in ACTIVATION_NAMES if hasattr(home, name)}
_DROPOUTS: dict[Any, type[nn.Module]] = {
    functional.dropout: nn.Dropout,
    functional.dropout1d: nn.Dropout1d,
    functional.dropout2d: nn.Dropout2d,
    functional.dropout3d: nn.Dropout3d,
    functional.alpha_dropout: nn.AlphaDropout,
}
_CHANNELS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FLATTENS = {torch.flatten, "flatten", "view", "reshape", torch.reshape}


class Tracer(fx.Tracer):
    """Also takes modules without weights that a forward pass makes as it runs: nn.ReLU()(x)."""

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not m.state_dict() and all(m is not own for own in self.root.modules()):
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def insert_into_graph(
    model: nn.Module,
    graph: fx.Graph,
    inputs: tuple[Any, ...],
    input_axis: int | None,
    make: Callable[[torch.Size, int], GateLaw],
) -> tuple[fx.GraphModule, list[GateLaw]]:
    """The traced `model` with gates made by `make(shape, axis)`, and those gates in order.

    Raises:
        InvalidInputError: an in-place activation whose result is not used by name (its gate would have no effect).
    """
    traced = fx.GraphModule(model, graph)
    modules = dict(traced.named_modules())
    before = {name: buffer._version for name, buffer in traced.named_buffers()}
    with torch.no_grad():
        ShapeProp(traced).propagate(*inputs)
        _Axes(traced).run(*inputs)
    gates: list[GateLaw] = []

    def add(node: fx.Node, name: str, axis: int) -> None:
        unique = free_name(f"{name}_gate", partial(hasattr, traced))
        gate = make(node.meta["tensor_meta"].shape, axis)
        traced.add_submodule(unique, gate)
        with traced.graph.inserting_after(node):
            gated = traced.graph.call_module(unique, (node,))
        node.replace_all_uses_with(gated, delete_user_cb=lambda user: user is not gated)
        gates.append(gate)

    written = {name for name, buffer in traced.named_buffers() if buffer._version > before[name]}
    fed: set[fx.Node] = set()  # the model's inputs and what depends on them
    for node in traced.graph.nodes:
        if node.op == "placeholder" or node.target in written or not fed.isdisjoint(node.all_input_nodes):
            fed.add(node)
    for node in list(traced.graph.nodes):
        if node.op == "placeholder" and input_axis is not None and not gates:
            only = next(iter(node.users)) if len(node.users) == 1 else node
            flat = _flattens(only, modules)
            add(only if flat else node, "input", 1 if flat else input_axis)
        elif node.op == "call_function" and node.target in _DROPOUTS:
            _dropout_module(traced, node)
        elif _is_activation(node, modules):
            if not node.users and _in_place(node, modules):
                remedy = "use the activation's result (x = relu(x)) instead of its side effect"
                reject("model", f"in-place activation {node.name!r} whose result is unused", "a used result", remedy)
            no_examples = node.meta["axis"] == 0 or node not in fed  # a table, or what is made of weights alone
            if no_examples or all(user.op == "output" for user in node.users):
                continue
            add(node, _producer(node, modules).replace(".", "_"), node.meta["axis"])
    traced.graph.lint()
    traced.recompile()
    return traced, gates


class _Axes(fx.Interpreter):
    """Notes in each node's `meta` the axis of its units."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        self.units = UnitAxes()
        with self.units:
            return super().run(*args, **kwargs)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            n.meta["axis"] = self.units.of(result)[0]
        return result


def _is_activation(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return is_activation(modules[str(node.target)])
    return (node.op == "call_function" and node.target in _FUNCTIONS) or (
        node.op == "call_method" and node.target in ACTIVATION_NAMES
    )


def _in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Of an activation whose result is unused."""
    own = node.op == "call_module" and not isinstance(modules[str(node.target)], TORCH_ACTIVATIONS)
    asked = own or node.kwargs.get("inplace", any(given is True for given in node.args))
    name = str(getattr(node.target, "__name__", node.target))
    return bool(asked or name.endswith("_") or getattr(modules.get(name), "inplace", False))


def _flattens(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.Flatten)
    return node.target in _FLATTENS


def _producer(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """Name of the layer whose output `node` activates; the node's own name after an addition."""
    source: Any = node.args[0] if node.args else None
    while isinstance(source, fx.Node):
        module = modules.get(str(source.target)) if source.op == "call_module" else None
        if isinstance(module, (nn.Linear, *_CHANNELS)):
            return str(source.target)
        if len(source.all_input_nodes) != 1 or source.op == "placeholder" or source.target is functional.linear:
            break
        source = source.args[0]
    return node.name


def _dropout_module(traced: fx.GraphModule, node: fx.Node) -> None:
    """Functional dropout was traced with `training` fixed; as a module it follows train() and eval()."""
    p = node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5)
    name = free_name(node.name, partial(hasattr, traced))
    traced.add_submodule(name, _DROPOUTS[node.target](float(p)))  # type: ignore[arg-type]
    with traced.graph.inserting_before(node):
        module = traced.graph.call_module(name, (node.args[0],))
    node.replace_all_uses_with(module)
    traced.graph.erase_node(node)
