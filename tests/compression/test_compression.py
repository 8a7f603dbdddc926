"""Compression: the small net's outputs are those of the gated net, for random gates, on every architecture."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vibtheory.compression import metrics
from vibtheory.compression.cut import compress
from vibtheory.compression.fixed_modules import FixedScale, Select
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.insertion import insert_gates
from vibtheory.networks.lenet import lenet_5_caffe, lenet_300_100, mlp
from vibtheory.networks.vgg import vgg16_cifar, vgg19_cifar


class Block(nn.Module):
    """Residual block: gates inside and after the addition (coupled with the skip)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)  # one module, two uses

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x))))))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a, self.b = Block(8), Block(8)
        self.fc1, self.fc2 = nn.Linear(8 * 4, 9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(self.a(torch.relu(self.stem(x))))
        h = torch.flatten(nn.functional.avg_pool2d(h, 4), 1)
        return self.fc2(self.fc1(h).relu())


class Tokens(nn.Module):
    """A transformer's feed-forward half: [N, T, d]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.up, self.act, self.down, self.head = nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.down(self.act(self.up(self.norm(x))))).mean(1))


class Branching(Tokens):
    """The same, but torch.fx cannot trace it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 1e9 else 2 * x)


def small_cnn() -> nn.Sequential:
    """Every awkward neighbour of a gate: max pooling behind it, sigmoid and BatchNorm behind it, one shared ReLU."""
    relu = nn.ReLU()
    return nn.Sequential(
        *(nn.Conv2d(3, 7, 3, padding=1), nn.BatchNorm2d(7), relu, Gate(7, multiplier=64), nn.MaxPool2d(2)),
        *(nn.Conv2d(7, 6, 3), Gate(6), nn.Sigmoid(), nn.Flatten(), Gate(24)),
        *(nn.Linear(24, 11, bias=False), relu, Gate(11), nn.BatchNorm1d(11), nn.Linear(11, 5)),
    )


def inserted(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> Callable[[], nn.Module]:
    return lambda: insert_gates(make(), torch.zeros(2, *shape), input_gate=False)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet_300_100": (lenet_300_100, (1, 28, 28)),
    "lenet_5_caffe": (lenet_5_caffe, (1, 28, 28)),
    "mlp": (lambda: mlp((13, 8, 7, 3)), (13,)),
    "small_cnn": (small_cnn, (3, 8, 8)),
    "vgg16": (vgg16_cifar, (3, 32, 32)),
    "vgg19": (vgg19_cifar, (3, 32, 32)),
    "residual": (inserted(Residual, (3, 8, 8)), (3, 8, 8)),
    "tokens": (inserted(Tokens, (5, 6)), (5, 6)),
    "untraceable": (inserted(Branching, (5, 6)), (5, 6)),
}


