"""Cut a chain of layers by hand: closed units leave, gate means move into the next weights, and nothing else changes.

A unit that leaves is constant after its closed gate: 0, or what the layers between the gate and the next weights make
of 0 (a BatchNorm's shift, sigmoid(0)). That constant moves into the next bias, so the outputs stay the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vibtheory.compression.fixed_modules import FixedScale, Select
from vibtheory.compression.liveness import alive_units
from vibtheory.errors import InvalidInputError, reject
from vibtheory.networks.forward import copy_of
from vibtheory.networks.gates import GateLaw
from vibtheory.networks.sequential import computes_as, flat_names, free_name, ordered_modules

__all__ = ["check_not_vanished", "compress_chain", "is_chain"]

# f(sx) = s f(x) for every s, and for every s > 0.
_LINEAR = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AdaptiveMaxPool2d)


@dataclass
class _Front:
    """The units that enter the next layer: which are kept, the scale they still owe, and what the others were worth."""

    kept: Tensor  # boolean, over the units of the gated net
    scale: Tensor | None  # float64, over the same units; None: nothing owed
    residue: Tensor  # float64, the value of each unit that was dropped; 0 for the kept ones
    axis: int = 1  # where the units are
    flatten: str | None = None  # the Flatten since when each of them is several, as many as nothing here says

    def spread(self, width: int) -> None:
        """After a Flatten each channel becomes width/channels consecutive units."""
        repeats = width // len(self.kept)
        if repeats > 1:
            self.kept = self.kept.repeat_interleave(repeats)
            self.residue = self.residue.repeat_interleave(repeats)
            self.scale = None if self.scale is None else self.scale.repeat_interleave(repeats)


def is_chain(net: nn.Sequential, example: Tensor, units_axis: int | None = None) -> bool:
    """Are these modules we know, each meeting its units on the axis that the cutting below takes them to be on?

    That is axis 1 throughout (vectors and maps; a Flatten makes all of a map's axes one), or the last axis of tokens,
    where there is no Flatten and nothing that works on axis 1 (`units_axis=1` leaves tokens out). Decided from the
    shapes that `example` runs through.
    """
    try:
        ordered_modules(net)
        modules = ordered_modules(_unshared(net))
    except InvalidInputError:
        return False
    if not isinstance(example, Tensor):
        return False
    h, tokens = example, False if units_axis == 1 else None
    with torch.no_grad():
        for _, module in modules:
            module = copy_of(module).eval()
            if isinstance(module, nn.Linear | GateLaw):
                axis = h.ndim - 1 if isinstance(module, nn.Linear) else module.axis % h.ndim
                if tokens is None and h.ndim > 2:
                    tokens = axis == h.ndim - 1
                if axis != (h.ndim - 1 if tokens else 1):
                    return False
            elif isinstance(module, nn.Flatten):
                if h.ndim > 2 and (tokens or module.start_dim != 1 or module.end_dim % h.ndim != h.ndim - 1):
                    return False
            elif getattr(module, "running_mean", module) is None or getattr(module, "divisor_override", None):
                return False  # normalised by each batch; a mean that is none
            elif isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.BatchNorm1d, *_POOLS)):
                if tokens or h.ndim != (2 if isinstance(module, nn.BatchNorm1d) else 4):
                    return False
                tokens = False if h.ndim > 2 else tokens
            h = module(h)
    return True


def compress_chain(net: nn.Sequential, *, fold_batchnorm: bool = False) -> nn.Sequential:
    """The gated chain `net` as a plain, physically smaller Sequential with the outputs of its `eval()`.

    Layers keep their path names, with "." written "_" (and a number behind it where another layer has that name). A
    gate becomes a `Select` of its name where the units of the input, or single units of a flattened map, were pruned;
    it becomes a `FixedScale` where its mean cannot be folded.

    Args:
        net: see `vibtheory.compression.liveness.chain`; unchanged.
        fold_batchnorm: merge each BatchNorm into the weights before it.

    Raises:
        InvalidInputError: a layer would vanish, or a dropped unit leaves a constant that zero padding makes uneven.
    """
    net = _unshared(net)
    rows = alive_units(net)
    names = flat_names(path for path, _, _ in rows)
    check_not_vanished(net, {name: mask for name, m, mask in rows if isinstance(m, GateLaw) and mask is not None})
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    front: _Front | None = None

    def taken(name: str) -> bool:
        return name in layers or name in names.values()

    for path, module, mask in rows:
        name = names[path]
        if isinstance(module, GateLaw):
            assert mask is not None
            front = _through_gate(layers, name, module, mask.to(module.active.device), front)
            continue
        if isinstance(module, nn.Linear | nn.Conv2d):
            assert mask is not None
            kept = mask.to(module.weight.device)
            layers[name] = _cut_weights(name, module, kept, front)
            front = _Front(kept, None, torch.zeros(len(kept), dtype=torch.float64, device=kept.device))
            continue
        if front is not None:
            _settle(layers, name, module, front, taken)
            module = _through_unitwise(name, module, front)
            if isinstance(module, nn.Flatten):
                front.flatten = front.flatten or name
        layers[name] = module
    if front is not None and front.scale is not None:
        _pay(layers, free_name("scale", taken), front)
    small = nn.Sequential(layers).eval()
    return _fold_batchnorm(small) if fold_batchnorm else small


def check_not_vanished(net: nn.Module, masks: dict[str, Tensor]) -> None:
    """Raise InvalidInputError, naming the layer that closed entirely, where nothing alive is left of some gate."""
    empty = [name for name, mask in masks.items() if not mask.any()]
    if not empty:
        return
    closed = [name for name in empty if not net.get_submodule(name).keep.any()]  # type: ignore[operator]
    names = ", ".join(repr(name) for name in closed or empty)
    remedy = "train with a smaller gamma (or multiplier) there, or lower that gate's threshold"
    reject("net", f"no unit left in layer {names}", "at least one unit with alpha above the threshold", remedy)


def _unshared(net: nn.Sequential) -> nn.Sequential:
    """A deep copy in which a module used twice without parameters (one ReLU object, say) is two modules.

    Raises:
        InvalidInputError: a module with parameters is used twice; its two uses cannot be cut differently.
    """
    seen: set[int] = set()

    def rebuild(part: nn.Module, prefix: str) -> nn.Sequential:
        copies: OrderedDict[str, nn.Module] = OrderedDict()
        for name, module in part._modules.items():
            assert module is not None
            if computes_as(module, (nn.Sequential,)):
                copies[name] = rebuild(module, f"{prefix}{name}.")
                continue
            if id(module) in seen and any(True for _ in module.parameters()):
                reject("net", f"{prefix}{name} used twice", "every layer used once", "give each use its own layer")
            seen.add(id(module))
            copies[name] = copy_of(module)
        return nn.Sequential(copies)

    return rebuild(net, "").train(net.training)


def _through_gate(
    layers: OrderedDict[str, nn.Module], name: str, gate: GateLaw, alive: Tensor, front: _Front | None
) -> _Front:
    mean = gate.mean().detach().double()
    if front is None:
        everything = torch.ones_like(alive)
        front = _Front(everything, None, torch.zeros_like(mean))
    front.spread(len(alive))
    if not torch.equal(front.kept, alive):  # some units entered that no weights before here could leave out
        layers[name] = Select(alive[front.kept].nonzero().flatten(), gate.axis)
    scale = mean if front.scale is None else front.scale * mean
    return _Front(alive, scale, front.residue * mean, gate.axis)


def _cut_weights(name: str, layer: nn.Linear | nn.Conv2d, kept_out: Tensor, front: _Front | None) -> nn.Module:
    """`layer` with the kept outputs and inputs, the owed scale in its columns and the residue in its bias."""
    weight = layer.weight.detach().double()
    bias = None if layer.bias is None else layer.bias.detach().double()
    if front is not None:
        front.spread(weight.shape[1])
        columns = (1, -1) + (1,) * (weight.ndim - 2)
        if front.residue.any():
            _check_padding(name, layer)
            constant = (weight * front.residue.view(columns)).flatten(1).sum(1)
            bias = constant if bias is None else bias + constant
        if front.scale is not None:
            weight = weight * front.scale.view(columns)
        weight = weight[:, front.kept]
    weight = weight[kept_out]
    small: nn.Linear | nn.Conv2d
    if isinstance(layer, nn.Linear):
        small = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    else:
        small = nn.Conv2d(
            weight.shape[1],
            weight.shape[0],
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            bias=bias is not None,
            padding_mode=layer.padding_mode,
            device="meta",
        )
    behind = [p for name, p in layer.named_parameters() if name != "bias"]  # the weight, or what hooks make it from
    small.weight = nn.Parameter(weight.to(layer.weight.dtype), any(p.requires_grad for p in behind))
    if bias is not None:
        learns = layer.bias is None or layer.bias.requires_grad
        small.bias = nn.Parameter(bias[kept_out].to(layer.weight.dtype), learns)
    return small


def _check_padding(name: str, layer: nn.Module) -> None:
    padding = getattr(layer, "padding", 0)
    none = padding in (0, (0, 0), "valid")
    if not none and getattr(layer, "padding_mode", "zeros") == "zeros":
        remedy = "put the gate after the BatchNorm (or sigmoid), or use padding=0"
        reject("net", f"a closed unit that is a constant before the padding of {name!r}", "closed units at 0", remedy)


def _settle(
    layers: OrderedDict[str, nn.Module], name: str, module: nn.Module, front: _Front, taken: Callable[[str], bool]
) -> None:
    """Pay the owed scale now if `module` does not commute with it."""
    if front.scale is None or isinstance(module, _LINEAR):
        return
    scale = front.scale[front.kept]
    if isinstance(module, _HOMOGENEOUS) and bool((scale > 0).all()):
        return
    _pay(layers, free_name(f"scale_before_{name}", taken), front)


def _pay(layers: OrderedDict[str, nn.Module], name: str, front: _Front) -> None:
    """The owed scale as a layer: here, or before the Flatten that it has passed."""
    assert front.scale is not None
    later = list(layers)[list(layers).index(front.flatten) :] if front.flatten else []
    layers[name], front.scale = FixedScale(front.scale[front.kept], front.axis), None
    for passed in later:
        layers.move_to_end(passed)


def _through_unitwise(name: str, module: nn.Module, front: _Front) -> nn.Module:
    """`module` cut to the kept units; `front.residue` becomes what it makes of the dropped ones."""
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        front.spread(module.num_features)
        small = _cut_batchnorm(module, front.kept)
    else:
        small = module
    if not isinstance(module, _LINEAR + _HOMOGENEOUS) or (front.residue.any() and not isinstance(module, nn.Flatten)):
        with torch.no_grad():
            if isinstance(module, nn.AvgPool2d) and front.residue.any():
                _check_padding(name, module)
            elif not isinstance(module, _POOLS):
                shape = (1, -1, 1, 1) if isinstance(module, nn.BatchNorm2d) else (1, -1)
                value = copy_of(module).double().eval()(front.residue.view(shape)).flatten()
                front.residue = torch.where(front.kept, torch.zeros_like(value), value)
    return small


def _cut_batchnorm(layer: nn.BatchNorm1d | nn.BatchNorm2d, kept: Tensor) -> nn.Module:
    small = type(layer)(int(kept.sum()), layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    state = layer.state_dict()
    dtype = next((value.dtype for value in state.values() if value.is_floating_point()), None)
    small = small.to(kept.device, dtype)
    small.load_state_dict({key: value[kept] if value.ndim else value for key, value in state.items()})
    for key, parameter in layer.named_parameters():
        small.get_parameter(key).requires_grad_(parameter.requires_grad)
    return small


def _fold_batchnorm(net: nn.Sequential) -> nn.Sequential:
    """Each BatchNorm merged into the Linear or Conv2d right before it, from its running statistics."""
    folded: OrderedDict[str, nn.Module] = OrderedDict()
    before = ""
    for name, module in net.named_children():
        previous = folded.get(before)
        if isinstance(module, nn.BatchNorm2d) and isinstance(previous, nn.Conv2d):
            folded[before] = nn.utils.fusion.fuse_conv_bn_eval(previous, module)
        elif isinstance(module, nn.BatchNorm1d) and isinstance(previous, nn.Linear):
            folded[before] = nn.utils.fusion.fuse_linear_bn_eval(previous, module)
        else:
            folded[name] = module
            before = name
    return nn.Sequential(folded).eval()
