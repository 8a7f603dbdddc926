"""Cut closed channels out of an arbitrary graph (residual nets) with torch-pruning's dependency groups.

A channel coupled by residual additions leaves only if every layer that listens to it hears an exact 0 because of closed
gates (`zeros.silent_inputs`). Gates that stay are multiplied into a neighbour where that is exact, and left as a
`FixedScale` where it is not. What an axis means comes from the operation and the traced shapes.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.utils import _pytree as pytree

from vibtheory.compression.chain import check_not_vanished
from vibtheory.compression.fixed_modules import FixedScale
from vibtheory.compression.heads import cut_heads
from vibtheory.compression.zeros import silent_inputs
from vibtheory.errors import reject
from vibtheory.networks.equivalence import deviation
from vibtheory.networks.gates import named_gates

__all__ = ["compress_graph"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# What torch-pruning raises where it does not follow a graph.
_MISREAD = (IndexError, KeyError, RuntimeError, AttributeError, TypeError, ValueError, AssertionError,
            ZeroDivisionError)  # fmt: skip


def compress_graph(net: nn.Module, inputs: list[tuple[Any, ...]], tolerance: float) -> nn.Module:
    """`net` without gates, with the outputs of its `eval()`; closed channels cut where all their couplings are closed.

    Where torch-pruning misreads a coupling, so that the outputs move, the layers are cut one by one and those that move
    them are left whole. Scales that cannot be folded exactly stay modules.

    Args:
        net: a gated model, for example from `vibtheory.insert_gates`; unchanged.
        inputs: tuples of positional inputs, on which outputs are compared; the first one's shapes are traced.
        tolerance: largest deviation of outputs, relative to their size.

    Raises:
        InvalidInputError: a layer would vanish, two runs of the gated net already differ, or see `cut_heads`.
    """
    check_not_vanished(net, {name: gate.keep for name, gate in named_gates(net).items()})
    reference = copy.deepcopy(net).eval()
    for name, gate in named_gates(reference).items():
        _replace(reference, name, FixedScale(gate.mean().detach().clone(), gate.axis))

    def same(small: nn.Module) -> bool:
        try:
            return deviation(reference, small, inputs) <= tolerance
        except (RuntimeError, IndexError, ValueError):  # shapes that no longer meet
            return False

    if not same(copy.deepcopy(reference)):
        reject("net", f"{type(net).__name__}, whose outputs differ between two runs in eval()", "a deterministic model",
               "take the noise of its own out of eval()")  # fmt: skip
    whole = cut_heads(reference, inputs, tolerance)
    small, roots = _cut(whole, inputs[0])
    if not same(small):
        sound: list[str] = []
        for root in roots:
            if same(_cut(whole, inputs[0], [*sound, root])[0]):
                sound.append(root)
        small, _ = _cut(whole, inputs[0], sound)
    folded = _fold_scales(copy.deepcopy(small), inputs[0])
    return folded if same(folded) else small


def _replace(net: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(net.get_submodule(parent), name, module)


# ---- which channels may leave ----------------------------------------------------------------------------------------


def _cut(net: nn.Module, example: tuple[Any, ...], only: Sequence[str] | None = None) -> tuple[nn.Module, list[str]]:
    """A copy of `net` without its closed channels, and the layers whose outputs were cut; `only`: no other layers."""
    import torch_pruning as tp

    class ScalePruner(tp.BasePruningFunc):  # type: ignore[misc]
        """Teaches torch-pruning to cut a FixedScale."""

        def prune_out_channels(self, layer: FixedScale, idxs: list[int]) -> nn.Module:
            keep = torch.ones(len(layer.weight), dtype=torch.bool)
            keep[idxs] = False
            layer.weight = layer.weight[keep]
            return layer

        prune_in_channels = prune_out_channels

        def get_out_channels(self, layer: FixedScale) -> int:
            return len(layer.weight)

        get_in_channels = get_out_channels

    net = copy.deepcopy(net)
    silent = silent_inputs(net, example)
    graph = tp.DependencyGraph()
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch-pruning warns about parameters that no group will touch
            inputs = pytree.tree_map(lambda v: v.clone().requires_grad_() if _is_real(v) else v, example)
            graph.build_dependency(net, inputs, customized_pruners={FixedScale: ScalePruner()}, verbose=False,
                                   output_transform=_tensors)  # fmt: skip
    except _MISREAD:
        return net, []
    shared = _shared_parameters(net)
    layers = [m for m in net.modules() if isinstance(m, (*_CONVOLUTIONS, nn.Linear)) and m in graph.module2node]
    index = {module: name for name, module in net.named_modules()}
    done: set[tuple[str, int]] = set()
    cuts: list[tuple[nn.Module, Callable[..., Any], list[int]]] = []
    for layer in layers:
        prune = tp.prune_linear_out_channels if isinstance(layer, nn.Linear) else tp.prune_conv_out_channels
        if (isinstance(layer, _CONVOLUTIONS) and layer.groups > 1) or (only is not None and index[layer] not in only):
            continue
        legal = []
        for channel in range(layer.weight.shape[0]):
            if (index[layer], channel) in done:
                continue
            try:
                group = graph.get_pruning_group(layer, prune, [channel])
                leaves = _may_leave(graph, group, silent, index, shared)
            except _MISREAD:
                break
            if leaves:
                legal.append(channel)
                outputs = [(d, i) for d, i in group if graph.is_out_channel_pruning_fn(d.handler)]
                done.update((index[d.target.module], k) for d, i in outputs if d.target.module in index for k in i)
        if legal:
            cuts.append((layer, prune, legal))
    for root, prune_root, channels in cuts:
        graph.get_pruning_group(root, prune_root, channels).prune()
    return net, [index[root] for root, _, _ in cuts]


def _shared_parameters(net: nn.Module) -> set[int]:
    """Ids of the parameters that more than one module holds (tied weights)."""
    homes = Counter(id(p) for module in net.modules() for p in module._parameters.values() if p is not None)
    return {key for key, count in homes.items() if count > 1}


def _may_leave(
    graph: Any, group: Any, silent: dict[str, Tensor], names: dict[nn.Module, str], shared: set[int]
) -> bool:
    """Every listener in `group` hears 0, the output does not depend on it, and every member is understood."""
    listeners = 0
    for dep, idxs in group:
        module = dep.target.module
        if not dep.target.outputs and (module not in names or not graph.is_in_channel_pruning_fn(dep.handler)):
            return False  # the channel reaches the model's output
        if isinstance(module, nn.Parameter):
            return False
        if any(id(p) in shared for p in module.parameters(recurse=False)):
            return False
        if module not in names:
            continue  # element-wise operations, flatten, cat: torch-pruning's own nodes
        if isinstance(module, (FixedScale, *_BATCHNORMS)):
            continue
        if not isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
            return False
        if isinstance(module, _CONVOLUTIONS) and module.groups > 1:
            return False
        if graph.is_out_channel_pruning_fn(dep.handler):
            continue
        heard = silent.get(names[module])
        if heard is None or max(idxs) >= len(heard) or not bool(heard[idxs].all()):
            return False
        listeners += 1
    return listeners > 0 and bool(graph.check_pruning_group(group))


# ---- folding the scales that stay ------------------------------------------------------------------------------------


class _ScaleTracer(fx.Tracer):
    """Keeps each FixedScale one node."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FixedScale) or super().is_leaf_module(m, module_qualified_name)


