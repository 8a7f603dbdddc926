"""r_W, r_N and FLOP against the published rows, torch's own FLOP counter, and brute force on small networks."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vibtheory import information_of, networks
from vibtheory.compression import metrics
from vibtheory.compression.liveness import alive
from vibtheory.compression.sizes import Compression
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.insertion import insert_gates
from vibtheory.networks.sequential import ordered_modules

# ---- published rows --------------------------------------------------------------------------------------------------

LENET_300 = (784, 300, 100, 10)
TABLE_1 = {  # method: (printed r_W, r_N, architecture); DN is inconsistent, below
    "VD": (25.28, 58.95, (512, 114, 72)),
    "BC-GNJ": (10.76, 32.85, (278, 98, 13)),
    "BC-GHS": (10.55, 34.71, (311, 86, 14)),
    "L0": (26.02, 45.02, (219, 214, 100)),
    "L0-sep": (10.01, 32.69, (266, 88, 33)),
    "VIBNet": (3.59, 16.98, (97, 71, 33)),
}
TABLE_2 = {  # method: (printed r_W, r_N, FLOP in millions, architecture); GL's FLOP and L0-sep below
    "GD": (1.38, 32.00, 0.250, (7, 13, 208, 16)),
    "VD": (9.29, 60.78, 0.660, (14, 19, 242, 131)),
    "SBP": (19.66, 21.15, 0.213, (3, 18, 284, 283)),
    "BC-GNJ": (0.95, 35.03, 0.283, (8, 13, 88, 13)),
    "BC-GHS": (0.64, 22.80, 0.153, (5, 10, 76, 16)),
    "L0": (8.92, 85.82, 1.113, (20, 25, 45, 462)),
}


def test_table_1_rows_with_an_architecture() -> None:
    for method, (r_w, r_n, kept) in TABLE_1.items():
        ours = metrics.fully_connected(LENET_300, kept)
        assert (round(ours.r_w, 2), round(ours.r_n, 2)) == (r_w, r_n), method


def test_table_1_dn_is_inconsistent_as_printed() -> None:
    ours = metrics.fully_connected(LENET_300, (542, 83, 61))
    assert round(ours.r_n, 2) == 57.94  # printed 57.94
    assert round(ours.r_w, 2) == 19.03  # printed 23.05


@pytest.mark.parametrize("method", TABLE_2)
def test_table_2_rows_with_an_architecture(method: str) -> None:
    r_w, r_n, flop, kept = TABLE_2[method]
    ours = metrics.lenet_5_caffe(*kept)
    assert (round(ours.r_w, 2), round(ours.r_n, 2), round(ours.flop / 1e6, 3)) == (r_w, r_n, flop)


def test_table_2_inconsistencies_as_printed() -> None:
    gl = metrics.lenet_5_caffe(3, 12, 192, 500)
    assert (round(gl.r_w, 2), round(gl.r_n, 2)) == (23.69, 19.35)
    assert gl.flop == 201_800  # printed 0.201: truncated, not rounded
    l0_sep = metrics.lenet_5_caffe(9, 18, 65, 25)  # printed 1.08, 40.36, 0.389
    assert (round(l0_sep.r_w, 2), round(l0_sep.r_n, 2), round(l0_sep.flop / 1e6, 3)) == (1.43, 40.66, 0.391)


def test_table_2_vibnet_row_has_exactly_the_known_integer_solutions() -> None:
    """Printed 0.83 / 15.55 / 0.094 without an architecture: enumerate everything that rounds to it."""
    solutions = set()
    for a, b in product(range(1, 21), range(1, 51)):
        left = 19700 * 0.1555 - 720 * a - 80 * b  # c + d, to within 19700 · 0.005 % = 1
        for total in range(max(int(left) - 1, 2), int(left) + 3):
            for d in range(1, min(total, 501)):
                c = total - d
                weights, maps = 25 * a + 25 * a * b + (c + 10) * d, 720 * a + 80 * b + total
                flop = 14400 * a + 1600 * a * b + (c + 10) * d
                printed = (round(weights / 4305, 2), round(maps / 197, 2), round(flop / 1e6, 3))
                if c <= 16 * b and printed == (0.83, 15.55, 0.094):
                    solutions.add((a, b, c, d))
    assert solutions == {(3, 10, 68, 35), (3, 10, 69, 35), (3, 10, 25, 78), (3, 10, 25, 79)}
    for kept in solutions:
        ours = metrics.lenet_5_caffe(*kept)
        assert (round(ours.r_w, 2), round(ours.r_n, 2), round(ours.flop / 1e6, 3)) == (0.83, 15.55, 0.094)


TABLE_3 = {  # printed r_W, r_N, FLOP; the architecture; last digits of SBP are truncated, not rounded
    "BC-GNJ": (6.57, 81.68, 141.5, (63, 64, 128, 128, 245, 155, 63, 26, 24, 20, 14, 12, 11, 11, 15)),
    "BC-GHS": (5.40, 74.82, 121.9, (51, 62, 125, 128, 228, 129, 38, 13, 9, 6, 5, 6, 6, 6, 20)),
    "PF": (35.99, 83.97, 206.3, (32, 64, 128, 128, 256, 256, 256, 256, 256, 256, 256, 256, 256, 512)),
    "SBP": (7.01, 80.72, 136.0, (64, 62, 128, 126, 234, 155, 31, 79, 73, 9, 59, 73, 56, 27)),
    "SBPa": (5.78, 66.46, 99.20, (44, 54, 92, 115, 234, 155, 31, 76, 55, 9, 34, 35, 21, 280)),
}


@pytest.mark.parametrize("method", TABLE_3)
def test_table_3_rows_to_one_printed_unit(method: str) -> None:
    r_w, r_n, flop, kept = TABLE_3[method]
    ours = metrics.vgg16(kept)
    assert abs(ours.r_w - r_w) < 0.01
    assert abs(ours.r_n - r_n) < 0.005
    assert abs(ours.flop / 1e6 - flop) < 0.05


def test_full_vgg_multiply_adds() -> None:
    """docs/theory.md M: VGG-16 313.7 M, the NS rows' VGG-19 398 M."""
    assert metrics.vgg16([64, 64, 128, 128, *[256] * 3, *[512] * 8]).flop == 313_725_952
    ns = metrics.vgg19([64, 64, 128, 128, *[256] * 4, *[512] * 8])
    assert round(ns.flop / 1e6) == 398
    assert (ns.r_w, ns.r_n, ns.flop_ratio) == (100, 100, 100)


