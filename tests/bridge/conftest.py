"""Small gated networks and data with non-unit scales, shared by the tests of the surrogates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from vibtheory.datasets import Dataset, from_arrays
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.lenet import mlp


def _spread_gates(net: nn.Module, log_variance: float = -1.5) -> nn.Module:
    """Gates away from their initial values: means of both signs, one unit closed."""
    for i, gate in enumerate(named_gates(net).values()):
        values = torch.linspace(-1.7, 2.3, gate.features) + 0.1 * i
        gate.mu.data.copy_(values)
        gate.mu.data[0] = 1e-3  # below the threshold: the masked mean is 0
        gate.log_var.data.fill_(log_variance)
    return net


def _dense(outputs: int = 3) -> nn.Module:
    torch.manual_seed(3)
    net = mlp((6, 5, 4, outputs))
    for parameter in net.parameters():
        parameter.data.mul_(1.7)
    return _spread_gates(net)


def _convolutional() -> nn.Module:
    torch.manual_seed(5)
    stages: list[tuple[str, nn.Module]] = [
        ("convolution1", nn.Conv2d(2, 4, 3, padding=1)),
        ("norm1", nn.BatchNorm2d(4)),
        ("relu1", nn.ReLU()),
        ("conv1", Gate(4, multiplier=36)),
        ("convolution2", nn.Conv2d(4, 5, 3, stride=2, bias=False)),
        ("norm2", nn.BatchNorm2d(5)),
        ("relu2", nn.ReLU()),
        ("pool2", nn.MaxPool2d(2, stride=1)),
        ("conv2", Gate(5, multiplier=4)),
        ("flatten", nn.Flatten()),
        ("linear", nn.Linear(5, 3)),
    ]
    net = nn.Sequential(OrderedDict(stages))
    for norm in (net.get_submodule("norm1"), net.get_submodule("norm2")):
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.3, 2.0)
        norm.weight.data.uniform_(-1.5, 1.5)
    return _spread_gates(net)


@pytest.fixture
def dense() -> Callable[..., nn.Module]:
    """Builder of a 6-5-4-K network, gates input, h1, h2."""
    return _dense


@pytest.fixture
def convolutional() -> nn.Module:
    """Two convolutions with BatchNorm, stride, padding and overlapping max pooling; gates conv1, conv2."""
    return _convolutional()


def _flat(likelihood: str = "multinomial", n: int = 40) -> Dataset:
    generator = np.random.default_rng(11)
    x = 3 * generator.standard_normal((n, 6)) + 0.5
    x[:, 4] = 0  # an input that is always 0: its gate's column is zero
    if likelihood == "gaussian":
        y = 5 * generator.standard_normal((n, 2)) - 1
        return from_arrays(x, y, x[:2], y[:2], likelihood="gaussian")
    labels = generator.integers(0, 3, n)
    return from_arrays(x, labels, x[:2], labels[:2], classes=3)


@pytest.fixture
def flat_data() -> Callable[..., Dataset]:
    """Builder of data [n, 6] for `dense`; likelihood "multinomial" (3 classes) or "gaussian" (2 targets)."""
    return _flat


@pytest.fixture
def image_data() -> Dataset:
    """Images [24, 2, 6, 6], 3 classes, for `convolutional`."""
    generator = np.random.default_rng(12)
    x, y = 2 * generator.standard_normal((24, 2, 6, 6)), generator.integers(0, 3, 24)
    return from_arrays(x, y, x[:2], y[:2], classes=3)
