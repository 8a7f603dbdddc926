"""Every kind of ḡ against the true loss: no violation for rigorous kinds, stated levels for statistical ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vibtheory.bridge import BoundOptions, rigorous
from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.checking import quadratic_bound, verify_bound
from vibtheory.bridge.tangent import gauss_newton
from vibtheory.datasets import Dataset, from_arrays
from vibtheory.networks.gates import Gate, named_gates

Dense = Callable[..., nn.Module]
Data = Callable[..., Dataset]


def _true_loss(net: nn.Module, data: Dataset, layer: str, z: np.ndarray) -> float:
    """g(z) by setting the gate to z in a float64 copy of the whole network; shares nothing with the bridge."""
    net = copy.deepcopy(net).double().eval()
    gate = named_gates(net)[layer]
    gate.threshold = 0.0
    gate.mu.data = torch.as_tensor(z)
    gate.log_var.data = torch.zeros(len(z), dtype=torch.float64)
    with torch.no_grad():
        output = net(torch.as_tensor(data.x_train).double()).numpy()
    if data.likelihood == "gaussian":
        return float(0.5 * ((output - data.y_train) ** 2).sum(1).mean())
    return float((scipy.special.logsumexp(output, axis=1) - output[np.arange(len(output)), data.y_train]).mean())


def _gradient(net: nn.Module, data: Dataset, layer: str, z: np.ndarray) -> np.ndarray:
    h, unit = 1e-5, np.eye(len(z))
    return np.array([(_true_loss(net, data, layer, z + h * e) - _true_loss(net, data, layer, z - h * e)) / (2 * h)
                     for e in unit])  # fmt: skip


DENSE = [("h2", "bohning"), ("h2", "lipschitz"), ("h1", "lipschitz"), ("input", "lipschitz")]


@pytest.mark.parametrize(("layer", "kind"), DENSE)
def test_rigorous_bounds_have_no_violation(dense: Dense, flat_data: Data, layer: str, kind: str) -> None:
    net, data = dense(), flat_data()
    bound = quadratic_bound(net, data, layer, kind, 0.03)
    check = verify_bound(bound, net, data, samples=100_000, seed=7)
    assert (check.samples, check.violations) == (100_000, 0)
    assert bound.guarantee.level == "rigorous"
    assert check.status == "no violation found"
    for z in np.random.default_rng(1).normal(0, 3, (20, bound.d)):  # and against a truth that the bridge has no part in
        assert bound.value(z) >= _true_loss(net, data, layer, z) - 1e-6


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
@pytest.mark.parametrize("memory", [1 << 28, 100_000], ids=["flat", "by channel"])
def test_convolutional_bounds_have_no_violation(
    convolutional: nn.Module, image_data: Dataset, layer: str, memory: int
) -> None:
    bound = quadratic_bound(convolutional, image_data, layer, "lipschitz", 0.03, memory=memory)
    check = verify_bound(bound, convolutional, image_data, samples=4000, seed=7)
    assert check.violations == 0
    for z in np.random.default_rng(1).normal(0, 2, (20, bound.d)):
        assert bound.value(z) >= _true_loss(convolutional, image_data, layer, z) - 1e-5


def _flat(layer: GatedLayer, seen: Callable[[torch.Tensor], torch.Tensor] = lambda v: v) -> rigorous._Flat:
    assert layer.affine_map is not None
    return rigorous._Flat(layer.d, seen(layer.affine_map.v))


@pytest.mark.parametrize("kind", ["lipschitz", "bohning", "exact"])
def test_a_small_budget_gives_the_same_bound_to_rounding(
    image_data: Dataset, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, data = _pooled(deep=kind == "lipschitz"), image_data
    if kind == "exact":
        y = np.eye(3)[data.y_train] * 4 - 1
        data = from_arrays(data.x_train, y, data.x_train[:2], y[:2], likelihood="gaussian")
    monkeypatch.setattr(rigorous, "_accumulator", _flat)
    one = quadratic_bound(net, data, "2", kind, 0.03)
    monkeypatch.undo()
    for memory, formed, batch in ((1 << 28, True, 2000), (3000, False, 1)):  # V as a matrix; channel by channel
        view = GatedLayer(net, "2", data.x_train, data.y_train, data.likelihood, memory=memory)
        assert (view.affine_map is not None, view.batch) == (formed, batch)
        assert isinstance(rigorous._accumulator(view), rigorous._ByChannel)
        other = quadratic_bound(net, data, "2", kind, 0.03, memory=memory)
        np.testing.assert_allclose(other.gram, one.gram, rtol=1e-9, atol=1e-12 * one.w.max())
        np.testing.assert_allclose([*other.b, other.c], [*one.b, one.c], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", ["fitted", "tangent"])
def test_a_small_budget_gives_the_same_statistical_bound(dense: Dense, flat_data: Data, kind: str) -> None:
    sizes = {"samples": 60, "level_samples": 5}
    one, other = (
        quadratic_bound(dense(), flat_data(), "h1", kind, 0.03, memory=memory, **sizes) for memory in (1 << 28, 3000)
    )
    tolerance = 1e-7 if kind == "tangent" else 1e-3  # a fit ends at a gap of 1e-5
    np.testing.assert_allclose(other.gram, one.gram, atol=tolerance * one.w.max())


class Largest(TorchDispatchMode):
    """The most entries that a result of torch has inside."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.entries = max(self.entries, result.numel())
        return result


