"""A gated network 6-5-4-3 and data for it, small enough for every kind of bound."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from vibtheory.datasets import Dataset, from_arrays
from vibtheory.networks.gates import named_gates
from vibtheory.networks.lenet import mlp


def small_data(n: int = 60, likelihood: str = "multinomial") -> Dataset:
    """Inputs [n, 6]; 3 classes, or 3 targets for "gaussian"."""
    generator = np.random.default_rng(5)
    x = 2 * generator.standard_normal((n, 6))
    if likelihood == "gaussian":
        y = generator.standard_normal((n, 3))
        return from_arrays(x, y, x[:2], y[:2], likelihood="gaussian")
    labels = generator.integers(0, 3, n)
    return from_arrays(x, labels, x[:2], labels[:2], classes=3)


def small_net() -> nn.Sequential:
    """Gates input, h1, h2 with means between 0.5 and 2 and log σ² = −2.5."""
    torch.manual_seed(2)
    built = mlp((6, 5, 4, 3))
    for gate in named_gates(built).values():
        gate.mu.data.uniform_(0.5, 2.0)
        gate.log_var.data.fill_(-2.5)
    return built
