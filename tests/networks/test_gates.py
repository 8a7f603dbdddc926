"""Gates against float64 closed forms, finite differences, and sampling; safe over the whole range of (μ, log σ²)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vibtheory import networks
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate, gate_information, log1p_alpha, named_gates, objective

RNG = np.random.default_rng(5)
MU = RNG.normal(scale=2.7, size=9)
LOG_VAR = RNG.normal(loc=-1.0, scale=2.2, size=9)
ALPHA = MU**2 / np.exp(LOG_VAR)
CLOSED = [2, 5]


def _gate(**options: float) -> Gate:
    gate = Gate(9, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        gate.mu.copy_(torch.from_numpy(MU))
        gate.log_var.copy_(torch.from_numpy(LOG_VAR))
    return gate


def test_closed_forms_in_float64() -> None:
    gate = _gate()
    np.testing.assert_allclose(gate.alpha.detach().numpy(), ALPHA, rtol=2e-5)
    np.testing.assert_allclose(gate.sigma.detach().numpy(), np.exp(LOG_VAR / 2), rtol=1e-6)
    assert float(gate.information().detach()) == pytest.approx(0.5 * np.log1p(ALPHA).sum(), rel=1e-6)
    gate.close(torch.tensor(CLOSED))
    left = np.delete(ALPHA, CLOSED)
    assert float(gate.information().detach()) == pytest.approx(0.5 * np.log1p(left).sum(), rel=1e-6)
    assert gate.alpha[CLOSED].tolist() == [0.0, 0.0]
    assert gate_information(nn.Sequential(gate))["0"] == pytest.approx(0.5 * np.log1p(left).sum(), rel=1e-6)


def test_information_gradients_are_central_differences() -> None:
    def value(mu: np.ndarray, log_var: np.ndarray) -> float:
        return float(0.5 * np.log1p(mu**2 * np.exp(-log_var)).sum())

    gate, step = _gate(), 1e-6
    gate.information().backward()
    for j in range(9):
        e = np.zeros(9)
        e[j] = step
        by_mu = (value(MU + e, LOG_VAR) - value(MU - e, LOG_VAR)) / (2 * step)
        by_log_var = (value(MU, LOG_VAR + e) - value(MU, LOG_VAR - e)) / (2 * step)
        assert gate.mu.grad is not None
        assert gate.log_var.grad is not None
        assert float(gate.mu.grad[j]) == pytest.approx(by_mu, rel=1e-4)
        assert float(gate.log_var.grad[j]) == pytest.approx(by_log_var, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    magnitude=st.one_of(st.just(0.0), st.floats(-60, 15).map(lambda e: 10.0**e)),
    sign=st.sampled_from([-1.0, 1.0]),
    log_var=st.one_of(st.floats(-1e4, 80), st.floats(-30, 30)),
)
def test_no_nan_over_the_whole_range(dtype: torch.dtype, magnitude: float, sign: float, log_var: float) -> None:
    gate = Gate(1, mean=sign * magnitude, log_variance=log_var).to(dtype)
    h = torch.full((3, 1), 1.3, dtype=dtype)
    out = gate(h)
    information = gate.information()
    (out.float().sum() * 1e-3 + information).backward()
    for tensor in (out, information, gate.mu.grad, gate.log_var.grad, gate.eval()(h)):
        assert tensor is not None
        assert tensor.isfinite().all()
    assert information >= 0
    mu, lv = float(gate.mu.detach()), float(gate.log_var.detach())
    if mu == 0:
        assert float(information.detach()) == 0
        assert not gate.keep.item()
    if abs(mu) > 1e-29 and dtype == torch.float32:
        log_alpha = 2 * math.log(abs(mu)) - lv
        exact = 0.5 * (max(log_alpha, 0.0) + math.log1p(math.exp(-abs(log_alpha))))
        assert float(information.detach()) == pytest.approx(exact, rel=1e-5, abs=1e-5)
    assert not gate.alpha.isnan().any()


def test_small_alpha_keeps_its_relative_precision() -> None:
    """log(1+α) by log(1+α) in float32 would be 0 here; α/2 to first order."""
    mu = torch.tensor([3e-6], requires_grad=True)
    value = log1p_alpha(mu, torch.tensor([0.4]))
    assert float(value.detach()) == pytest.approx(9e-12 * math.exp(-0.4), rel=1e-5)


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, 3), (0.25, 2), (1.0, 1), (4.0, 1), (5.0, 0)])
def test_keep_is_alpha_above_the_threshold(threshold: float, kept: int) -> None:
    """α = 4.84, 0.49, 0.04 and 0: μ = 0 is never kept, whatever the threshold."""
    gate = Gate(4, threshold=threshold, log_variance=math.log(4.0))
    with torch.no_grad():
        gate.mu.copy_(torch.tensor([4.4, -1.4, 0.4, 0.0]))
    assert int(gate.keep.sum()) == kept
    assert gate.keep.tolist() == [kept > 0, kept > 1, kept > 2, False]


def test_eval_multiplies_by_mean_times_keep() -> None:
    gate, h = _gate().eval(), RNG.normal(scale=3.0, size=(4, 9, 2, 3)).astype(np.float32)
    gate.close(torch.tensor([j in CLOSED for j in range(9)]))
    expected = MU * (ALPHA > 1) * ~np.isin(np.arange(9), CLOSED)
    assert 0 < (expected != 0).sum() < 7
    np.testing.assert_allclose(
        gate(torch.from_numpy(h)).detach().numpy(), h * expected[None, :, None, None], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(gate.mean().detach().numpy(), expected, rtol=1e-6)


def test_samples_have_the_gates_mean_and_variance_one_per_example_and_channel() -> None:
    torch.manual_seed(11)
    gate, n = _gate(), 40_000
    gate.close(torch.tensor(CLOSED))
    z = gate(torch.ones(n, 9, 2, 2)).detach().double().numpy()
    assert (z == z[:, :, :1, :1]).all()  # shared over positions
    z = z[:, :, 0, 0]
    sigma = np.exp(LOG_VAR / 2)
    opened = np.delete(np.arange(9), CLOSED)
    assert (z[:, CLOSED] == 0).all()
    errors = (z.mean(axis=0) - MU)[opened] / (sigma[opened] / math.sqrt(n))
    assert np.abs(errors).max() < 4
    np.testing.assert_allclose(z.std(axis=0)[opened], sigma[opened], rtol=4 / math.sqrt(2 * n))
    correlation = np.corrcoef(z[:, opened].T) - np.eye(7)
    assert np.abs(correlation).max() < 5 / math.sqrt(n)
    assert len(np.unique(z[:, 0])) > 0.99 * n  # one per example


def test_sample_in_eval_samples_the_kept_units_only() -> None:
    torch.manual_seed(3)
    gate = _gate().eval()
    gate.sample_in_eval = True
    z = gate(torch.ones(30_000, 9)).detach().double().numpy()
    kept = ALPHA > 1
    assert (z[:, ~kept] == 0).all()
    np.testing.assert_allclose(z.std(axis=0)[kept], np.exp(LOG_VAR / 2)[kept], rtol=0.02)


@pytest.mark.parametrize(("axis", "shape"), [(1, (6, 9)), (1, (6, 9, 4)), (-1, (6, 4, 9)), (2, (6, 4, 9, 2))])
@pytest.mark.parametrize("training", [True, False])
def test_axis(axis: int, shape: tuple[int, ...], training: bool) -> None:
    gate = _gate(axis=axis, threshold=0.0).train(training)
    with torch.no_grad():
        gate.log_var.fill_(-400.0)  # σ = 0: the sample is the mean
    h = torch.from_numpy(RNG.normal(size=shape).astype(np.float32))
    moved = np.moveaxis(h.numpy(), axis, -1) * MU
    np.testing.assert_allclose(np.moveaxis(gate(h).detach().numpy(), axis, -1), moved, rtol=1e-5)


LAYOUTS = [
    (1, (5, 9), torch.contiguous_format), (1, (5, 9, 3, 2), torch.contiguous_format),
    (1, (5, 9, 3, 2), torch.channels_last), (-1, (5, 4, 9), torch.contiguous_format),
]  # fmt: skip


@pytest.mark.parametrize(("axis", "shape"), [(1, (3, 2)), (1, (2, 2, 2, 1)), (-1, (2, 2, 2))])
def test_derivatives_of_first_and_second_order(axis: int, shape: tuple[int, ...]) -> None:
    """Central differences in float64, with the noise held; a closed unit has none."""
    gate = Gate(2, axis=axis, mean=0.7, log_variance=-0.4).double()
    gate.close(torch.tensor([1]))

    def gated(h: torch.Tensor, mu: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(8)
            return torch.func.functional_call(gate, {"mu": mu, "log_var": log_var}, (h,))

    h = torch.from_numpy(RNG.normal(size=shape)).requires_grad_()
    inputs = h, gate.mu.detach().requires_grad_(), gate.log_var.detach().requires_grad_()
    assert torch.autograd.gradcheck(gated, inputs)
    assert torch.autograd.gradgradcheck(gated, inputs)


@pytest.mark.parametrize(("axis", "shape", "memory"), LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gate_and_gradients_are_those_of_the_plain_expression(
    axis: int, shape: tuple[int, ...], memory: torch.memory_format, dtype: torch.dtype
) -> None:
    """h⊙z from `sample`, by autograd, in the activation's precision (the gate's own stays float32, as under AMP)."""
    gate = _gate(axis=axis).to(torch.float64 if dtype == torch.float64 else torch.float32)
    gate.close(torch.tensor(CLOSED))
    h = torch.from_numpy(RNG.normal(size=shape)).to(dtype).contiguous(memory_format=memory).requires_grad_()
    upstream = torch.from_numpy(RNG.normal(size=shape)).to(dtype)
    place = [5 if a == 0 else 9 if a == axis % len(shape) else 1 for a in range(len(shape))]
    found = []
    for plain in (False, True):
        torch.manual_seed(8)
        out = h * gate.sample(5).to(dtype).view(place) if plain else gate(h)
        found.append([out.detach(), *torch.autograd.grad(out, (h, gate.mu, gate.log_var), upstream)])
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_derivatives_by_the_input_alone_are_z() -> None:
    """torch.func over h, with the gate's own parameters outside it: h ⊙ z is linear in h, so J v = v ⊙ z."""
    gate, h = _gate(), torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    z = gate.sample(4).detach()
    torch.manual_seed(2)
    torch.testing.assert_close(torch.func.grad(lambda v: gate(v).sum())(h), z)
    torch.manual_seed(2)
    torch.testing.assert_close(torch.func.jvp(gate, (h,), (2 * h,))[1].detach(), 2 * h * z)
    many = torch.func.vmap(gate, randomness="same")(torch.stack([h, 3 * h]))
    torch.testing.assert_close(many[1], 3 * many[0])


