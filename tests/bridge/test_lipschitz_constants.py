"""Certified constants against dense singular values and sampled difference quotients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from vibtheory.bridge.lipschitz_constants import (
    _affine_norm,
    convolution_norm,
    lipschitz_constant,
    spectral_norm,
    uncertified,
)
from vibtheory.bridge.output_loss import OutputLoss
from vibtheory.networks.gates import Gate

GAUSSIAN = OutputLoss("gaussian")


def _dense_matrix(module: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    size = math.prod(shape)
    with torch.no_grad():
        offset = module(torch.zeros(1, *shape, dtype=torch.float64))
        return (module(torch.eye(size, dtype=torch.float64).reshape(size, *shape)) - offset).reshape(size, -1).numpy().T


CONVOLUTIONS = [
    nn.Conv2d(3, 4, 3, padding=1),
    nn.Conv2d(3, 4, 3, padding=1, stride=2),
    nn.Conv2d(4, 6, (5, 3), groups=2),
    nn.Conv2d(2, 3, 3, dilation=2, padding=2),
    nn.Conv2d(3, 5, 1),
    nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
    nn.Conv1d(3, 4, 5, padding=2),
]


@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=repr)
def test_convolution_norm_is_above_the_dense_singular_value(convolution: nn.Module) -> None:
    torch.manual_seed(0)
    layer = convolution.double()
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    layer.weight.data.normal_(0, 2.3)
    sides = (9,) * (layer.weight.ndim - 2)
    exact = float(np.linalg.svd(_dense_matrix(layer, (layer.in_channels, *sides)), compute_uv=False)[0])
    bound = convolution_norm(layer.weight, layer.groups)
    assert bound >= exact
    if all(s == 1 for s in layer.stride):
        assert bound <= 1.35 * exact  # tight where nothing is subsampled and the map is not tiny


def test_convolution_norm_covers_frequencies_between_grid_points() -> None:
    # |K̂(ω)|² of the kernel (1, e^{-iω₀}…) peaks off the grid: real kernels cos(ω₀ k) with ω₀ between two grid points
    for omega in np.linspace(0, math.pi, 40):
        kernel = torch.tensor(np.cos(omega * np.arange(3)))[None, None, None]
        fine = np.linspace(0, 2 * math.pi, 20001)
        truth = np.abs(np.exp(-1j * np.outer(fine, np.arange(3))) @ kernel.numpy().ravel()).max()
        assert truth <= convolution_norm(kernel) <= 1.03 * truth


def test_spectral_norm_is_the_largest_singular_value_rounded_up() -> None:
    torch.manual_seed(1)
    for shape in ((7, 3), (3, 7), (5, 5)):
        matrix = 13.7 * torch.randn(shape, dtype=torch.float64)
        exact = float(np.linalg.svd(matrix.numpy(), compute_uv=False)[0])
        assert exact <= spectral_norm(matrix) <= exact * (1 + 2e-9)


POINTWISE = [
    (nn.ReLU(), 1.0),
    (nn.LeakyReLU(1.5), 1.5),
    (nn.ELU(2.0), 2.0),
    (nn.Tanh(), 1.0),
    (nn.Sigmoid(), 0.25),
    (nn.GELU(), 1.13),
    (nn.SiLU(), 1.13),
    (nn.MaxPool2d(2), 1.0),
    (nn.MaxPool2d(3, stride=2), 2.0),
    (nn.MaxPool2d(2, stride=1), 2.0),
    (nn.MaxPool2d(2, stride=1, dilation=2), 2.0),
    (nn.MaxPool1d(3, stride=2), math.sqrt(2)),
]


@pytest.mark.parametrize(("module", "constant"), POINTWISE, ids=lambda v: repr(v))
def test_pointwise_and_pooling_constants_hold_and_are_nearly_reached(module: nn.Module, constant: float) -> None:
    shape = (1, 8) if isinstance(module, nn.MaxPool1d) else (1, 6, 6)
    assert lipschitz_constant([module], shape, GAUSSIAN) == pytest.approx(constant)
    torch.manual_seed(2)
    a = 3 * torch.randn(4000, *shape, dtype=torch.float64)
    b = a + 10.0 ** (-4 * torch.rand(4000, *(1,) * len(shape), dtype=torch.float64)) * torch.randn_like(a)
    b[:500] = a[:500]  # single entries: where a pool's windows overlap, one entry moves several outputs
    b[:500].reshape(500, -1)[torch.arange(500), torch.arange(500) % a[0].numel()] += 50
    gain = (module(a) - module(b)).flatten(1).norm(dim=1) / (a - b).flatten(1).norm(dim=1)
    assert float(gain.max()) <= constant * (1 + 1e-9)
    assert float(gain.max()) >= 0.3 * constant


def _network() -> list[nn.Module]:
    torch.manual_seed(4)
    gate = Gate(5)
    gate.mu.data.copy_(torch.tensor([0.2, -3.0, 1e-4, 0.9, 2.0]))
    norm = nn.BatchNorm2d(5)
    assert norm.running_var is not None
    norm.running_var.uniform_(0.2, 3)
    norm.weight.data.uniform_(-2, 2)
    modules: list[nn.Module] = [
        nn.ReLU(), nn.Conv2d(3, 5, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2), gate, nn.AvgPool2d(3), nn.Flatten(),
        nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3),
    ]  # fmt: skip
    return [module.double().eval() for module in modules]


@pytest.mark.parametrize("formed", [True, False], ids=["merged", "module by module"])
def test_network_constant_is_above_every_difference_quotient(formed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not formed:
        monkeypatch.setattr("vibtheory.bridge.lipschitz_constants._FORMED", 0)
    modules = _network()
    assert uncertified(modules) == ""
    kappa = lipschitz_constant(modules, (3, 6, 6), GAUSSIAN)
    rest = nn.Sequential(*modules)
    a = torch.randn(3000, 3, 6, 6, dtype=torch.float64)
    b = a + 0.1 * torch.randn_like(a)
    with torch.no_grad():
        gain = (rest(a) - rest(b)).norm(dim=1) / (a - b).flatten(1).norm(dim=1)
    assert 0 < float(gain.max()) <= kappa


def test_module_by_module_norm_folds_scales_into_the_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vibtheory.bridge.lipschitz_constants._FORMED", 0)
    piece = nn.Sequential(*_network()[1:3])
    exact = float(np.linalg.svd(_dense_matrix(piece, (3, 6, 6)), compute_uv=False)[0])
    assert exact <= _affine_norm(piece, torch.zeros(1, 3, 6, 6, dtype=torch.float64), None) <= 1.3 * exact


def test_a_gate_on_another_axis_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vibtheory.bridge.lipschitz_constants._FORMED", 0)
    gate = Gate(4, axis=2).double().eval()
    gate.mu.data.copy_(torch.tensor([0.2, -3.0, 1.0, 2.0]))
    exact = float(np.linalg.svd(_dense_matrix(gate, (3, 4)), compute_uv=False)[0])
    assert lipschitz_constant([gate], (3, 4), GAUSSIAN) == pytest.approx(exact)


def test_a_shift_of_all_logits_costs_nothing_for_the_multinomial() -> None:
    linear = nn.Linear(2, 3, bias=False).double()
    linear.weight.data.copy_(torch.tensor([[100.0, 1.0], [100.0, 0.0], [100.0, 0.0]]))
    assert lipschitz_constant([linear], (2,), OutputLoss("multinomial")) == pytest.approx(math.sqrt(2 / 3))
    assert lipschitz_constant([linear], (2,), GAUSSIAN) > 100


UNCERTIFIED = [
    nn.Softmax(1),
    nn.LayerNorm(4),
    nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
    nn.Conv1d(2, 2, 1, padding=2, padding_mode="circular"),  # entries of the input come twice
    nn.Conv1d(2, 2, 3, padding=2, padding_mode="circular"),  # two outputs come twice
    nn.BatchNorm2d(3, track_running_stats=False),
]


@pytest.mark.parametrize("module", UNCERTIFIED, ids=repr)
def test_modules_without_a_certificate_are_named(module: nn.Module) -> None:
    assert type(module).__name__ in uncertified([nn.Sequential(nn.ReLU(), module)])
