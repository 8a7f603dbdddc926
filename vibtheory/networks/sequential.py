"""A Sequential's modules in order, nested ones opened up: what everything here that walks along a net starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from torch import nn

from vibtheory.errors import InvalidInputError, reject
from vibtheory.networks.gates import GateLaw, WeightLaw

__all__ = ["computes_as", "flat_names", "free_name", "join_weights", "ordered_modules"]

Net = TypeVar("Net", bound=nn.Module)

# Beside weights: modules that treat every unit (axis 1) on its own, so that masks pass through unchanged.
_KNOWN = (
    nn.Linear,
    nn.Conv2d,
    nn.Flatten,
    nn.ReLU,
    nn.LeakyReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.GELU,
    nn.SiLU,
    nn.ELU,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
)


def ordered_modules(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules of a (possibly nested) Sequential, in order, with their path names.

    Raises:
        InvalidInputError: not a Sequential, or it contains a module whose effect on units is not known here, such as a
            Sequential or a layer with a forward pass of its own.
    """
    if not computes_as(net, (nn.Sequential,)) or net._forward_hooks:  # gates by interception
        remedy = "pass example_input=x[:2], which any model may be followed on, or one of vibtheory.networks"
        reject("net", type(net).__name__, "a torch.nn.Sequential", remedy)
    modules = list(_leaves("", net))
    for name, module in modules:
        grouped = isinstance(module, nn.Conv2d) and module.groups != 1
        if grouped or not (isinstance(module, GateLaw) or computes_as(module, _KNOWN)):
            remedy = "use vibtheory.compress, which follows arbitrary models through their operations"
            reject(
                "net", f"{module} at {name!r}", "ungrouped convolutions, linear layers, gates, unit-wise layers", remedy
            )
    return modules


def computes_as(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether `module` is one of `kinds` with its forward pass: a subclass, or an instance, may have one of its own.

    One that is put on an object for the time being says what it `stands_for` (see `vibtheory.training.distributed`).
    """
    base = next((kind for kind in kinds if isinstance(module, kind)), None)
    forward = vars(module).get("forward", type(module).forward)
    return base is not None and getattr(forward, "stands_for", forward) is base.forward


def _leaves(prefix: str, net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in net._modules.items():  # named_children would skip a module's second use
        assert module is not None
        path = f"{prefix}{name}"
        if computes_as(module, (nn.Sequential,)):
            yield from _leaves(f"{path}.", module)
        else:
            yield path, module


def flat_names(paths: Iterable[str]) -> dict[str, str]:
    """A name without dots for each path: "_" in their place, and a number where that is another's name already."""
    paths = list(paths)
    names = {path: path for path in paths if "." not in path}
    for path in paths:
        if path not in names:
            names[path] = free_name(path.replace(".", "_"), set(names.values()).__contains__)
    return names


def free_name(wanted: str, taken: Callable[[str], bool]) -> str:
    """`wanted`, or with the first of _2, _3, … behind it that is not taken."""
    name, k = wanted, 2
    while taken(name):
        name, k = f"{wanted}_{k}", k + 1
    return name


def join_weights(net: Net) -> Net:
    """`net` itself, once each gate whose law is about the weights around it knows them.

    Raises:
        InvalidInputError: `net` has such gates and is not a Sequential of known layers, or lacks what the law needs.
    """
    laws = {m.law for m in net.modules() if isinstance(m, WeightLaw)}
    if not laws:
        return net
    try:
        modules = ordered_modules(net)
    except InvalidInputError as error:  # its remedy is not one here
        why, _, _ = str(error).partition(". Remedy: ")
        got = f"{', '.join(map(repr, sorted(laws)))}, of weights found in a chain alone ({why})"
        reject("law", got, "a law of the gates themselves, for this network", 'use law="vib", "l0" or another')
    if "pf" in laws and not any(isinstance(m, nn.Conv2d) for _, m in modules):
        reject("law", "'pf' without a convolution", "a network that has filters to rank", "use another law")
    places = [-1, *(i for i, (_, m) in enumerate(modules) if isinstance(m, GateLaw)), len(modules)]
    for before, here, after in zip(places, places[1:], places[2:], strict=False):
        name, gate = modules[here]
        if isinstance(gate, WeightLaw):
            around = (modules[before + 1 : here], modules[here + 1 : after])
            gate.join(name, *(tuple(m for _, m in side) for side in around))
    return net