def test_gates_under_vmap_are_those_of_single_nets() -> None:
    h = torch.from_numpy(RNG.normal(size=(5, 9)).astype(np.float32))
    gates = [_gate(), _gate()]
    with torch.no_grad():
        gates[1].mu.mul_(-0.5)
    stacked = torch.func.stack_module_state(gates)  # type: ignore[arg-type]
    torch.manual_seed(8)
    both = torch.func.vmap(lambda p, b: torch.func.functional_call(gates[0], (p, b), (h,)), randomness="same")(*stacked)
    for gate, out in zip(gates, both, strict=True):
        torch.manual_seed(8)
        torch.testing.assert_close(out, gate(h), rtol=1e-6, atol=1e-6)


def test_information_has_no_side_effects() -> None:
    gate = _gate()
    gate.close(torch.tensor(CLOSED))
    before = {key: value.clone() for key, value in gate.state_dict().items()}
    torch.manual_seed(4)
    expected = torch.rand(2)
    torch.manual_seed(4)
    first = gate.information()
    assert torch.equal(first, gate.information())
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(before[key], value) for key, value in gate.state_dict().items())
    assert gate.training
    assert gate.mu.grad is None


def test_closed_units_get_no_gradient() -> None:
    gate = _gate()
    gate.close(torch.tensor(CLOSED))
    (gate(torch.ones(5, 9)).sum() + gate.information()).backward()
    for parameter in (gate.mu, gate.log_var):
        assert parameter.grad is not None
        assert (parameter.grad[CLOSED] == 0).all()
        assert (np.delete(parameter.grad.numpy(), CLOSED) != 0).all()


