"""What compression bought: r_W, r_N and FLOP of a gated network, and its test error.

The rules are those of the paper's tables (docs/theory.md, M): `sizes` beside this file applies them to
kept counts, this file to a network; a test holds the two to each other.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from vibtheory.compression.chain import is_chain
from vibtheory.compression.cut import compress, fitting_shapes, make_weights_plain
from vibtheory.compression.evaluation import Evaluation, error, evaluate
from vibtheory.compression.liveness import alive_units, spread
from vibtheory.compression.sizes import Compression, Size, compare, fully_connected, lenet_5_caffe, vgg16, vgg19
from vibtheory.errors import InvalidInputError, as_whole, reject
from vibtheory.networks.forward import MISFIT, as_example, called, copied, copy_of, device_of, precision_of
from vibtheory.networks.gates import GateLaw, RNPGate, named_gates
from vibtheory.networks.likelihood import check_net, check_numbers

__all__ = [
    "Compression",
    "Evaluation",
    "average_flop",
    "compression",
    "error",
    "evaluate",
    "fully_connected",
    "lenet_5_caffe",
    "size_row",
    "vgg16",
    "vgg19",
]


def compression(net: nn.Module, input_shape: Sequence[int] | None = None, *, example_input: Any = None) -> Compression:
    """r_W, r_N and FLOP of a gated net: by the paper's rules where they apply, else by torch's counter.

    The paper's rules hold for Sequentials whose units stay on axis 1, and count the open gates after removing what is
    dead in either direction. Any other model is compressed: its weights (tensors of two axes and more, a shared one
    once) and multiply-adds are those of what `compress` returns, and its r_N is the share of gated units that are open.

    Args:
        net: a gated network; unchanged.
        input_shape: shape of one example, for a Sequential; None: the one common size that its layers take, as a
            Flatten before a linear layer fixes it.
        example_input: one batch [N, ...] or a tuple of inputs; needed for other models, and settles the shape for all.

    Raises:
        InvalidInputError: neither of the two kinds of net, `input_shape` does not fit, or see `compress`.
    """
    check_net("net", net)
    if example_input is not None:
        example = as_example(example_input, net)
        if not (isinstance(net, nn.Sequential) and is_chain(net, example[0], units_axis=1)):
            return _by_counting(net, example)
        input_shape = example[0].shape[1:]
    check_numbers("net", net)
    pruned, full, kept = [0, 0, 0], [0, 0, 0], []
    rows = alive_units(net)
    before: nn.Module = nn.Identity()
    mask_before: torch.Tensor | None = None
    for (name, module, mask), area in zip(rows, _areas(net, rows, input_shape), strict=True):
        if mask is None:
            continue
        out, alive_out = len(mask), int(mask.sum())
        if isinstance(module, nn.Linear | nn.Conv2d):
            fan_in = module.weight.shape[1]
            inputs = torch.ones(fan_in, dtype=torch.bool) if mask_before is None else spread(mask_before, fan_in, name)
            kernel = module.weight[0, 0].numel()
            for count, pair in ((pruned, int(inputs.sum()) * alive_out), (full, fan_in * out)):
                count[0] += kernel * pair
                count[2] += kernel * pair * area
        if _counts_as_map(module, before):
            pruned[1] += alive_out * area
            full[1] += out * area
        if isinstance(module, GateLaw):
            kept.append(alive_out)
        before, mask_before = module, mask
    return compare(Size(*pruned), Size(*full), kept)


def average_flop(net: nn.Module, x: torch.Tensor) -> float:
    """Multiply-adds of one of `x`, on average: the paper's rule, where gates may decide per input (RNP).

    A channel that is not computed for an input costs nothing there, neither in its convolution nor in the next layer;
    a policy costs its own weights.

    Args:
        net: a gated Sequential of known layers; unchanged.
        x: inputs [N, ...].

    Raises:
        InvalidInputError: as `compression`.
    """
    probe = copy_of(net).eval()
    rows = alive_units(probe)
    areas = _areas(probe, rows, x.shape[1:])
    with torch.no_grad():
        probe(x)  # each gate keeps what it saw
    zero = torch.zeros(len(x), dtype=torch.long)
    total = waiting = zero  # of each input; waiting: of the last weights for each of their outputs, not yet counted
    reached: torch.Tensor | None = None  # boolean [N, units]: what arrives
    for (_, module, mask), area in zip(rows, areas, strict=True):
        if isinstance(module, GateLaw):
            assert mask is not None
            here, decided = mask.expand(len(x), -1), module.decide() if isinstance(module, RNPGate) else None
            if isinstance(module, RNPGate) and decided is not None and module.policy is not None:
                here, total = here & decided.cpu().bool(), total + module.policy.weight.numel()
            if reached is not None:
                positions = here.shape[1] // reached.shape[1]
                here = here & reached.repeat_interleave(positions, dim=1)
                total, waiting = total + waiting * (here if positions == 1 else reached).sum(1), zero
            reached = here
        elif isinstance(module, nn.Linear | nn.Conv2d):
            assert mask is not None
            kernel, fan_in = module.weight[0, 0].numel(), module.weight.shape[1]
            inputs = zero + fan_in
            if reached is not None:
                total, inputs = total + waiting * reached.sum(1), reached.sum(1) * (fan_in // reached.shape[1])
            waiting, reached = kernel * area * inputs, mask.expand(len(x), -1)
    return float((total + (waiting if reached is None else waiting * reached.sum(1))).double().mean())


def _matrix_vector(a: Sequence[int], _: Any, **__: Any) -> int:
    return 2 * math.prod(a)


def _bilinear(a: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """Of y_k = aᵀ W_k b: the product with W, then with b."""
    return 2 * a[0] * (math.prod(weight) + weight[0] * weight[2])


# What torch's counter does not know; two operations are a multiply-add.
_FLOP = {torch.ops.aten.mv: _matrix_vector, torch.ops.aten._trilinear: _bilinear}


def _by_counting(net: nn.Module, example: tuple[Any, ...]) -> Compression:
    gates = named_gates(net).values()
    kept = [int(gate.keep.sum()) for gate in gates]
    (weights, flop), (all_weights, all_flop) = (_counted(part, example) for part in (compress(net, example), net))
    if not all_weights:
        reject("net", f"{type(net).__name__} without weights in floating point", "weights that can be cut",
               "count it before it is quantised")  # fmt: skip
    units = sum(gate.features for gate in gates)
    return compare(Size(weights, sum(kept), flop), Size(all_weights, units, all_flop), kept)


def _counted(net: nn.Module, example: tuple[Any, ...]) -> tuple[int, int]:
    """Weights, and multiply-adds of one example: the first alone, or an equal share of all where it is not taken."""
    probe = copy_of(net).eval()
    make_weights_plain(probe)
    weights = sum(p.numel() for p in probe.parameters() if p.ndim > 1)
    n = len(next(value for value in pytree.tree_leaves(example) if isinstance(value, torch.Tensor)))
    one = pytree.tree_map_only(torch.Tensor, lambda v: v[:1] if v.ndim and len(v) == n else v, example)
    with suppress(MISFIT):
        return weights, _multiply_adds(probe, one)
    return weights, _multiply_adds(probe, example) // n


def _multiply_adds(net: nn.Module, inputs: tuple[Any, ...]) -> int:
    counter = FlopCounterMode(display=False, custom_mapping=_FLOP)
    whole: Any = nullcontext()  # by module it would put hooks on gradients, which some networks do not take
    whole.parents = {"Global"}
    counter.mod_tracker = whole
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32")  # of setting any flag of mkldnn's
        # on a CPU the counter knows attention and recurrent layers by their products only
        with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH), torch.no_grad(), counter:
            called(net, copied(inputs))
    return int(counter.get_total_flops()) // 2


_NO_NEW_MAP = (nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Identity)


def _counts_as_map(module: nn.Module, before: nn.Module) -> bool:
    """Activations and poolings do; a gate where it is the first to hold its units (inputs, flattened maps)."""
    if isinstance(module, GateLaw):
        return isinstance(before, nn.Flatten | nn.Identity)
    return not isinstance(module, _NO_NEW_MAP)


def _areas(
    net: nn.Module, rows: Sequence[tuple[str, nn.Module, torch.Tensor | None]], input_shape: Sequence[int] | None
) -> list[int]:
    """Positions H·W of each module's output map (1 for vectors), from one example of zeros."""
    fitting = list(fitting_shapes(net)) if input_shape is None else [tuple(input_shape)]
    if len(fitting) != 1:
        got = f"none, and the net takes {', '.join(map(str, fitting)) or 'no common shape'}"
        reject("input_shape", got, "the shape of one example", "pass example_input=x[:2]")
    sizes = [as_whole("input_shape", size, 1, remedy="pass the shape of one example") for size in fitting[0]]
    x = torch.zeros((1, *sizes), device=device_of(net), dtype=precision_of(net))
    modes = {module: module.training for module in net.modules()}
    areas = []
    try:
        net.eval()
        with torch.no_grad():
            for name, module, _ in rows:
                try:
                    x = module(x)
                except (RuntimeError, ValueError) as failure:
                    reject("input_shape", f"{list(x.shape[1:])} at {name!r} ({failure})", "what it takes", "fix it")
                if isinstance(module, nn.Linear) and x.ndim > 2:
                    reject("net", f"a Linear at {name!r} on {list(x.shape[1:])}", "vectors", "pass example_input=x[:2]")
                areas.append(math.prod(x.shape[2:]))
    finally:
        for module, training in modes.items():
            module.training = training
    return areas


def size_row(net: nn.Module, input_shape: Sequence[int]) -> dict[str, Any]:
    """r_W, r_N (percent), FLOP and architecture for a row of the history; empty for nets without gates or chains.

    Args:
        net: as `compression` takes it.
        input_shape: shape of one example.
    """
    if not named_gates(net) or not isinstance(net, nn.Sequential):
        return {}
    try:
        size = compression(net, input_shape)
    except InvalidInputError:  # a chain of modules that the metrics do not know: r_W is not defined there
        return {}
    return {"r_w": size.r_w, "r_n": size.r_n, "flop": size.flop, "architecture": size.architecture}
