"""Cutting out what only closed gates would hear: the same function, by brute force on every entry."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.checking import quadratic_bound, verify_bound
from vibtheory.bridge.closed_units import reaches_output, without_closed_units
from vibtheory.compression.fixed_modules import FixedScale
from vibtheory.datasets import Dataset
from vibtheory.networks.gates import Gate, named_gates


def _tail(pool: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(1)
    pool = nn.MaxPool2d(2) if pool is None else pool
    conv, flat, last = Gate(3), Gate(12, threshold=0), Gate(5)
    net = nn.Sequential(
        nn.ReLU(), pool, conv, nn.Flatten(), flat, nn.Linear(12, 5), nn.ReLU(), last,
        nn.Linear(5, 2),
    )  # fmt: skip
    conv.close(torch.tensor([1]))
    flat.close(torch.tensor([0, 2, 3, 9]))
    last.close(torch.tensor([4]))
    net[5].weight.data[:4, 10] = 0.0  # entry 10 speaks to unit 4 only, which is closed
    return net.double().eval()


CASES = {
    "max": (_tail(), (3, 4, 4)),
    "overlapping max": (_tail(nn.MaxPool2d(3, 1)), (3, 4, 4)),
    "average": (_tail(nn.AvgPool2d(2)), (3, 4, 4)),
    "strided convolution": (_tail(nn.Conv2d(3, 3, 3, 2, 1)), (3, 4, 4)),
    "norm": (_tail(nn.Sequential(nn.BatchNorm2d(3), nn.Tanh(), nn.AdaptiveAvgPool2d(2)).eval()), (3, 4, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_mask_is_what_perturbing_every_entry_finds(case: str) -> None:
    net, shape = CASES[case]
    modules = [m for part in net for m in (part if isinstance(part, nn.Sequential) else [part])]
    mask = reaches_output(modules, shape).reshape(-1).numpy()
    generator = np.random.default_rng(3)
    changed = np.zeros(mask.size, dtype=bool)
    with torch.no_grad():
        for _ in range(40):
            x = torch.as_tensor(2 * np.abs(generator.standard_normal(shape)))
            moved = x.reshape(1, -1).repeat(mask.size, 1) + 3.7 * torch.eye(mask.size, dtype=torch.float64)
            changed |= (net(moved.reshape(-1, *shape)) - net(x[None])).abs().amax(1).gt(1e-11).numpy()
    assert not (changed & ~mask).any()  # what is masked changes nothing
    np.testing.assert_array_equal(changed, mask)  # and nothing else is masked
    assert 0 < mask.sum() < mask.size


def test_a_module_that_is_not_known_lets_everything_pass() -> None:
    modules = [nn.Softmax(dim=1), Gate(4)]
    modules[1].close(torch.tensor([0]))  # type: ignore[operator]
    assert reaches_output([m.double() for m in modules], (4,)).all()


def test_the_cut_chain_is_the_same_function_and_smaller() -> None:
    net = _tail()
    small = without_closed_units(list(net))
    x = torch.as_tensor(5 * np.random.default_rng(0).standard_normal((7, 3, 4, 4)))
    with torch.no_grad():
        torch.testing.assert_close(nn.Sequential(*small)(x), net(x), rtol=1e-12, atol=1e-12)
    linear = [module for module in small if isinstance(module, nn.Linear)]
    assert [tuple(m.weight.shape) for m in linear] == [(4, 4), (2, 4)]
    assert all(m.weight.dtype == torch.float64 for m in linear)


def _scaled() -> nn.Sequential:
    gate = Gate(3)
    gate.close(torch.tensor([1]))
    return nn.Sequential(gate, nn.Sigmoid(), nn.Linear(3, 2))


def _vanished() -> nn.Sequential:
    gate = Gate(3)
    gate.close(torch.tensor([0, 1, 2]))
    return nn.Sequential(nn.Linear(3, 3), gate, nn.Linear(3, 2))


def _tokens() -> nn.Sequential:
    gate = Gate(3, axis=-1)
    gate.close(torch.tensor([0]))
    return nn.Sequential(gate, nn.Linear(3, 2))


def _unknown() -> nn.Sequential:
    gate = Gate(3)
    gate.close(torch.tensor([0]))
    return nn.Sequential(gate, nn.LayerNorm(3), nn.Linear(3, 2))


@pytest.mark.parametrize("make", [_scaled, _vanished, _tokens, _unknown, lambda: nn.Sequential(Gate(3))])
def test_where_no_exact_cut_is_known_the_chain_stays(make: Callable[[], nn.Sequential]) -> None:
    net = make()
    modules = list(net.double().eval())
    kept = without_closed_units(modules)
    assert [id(m) for m in kept] == [id(m) for m in modules]
    assert not any(isinstance(m, FixedScale) for m in kept)


def _mostly_closed(convolutional: nn.Module) -> nn.Module:
    gates = named_gates(convolutional)
    gates["conv2"].close(torch.tensor([1, 3]))
    gates["conv1"].close(torch.tensor([2]))
    return convolutional


@pytest.mark.parametrize("formed", [True, False], ids=["V formed", "channel by channel"])
@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_bounds_of_a_mostly_closed_network_hold_and_are_tighter(
    convolutional: nn.Module, image_data: Dataset, layer: str, formed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = _mostly_closed(convolutional)
    monkeypatch.setattr("vibtheory.bridge.activations.without_closed_units", list)
    monkeypatch.setattr("vibtheory.bridge.activations.reaches_output", lambda m, shape: torch.ones(*shape) > 0)
    whole = quadratic_bound(net, image_data, layer, "lipschitz", 0.03)
    monkeypatch.undo()
    cut = quadratic_bound(net, image_data, layer, "lipschitz", 0.03, memory=10**5 if formed else 2000)
    assert verify_bound(cut, net, image_data, samples=4000, seed=2).violations == 0
    trace = np.trace(cut.gram) / np.trace(whole.gram)
    assert trace < 0.95 if layer == "conv1" else math.isclose(trace, 1.0, rel_tol=1e-6)


def test_the_loss_through_the_cut_is_the_loss_of_the_network(convolutional: nn.Module, image_data: Dataset) -> None:
    net = _mostly_closed(convolutional)
    x, y = image_data.x_train, image_data.y_train
    for name in ("conv1", "conv2"):
        layer = GatedLayer(net, name, x, y, "multinomial")
        truth = copy.deepcopy(net).double().eval()
        gate = named_gates(truth)[name]
        gate.active.fill_(True)
        gate.threshold = 0.0
        for z in np.random.default_rng(4).normal(0, 2, (5, layer.d)):
            gate.mu.data = torch.as_tensor(z)
            with torch.no_grad():
                loss = nn.functional.cross_entropy(truth(torch.as_tensor(x).double()), torch.as_tensor(y))
            assert layer.mean_loss(z)[0] == pytest.approx(float(loss), rel=1e-5)


def test_a_layer_that_only_closed_gates_hear_gets_a_constant(
    dense: Callable[..., nn.Module], flat_data: Callable[..., Dataset]
) -> None:
    net, data = dense(), flat_data()
    gate = named_gates(net)["h2"]
    gate.close(torch.arange(gate.features))
    bound = quadratic_bound(net, data, "h1", "lipschitz", 0.03)
    assert not bound.gram.any()
    assert verify_bound(bound, net, data, samples=50).violations == 0
