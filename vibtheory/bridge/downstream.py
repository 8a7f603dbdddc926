"""What follows a gate, read off the traced network: a plain list of modules, or its graph."""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from vibtheory.networks.forward import MISFIT, as_indices
from vibtheory.networks.gates import Gate
from vibtheory.networks.insertion_fx import Tracer

__all__ = ["Downstream", "as_module", "modules_after", "name_of", "reached", "shape_value", "traced"]


class Downstream(NamedTuple):
    """What is between a gate and the network's output.

    Attributes:
        modules: applied one after the other; None where the network is no such chain.
        reason: why not, in words; empty otherwise.
        graph: the traced network, with `gate` its node of the gate; None where there is no trace or no such node.
    """

    modules: tuple[nn.Module, ...] | None
    reason: str = ""
    graph: fx.GraphModule | None = None
    gate: fx.Node | None = None

    def resume(self, x: Tensor) -> tuple[Tensor, dict[fx.Node, Any]]:
        """What enters the gate on inputs x [n, ...], and the results before it, for `finish`."""
        assert self.graph is not None
        assert self.gate is not None
        run = fx.Interpreter(self.graph, garbage_collect_values=False)
        after = reached(self.graph.graph, [self.gate, *self.graph.graph.find_nodes(op="output")])
        run.env, run.args_iter = {}, iter((x,))
        for node in self.graph.graph.nodes:
            if node not in after:
                run.env[node] = run.run_node(node)
        f = run.env[self.gate.all_input_nodes[0]]
        return f, {node: value if after.keys() & node.users.keys() else None for node, value in run.env.items()}

    def finish(self, before: dict[fx.Node, Any], gated: Tensor) -> Any:
        """The network's output where the gate gives `gated` [n, d, ...]."""
        assert self.graph is not None
        assert self.gate is not None
        return fx.Interpreter(self.graph).run(initial_env={**before, self.gate: gated})

    def results(self, known: dict[fx.Node, Any], z: Tensor, axis: int = 1) -> dict[fx.Node, Any]:
        """The results of all operations with the gates at z [d], from those `known` at other ones."""
        assert self.graph is not None
        assert self.gate is not None
        f = known[self.gate.all_input_nodes[0]]
        shape = [1] * f.ndim
        shape[axis] = len(z)
        after = reached(self.graph.graph, [self.gate])
        run = fx.Interpreter(self.graph, garbage_collect_values=False)
        with torch.no_grad():
            before = {node: value for node, value in known.items() if node not in after}
            run.run(initial_env={**before, self.gate: (f * z.reshape(shape)).to(f.dtype)})
        return run.env


def reached(graph: fx.Graph, starts: Iterable[fx.Node]) -> dict[fx.Node, int]:
    """`starts` and what depends on them, in the order of the graph, numbered."""
    found = dict.fromkeys(starts, 0)
    for node in graph.nodes:  # in an order in which a node follows what it uses
        if found.keys() & set(node.all_input_nodes):
            found[node] = len(found)
    return found


class _Tracer(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Gate) or super().is_leaf_module(m, module_qualified_name)


def traced(net: nn.Module) -> fx.GraphModule | str:
    """`net` (in evaluation mode) by symbolic tracing, options at their defaults; or why there is no trace.

    Operations that would write into their argument do not, so that results can be used again.
    """
    for name, module in net.named_modules():
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        if any(hook is not as_indices for hook in hooks) or "forward" in vars(module):
            return f"module {name!r} has a forward hook or a forward pass of its own, which no trace shows"
    options = inspect.signature(net.forward).parameters.values()
    try:
        graph = _Tracer().trace(net, {p.name: p.default for p in options if p.default is not p.empty} or None)
    except MISFIT as error:
        return f"the network cannot be traced ({type(error).__name__}: {str(error)[:120]})"
    for node in graph.nodes:
        name = name_of(node)
        if node.target in (operator.iadd, operator.isub, operator.imul, operator.itruediv):
            node.target = getattr(operator, name[1:])
        elif node.op != "call_module" and name.endswith("_") and hasattr(torch.Tensor, name[:-1]):
            node.target = name[:-1] if node.op == "call_method" else getattr(torch, name[:-1])
        if node.kwargs.get("inplace"):
            node.update_kwarg("inplace", False)
    found = fx.GraphModule(net, graph)
    for name, module in list(found.named_modules()):
        if getattr(module, "inplace", False):
            module = copy.copy(module)
            module.inplace = False
            found.set_submodule(name, module)
    return found


