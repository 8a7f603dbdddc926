"""What counts as a chain, and its layers' names: a subclass may compute something else, two paths one flat name."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from types import MethodType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from tests.small_net import small_data
from vibtheory.bridge.trained import check_trained
from vibtheory.compression.cut import compress
from vibtheory.compression.liveness import alive
from vibtheory.compression.metrics import compression
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.training.single import train


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Squashed(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(super().forward(x))


class Block(nn.Sequential):
    """With a constructor of its own only: still a chain."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, width), nn.ReLU(), Gate(width))


def _chain(middle: nn.Module) -> nn.Sequential:
    """6 → 8 → `middle` → 3, the first three units of every gate closed."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), Gate(8), middle, nn.Linear(8, 3)).eval()
    for gate in named_gates(net).values():
        gate.close(torch.arange(8) < 3)
    return net


def test_a_residual_sequential_is_no_chain() -> None:
    """Its channels arrive around its own gate: none of the last layer's weights may be counted as gone with it."""
    net, x = _chain(Residual(nn.Linear(8, 8), nn.ReLU(), Gate(8))), torch.randn(5, 6)
    small, size = compress(net, x), compression(net, example_input=x)
    torch.testing.assert_close(small(x), net(x))
    # 6×5 and 5×5 are left of the first two; the last one hears what passes around the gate, and the gate's open units
    assert size.r_w == pytest.approx(100 * (6 * 5 + 5 * 5 + 5 * 3) / (6 * 8 + 8 * 8 + 8 * 3))
    net[3][2].close(torch.arange(8) < 7)
    assert compression(net, example_input=x).r_w == pytest.approx(
        100 * (6 * 5 + 5 * 1 + 5 * 3) / (6 * 8 + 8 * 8 + 8 * 3)
    )
    torch.testing.assert_close(compress(net, x)(x), net(x))
    for count in (alive, compression):
        with pytest.raises(InvalidInputError, match="Residual"):
            count(net)


def test_a_layer_of_its_own_is_no_chain() -> None:
    net, x = _chain(nn.Sequential(Squashed(8, 8), nn.ReLU(), Gate(8))), torch.randn(5, 6)
    torch.testing.assert_close(compress(net, x)(x), net(x))
    with pytest.raises(InvalidInputError, match="Squashed"):
        alive(net)


def test_an_instance_of_its_own_is_no_chain() -> None:
    """A forward pass put on the object; as a closure a copy's still runs the block that it was copied from."""
    net, x = _chain(Block(8)), torch.randn(5, 6)
    block = net[3]
    block.forward = MethodType(lambda self, h: h + nn.Sequential.forward(self, h), block)
    with pytest.raises(InvalidInputError, match="Block"):
        alive(net)
    torch.testing.assert_close(compress(net, x)(x), net(x))
    block.forward = lambda h: h + nn.Sequential.forward(block, h)
    with pytest.raises(InvalidInputError, match="a module that it does not hold"):
        compress(net, x)


def test_a_subclass_that_computes_the_same_is_one() -> None:
    net, x = _chain(Block(8)), torch.randn(5, 6)
    assert [int(mask.sum()) for mask in alive(net).values()] == [5, 5]
    small = compress(net)
    assert [tuple(p.shape) for p in small.parameters() if p.ndim == 2] == [(5, 6), (5, 5), (3, 5)]
    torch.testing.assert_close(small(x), net(x))


def test_training_counts_and_cuts_chains_only() -> None:
    net = _chain(Residual(nn.Linear(8, 8), nn.ReLU(), Gate(8)))
    assert "r_w" not in train(net, small_data(), gamma=1e-3, epochs=1, seed=0).rows[-1]
    with pytest.raises(InvalidInputError, match="Residual"):
        train(net, small_data(), gamma=1e-3, epochs=1, seed=0, prune_every=1)