@pytest.mark.parametrize(("layer", "kind"), [("6", "bohning"), ("2", "lipschitz"), ("2", "tangent")])
def test_no_result_is_larger_than_the_budget(layer: str, kind: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), Gate(8), nn.Conv2d(8, 32, 3, padding=1), nn.BatchNorm2d(32),
        nn.ReLU(), Gate(32), nn.BatchNorm2d(32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((30, 3, 16, 16)), generator.integers(0, 5, 30)
    data = from_arrays(x, y, x[:2], y[:2], classes=5)
    options = BoundOptions(samples=5, level_samples=5, memory=1 << 22)
    with Largest() as largest:
        quadratic_bound(net, data, layer, kind, 0.1, options)
    assert 8 * largest.entries <= options.memory  # Böhning's moments of all 8192 entries would take 512 MiB


def _pooled(deep: bool) -> nn.Sequential:
    torch.manual_seed(0)
    rest = [nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3), nn.AvgPool2d(2)]
    rest += [nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)] if deep else [nn.Flatten(), nn.Linear(24, 3)]
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), Gate(4, mean=0.7, log_variance=-2.0), *rest).eval()


def test_bohning_of_a_convolutional_gate_sums_over_positions(image_data: Dataset) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), Gate(4, threshold=0), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    bound = quadratic_bound(net, image_data, "2", gamma=0.1)
    assert bound.guarantee.kind == "bohning"
    assert verify_bound(bound, net, image_data, samples=5000).violations == 0
    np.testing.assert_allclose(
        bound.smooth_gradient(np.ones(4)), _gradient(net, image_data, "2", np.ones(4)), atol=1e-5
    )


@pytest.mark.parametrize(("layer", "kind"), [("h2", "bohning"), ("h2", "tangent"), ("h1", "tangent")])
def test_value_and_gradient_are_tangent_at_any_anchor(dense: Dense, flat_data: Data, layer: str, kind: str) -> None:
    net, data = dense(), flat_data()
    anchor = np.linspace(-0.8, 1.4, named_gates(net)[layer].features)
    bound = quadratic_bound(net, data, layer, kind, 0.03, anchor=anchor)
    assert bound.value(anchor) == pytest.approx(_true_loss(net, data, layer, anchor), rel=1e-5)
    np.testing.assert_allclose(bound.smooth_gradient(anchor), _gradient(net, data, layer, anchor), atol=2e-5, rtol=1e-4)


def test_bohning_curvature_is_half_the_hadamard_product(dense: Dense, flat_data: Data) -> None:
    net, data = dense(), flat_data()
    caught = []
    watch = named_gates(net)["h2"].register_forward_pre_hook(lambda m, inputs: caught.append(inputs[0]))
    with torch.no_grad():
        net.eval()(torch.as_tensor(data.x_train))
    watch.remove()
    f, v = caught[0].double().numpy(), net.get_submodule("linear3").weight.detach().double().numpy()
    b = 0.5 * (np.eye(3) - np.ones((3, 3)) / 3)
    expected = 0.5 * np.mean([np.diag(row) @ v.T @ b @ v @ np.diag(row) for row in f], axis=0)
    np.testing.assert_allclose(
        quadratic_bound(net, data, "h2", gamma=1).gram, expected, rtol=3e-6, atol=1e-7
    )  # f is float32


def test_exact_bound_is_the_loss(dense: Dense, flat_data: Data) -> None:
    net, data = dense(2), flat_data("gaussian")
    bound = quadratic_bound(net, data, "h2", gamma=0.2)
    assert (bound.guarantee.kind, bound.guarantee.level) == ("exact", "exact")
    for z in np.random.default_rng(0).normal(0, 4, (30, 4)):
        assert bound.value(z) == pytest.approx(_true_loss(net, data, "h2", z), rel=1e-5)
    assert verify_bound(bound, net, data, samples=100_000).violations == 0


def test_lipschitz_of_a_regression_is_a_bound_with_its_minimum_at_the_anchor(dense: Dense, flat_data: Data) -> None:
    net, data = dense(2), flat_data("gaussian")
    bound = quadratic_bound(net, data, "h1", "auto", 0.2)
    assert bound.guarantee.kind == "lipschitz"
    assert verify_bound(bound, net, data, samples=20_000).violations == 0
    assert bound.trained_mu is not None
    np.testing.assert_allclose(bound.smooth_gradient(bound.trained_mu), 0, atol=1e-9 * bound.w.max())


