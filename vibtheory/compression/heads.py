"""Cut closed attention heads: rows of query, key and value, columns of the projection behind them.

`nn.MultiheadAttention` is cut by its parameters' own layout. Attention written by hand stays as it is written. Which of
its weights are whose head's is found from derivatives, where its units go from the operations that rearrange them, and
that the rows which leave reach nothing but closed heads is shown by putting NaN into them. Calls that name a number of
heads get the new number as they run (`networks.interception`).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from vibtheory.compression.fixed_modules import FixedScale
from vibtheory.compression.following import silent_inputs
from vibtheory.errors import as_torch_seed, reject
from vibtheory.networks.attention import SplitAttention
from vibtheory.networks.equivalence import deviation
from vibtheory.networks.forward import MISFIT
from vibtheory.networks.interception import hooks_of
from vibtheory.networks.places import Place
from vibtheory.networks.unit_axes import LAYOUT, name_of

__all__ = ["cut_heads"]

_NOBODY = -1  # the label of an index that is no head's
_PRODUCTS = {"addmm": (2, 1), "mm": (1, 1), "matmul": (1, 1), "__matmul__": (1, 1)}  # which is the weight; its rows
_WIDTHS = {0: ("out_features", "out_channels"), 1: ("in_features", "in_channels")}
_Axes = dict[tuple[str, int], Tensor]  # (parameter, axis) → the label of each of its indices


def cut_heads(net: nn.Module, inputs: list[tuple[Any, ...]], tolerance: float) -> nn.Module:
    """A copy of `net` without its closed heads, with the same outputs.

    Args:
        net: in evaluation mode, its gates replaced by `FixedScale`; unchanged.
        inputs: tuples of positional inputs, on which outputs are compared; the first shows how units move.
        tolerance: largest deviation of outputs, relative to their size.

    Raises:
        InvalidInputError: attention with a closed head that does not show which weights are each head's.
    """
    small = copy.deepcopy(net)
    split = [(f"{name}.gate", m) for name, m in small.named_modules() if isinstance(m, SplitAttention)]
    split = [(name, module) for name, module in split if isinstance(module.gate, FixedScale)]
    for _, module in split:
        module.cut(module.gate.weight)  # type: ignore[union-attr,arg-type]
    hooks = hooks_of(small)
    places = {} if hooks is None else {p: name for p, name in hooks.gate_at.items() if p.group in ("sdpa", "product")}
    closed = [name for name in places.values() if not bool(small.get_submodule(name).weight.all())]  # type: ignore[operator]
    try:
        cut = not closed or _cut_written(small, closed, inputs[0], tolerance)
        cut = cut and (not (closed or split) or deviation(*copy.deepcopy((net, small)), inputs) <= tolerance)
    except MISFIT:  # sizes that do not meet
        cut = False
    if not cut:
        reject("net", f"closed heads at {', '.join([name for name, _ in split] + closed)}, in attention whose weights, "
               "keys or values are an output (a cache) or that does not show which parameters are each head's",
               "query, key and value from linear layers, shaped into heads by view, reshape or unflatten, and one "
               "linear layer behind",
               "gate neurons only (where='mlp'), or use nn.MultiheadAttention with need_weights=False")  # fmt: skip
    return small


def _cut_written(net: nn.Module, gates: list[str], example: tuple[Any, ...], tolerance: float) -> bool:
    """Cut the closed heads of `gates` out of `net` in place; False where it cannot be shown that they may leave."""
    scales: dict[str, FixedScale] = {name: net.get_submodule(name) for name in gates}  # type: ignore[misc]
    start, heads = {}, 0
    for name, scale in scales.items():
        start[name], heads = heads, heads + len(scale.weight)
    shut = torch.cat([scale.weight == 0 for scale in scales.values()]).cpu()
    rows = _rows_of_heads(net, start, example)
    if not _reach_only_closed(net, gates, rows, shut, example, tolerance):
        return False
    units = _Units(rows, torch.cat([shut, shut]))  # labels from `heads` on: of what comes out of the attention
    _follow(net, units, {name: heads + first for name, first in start.items()}, example)
    silent = silent_inputs(net, example)
    for (name, _), label in units.columns.items():
        leaves = units.leaves(label) & (label >= heads)
        if bool(leaves.any()) and not bool(silent[name.rpartition(".")[0]].cpu()[leaves].all()):
            return False
    for (name, axis), label in (rows | units.columns).items():
        _keep(net, name, axis, ~units.leaves(label))
    for scale in scales.values():
        scale.weight = scale.weight[scale.weight != 0]
    hooks = hooks_of(net)
    assert hooks is not None
    hooks.resized |= units.sizes
    return True


def _own_parameters(net: nn.Module) -> dict[str, nn.Parameter]:
    """The real parameters that only one module holds, by name."""
    homes = Counter(id(p) for _, p in net.named_parameters(remove_duplicate=False))
    return {name: p for name, p in net.named_parameters() if homes[id(p)] == 1 and p.is_floating_point()}


def _rows_of_heads(net: nn.Module, start: dict[str, int], example: tuple[Any, ...]) -> _Axes:
    """Parameters with an axis each of whose indices moves one head only: by the heads' derivatives on `example`."""
    probe = copy.deepcopy(net).requires_grad_()
    parameters = _own_parameters(probe)
    generator = torch.Generator().manual_seed(as_torch_seed("seed", 0, "which weights are a head's"))
    entering: dict[str, tuple[Tensor, int]] = {}
    for name in start:
        scale = probe.get_submodule(name)
        scale.register_forward_pre_hook(
            lambda scale, inputs, name=name: entering.update({name: (inputs[0], scale.axis)})
        )
    with torch.enable_grad():
        probe(*example)
    found: _Axes = {}
    for gate, (value, axis) in entering.items():
        touched: dict[tuple[str, int], list[Tensor]] = {}
        for head in value.unbind(axis):
            noise = torch.randn(head.shape, generator=generator, dtype=torch.float64).to(head)
            slopes = torch.autograd.grad((head * noise).sum(), [*parameters.values()], retain_graph=True,
                                         allow_unused=True)  # fmt: skip
            for name, slope in zip(parameters, slopes, strict=True):
                for along in range(0 if slope is None else slope.ndim):
                    hit = (slope != 0).movedim(along, 0).reshape(slope.shape[along], -1).any(1)
                    touched.setdefault((name, along), []).append(hit.cpu())
        for (name, along), hits in touched.items():
            by_head = torch.stack(hits)
            counts = by_head.sum(1)
            if (
                (name, along) in found
                or len(by_head) < value.shape[axis]
                or not bool((by_head.sum(0) <= 1).all() & (counts == counts[0]).all())
            ):
                continue
            label = torch.where(by_head.any(0), by_head.int().argmax(0) + start[gate], _NOBODY)
            found[name, along] = label
            bias = f"{name.removesuffix('.weight')}.bias"  # a key's moves nothing: softmax takes no notice of it
            if bias in parameters and len(parameters[bias]) == len(label):
                found[bias, 0] = label
    return found


