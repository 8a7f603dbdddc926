"""Cut closed units out of an arbitrary model, as far as its outputs allow it.

`following` says which units are coupled, silent and needed. A class of coupled units leaves where every layer that
listens to it hears an exact 0, or a constant that its bias takes up. Where others still need such units (a residual
stream, a GroupNorm), only the closed listeners' columns leave, behind a `Select`, and the rows that nothing needs,
before an `Expand`. `folding` then sees to the gates that stay.
"""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from functools import partial
from io import StringIO
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.compression.chain import check_not_vanished
from vibtheory.compression.facts import Units, Use
from vibtheory.compression.fixed_modules import Expand, FixedScale, Select, Surrounded
from vibtheory.compression.folding import fold_scales
from vibtheory.compression.following import follow
from vibtheory.compression.heads import cut_heads
from vibtheory.errors import reject
from vibtheory.networks.equivalence import deviation, other_sizes, training_batches
from vibtheory.networks.forward import MISFIT, called, copied
from vibtheory.networks.gates import named_gates
from vibtheory.networks.options import SameOptions, takes_options

__all__ = ["CutReport", "compress_graph"]

_Mask = NDArray[np.bool_]
_Number = tuple[nn.Module, str, int]  # a module's attribute, and what it was
_TRAINING_TOLERANCE = 1e-4


@dataclass(frozen=True)
class CutReport:
    """What a closed gate should have taken out of the model, and did not.

    Attributes:
        stayed: by layer, how many of its outputs stay behind closed gates, and why.
    """

    stayed: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{name}: {why}" for name, why in self.stayed.items()]
        return "\n".join(lines) or "everything behind a closed gate is gone"


def compress_graph(net: nn.Module, inputs: list[tuple[Any, ...]], tolerance: float) -> tuple[nn.Module, CutReport]:
    """`net` without gates, with the outputs of its `eval()`, and what stayed of it.

    Where cutting whole classes of units moves the outputs (a size written into `forward`), only listeners and makers
    are cut one by one; where that does too, nothing. Numbers that layers of one's own hold follow only where they must.
    Scales that cannot be folded exactly stay modules.

    Args:
        net: a gated model, for example from `vibtheory.insert_gates`; unchanged.
        inputs: tuples of positional inputs, on which outputs are compared; the first one's operations are followed.
        tolerance: largest deviation of outputs, relative to their size.

    Raises:
        InvalidInputError: a layer would vanish, two runs of the gated net already differ, or see `cut_heads`.
    """
    check_not_vanished(net, {name: gate.keep for name, gate in named_gates(net).items()})
    reference = copy.deepcopy(net).eval()
    for name, gate in named_gates(reference).items():
        _replace(reference, name, FixedScale(gate.mean().detach().clone(), gate.axis))

    def same(small: nn.Module) -> bool:
        given, small = copy.deepcopy(reference), copy.deepcopy(small)  # a model may record what it sees
        try:
            with redirect_stderr(StringIO()):  # torch.fx prints where shapes no longer meet
                return deviation(given, small, inputs) <= tolerance
        except MISFIT:  # shapes that no longer meet
            return False

    with torch.no_grad():  # what it cannot take, such as a precision that is not its own, ends here
        called(copy.deepcopy(reference), copied(inputs[0]))
    if not same(reference):
        reject("net", f"{type(net).__name__}, whose outputs differ between two runs in eval()", "a deterministic model",
               "take the noise of its own out of eval()")  # fmt: skip
    inputs = [*inputs, *other_sizes(inputs[0], reference)]
    headless = cut_heads(reference, inputs, tolerance)
    small, report, doing = headless, CutReport({}), "traced on its example"
    try:
        for any_size, (whole, own_sizes) in product((False, True), ((True, False), (True, True), (False, False))):
            if whole and not own_sizes:
                units = follow(headless, inputs[0], any_size)
                doing = "cut where its operations allow it"
            small, report, numbers = _cut(headless, units, whole, own_sizes)
            if same(small):
                _put_back(numbers, partial(same, small))
                break
        else:
            small, report = headless, CutReport({"": "all of it stays: its outputs moved wherever it was cut"})
    except MISFIT as error:
        why = f"it could not be {doing} ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        small, report = headless, CutReport({"": f"all of it stays: {why}"})
    folded = fold_scales(copy.deepcopy(small), inputs[0])
    if same(folded) and _trains_alike(small, folded, inputs[0]):
        small = folded
    torchs_own = type(net).__module__.startswith("torch.nn.")  # whose options leave units where they are
    if small is not headless and not torchs_own and takes_options(net, inputs[0]):
        small.register_forward_pre_hook(SameOptions(net, inputs[0]), with_kwargs=True)
    return small, report


