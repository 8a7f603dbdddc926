"""A Sequential's modules in order, nested ones opened up: what everything here that walks along a net starts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from torch import nn

from vibtheory.errors import reject
from vibtheory.networks.gates import GateLaw, WeightLaw

__all__ = ["join_weights", "ordered_modules"]

Net = TypeVar("Net", bound=nn.Module)

# Modules that treat every unit (axis 1) on its own, so that masks pass through unchanged.
_UNITWISE = (
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
        InvalidInputError: not a Sequential, or it contains a module whose effect on units is not known here.
    """
    if not isinstance(net, nn.Sequential) or net._forward_hooks:  # gates by interception
        remedy = "pass one of vibtheory.networks, or use vibtheory.compress for other models"
        reject("net", type(net).__name__, "a torch.nn.Sequential", remedy)
    modules = list(_leaves("", net))
    for name, module in modules:
        grouped = isinstance(module, nn.Conv2d) and module.groups != 1
        if grouped or not isinstance(module, (GateLaw, nn.Linear, nn.Conv2d, nn.Flatten, *_UNITWISE)):
            remedy = "use vibtheory.compress, which follows arbitrary models through their operations"
            reject(
                "net", f"{module} at {name!r}", "ungrouped convolutions, linear layers, gates, unit-wise layers", remedy
            )
    return modules


def _leaves(prefix: str, net: nn.Sequential) -> Iterator[tuple[str, nn.Module]]:
    for name, module in net._modules.items():  # named_children would skip a module's second use
        assert module is not None
        path = f"{prefix}{name}"
        if isinstance(module, nn.Sequential):
            yield from _leaves(f"{path}.", module)
        else:
            yield path, module


def join_weights(net: Net) -> Net:
    """`net` itself, once each gate whose law is about the weights around it knows them.

    Raises:
        InvalidInputError: `net` has such gates and is not a Sequential of known layers, or lacks what the law needs.
    """
    laws = {m.law for m in net.modules() if isinstance(m, WeightLaw)}
    if not laws:
        return net
    modules = ordered_modules(net)
    if "pf" in laws and not any(isinstance(m, nn.Conv2d) for _, m in modules):
        reject("law", "'pf' without a convolution", "a network that has filters to rank", "use another law")
    places = [-1, *(i for i, (_, m) in enumerate(modules) if isinstance(m, GateLaw)), len(modules)]
    for before, here, after in zip(places, places[1:], places[2:], strict=False):
        name, gate = modules[here]
        if isinstance(gate, WeightLaw):
            around = (modules[before + 1 : here], modules[here + 1 : after])
            gate.join(name, *(tuple(m for _, m in side) for side in around))
    return net