def test_objective_against_a_number_by_hand() -> None:
    """1.7 + 0.3·5·½[log(1+8)+log(1+0.5)] + 0.2·½·3·log(1+2) with multipliers 5 and 1."""
    gates = {"a": Gate(2, multiplier=5.0, log_variance=math.log(2.0)), "b": Gate(3, mean=2.0, log_variance=math.log(2))}
    with torch.no_grad():
        gates["a"].mu.copy_(torch.tensor([-4.0, 1.0]))
    loss = torch.tensor(1.7)
    a = 0.3 * 5 * 0.5 * (math.log(9) + math.log(1.5))
    b = 0.2 * 0.5 * 3 * math.log(3)
    assert float(objective(loss, gates, {"a": 0.3, "b": 0.2}).detach()) == pytest.approx(1.7 + a + b, rel=1e-6)
    assert float(objective(loss, gates, 0.2).detach()) == pytest.approx(1.7 + a * 2 / 3 + b, rel=1e-6)
    assert float(loss) == pytest.approx(1.7)  # not added to in place


def test_networks_have_the_gates_that_the_design_names() -> None:
    assert {n: g.features for n, g in named_gates(networks.lenet_300_100()).items()} == {
        "input": 784, "h1": 300, "h2": 100,
    }  # fmt: skip
    gates = named_gates(networks.lenet_5_caffe())
    assert {n: (g.features, g.multiplier) for n, g in gates.items()} == {
        "conv1": (20, 576), "conv2": (50, 64), "flat": (800, 1), "fc1": (500, 1),
    }  # fmt: skip
    assert networks.lenet_5_caffe()(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert not named_gates(networks.lenet_300_100(gated=False))
    assert "300, multiplier=1, threshold=1" in str(networks.lenet_300_100())
    assert "axis=-1" in str(Gate(3, axis=-1))


BAD = {
    "no feature": lambda: Gate(0),
    "half a feature": lambda: Gate(2.5),  # type: ignore[arg-type]
    "negative multiplier": lambda: Gate(3, multiplier=-1.0),
    "NaN multiplier": lambda: Gate(3, multiplier=math.nan),
    "negative threshold": lambda: Gate(3, threshold=-0.1),
    "axis of the examples": lambda: Gate(3, axis=0),
    "width": lambda: Gate(3)(torch.ones(2, 4)),
    "no units": lambda: Gate(3)(torch.ones(3)),
    "axis out of range": lambda: Gate(3, axis=2)(torch.ones(2, 3)),
    "examples by a negative axis": lambda: Gate(2, axis=-2)(torch.ones(2, 3)),
    "missing layer": lambda: objective(torch.tensor(1.0), {"a": Gate(1), "b": Gate(1)}, {"a": 1.0}),
    "one size": lambda: networks.mlp((4,)),
    "empty layer": lambda: networks.mlp((4, 0, 2)),
    "half a unit": lambda: networks.mlp((4, 2.5, 2), gated=False),  # type: ignore[list-item]
    "unit between two": lambda: Gate(3).close([1.5]),  # type: ignore[list-item]
    "a flag for one of three": lambda: Gate(3).close([True]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    with pytest.raises(InvalidInputError, match="Remedy"):
        BAD[case]()
