"""What closed gates make idle: cut out of a chain of modules, or masked entry by entry, without changing its output.

A gate that is held at its masked mean multiplies its closed units by exactly 0, so whatever only feeds them never
reaches the loss. Leaving it out changes neither g nor the validity of ḡ; it makes Lipschitz surrogates tighter (fewer
rows of V, smaller norms) and everything faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.compression.chain import compress_chain
from vibtheory.compression.fixed_modules import FixedScale, Select
from vibtheory.errors import InvalidInputError
from vibtheory.networks.forward import device_of
from vibtheory.networks.gates import Gate

__all__ = ["is_elementwise", "reaches_output", "without_closed_units"]

_ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus, nn.Hardtanh,
                nn.ReLU6, nn.Softsign, nn.LogSigmoid, nn.Identity, nn.Dropout, nn.Dropout2d, nn.BatchNorm1d,
                nn.BatchNorm2d)  # fmt: skip
_LINEAR = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Unflatten, Select)


def without_closed_units(modules: Sequence[nn.Module]) -> list[nn.Module]:
    """`modules` (evaluation mode) as a smaller chain with the same outputs to rounding; as given where no cut is exact.

    Args:
        modules: applied one after the other; their gates are held at their masked means. All units of the first
            module's input and of the last one's output stay.
    """
    given = list(modules)
    net = nn.Sequential(*given)
    gates = [module for module in net.modules() if isinstance(module, Gate)]
    if all(bool(gate.keep.all()) for gate in gates) or any(gate.axis != 1 for gate in gates):
        return given
    try:
        small = list(compress_chain(net))
    except InvalidInputError:  # modules that the cut does not know, or a layer with nothing open
        return given
    # a FixedScale is rounded to float32, which would not be exact
    return given if any(isinstance(module, FixedScale) for module in small) else small


def reaches_output(modules: Sequence[nn.Module], shape: Sequence[int]) -> Tensor:
    """Which entries of the first module's input can change the last one's output: boolean mask of `shape`.

    Walks backwards; exact zeros in weights and gates block. A module that is not known here lets everything pass.

    Args:
        modules: in float64 and evaluation mode. shape: of the input, without the batch axis.
    """
    inputs = [torch.zeros(1, *shape, dtype=torch.float64, device=device_of(nn.Sequential(*modules)))]
    with torch.no_grad():
        for module in modules:
            inputs.append(module(inputs[-1]))
    mask = torch.ones_like(inputs[-1], dtype=torch.bool)
    for module, at in zip(reversed(list(modules)), reversed(inputs[:-1]), strict=True):
        mask = _pulled_back(module, at, mask)
    return mask[0]


def is_elementwise(module: nn.Module | None) -> bool:
    """Whether every entry of `module`'s result depends on the same entry of its input alone."""
    return isinstance(module, _ELEMENTWISE)


def _pulled_back(module: nn.Module, at: Tensor, mask: Tensor) -> Tensor:
    if is_elementwise(module):
        return mask
    if isinstance(module, Gate):
        shape = [1] * at.ndim
        shape[module.axis] = module.features
        return mask & (module.mean() != 0).reshape(shape)
    with torch.enable_grad():
        probe = at.clone().requires_grad_(True)
        response = _pattern(module, probe)
        if response is None:
            return torch.ones_like(at, dtype=torch.bool)
        # non-negative weights: a sum is zero only where every term is
        (reached,) = torch.autograd.grad((response * mask).sum(), probe)
    return reached > 0


def _pattern(module: nn.Module, x: Tensor) -> Tensor | None:
    """A linear map with non-negative weights and the same non-zeros as `module`'s dependence on x."""
    if isinstance(module, nn.Linear):
        return functional.linear(x, (module.weight != 0).to(x.dtype))
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
        weight = (module.weight != 0).to(x.dtype)
        return functional.conv2d(x, weight, None, module.stride, module.padding, module.dilation, module.groups)
    if isinstance(module, nn.MaxPool2d) and module.dilation in (1, (1, 1)):
        stride = module.stride or module.kernel_size
        return functional.avg_pool2d(x, module.kernel_size, stride, module.padding, module.ceil_mode)
    return module(x) if isinstance(module, _LINEAR) else None
