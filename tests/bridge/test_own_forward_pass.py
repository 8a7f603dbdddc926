"""Rigorous means rigorous: what no trace shows is refused, and the net's own forward pass sees it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.checking import quadratic_bound, verify_bound
from vibtheory.bridge.lipschitz_constants import lipschitz_constant, uncertified
from vibtheory.bridge.verification import own_losses
from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.insertion import insert_gates
from vibtheory.networks.likelihood import likelihood_loss

RNG = np.random.default_rng(5)
X = RNG.normal(scale=2.0, size=(30, 6))
CLASSES = from_arrays(X, RNG.integers(0, 3, 30), X[:2], [0, 1], classes=3)
TARGETS = from_arrays(X, RNG.normal(scale=3.0, size=(30, 3)), X[:2], np.ones((2, 3)), likelihood="gaussian")


def _normed() -> nn.Sequential:
    """An upstream BatchNorm with odd statistics, some of whose units are closed, in float64."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), Gate(8), nn.Linear(8, 5), nn.ReLU(), Gate(5), nn.Linear(5, 3)
    ).double()
    norm = net[1]
    norm.running_mean.normal_(std=3.0)
    norm.running_var.uniform_(0.1, 5.0)
    norm.weight.data.normal_(std=2.0)
    net[3].close(torch.tensor([0, 2, 5]))
    net[6].mu.data.copy_(torch.linspace(-2, 3, 5))
    net[6].log_var.data.fill_(-2.0)
    return net.eval()


def _truth(net: nn.Module, data: Dataset, layer: str, points: np.ndarray) -> np.ndarray:
    """g with the gate's own mean set to z."""
    gate = named_gates(net)[layer]
    values = []
    for z in points:
        before = gate.mu.data.clone(), gate.threshold
        gate.mu.data, gate.threshold = torch.as_tensor(z).to(before[0]), 0.0
        with torch.no_grad():
            outputs = net(torch.as_tensor(data.x_train).to(before[0]))
        gate.mu.data, gate.threshold = before
        values.append(float(likelihood_loss(outputs, torch.as_tensor(data.y_train), data.likelihood)))
    return np.array(values)


@pytest.mark.parametrize(("kind", "data"), [("bohning", CLASSES), ("exact", TARGETS)], ids=["bohning", "exact"])
def test_bounds_hold_to_rounding_behind_a_cut_batchnorm(kind: str, data: Dataset) -> None:
    net = _normed()
    bound = quadratic_bound(net, data, "6", kind, 0.1)
    assert bound.trained_mu is not None
    points = bound.trained_mu + RNG.normal(scale=1e-6, size=(50, 5))  # where both touch g
    points = np.vstack([points, bound.trained_mu[None]])
    excess = _truth(net, data, "6", points) - bound.value(points)
    assert excess.max() < 1e-11 * abs(bound.value(points)).max()
    assert verify_bound(bound, net, data, points=points).violations == 0


@pytest.mark.parametrize("data", [CLASSES, TARGETS], ids=["multinomial", "gaussian"])
def test_own_losses_are_the_loss_of_the_network(data: Dataset) -> None:
    net = _normed()
    points = RNG.normal(scale=2.0, size=(7, 5))
    for batch in (4, 2000):
        losses, _ = own_losses(net, data.x_train, data.y_train, data.likelihood, "6", points, batch=batch)
        np.testing.assert_allclose(losses, _truth(net, data, "6", points), rtol=1e-6)  # its labels are float32


def test_sampled_gates_draw_the_same_noise_as_the_bound() -> None:
    net, points = _normed(), RNG.normal(scale=2.0, size=(3, 5))
    layer = GatedLayer(net, "6", CLASSES.x_train, CLASSES.y_train, "multinomial", samples=3, seed=4, batch=16)
    losses, _ = own_losses(
        net, CLASSES.x_train, CLASSES.y_train, "multinomial", "6", points, others=3, seed=4, batch=16
    )
    np.testing.assert_allclose(losses, layer.mean_loss(points), rtol=1e-12)


