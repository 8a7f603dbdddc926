"""insert_gates: where gates go, how large they are, and that nothing else changes."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import prune

from vibtheory.bridge.checking import check_network
from vibtheory.compression.cut import compress
from vibtheory.datasets.dataset import from_arrays
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.insertion import insert_gates
from vibtheory.training.single import train


class Functional(nn.Module):
    """Function, method and module activations, functional dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(5 * 9, 7), nn.Linear(7, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.max_pool2d(functional.relu(self.norm(self.conv(x))), 2)
        h = functional.gelu(self.fc1(h.flatten(1)))
        h = functional.dropout(h, 0.5, self.training)
        return torch.sigmoid(self.fc3(self.fc2(h).relu()))


class Looping(nn.Module):
    """fx cannot trace it; one activation module used `uses` times."""

    def __init__(self, uses: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(uses))
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 1e9):
            return x
        for layer in self.layers:
            x = self.act(layer(x))
        return 2 * x


class Options(nn.Module):
    """An option, a branch on `training`, functional normalisation, a method and an attribute of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 3)
        self.labels = ("a", "b", "c")
        self.conv.weight.requires_grad_(False)

    def features(self, x: Tensor) -> Tensor:
        norm = self.norm
        h = functional.batch_norm(
            self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, self.training
        )
        return torch.relu(h).mean((2, 3))

    def forward(self, x: Tensor, temperature: float | None = None) -> Tensor:
        h = self.features(x)
        if self.training:  # a stochastic depth of its own
            h = h * torch.bernoulli(torch.full((len(h), 1), 0.5))
        h = self.head(h)
        return h if temperature is None else h / temperature


class Counting(nn.Module):
    """A buffer that training alone moves; a trace in evaluation mode would lose it, with equal outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        return self.b(torch.relu(self.a(x)))


class Shifting(nn.Module):
    """One more activation in training mode, before the others and as wide."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.c(torch.relu(self.b(torch.relu(h) if self.training else h)))


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 5), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.gelu(self.conv(x).flatten(2).transpose(1, 2))
        return self.head(torch.relu(self.fc(h).transpose(1, 2)))


class Widening(nn.Module):
    """Another width in training mode, at the same place."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        nn.init.constant_(self.fc.bias, -1.0)  # on zeros both widths give 0: the example alone does not tell

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        return torch.relu(torch.cat([h, h], 1) if self.training else h).sum(1)


class Discarding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x + 1
        functional.relu_(h)
        return h


SEQUENTIAL = nn.Sequential(
    nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5), nn.Tanh(), nn.Linear(5, 2)
)
CASES: list[tuple[str, nn.Module, tuple[int, ...], dict[str, tuple[int, float, int]]]] = [
    (
        "functional",
        Functional(),
        (2, 8, 8),
        {"conv_gate": (5, 36.0, 1), "fc1_gate": (7, 1.0, 1), "fc2_gate": (6, 1.0, 1)},
    ),
    ("sequential", SEQUENTIAL, (2, 8, 8), {"0_gate": (4, 36.0, 1), "4_gate": (5, 1.0, 1)}),
    ("tokens", nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 2)), (5, 6), {"0_gate": (9, 5.0, -1)}),
    ("untraceable", Looping(), (4,), {"layers_0_gate": (4, 1.0, 1)}),
]


@pytest.mark.parametrize(("name", "model", "shape", "expected"), CASES, ids=[case[0] for case in CASES])
def test_gates_sizes_and_unchanged_outputs(
    name: str, model: nn.Module, shape: tuple[int, ...], expected: dict[str, tuple[int, float, int]]
) -> None:
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    model.train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    gated = insert_gates(model, x)
    assert gated.training
    assert {k: (g.features, g.multiplier, g.axis) for k, g in named_gates(gated).items()} == expected
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())  # statistics too
    assert not named_gates(model)
    assert gated.load_state_dict(model.state_dict(), strict=False).unexpected_keys == []
    insert_gates(model, x).load_state_dict(gated.state_dict())
    assert torch.allclose(gated.eval()(x), model.eval()(x), atol=1e-6)  # gates begin open at mean 1
    for gate in named_gates(gated).values():
        gate.mu.data.fill_(1.0)
        gate.log_var.data.fill_(9.0)
    assert float(gated(x).detach().std(0).max()) == 0  # closed gates cut the input off: they stand on the path


