"""Running a network up to a gate, or with a gate's z put in, such that nothing of it is changed afterwards."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from vibtheory.errors import InvalidInputError, reject
from vibtheory.networks.gates import GateLaw, named_gates
from vibtheory.networks.remembering import remembered
from vibtheory.networks.streams import random_stream

__all__ = [
    "MISFIT",
    "activation",
    "as_example",
    "as_indices",
    "called",
    "check_modes",
    "copied",
    "copy_of",
    "device_of",
    "embeddings",
    "evaluating",
    "gate_held_at",
    "in_float64",
    "is_dense",
    "precision_of",
    "results_before",
    "run_on",
    "take_float_tokens",
    "takes_float_tokens",
    "with_hooks",
    "with_results",
]

MISFIT = Exception
"""What a forward pass raises on what it was not written for (other inputs, a trace's proxies, layers that were cut):
anything, as its author chose."""

Call = tuple[nn.Module, Any]


class _Reached(Exception):
    """Raised in a hook to end a forward pass there."""


@contextmanager
def evaluating(
    net: nn.Module,
    sampled: Iterable[GateLaw] = (),
    seed: int | Sequence[int] | None = None,
    purpose: str = "evaluation",
) -> Iterator[None]:
    """Evaluation mode inside a `with` block: every gate at its masked mean, those in `sampled` drawn on kept units.

    Modes, gates, buffers and plain attributes (some models record what they see in evaluation too) are restored
    whatever happens; with a seed (several numbers make one), which has a stream of its own for each purpose, torch's
    random state too.
    """
    restore = remembered(net)
    place = device_of(net)
    first, *more = (seed,) if seed is None or isinstance(seed, int) else seed
    with nullcontext() if first is None else random_stream(first, " ".join(map(str, (purpose, *more))), place):
        try:
            net.eval()
            for gate in named_gates(net).values():
                gate.sample_in_eval = False
            for gate in sampled:
                gate.sample_in_eval = True
            yield
        finally:
            restore()


def as_example(example_input: Any, net: nn.Module | None = None, argument: str = "example_input") -> tuple[Any, ...]:
    """A batch, or a tuple of positional inputs, as such a tuple, arrays as tensors; in the precision that `net` takes.

    With `net` it is a copy: a first layer that works in place leaves the caller's own as they are.

    Raises:
        InvalidInputError: no tensor among them, as in a DataLoader; one without examples or values; or not what `net`
            takes in evaluation mode.
    """
    given = example_input if isinstance(example_input, tuple) else (example_input,)
    arrays = [value for value in pytree.tree_leaves(given) if isinstance(value, np.ndarray | Tensor)]
    if not arrays or not is_dense(arrays[0]) or len(arrays[0]) == 0:
        got = f"a {type(example_input).__name__}"
        if arrays:
            got += f" of shape {list(arrays[0].shape)}, {arrays[0].dtype}"
            got += f", {arrays[0].layout} on {arrays[0].device}" if isinstance(arrays[0], Tensor) else ""
        reject(argument, got, "one batch [N, ...] of numbers, or a tuple of inputs", "pass x_train[:2]")
    found = tuple(torch.as_tensor(value) if isinstance(value, np.ndarray) else value for value in given)
    if any(v.isnan().any() for v in pytree.tree_leaves(found) if isinstance(v, Tensor) and v.is_floating_point()):
        reject(argument, "NaN among its numbers", "one batch [N, ...] of numbers, or a tuple of inputs", "clean it")
    if net is None:
        return found
    own = precision_of(net)
    cast: tuple[Any, ...] = pytree.tree_map_only(Tensor, lambda v: v.to(own) if v.is_floating_point() else v, found)
    with evaluating(net), takes_float_tokens(net):
        try:
            run_on(net, copied(found), argument)
        except InvalidInputError:  # numpy's float64 for a float32 network, say
            if all(v.dtype == w.dtype for v, w in zip(*map(pytree.tree_leaves, (cast, found)), strict=True)
                   if isinstance(v, Tensor)):  # fmt: skip
                raise
            run_on(net, copied(cast), argument)
            found = cast
    return copied(found)


def copy_of(net: nn.Module) -> nn.Module:
    """A copy of `net`; tensors that it keeps from its last forward pass come without the graph, which torch refuses."""
    memo: dict[int, Any] = {}
    for value in pytree.tree_leaves([vars(module) for module in net.modules()]):
        if isinstance(value, Tensor) and not value.is_leaf:
            memo[id(value)] = value.detach().clone()
    return copy.deepcopy(net, memo)


def check_modes(argument: str, net: nn.Module) -> nn.Module:
    """`net`, a copy, after train() and eval(). Raises InvalidInputError about `argument` where these do not give it."""
    try:
        same = net.train() is net and net.eval() is net
    except MISFIT:  # a model for prediction alone
        same = False
    if not same:
        reject(argument, f"{type(net).__name__}, whose train() fails or does not return it", "train() as torch's",
               "end it with `return self`")  # fmt: skip
    return net


def with_hooks(net: nn.Module, given: nn.Module) -> nn.Module:
    """`net`, a copy of `given` to be trained, with the hooks on gradients of its parameters: torch's copy has none."""
    theirs = dict(given.named_parameters())
    for name, parameter in net.named_parameters():
        for hook in ((name in theirs and theirs[name]._backward_hooks) or {}).values():
            parameter.register_hook(hook)  # type: ignore[no-untyped-call]
    return net


def copied(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same with tensors of their own, which a first layer may work on in place."""
    copies: tuple[Any, ...] = pytree.tree_map_only(Tensor, torch.clone, inputs)
    return copies


def is_dense(values: Any) -> bool:
    """Whether an array or tensor [N, ...] holds numbers, one for each place: not text, not sparse, not on "meta"."""
    if isinstance(values, Tensor):
        return values.ndim > 0 and values.layout == torch.strided and not values.is_meta
    return values.ndim > 0 and values.dtype.kind in "biufc"


def precision_of(net: nn.Module) -> torch.dtype:
    """That of the first weight in floating point; gates, often float32 in a float64 net, count if there is no other."""
    weights = [(p, isinstance(m, GateLaw)) for m in net.modules() for p in m.parameters(recurse=False)]
    kinds = [p.dtype for p, _ in sorted(weights, key=lambda each: each[1]) if p.is_floating_point()]
    return kinds[0] if kinds else torch.float32


def device_of(net: nn.Module) -> torch.device:
    """That of the first weight or buffer; the CPU where there is none."""
    return next(chain(net.parameters(), net.buffers()), torch.zeros(())).device


def called(net: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """net(*inputs); where a traced net fails, without the trace that torch.fx prints on stderr beside its error."""
    return nn.Module.__call__(net, *inputs) if isinstance(net, fx.GraphModule) else net(*inputs)


def run_on(net: nn.Module, inputs: tuple[Any, ...], argument: str = "example_input") -> Any:
    """net(*inputs) without gradients. Raises InvalidInputError where it does not take them."""
    try:
        with torch.no_grad():
            return called(net, inputs)
    except MISFIT as failure:
        detail = " ".join(str(failure).split())[:300]
        reject(argument, f"an input the model does not take ({detail})", "one batch", "pass x_train[:2]")


def in_float64(net: nn.Module, x: Any) -> nn.Module:
    """A copy of `net` in float64; in its own precision where its forward pass does not run in that on x [N, ...]."""
    exact = copy_of(net).double()
    place = device_of(exact)
    try:
        with torch.no_grad(), evaluating(exact):
            own = torch.as_tensor(x[:2]).to(place, torch.float64, copy=True)  # a first layer may work in place
            called(exact, (own,))
    except MISFIT:  # it says so again, or runs, in its own precision
        return copy_of(net)
    return exact


def activation(net: nn.Module, module: nn.Module, x: Tensor, *, stop: bool = False, call: int | None = None) -> Tensor:
    """f [N, ...], what enters `module` of `net` if it is a gate, and what leaves any other one; without gradients.

    Args:
        net: as it is; see `evaluating`. module: one of its modules.
        x: inputs [N, ...]. stop: end the forward pass there, where it is known that there is one call.
        call: which of several calls, counted from 0; None: there is one.

    Raises:
        InvalidInputError: the forward pass calls the module several times, or never, or not as often as `call` says; or
            what it returns is no tensor.
    """
    caught: list[Any] = []

    def catch(_: nn.Module, inputs: tuple[Any, ...], output: Tensor | None = None) -> None:
        found = inputs[0] if output is None else output
        caught.append(found.detach().clone() if isinstance(found, Tensor) else found)  # what follows may work in place
        if stop:
            raise _Reached

    gate = isinstance(module, GateLaw)
    watch = module.register_forward_pre_hook(catch) if gate else module.register_forward_hook(catch)
    try:
        with torch.no_grad():
            net(x.clone())  # a first layer may work in place
    except _Reached:
        pass
    finally:
        watch.remove()
    name = next((name for name, part in net.named_modules() if part is module), type(module).__name__)
    if call is None and len(caught) != 1:
        reject("layer", f"{name!r}, called {len(caught)} times in one forward pass", "exactly one call",
               "give every place in the network a gate of its own, or say which call is meant")  # fmt: skip
    if call is not None and not 0 <= call < len(caught):
        reject("call", call, f"0 to {len(caught) - 1}, the calls of {name!r} in one forward pass", "count from 0")
    found = caught[call or 0]
    if not isinstance(found, Tensor):
        reject("layer", f"{name!r}, which gives a {type(found).__name__}", "one tensor, [N, ...]",
               "choose a module that gives a tensor, such as the one after it")  # fmt: skip
    return found


@contextmanager
def gate_held_at(gate: GateLaw, z: Tensor) -> Iterator[None]:
    """Inside a `with` block `gate` multiplies by z: [d], or [N, d] with a row for each example of the batch."""

    def put_in(h: Tensor) -> Tensor:
        shape = [1] * h.ndim
        shape[gate.axis] = gate.features
        shape[0] = len(z) if z.ndim == 2 else 1
        return (h * z.reshape(shape)).to(h.dtype)

    with _forwards({gate: put_in}):  # hooks of the user's own see what it puts in
        yield


@contextmanager
def _forwards(own: dict[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Inside a `with` block those modules compute with other functions."""
    before: dict[nn.Module, Any] = {module: vars(module).get("forward") for module in own}
    try:
        for module, function in own.items():
            module.forward = function
        yield
    finally:
        for module, function in before.items():
            vars(module).pop("forward")
            if function is not None:
                module.forward = function


def results_before(net: nn.Module, gate: nn.Module, x: Tensor) -> tuple[list[Call], Tensor]:
    """What the modules return whose calls end before `gate` is called (outermost ones alone), and f, what enters it.

    One forward pass on x [N, ...], which ends there, without gradients; results are copies.
    """
    unfinished: list[list[Call]] = [[]]
    entered: list[Tensor] = []

    def watched(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if module is gate:
                entered.append(args[0])
                raise _Reached
            unfinished.append([])
            result = forward(*args, **kwargs)
            unfinished.pop()
            unfinished[-1].append((module, pytree.tree_map_only(Tensor, Tensor.clone, result)))
            return result

        return run

    parts = {module: watched(module, module.forward) for module in net.modules() if module is not net}
    with torch.no_grad(), _forwards(parts), suppress(_Reached):
        net(x.clone())
    return [call for calls in unfinished for call in calls], entered[0]


@contextmanager
def with_results(calls: Iterable[Call], grows: Iterable[bool] = (), times: int = 1) -> Iterator[None]:
    """Inside a `with` block those calls of modules, in one forward pass, return copies of what is given.

    Args:
        calls: from `results_before`. times: how many times the batch is repeated; `grows`: whether a tensor is too.
    """
    left: dict[nn.Module, list[Any]] = {}
    growing = iter(grows)

    def repeated(v: Tensor) -> Tensor:
        return v.repeat(times, *(1,) * (v.ndim - 1)) if times > 1 and next(growing) else v.clone()

    for module, result in calls:
        left.setdefault(module, []).append(pytree.tree_map_only(Tensor, repeated, result))

    def first(results: list[Any], forward: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: results.pop(0) if results else forward(*args, **kwargs)

    with _forwards({module: first(results, module.forward) for module, results in left.items()}):
        yield


def embeddings(net: nn.Module) -> list[nn.Module]:
    """The tables in which `net` looks tokens up."""
    return [module for module in net.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)]


@contextmanager
def takes_float_tokens(net: nn.Module) -> Iterator[None]:
    """Inside a `with` block `net` looks up tokens that come as floating point, as data sets hold them."""
    handles = [module.register_forward_pre_hook(as_indices) for module in embeddings(net)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def take_float_tokens(net: nn.Module) -> None:
    """As `takes_float_tokens`, for good."""
    for module in embeddings(net):
        module.register_forward_pre_hook(as_indices)


def as_indices(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The hook of `take_float_tokens`."""
    return (inputs[0].long(), *inputs[1:]) if inputs and inputs[0].is_floating_point() else None
