"""From a network to its layer's law: activations by hand, gates before held or sampled, any model, modes restored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import vibtheory as vt
from vibtheory import networks
from vibtheory.bridge.channels import layer_law
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import named_gates

N, STD = 4000, 3.0
X = np.random.default_rng(0).normal(scale=STD, size=(N, 25)).astype(np.float32)


def _net() -> nn.Module:
    """25-9-6-2 with gates at different α, some closed."""
    torch.manual_seed(3)
    net = networks.mlp((25, 9, 6, 2))
    with torch.no_grad():
        for gate in named_gates(net).values():
            gate.mu.uniform_(0.5, 1.5)
            gate.log_var.fill_(np.log(0.3**2))
            gate.mu[::4] = 0.01
    return net


def _state(net: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.detach().double().numpy() for name, tensor in net.state_dict().items()}


def _relu(h: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.maximum(h @ state[f"{name}.weight"].T + state[f"{name}.bias"], 0)


def _open(state: dict[str, np.ndarray], name: str) -> np.ndarray:
    return state[f"{name}.mu"] ** 2 > np.exp(state[f"{name}.log_var"])


def test_gates_before_are_at_their_masked_means():
    net = _net()
    state = _state(net)
    h1 = _relu(X * (state["input.mu"] * _open(state, "input")), state, "linear1")
    h1 *= state["h1.mu"] * _open(state, "h1")
    law = layer_law(net, X, "h2", batch=300)
    np.testing.assert_allclose(law.f, _relu(h1, state, "linear2"), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(law.mu, state["h2.mu"] * _open(state, "h2"))
    np.testing.assert_allclose(law.sigma, np.exp(0.5 * state["h2.log_var"]) * _open(state, "h2"))
    assert (law.mu == 0).any()
    assert law.channel(0.5, np.arange(7)).n == 7


def test_sampled_gates_before_have_the_gates_moments():
    """The pre-activation is linear in z: its mean and covariance over draws at one input are known."""
    net = _net()
    state = _state(net)
    x = np.repeat(X[:1], 20_000, axis=0)
    plain = layer_law(net, x, "linear1", seed=5).f  # before the ReLU: linear in the input's gates
    mean = X[0] * state["input.mu"] * _open(state, "input")
    noise = (X[0] * np.exp(0.5 * state["input.log_var"]) * _open(state, "input")) ** 2
    weight = state["linear1.weight"]
    np.testing.assert_allclose(plain.mean(axis=0), weight @ mean + state["linear1.bias"], atol=0.02)
    np.testing.assert_allclose(np.cov(plain.T), weight * noise @ weight.T, atol=0.05)
    held = layer_law(net, X, "h1")
    drawn = layer_law(net, X, "h1", seed=5)
    np.testing.assert_array_equal(drawn.f, layer_law(net, X, "h1", seed=5).f)
    assert not np.array_equal(drawn.f, layer_law(net, X, "h1", seed=6).f)
    assert not np.array_equal(drawn.f, held.f)
    np.testing.assert_array_equal(drawn.mu, held.mu)


def test_the_variance_of_sampled_gates_enters_the_information():
    """x ~ N(0, S²), u = x(μ + σε) with variance S²(μ²+σ²), h = μ₂u: the Gaussian bound is ½ log(1 + μ₂² var(u)/τ²)."""
    net = nn.Sequential()
    net.add_module("input", vt.Gate(1, mean=1.5, log_variance=2 * float(np.log(0.8))))
    net.add_module("linear1", nn.Linear(1, 1, bias=False))
    net.add_module("h1", vt.Gate(1, mean=0.7, log_variance=-60.0))
    nn.init.ones_(net.linear1.weight)  # type: ignore[arg-type]
    x = np.random.default_rng(1).normal(scale=STD, size=(200_000, 1)).astype(np.float32)
    held = vt.information.estimate(layer_law(net, x, "h1").channel(2.0), "gaussian").nats
    drawn = vt.information.estimate(layer_law(net, x, "h1", seed=0).channel(2.0), "gaussian").nats
    assert held == pytest.approx(0.5 * np.log1p((0.7 * 1.5 * STD) ** 2 / 4), abs=0.01)
    assert drawn == pytest.approx(0.5 * np.log1p(0.7**2 * (1.5**2 + 0.8**2) * STD**2 / 4), abs=0.01)


def test_any_model():
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(25, 8), nn.Linear(8, 8), nn.Linear(8, 3)
            self.act1, self.act2 = nn.GELU(), nn.GELU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.act1(self.first(x))
            return self.last(h + self.act2(self.second(h)))

    model = Residual()
    gated = vt.insert_gates(model, torch.from_numpy(X[:2]))
    with torch.no_grad():
        h = model.act1(model.first(torch.from_numpy(X)))
        expected = model.act2(model.second(h)).numpy()
    np.testing.assert_allclose(layer_law(gated, X, "second_gate").f, expected, atol=1e-5)
    np.testing.assert_allclose(layer_law(model, X, "act2").f, expected, atol=1e-5)


@pytest.mark.parametrize("names", ["abc", range(3)])
def test_a_data_frame_is_its_rows_not_the_names_of_its_columns(names):
    tokens = np.random.default_rng(0).integers(0, 10, size=(50, 3))
    net = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 1))
    expected = net[0].weight.detach().numpy()[tokens].reshape(50, 12)
    np.testing.assert_array_equal(layer_law(net, pd.DataFrame(tokens, columns=list(names)), "0").f, expected)


def test_the_net_is_left_as_it_was():
    net = _net().train()
    gate = named_gates(net)["input"]
    gate.sample_in_eval = True
    before = torch.get_rng_state()
    layer_law(net, X, "h1", batch=30, seed=3)
    assert all(module.training for module in net.modules())
    assert gate.sample_in_eval
    assert not named_gates(net)["h1"].sample_in_eval
    assert not net.get_submodule("h1")._forward_pre_hooks
    assert torch.equal(before, torch.get_rng_state())


def test_bad_layers():
    net = networks.lenet_5_caffe()
    x = np.zeros((3, 1, 28, 28), dtype=np.float32)
    with pytest.raises(InvalidInputError, match=r"layer: got 'h1', expected one of convolution1"):
        layer_law(net, x, "h1")
    with pytest.raises(InvalidInputError, match=r"'conv1' with activations \[20, 12, 12\].*dense layer"):
        layer_law(net, x, "conv1")


@pytest.mark.parametrize(
    ("changes", "argument"), [({"net": 3}, "net"), ({"layer": []}, "layer"), ({"seed": 1.5}, "seed")]
)
def test_what_is_no_network_layer_or_seed_is_refused_in_a_sentence(changes, argument):
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with pytest.raises(InvalidInputError, match=f"^{argument}: got .*Remedy: "):
        layer_law(**{"net": net, "x": np.ones((4, 2)), "layer": "1", **changes})
