"""Cut closed channels out of an arbitrary graph (residual nets) with torch-pruning's dependency groups.

A channel coupled by residual additions leaves only if every layer that listens to it hears an exact 0 whatever the
weights are. That is decided by `_silent_inputs`: with several random draws of all other parameters, a channel that
stays at 0 does so because of closed gates alone. Gates that stay are multiplied into a neighbour where that is exact,
and left as a `FixedScale` where it is not.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from vibtheory.compression.chain import check_not_vanished
from vibtheory.compression.fixed_modules import FixedScale
from vibtheory.errors import as_torch_seed, reject
from vibtheory.networks.gates import named_gates

__all__ = ["compress_graph"]

_DRAWS = 8
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def compress_graph(net: nn.Module, example: tuple[Any, ...]) -> nn.Module:
    """`net` without gates, with the outputs of its `eval()`; closed channels cut where all their couplings are closed.

    Args:
        net: a gated model, for example from `vibtheory.insert_gates`; unchanged.
        example: its positional inputs; shapes only.

    Raises:
        InvalidInputError: a layer would vanish, or the cut net does not reproduce the gated one.
    """
    check_not_vanished(net, {name: gate.keep for name, gate in named_gates(net).items()})
    small = copy.deepcopy(net).eval()
    for name, gate in named_gates(small).items():
        _replace(small, name, FixedScale(gate.mean().detach().clone(), gate.axis))
    reference = copy.deepcopy(small)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch-pruning warns about parameters that no group will touch
        _cut(small, example)
    small = _fold_scales(small)
    _check_same(reference, small, example)
    return small.requires_grad_(True).eval()


def _replace(net: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(net.get_submodule(parent), name, module)


# ---- which channels may leave ----------------------------------------------------------------------------------------


def _cut(net: nn.Module, example: tuple[Any, ...]) -> None:
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

    silent = _silent_inputs(net, example)
    graph = tp.DependencyGraph()
    with torch.enable_grad():
        inputs = tuple(v.clone().requires_grad_() if _is_real(v) else v for v in example)
        graph.build_dependency(net, inputs, customized_pruners={FixedScale: ScalePruner()}, verbose=False)
    layers = [m for m in net.modules() if isinstance(m, (*_CONVOLUTIONS, nn.Linear)) and m in graph.module2node]
    index = {module: name for name, module in net.named_modules()}
    done: set[tuple[str, int]] = set()
    cuts: list[tuple[nn.Module, Callable[..., Any], list[int]]] = []
    for layer in layers:
        prune = tp.prune_linear_out_channels if isinstance(layer, nn.Linear) else tp.prune_conv_out_channels
        if isinstance(layer, _CONVOLUTIONS) and layer.groups > 1:
            continue
        legal = []
        for channel in range(layer.weight.shape[0]):
            if (index[layer], channel) in done:
                continue
            group = graph.get_pruning_group(layer, prune, [channel])
            if _may_leave(graph, group, silent, index):
                legal.append(channel)
                outputs = [(d, i) for d, i in group if graph.is_out_channel_pruning_fn(d.handler)]
                done.update((index[d.target.module], k) for d, i in outputs if d.target.module in index for k in i)
        if legal:
            cuts.append((layer, prune, legal))
    for root, prune_root, channels in cuts:
        graph.get_pruning_group(root, prune_root, channels).prune()


def _may_leave(graph: Any, group: Any, silent: dict[str, Tensor], names: dict[nn.Module, str]) -> bool:
    """Every listener in `group` hears 0, the output does not depend on it, and every member is understood."""
    listeners = 0
    for dep, idxs in group:
        module = dep.target.module
        if not dep.target.outputs and (module not in names or not graph.is_in_channel_pruning_fn(dep.handler)):
            return False  # the channel reaches the model's output
        if isinstance(module, nn.Parameter):
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
        if names[module] not in silent or not bool(silent[names[module]][idxs].all()):
            return False
        listeners += 1
    return listeners > 0 and bool(graph.check_pruning_group(group))


def _silent_inputs(net: nn.Module, example: tuple[Any, ...]) -> dict[str, Tensor]:
    """For each convolution and linear layer: which of its input units are 0 whatever the weights are, boolean [d]."""
    probe = copy.deepcopy(net).eval()
    silent: dict[str, Tensor] = {}

    def listen(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            h = inputs[0].detach()
            axis = h.ndim - 1 if isinstance(module, nn.Linear) else 1
            zero = (h == 0).movedim(axis, 0).flatten(1).all(1)
            silent[name] = zero if name not in silent else silent[name] & zero

        return hook

    for name, module in probe.named_modules():
        if isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
            module.register_forward_pre_hook(listen(name))
    generator = torch.Generator().manual_seed(as_torch_seed("seed", 0, "weights that find silent units"))
    with torch.no_grad():
        for _ in range(_DRAWS):
            draw = {key: torch.randn(p.shape, generator=generator) for key, p in probe.named_parameters()}
            for sign in (1, -1):  # of each pre-activation, so that a ReLU cannot hide it
                for key, parameter in probe.named_parameters():
                    parameter.copy_(
                        sign * draw[key] / max(1.0, float(parameter[0].numel() if parameter.ndim > 1 else 1)) ** 0.5
                    )
                for module in probe.modules():
                    if isinstance(module, _BATCHNORMS) and module.running_mean is not None:
                        module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator))
                probe(*(_random_like(v, generator) for v in example))
    return silent


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _random_like(value: Any, generator: torch.Generator) -> Any:
    if not _is_real(value):
        return value
    return torch.randn(value.shape, generator=generator).to(value)


# ---- folding the scales that stay ------------------------------------------------------------------------------------


class _ScaleTracer(fx.Tracer):
    """Keeps each FixedScale one node."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FixedScale) or super().is_leaf_module(m, module_qualified_name)


