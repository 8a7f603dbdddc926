"""Gradient ascent on g − ḡ: a bound that is none is found where random points would miss it."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.datasets import Dataset
from vibtheory.networks.gates import named_gates
from vibtheory.theory.quadratic import QuadraticBound

__all__ = ["worst_gap"]


def worst_gap(net: nn.Module, data: Dataset, bound: QuadraticBound, attacks: int, steps: int) -> float:
    """Largest g − ḡ that gradient ascent from `attacks` starts finds, with z put in at the gate of the net itself."""
    net = copy.deepcopy(net).double().eval().requires_grad_(False)
    gate, x, y = named_gates(net)[bound.layer or ""], torch.tensor(data.x_train).double(), torch.tensor(data.y_train)
    q, b, n = torch.tensor(bound.gram), torch.tensor(bound.b), len(x)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(attacks, bound.d, generator=generator, dtype=torch.float64)
    z = torch.tensor(bound.trained_mu) + 10 ** torch.linspace(-2, 1, attacks)[:, None] * noise
    worst = -math.inf

    def put_in(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> Tensor:
        return inputs[0] * z.repeat_interleave(n, 0).reshape(attacks * n, bound.d, *(1,) * (inputs[0].ndim - 2))

    gate.register_forward_hook(put_in)
    for step in np.geomspace(0.5, 0.005, steps):
        z = z.detach().requires_grad_(True)
        outputs = net(x.repeat(attacks, *(1,) * (x.ndim - 1)))
        g = functional.cross_entropy(outputs, y.repeat(attacks), reduction="none").reshape(attacks, n).mean(1)
        gap = g - ((z @ q) * z).sum(1) - z @ b - bound.c
        worst = max(worst, gap.max().item())
        (slope,) = torch.autograd.grad(gap.sum(), z)
        z = z + step * slope / slope.norm(dim=1, keepdim=True)
    return worst