# ---- torch's own counter ---------------------------------------------------------------------------------------------


def _multiply_adds(net: nn.Module, *shape: int) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net.eval()(torch.zeros(1, *shape))
    return int(counter.get_total_flops()) // 2  # torch counts a multiply-add twice


def _vgg(widths: list[int], convolutions: tuple[int, ...], classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    fan_in, position = 3, 0
    for repeats in convolutions:
        for _ in range(repeats):
            layers += [nn.Conv2d(fan_in, widths[position], 3, padding=1), nn.ReLU()]
            fan_in, position = widths[position], position + 1
        layers.append(nn.MaxPool2d(2))
    layers.append(nn.Flatten())
    for width in widths[position:]:
        layers += [nn.Linear(fan_in, width), nn.ReLU()]
        fan_in = width
    return nn.Sequential(*layers, nn.Linear(fan_in, classes))


def test_multiply_adds_agree_with_torch() -> None:
    assert metrics.lenet_5_caffe(20, 50, 800, 500).flop == _multiply_adds(networks.lenet_5_caffe(), 1, 28, 28)
    assert metrics.fully_connected(LENET_300, LENET_300[:-1]).flop == _multiply_adds(networks.lenet_300_100(), 784)
    kept = [7, 13, 11, 5, 17, 9, 8, 10, 6, 4, 3, 12, 14, 19, 15]
    assert metrics.vgg16(kept, classes=100).flop == _multiply_adds(_vgg(kept, (2, 2, 3, 3, 3), 100), 3, 32, 32)
    kept = [7, 13, 11, 5, 17, 9, 8, 10, 6, 4, 3, 12, 14, 19, 15, 2]
    assert metrics.vgg19(kept).flop == _multiply_adds(_vgg(kept, (2, 2, 4, 4, 4), 10), 3, 32, 32)


def test_vgg_weights_and_maps_agree_with_a_built_network() -> None:
    kept = [7, 13, 11, 5, 17, 9, 8, 10, 6, 4, 3, 12, 14, 19, 15]
    full = [64, 64, 128, 128, *[256] * 3, *[512] * 8]
    counts = []
    for widths in (kept, full):
        net, maps = _vgg(widths, (2, 2, 3, 3, 3), 10).eval(), 0
        x = torch.zeros(1, 3, 32, 32)
        for layer in net:
            x = layer(x)
            maps += x.numel() if isinstance(layer, (nn.ReLU, nn.MaxPool2d)) else 0
        counts.append((sum(p.numel() for p in net.parameters() if p.ndim > 1), maps))
    ours = metrics.vgg16(kept)
    assert ours.r_w == pytest.approx(100 * counts[0][0] / counts[1][0], rel=1e-12)
    assert ours.r_n == pytest.approx(100 * counts[0][1] / counts[1][1], rel=1e-12)


# ---- from a network's gates ------------------------------------------------------------------------------------------


def _close(net: nn.Module, open_units: dict[str, list[int]]) -> nn.Module:
    """Close every gate but the listed units; the means are far from 1, so nothing rests on unit scale."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, gate in named_gates(net).items():
            gate.mu.copy_(3 * torch.randn(gate.features, generator=generator).sign() * (1 + gate.mu))
            if name in open_units:
                closed = torch.ones(gate.features, dtype=torch.bool)
                closed[open_units[name]] = False
                gate.log_var[closed] = 9.0  # α = 36 e⁻⁹ < 1
    return net


def test_compression_of_gates_equals_the_closed_forms() -> None:
    fc = _close(
        networks.lenet_300_100(),
        {k: list(range(1, 1 + n)) for k, n in zip(("input", "h1", "h2"), (97, 71, 33), strict=True)},
    )
    assert metrics.compression(fc) == metrics.fully_connected(LENET_300, (97, 71, 33))
    conv = _close(
        networks.lenet_5_caffe(),
        {"conv1": [0, 4, 19], "conv2": [*range(40, 50)], "flat": [*range(640, 709)], "fc1": [*range(35)]},
    )
    # flat units 640…708 lie in channels 40…44: channels 45…49 have no surviving unit
    assert metrics.compression(conv) == metrics.lenet_5_caffe(3, 5, 69, 35)
    assert metrics.compression(networks.lenet_5_caffe()) == metrics.lenet_5_caffe(20, 50, 800, 500)


def test_compression_leaves_the_net_as_it_was() -> None:
    net = networks.lenet_5_caffe().train()
    before = [p.clone() for p in net.parameters()]
    metrics.compression(net)
    assert all(m.training for m in net.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_alive_in_both_directions() -> None:
    net = _close(networks.lenet_5_caffe(), {"conv2": [3, 7], "flat": [3 * 16, 3 * 16 + 5, 8 * 16], "fc1": [1]})
    masks = {name: torch.nonzero(mask).flatten().tolist() for name, mask in alive(net).items()}
    assert masks["conv2"] == [3]  # 7 has no open flat unit
    assert masks["flat"] == [48, 53]  # unit 128 belongs to closed channel 8
    assert masks["conv1"] == list(range(20))
    assert masks["fc1"] == [1]


@pytest.mark.parametrize("layer", ["conv1", "conv2", "flat", "fc1"])
def test_one_vanished_layer_kills_all(layer: str) -> None:
    net = _close(networks.lenet_5_caffe(), {layer: []})
    assert not any(mask.any() for mask in alive(net).values())


def test_dead_units_never_change_the_output() -> None:
    """Brute force: overwrite everything the masks call dead and compare the outputs."""
    torch.manual_seed(0)
    net = _close(
        networks.lenet_5_caffe(), {"conv1": [2, 9], "conv2": [0, 3, 7], "flat": [1, 50, 51, 600], "fc1": [*range(90)]}
    ).eval()
    x = torch.rand(4, 1, 28, 28)
    before = net(x)
    with torch.no_grad():
        for name, mask in alive(net).items():
            gate = net.get_submodule(name)
            assert isinstance(gate, Gate)
            gate.mu[~mask] = 0
    torch.testing.assert_close(net(x), before, rtol=0, atol=0)


def test_nested_sequential_and_batch_normalisation() -> None:
    block = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3, padding=1),
            norm=nn.BatchNorm2d(4),
            relu=nn.ReLU(),
            gate=Gate(4),
            pool=nn.MaxPool2d(2),
        )
    )
    net = _close(
        nn.Sequential(OrderedDict(block=block, flatten=nn.Flatten(), out=nn.Linear(4 * 16 * 16, 7))),
        {"block.gate": [1, 2]},
    )
    ours = metrics.compression(net)
    assert ours.kept == (2,)
    assert ours.weights == 2 * 3 * 9 + 2 * 256 * 7
    assert ours.flop == 2 * 3 * 9 * 1024 + 2 * 256 * 7
    assert ours.r_n == 50
    wide = metrics.compression(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), Gate(4)), input_shape=(2, 9, 7))
    assert wide.flop == 2 * 4 * 9 * 7 * 5


def test_reports_read_like_the_tables() -> None:
    text = str(metrics.fully_connected(LENET_300, (97, 71, 33)))
    assert text.startswith("97-71-33: r_W 3.59 %, r_N 16.98 %, 0.010 M")
    assert metrics.fully_connected(LENET_300, (97, 71, 33)).architecture == "97-71-33"


BAD = {
    "sizes too short": lambda: metrics.fully_connected((784,), ()),
    "kept too short": lambda: metrics.fully_connected(LENET_300, (97, 71)),
    "kept too large": lambda: metrics.fully_connected(LENET_300, (97, 301, 33)),
    "kept negative": lambda: metrics.lenet_5_caffe(-1, 2, 3, 4),
    "more flat units than channels carry": lambda: metrics.lenet_5_caffe(3, 4, 65, 35),
    "vgg16 length": lambda: metrics.vgg16([1] * 13),
    "vgg19 length": lambda: metrics.vgg19([1] * 17),
    "classes": lambda: metrics.vgg16([1] * 14, classes=0),
    "half a class": lambda: metrics.vgg16([1] * 14, classes=9.5),  # type: ignore[arg-type]
    "half a unit kept": lambda: metrics.lenet_5_caffe(3, 4, 40, 35.5),  # type: ignore[arg-type]
    "half a unit": lambda: metrics.fully_connected((784, 300.5, 10), (97, 71)),  # type: ignore[arg-type]
    "half a pixel": lambda: metrics.compression(networks.lenet_300_100(), input_shape=(1568 / 3,)),  # type: ignore[arg-type]
    "not sequential": lambda: metrics.compression(nn.Linear(2, 2)),
    "unknown layer": lambda: metrics.compression(nn.Sequential(nn.Linear(2, 2), nn.Bilinear(2, 2, 2))),
    "grouped convolution": lambda: ordered_modules(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))),
    "misfit": lambda: alive(nn.Sequential(Gate(3), nn.Linear(4, 2))),
    "input shape": lambda: metrics.compression(networks.lenet_5_caffe(), input_shape=(1, 3, 3)),
    "input shape unknown": lambda: metrics.compression(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), Gate(4))),
    "several sizes fit": lambda: metrics.compression(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Gate(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    ),
    "no layers": lambda: metrics.compression(nn.Sequential(nn.ReLU())),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    with pytest.raises(InvalidInputError, match="Remedy"):
        BAD[case]()


def test_compression_is_frozen() -> None:
    result = metrics.lenet_5_caffe(1, 1, 1, 1)
    assert isinstance(result, Compression)
    with pytest.raises(AttributeError):
        result.r_w = 0.0  # type: ignore[misc]


class _LowRank(nn.Module):
    """Its weight is computed once for each batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w, self.b, self.a = (nn.Parameter(torch.randn(shape)) for shape in ((12, 6), (12, 2), (2, 6)))
        self.head = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(nn.functional.linear(x, self.w + self.b @ self.a)))
        return out