def test_the_copy_stays_the_users_model_where_a_trace_would_not() -> None:
    torch.manual_seed(0)
    model, x = Options().train(), torch.randn(5, 2, 7, 7)
    gated = insert_gates(model, x, log_variance=-60.0)
    assert list(named_gates(gated)) == ["conv_gate"]
    assert isinstance(gated, Options)
    assert gated.labels == model.labels
    assert set(gated.state_dict()) - set(model.state_dict()) == {
        f"conv_gate.{key}" for key in ("mu", "log_var", "active")
    }
    assert not gated.conv.weight.requires_grad
    gated.eval()
    model.eval()
    assert torch.equal(gated(x), model(x))
    assert torch.equal(gated(x, temperature=3.0), model(x, 3.0))
    before = gated.norm.running_mean.clone()  # type: ignore[union-attr]
    gated.train()(x).sum().backward()
    assert not torch.equal(gated.norm.running_mean, before)  # type: ignore[arg-type]
    grad = named_gates(gated)["conv_gate"].mu.grad
    assert grad is not None
    assert grad.abs().min() > 0
    with torch.no_grad():
        named_gates(gated)["conv_gate"].mu[:3] = 0
    again = copy.deepcopy(gated).eval()
    assert torch.equal(again(x), gated.eval()(x))
    assert not torch.equal(again(x), model(x))
    assert torch.allclose(compress(gated, x)(x), gated(x), atol=1e-6)


def test_gates_take_no_name_of_the_users() -> None:
    """A layer called like the gate to be, which comes after it, stays beside it; so does a dropout."""
    torch.manual_seed(0)
    layers = {"fc": nn.Linear(4, 6), "r": nn.ReLU(), "fc_gate": nn.Linear(6, 6), "r2": nn.ReLU(), "o": nn.Linear(6, 2)}
    gated = insert_gates(nn.Sequential(OrderedDict(layers)), torch.randn(2, 4))
    assert list(named_gates(gated)) == ["fc_gate_2", "fc_gate_gate"]

    class TwoDropouts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.dropout, self.b = nn.Linear(4, 6), nn.Dropout(0.1), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = functional.dropout(x, 0.7, self.training)
            return self.b(self.dropout(functional.relu(self.a(x))))

    gated = insert_gates(TwoDropouts(), torch.randn(2, 4))
    assert sorted(m.p for m in gated.modules() if isinstance(m, nn.Dropout)) == [0.1, 0.7]


def test_what_training_alone_does_is_kept() -> None:
    torch.manual_seed(0)
    gated = insert_gates(Counting(), torch.randn(3, 4)).train()
    before = float(gated.steps)  # type: ignore[arg-type]
    gated(torch.randn(3, 4))
    assert float(gated.steps) == before + 1 == 1.0  # type: ignore[arg-type]


def test_each_use_of_a_module_has_a_gate_of_its_own() -> None:
    gated = insert_gates(Looping(2), torch.ones(2, 4), input_gate=True)
    assert list(named_gates(gated)) == ["input_gate", "layers_0_gate", "layers_1_gate"]


def test_units_are_where_their_layer_put_them() -> None:
    gated = insert_gates(Patches(), torch.zeros(2, 3, 8, 8))
    assert [(g.features, g.axis) for g in named_gates(gated).values()] == [(6, -1), (5, 1)]
    words = nn.Sequential(nn.Embedding(9, 5), nn.ReLU(), nn.Linear(5, 2))
    gated = insert_gates(words, torch.zeros(2, 7, dtype=torch.int64))
    assert named_gates(gated)["0_gate"].features == 5
    assert gated(torch.zeros(1, 11, dtype=torch.int64)).shape == (1, 11, 2)  # another length


class Flattened(nn.Module):
    """Tokens are normalised as rows of one batch and put back by `reshape_as`, as LeViT does, then averaged away."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)  # [N, T, S, 6]
        h = functional.hardswish(self.norm(h.flatten(0, 2)).reshape_as(h))
        return self.b(torch.sigmoid(h.mean(1))).mean(1)


class Biased(nn.Module):
    """A table of biases [heads, T, T] with an activation, as Swin V2 has it: on its axis 0 are no examples."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.a, self.b = nn.Linear(1, 2), nn.Linear(3, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.sigmoid(self.table(torch.arange(25.0).view(5, 5, 1)).permute(2, 0, 1))
        h = self.b(functional.relu(self.a(x))).view(-1, 5, 2, 2).transpose(1, 2)
        return (bias @ h).flatten(1)


class BiasedWithOption(Biased):
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return scale * super().forward(x)


