"""Models of strangers: what an axis means comes from the operation, small outputs count like large ones, no unit is cut
because it looked silent. Each case once changed its outputs or ended in a raw error."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from vibtheory.compression.cut import compress
from vibtheory.compression.fixed_modules import FixedScale
from vibtheory.compression.following import follow
from vibtheory.compression.metrics import compression
from vibtheory.errors import InvalidInputError
from vibtheory.networks.equivalence import deviation, probes
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.insertion import insert_gates
from vibtheory.networks.lenet import lenet_5_caffe


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.b(torch.relu(self.a(x)))))


class LateThreshold(nn.Module):
    """Units that only large inputs wake up."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(torch.relu(self.a(x)) - 20))


class Outputs(nn.Module):
    """A dict of a tensor and a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> dict[str, object]:
        h = torch.relu(self.a(x))
        return {"logits": self.b(h), "more": (self.c(h), 7)}


class Pooled(nn.Module):
    """A negative mean before max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 5, 3), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.max_pool2d(torch.relu(self.a(x)), 2)
        return self.head(torch.relu(self.b(h)).mean((2, 3)))


def twice() -> nn.Module:
    linear = nn.Linear(4, 4)
    return nn.Sequential(linear, nn.ReLU(), Gate(4), linear)


def last_axis_by_chance() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Linear(16, 5), nn.Flatten(), nn.Linear(160, 3))


def length_is_channels() -> nn.Module:
    return nn.Sequential(nn.Conv1d(4, 8, 1), nn.ReLU(), nn.Linear(8, 8))


def flatten_from_axis_two() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(2), nn.Linear(16, 6), nn.ReLU(),
                         nn.Flatten(), nn.Linear(36, 2))  # fmt: skip


def tokens_flattened() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def linear_over_width_between_convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Conv2d(8, 4, 1))


def group_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 6, 3), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))  # fmt: skip


def weight_norms() -> nn.Module:
    by_weight, spectral = nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm
    return nn.Sequential(by_weight(nn.Linear(5, 12)), nn.Tanh(), spectral(nn.Linear(12, 8)), nn.ReLU(), nn.Linear(8, 3))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "a Linear over the width": (last_axis_by_chance, (1, 4, 16)),
    "as many positions as channels": (length_is_channels, (4, 8)),
    "Flatten(2)": (flatten_from_axis_two, (1, 4, 4)),
    "tokens, then Flatten": (tokens_flattened, (8, 8)),
    "Conv, Linear over width, Conv": (linear_over_width_between_convolutions, (1, 8, 16)),
    "tied weights": (Tied, (6,)),
    "a module used twice": (twice, (4,)),
    "units that large inputs wake up": (LateThreshold, (4,)),
    "a dict with a tuple": (Outputs, (4,)),
    "negative means before max pooling": (Pooled, (1, 12, 12)),
    "GroupNorm, then SiLU": (group_norm, (2, 10, 10)),
    "weight norm and spectral norm": (weight_norms, (5,)),
}


def gated(name: str, share: float) -> tuple[nn.Module, Tensor]:
    """The model with gates of both signs, a share of them closed, in float64; and a batch for it."""
    make, shape = CASES[name]
    torch.manual_seed(0)
    model, x = make(), torch.randn(3, *shape)
    net = (model if named_gates(model) else insert_gates(model, x)).eval().double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for gate in named_gates(net).values():
            gate.mu.copy_(torch.randn(gate.features, generator=generator, dtype=torch.float64) + 0.5)
            gate.mu[gate.mu.abs() < 0.1] = -0.7
            gate.log_var[: int(share * gate.features)] = 6.0
    return net, x.double()


