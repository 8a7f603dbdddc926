"""What follows a gate, as a plain list of modules, read off the traced network; certificates need to know it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from vibtheory.networks.gates import Gate

__all__ = ["Chain", "modules_after"]


@dataclass(frozen=True)
class Chain:
    """The modules between a gate and the network's output, applied one after the other.

    Attributes:
        modules: in order of application; None where the network is no such chain.
        reason: why not, in words; empty otherwise.
    """

    modules: tuple[nn.Module, ...] | None
    reason: str = ""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Gate) or super().is_leaf_module(m, module_qualified_name)


def modules_after(net: nn.Module, layer: str) -> Chain:
    """The chain after the gate `layer` of `net` (in evaluation mode), by symbolic tracing.

    Residual connections, branches and functions without a module form give `modules=None` with the reason: the kinds
    `fitted` and `tangent` need no chain.
    """
    for name, module in net.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            return Chain(None, f"module {name!r} has a forward hook or a forward pass of its own, which no trace shows")
    try:
        graph = _Tracer().trace(net)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
        return Chain(None, f"the network cannot be traced ({type(error).__name__}: {str(error)[:120]})")
    found = [n for n in graph.nodes if n.op == "call_module" and n.target == layer]
    if len(found) != 1:
        return Chain(None, f"gate {layer!r} is called {len(found)} times in one forward pass")
    node = found[0]
    modules: list[nn.Module] = []
    while True:
        users = [user for user in node.users if not _only_shape(user)]
        if len(users) != 1:
            return Chain(None, f"the result of {node.name!r} is used by {len(users)} operations (a branch)")
        user = users[0]
        if user.op == "output":
            if user.args != (node,):
                return Chain(None, "the network returns more than one tensor")
            return Chain(tuple(modules))
        module = _as_module(net, user, node)
        if module is None:
            return Chain(None, f"operation {user.name!r} ({user.op}) after the gate has no certified form")
        modules.append(module)
        node = user


def _only_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "ndim")


def _as_module(net: nn.Module, node: fx.Node, source: fx.Node) -> nn.Module | None:
    """The module form of one traced operation whose only tensor argument is `source`."""
    others = [n for n in node.all_input_nodes if n is not source and not _shape_value(n)]
    if others or not node.args or node.args[0] is not source:
        return None
    if node.op == "call_module":
        return net.get_submodule(str(node.target)) if len(node.args) == 1 and not node.kwargs else None
    if node.op not in ("call_function", "call_method"):
        return None
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    args, kwargs = node.args[1:], dict(node.kwargs)
    if name in ("view", "reshape"):
        sizes = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
        flat = len(sizes) == 2 and sizes[1] == -1 and isinstance(sizes[0], fx.Node)
        return nn.Flatten() if flat else None
    kwargs.pop("inplace", None)
    make = _FUNCTIONS.get(str(name))
    if make is None or any(isinstance(value, fx.Node) for value in (*args, *kwargs.values())):
        return None
    try:
        return make(*args, **kwargs)
    except TypeError:  # an argument that the module form does not have
        return None


def _shape_value(node: fx.Node) -> bool:
    """The node holds a size, not a tensor: x.size(0), x.shape[0]."""
    if _only_shape(node):
        return True
    return node.op == "call_function" and node.target is operator.getitem and _only_shape(node.all_input_nodes[0])


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)


def _dropout(p: float = 0.5, training: bool = True) -> nn.Module:
    if training:
        raise TypeError("dropout stays on in evaluation")
    return nn.Identity()


def _max_pool2d(kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
                return_indices: bool = False) -> nn.Module:  # fmt: skip
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


_FUNCTIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "relu_": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "flatten": _flatten,
    "dropout": _dropout,
    "contiguous": nn.Identity,
    "max_pool2d": _max_pool2d,
    "boolean_dispatch": _max_pool2d,  # the name under which torch exports functional.max_pool2d
    "avg_pool2d": nn.AvgPool2d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
}
