"""An activation is what computes one nonlinear function entry by entry, whoever wrote it; its gate stands behind it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from vibtheory.compression.cut import compress
from vibtheory.errors import InvalidInputError
from vibtheory.networks.activations import TORCH_ACTIVATIONS, is_activation
from vibtheory.networks.gates import named_gates
from vibtheory.networks.insertion import insert_gates


class Apply(nn.Module):
    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x)


OWN = {
    "swish": lambda x: x * torch.sigmoid(x),
    "tanh GELU": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "erf GELU": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "squared ReLU": lambda x: functional.relu(x) ** 2,
    "branch": lambda x: x.relu() if x.sum() > 0 else x.clamp_min(0),  # which a trace cannot go into
    "clamp": lambda x: x.clamp(-6, 6),
    "logarithm": lambda x: torch.log(x),  # nan for half of the numbers
}
OTHERS = {
    "scale": lambda x: 0.1 * x + 3,
    "softmax": lambda x: x.softmax(-1),
    "softmax of a row": lambda x: x.softmax(0),
    "norm of a row": lambda x: x / x.std(0),
    "tokens": lambda x: x.round().clamp(-4, 4).long(),
    "norm": lambda x: x / x.norm(),
    "GLU": lambda x: functional.glu(x, -1),
    "mean": lambda x: x.mean(1),
    "shape": lambda x: x.shape,
    "image": lambda x: functional.max_pool2d(x, 2).relu(),
}


@pytest.mark.parametrize("name", [*OWN, *OTHERS])
def test_activations_of_ones_own(name: str) -> None:
    before = torch.get_rng_state()
    assert is_activation(Apply((OWN | OTHERS)[name])) is (name in OWN)
    assert torch.equal(before, torch.get_rng_state())


def test_activations_of_torch() -> None:
    assert all(is_activation(kind()) for kind in (*TORCH_ACTIVATIONS, nn.Softsign, nn.Tanhshrink, nn.LogSigmoid))
    others = [
        nn.Identity(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Softmax(-1),
        nn.Linear(16, 16),
        nn.MaxPool2d(2),
        nn.BatchNorm1d(16),
        nn.LayerNorm(16, elementwise_affine=False),
        nn.GLU(),
        nn.Sequential(nn.ReLU()),
    ]
    assert not any(map(is_activation, others))


class Perceptron(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.a, self.act, self.b = nn.Linear(6, 9), act, nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.act(self.a(x)))


class WithOption(Perceptron):
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return super().forward(x) * scale


def chain(act: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 9), act, nn.Linear(9, 3))


@pytest.mark.parametrize("build", [chain, Perceptron, WithOption])  # the three ways of `insert_gates`
@pytest.mark.parametrize("name", ["swish", "tanh GELU", "erf GELU", "squared ReLU", "clamp"])
def test_a_closed_unit_is_cut_behind_ones_own_activation(build: Callable[[nn.Module], nn.Module], name: str) -> None:
    torch.manual_seed(0)
    net, x = build(Apply(OWN[name])).eval(), torch.randn(5, 6)
    gated = insert_gates(net, x).eval()
    (gate,) = named_gates(gated).values()
    with torch.no_grad():
        gate.log_var[:4] = 20.0  # type: ignore[index, operator]
    small = compress(gated, x)
    assert sum(p.numel() for p in small.parameters()) == (6 + 1) * 5 + (5 + 1) * 3

    first, last = (m for m in net.modules() if isinstance(m, nn.Linear))
    by_hand = last(OWN[name](first(x)) * torch.tensor([0.0] * 4 + [1.0] * 5))
    torch.testing.assert_close(small(x), by_hand)


class Shifted(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.1


class Sine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frequency = torch.tensor(1.7)  # no buffer

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.frequency * x)


@pytest.mark.parametrize("build", [chain, Perceptron, WithOption])
@pytest.mark.parametrize("kind", [Shifted, Sine])
def test_a_gate_stands_behind_a_module(build: Callable[[nn.Module], nn.Module], kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    act = kind()
    net, x = build(act).eval(), torch.randn(5, 6)
    gated = insert_gates(net, x).eval()
    (gate,) = named_gates(gated).values()
    gate.close([0, 3, 4])
    scale = torch.ones(9)
    scale[[0, 3, 4]] = 0.0
    first, last = (m for m in net.modules() if isinstance(m, nn.Linear))
    by_hand = last(act(first(x)) * scale * gate.mean())
    torch.testing.assert_close(gated(x), by_hand)
    small = compress(gated, x)
    torch.testing.assert_close(small(x), by_hand)
    assert sum(p.numel() for p in small.parameters()) == (6 + 1) * 6 + (6 + 1) * 3


@pytest.mark.parametrize("kind", [Perceptron, WithOption])
def test_an_in_place_activation_whose_result_is_unused_is_refused(kind: type[Perceptron]) -> None:
    class Sideways(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = Apply(lambda x: x.clamp_(-1, 1))

        def forward(self, x: Tensor) -> Tensor:
            self.act(x)
            return x

    with pytest.raises(InvalidInputError, match="in-place activation after 'a' whose result is unused"):
        insert_gates(kind(Sideways()), torch.randn(4, 6))


class Rounded(nn.Linear):
    """A layer that makes its weight as it runs: in a module or by a function."""

    def __init__(self, layer: nn.Linear, by: str) -> None:
        super().__init__(layer.in_features, layer.out_features)
        self.by, self.round = by, Apply(lambda w: w + (w.round(decimals=1) - w).detach())

    def forward(self, x: Tensor) -> Tensor:
        weight = self.round(self.weight) if self.by == "module" else functional.softplus(self.weight)
        return functional.linear(x, weight, self.bias)


@pytest.mark.parametrize("by", ["module", "function"])
@pytest.mark.parametrize("kind", [Perceptron, WithOption])
def test_what_a_layer_makes_of_its_weight_gets_no_gate(kind: type[Perceptron], by: str) -> None:
    net = kind(Apply(OWN["swish"]))
    net.a, net.b = Rounded(net.a, by), Rounded(net.b, by)
    gates = named_gates(insert_gates(net, torch.randn(4, 6)))
    assert [gate.features for gate in gates.values()] == [9]


class Left(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.weight, self.b = nn.Linear(6, 5), nn.Parameter(torch.randn(9, 5)), nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.weight @ self.a(x).transpose(1, 2)
        return self.b(functional.relu(h).transpose(1, 2))


@pytest.mark.parametrize("where", [None, "mlp"])
def test_the_units_of_a_weight_to_the_left_are_its_rows(where: str | None) -> None:
    (gate,) = named_gates(insert_gates(Left(), torch.randn(2, 7, 6), where=where)).values()
    assert (gate.features, gate.axis) == (9, 1)


class Memory(WithOption):
    def __init__(self, written: bool) -> None:
        super().__init__(Apply(OWN["swish"]))
        self.written = written
        self.register_buffer("memory", torch.zeros(4, 9))

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        if self.written:
            self.memory[:] = self.a(x).detach()
        else:
            self.memory.copy_(self.a(x).detach())
        return self.b(self.act(self.memory)) * scale


@pytest.mark.parametrize("written", [False, True])
def test_a_buffer_that_takes_the_input_is_no_weight(written: bool) -> None:
    assert len(named_gates(insert_gates(Memory(written).eval(), torch.randn(4, 6)))) == 1


class Formula(Perceptron):
    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(0.5 * h * (1 + torch.tanh(0.8 * h)))


def test_the_report_says_that_a_formula_goes_past_its_gate() -> None:
    torch.manual_seed(0)
    net, x = Formula(nn.ReLU()).eval(), torch.randn(5, 6)
    gated = insert_gates(net, x).eval()
    next(iter(named_gates(gated).values())).close([0, 3, 4])
    assert "a: 3 of 9 outputs stay: others hear it beside its gate" in str(compress(gated, x).cut_report)


class Positive(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return functional.softplus(weight)


@pytest.mark.parametrize("made_by", [Positive, nn.Softplus])
def test_what_makes_a_weight_is_no_activation(made_by: Callable[[], nn.Module]) -> None:
    net = WithOption(nn.ReLU())
    for layer in (net.a, net.b):
        parametrize.register_parametrization(layer, "weight", made_by())
    assert list(named_gates(insert_gates(net, torch.randn(4, 6)))) == ["a_gate"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_default_type_makes_no_activation(dtype: torch.dtype) -> None:
    own = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # bfloat16 rounds what is linear
    try:
        assert not is_activation(Apply(lambda x: 0.3 * x))
        assert is_activation(Apply(OWN["swish"]))
    finally:
        torch.set_default_dtype(own)


class Queries(nn.Module):
    """A decoder: what is learned hears the inputs by a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.attend = nn.Parameter(torch.randn(1, 4, 6)), Attend()
        self.a, self.b = nn.Linear(6, 9), nn.Linear(9, 3)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        h = self.attend(self.queries.expand(len(x), -1, -1), memory=x)
        return self.b(functional.relu(self.a(h))) * scale


