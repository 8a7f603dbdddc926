"""The networks of the paper's tables, gated: a gate's module name is the layer's name (input, h1, h2; conv1, …)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from vibtheory.errors import as_whole, reject
from vibtheory.networks.gates import GateLaw, make_gate
from vibtheory.networks.registry import builder
from vibtheory.networks.sequential import join_weights
from vibtheory.networks.vgg import vgg16_cifar, vgg19_cifar

__all__ = ["lenet_5_caffe", "lenet_300_100", "mlp", "vgg16_cifar", "vgg19_cifar"]


@builder
def mlp(sizes: Sequence[int], *, gated: bool = True, law: str = "vib", batch_norm: bool = False) -> nn.Sequential:
    """A fully connected ReLU network sizes[0]-…-sizes[-1] with gates on the input and on every hidden layer.

    Args:
        sizes: units per layer, inputs first, outputs (classes, or regression targets) last; at least two entries.
        gated: False leaves the gates out: the regular net of the same shape.
        law: of the gates; `vibtheory.networks.gates.LAWS` has them by name. "ns" brings its BatchNorm, and leaves gates
            "open" that none stands before (input).
        batch_norm: one before each activation; scales start at ½, as in network slimming.

    Returns:
        Sequential [N, ...] → [N, sizes[-1]]; gates named input, h1, h2, ….

    Raises:
        InvalidInputError: fewer than two sizes, a size below 1, or an unknown law.
    """
    remedy = "give inputs, hidden units and outputs"
    if len(sizes) < 2:
        reject("sizes", sizes, "at least two integers >= 1", remedy)
    sizes = [as_whole("sizes", size, 1, remedy=remedy) for size in sizes]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    if gated:
        layers["input"] = make_gate("open" if law == "ns" else law, sizes[0])
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        layers[f"linear{i}"] = nn.Linear(fan_in, fan_out)
        if i < len(sizes) - 1:
            if batch_norm or law == "ns":
                layers[f"norm{i}"] = _halved(nn.BatchNorm1d(fan_out))
            layers[f"relu{i}"] = nn.ReLU()
            if gated:
                layers[f"h{i}"] = make_gate(law, fan_out)
    return join_weights(nn.Sequential(layers))


@builder
def lenet_300_100(*, gated: bool = True, law: str = "vib", batch_norm: bool = False) -> nn.Sequential:
    """LeNet-300-100: 784-300-100-10, gates on input, h1 and h2 unless gated=False (Table 1); law, batch_norm as `mlp`.

    Input [N, 784] or [N, 1, 28, 28].
    """
    return mlp((784, 300, 100, 10), gated=gated, law=law, batch_norm=batch_norm)


@builder
def lenet_5_caffe(*, gated: bool = True, law: str = "vib", batch_norm: bool = False) -> nn.Sequential:
    """LeNet-5-Caffe 20-50-800-500 (Table 2): conv→ReLU→pool→gate twice, the flattened 800 gated, fc1→ReLU→gate.

    Input [N, 1, 28, 28]; gates conv1 [20], conv2 [50], flat [800], fc1 [500]. The convolutions' information is
    multiplied by the size of their output map, 24² and 8²: without it conv1 hardly prunes. gated, law
    and batch_norm as `mlp`.
    """
    stages: list[tuple[str, nn.Module]] = [
        ("convolution1", nn.Conv2d(1, 20, 5)),  # [N, 20, 24, 24]
        ("norm1", _halved(nn.BatchNorm2d(20))),
        ("relu1", nn.ReLU()),
        ("pool1", nn.MaxPool2d(2)),  # [N, 20, 12, 12]
        ("conv1", make_gate(law, 20, multiplier=24 * 24)),
        ("convolution2", nn.Conv2d(20, 50, 5)),  # [N, 50, 8, 8]
        ("norm2", _halved(nn.BatchNorm2d(50))),
        ("relu2", nn.ReLU()),
        ("pool2", nn.MaxPool2d(2)),  # [N, 50, 4, 4]
        ("conv2", make_gate(law, 50, multiplier=8 * 8)),
        ("flatten", nn.Flatten()),
        ("flat", make_gate("open" if law == "ns" else law, 800)),
        ("linear1", nn.Linear(800, 500)),
        ("norm3", _halved(nn.BatchNorm1d(500))),
        ("relu3", nn.ReLU()),
        ("fc1", make_gate(law, 500)),
        ("linear2", nn.Linear(500, 10)),
    ]
    left_out = (() if gated else (GateLaw,)) + (() if batch_norm or law == "ns" else (nn.BatchNorm1d, nn.BatchNorm2d))
    return join_weights(nn.Sequential(OrderedDict((n, m) for n, m in stages if not isinstance(m, left_out))))


def _halved(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.BatchNorm1d | nn.BatchNorm2d:
    nn.init.constant_(norm.weight, 0.5)
    return norm
