"""r_W, r_N and FLOP from kept counts, exactly as in the paper's tables (docs/theory.md, M).

Weights only, no biases and no batch normalisation; FLOP counts a multiply-add once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from vibtheory.errors import as_whole, reject

__all__ = ["Compression", "Size", "compare", "fully_connected", "lenet_5_caffe", "vgg16", "vgg19"]


@dataclass(frozen=True)
class Compression:
    """Size of a pruned network against the full one.

    Attributes:
        r_w: remaining weights, percent of the full network's.
        r_n: remaining units, percent (M: gated units of fully connected nets; of convolutional ones every
            feature map after its activation and after its pooling).
        flop: multiply-adds of one example through the pruned network.
        flop_ratio: the same in percent of the full network's.
        weights: remaining weights.
        kept: surviving units of each gate, inputs first.
    """

    r_w: float
    r_n: float
    flop: int
    flop_ratio: float
    weights: int
    kept: tuple[int, ...]

    @property
    def architecture(self) -> str:
        """Surviving units as the tables print them, e.g. "97-71-33"."""
        return "-".join(map(str, self.kept))

    def __str__(self) -> str:
        return (
            f"{self.architecture or 'no gates'}: r_W {self.r_w:.2f} %, r_N {self.r_n:.2f} %, "
            f"{self.flop / 1e6:.3f} M multiply-adds ({self.flop_ratio:.2f} %)"
        )


@dataclass(frozen=True)
class Size:
    """Counts of one network, pruned or full."""

    weights: int
    units: int
    flop: int


def compare(pruned: Size, full: Size, kept: Sequence[int]) -> Compression:
    return Compression(
        r_w=100 * pruned.weights / full.weights,
        r_n=100 * pruned.units / full.units,
        flop=pruned.flop,
        flop_ratio=100 * pruned.flop / full.flop,
        weights=pruned.weights,
        kept=tuple(int(k) for k in kept),
    )


def fully_connected(sizes: Sequence[int], kept: Sequence[int]) -> Compression:
    """r_W, r_N and FLOP of a fully connected net with gates on the input and every hidden layer.

    Args:
        sizes: full widths, inputs first and outputs last: (784, 300, 100, 10).
        kept: surviving inputs and hidden units, outputs left out: (97, 71, 33).

    Raises:
        InvalidInputError: fewer than two sizes, or `kept` does not fit into `sizes`.
    """
    if len(sizes) < 2:
        reject("sizes", list(sizes), "at least two widths", "give inputs, hidden units and outputs")
    for width in sizes:
        as_whole("sizes", width, 1, remedy="count the units of each layer")
    _check_kept(kept, sizes[:-1])
    return compare(_dense([*kept, sizes[-1]]), _dense(sizes), kept)


def lenet_5_caffe(a: int, b: int, c: int, d: int) -> Compression:
    """r_W, r_N and FLOP of LeNet-5-Caffe, 20-50-800-500 in full.

    Args:
        a, b: surviving channels of conv1 and conv2.
        c: surviving inputs of fc1, of the flattened 50·4·4 = 800.
        d: surviving units of fc1.

    Raises:
        InvalidInputError: a count outside its layer, or more than 16 inputs of fc1 per surviving conv2 channel.
    """
    _check_kept((a, b, c, d), (20, 50, 800, 500))
    if c > 16 * b:
        reject("c", c, f"at most 16 b = {16 * b}", "count flattened units of surviving channels only")
    return compare(_lenet_5(a, b, c, d), _lenet_5(20, 50, 800, 500), (a, b, c, d))


# Convolutions of VGG on 32×32 images, each stage followed by a 2×2 pooling: (channels, number of convolutions).
_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


def vgg16(kept: Sequence[int], classes: int = 10) -> Compression:
    """r_W, r_N and FLOP of VGG-16 on 32×32 images: 13 convolutions, then one or two fully connected layers of 512.

    The table's rows mix both: BC-GNJ and BC-GHS have two fully connected layers, PF, SBP and SBPa one. Each is
    compared with the full network of its own depth.

    Args:
        kept: 13 channel counts, then 1 or 2 counts of fully connected units.
        classes: number of outputs.

    Raises:
        InvalidInputError: not 14 or 15 counts, or a count outside its layer.
    """
    return _vgg(_VGG16, kept, (1, 2), classes)


def vgg19(kept: Sequence[int], classes: int = 10) -> Compression:
    """r_W, r_N and FLOP of VGG-19 on 32×32 images: 16 convolutions and a linear classifier (the NS rows).

    Args:
        kept: 16 channel counts.
        classes: number of outputs.

    Raises:
        InvalidInputError: not 16 counts, or a count outside its layer.
    """
    return _vgg(_VGG19, kept, (0,), classes)


def _vgg(
    stages: tuple[tuple[int, int], ...], kept: Sequence[int], hidden: tuple[int, ...], classes: int
) -> Compression:
    channels = [width for width, repeats in stages for _ in range(repeats)]
    extra = len(kept) - len(channels)
    if extra not in hidden:
        lengths = " or ".join(str(len(channels) + h) for h in hidden)
        reject(
            "kept", f"{len(kept)} counts", f"{lengths} counts", "one per convolution, then per fully connected layer"
        )
    full = [*channels, *[512] * extra]
    _check_kept(kept, full)
    as_whole("classes", classes, 1, remedy="pass the number of outputs")
    return compare(_vgg_size(stages, kept, classes), _vgg_size(stages, full, classes), kept)


def _dense(sizes: Sequence[int]) -> Size:
    weights = sum(a * b for a, b in pairwise(sizes))
    return Size(weights, sum(sizes[:-1]), weights)


def _lenet_5(a: int, b: int, c: int, d: int) -> Size:
    return Size(
        weights=25 * a + 25 * a * b + c * d + 10 * d,
        units=(24**2 + 12**2) * a + (8**2 + 4**2) * b + c + d,
        flop=25 * 24**2 * a + 25 * 8**2 * a * b + c * d + 10 * d,
    )


def _vgg_size(stages: tuple[tuple[int, int], ...], widths: Sequence[int], classes: int) -> Size:
    weights = units = flop = 0
    fan_in, side, layer = 3, 32, 0
    for _, repeats in stages:
        for _ in range(repeats):
            fan_out = widths[layer]
            weights += 9 * fan_in * fan_out
            flop += 9 * fan_in * fan_out * side**2
            units += fan_out * side**2
            fan_in, layer = fan_out, layer + 1
        side //= 2
        units += fan_in * side**2  # the stage's pooling
    dense = _dense([fan_in, *widths[layer:], classes])
    return Size(weights + dense.weights, units + sum(widths[layer:]), flop + dense.flop)


def _check_kept(kept: Sequence[int], full: Sequence[int]) -> None:
    if len(kept) != len(full):
        reject("kept", f"{len(kept)} counts", f"{len(full)} counts", "give one count per gated layer")
    if any(k not in range(n + 1) for k, n in zip(kept, full, strict=True)):
        reject("kept", list(kept), f"counts between 0 and {list(full)}", "count surviving units, not percentages")