def test_units_are_followed_through_every_function_that_moves_axes() -> None:
    torch.manual_seed(0)
    gated = insert_gates(Flattened(), torch.randn(2, 4, 5, 3))
    assert [(g.features, g.axis) for g in named_gates(gated).values()] == [(6, -1), (6, -1)]
    assert gated(torch.randn(3, 7, 8, 3)).shape == (3, 2)  # other lengths


@pytest.mark.parametrize("cls", [Biased, BiasedWithOption])  # traced, and its own
def test_what_has_units_where_examples_are_gets_no_gate(cls: Callable[[], nn.Module]) -> None:
    """The model had been refused, for a feature_axis that nobody had passed."""
    torch.manual_seed(0)
    gated = insert_gates(cls(), torch.randn(3, 5, 3))
    assert [g.features for g in named_gates(gated).values()] == [6]


def test_noise_depends_on_the_mode_and_dropout_follows_it() -> None:
    x = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    gated = insert_gates(Functional().eval(), x, log_variance=-60.0)
    assert not gated.training
    assert torch.equal(gated(x), gated(x))
    torch.manual_seed(0)
    gated.train()
    gated.get_submodule("norm").eval()
    assert not torch.allclose(gated(x), gated(x), atol=1e-4)  # dropout is on again: the gates' noise is negligible


@pytest.mark.parametrize("model", [SEQUENTIAL, Functional()], ids=["sequential", "graph"])
def test_input_gate_and_options(model: nn.Module) -> None:
    gated = insert_gates(model, torch.zeros(1, 2, 8, 8), input_gate=True, multiplier=0.25, threshold=2.0, mean=1.5)
    gates = named_gates(gated)
    assert "input_gate" in gates
    gate = gates["input_gate"]
    assert (gate.features, gate.multiplier, gate.threshold) == (2, 0.25, 2.0)
    assert torch.equal(gate.mu.detach(), torch.full((2,), 1.5))


def test_input_gate_after_a_leading_flatten() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 1))
    gated = insert_gates(model, torch.zeros(1, 3, 4), input_gate=True)
    assert [(name, gate.features) for name, gate in named_gates(gated).items()] == [("input_gate", 12), ("1_gate", 3)]


def test_feature_axis_overrides_the_guess() -> None:
    gated = insert_gates(CASES[2][1], torch.zeros(2, 5, 6), feature_axis=1)
    assert [(gate.features, gate.multiplier) for gate in named_gates(gated).values()] == [(5, 9.0)]


def test_gate_on_the_last_axis_has_one_draw_per_example_and_unit() -> None:
    torch.manual_seed(0)
    gate = Gate(3, axis=-1, log_variance=0.0).train()
    z = gate(torch.ones(4, 5, 3))
    assert torch.equal(z, z[:, :1].expand(4, 5, 3))
    assert len(z[:, 0].unique()) == 12
    with pytest.raises(InvalidInputError, match="axis -1"):
        gate(torch.ones(4, 3, 5))


class Remembering(nn.Module):
    """Keeps what it computed last, as those who look at attention maps do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.seen = nn.Linear(4, 6), nn.Linear(6, 2), {}

    def forward(self, x: Tensor) -> Tensor:
        self.seen["last"] = [functional.relu(self.a(x))]
        return self.b(self.seen["last"][0])


def _pruned() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    return prune.l1_unstructured(model[0], "weight", amount=0.5) and model


@pytest.mark.parametrize("build", [Remembering, _pruned])
def test_a_model_that_holds_a_graph_from_training_can_be_copied(build: Callable[[], nn.Module]) -> None:
    """torch refuses: "Only Tensors created explicitly by the user support the deepcopy protocol"."""
    torch.manual_seed(0)
    model, x = build(), torch.randn(5, 4)
    data = from_arrays(x, [0, 1, 0, 1, 1], x, [0, 1, 0, 1, 1])
    model(x).square().sum().backward()
    gated = insert_gates(model, x)
    torch.testing.assert_close(gated.eval()(x), model.eval()(x))
    assert check_network(model, data, gamma=0.1).verdict == "holds"
    assert train(model, data, epochs=1, batch_size=4, device="cpu").status == "completed"
    gated(x)
    torch.testing.assert_close(compress(gated, x)(x), gated(x))


def test_an_activation_that_nothing_uses_gets_no_gate() -> None:
    """It was called an in-place one, and the model refused."""

    class Idle(Remembering):
        def forward(self, x: Tensor) -> Tensor:
            h = functional.relu(self.a(x))
            functional.leaky_relu(h, 0.2)
            torch.tanh(self.b(h))
            return self.b(h)

    torch.manual_seed(0)
    assert list(named_gates(insert_gates(Idle(), torch.randn(3, 4)))) == ["a_gate"]


def test_modules_that_the_forward_pass_makes_are_functions() -> None:
    """nn.ReLU()(x), as people write it, ended in torch's "module is not installed as a submodule"."""

    class Making(Remembering):
        def forward(self, x: Tensor) -> Tensor:
            return self.b(nn.Sequential(nn.ReLU(), nn.Identity())(self.a(x)))

    torch.manual_seed(0)
    model, x = Making().eval(), torch.randn(5, 4)
    gated = insert_gates(model, x).eval()
    gated.a_gate.close([1, 4])
    wanted = model.b(functional.relu(model.a(x)) * torch.tensor([1.0, 0, 1, 1, 0, 1]))
    torch.testing.assert_close(gated(x), wanted)
    small = compress(gated, x)
    torch.testing.assert_close(small(x), wanted)
    assert small.a.out_features == 4
    data = from_arrays(x, [0, 1, 0, 1, 1], x, [0, 1, 0, 1, 1])
    assert check_network(gated, data, gamma=0.1)[0].guarantee.kind == "bohning"