@pytest.mark.parametrize("scale", [1.0, 1e-6])
@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("name", CASES)
def test_outputs_stay_whatever_their_size(name: str, share: float, scale: float) -> None:
    net, x = gated(name, share)
    *_, last = (m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    with torch.no_grad():
        last.weight.mul_(scale)
        if last.bias is not None:
            last.bias.mul_(scale)
    small = compress(net, x)
    other = 30 * torch.randn(4, *x.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert not named_gates(small)
    assert deviation(net, small, [(x,), (other,)]) < 1e-9


@pytest.mark.parametrize(
    "name", ["a dict with a tuple", "negative means before max pooling", "weight norm and spectral norm"]
)
def test_closed_units_are_gone(name: str) -> None:
    net, x = gated(name, 0.5)
    count = [sum(p.numel() for p in part.parameters() if p.ndim > 1) for part in (compress(net, x), net)]
    assert count[0] < 0.8 * count[1]


def test_open_units_stay_however_silent() -> None:
    net, x = gated("units that large inputs wake up", 0.0)
    assert compress(net, x).get_submodule("a").out_features == 16  # type: ignore[union-attr]


def test_frozen_parameters_stay_frozen() -> None:
    net, x = gated("a dict with a tuple", 0.5)
    net.get_submodule("a").requires_grad_(False)
    small = compress(net, x)
    assert {name: p.requires_grad for name, p in small.named_parameters()} == {
        f"{layer}.{kind}": layer != "a" for layer in "abc" for kind in ("weight", "bias")
    }


def test_zeros_are_followed_by_meaning() -> None:
    """relu, gelu, pooling, addition of two closed channels keep a zero; a shift, a bias and exp end it."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = FixedScale(torch.tensor([1.0, 0.0, 2.0, 0.0]))
            self.second = FixedScale(torch.tensor([1.0, 0.0, 0.0, 3.0]))
            self.relu = nn.ReLU(inplace=True)
            self.kept, self.shifted, self.exponential = nn.Linear(16, 2), nn.Linear(16, 2), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> list[Tensor]:
            h = self.relu(self.first(x)) + nn.functional.gelu(self.second(x))
            h = nn.functional.adaptive_avg_pool2d(nn.functional.max_pool2d(h, 2), 2).flatten(1)
            h2 = h.clone()
            h2 += 1e-30
            return [self.kept(h), self.shifted(h2), self.exponential(h.exp())]

    found = follow(Net().eval(), (torch.rand(2, 4, 8, 8),))
    kept, shifted, exponential = (use.droppable & (use.constant == 0) for use in found.uses)
    assert kept.tolist() == 4 * [False] + 4 * [True] + 8 * [False]
    assert not shifted.any()
    assert not exponential.any()


def test_deviation_is_relative_and_sees_shapes() -> None:
    def net(factor: float, width: int = 2) -> nn.Module:
        layer = nn.Linear(1, width, bias=False)
        with torch.no_grad():
            layer.weight.fill_(factor)
        return layer

    inputs = probes((torch.ones(3, 1),))
    assert len(inputs) == 4
    assert deviation(net(1e-8), net(1.5e-8), inputs) == pytest.approx(0.5, rel=1e-5)
    assert deviation(net(1.0), net(1.0), inputs) == 0
    assert deviation(net(1.0), net(1.0, 3), inputs) == float("inf")
    assert deviation(net(0.0), net(1e-30), inputs) == float("inf")
    assert deviation(net(1.0), net(math.nan), inputs) == float("inf")

    class Imaginary(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return torch.complex(x, super().forward(x))

    assert deviation(Imaginary(1, 1), Imaginary(1, 1), inputs) > 0


def test_sizes_are_those_that_torch_counts() -> None:
    """Tokens [N, 16, 8] through 8 → 8 → 6 → 3: 16·(64 + 48 + 18) multiply-adds; of the small net, torch's count."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    x = torch.randn(2, 16, 8)
    net = insert_gates(model, x).eval()
    size = compression(net, example_input=x)
    assert (size.flop, size.weights, size.r_w, size.r_n) == (2080, 130, 100, 100)
    with torch.no_grad():
        next(iter(named_gates(net).values())).log_var[:4] = 6.0
    size = compression(net, example_input=x)
    assert (size.flop, size.weights, size.kept) == (16 * (32 + 24 + 18), 74, (4, 6))
    assert size.r_n == pytest.approx(100 * 10 / 14)
    with pytest.raises(InvalidInputError, match="example_input"):
        compression(net, input_shape=(16, 8))


def test_a_shared_weight_counts_once() -> None:
    """The tied 6·6 stay, since one of its inputs is the model's; the head hears 3 of 6 units."""
    net, x = gated("tied weights", 0.5)
    assert compression(net, example_input=x).r_w == 100 * (36 + 2 * 3) / (36 + 2 * 6)


def test_sizes_of_a_chain_do_not_depend_on_how_its_shape_is_given() -> None:
    net = lenet_5_caffe()
    assert compression(net, example_input=torch.zeros(2, 1, 28, 28)) == compression(net)


class Body(nn.Module):
    """6 → 12 → 3 with an option, so that gates come by interception."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.b(torch.relu(self.a(x))) * scale


def _closed(net: nn.Module, example: object) -> nn.Module:
    result = insert_gates(net.eval(), example).eval()
    for gate in named_gates(result).values():
        gate.close(torch.arange(gate.features) % 2 == 0)
    return result


def test_each_tensor_keeps_its_precision() -> None:
    """A complex weight, a float64 buffer (seconds since 1970), a bfloat16 body under a float32 head."""

    class Mixed(Body):
        def __init__(self) -> None:
            super().__init__()
            self.a.to(torch.bfloat16)
            self.register_buffer("start", torch.tensor(1_700_000_037.0, dtype=torch.float64))
            self.phases = nn.Parameter(torch.randn(4, dtype=torch.complex64))

        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            x = torch.fft.irfft(torch.fft.rfft((x - self.start) / 60) * self.phases, n=6)
            return self.b(torch.relu(self.a(x.to(self.a.weight.dtype))).to(self.b.weight.dtype)) * scale

    torch.manual_seed(0)
    x = 1.7e9 + 60 * torch.rand(5, 6, dtype=torch.float64)
    net = _closed(Mixed(), x)
    small = compress(net, x)
    own = dict(net.named_parameters()) | dict(net.named_buffers())
    for name, value in (*small.named_parameters(), *small.named_buffers()):
        assert value.dtype == own.get(name, torch.zeros((), dtype=torch.bfloat16)).dtype, name  # the gates' the body's
    assert small.a.out_features == 6
    torch.testing.assert_close(small(x), net(x))


def test_the_first_gates_precision_is_not_the_nets() -> None:
    """Gates stay float32 in a float64 net; the bias that takes up what closed units are worth is float64."""
    torch.manual_seed(0)
    a, b, x = nn.Linear(6, 8, bias=False).double(), nn.Linear(8, 2, bias=False).double(), torch.randn(3, 6).double()
    net = nn.Sequential(Gate(6), a, Gate(8), nn.Sigmoid(), b).eval()
    for gate in named_gates(net).values():
        gate.close([0, 1, 2])
    small = compress(net, x)
    assert small(x).dtype == torch.float64
    h = torch.sigmoid(a(x * (torch.arange(6) > 2)) * (torch.arange(8) > 2))
    torch.testing.assert_close(small(x), b(h), rtol=1e-12, atol=1e-12)
    for example in (x, x.float(), None):
        assert compression(net, example_input=example).r_w == 100 * (3 * 5 + 5 * 2) / (6 * 8 + 8 * 2)
        torch.testing.assert_close(compress(net, example)(x), small(x))


def test_a_model_that_records_in_evaluation() -> None:
    """The given one is unchanged, and the result has recorded what it had, not the comparisons' inputs."""

    class Recording(Body):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.tensor(0.0))
            self.register_buffer("mean", torch.zeros(6))

        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            with torch.no_grad():
                self.seen += 1
                self.mean += (x.mean(0) - self.mean) / self.seen
            return super().forward(x - self.mean, scale)

    torch.manual_seed(0)
    x = torch.randn(5, 6)
    net = _closed(Recording(), x)
    net(x + 1)
    small = compress(net, x)
    assert compression(net, example_input=x).kept == (6,)
    for one in (net, small):
        assert one.seen == 1
        torch.testing.assert_close(one.mean, (x + 1).mean(0))
    assert small.a.out_features == 6
    torch.testing.assert_close(small(x), net(x))


@pytest.mark.parametrize("dimensions", [1, 2])
def test_what_depends_on_the_inputs_size_is_no_constant(dimensions: int) -> None:
    """A BatchNorm's shift, summed over tokens or averaged with padding, was folded as at the example's size."""

    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))[dimensions - 1]
            self.a, self.norm, self.b = conv(2, 8, 3, padding=1), norm(8), nn.Linear(8, 3)
            nn.init.normal_(self.norm.bias)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(torch.relu(self.a(x)))
            h = h.sum(2) if dimensions == 1 else nn.functional.avg_pool2d(h, 3, 1, 1).mean((2, 3))
            return self.b(h)

    torch.manual_seed(0)
    few, many = (torch.randn(2, 2, *[size] * dimensions) for size in (8, 20))
    net = _closed(Pooling(), few)
    small = compress(net, few)
    for x in (few, many):
        torch.testing.assert_close(small(x), net(x))