def randomise(net: nn.Module, seed: int, share: float = 0.4) -> None:
    """Random means of both signs, a random share of the gates closed, random BatchNorm statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for gate in named_gates(net).values():
            gate.mu.copy_(torch.randn(gate.features, generator=generator) + 0.7)
            closed = torch.rand(gate.features, generator=generator) < share
            closed[int(torch.randint(gate.features, (1,), generator=generator))] = False
            gate.mu[~closed & (gate.mu.abs() < 0.1)] = -0.6
            gate.log_var[closed] = 6.0
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for value, low, high in (
                    (module.running_mean, -0.5, 0.5),
                    (module.running_var, 0.5, 2.0),
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.3, 0.6),
                ):
                    assert value is not None
                    value.copy_(low + (high - low) * torch.rand(value.shape, generator=generator))


def close(gate: Gate, units: list[int]) -> None:
    with torch.no_grad():
        gate.mu.abs_().clamp_min_(0.1)
        gate.log_var.fill_(-9.0)
        gate.log_var[units] = 6.0


def assert_same(small: nn.Module, net: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        wanted, got = net(x), small(x)
    scale = float(wanted.abs().max())
    assert float(wanted.std(0).max()) > 0  # the outputs say something about the inputs
    assert float((got - wanted).abs().max()) <= 1e-5 * max(scale, 1e-3)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_outputs_are_those_of_the_gated_net(name: str, seed: int) -> None:
    make, shape = CASES[name]
    torch.manual_seed(seed)
    net = make().eval()
    randomise(net, seed)
    x = torch.randn(6, *shape, generator=torch.Generator().manual_seed(seed + 50))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    small = compress(net, x[:2])
    assert_same(small, net, x)
    assert not named_gates(small)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["small_cnn", "vgg16", "vgg19"])
def test_batchnorm_folds_into_the_weights_before_it(name: str) -> None:
    make, shape = CASES[name]
    torch.manual_seed(3)
    net = make().eval()
    randomise(net, 3)
    small = compress(net, fold_batchnorm=True)
    norms = [m for m in small.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not norms
    assert_same(small, net, torch.randn(5, *shape, generator=torch.Generator().manual_seed(4)))


def test_lenet_5_keeps_exactly_the_published_number_of_weights() -> None:
    """3-10-68-35: 25a + 25ab + cd + 10d weights (docs/theory.md M)."""
    net = lenet_5_caffe().eval()
    close(net.conv1, list(range(3, 20)))  # type: ignore[arg-type]
    close(net.conv2, list(range(10, 50)))  # type: ignore[arg-type]
    open_ = [16 * channel + position for channel in range(10) for position in range(7)][:68]
    close(net.flat, sorted(set(range(800)) - set(open_)))  # type: ignore[arg-type]
    close(net.fc1, list(range(35, 500)))  # type: ignore[arg-type]
    small = compress(net)
    weights = sum(p.numel() for p in small.parameters() if p.ndim > 1)
    assert weights == 25 * 3 + 25 * 3 * 10 + 68 * 35 + 10 * 35 == metrics.lenet_5_caffe(3, 10, 68, 35).weights
    assert metrics.compression(net).weights == weights
    assert_same(small, net, torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)))


def test_lenet_300_100_selects_the_kept_pixels() -> None:
    net = lenet_300_100().eval()
    close(net.input, [p for p in range(784) if p % 8])  # type: ignore[arg-type]
    close(net.h1, list(range(71, 300)))  # type: ignore[arg-type]
    small = compress(net)
    assert isinstance(small.input, Select)
    assert small.input.index.tolist() == list(range(0, 784, 8))
    assert [tuple(m.weight.shape) for m in small.modules() if isinstance(m, nn.Linear)] == [
        (71, 98),
        (100, 71),
        (10, 100),
    ]


def test_residual_channels_leave_only_where_every_coupled_gate_is_closed() -> None:
    torch.manual_seed(1)
    net = insert_gates(Residual(), torch.zeros(2, 3, 8, 8)).eval()
    gates = named_gates(net)
    assert list(gates) == ["stem_gate", "a_conv1_gate", "a_relu_1_gate", "b_conv1_gate", "b_relu_1_gate", "fc1_gate"]
    close(gates["stem_gate"], [1, 2, 5])
    close(gates["a_relu_1_gate"], [2, 5, 6])
    close(gates["b_relu_1_gate"], [2, 5, 7])
    close(gates["a_conv1_gate"], [0, 3])
    close(gates["b_conv1_gate"], [4])
    close(gates["fc1_gate"], [0, 8])
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    small = compress(net, x)
    shapes = {name: list(p.shape[:2]) for name, p in small.named_parameters() if p.ndim > 1}
    # Channels 2 and 5 are closed at every gate and gone; the other closed ones leave their own listeners and makers.
    assert shapes == {
        "stem.layer.weight": [5, 3],
        "a.conv1.layer.weight": [6, 5],
        "a.conv2.layer.weight": [5, 6],
        "b.conv1.layer.weight": [7, 5],
        "b.conv2.layer.weight": [5, 7],
        "fc1.layer.weight": [7, 20],
        "fc2.weight": [4, 7],
    }
    assert_same(small, net, x)


def test_the_small_net_trains() -> None:
    net = lenet_300_100()
    randomise(net, 0)
    small = compress(net).train()
    small(torch.rand(3, 784)).square().mean().backward()
    assert all(p.grad is not None for p in small.parameters())


def test_a_negative_mean_before_max_pooling_stays_a_scale() -> None:
    net = small_cnn().eval()
    with torch.no_grad():
        net[3].mu[2] = -1.5  # type: ignore[union-attr, operator, index]
    small = compress(net)
    assert isinstance(small.get_submodule("scale_before_4"), FixedScale)


def vanished() -> nn.Module:
    net = lenet_5_caffe()
    close(net.conv2, list(range(50)))  # type: ignore[arg-type]
    return net


def vanished_residual() -> nn.Module:
    net = insert_gates(Residual(), torch.zeros(2, 3, 8, 8))
    close(named_gates(net)["b_conv1_gate"], list(range(8)))
    return net


def constant_before_padding() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), Gate(3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3, padding=1))
    close(net[2], [1])  # type: ignore[arg-type]
    with torch.no_grad():
        net[3].bias.fill_(0.7)  # type: ignore[union-attr, operator]
    return net


BAD: dict[str, tuple[Callable[[], nn.Module], dict[str, object], str]] = {
    "no gates": (lambda: nn.Linear(2, 2), {}, "without gates"),
    "vanished": (vanished, {}, "no unit left in layer 'conv2'.*smaller gamma"),
    "vanished in a graph": (vanished_residual, {"example_input": torch.zeros(2, 3, 8, 8)}, "b_conv1_gate"),
    "no example": (inserted(Residual, (3, 8, 8)), {}, "example_input.*not a chain"),
    "fold_batchnorm": (inserted(Residual, (3, 8, 8)), {"fold_batchnorm": True}, "fold_batchnorm"),
    "padding": (constant_before_padding, {}, "padding of '4'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    make, options, message = BAD[name]
    with pytest.raises(InvalidInputError, match=message):
        compress(make(), **options)  # type: ignore[arg-type]


def test_a_gate_on_positions_before_a_linear_of_that_width_is_no_chain() -> None:
    torch.manual_seed(3)
    net = nn.Sequential(Gate(8), nn.Linear(8, 6), nn.ReLU(), Gate(6, axis=-1), nn.Linear(6, 3)).eval()
    close(net[0], [0, 1, 2])  # type: ignore[arg-type]
    close(net[3], [5])  # type: ignore[arg-type]
    x = torch.randn(5, 8, 8)
    small = compress(net, x[:2])
    torch.testing.assert_close(small(x), net(x))
    assert sum(p.numel() for p in small.parameters()) == 5 * 8 + 5 + 3 * 5 + 3


def test_what_a_linear_over_positions_makes_of_a_closed_channel_moves_into_the_next_bias() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Linear(16, 5), nn.Flatten(), nn.Linear(160, 3)
    gated = insert_gates(nn.Sequential(*layers), torch.randn(2, 1, 4, 16)).eval()
    (gate,) = named_gates(gated).values()
    close(gate, [1, 2, 5, 7])  # type: ignore[arg-type]
    x = torch.randn(5, 1, 4, 16)
    small = compress(gated, x[:2])
    torch.testing.assert_close(small(x), gated(x))
    weights = 9 * 4 + 16 * 5 + (5 * 4) * 4 * 3  # a channel is 5 x 4 of the 160 columns
    assert sum(p.numel() for p in small.parameters() if p.ndim > 1) == weights == 356


@pytest.mark.parametrize("law", ["vib", "l0", "bc-ghs", "vd"])
def test_a_gate_that_is_no_number_is_not_cut_in_silence(law: str) -> None:
    net = mlp((4, 3, 2), law=law)
    gate = named_gates(net)["h1"]
    name, value = next(iter(gate.named_parameters()))
    value.data.view(-1)[1] = torch.nan
    for count in (compress, metrics.compression):
        with pytest.raises(InvalidInputError, match=f"weights that are NaN .'h1.{name}'"):
            count(net)