class Holding(nn.Module):
    """A layer of another model, out of sight: a copy would go on with that one's weights."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.b, self.hidden = nn.Linear(6, 2), (layer,)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(functional.relu(self.hidden[0](x)))


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.LazyLinear(6), nn.LazyLinear(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(functional.relu(self.a(x)))


BAD: list[tuple[nn.Module, Any, dict[str, Any], str]] = [
    (nn.Linear(2, 2), torch.zeros(1, 2), {}, "without an activation"),
    (nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.zeros(1, 2), {}, "without an activation"),
    (SEQUENTIAL, torch.zeros(1, 3, 8, 8), {}, "example_input"),
    (SEQUENTIAL, torch.zeros(1, 2, 8, 8), {"multiplier": "area"}, "feature_map"),
    (SEQUENTIAL, torch.zeros(1, 2, 8, 8), {"multiplier": -1.0}, "multiplier"),
    (SEQUENTIAL, torch.zeros(1, 2, 8, 8), {"feature_axis": 5}, "feature_axis"),
    (Widening(), torch.zeros(1, 4), {}, "Widening, in which training has something else in place of 'fc'"),
    (Discarding(), torch.zeros(1, 4), {}, "in-place activation"),
    (
        Holding(nn.Linear(4, 6)),
        torch.zeros(1, 4),
        {},
        "Holding, whose forward pass calls a module that it does not hold",
    ),
    (Lazy(), torch.zeros(1, 4), {}, "model: got lazy layers that have no weights yet"),
    (torch.compile(SEQUENTIAL), torch.zeros(1, 2, 8, 8), {}, "model: got a compiled model"),
    (
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), torch.jit.trace(nn.Linear(4, 2), torch.zeros(1, 4))),
        torch.zeros(1, 4),
        {},
        "model: got a scripted part '2'",
    ),
    (Shifting(), torch.zeros(1, 4), {}, "Shifting, in which training has something else in place of 'b'"),
]


@pytest.mark.parametrize(("model", "example", "options", "message"), BAD)
def test_bad_input_is_refused(model: nn.Module, example: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        insert_gates(model, example, **options)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(5, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.relu(self.rnn(x)[0]))
        return out


@pytest.mark.parametrize(
    ("model", "shape", "axis"),
    [
        (nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)), (4, 5), -1),
        (Recurrent(), (4, 5), -1),
        (nn.Sequential(nn.Conv1d(5, 6, 1), nn.ReLU(), nn.Conv1d(6, 2, 1)), (5, 4), 1),
    ],
    ids=["tokens", "recurrent", "convolution"],
)
def test_input_gate_is_on_the_axis_that_the_first_layer_sums(
    model: nn.Module, shape: tuple[int, ...], axis: int
) -> None:
    gated = insert_gates(model, torch.randn(2, *shape), input_gate=True)
    gate = next(iter(named_gates(gated).values()))
    assert (gate.features, gate.axis) == (5, axis)


class Chosen(nn.Module):
    """What it computes depends on arguments that are no tensors, without a branch that a trace would stumble over."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, sign: Any = None, double: bool = False) -> Tensor:
        h = functional.relu(self.a(x))
        h = {"plus": h, "minus": -h}.get(sign, 3 * h)
        h = 2 * h if double is True else h
        out: Tensor = self.b(h)
        return out