def test_training_keeps_what_only_training_does() -> None:
    """With gates put in by hand the result was a trace of evaluation, without the functional dropout."""

    class Dropping(Body):
        def __init__(self) -> None:
            super().__init__()
            self.gate = Gate(12)

        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            h = self.gate(torch.relu(self.a(x)))
            return self.b(nn.functional.dropout(h, 0.5, self.training)) * scale

    torch.manual_seed(0)
    net, x = Dropping().eval(), torch.randn(5, 6)
    net.gate.close(torch.arange(12) < 6)
    small = compress(net, x)
    torch.testing.assert_close(small(x), net(x))
    assert small.a.out_features == 6
    small.train()
    assert not torch.equal(small(x), small(x))


def test_inputs_and_outputs_of_any_kind() -> None:
    """One dict; bytes that `forward` makes float; a dataclass with slots."""

    @dataclass(slots=True)
    class Output:
        logits: Tensor

    class FromDict(Body):
        def forward(self, batch: dict[str, Tensor]) -> Output:  # type: ignore[override]
            return Output(super().forward(batch["x"].float() / 255))

    torch.manual_seed(0)
    batch = {"x": torch.randint(0, 256, (5, 6), dtype=torch.uint8)}
    net = _closed(FromDict(), batch)
    torch.testing.assert_close(compress(net, batch)(batch).logits, net(batch).logits)
    assert compression(net, example_input=batch).flop == 6 * 6 + 6 * 3