def _fold_scales(net: nn.Module) -> nn.Module:
    """Multiply each FixedScale into the layers that listen to it, or into the layer before it, where that is exact."""
    try:
        graph = _ScaleTracer().trace(net)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, NotImplementedError):
        return net  # cannot be traced: the scales stay modules
    traced = fx.GraphModule(net, graph)
    modules = dict(traced.named_modules())
    uses: dict[str, int] = {}
    for node in traced.graph.nodes:
        if node.op == "call_module":
            uses[node.target] = uses.get(node.target, 0) + 1
    for node in list(traced.graph.nodes):
        scale = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(scale, FixedScale) or uses[node.target] > 1:
            continue
        if _fold_forward(node, scale, modules, uses) or _fold_back(node, scale, modules, uses):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    traced.graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _fold_forward(node: fx.Node, scale: FixedScale, modules: dict[str, nn.Module], uses: dict[str, int]) -> bool:
    listeners = []
    for user in node.users:
        module = modules.get(str(user.target)) if user.op == "call_module" else None
        last = isinstance(module, nn.Linear) and scale.axis == -1
        if not (last or (isinstance(module, (*_CONVOLUTIONS, nn.Linear)) and scale.axis == 1)):
            return False
        if uses[str(user.target)] > 1 or getattr(module, "groups", 1) > 1:
            return False
        if module.weight.shape[1] != len(scale.weight):  # type: ignore[union-attr, index]
            return False
        listeners.append(module)
    for module in listeners:
        _multiply(module.weight, scale.weight, 1)  # type: ignore[union-attr, arg-type]
    return bool(listeners)


def _fold_back(node: fx.Node, scale: FixedScale, modules: dict[str, nn.Module], uses: dict[str, int]) -> bool:
    """Through a ReLU (scales >= 0 only) into the affine BatchNorm, convolution or linear layer before it."""
    source = node.args[0]
    while isinstance(source, fx.Node) and len(source.users) == 1:
        module = modules.get(str(source.target)) if source.op == "call_module" else None
        if _is_relu(source, module):
            if not bool((scale.weight >= 0).all()):
                return False
            source = source.args[0]
            continue
        affine = isinstance(module, (*_BATCHNORMS, *_CONVOLUTIONS, nn.Linear)) and module.weight is not None
        if not affine or uses[str(source.target)] > 1 or len(module.weight) != len(scale.weight):  # type: ignore[union-attr, arg-type]
            return False
        _multiply(module.weight, scale.weight, 0)  # type: ignore[union-attr, arg-type]
        if module.bias is not None:  # type: ignore[union-attr]
            _multiply(module.bias, scale.weight, 0)  # type: ignore[union-attr, arg-type]
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


def _check_same(reference: nn.Module, small: nn.Module, example: tuple[Any, ...]) -> None:
    """Both nets on random inputs; a disagreement means that torch-pruning misread the graph."""
    generator = torch.Generator().manual_seed(as_torch_seed("seed", 0, "inputs that compare two graphs"))
    inputs = tuple(_random_like(v, generator) for v in example)
    remedy = "split the model into parts that are chains, or report it with the module named here"
    with torch.no_grad():
        wanted = _first_tensor(reference(*inputs))
        try:
            got = _first_tensor(small(*inputs))
        except RuntimeError as failure:
            reject(
                "net",
                f"{type(small).__name__}, cut inconsistently ({failure})",
                "a graph that torch-pruning follows",
                remedy,
            )
    tolerance = 1e-4 * max(1.0, float(wanted.abs().max()))
    deviation = float((got - wanted).abs().max()) if got.shape == wanted.shape else float("inf")
    if not deviation <= tolerance:
        reject("net", f"outputs that moved by {deviation:.2g} when cut", "unchanged outputs", remedy)


def _first_tensor(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output
