"""Test error and loss against numpy, with and without gate samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vibtheory import networks
from vibtheory.compression import metrics
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate

RNG = np.random.default_rng(3)
X = RNG.normal(scale=4.0, size=(57, 5)).astype(np.float32)
Y = RNG.integers(0, 3, size=57)


def _net() -> nn.Sequential:
    torch.manual_seed(1)
    return networks.mlp((5, 7, 3))


def _logits(net: nn.Sequential) -> np.ndarray:
    """The forward pass of `eval()` in numpy, float64."""
    p = {name: value.detach().double().numpy() for name, value in net.named_parameters()}
    h = (X * p["input.mu"]) @ p["linear1.weight"].T + p["linear1.bias"]
    return np.maximum(h, 0) * p["h1.mu"] @ p["linear2.weight"].T + p["linear2.bias"]


def test_error_and_loss_against_numpy() -> None:
    net, logits = _net(), _logits(_net())
    log_q = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    for batch in (1, 8, 1000):
        result = metrics.evaluate(net, X, Y, batch=batch)
        assert result.loss == pytest.approx(-log_q[np.arange(57), Y].mean(), rel=1e-5)
        assert result.error == pytest.approx(100 * (logits.argmax(1) != Y).mean(), rel=1e-12)
    assert metrics.error(net, torch.from_numpy(X), torch.from_numpy(Y)) == result.error
    assert str(result).startswith(f"error {result.error:.2f} %, loss")


def test_reversed_arrays_are_taken_whatever_their_length() -> None:
    for n in (1, 2, 57):
        result = metrics.evaluate(_net(), X[:n][::-1], Y[:n][::-1])
        assert result.loss == pytest.approx(metrics.evaluate(_net(), X[:n], Y[:n]).loss, rel=1e-6)


def test_gaussian_loss_is_half_the_squared_distance() -> None:
    targets = RNG.normal(scale=2.5, size=(57, 3))
    result = metrics.evaluate(_net(), X, targets, likelihood="gaussian")
    assert result.loss == pytest.approx(0.5 * ((_logits(_net()) - targets) ** 2).sum(axis=1).mean(), rel=1e-5)
    assert result.error is None
    assert str(result).startswith("loss")


def test_samples_average_the_predictive_distribution() -> None:
    """One gated weight: E_z[softmax] by Gauss-Hermite quadrature; a single mean-gate pass is far from it."""
    net = nn.Sequential(Gate(1, mean=2.0, log_variance=float(np.log(1.9**2))), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.5], [0.0]]))
    x, y = np.array([[1.3]], dtype=np.float32), np.array([0])
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    exact = (weights / weights.sum() / (1 + np.exp(-1.95 * (2 + 1.9 * nodes)))).sum()
    sampled = metrics.evaluate(net, x, y, samples=6000)
    assert np.exp(-sampled.loss) == pytest.approx(
        exact, abs=0.008
    )  # 3.5 standard errors of a variance below 1/4 … 1/10
    assert abs(np.exp(-metrics.evaluate(net, x, y).loss) - exact) > 0.1
    assert sampled.samples == 6000
    assert "6000 gate samples" in str(sampled)


def test_random_state_mode_and_gates_are_restored() -> None:
    net = _net().train()
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    first = metrics.evaluate(net, X, Y, samples=4, seed=2)
    assert torch.equal(torch.rand(3), expected)
    assert net.training
    assert all(module.training for module in net.modules())
    assert not net.get_submodule("h1").sample_in_eval
    assert metrics.evaluate(net, X, Y, samples=4, seed=2) == first
    assert metrics.evaluate(net, X, Y, samples=4, seed=3) != first


BAD = {
    "lengths": lambda: metrics.evaluate(_net(), X, Y[:-1]),
    "no array": lambda: metrics.evaluate(_net(), None, Y),
    "empty": lambda: metrics.evaluate(_net(), X[:0], Y[:0]),
    "likelihood": lambda: metrics.evaluate(_net(), X, Y, likelihood="poisson"),
    "batch": lambda: metrics.error(_net(), X, Y, batch=0),
    "samples": lambda: metrics.error(_net(), X, Y, samples=-1),
    "half a batch": lambda: metrics.error(_net(), X, Y, batch=2.5),  # type: ignore[arg-type]
    "half a sample": lambda: metrics.error(_net(), X, Y, samples=1.5),  # type: ignore[arg-type]
    "half a seed": lambda: metrics.error(_net(), X, Y, samples=1, seed=0.5),  # type: ignore[arg-type]
    "target width": lambda: metrics.evaluate(_net(), X, RNG.normal(size=(57, 2)), likelihood="gaussian"),
    "no second axis": lambda: metrics.evaluate(nn.Sequential(_net(), nn.Flatten(0)), X, Y),
    "label range": lambda: metrics.evaluate(_net(), X, Y + 2),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    with pytest.raises(InvalidInputError, match="Remedy"):
        BAD[case]()