@pytest.mark.parametrize(
    ("first", "shapes", "flop"),
    [
        (nn.LSTM(5, 8, batch_first=True), [(10, 5)], 10 * 4 * 8 * (5 + 8)),
        (nn.GRU(5, 8, batch_first=True), [(10, 5)], 10 * 3 * 8 * (5 + 8)),
        (nn.Bilinear(5, 6, 8), [(5,), (6,)], 8 * 5 * 6 + 8 * 6),
    ],
)
def test_multiply_adds_that_torch_does_not_count(first: nn.Module, shapes: list[tuple[int, ...]], flop: int) -> None:
    """By hand; and a product of a matrix with a vector, 12."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.a, self.v = copy.deepcopy(first), nn.Linear(8, 12), nn.Parameter(torch.randn(12))

        def forward(self, *x: Tensor) -> Tensor:
            h = self.first(*x)
            h = h[0][:, -1] if isinstance(h, tuple) else h
            return torch.relu(self.a(h)) @ self.v

    torch.manual_seed(0)
    example = tuple(torch.randn(4, *shape) for shape in shapes)
    assert compression(insert_gates(Net().eval(), example), example_input=example).flop == flop + 8 * 12 + 12


class Exits(nn.Module):
    """Sure of an input, it leaves early: by a logit, or by the head that the input names."""

    def __init__(self, named: bool) -> None:
        super().__init__()
        self.named = named
        self.a, self.heads = nn.Linear(6, 10), nn.ModuleList([nn.Linear(10, 3), nn.Linear(10, 3)])

    def forward(self, x: Tensor, which: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        first = self.heads[int(which[0]) if self.named else 0](h)
        return first if self.named or bool(first.max() > 8) else self.heads[1](h)


@pytest.mark.parametrize("named", [False, True])
def test_a_branch_that_values_decide_stays(named: bool) -> None:
    """The example takes one way. The other was computed without its units: the early head's outputs became constants,
    so that other inputs left early; the head not named no longer fitted."""
    torch.manual_seed(0)
    net, x = Exits(named), torch.randn(4, 6)
    gated = insert_gates(net, (x, torch.zeros(4, dtype=torch.long))).eval()
    gated.a_gate.close([0, 1, 2])
    small = compress(gated, (x, torch.zeros(4, dtype=torch.long)))
    ways = set()
    with torch.no_grad():
        for one in 30 * torch.randn(60, 1, 6):
            which = torch.tensor([int(one[0, 0] > 0)])
            h = torch.relu(net.a(one)) * (torch.arange(10) > 2)
            first = net.heads[int(which)](h) if named else net.heads[0](h)
            wanted = first if named or first.max() > 8 else net.heads[1](h)
            ways.add(bool(which if named else first.max() > 8))
            torch.testing.assert_close(small(one, which), wanted)
    assert ways == {False, True}
    assert "a branch may depend on it" in str(small.cut_report)


def test_a_branch_that_a_count_decides_stays() -> None:
    """Every parameter has its part in the example's way; the other one listens to what a closed gate hides from it."""

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.gate, self.b = nn.Linear(5, 8), Gate(8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.a(x))
            out: Tensor = h[:, :3] + h[:, 3:6] if int((x[:, 0] > 0).sum()) > 2 else self.b(self.gate(h))
            return out

    torch.manual_seed(0)
    net = Counts().eval()
    net.gate.close([1, 4])
    x = torch.rand(4, 5)
    small = compress(net, -x)
    for inputs in (-x, x):
        torch.testing.assert_close(small(inputs), net(inputs))
    assert "a branch may depend on it" in str(small.cut_report)