def _tensors(output: Any) -> list[Tensor]:
    return [value for value in pytree.tree_leaves(output) if isinstance(value, Tensor)]


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _fold_scales(net: nn.Module, example: tuple[Any, ...]) -> nn.Module:
    """Multiply each FixedScale into the layers that listen to it, or into the layer before it, where that is exact.

    Returns `net` itself where torch.fx cannot trace it, or would not see its hooks: the scales stay modules.
    """
    if net._forward_pre_hooks:
        return net
    try:
        traced = fx.GraphModule(net, _ScaleTracer().trace(net))
        with torch.no_grad():
            ShapeProp(traced).propagate(*example)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError, IndexError):
        return net
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


def _ndim(node: Any) -> int | None:
    """Axes of the tensor that a node returns."""
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return len(meta.shape) if meta is not None and hasattr(meta, "shape") else None


def _units_axis(module: nn.Module | None, ndim: int) -> int | None:
    """Which axis of its `ndim`-axis input and output the weights of a module mean; None: it has none that we know."""
    if isinstance(module, nn.Linear):
        return ndim - 1
    if isinstance(module, _CONVOLUTIONS):
        return ndim - 1 - len(module.kernel_size) if module.groups == 1 else None
    return 1 if isinstance(module, _BATCHNORMS) else None


def _fold_forward(node: fx.Node, scale: FixedScale, modules: dict[str, nn.Module], whole: set[str]) -> bool:
    listeners = []
    ndim = _ndim(node)
    assert ndim is not None
    for user in node.users:
        module = modules.get(str(user.target)) if user.op == "call_module" else None
        if isinstance(module, _BATCHNORMS) or _units_axis(module, ndim) != scale.axis % ndim:
            return False
        if str(user.target) not in whole or user.args != (node,):
            return False
        listeners.append(module)
    for module in listeners:
        _multiply(module.weight, scale.weight, 1)  # type: ignore[union-attr, arg-type]
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
