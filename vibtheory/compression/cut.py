"""Physical compression: a gated network becomes a plain, smaller torch model with the same outputs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from vibtheory.compression.chain import compress_chain, is_chain
from vibtheory.compression.graph import CutReport, compress_graph
from vibtheory.errors import InvalidInputError, reject
from vibtheory.networks.equivalence import deviation, probes
from vibtheory.networks.forward import MISFIT, as_example, check_modes, copy_of, device_of, precision_of
from vibtheory.networks.gates import GateLaw, named_gates
from vibtheory.networks.likelihood import check_net, check_numbers
from vibtheory.networks.sequential import flat_names, ordered_modules

__all__ = ["compress"]

_FORGOTTEN = 1e-4  # outputs move further where train() has emptied more than what evaluation makes anew


def compress(net: nn.Module, example_input: Any = None, *, fold_batchnorm: bool = False) -> nn.Module:
    """A plain torch model without gates, physically smaller, with the outputs of `net.eval()` to float rounding.

    Closed units and everything that only fed them are cut out; the means of the open gates move into the weights. Where
    inputs or single units of a flattened map were pruned, a `Select` keeps their index, so the small model accepts the
    original input. Chains (nested Sequentials of linear layers, convolutions, BatchNorm, pooling, Flatten) are cut
    layer by layer; other models by following their operations on the example: channels coupled by additions, depthwise
    filters or shared weights leave where all listeners hear nothing of them; else closed listeners and unneeded makers
    are cut alone, between a `Select` and an `Expand`. `cut_report` on the result says what stayed, and why.

    Args:
        net: a gated network; unchanged.
        example_input: one input batch or a tuple of inputs, as the model will see them: shapes are traced on it, and
            outputs are compared on it and on random inputs like it. None: chains only, whose first layer tells.
        fold_batchnorm: also merge BatchNorm into the weights before it (chains; leave False to fine-tune).

    Returns:
        The small model in evaluation mode. Fine-tuning is ordinary training of it.

    Raises:
        InvalidInputError: no gates, or some that decide per input; a layer would vanish (the message names it),
            `example_input` missing where it is needed, or a model that cannot be cut without changing its outputs.
    """
    check_net("net", net)
    if not named_gates(net):
        remedy = "compress networks of vibtheory.networks, or call vibtheory.insert_gates and train first"
        reject("net", f"{type(net).__name__} without gates", "a gated network", remedy)
    check_numbers("net", net)
    if per_input := [name for name, gate in named_gates(net).items() if gate.per_input]:
        reject("net", f"gates that decide per input: {', '.join(per_input)}", "gates that are the same for all inputs",
               "use it as it is; vibtheory.compression.metrics.average_flop counts it")  # fmt: skip
    example = _example_for(net) if example_input is None else as_example(example_input, net)
    chain = example is not None and isinstance(net, nn.Sequential) and is_chain(net, *example[:1])
    if fold_batchnorm and not chain:
        reject("fold_batchnorm", True, "False for a model that is not a chain", "leave it out")
    if example is None:
        reject("example_input", None, "an input batch, since the model is not a chain of known input", "pass x[:2]")
    for precise in (True, False):
        try:
            return _compress(net, example, chain, fold_batchnorm, precise)
        except InvalidInputError:
            raise
        except MISFIT:  # a forward pass that insists on its own precision
            if not precise:
                raise
    raise AssertionError


def _compress(net: nn.Module, example: tuple[Any, ...], chain: bool, fold_batchnorm: bool, precise: bool) -> nn.Module:
    """Cut and compare in float64 where the model takes it, and hand the result back in the model's own precision."""
    exact, before = check_modes("net", copy_of(net)), copy_of(net).eval()  # train() forgets what evaluation keeps
    if not deviation(*copy.deepcopy((before, exact)), [example]) <= _FORGOTTEN:  # no position biases: what it needs
        exact = before
    make_weights_plain(exact)
    dtypes = _dtypes(exact, chain)
    if precise:
        exact = exact.double()
        for value in (*exact.parameters(), *exact.buffers()):
            if value.is_complex():
                value.data = value.data.to(torch.complex128)
        example = pytree.tree_map(lambda v: v.double() if torch.is_tensor(v) and v.is_floating_point() else v, example)
    tolerance = 1e-9 if precise else 1e-4
    inputs, report = probes(example, net), CutReport({})
    if chain:
        small: nn.Module = compress_chain(exact, fold_batchnorm=fold_batchnorm)  # type: ignore[arg-type]
        moved = deviation(exact, small, inputs)
        if not moved <= tolerance:
            reject("net", f"a chain whose outputs would move by {moved:.2g} of their size", "unchanged outputs",
                   "make a module of a hook that changes values, or report it with the model")  # fmt: skip
    else:
        small, report = compress_graph(exact, inputs, tolerance)
    main = precision_of(net)
    for name, value in (*small.named_parameters(), *small.named_buffers()):
        if value.is_floating_point() or value.is_complex():  # a layer cut alone stands between others, as ".layer"
            value.data = value.data.to(dtypes.get(name) or dtypes.get(name.replace(".layer.", ".")) or main)
    small.eval().cut_report = report  # type: ignore[assignment]
    return small


def _dtypes(net: nn.Module, chain: bool) -> dict[str, torch.dtype]:
    """Of each parameter and buffer, by its name before and after the cut."""
    found = {name: value.dtype for name, value in (*net.named_parameters(), *net.named_buffers())}
    if chain:
        names = flat_names(path for path, _ in ordered_modules(net))
        paths = {name: name.rpartition(".") for name in found}
        found |= {f"{names[path]}.{leaf}": found[name] for name, (path, _, leaf) in paths.items() if path in names}
    return found


def make_weights_plain(net: nn.Module) -> None:
    """Weight norm, spectral norm and other parametrisations become the numbers that they are in evaluation.

    Not by torch's `remove_parametrizations`: it alters the class, which a copy shares with its original.
    """
    for module in [m for m in net.modules() if parametrize.is_parametrized(m)]:
        found = {}
        for name, behind in module.parametrizations.items():  # type: ignore[union-attr, operator]
            learns = any(p.requires_grad for p in behind.parameters())
            found[name] = nn.Parameter(getattr(module, name).detach().clone(), learns)
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        for name, value in found.items():
            module.register_parameter(name, value)


def fitting_shapes(net: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes of one example that a chain takes: its first layer's width, or images of common sizes."""
    first = next((m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d | GateLaw)), None)
    if not isinstance(net, nn.Sequential) or first is None:
        return
    sides = (28, 32, 64, 224, 96, 16, 8)
    width = first.in_features if isinstance(first, nn.Linear) else getattr(first, "features", 0)
    shapes = [(first.in_channels, s, s) for s in sides] if isinstance(first, nn.Conv2d) else [(width,)]
    probe = copy_of(net).eval().to("meta")  # shapes only
    for shape in shapes:
        with torch.no_grad():
            try:
                probe(torch.zeros(2, *shape, dtype=precision_of(net), device="meta"))
            except (RuntimeError, ValueError):
                continue
        yield shape


def _example_for(net: nn.Module) -> tuple[Tensor] | None:
    """An input that a chain takes; None where none is found."""
    shape = next(fitting_shapes(net), None)
    return None if shape is None else (torch.zeros(2, *shape, dtype=precision_of(net), device=device_of(net)),)