def test_what_one_hot_reads_decides_nothing() -> None:
    """It reads its least and largest index to check them."""

    class Counted(Body):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(nn.functional.one_hot(x.long(), 6).float())

    x = torch.tensor([0, 3, 5, 1])
    net = _closed(Counted(), x)
    small = compress(net, x)
    assert small.a.out_features == 6
    torch.testing.assert_close(small(x.flip(0)), net(x.flip(0)))


def test_computed_weights_count_as_what_they_are() -> None:
    """Orthogonal 6 by 10 and weight-normed 10 by 8, whole: 60 + 80 + 24 weights, as many multiply-adds."""
    torch.manual_seed(0)
    one, two = nn.utils.parametrizations.orthogonal, nn.utils.parametrizations.weight_norm
    model = nn.Sequential(one(nn.Linear(6, 10)), nn.Softmax(1), two(nn.Linear(10, 8)), nn.ReLU(), nn.Linear(8, 3))
    size = compression(insert_gates(model, torch.randn(4, 6)), example_input=torch.randn(4, 6))
    assert (size.weights, size.flop) == (164, 164)
    assert size.r_w == size.flop_ratio == 100


class Refused(Exception):
    """An author's own kind of error, derived from nothing that torch raises."""


class Particular(nn.Module):
    """A forward pass that refuses what it was not written for, of which the examples are none."""

    def __init__(self, refuses: Callable[[nn.Module, Tensor], bool], error: Exception, whole: bool) -> None:
        super().__init__()
        self.refuses, self.error, self.whole = refuses, error, whole
        self.a, self.b, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.refuses(self, x):
            raise self.error
        if self.whole and bool(x.sum() > 1e9):  # what torch.fx does not trace
            return x
        h = torch.relu(self.a(x))
        return self.head(h + torch.relu(self.b(h)))


@pytest.mark.parametrize("error", [Refused("no"), AssertionError("no")], ids=repr)
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "refuses",
    [
        lambda net, x: not isinstance(x, Tensor),
        lambda net, x: isinstance(x, Tensor) and len(x) > 4,
        lambda net, x: net.training,
        lambda net, x: isinstance(x, Tensor) and x.dtype == torch.float64,
        lambda net, x: type(x) is Tensor and bool((x < 0).any()),
    ],
    ids=["a trace", "rows", "training", "float64", "negative"],
)
def test_what_a_model_refuses_of_our_own_is_no_error_of_its_users(
    refuses: Callable[[nn.Module, Tensor], bool], whole: bool, error: Exception
) -> None:
    torch.manual_seed(0)
    model, x = Particular(refuses, error, whole).eval(), torch.rand(2, 4)
    gated = insert_gates(model, x).eval()
    for gate in named_gates(gated).values():
        gate.mu.data[::2] = 0
    small = compress(gated, x)
    h = torch.relu(model.a(x)) * named_gates(gated)["a_gate"].mean()
    wanted = model.head(h + torch.relu(model.b(h)) * named_gates(gated)["b_gate"].mean())
    torch.testing.assert_close(small(x), wanted)