@pytest.mark.parametrize("examples", [1, 2, 7])
def test_what_is_computed_once_for_a_batch_counts_alike_at_every_size(examples: int) -> None:
    x = torch.randn(examples, 6)
    gated = insert_gates(_LowRank(), x)
    (gate,) = named_gates(gated).values()
    gate.close([0, 1, 2])
    size = metrics.compression(gated, example_input=x)
    full = 12 * 2 * 6 + 12 * 6 + 12 * 3
    assert size.flop == full - 3 * 3  # the computed weight is not followed; the head's columns leave
    assert size.flop_ratio == pytest.approx(100 * size.flop / full)


def test_a_module_that_is_called_on_a_parameter_is_counted() -> None:
    """A class token, spread over the batch: torch's counter ended in an AssertionError."""

    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.a, self.b = nn.Parameter(torch.ones(1, 4)), nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
            return self.b(torch.relu(self.a(x) + self.a(self.token.expand(len(x), -1)))) * scale

    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert metrics.compression(insert_gates(Token(), x), example_input=x).flop == 2 * 24 + 12


class Derivative(nn.Module):
    """An energy's derivative, a module fed with a parameter: torch's counter of operations put hooks on both."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gate, self.b = nn.Linear(4, 6), Gate(6), nn.Linear(6, 1)
        self.table, self.norm = nn.Parameter(torch.ones(1, 6)), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            h = self.gate(nn.functional.softplus(self.a(x))) + self.norm(self.table)
            return torch.autograd.grad(self.b(h).sum(), x, create_graph=True)[0]


def test_networks_that_derive_are_counted_and_looked_into() -> None:
    torch.manual_seed(0)
    net, x = Derivative(), torch.randn(40, 4)
    with pytest.raises(InvalidInputError, match="pass example_input"):
        metrics.compression(net)
    size = metrics.compression(net, example_input=x[:1])
    assert (size.weights, size.kept) == (4 * 6 + 6 + 6, (6,))
    assert size.flop == 2 * (4 * 6 + 6)  # forwards and backwards
    assert information_of(net, x, layer="a", noise=0.1).units == 6


def test_a_quantised_network_has_no_weights_to_count() -> None:
    body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Gated(torch.ao.quantization.quantize_dynamic(body, {nn.Linear}, dtype=torch.qint8), Gate(2))
    with pytest.raises(InvalidInputError, match="without weights in floating point"):
        metrics.compression(net, example_input=torch.randn(2, 4))


class Gated(nn.Module):
    def __init__(self, body: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.body, self.gate = body, gate

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.body(x))