def test_a_dead_input_has_a_zero_column(dense: Dense, flat_data: Data) -> None:
    for kind in ("lipschitz", "tangent"):
        bound = quadratic_bound(dense(), flat_data(), "input", kind, 0.03)
        assert np.flatnonzero(bound.w == 0).tolist() == [4]
        assert bound.b[4] == 0
        assert bound.unbounded_direction() is None


@pytest.mark.parametrize("kind", ["fitted", "tangent"])
def test_statistical_bounds_report_a_level_that_fresh_samples_confirm(dense: Dense, flat_data: Data, kind: str) -> None:
    net, data = dense(), flat_data()
    bound = quadratic_bound(net, data, "h1", kind, 0.03, samples=400, level_samples=2000)
    assert bound.guarantee.level == "statistical"
    words = bound.guarantee.detail.split()
    reported, limit = int(words[0]), float(words[words.index("≤") + 1])
    assert reported / 2000 <= limit
    check = verify_bound(bound, net, data, samples=4000, seed=99)
    rate = check.violations / check.samples
    assert rate <= 1.5 * limit  # the limit holds at 95 %; the fresh rate's standard error is below 0.005
    assert bound.unbounded_direction() is None


@pytest.mark.parametrize(("gain", "target"), [(1.7, -3.0), (0.4, 9.0), (-2.0, -5.0)])
def test_lipschitz_touches_the_loss_where_every_inequality_is_tight(gain: float, target: float) -> None:
    # one example, f = 3, ŷ = relu(3·gain·z + 8), loss ½(ŷ − y)²: Young's inequality is an equality at s = δ = σ|3·gain|
    net = nn.Sequential(nn.Flatten(), Gate(1, threshold=0), nn.Linear(1, 1), nn.ReLU())
    gate, linear = named_gates(net)["1"], net[2]
    gate.mu.data.fill_(0.5)
    gate.log_var.data.fill_(2 * np.log(0.3))
    linear.weight.data.fill_(gain)
    linear.bias.data.fill_(8.0)
    data = from_arrays([[3.0]], [[target]], [[3.0]], [[target]], likelihood="gaussian")
    bound = quadratic_bound(net, data, "1", "lipschitz", 0.1)
    toward = np.sign((3 * gain * 0.5 + 8 - target) * gain)  # the side on which the loss rises
    z = np.array([0.5 + 0.3 * toward])
    assert bound.value(z) == pytest.approx(0.5 * (3 * gain * z[0] + 8 - target) ** 2, rel=1e-6)
    assert bound.value(np.array([0.5 - 0.3 * toward])) > 0.5 * (3 * gain * (0.5 - 0.3 * toward) + 8 - target) ** 2


def test_gauss_newton_is_half_the_hessian_where_the_rest_is_affine(dense: Dense, flat_data: Data) -> None:
    net, data = dense(), flat_data()
    layer = GatedLayer(net, "h2", data.x_train, data.y_train, "multinomial")
    at = np.array([0.3, -0.5, 0.9, 0.2])
    curvature, gradient, value = gauss_newton(layer, at)
    h = 1e-4
    step = h * np.eye(4)
    points = np.concatenate([at + s * step[i] + t * step[j] for i in range(4) for j in range(4) for s, t in _SIGNS])
    g = layer.mean_loss(points.reshape(-1, 4)).reshape(4, 4, 4)
    np.testing.assert_allclose(2 * curvature, (g @ np.array([1, -1, -1, 1])) / (4 * h * h), atol=2e-5)
    np.testing.assert_allclose(gradient, _gradient(net, data, "h2", at), atol=1e-5)
    assert value == pytest.approx(_true_loss(net, data, "h2", at), rel=1e-5)


_SIGNS = [(1, 1), (1, -1), (-1, 1), (-1, -1)]


@pytest.mark.parametrize("likelihood", ["multinomial", "gaussian"])
@pytest.mark.parametrize("factor", [1e-20, 1e-15, 1e15, 1e20])
def test_a_gates_unit_is_nobodys_business(likelihood: str, factor: float) -> None:
    """z₀ times a number, its weights through it: the same network, so the same ḡ of the same z, in other units."""
    x = np.random.default_rng(0).standard_normal((60, 5))
    y = (x[:, 0] > 0).astype(int) if likelihood == "multinomial" else x[:, :2]
    data = from_arrays(x, y, x, y, likelihood=likelihood)
    torch.manual_seed(0)
    gate, last = Gate(4), nn.Linear(4, 2)
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), gate, last).double()
    gate.log_var.data.fill_(-2.0)
    expected = quadratic_bound(net, data, "2", gamma=0.01)
    assert expected.guarantee.kind == ("bohning" if likelihood == "multinomial" else "exact")
    gate.mu.data[0] *= factor
    gate.log_var.data[0] += 2 * np.log(factor)
    last.weight.data[:, 0] /= factor
    found, unit = quadratic_bound(net, data, "2", gamma=0.01), np.array([factor, 1, 1, 1])
    np.testing.assert_allclose(found.gram * np.outer(unit, unit), expected.gram, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(found.b * unit, expected.b, rtol=1e-8, atol=1e-12)
    assert found.c == pytest.approx(expected.c, rel=1e-8)