@pytest.mark.parametrize(
    ("dimensions", "between"),
    [
        (1, nn.Upsample(scale_factor=2, mode="linear")),
        (1, nn.ConstantPad1d((2, 0), 0.0)),  # a causal convolution's
        (2, nn.ZeroPad2d((0, 1, 0, 1))),
        (2, nn.ZeroPad2d((-1, 1, 0, 2))),
        (2, nn.Upsample(scale_factor=2, mode="bicubic")),
        (2, nn.Upsample(scale_factor=2, mode="nearest-exact")),
        (3, nn.Upsample(scale_factor=2, mode="trilinear")),
        (3, nn.Upsample(scale_factor=2)),
        (3, nn.AdaptiveMaxPool3d(2)),
        (3, nn.ReplicationPad3d(1)),
        (3, nn.ZeroPad3d(1)),
    ],
    ids=str,
)
def test_what_resizes_maps_leaves_their_units_where_they_are(dimensions: int, between: nn.Module) -> None:
    torch.manual_seed(0)
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    layers = [kind(2, 6, 3, padding=1), nn.ReLU(), between, kind(6, 3, 2), nn.Flatten(2)]
    net = _closed(nn.Sequential(*layers), torch.randn(2, 2, *[4] * dimensions)).double()
    small = compress(net, torch.randn(2, 2, *[4] * dimensions).double())
    assert [tuple(p.shape[:2]) for p in small.parameters() if p.ndim > 1] == [(3, 2), (3, 3)]
    wider = torch.randn(3, 2, 7, *[5] * (dimensions - 1)).double()
    torch.testing.assert_close(small(wider), net(wider), rtol=1e-12, atol=1e-12)


def test_padding_with_another_number_is_heard() -> None:
    """A closed unit whose border is 1: its listener stays, and at other sizes too."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.ConstantPad2d((0, 1, 0, 1), 1.0), nn.Conv2d(6, 3, 2)]
    net = _closed(nn.Sequential(*layers, nn.Flatten(2)), torch.randn(2, 2, 4, 4))
    small = compress(net, torch.randn(2, 2, 4, 4))
    assert [tuple(p.shape[:2]) for p in small.parameters() if p.ndim > 1] == [(3, 2), (3, 6)]
    wider = torch.randn(3, 2, 7, 5)
    torch.testing.assert_close(small(wider), net(wider))


class Transposed(nn.Module):
    """Maps as tokens: the first Linear meets its input transposed in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.a, self.head = nn.Conv1d(3, 12, 3), nn.Linear(12, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.relu(self.conv(x)).transpose(1, 2)
        return self.head(torch.relu(self.a(tokens)).mean(1))


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_linear_layer_on_a_transposed_input_is_followed(rows: int) -> None:
    torch.manual_seed(0)
    net, x = _closed(Transposed(), torch.randn(2, 3, 9)), torch.randn(rows, 3, 9)
    small = compress(net, x)
    assert [tuple(p.shape[:2]) for p in small.parameters() if p.ndim > 1] == [(6, 3), (8, 6), (2, 8)]
    torch.testing.assert_close(small(x), net(x))


class Conv1D(nn.Module):
    """GPT-2's linear layer, its weight transposed; it shapes its result by a number that it holds, or by `fixed`."""

    def __init__(self, inputs: int, outputs: int, fixed: bool) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs) / 3), nn.Parameter(torch.randn(outputs))
        self.nf = str(outputs) if fixed else outputs

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], int(self.nf))
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).view(shape)


