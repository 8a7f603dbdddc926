"""Gates in a torch.fx graph: after each activation node, sized by shape propagation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from vibtheory.errors import reject
from vibtheory.networks.gates import Gate

__all__ = ["ACTIVATIONS", "insert_into_graph"]

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Hardtanh,
)
_NAMES = ["relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "tanh"]
_NAMES += ["sigmoid", "hardswish", "hardsigmoid", "hardtanh"]
_NAMES += [f"{name}_" for name in _NAMES]
_FUNCTIONS = {getattr(home, name) for home in (torch, functional) for name in _NAMES if hasattr(home, name)}
_DROPOUTS: dict[Any, type[nn.Module]] = {
    functional.dropout: nn.Dropout,
    functional.dropout1d: nn.Dropout1d,
    functional.dropout2d: nn.Dropout2d,
    functional.dropout3d: nn.Dropout3d,
    functional.alpha_dropout: nn.AlphaDropout,
}
_CHANNELS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FLATTENS = {torch.flatten, "flatten", "view", "reshape", torch.reshape}


def insert_into_graph(
    model: nn.Module,
    graph: fx.Graph,
    inputs: tuple[Any, ...],
    input_gate: bool,
    make: Callable[[torch.Size, int], Gate],
) -> tuple[fx.GraphModule, list[Gate]]:
    """The traced `model` with gates made by `make(shape, axis)`, and those gates in order.

    Raises:
        InvalidInputError: an in-place activation whose result is not used by name (its gate would have no effect).
    """
    traced = fx.GraphModule(model, graph)
    modules = dict(traced.named_modules())
    with torch.no_grad():
        ShapeProp(traced).propagate(*inputs)
    gates: list[Gate] = []

    def add(node: fx.Node, name: str, axis: int) -> None:
        unique, k = f"{name}_gate", 2
        while hasattr(traced, unique):
            unique, k = f"{name}_gate_{k}", k + 1
        gate = make(node.meta["tensor_meta"].shape, axis)
        traced.add_submodule(unique, gate)
        with traced.graph.inserting_after(node):
            gated = traced.graph.call_module(unique, (node,))
        node.replace_all_uses_with(gated, delete_user_cb=lambda user: user is not gated)
        gates.append(gate)

    for node in list(traced.graph.nodes):
        if node.op == "placeholder" and input_gate and not gates:
            only = next(iter(node.users)) if len(node.users) == 1 else node
            add(only if _flattens(only, modules) else node, "input", 1)
        elif node.op == "call_function" and node.target in _DROPOUTS:
            _dropout_module(traced, node)
        elif _is_activation(node, modules):
            if not node.users:
                remedy = "use the activation's result (x = relu(x)) instead of its side effect"
                reject("model", f"in-place activation {node.name!r} whose result is unused", "a used result", remedy)
            if all(user.op == "output" for user in node.users):
                continue
            layer, axis = _producer(node, modules)
            add(node, layer.replace(".", "_"), axis)
    traced.graph.lint()
    traced.recompile()
    return traced, gates


def _is_activation(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], ACTIVATIONS)
    return (node.op == "call_function" and node.target in _FUNCTIONS) or (
        node.op == "call_method" and node.target in _NAMES
    )


def _flattens(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.Flatten)
    return node.target in _FLATTENS


def _producer(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, int]:
    """(name of the layer whose output `node` activates, its units' axis); the node's own name after an addition."""
    source: Any = node.args[0] if node.args else None
    axis = None
    while isinstance(source, fx.Node):
        module = modules.get(str(source.target)) if source.op == "call_module" else None
        if isinstance(module, nn.Linear) or source.target is functional.linear:
            return (str(source.target) if module is not None else node.name), axis or -1
        if isinstance(module, _CHANNELS):
            return str(source.target), axis or 1
        if isinstance(module, nn.LayerNorm):
            axis = axis or -1
        several = sum(isinstance(a, fx.Node) for a in source.all_input_nodes) != 1
        if several or source.op == "placeholder":
            break
        source = source.args[0]
    return node.name, axis or _axis_behind(source, modules)


def _axis_behind(source: Any, modules: dict[str, nn.Module]) -> int:
    """Axis of the units of a sum's branches: the last one if the first layer met behind them is linear."""
    stack = [source] if isinstance(source, fx.Node) else []
    seen = set(stack)
    while stack:
        node = stack.pop(0)
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, (nn.Linear, nn.LayerNorm)):
            return -1
        if isinstance(module, _CHANNELS):
            return 1
        fresh = [n for n in node.all_input_nodes if n not in seen]
        seen.update(fresh)
        stack.extend(fresh)
    return 1


def _dropout_module(traced: fx.GraphModule, node: fx.Node) -> None:
    """Functional dropout was traced with `training` fixed; as a module it follows train() and eval()."""
    p = node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5)
    traced.add_submodule(node.name, _DROPOUTS[node.target](float(p)))  # type: ignore[arg-type]
    with traced.graph.inserting_before(node):
        module = traced.graph.call_module(node.name, (node.args[0],))
    node.replace_all_uses_with(module)
    traced.graph.erase_node(node)
