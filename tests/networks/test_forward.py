"""The one way to run a net up to a gate: right values, and nothing of the net changed, whatever happens."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vibtheory import networks
from vibtheory.bridge.checking import check_network
from vibtheory.bridge.layer_information import information_of
from vibtheory.compression import metrics
from vibtheory.compression.cut import compress
from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.errors import InvalidInputError
from vibtheory.networks.forward import activation, evaluating, gate_held_at, results_before, with_results
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.insertion import insert_gates


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    net = networks.mlp((6, 5, 4, 3))
    net.get_submodule("linear1").eval()  # modes that differ
    named_gates(net)["h1"].sample_in_eval = True
    return net


def _state(net: nn.Module) -> tuple[object, ...]:
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    sampling = [gate.sample_in_eval for gate in named_gates(net).values()]
    return [m.training for m in net.modules()], hooks, sampling, torch.get_rng_state().tolist()


X = torch.linspace(-1, 1, 42).reshape(7, 6)


def test_what_enters_a_gate_and_what_leaves_another_module() -> None:
    net = _net()
    with evaluating(net):
        expected = net[:5](X)
        for stop in (False, True):
            torch.testing.assert_close(activation(net, named_gates(net)["h1"], X, stop=stop), net[:4](X))
            torch.testing.assert_close(activation(net, net.get_submodule("relu1"), X, stop=stop), net[:4](X))
    assert not torch.equal(expected, net[:5](X))  # h1 samples again


def test_z_is_put_in_for_all_examples_or_one_by_one() -> None:
    net = _net()
    gate = named_gates(net)["h2"]
    z = torch.arange(28.0).reshape(7, 4)
    with evaluating(net), torch.no_grad():
        f = activation(net, gate, X)
        for put_in in (z, z[2]):
            with gate_held_at(gate, put_in):
                torch.testing.assert_close(net(X), net.get_submodule("linear3")(f * put_in))
        handle = gate.register_forward_hook(lambda module, inputs, output: output + 1)
        with gate_held_at(gate, z):  # what the user hangs behind the gate still happens
            torch.testing.assert_close(net(X), net.get_submodule("linear3")(f * z + 1))
        handle.remove()


def test_everything_is_restored_even_after_an_error() -> None:
    net = _net()
    before = _state(net)
    gate = named_gates(net)["h2"]
    with evaluating(net, named_gates(net).values(), 3), gate_held_at(gate, torch.ones(4)):
        net(X)
        with pytest.raises(InvalidInputError, match="h: got shape"):
            activation(net, gate, X[:, :2])
    assert _state(net) == before
    with pytest.raises(ZeroDivisionError), evaluating(net, named_gates(net).values(), 3):
        torch.rand(1 // 0)
    assert _state(net) == before
    with evaluating(net, [gate], (3, 1)):
        first = net(X)
    assert _state(net) == before
    with evaluating(net, [gate], (3, 1)):
        assert torch.equal(net(X), first)
    with evaluating(net, [gate], (3, 2)):
        assert not torch.equal(net(X), first)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.gate(x))


def test_a_gate_called_twice_is_refused() -> None:
    net = Twice()
    with pytest.raises(InvalidInputError, match=r"layer: got 'gate', called 2 times.*gate of its own"):
        activation(net, net.gate, X)


class _Repeats(nn.Module):
    """On sequences [n, 6, 2]: a recurrent layer with time first, positions, one layer twice, a gate, a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.rnn, self.places = nn.GRU(2, 5), nn.Embedding(6, 5)
        self.twice, self.gate, self.head = nn.Linear(5, 5), Gate(5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.rnn(x.transpose(0, 1))[0].transpose(0, 1) + self.places(torch.arange(6))
        out: Tensor = self.head(self.gate(self.twice(torch.tanh(self.twice(h)))[:, 0]))
        return out


def test_what_is_before_a_gate_runs_once() -> None:
    net = _Repeats().double().eval()
    x = torch.randn(4, 6, 2, dtype=torch.float64)
    calls, f = results_before(net, net.gate, x)
    assert [module for module, _ in calls] == [net.rnn, net.places, net.twice, net.twice]
    for part in (net.rnn, net.places, net.twice):
        for parameter in part.parameters():
            parameter.data.fill_(math.nan)  # whoever computes with them shows it
    z = torch.linspace(-1, 1, 5, dtype=torch.float64)
    with torch.no_grad(), with_results(calls), gate_held_at(net.gate, z):
        again = net(x)
    torch.testing.assert_close(again, (f * z) @ net.head.weight.T + net.head.bias)


class _Records(nn.Module):
    """Keeps what it sees in plain attributes: a counter, lists, a dict of lists, tensors written in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.act, self.b = nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)
        self.n, self.sizes, self.cache, self.seen = 0, [0], {"h": [torch.zeros(())]}, set[int]()
        self.mean, self.last = torch.zeros(6), None

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        self.sizes.append(len(x))
        self.cache["h"][0] += 1
        self.cache["h"].append(x.sum())
        self.seen.add(len(x))
        self.mean.add_(x.mean(0))
        self.last, self.fresh = x, True
        out: Tensor = self.b(self.act(self.a(x)))
        return out


def _recorded(net: nn.Module) -> str:
    return repr([(name, v) for name, v in vars(net).items() if not name.startswith("_")])


@pytest.mark.parametrize("use", [
    lambda net, data: metrics.evaluate(net, data.x_test, data.y_test),
    lambda net, data: metrics.compression(net, example_input=torch.as_tensor(data.x_test)),
    lambda net, data: compress(net, torch.as_tensor(data.x_test)),
    lambda net, data: check_network(net, data, gamma=1e-3),
    lambda net, data: information_of(net, data.x_test, data.y_test, layer="b", noise=0.1),
], ids=["evaluate", "metrics", "compress", "check", "information"])  # fmt: skip
def test_what_a_net_keeps_of_what_it_sees_stays(use: Callable[[nn.Module, Dataset], object]) -> None:
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    data = from_arrays(x, np.arange(40) % 3, x, np.arange(40) % 3)
    net = insert_gates(_Records(), torch.as_tensor(x[:2]))
    lists = net.sizes, net.cache, net.mean
    before = _recorded(net)
    use(net, data)
    assert _recorded(net) == before
    assert all(a is b for a, b in zip(lists, (net.sizes, net.cache, net.mean), strict=True))
    net.last = net.a(torch.as_tensor(x))  # with a graph, which a copy cannot take
    use(net, data)
