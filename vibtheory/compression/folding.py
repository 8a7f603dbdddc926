"""Multiply the gates that stay into the layers beside them where that is exact, and leave a `FixedScale` where not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from vibtheory.compression.fixed_modules import Expand, FixedScale, Select
from vibtheory.compression.following import CONVOLUTIONS
from vibtheory.errors import reject
from vibtheory.networks.forward import MISFIT
from vibtheory.networks.insertion_fx import Tracer

__all__ = ["fold_scales"]

_BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_scales(net: nn.Module, example: tuple[Any, ...]) -> nn.Module:
    """Multiply each FixedScale into the layers that listen to it, or into the layer before it, where that is exact.

    Returns `net` itself where torch.fx cannot trace it, or would not see its hooks: the scales stay modules.

    Raises:
        InvalidInputError: it calls a module that is not one of its own, such as that of the net it was copied from.
    """
    if net._forward_pre_hooks:
        return net
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    try:
        traced = fx.GraphModule(net, _ScaleTracer().trace(net))
        with torch.no_grad():
            ShapeProp(traced).propagate(*example)
    except NameError as error:  # torch's word for it; a copy would go on with the other net's weights
        got = f"{type(net).__name__}, whose forward pass calls a module that it does not hold ({error})"
        reject("net", got, "a model of its own modules",
               "put a function on an object by types.MethodType, which copies follow")  # fmt: skip
    except MISFIT:
        return net
    for name, buffer in traced.named_buffers():  # the run may have moved what it records
        if name in before:  # a trace makes buffers of a module's other tensors
            buffer.copy_(before[name])
    modules = dict(traced.named_modules())
    shared = _shared_parameters(net)
    uses = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    whole = {
        name
        for name, module in modules.items()
        if uses[name] == 1 and not any(id(p) in shared for p in module.parameters(recurse=False))
    }
    for node in list(traced.graph.nodes):
        scale = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(scale, FixedScale) or uses[node.target] > 1 or _ndim(node) is None:
            continue
        if _fold_forward(node, scale, modules, whole) or _fold_back(node, scale, modules, whole):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    traced.graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


class _ScaleTracer(Tracer):
    """Keeps what compression left behind one node each."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FixedScale | Select | Expand) or super().is_leaf_module(m, module_qualified_name)


def _shared_parameters(net: nn.Module) -> set[int]:
    """Ids of the parameters that more than one module holds (tied weights)."""
    homes = Counter(id(p) for module in net.modules() for p in module._parameters.values() if p is not None)
    return {key for key, count in homes.items() if count > 1}


def _ndim(node: Any) -> int | None:
    """Axes of the tensor that a node returns."""
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return len(meta.shape) if meta is not None and hasattr(meta, "shape") else None


def _units_axis(module: nn.Module | None, ndim: int) -> int | None:
    """Which axis of its `ndim`-axis input and output the weights of a module mean; None: it has none that we know."""
    if isinstance(module, nn.Linear):
        return ndim - 1
    if isinstance(module, CONVOLUTIONS):
        return ndim - 1 - len(module.kernel_size) if module.groups == 1 else None
    return 1 if isinstance(module, _BATCHNORMS) else None


def _fold_forward(node: fx.Node, scale: FixedScale, modules: dict[str, nn.Module], whole: set[str]) -> bool:
    listeners: list[tuple[Any, Tensor]] = []
    ndim = _ndim(node)
    assert ndim is not None
    for user in node.users:
        module, source, factor = modules.get(str(user.target)) if user.op == "call_module" else None, node, scale.weight
        if isinstance(module, Select) and module.axis % ndim == scale.axis % ndim and len(user.users) == 1:
            source, factor = user, factor[module.index]
            user = next(iter(user.users))
            module = modules.get(str(user.target)) if user.op == "call_module" else None
        if isinstance(module, _BATCHNORMS) or _units_axis(module, ndim) != scale.axis % ndim:
            return False
        if str(user.target) not in whole or user.args != (source,):
            return False
        listeners.append((module, factor))
    for module, factor in listeners:
        _multiply(module.weight, factor, 1)
    return bool(listeners)


def _fold_back(node: fx.Node, scale: FixedScale, modules: dict[str, nn.Module], whole: set[str]) -> bool:
    """Through a ReLU (scales >= 0 only) into the affine BatchNorm, convolution or linear layer before it."""
    source = node.args[0]
    ndim = _ndim(node)
    assert ndim is not None
    while isinstance(source, fx.Node) and len(source.users) == 1:
        module = modules.get(str(source.target)) if source.op == "call_module" else None
        if _is_relu(source, module):
            if not bool((scale.weight >= 0).all()):
                return False
            source = source.args[0]
            continue
        weight = getattr(module, "weight", None)  # an activation has none
        if module is None or str(source.target) not in whole or _ndim(source) != ndim or weight is None:
            return False
        if _units_axis(module, ndim) != scale.axis % ndim:
            return False
        _multiply(weight, scale.weight, 0)
        if module.bias is not None:
            _multiply(module.bias, scale.weight, 0)  # type: ignore[arg-type]
        return True
    return False


def _is_relu(node: fx.Node, module: nn.Module | None) -> bool:
    functions = (torch.relu, nn.functional.relu, nn.functional.leaky_relu)
    return (
        isinstance(module, nn.ReLU | nn.LeakyReLU)
        or (node.op == "call_function" and node.target in functions)
        or (node.op == "call_method" and node.target == "relu")
    )


def _multiply(parameter: nn.Parameter, scale: Tensor, axis: int) -> None:
    shape = [1] * parameter.ndim
    shape[axis] = -1
    with torch.no_grad():
        parameter.copy_((parameter.double() * scale.double().view(shape)).to(parameter.dtype))
