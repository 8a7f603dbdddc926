"""What counts as an activation: torch's own, and any module that computes a nonlinear function entry by entry."""

from __future__ import annotations

import copy

import torch
from torch import nn

from vibtheory.networks.forward import MISFIT
from vibtheory.networks.streams import random_stream

__all__ = ["ACTIVATION_NAMES", "TORCH_ACTIVATIONS", "is_activation"]

_NAMES = ["relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "tanh"]
_NAMES += ["sigmoid", "hardswish", "hardsigmoid", "hardtanh"]
ACTIVATION_NAMES = frozenset([*_NAMES, *(f"{name}_" for name in _NAMES)])
TORCH_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Hardtanh,
)


def is_activation(module: nn.Module) -> bool:
    """One of torch's, or a module without weights and parts, such as a GELU of one's own, that acts as one.

    That is: in evaluation mode each entry of its result depends on the same entry of its input, and not linearly.
    """
    if isinstance(module, TORCH_ACTIVATIONS):
        return True
    if module.state_dict() or any(True for _ in module.children()):
        return False
    with torch.no_grad(), random_stream(0, "is it an activation?"):
        one, other = torch.empty(2, 4, 16, dtype=torch.float32, device="cpu").uniform_(-10, 10)
        some = torch.rand(4, 16, device="cpu") < 0.5
        try:
            f = copy.deepcopy(module).eval().forward
            a, b, mixed, middle = (f(x.clone()) for x in (one, other, torch.where(some, one, other), (one + other) / 2))
            entrywise = torch.allclose(mixed, torch.where(some, a, b), equal_nan=True)
            bend = (middle - (a + b) / 2).abs().nan_to_num(0.0)
            same = a.shape == one.shape and a.is_floating_point()  # whole numbers are tokens
            return entrywise and same and bool(bend.max() > 1e-4 * a.abs().nan_to_num(0.0).max())
        except MISFIT:  # a module for something else
            return False
