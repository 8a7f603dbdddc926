"""VGG for 32×32 images, gated: the three modifications behind Tables 3 and 4.

A gate follows each convolution's BatchNorm + ReLU and each hidden layer. A channel's price is the recipe's multiplier
(1/32, 1/16, 1/8, 1/4, 1/2 by block) times H·W of its map.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from vibtheory.errors import as_whole
from vibtheory.networks.gates import GateLaw, make_gate
from vibtheory.networks.registry import builder
from vibtheory.networks.sequential import join_weights

__all__ = ["vgg16_cifar", "vgg19_cifar"]

# Per block: channels and number of convolutions; every block ends in a 2×2 pooling.
_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
_MULTIPLIERS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
_HIDDEN = 512


@builder
def vgg16_cifar(classes: int = 10, hidden: int = 2, *, gated: bool = True, law: str = "vib") -> nn.Sequential:
    """VGG-16: 13 convolutions and one or two hidden layers of 512 (Table 3: hidden=2 beside BC, 1 beside PF and SBP).

    Args:
        classes: number of outputs.
        hidden: fully connected hidden layers, 1 or 2.
        gated: False leaves the gates out (the dense net).
        law: of the gates; `vibtheory.networks.gates.LAWS` has them by name. "ns" leaves fc1 and fc2 "open", which no
            BatchNorm stands before.

    Returns:
        Sequential [N, 3, 32, 32] → logits [N, classes]; gates conv1_1 … conv5_3, then fc1 (and fc2).

    Raises:
        InvalidInputError: classes < 1, hidden neither 1 nor 2, or an unknown law.
    """
    as_whole("hidden", hidden, 1, 2, "use vgg19_cifar for the net without hidden layers")
    return _vgg(_VGG16, classes, hidden, nn.MaxPool2d(2), gated, law)


@builder
def vgg19_cifar(classes: int = 10, *, gated: bool = True, law: str = "vib") -> nn.Sequential:
    """The VGG-19-like net of the NS rows: 16 convolutions, average pooling, a linear classifier, no hidden layer.

    Args:
        classes: number of outputs.
        gated: False leaves the gates out (the dense net).
        law: of the gates; `vibtheory.networks.gates.LAWS` has them by name.

    Returns:
        Sequential [N, 3, 32, 32] → logits [N, classes]; gates conv1_1 … conv5_4.

    Raises:
        InvalidInputError: classes < 1, or an unknown law.
    """
    return _vgg(_VGG19, classes, 0, nn.AvgPool2d(2), gated, law)


def _vgg(
    blocks: tuple[tuple[int, int], ...], classes: int, hidden: int, last_pool: nn.Module, gated: bool, law: str = "vib"
) -> nn.Sequential:
    as_whole("classes", classes, 1, remedy="pass the number of classes")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    fan_in, side = 3, 32
    for block, ((width, repeats), multiplier) in enumerate(zip(blocks, _MULTIPLIERS, strict=True), start=1):
        for i in range(1, repeats + 1):
            layers[f"convolution{block}_{i}"] = nn.Conv2d(fan_in, width, 3, padding=1)
            layers[f"norm{block}_{i}"] = nn.BatchNorm2d(width)
            layers[f"relu{block}_{i}"] = nn.ReLU()
            layers[f"conv{block}_{i}"] = make_gate(law, width, multiplier=multiplier * side * side)
            fan_in = width
        layers[f"pool{block}"] = last_pool if block == len(blocks) else nn.MaxPool2d(2)
        side //= 2
    layers["flatten"] = nn.Flatten()  # [N, 512]: the last map is 1×1
    for i in range(1, hidden + 1):
        layers[f"linear{i}"] = nn.Linear(fan_in, _HIDDEN)
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"fc{i}"] = make_gate("open" if law == "ns" else law, _HIDDEN)
        fan_in = _HIDDEN
    layers["classifier"] = nn.Linear(fan_in, classes)
    net = nn.Sequential(OrderedDict((n, m) for n, m in layers.items() if gated or not isinstance(m, GateLaw)))
    for module in net.modules():  # He initialisation: 16 layers deep, torch's default start shrinks the signal
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return join_weights(net)