def _reach_only_closed(
    net: nn.Module, gates: list[str], rows: _Axes, shut: Tensor, example: tuple[Any, ...], tolerance: float
) -> bool:
    """With NaN in the rows of closed heads, and 0 where these heads come out, do the outputs stay?"""
    probe = copy.deepcopy(net)
    parameters = dict(probe.named_parameters())
    for (name, axis), label in rows.items():
        index = ((label >= 0) & shut[label]).nonzero().flatten().to(parameters[name].device)
        parameters[name].data.index_fill_(axis, index, torch.nan)

    def silence(scale: FixedScale, _: Any, output: Tensor) -> Tensor:
        shape = [-1 if a == scale.axis % output.ndim else 1 for a in range(output.ndim)]
        return output.masked_fill((scale.weight == 0).view(shape), 0.0)

    for gate in gates:
        probe.get_submodule(gate).register_forward_hook(silence)
    return deviation(copy.deepcopy(net), probe, [example]) <= tolerance


class _Units:
    """Follows which head each entry of a tensor belongs to, through one forward pass.

    Attributes:
        columns: weights of linear maps that hear heads, and the head of each index on that axis.
        sizes: the calls that name sizes, and what they are without the closed heads.
    """

    def __init__(self, rows: _Axes, shut: Tensor) -> None:
        self.rows, self.shut = rows, shut
        self.columns: _Axes = {}
        self.sizes: dict[Place | None, dict[int, Any]] = {}
        self.weights: dict[int, str] = {}
        self._known: dict[int, tuple[Tensor, Tensor]] = {}  # id → (the tensor, so that its id stays its own; labels)

    def leaves(self, label: Tensor) -> Tensor:
        return (label >= 0) & self.shut[label]

    def declare(self, value: Tensor, label: Tensor, axis: int) -> None:
        shape = [-1 if a == axis % value.ndim else 1 for a in range(value.ndim)]
        self._known[id(value)] = (value, label.view(shape).expand(value.shape).contiguous())

    def __call__(self, func: Any, args: Any, kwargs: Any, result: Any, place: Place | None) -> None:
        name = name_of(func)
        known = [self._known[id(v)] for v in pytree.tree_leaves((args, kwargs)) if id(v) in self._known]
        place_of_weight, rows = (1, 0) if name == "linear" or name.startswith("conv") else _PRODUCTS.get(name, (0, 0))
        weight = self.weights.get(id(args[place_of_weight])) if len(args) > place_of_weight > 0 else None
        if weight is not None:
            axis = 1 if name.startswith("conv") else -1
            if known and (along := _along(known[0][1], axis)) is not None:
                self.columns[weight, 1 - rows] = along
            if (weight, rows) in self.rows:
                self.declare(result, self.rows[weight, rows], axis)
            return
        if not known:
            return
        if name in LAYOUT or name in ("cat", "repeat_interleave", "roll"):
            moved = pytree.tree_map(lambda v: self._labels(v) if isinstance(v, Tensor) else v, (args, kwargs))
            labels = pytree.tree_leaves(func(*moved[0], **moved[1]))
        else:
            labels = [known[0][1]]
        pairs = [(v, label) for v, label in zip(pytree.tree_leaves(result), labels, strict=False)
                 if isinstance(v, Tensor) and v.shape == label.shape]  # fmt: skip
        self._known |= {id(v): (v, label) for v, label in pairs}
        if place is not None and pairs:
            self._note_sizes(place, [label for _, label in pairs], args, kwargs)

    def _labels(self, value: Tensor) -> Tensor:
        if id(value) in self._known:
            return self._known[id(value)][1]
        return value if not value.is_floating_point() else torch.full(value.shape, _NOBODY)

    def _note_sizes(self, place: Place, labels: list[Tensor], args: Any, kwargs: Any) -> None:
        varying = [a for a in range(labels[0].ndim) if any(bool(label.diff(dim=a).any()) for label in labels)]
        if place.group == "split":
            varying = [kwargs.get("dim", args[2] if len(args) > 2 else 0) % labels[0].ndim]
        if len(varying) != 1:
            return
        along = [row for label in labels if (row := _along(label, varying[0])) is not None]
        if len(along) < len(labels):  # a split of each head's width into query, key and value
            return
        kept = [int((~self.leaves(row)).sum()) for row in along]
        if kept != [label.shape[varying[0]] for label in labels]:
            self.sizes[place] = {varying[0]: kept if place.group == "split" else kept[0]}


