"""A Sequential's modules in order, nested ones opened up: what everything here that walks along a net starts from."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from vibtheory.errors import reject
from vibtheory.networks.gates import GateLaw

__all__ = ["ordered_modules"]

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
    if not isinstance(net, nn.Sequential):
        remedy = "pass one of vibtheory.networks, or use vibtheory.compress for other models"
        reject("net", type(net).__name__, "a torch.nn.Sequential", remedy)
    modules = list(_leaves("", net))
    for name, module in modules:
        grouped = isinstance(module, nn.Conv2d) and module.groups != 1
        if grouped or not isinstance(module, (GateLaw, nn.Linear, nn.Conv2d, nn.Flatten, *_UNITWISE)):
            remedy = "use vibtheory.compress, which follows arbitrary models through torch-pruning"
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
