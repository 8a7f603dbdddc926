"""Do two networks compute the same function? Decided on the user's own input and on random ones like it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from vibtheory.errors import as_torch_seed
from vibtheory.networks.forward import MISFIT, called, copied, embeddings
from vibtheory.networks.streams import random_stream

__all__ = ["deviation", "device_of_inputs", "opened", "other_sizes", "probes", "training_batches"]

_RANDOM = 3  # inputs drawn beside the example
_ROWS = 8


def probes(example: tuple[Any, ...], net: nn.Module | None = None) -> list[tuple[Any, ...]]:
    """The example, and random inputs of its shapes: normal with its own mean and spread, standard, and wide.

    Tensors that are not floating point (tokens, masks) stay as they are, and so do whole numbers for a `net` that
    embeds tokens.
    """
    generator = torch.Generator().manual_seed(as_torch_seed("seed", 0, "probes of equal outputs"))
    embeds = net is not None and bool(embeddings(net))

    def like(value: Any, draw: int) -> Any:
        if not (isinstance(value, Tensor) and value.is_floating_point()) or (embeds and not bool((value % 1).any())):
            return value
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        centre, spread = ((value.double().mean(), value.double().std(correction=0)), (0.0, 1.0), (1.0, 10.0))[draw]
        return (centre + spread * noise.to(value.device)).to(value.dtype)

    return [example, *(pytree.tree_map(lambda v, d=draw: like(v, d), example) for draw in range(_RANDOM))]


def other_sizes(example: tuple[Any, ...], net: nn.Module) -> list[tuple[Any, ...]]:
    """The example, two rows at most, with twice the batch, length or height and width: those that `net` takes.

    What was read off the example's sizes (the value of a sum over tokens, a number of rows in a reshape) shows there.
    """
    shapes = {value.shape for value in pytree.tree_leaves(example) if isinstance(value, Tensor) and value.ndim}
    lengths = {shape[0] for shape in shapes}
    rows = lengths.pop() if len(lengths) == 1 else None
    if rows is None:
        return []
    few = pytree.tree_map_only(Tensor, lambda v: v[:2] if v.ndim else v, example)

    def twice(axes: tuple[int, ...], shape: Sequence[int]) -> tuple[Any, ...]:
        def one(value: Tensor) -> Tensor:
            for axis in axes:
                same = value.ndim > axis and value.shape[axis] == shape[axis]
                value = torch.cat([value] * 2, axis) if same else value
            return value

        larger: tuple[Any, ...] = pytree.tree_map_only(Tensor, one, few)
        return larger

    found = [twice((0,), [min(rows, 2)])]
    for axes in ((1,), (2,), (2, 3), (2, 3, 4)):
        found += [twice(axes, shape) for shape in sorted(shapes) if len(shape) > axes[-1]]
    taken = []
    for inputs in found:
        with suppress(MISFIT), torch.no_grad():
            called(copy.deepcopy(net), copied(inputs))
            taken.append(inputs)
    return taken


def training_batches(example: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The example eight times over, and as it is.

    One row may leave all units at 0, and BatchNorm takes no batch of one; what is no batch (a mask) cannot be repeated.
    """
    many = pytree.tree_map(lambda v: torch.cat([v] * _ROWS) if isinstance(v, Tensor) and v.ndim else v, example)
    return [many, example]


def deviation(reference: nn.Module, small: nn.Module, inputs: list[tuple[Any, ...]], seed: int | None = None) -> float:
    """The largest |difference| of any output entry, relative to the largest entry of that output tensor in size.

    Of `inputs` the first is the example; others that `reference` refuses (negative numbers, say) do not count. All
    tensors of a tuple, dict or nested output count; infinity where structure or shapes differ, or where an output
    that is 0 everywhere does not stay so. Both networks are called as they are, without gradients; with a seed, from
    the same random state; the global one is left alone.
    """
    worst = 0.0
    with torch.no_grad():
        for place, one in enumerate(inputs):
            try:
                wanted, structure = _call(reference, one, seed)
            except MISFIT:
                if place == 0:
                    raise
                continue
            got, other = _call(small, one, seed)
            if structure != other:
                return math.inf
            for a, b in zip(wanted, got, strict=True):
                worst = max(worst, _relative(a, b))
    return worst


def device_of_inputs(inputs: Any) -> torch.device:
    """That of the first tensor in `inputs`, nested or not; without one the CPU."""
    tensors = (value for value in pytree.tree_leaves(inputs) if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _call(net: nn.Module, inputs: tuple[Any, ...], seed: int | None) -> Any:
    with nullcontext() if seed is None else random_stream(seed, "comparison of outputs", device_of_inputs(inputs)):
        return pytree.tree_flatten(opened(called(net, copied(inputs))))


def opened(output: Any) -> Any:
    """Dataclasses among outputs, and objects that are equal to themselves alone (a cache, a distribution), as dicts.

    Of what such an object holds a module counts by its type only.
    """

    def inside(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, dict | type):
            return opened({field.name: getattr(value, field.name) for field in fields(value)})
        if isinstance(value, nn.Module):
            return type(value)
        own = isinstance(value, type) or any("__eq__" in vars(kind) for kind in type(value).__mro__[:-1])
        return value if own or not hasattr(value, "__dict__") else opened(dict(vars(value)))

    return pytree.tree_map(inside, output)


def _relative(wanted: Any, got: Any) -> float:
    if not isinstance(wanted, Tensor):
        return 0.0 if wanted == got else math.inf
    if not isinstance(got, Tensor) or wanted.shape != got.shape or wanted.is_complex() != got.is_complex():
        return math.inf
    wanted, got = ((torch.view_as_real(v.resolve_conj()) if v.is_complex() else v).double() for v in (wanted, got))
    finite = torch.isfinite(wanted)
    if not torch.equal(wanted[~finite].nan_to_num(), got[~finite].nan_to_num()):
        return math.inf
    difference = (got[finite] - wanted[finite]).abs().nan_to_num(nan=math.inf, posinf=math.inf)
    if not difference.numel() or not bool(difference.any()):
        return 0.0
    size = float(wanted[finite].abs().max())
    return float(difference.max()) / size if size > 0 else math.inf