class Attend(nn.Module):
    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        return (queries @ memory.transpose(1, 2)).softmax(-1) @ memory


def test_what_hears_the_inputs_by_keyword_is_not_made_of_weights() -> None:
    assert list(named_gates(insert_gates(Queries(), torch.randn(2, 5, 6)))) == ["a_gate"]


class Slots(Memory):
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        self.memory[: len(x)].copy_(self.a(x).detach())
        return self.b(self.act(self.memory)) * scale


class TracedSlots(Slots):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


@pytest.mark.parametrize("kind", [Slots, TracedSlots])
def test_a_buffer_whose_part_takes_the_input_is_no_weight(kind: type[Memory]) -> None:
    net, x = kind(written=True).eval(), torch.randn(4, 6)
    gated = insert_gates(net, x).eval()
    (gate,) = named_gates(gated).values()
    gate.close([0, 3, 4])
    scale = torch.ones(9)
    scale[[0, 3, 4]] = 0.0
    torch.testing.assert_close(gated(x), net.b(OWN["swish"](net.a(x)) * scale * gate.mean()))


class Rating(WithOption):
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        h = self.a(x).relu()
        return self.act(self.b(h)[:, 0]) * scale


def test_one_number_for_each_example_gets_no_gate() -> None:
    act, x = Apply(OWN["swish"]), torch.randn(4, 6)
    flat = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 1), nn.Flatten(0), act, Apply(lambda h: 3 * h))
    for net, name in ((Rating(act), "a_gate"), (flat, "0_gate")):
        assert list(named_gates(insert_gates(net, x))) == [name]


class ByName(Perceptron):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.act(torch.matmul(input=x, other=self.a.weight.T)))


def test_a_product_takes_its_arguments_by_name() -> None:
    (gate,) = named_gates(insert_gates(ByName(nn.ReLU()), torch.randn(4, 6))).values()
    assert gate.features == 9


class Silent(Perceptron):
    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


def test_a_train_that_returns_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="whose train.. fails or does not return it"):
        insert_gates(Silent(nn.ReLU()), torch.randn(4, 6))