def _trains_alike(small: nn.Module, folded: nn.Module, example: tuple[Any, ...]) -> bool:
    """In training mode, from one random state: a trace in evaluation mode has lost dropout by a function, say."""
    for batch in training_batches(example):
        one, other = (copy.deepcopy(net).train() for net in (small, folded))
        try:
            return deviation(one, other, [batch], seed=0) <= _TRAINING_TOLERANCE
        except MISFIT:  # such as a BatchNorm on one row
            with suppress(MISFIT), torch.no_grad():
                called(other, copied(batch))
                return False  # it has lost what `small` stumbles over
    return True


def _replace(net: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(net.get_submodule(parent), name, module)


# ---- which units leave -----------------------------------------------------------------------------------------------


def _cut(net: nn.Module, units: Units, whole: bool, own_sizes: bool) -> tuple[nn.Module, CutReport, list[_Number]]:
    """A copy of `net` without what is superfluous, what stayed, and the numbers of layers of one's own that followed.

    `whole`: classes of coupled units leave too; `own_sizes`: sizes that layers of the user's own hold follow.
    """
    small = copy.deepcopy(net)
    classes = units.classes()
    leaving = _leaving(units, classes)
    leaves = leaving & whole
    keep = {place: ~leaves[classes[ids]] for place, ids in units.ids.items()}
    for use in units.uses:
        _take_up_constants(small, use)
    tensors = {**dict(small.named_parameters()), **dict(small.named_buffers())}
    became: dict[nn.Module, dict[int, set[int]]] = {}  # what the sizes of a module's tensors are now
    for (name, axis), mask in keep.items():
        if not mask.all():
            tensors[name].data = tensors[name].data.index_select(axis, _where(mask).to(tensors[name].device))
        owner = small.get_submodule(name.rpartition(".")[0])
        became.setdefault(owner, {}).setdefault(len(mask), set()).add(int(mask.sum()))
    for module in small.modules():
        _rename_sizes(module)
    numbers: list[_Number] = []
    others = [m for m in became if not type(m).__module__.startswith(("torch.", "vibtheory."))]
    for module in others if own_sizes else ():
        for name, value in vars(module).items():
            if type(value) is int and len(now := became[module].get(value, set())) == 1:
                setattr(module, name, *now)
                numbers.append((module, name, value))
    gone = _cut_alone(small, units, keep)
    return small, CutReport(_stayed(net, units, classes, leaving, keep, gone)), numbers


def _put_back(numbers: list[_Number], same: Callable[[], bool]) -> None:
    """As before, for all modules of a class at once, what need not follow: a window beside as many units, say."""
    for kind in {(type(module), name): None for module, name, _ in numbers}:
        group = [(module, name, old) for module, name, old in numbers if (type(module), name) == kind]
        followed = [getattr(module, name) for module, name, _ in group]
        for module, name, old in group:
            setattr(module, name, old)
        if not same():
            for (module, name, _), number in zip(group, followed, strict=True):
                setattr(module, name, number)


def _where(mask: _Mask) -> Tensor:
    return torch.from_numpy(np.flatnonzero(mask))


def _leaving(units: Units, classes: NDArray[np.int64]) -> _Mask:
    """Which classes leave: all listeners hear nothing, nothing else holds them, and no layer loses its last unit."""
    heard, stays = np.zeros(units.count, bool), np.zeros(units.count, bool)
    for ids, _ in units.pinned:
        stays[classes[ids]] = True
    for use in units.uses:
        if use.groups == 1:
            of = classes[units.ids[use.weight, use.columns_axis]]
            heard[of] = True
            stays[of[~use.droppable.numpy()]] = True
    leaves = heard & ~stays
    for ids in units.ids.values():
        if len(ids) and leaves[classes[ids]].all():
            leaves[classes[ids[0]]] = False
    return leaves


def _take_up_constants(net: nn.Module, use: Use) -> None:
    """What the inputs that leave are worth moves into the bias."""
    if not use.constant.any():
        return
    layer = net.get_submodule(use.weight.rpartition(".")[0])
    weight: Tensor = layer.weight  # type: ignore[assignment]
    per_input = weight.detach().double().flatten(2).sum(2) if weight.ndim > 2 else weight.detach().double()
    worth = per_input @ use.constant.to(weight.device)
    with torch.no_grad():
        if layer.bias is None:
            layer.bias = nn.Parameter(worth.to(weight.dtype))
        else:
            layer.bias += worth.to(weight.dtype)  # type: ignore[operator]


# ---- listeners and makers that are cut alone -------------------------------------------------------------------------


def _cut_alone(net: nn.Module, units: Units, keep: dict[tuple[str, int], _Mask]) -> dict[str, _Mask]:
    """Cut silent columns and rows that nothing needs out of layers of their own; by weight, which rows that were."""
    gone: dict[str, _Mask] = {}
    for use in units.uses:
        path = use.weight.rpartition(".")[0]
        if not use.alone or not path or (use.groups > 1 and use.rows_axis):
            continue
        layer: Any = net.get_submodule(path)
        rows = keep[use.weight, use.rows_axis]
        columns = np.ones(len(use.droppable), bool)
        if use.groups == 1:
            columns = keep[use.weight, use.columns_axis]
        elif layer.weight.shape[1] == 1:
            columns = rows.reshape(len(columns), -1)[:, 0]
        if layer.bias is not None and len(layer.bias) != rows.sum():  # one that took up constants
            layer.bias.data = layer.bias.data[_where(rows)]
        heard, needed = ~use.droppable.numpy()[columns], use.needed.numpy()[rows]
        if not (heard.all() and needed.all()):
            made = _make_alone(net, path, layer, (use.rows_axis, use.columns_axis), heard, needed)
            gone[use.weight] = np.zeros(len(rows), bool)
            gone[use.weight][np.flatnonzero(rows)[~made]] = True
    return gone


def _make_alone(net: nn.Module, path: str, layer: Any, axes: tuple[int, int], heard: _Mask, needed: _Mask) -> _Mask:
    """Cut `layer` to the inputs `heard` and the outputs `needed`, between a Select and an Expand.

    Returns the outputs that it still makes: as many in each group of a grouped convolution.
    """
    weight, bias, rows, columns = layer.weight.data, layer.bias, *axes
    axis = -1 if isinstance(layer, nn.Linear) else 1
    groups = getattr(layer, "groups", 1)
    ins, outs = heard.reshape(groups, -1), needed.reshape(groups, -1)
    constant: _Mask = np.logical_and(~ins.any(1, keepdims=True), outs)  # outputs of inputs that are all 0: the bias
    alive: _Mask = np.logical_and(ins.any(1), outs.any(1))
    alive[0] |= not alive.any()
    ins, outs = _balanced(ins, alive), _balanced(outs, alive)
    each, picked = outs.shape[1], []
    for g in np.flatnonzero(alive):
        block = weight if rows else weight[g * each : (g + 1) * each]
        picked.append(block.index_select(rows, _where(outs[g])).index_select(columns, _where(ins[g])))
    layer.weight = nn.Parameter(torch.cat(picked), layer.weight.requires_grad)
    made = outs.ravel()
    count = int(made.sum())
    fill = torch.zeros(1, dtype=weight.dtype, device=weight.device)
    order = torch.full((len(made),), count)
    order[_where(made)] = torch.arange(count)
    if bias is not None:
        layer.bias = nn.Parameter(bias.data[_where(made)], bias.requires_grad)
        others = _where(constant.ravel() & ~made)
        order[others] = count + 1 + torch.arange(len(others))
        fill = torch.cat([fill, bias.data[others]])
    if axis == 1:
        layer.groups, layer.out_channels, layer.in_channels = int(alive.sum()), count, int(ins.sum())
    else:
        layer.out_features, layer.in_features = count, int(ins.sum())
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if not ins.all():
        parts["select"] = Select(_where(ins.ravel()), axis)
    parts["layer"] = layer
    if not made.all():
        parts["expand"] = Expand(order, fill, axis)
    _replace(net, path, Surrounded(parts))
    return made


def _balanced(mask: _Mask, alive: _Mask) -> _Mask:
    """As many in each group that stays, none in the others."""
    mask = mask & alive[:, None]
    order = np.argsort(~mask, axis=1, kind="stable")[:, : max(int(mask.sum(1).max()), 1)]
    result = np.zeros_like(mask)
    np.put_along_axis(result, order, True, axis=1)
    return result & alive[:, None]


def _rename_sizes(module: nn.Module) -> None:
    """The numbers that a module prints, and some read, follow its cut tensors."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.conv._ConvNd):
        rows, columns = module.weight.shape[:2]
        if module.groups > 1 and columns == 1:  # depthwise
            module.groups = module.groups * rows // (module.in_channels if module.transposed else module.out_channels)
        sizes = rows, columns * module.groups
        module.out_channels, module.in_channels = sizes[::-1] if module.transposed else sizes
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        tensor = module.running_mean if module.running_mean is not None else module.weight
        module.num_features = module.num_features if tensor is None else len(tensor)
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.shape[1]
    elif isinstance(module, nn.PReLU) and weight is not None:
        module.num_parameters = len(weight)


_HEARD = (
    "others hear it beside its gate (an addition, or a formula around the activation)",
    "others hear it through open gates",
)


def _stayed(
    net: nn.Module, units: Units, classes: NDArray[np.int64], leaving: _Mask, keep: dict[tuple[str, int], _Mask],
    gone: dict[str, _Mask],
) -> dict[str, str]:  # fmt: skip
    """By layer, how many of its outputs stay though a gate closes them, and why."""
    closed, opened, made = (np.zeros(units.count, bool) for _ in range(3))
    shut: dict[str, NDArray[np.int64]] = {}  # classes of its closed units by gate
    for name, module in net.named_modules():
        if isinstance(module, FixedScale) and (f"{name}.weight", 0) in units.ids:
            of, zero = classes[units.ids[f"{name}.weight", 0]], (module.weight == 0).cpu().numpy()
            shut[name] = of[zero]
            closed[shut[name]], opened[of[~zero]] = True, True
    why = dict.fromkeys(np.flatnonzero(leaving).tolist(), "without it the outputs move (a size written into forward?)")
    for ids, reason in units.pinned:
        for each in np.unique(classes[ids]).tolist():
            why.setdefault(each, reason)
    stayed = {}
    for use in units.uses:
        if (use.weight, use.rows_axis) not in units.ids:
            continue
        ids = units.ids[use.weight, use.rows_axis]
        made[classes[ids]] = True
        here = closed[classes[ids]] & keep[use.weight, use.rows_axis] & ~gone.get(use.weight, np.zeros(len(ids), bool))
        if here.any():
            heard = {k: _HEARD[int(opened[k])] for k in classes[ids[here]].tolist()}
            reasons = Counter(why.get(k, heard[k]) for k in classes[ids[here]].tolist())
            reason = reasons.most_common(1)[0][0]
            stayed[use.weight.removesuffix(".weight")] = f"{here.sum()} of {len(ids)} outputs stay: {reason}"
    for name, ids in shut.items():  # behind no weight that was followed
        if (lost := ids[~made[ids]]).size:
            reasons = Counter(why.get(k, "nothing that makes it is followed") for k in lost.tolist())
            all_of_them = len(units.ids[f"{name}.weight", 0])
            stayed[name] = f"{lost.size} of {all_of_them} units stay: {reasons.most_common(1)[0][0]}"
    return stayed