def test_options_of_the_example_are_not_those_of_every_call() -> None:
    torch.manual_seed(0)
    model, x = Chosen().eval(), torch.randn(5, 4)
    gated = insert_gates(model, (x, "other", False)).eval()
    for gate in named_gates(gated).values():
        gate.mu.data.fill_(1.0)
    for sign in ("plus", "minus", "other"):
        for double in (False, True):
            torch.testing.assert_close(gated(x, sign, double), model(x, sign, double))


def test_a_forward_pass_of_another_object_is_refused() -> None:
    x, model, other = torch.randn(5, 4), Chosen(), Chosen()
    model.forward = other.forward  # type: ignore[method-assign]
    with pytest.raises(InvalidInputError, match="forward is that of another object"):
        insert_gates(model, x)
    model.other = other  # now its weights are the model's
    torch.testing.assert_close(insert_gates(model, x).eval()(x), other(x))


def test_hooks_on_gradients_are_kept() -> None:
    """A mask on a weight's gradient, put there by `register_hook`: what it holds fast stays where it was."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    model[0].weight.register_hook(lambda gradient: gradient * (torch.arange(6) > 1)[:, None])
    before = model[0].weight.detach().clone()
    rng = np.random.default_rng(0)
    data = from_arrays(x := rng.normal(size=(60, 4)), y := rng.integers(2, size=60), x, y)
    gated = insert_gates(model, torch.zeros(2, 4))
    train(gated, data, gamma=1e-3, epochs=2, batch_size=20, weight_decay=0.0)
    after = gated.get_parameter("0.weight").detach()
    assert torch.equal(after[:2], before[:2])
    assert not torch.equal(after[2:], before[2:])


class _Sign(torch.autograd.Function):
    """A straight-through estimator: derivative 1 instead of 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.sign(functional.relu(x))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Unlearned(nn.Module):
    """A first layer that learns by an estimator, or not at all."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.a, self.b, self.c = kind, nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.kind != "no_grad" and torch.is_grad_enabled()):
            h = self.a(x)
            h = _Sign.apply(h) if self.kind == "function" else functional.relu(h)
        return self.c(functional.relu(self.b(h)))


@pytest.mark.parametrize("kind", ["function", "no_grad"])
def test_what_learns_and_how_stays_the_users(kind: str) -> None:
    """A trace knew neither: layers without gradients learned, others with an estimator did not. Where gradients are
    off a gate would hear of its price alone."""
    torch.manual_seed(0)
    model, x = Unlearned(kind), torch.randn(8, 4)
    gated = insert_gates(model, x)
    assert list(named_gates(gated)) == ["b_gate"]
    for gate in named_gates(gated).values():
        gate.mu.data.fill_(1.0)
        gate.log_var.data.fill_(-60.0)
    for net in (model, gated):
        net.train()(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        other = gated.get_parameter(name).grad
        assert (other is None) == (parameter.grad is None) == (kind == "no_grad" and name[0] == "a")
        if other is not None:
            torch.testing.assert_close(other, parameter.grad)


def test_a_model_without_a_backward_pass_gets_gates() -> None:
    """Its outputs can be looked at, if not trained: a result that the backward pass needs is overwritten."""

    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.sigmoid(self.a(x))
            out = self.b(torch.relu(h))
            h.mul_(2)
            return out + 0 * h.sum()

    torch.manual_seed(0)
    model, x = Overwrites(), torch.randn(3, 4)
    with pytest.raises(RuntimeError, match="inplace"):
        model(x).sum().backward()
    assert torch.equal(insert_gates(model, x).eval()(x), model.eval()(x))


def test_a_module_of_two_names_is_traced() -> None:
    """One attention for several blocks, called by the first block's name: a trace holds no other."""

    class Block(nn.Module):
        def __init__(self, shared: nn.Module) -> None:
            super().__init__()
            self.own, self.shared = nn.Linear(4, 4), shared

    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            shared = nn.Linear(4, 4)
            self.first, self.second = Block(shared), Block(shared)

        def forward(self, x: Tensor) -> Tensor:
            for block in (self.first, self.second):
                x = x + self.first.shared(torch.relu(block.own(x)))
            return x

    torch.manual_seed(0)
    gated = insert_gates(Blocks(), torch.randn(3, 4))
    assert isinstance(gated, fx.GraphModule)
    assert set(named_gates(gated)) == {"first_own_gate", "second_own_gate"}
