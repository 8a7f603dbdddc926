"""Shrink while training: units that were closed for good are cut out, and put back (closed) when training ends.

A gate that has closed rarely opens again, so what it closed can be removed long before training ends: on LeNet-5 this
saves most of the convolutions' cost after a few epochs. Closed inputs of a fully connected net go too: feed the
shrunken net the `kept_inputs` of the flattened data. The cut is invisible from outside: `expand` restores the full
architecture, with the closed units closed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vibtheory.compression.liveness import alive
from vibtheory.errors import reject
from vibtheory.networks.gates import GateLaw
from vibtheory.networks.sequential import ordered_modules

__all__ = ["Shrinker", "check_shrinkable", "close_dead"]

Axes = list[Tensor | None]  # kept indices of each axis of a tensor; None: all of it
Key = tuple[str, str]  # a tensor's name; "value", or what the optimizer calls its state of it


def check_shrinkable(net: nn.Module) -> None:
    """Raise InvalidInputError unless closing and cutting units leaves the outputs of `net` as they are.

    A closed unit must arrive at the next weights as 0. A BatchNorm or sigmoid in between makes another constant of it:
    `vibtheory.compress` folds that into a bias once, but while training the constant moves with the batch.
    """
    seen: set[int] = set()
    gate: str | None = None  # the last gate, until the next weights
    for name, module in ordered_modules(net):
        if isinstance(module, nn.Linear | nn.Conv2d) and "weight" not in module._parameters:
            expected = "a weight of its own, not one made from other parameters (weight norm, spectral norm)"
            reject("net", f"{type(module).__name__} at {name!r}", expected, "set prune_every to 0")
        if any(True for _ in module.parameters()):
            if id(module) in seen:
                reject("net", f"{name!r} used twice", "every layer used once", "give each use a layer of its own")
            seen.add(id(module))
        if isinstance(module, GateLaw):
            gate = name
        elif isinstance(module, nn.Linear | nn.Conv2d):
            gate = None
        elif gate is not None and isinstance(module, nn.Sigmoid | nn.BatchNorm1d | nn.BatchNorm2d):
            expected = f"layers that map 0 to 0 between gate {gate!r} and the next weights"
            reject("net", f"{module} at {name!r}", expected, "put the gate after it, or set prune_every to 0")


def close_dead(net: nn.Module) -> dict[str, int]:
    """Close for good every unit that is dead now in either direction; returns how many are still open, by layer.

    Closes nothing if a layer would lose its last unit: that run has collapsed, and the caller reports it.

    Raises:
        InvalidInputError: `net` is not a Sequential of known layers (`vibtheory.compression.liveness.chain`), or see
            `check_shrinkable`.
    """
    check_shrinkable(net)
    masks = alive(net)
    if all(bool(mask.any()) for mask in masks.values()):
        for name, mask in masks.items():
            gate = net.get_submodule(name)
            assert isinstance(gate, GateLaw)
            gate.close(~mask.to(gate.active.device))
    return {name: int(mask.sum()) for name, mask in masks.items()}


class Shrinker:
    """Cuts closed hidden units and channels out of a Sequential net and its optimizer's state, and puts them back.

    Parameters keep their identity (only `.data` changes), so the optimizer's groups stay valid. What has the shape that
    it had before `expand` goes back to where it was in memory, so that a captured step stays valid too.

    Args:
        net, optimizer: of the run.
        multiple: widths are filled up to a multiple of this with closed units: a GPU's matrix units want 8.

    Raises:
        InvalidInputError: see `check_shrinkable`.
    """

    def __init__(self, net: nn.Module, optimizer: torch.optim.Optimizer, multiple: int = 1) -> None:
        check_shrinkable(net)
        self._net = net
        self._optimizer = optimizer
        self._multiple = multiple
        self._small: dict[Key, Tensor] = {}  # as `expand` left them: places for the next cut
        self._cuts: dict[str, Axes] = {}
        self._full: dict[Key, Tensor] = {}  # full-size values when they were cut
        self._unfinished: tuple[dict[Key, Tensor], dict[str, Axes], dict[Key, Tensor]] | None = None

    def shrink(self) -> None:
        """Cut every closed unit. Call `expand` first if the net is shrunken already."""
        self._finish()
        cuts = _plan(self._net, self._multiple)
        full = self._tensors(cuts)
        small = {key: _cut(tensor, cuts[key[0]], self._small.get(key)) for key, tensor in full.items()}
        self._become(small, cuts, full)

    def kept_inputs(self) -> Tensor | None:
        """Indices of the flattened inputs that the shrunken net takes; None: it takes the data as they are."""
        axes = self._cuts.get(f"{_input_gate(self._net)}.active")
        return None if axes is None else axes[0]

    def expand(self) -> None:
        """Back to the full architecture: present values where they survived, the values at the cut elsewhere."""
        self._finish()
        values, self._small = {}, self._tensors(self._cuts)
        for (name, what), small in self._small.items():
            full = self._full.get((name, what))
            # State that the optimizer made after the cut had no full-size forerunner: it starts at 0 there.
            full = torch.zeros_like(self._full[name, "value"]) if full is None else full.clone()
            values[name, what] = _paste(full, small, self._cuts[name])
        self._become(values, {}, {})

    def _become(self, values: dict[Key, Tensor], cuts: dict[str, Axes], full: dict[Key, Tensor]) -> None:
        """Take on all of `values`, wherever Ctrl-C strikes: what it leaves undone, the next call does first."""
        self._unfinished = values, cuts, full
        self._finish()

    def _finish(self) -> None:
        if self._unfinished is None:
            return
        values, cuts, full = self._unfinished
        for (name, what), value in values.items():
            self._assign(name, what, value)
        self._set_sizes()
        self._cuts, self._full = cuts, full
        self._unfinished = None

    def _tensors(self, cuts: dict[str, Axes]) -> dict[Key, Tensor]:
        """Everything that `cuts` cuts: parameters and buffers, and the optimizer's state of their shape."""
        named = {**dict(self._net.named_parameters()), **dict(self._net.named_buffers())}
        found = {}
        for name in cuts:
            tensor = named[name]
            state = self._optimizer.state.get(tensor, {}) if isinstance(tensor, nn.Parameter) else {}
            found[name, "value"] = tensor.detach()
            found |= {(name, key): value for key, value in state.items() if value.shape == tensor.shape}
        return found

    def _assign(self, name: str, what: str, value: Tensor) -> None:
        path, _, key = name.rpartition(".")
        module = self._net.get_submodule(path)
        target = getattr(module, key)
        if what != "value":
            self._optimizer.state[target][what] = value
        elif isinstance(target, nn.Parameter):
            target.data = value
            target.grad = None
        else:
            setattr(module, key, value)

    def _set_sizes(self) -> None:
        for _, module in ordered_modules(self._net):
            if isinstance(module, nn.Linear):
                module.out_features, module.in_features = module.weight.shape
            elif isinstance(module, nn.Conv2d):
                module.out_channels, module.in_channels = module.weight.shape[:2]
            elif isinstance(module, GateLaw):
                module.features = len(module.active)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
                module.num_features = len(module.running_mean)