@pytest.mark.parametrize("normed", [weight_norm, parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_weight_made_from_others(normed: object) -> None:
    """Compressed and trained; cutting it while training is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the older weight_norm
        net = _chain(nn.Sequential(normed(nn.Linear(8, 8)), nn.ReLU(), Gate(8)))  # type: ignore[operator]
    x = torch.randn(5, 6)
    train(net, small_data(), gamma=1e-3, epochs=1, seed=0)
    with torch.no_grad():  # torch cannot copy the older one's weight with its history
        torch.testing.assert_close(compress(net)(x), net(x))
    assert all(p.requires_grad for p in compress(net).parameters())
    with pytest.raises(InvalidInputError, match=r"Linear at '3\.0'.*weight of its own.*prune_every to 0"):
        train(net, small_data(), gamma=1e-3, epochs=1, seed=0, prune_every=1)


def _twins() -> tuple[nn.Sequential, nn.Sequential]:
    """The same layers, with names that become one when they are flattened, and without."""
    torch.manual_seed(1)
    layers = [nn.Linear(6, 8), nn.Linear(8, 8), nn.ReLU(), Gate(8), nn.Linear(8, 3)]
    block = nn.Sequential(OrderedDict({"0": layers[0], "1": layers[1]}))
    named = OrderedDict({"a": block, "a_0": layers[2], "a_1": layers[3], "a_0_2": layers[4]})
    plain = OrderedDict(zip(("first", "second", "relu", "a_1", "last"), layers, strict=True))
    return nn.Sequential(named).eval(), nn.Sequential(plain).eval()


def test_names_that_become_one() -> None:
    """The dotted path takes a number; it used to replace the other layer."""
    twin, plain = _twins()
    twin.get_submodule("a_1").close(torch.arange(8) < 3)  # type: ignore[operator]
    x, small = torch.randn(5, 6), compress(twin)
    torch.testing.assert_close(small(x), plain(x))
    torch.testing.assert_close(small(x), compress(plain)(x))
    names = [name for name, _ in small.named_children()]
    assert names == ["a_0_3", "a_1_2", "a_0", "a_0_2"]


def test_the_trained_objective_of_names_that_become_one() -> None:
    twin, plain = _twins()
    first, second = (check_trained(net, small_data(), gamma=1e-2, draws=3, seed=0)["a_1"] for net in (twin, plain))
    assert first.least == second.least


@pytest.mark.parametrize("middle", [nn.BatchNorm2d(8, track_running_stats=False), nn.AvgPool2d(2, divisor_override=3)])
def test_layers_that_no_constant_passes(middle: nn.Module) -> None:
    """What closed channels are worth behind them depends on the batch, or is no mean: the operations are followed."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8)
    nn.init.normal_(norm.bias)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Gate(8), norm, middle, nn.Flatten(), nn.LazyLinear(3)).eval()
    x = torch.randn(4, 3, 8, 8)
    net(x)
    net[2].close(torch.arange(8) < 3)
    torch.testing.assert_close(compress(net, x)(x), net(x))


@pytest.mark.parametrize("behind", [[nn.BatchNorm1d(32)], [nn.Tanh()], [nn.Dropout(), nn.Flatten(), nn.GELU()], []])
def test_means_that_a_flatten_carries_on(behind: list[nn.Module]) -> None:
    """They are paid before it, by channel, where what follows does not take them up."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Gate(8), nn.Flatten(), *behind).eval()
    x, gate = torch.randn(5, 3, 4, 4), net[2]
    gate.mu.data.normal_(1.0, 0.5)
    if behind:
        net.append(nn.Linear(32, 3))
        gate.close(torch.arange(8) < 3)
    torch.testing.assert_close(compress(net, x)(x), net(x))
    torch.testing.assert_close(compress(net, x)(x[:1]), net(x[:1]))


def test_a_layer_called_scale() -> None:
    """What a last gate owes is a module of its own beside the user's "scale"."""
    torch.manual_seed(0)
    net = nn.Sequential(OrderedDict(scale=nn.Linear(6, 8), gate=Gate(8))).eval()
    net.get_submodule("gate").mu.data.uniform_(0.5, 2.0)  # type: ignore[union-attr, operator]
    x = torch.randn(5, 6)
    torch.testing.assert_close(compress(net)(x), net(x))


def test_frozen_layers_stay_frozen() -> None:
    """In nested Sequentials too, whose names change; and what is made from frozen parameters."""
    body = [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), Gate(8), parametrizations.weight_norm(nn.Linear(8, 8))]
    net = _chain(nn.Sequential(*body, nn.ReLU(), Gate(8)))
    body[0].weight.requires_grad_(False)
    body[1].requires_grad_(False)
    body[4].requires_grad_(False)
    frozen = {name for name, p in compress(net).named_parameters() if not p.requires_grad}
    assert frozen == {"3_0.weight", "3_1.weight", "3_1.bias", "3_4.weight", "3_4.bias"}