def modules_after(net: nn.Module, layer: str, trace: fx.GraphModule | str) -> Downstream:
    """The chain after the gate `layer` of `net` in its trace (of `traced`).

    Residual connections, branches and functions without a module form give `modules=None` with the reason, and the
    graph.
    """
    if isinstance(trace, str):
        return Downstream(None, trace)
    found = [n for n in trace.graph.nodes if n.op == "call_module" and n.target == layer]
    if len(found) != 1:
        return Downstream(None, f"gate {layer!r} is called {len(found)} times in one forward pass")
    modules = _chain(net, found[0])
    return Downstream(None, modules, trace, found[0]) if isinstance(modules, str) else Downstream(tuple(modules))


def _chain(net: nn.Module, node: fx.Node) -> list[nn.Module] | str:
    """The modules that follow `node` one after the other, or why there is no such list."""
    modules: list[nn.Module] = []
    while True:
        users = [user for user in node.users if not _only_shape(user)]
        if len(users) != 1:
            return f"the result of {node.name!r} is used by {len(users)} operations (a branch)"
        user = users[0]
        if user.op == "output":
            return modules if user.args == (node,) else "the network returns more than one tensor"
        module = as_module(net, user, node)
        if module is None:
            return f"operation {user.name!r} ({user.op}) after the gate has no certified form"
        modules.append(module)
        node = user


def name_of(node: fx.Node) -> str:
    """What an operation is called: a method's or a function's name, without a module of it."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _only_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "ndim")


def as_module(net: nn.Module, node: fx.Node, source: fx.Node) -> nn.Module | None:
    """The module form of one traced operation whose only tensor argument is `source`."""
    others = [n for n in node.all_input_nodes if n is not source and not shape_value(n)]
    if others or not node.args or node.args[0] is not source:
        return None
    if node.op == "call_module":
        return net.get_submodule(str(node.target)) if len(node.args) == 1 and not node.kwargs else None
    if node.op not in ("call_function", "call_method"):
        return None
    name = name_of(node)
    args, kwargs = node.args[1:], dict(node.kwargs)
    if name in ("view", "reshape"):
        sizes = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
        flat = len(sizes) == 2 and sizes[1] == -1 and isinstance(sizes[0], fx.Node)
        return nn.Flatten() if flat else None
    kwargs.pop("inplace", None)
    make = _FUNCTIONS.get(name)
    if make is None or any(isinstance(value, fx.Node) for value in (*args, *kwargs.values())):
        return None
    try:
        return make(*args, **kwargs)
    except (TypeError, AssertionError):  # an argument, or limits, that the module form does not have
        return None


def shape_value(node: fx.Node) -> bool:
    """The node holds a size, not a tensor: x.size(0), x.shape[0], or Python's arithmetic on them."""
    if _only_shape(node):
        return True
    plain = node.op == "call_function" and getattr(node.target, "__module__", "") == operator.floordiv.__module__
    return plain and bool(node.all_input_nodes) and all(map(shape_value, node.all_input_nodes))


def _dropout(p: float = 0.5, training: bool = True) -> nn.Module:
    if training:
        raise TypeError("dropout stays on in evaluation")
    return nn.Identity()


def _max_pool2d(kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
                return_indices: bool = False) -> nn.Module:  # fmt: skip
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


_FUNCTIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "softsign": nn.Softsign,
    "logsigmoid": nn.LogSigmoid,
    "flatten": lambda start_dim=0, end_dim=-1: nn.Flatten(start_dim, end_dim),
    "dropout": _dropout,
    "contiguous": nn.Identity,
    "max_pool2d": _max_pool2d,
    "boolean_dispatch": _max_pool2d,  # the name under which torch exports functional.max_pool2d
    "avg_pool2d": nn.AvgPool2d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
}