def _along(label: Tensor, axis: int) -> Tensor | None:
    """The labels along `axis` if they are the same everywhere else."""
    rows = label.movedim(axis, -1).flatten(0, -2)
    return rows[0] if bool((rows == rows[0]).all()) else None


def _follow(net: nn.Module, units: _Units, start: dict[str, int], example: tuple[Any, ...]) -> None:
    """Run `net` with `units` watching; what leaves the gates carries the labels from `start` on."""
    probe = copy.deepcopy(net)
    units.weights = {id(p): name for name, p in _own_parameters(probe).items()}

    def listen(first: int) -> Callable[..., None]:
        def hook(scale: FixedScale, _: Any, output: Tensor) -> None:
            units.declare(output, torch.arange(first, first + len(scale.weight)), scale.axis)

        return hook

    for name, first in start.items():
        probe.get_submodule(name).register_forward_hook(listen(first))
    hooks = hooks_of(probe)
    assert hooks is not None
    hooks.observer = units
    with torch.no_grad():
        probe(*example)


def _keep(net: nn.Module, name: str, axis: int, kept: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = net.get_submodule(path)
    old = module._parameters[leaf]
    assert old is not None
    index = kept.nonzero().flatten().to(old.device)
    module._parameters[leaf] = nn.Parameter(old.detach().index_select(axis, index), old.requires_grad)
    for width in _WIDTHS.get(axis, ()):
        if hasattr(module, width):
            setattr(module, width, len(index))