def _plan(net: nn.Module, multiple: int) -> dict[str, Axes]:
    """What to keep of each parameter and buffer when the closed units go."""
    modules = ordered_modules(net)
    plan: dict[str, Axes] = {}
    kept: Tensor | None = None  # what survives of axis 1 of the activation; None: everything
    width = 0  # length of that axis before cutting
    first = _input_gate(net)
    if first is not None:
        kept = _surviving_outputs(modules, multiple)
        width = len(net.get_buffer(f"{first}.active"))
    for place, (name, module) in enumerate(modules):
        if isinstance(module, nn.Linear | nn.Conv2d):
            inputs = None if kept is None else _spread(kept, width, module.weight.shape[1])
            kept, width = _surviving_outputs(modules[place + 1 :], multiple), len(module.weight)
            plan[f"{name}.weight"] = [kept, inputs]
            if noise := getattr(module, "noise", None):  # VD: log σ² of these weights, a parameter of a gate
                plan[noise[2]] = [kept, inputs]
            if module.bias is not None:
                plan[f"{name}.bias"] = [kept]
        elif kept is not None and isinstance(module, GateLaw | nn.BatchNorm1d | nn.BatchNorm2d):
            vectors = {key: v for key, v in (*module.named_parameters(), *module.named_buffers()) if v.ndim == 1}
            size = len(next(iter(vectors.values())))
            kept, width = _spread(kept, width, size), size
            plan.update({f"{name}.{key}": [kept] for key in vectors})
    return {name: axes for name, axes in plan.items() if any(axis is not None for axis in axes)}


def _input_gate(net: nn.Module) -> str | None:
    """Name of the gate on the flattened inputs, where the net begins with one."""
    flat = False
    for name, module in ordered_modules(net):
        if isinstance(module, GateLaw):
            return name if flat else None
        if not isinstance(module, nn.Flatten | nn.Identity | nn.Dropout):
            return None
        flat = flat or isinstance(module, nn.Flatten)
    return None


def _surviving_outputs(rest: list[tuple[str, nn.Module]], multiple: int) -> Tensor | None:
    """Indices of the outputs that the next gate leaves open, and of the closed ones that fill up to a multiple.

    None where all of them are, or no gate stands before the next weights.
    """
    for _, module in rest:
        if isinstance(module, GateLaw):
            kept = module.active.clone()
            closed = (~kept).nonzero().flatten()
            kept[closed[: -int(kept.sum()) % multiple]] = True
            return None if kept.all() else kept.nonzero().flatten()
        if isinstance(module, nn.Linear | nn.Conv2d):
            return None
    return None


def _spread(kept: Tensor, width: int, size: int) -> Tensor:
    """Indices among `width` channels → indices among the `size` = width·positions units that Flatten makes of them."""
    positions = size // width
    return (kept[:, None] * positions + torch.arange(positions, device=kept.device)).flatten()


def _cut(tensor: Tensor, axes: Axes, place: Tensor | None) -> Tensor:
    """The kept part of `tensor`, laid out like it; in `place` if it fits there."""
    wide = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    for axis, index in enumerate(axes):
        if index is not None:
            tensor = tensor.index_select(axis, index)
    if place is None or place.shape != tensor.shape:
        place = torch.empty_like(tensor, memory_format=torch.channels_last if wide else torch.contiguous_format)
    return place.copy_(tensor)


def _paste(full: Tensor, small: Tensor, axes: Axes) -> Tensor:
    """`full` with `small` written where it was cut from."""
    grid = [torch.arange(n, device=full.device) if i is None else i for n, i in zip(full.shape, axes, strict=False)]
    full[torch.meshgrid(*grid, indexing="ij")] = small
    return full