class Recent(nn.Module):
    """A layer on the last rows alone; how many happens to be its width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.window = nn.Parameter(torch.randn(outputs, inputs) / 3), 12

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x[:, -self.window :], self.weight)


def test_a_number_that_happens_to_be_a_width_stays() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Recent(8, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
    gated = insert_gates(net, torch.randn(2, 2, 8)).eval()
    closed = torch.arange(12) % 3 > 0
    with torch.no_grad():
        next(iter(named_gates(gated).values())).log_var[closed] = 20.0  # type: ignore[operator, index]
    small, x = compress(gated, torch.randn(2, 2, 8)), torch.randn(2, 20, 8)
    torch.testing.assert_close(small(x), net[2](net[1](net[0](x)) * ~closed))
    assert sum(p.numel() for p in small.parameters()) == 8 * 4 + 4 * 3 + 3


class Feedforward(nn.Module):
    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.a, self.b = Conv1D(8, 12, fixed), Conv1D(12, 8, fixed)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(nn.functional.gelu(self.a(x)))


def test_it_stays_beside_one_that_must_follow() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Conv1D(8, 12, False), nn.ReLU(), Recent(12, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
    gated = insert_gates(net, torch.randn(2, 2, 8)).eval()
    closed = torch.arange(12) % 3 > 0
    with torch.no_grad():
        for gate in named_gates(gated).values():
            gate.log_var[closed] = 20.0  # type: ignore[operator, index]
    small, x = compress(gated, torch.randn(2, 2, 8)), torch.randn(2, 20, 8)
    by_hand = net[4](net[2](net[0](x).relu() * ~closed).relu() * ~closed)
    torch.testing.assert_close(small(x), by_hand)
    assert sum(p.numel() for p in small.parameters()) == (8 + 1) * 4 + 4 * 4 + 4 * 3 + 3


@pytest.mark.parametrize("fixed", [False, True])
def test_a_layer_of_ones_own_that_holds_its_size(fixed: bool) -> None:
    torch.manual_seed(0)
    net, x = Feedforward(fixed).eval(), torch.randn(2, 5, 8)
    gated = insert_gates(net, x).eval()
    closed = torch.arange(12) % 3 > 0
    with torch.no_grad():
        next(iter(named_gates(gated).values())).log_var[closed] = 20.0  # type: ignore[operator, index]
    small = compress(gated, x)
    by_hand = x + net.b(nn.functional.gelu(net.a(x)) * ~closed)
    torch.testing.assert_close(small(x), by_hand)
    if fixed:
        assert str(small.cut_report) == (
            "a: 8 of 12 outputs stay: without it the outputs move (a size written into forward?)"
        )
    else:
        assert sum(p.numel() for p in small.parameters()) == (8 + 1) * 4 + 4 * 8 + 8
        assert str(small.cut_report) == "everything behind a closed gate is gone"


class Bank(nn.Module):
    """Filled after training: train() empties it."""

    def __init__(self, skip: nn.Module) -> None:
        super().__init__()
        self.a, self.gate, self.b, self.skip = nn.Linear(6, 8), Gate(8), nn.Linear(8, 3), skip
        self.register_buffer("bank", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.gate(torch.relu(self.a(x)))) + self.skip(x) + self.bank

    def train(self, mode: bool = True) -> Bank:
        if mode:
            self.bank.zero_()
        return super().train(mode)


def test_what_training_would_empty_stays_full() -> None:
    torch.manual_seed(0)
    net, x = Bank(nn.Linear(6, 3)).eval(), torch.randn(4, 6)
    net.bank += 3.0
    net.gate.close([0, 3, 4])
    scale = torch.ones(8)
    scale[[0, 3, 4]] = 0.0
    small = compress(net, x)
    by_hand = net.b(torch.relu(net.a(x)) * scale * net.gate.mean()) + net.skip(x) + 3.0
    torch.testing.assert_close(small(x), by_hand)
    assert small.a.out_features == 5
    assert bool((net.bank == 3.0).all())


class ForPrediction(Bank):
    def train(self, mode: bool = True) -> ForPrediction:
        if mode:
            raise RuntimeError("for prediction alone")
        return super().train(mode)


def test_a_model_without_train_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="whose train.. fails or does not return it"):
        compress(ForPrediction(nn.Linear(6, 3)), torch.randn(4, 6))


@pytest.mark.parametrize(
    ("build", "words"),
    [(lambda: Bank(nn.LazyLinear(3)), "lazy layers that have no weights yet"),
     (lambda: Bank(nn.Linear(6, 3)).to("meta"), 'weights on the device "meta"')],
)  # fmt: skip
def test_weights_without_values_are_refused(build: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        compress(build(), torch.randn(4, 6))
