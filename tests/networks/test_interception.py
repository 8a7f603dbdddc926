"""Gates by interception work inside model(x): elsewhere, or at a call that they were not inserted for, they say so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from vibtheory.compression.cut import compress
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import named_gates
from vibtheory.networks.insertion import insert_gates


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU())
        self.head = nn.Linear(12, 3)

    def encode(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.head(self.encode(x)) * scale


class Conditioned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.p, self.o = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        h = 0 if extra is None else functional.relu(self.p(extra))
        return self.o(functional.relu(self.b(h + functional.relu(self.a(x)))))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.i, self.h, self.o = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.o(self.run(x, torch.ones(8))) * scale

    def run(self, x: Tensor, gate: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 8)
        for t in range(x.shape[1]):
            h = torch.tanh(self.i(x[:, t]) + self.h(h)) * gate
        return h


def _half_closed(net: nn.Module, example: Tensor) -> tuple[nn.Module, nn.Module]:
    gated = insert_gates(net.eval(), example).eval()
    for gate in named_gates(gated).values():
        gate.close(torch.arange(gate.features) < gate.features // 2)
    return gated, compress(gated, example)


@pytest.mark.parametrize(
    "call",
    [lambda net, x: net.forward(x), lambda net, x: net.encode(x), lambda net, x: torch.fx.symbolic_trace(net)(x)],
)
def test_a_call_around_the_gates_is_refused(call: Callable[[nn.Module, Tensor], Tensor]) -> None:
    """It used to run without them."""
    torch.manual_seed(0)
    x = torch.randn(5, 6)
    for net in _half_closed(Encoder(), x):
        with pytest.raises(InvalidInputError, match=r"'backbone\.1' run by itself.*call the model"):
            call(net, x)
        net(x)  # and again as it should be


def test_a_weight_that_is_computed_can_be_read_and_cut() -> None:
    torch.manual_seed(0)
    plain, x = Conditioned(), torch.randn(4, 6)
    weight_norm(plain.b)
    with torch.no_grad():
        plain.b.parametrizations.weight.original0.mul_(2)  # type: ignore[union-attr, operator]
    expected = plain.b.weight.detach().clone()
    net, small = _half_closed(plain, x)
    torch.testing.assert_close(net.b.weight, expected, rtol=0, atol=0)
    torch.testing.assert_close(small(x), net(x))
    assert small.b.weight.shape == (4, 4)


def test_an_option_that_moves_the_gates_is_refused() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 6)
    gated, small = _half_closed(Conditioned(), x)
    with pytest.raises(InvalidInputError, match="more calls .* 'forward' than the 2 of the example"):
        gated(x, x)
    with pytest.raises(InvalidInputError, match="extra: got a tensor, expected None, as in the example"):
        small(x, x)


def test_a_longer_sequence_than_the_examples_is_refused() -> None:
    """A shorter one has the gates of its steps."""
    torch.manual_seed(0)
    net, x = Recurrent().eval(), torch.randn(4, 8, 3)
    gated, small = _half_closed(net, x[:, :5])
    gate = next(iter(named_gates(gated).values())).mean()
    for steps in (3, 5):
        wanted = net.o(net.run(x[:, :steps], gate))
        torch.testing.assert_close(gated(x[:, :steps]), wanted)
        torch.testing.assert_close(small(x[:, :steps]), wanted)
    for each in (gated, small):
        with pytest.raises(InvalidInputError, match="than the 5 of the example.*longest sequence"):
            each(x)


def test_threads_share_a_model() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 6)
    for net in _half_closed(Encoder(), x):
        with torch.no_grad(), ThreadPoolExecutor(4) as pool:
            wanted = net(x)
            for got in pool.map(net, [x] * 200):
                torch.testing.assert_close(got, wanted)
        assert not copy.deepcopy(net).training


def test_an_activation_in_place_must_be_used_by_name() -> None:
    """The gate of `relu_(h)` alone would stand behind nothing."""

    class InPlace(nn.Module):
        def __init__(self, by_name: bool) -> None:
            super().__init__()
            self.a, self.o, self.p, self.by_name = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2), by_name

        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            h = self.a(x)
            g = functional.relu(h, inplace=True)
            return self.p(torch.relu(self.o(g if self.by_name else h))) * scale

    x = torch.randn(5, 6)
    gated = insert_gates(InPlace(True), x).eval()
    before = gated(x)
    next(iter(named_gates(gated).values())).close(torch.arange(8) < 7)
    assert not torch.allclose(gated(x), before)
    with pytest.raises(InvalidInputError, match="in-place activation after 'a' whose result is unused"):
        insert_gates(InPlace(False), x)