def _double(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    return 2 * output + 1


HIDDEN = {
    "a forward hook": lambda net: net[6].register_forward_hook(_double),
    "a forward pre-hook": lambda net: net[7].register_forward_pre_hook(lambda module, inputs: (3 * inputs[0],)),
    "a forward pass of its own": lambda net: setattr(net[7], "forward", lambda h: h[:, :3] ** 2),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_what_no_trace_shows_is_refused_by_rigorous_kinds(what: str) -> None:
    net = _normed()
    plain = quadratic_bound(net, CLASSES, "6", "bohning", 0.1)
    HIDDEN[what](net)
    for kind in ("bohning", "lipschitz"):
        with pytest.raises(InvalidInputError, match=r"kind: .*module '[67]' has a forward hook or .*Remedy"):
            quadratic_bound(net, CLASSES, "6", kind, 0.1)
    assert verify_bound(plain, net, CLASSES, samples=200).violations > 0  # the bound of the net without it
    seen = quadratic_bound(net, CLASSES, "6", "auto", 0.1)
    assert seen.guarantee.kind == "tangent"
    assert seen.value(seen.trained_mu[None])[0] >= _value(net, seen.trained_mu) * (1 - 1e-9)


def _value(net: nn.Module, z: np.ndarray) -> float:
    return float(own_losses(net, CLASSES.x_train, CLASSES.y_train, "multinomial", "6", z[None])[0][0])


@pytest.mark.parametrize("threshold", [1.0, 5.0, 19.9])
def test_a_softplus_that_jumps_has_no_lipschitz_constant(threshold: float) -> None:
    jumping = nn.Softplus(threshold=threshold)
    x = torch.tensor([threshold - 1e-10, threshold + 1e-10], dtype=torch.float64)
    assert float(jumping(x).diff().abs() / x.diff()) > 1.5  # a slope of 1 would be a lie
    assert "Softplus jumps" in uncertified([jumping])
    with pytest.raises(NotImplementedError, match="20 and more"):
        lipschitz_constant([jumping], (2,), GatedLayer(_normed(), "6", X, CLASSES.y_train, "multinomial").likelihood)
    assert uncertified([nn.Softplus()]) == ""


def test_a_network_that_insists_on_float32_is_compared_in_float32() -> None:
    class Insisting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.first, self.gate, self.last = nn.Linear(6, 4), Gate(4), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.gate(torch.relu(self.first(x.float()))))

    net = Insisting()
    bound = quadratic_bound(net, CLASSES, "gate", "auto", 0.1)
    check = verify_bound(bound, net, CLASSES, samples=50)
    assert check.violations == 0
    assert check.tolerance > 1e-6


class _Blocks(nn.Module):
    """Three blocks with a branch that no trace takes; with `time_first`, after a layer that wants it so."""

    def __init__(self, time_first: bool) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.rnn, self.time_first = nn.GRU(2, 6), time_first
        self.blocks = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.rnn(x.reshape(-1, 3, 2).transpose(0, 1))[0][-1] if self.time_first else x
        for block in self.blocks:
            h = torch.relu(block(h)) + h if bool(h.isfinite().all()) else h
        out: torch.Tensor = self.head(h)
        return out


@pytest.mark.parametrize("time_first", [False, True])
def test_what_runs_once_before_a_gate_leaves_g_as_it_is(time_first: bool) -> None:
    net = insert_gates(_Blocks(time_first), torch.zeros(2, 6)).double().eval()
    points = RNG.normal(scale=2.0, size=(7, 6))
    for k, name in enumerate(named_gates(net)):
        view = GatedLayer(net, name, CLASSES.x_train, CLASSES.y_train, "multinomial", batch=16)
        np.testing.assert_allclose(view.mean_loss(points), _truth(net, CLASSES, name, points), rtol=1e-6)
        used = [] if time_first else [nn.Linear, Gate, nn.Linear, Gate, nn.Linear][: 2 * k + 1]
        assert [type(module) for module in view._repeated] == used


class _Centred(nn.Module):
    """In eval() too, what it makes of an example depends on the others; `alone` it cannot be."""

    def __init__(self, alone: bool) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.a, self.b, self.alone = nn.Linear(6, 5), nn.Linear(5, 3), alone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.a(x))
        h = h - h.mean(0) if self.alone else nn.functional.batch_norm(h, None, None, training=True)
        out: torch.Tensor = self.b(torch.tanh(h))
        return out


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("kind", ["tangent", "fitted", "auto"])
def test_a_net_that_mixes_examples_is_refused(alone: bool, kind: str) -> None:
    """The gradient of such a tangent was off by as much as the gradient itself."""
    net = insert_gates(_Centred(alone), torch.randn(4, 6))
    with pytest.raises(InvalidInputError, match="depends on the others of its batch"):
        quadratic_bound(net, CLASSES, next(iter(named_gates(net))), kind, 0.1)
