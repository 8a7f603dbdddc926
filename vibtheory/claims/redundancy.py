"""Deciders of the paper's pictures on redundancy: Props 1 and 2, "redundant dimension ⇒ flat ḡ", and T4b."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import scipy.integrate
import torch
from numpy.typing import NDArray
from torch import nn

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.instances import Effort
from vibtheory.compression.merging import merge_redundant
from vibtheory.networks.gates import vib_gates
from vibtheory.networks.lenet import mlp
from vibtheory.networks.streams import random_state_kept
from vibtheory.studies.propositions import absorb_constant_unit, check_dead_unit
from vibtheory.theory.dead_gate import dead_gate_flow
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.silent_gate import closed_mean_information, constant_unit
from vibtheory.theory.softmax_loss import SoftmaxLoss

__all__ = ["converse", "flat_directions", "merging", "silent_unit", "unheard_unit"]

Array = NDArray[np.float64]


def _network(rng: np.random.Generator, sizes: tuple[int, ...] = (6, 10, 3)) -> tuple[nn.Sequential, torch.Tensor]:
    """A small gated network in float64 and its inputs [300, 6], from `rng`."""
    with random_state_kept():
        torch.default_generator.manual_seed(int(rng.integers(2**31)))
        net = mlp(sizes).double()
        for gate in vib_gates(net).values():
            gate.mu.data.copy_(1 + 0.3 * torch.randn(gate.features, dtype=torch.float64))
            gate.log_var.data.copy_(torch.randn(gate.features, dtype=torch.float64) - 3)
        return net, torch.randn(300, sizes[0], dtype=torch.float64)


def _linear(net: nn.Module, layer: int = 1) -> nn.Linear:
    """The map into a hidden layer."""
    linear = net.get_submodule(f"linear{layer}")
    assert isinstance(linear, nn.Linear)
    return linear


def _labels(x: torch.Tensor) -> torch.Tensor:
    return (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()


def silent_unit(effort: Effort) -> Finding:
    """Prop 1: I(h_j; h_prev) = 0 ⇒ α_j = 0.

    Bare: f ≡ 1 carries nothing, and at the global minimum of the closed form its gate is closed: refuted where y² > γ.
    Corrected: f ≡ 0: α falls at data gradient 0; f ≡ c ≠ 0 with a bias downstream: absorbing it lowers the objective.
    """
    rng = effort.rng("Prop 1")
    bare: list[Outcome] = []
    corrected: list[Outcome] = []
    for _ in range(effort.size(250, 2500)):
        found = constant_unit(float(rng.normal(scale=3)), float(np.exp(rng.normal() - 2)))
        bare.append((not found.refutes, str(found)))
    for index in range(effort.size(30, 300)):
        net, x = _network(rng)
        data, unit = (x, _labels(x)), int(rng.integers(10))
        dead = check_dead_unit(net, data, "h1", unit, gamma=0.05, steps=60, proposition=1, seed=index)
        corrected.append((dead.verdict == "α falls" and dead.data_gradient == 0, str(dead)))
        with torch.no_grad():  # f ≡ c: no weights, a positive bias
            linear = _linear(net)
            linear.weight[unit] = 0.0
            linear.bias[unit] = float(rng.uniform(0.2, 2))
        smaller, absorbed = absorb_constant_unit(net, data, "h1", unit)
        before, after = _with_unit_at(net, data, unit, absorbed.shift)
        same = bool(torch.allclose(smaller.eval()(x), after, rtol=1e-9, atol=1e-9))
        lower = absorbed.loss_after <= absorbed.loss_before and abs(absorbed.loss_before / before - 1) < 1e-6
        corrected.append((absorbed.status == "absorbed" and same and lower, str(absorbed)))
    trained = _killed(effort, 1)
    evidence = {"recorded: units of trained LeNet-300-100 made silent": len(trained)}
    return Finding(Tally.of(bare, independent=True), Tally.of(corrected + trained), evidence)


def _with_unit_at(
    net: nn.Module, data: tuple[torch.Tensor, torch.Tensor], unit: int, z: float
) -> tuple[float, torch.Tensor]:
    """Mean loss in nats over h1's z_unit ~ N(μ, σ²), by the trapezoid rule; and the outputs [N, K] with it at `z`."""
    fixed = copy.deepcopy(net).eval()
    gate = vib_gates(fixed)["h1"]
    mu, sigma = float(gate.mu[unit].detach()), float(gate.sigma[unit].detach())

    def outputs(value: float) -> torch.Tensor:
        with torch.no_grad():
            gate.mu[unit] = value
            gate.log_var[unit] = -200.0  # so that evaluation keeps it
            return torch.as_tensor(fixed(data[0]))

    steps = np.linspace(-9, 9, 61)
    losses = [float(nn.functional.cross_entropy(outputs(mu + sigma * step), data[1])) for step in steps]
    masses = np.exp(-(steps**2) / 2)
    return float(masses @ losses / masses.sum()), outputs(z)


def _killed(effort: Effort, proposition: int) -> list[Outcome]:
    """Recorded units of a trained LeNet-300-100, killed for Prop 1 or 2, then trained: did α fall at gradient 0?"""
    rows = effort.rows("dead_units_lenet_300_100.csv", ("layer", "unit", "proposition", "data_gradient", "verdict"))
    units: dict[str, bool] = {}
    for row in rows:
        if row["proposition"] == proposition:
            name = f"trained LeNet-300-100, {row['layer']} unit {row['unit']}"
            units[name] = units.get(name, True) and row["verdict"] == "α falls" and row["data_gradient"] == 0
    return [(held, name) for name, held in units.items()]


def converse(effort: Effort) -> Finding:
    """Prop 1's weaker converse: μ_j = 0 with σ_j > 0 still reveals |f_j|, so I = 0 only if |f| is constant.

    Bare: α = 0 ⇒ I = 0, at a minimum: of an unheard unit, whose σ is free. Corrected: I ≤ ½ψ (with zeros,
    H_b(π) + (π/2)ψ⁺), I = 0 where |f| is constant, and where the data term rises with σ a minimum has σ = 0.
    """
    rng = effort.rng("Prop 1 converse")
    bare, corrected = [], []
    for index in range(effort.size(100, 1000)):
        values = np.exp(rng.standard_normal(int(rng.integers(2, 6)))) * rng.choice([-1.0, 1.0])
        if index % 3 == 0:
            values[0] = 0.0
        sigma = float(np.exp(rng.normal()))
        found = closed_mean_information(values, sigma=sigma)
        steps = sigma * np.geomspace(1e-3, 1e3, 40)
        unheard, heard = (QuadraticBound([[weight]], [0.0], 0.0, 0.3) for weight in (0.0, float(np.exp(rng.normal()))))
        if np.ptp([unheard.objective([0.0], [step]) for step in steps]) == 0:  # any σ is a minimum
            bare.append((found.nats <= 1e-9, f"{found}, f in {np.round(values, 3).tolist()}"))
        rising = [heard.objective([0.0], [step]) for step in steps]
        corrected.append((bool((np.diff(rising) > 0).all()), "the data term does not rise with σ"))
        corrected.append((found.nats <= found.bound + 1e-9, str(found)))
        still = closed_mean_information(values[-1] * rng.choice([-1.0, 1.0], 4))
        corrected.append((abs(still.nats) < 1e-9, str(still)))
    return Finding(Tally.of(bare), Tally.of(corrected))


def unheard_unit(effort: Effort) -> Finding:
    """Prop 2: with outgoing weights 0 the data term is deaf to the gate, and α falls from the first step on.

    On small networks; on the gradient flow, whose closed form is held against integration; on recorded trained nets.
    """
    rng = effort.rng("Prop 2")
    outcomes: list[Outcome] = []
    steepest = farthest = 0.0
    for index in range(effort.size(30, 300)):
        net, x = _network(rng)
        found = check_dead_unit(net, (x, _labels(x)), "h1", int(rng.integers(10)), gamma=0.05, steps=60, seed=index)
        steepest = max(steepest, found.data_gradient)
        outcomes.append((found.verdict == "α falls" and found.data_gradient == 0, str(found)))
    for coordinates in ("sigma", "log_variance"):
        for _ in range(effort.size(50, 500)):
            start = rng.normal(), float(np.exp(rng.normal() - 1))
            flow = dead_gate_flow(*start, _FLOW_GAMMA, _FLOW_TIMES, coordinates)
            off = float(np.abs(flow.alpha - _integrated(start, coordinates)).max() / flow.alpha[0])
            falls = (np.diff(flow.alpha) < 0) | (flow.alpha[1:] == 0)  # a fast flow is below the least number at once
            outcomes.append((bool(falls.all()) and off < 1e-6, f"{flow}; {off:.2g} from the integrated flow"))
            farthest = max(farthest, off)
    trained = _killed(effort, 2)
    evidence = {
        "largest data gradient at a killed gate": steepest, "α: closed form against integration, share of α₀": farthest,
        "recorded: units of trained LeNet-300-100 made unheard": len(trained),
    }  # fmt: skip
    return Finding(Tally.of(outcomes + trained), evidence=evidence)


_FLOW_GAMMA, _FLOW_TIMES = 0.3, np.linspace(0, 3, 20)


def _integrated(start: tuple[float, float], coordinates: str) -> Array:
    """α [T] along the gradient flow of γ log(1 + μ²/σ²), by an ODE solver."""

    def velocity(_: float, gate: Array) -> list[float]:
        mu, other = gate
        square = other**2 if coordinates == "sigma" else np.exp(other)
        push = 2 * _FLOW_GAMMA * mu / (mu**2 + square)
        return [-push, push * mu / other if coordinates == "sigma" else push * mu / 2]

    mu, sigma = start
    gate = (mu, sigma if coordinates == "sigma" else 2 * np.log(sigma))
    span = (_FLOW_TIMES[0], _FLOW_TIMES[-1])
    found = scipy.integrate.solve_ivp(velocity, span, gate, "LSODA", _FLOW_TIMES, rtol=1e-10, atol=1e-12)
    square = found.y[1] ** 2 if coordinates == "sigma" else np.exp(found.y[1])
    return np.asarray(found.y[0] ** 2 / square)


def _constant(bound: QuadraticBound, direction: Array, rng: np.random.Generator) -> bool:
    """Whether ḡ is flat along `direction`: equal at random points and their shifts."""
    z = rng.standard_normal((10, bound.d))
    shift = rng.uniform(0.5, 5, (10, 1)) * direction
    return bool(np.allclose(bound.value(z + shift), bound.value(z), rtol=1e-9, atol=1e-9))


def flat_directions(effort: Effort, constant: Callable[..., bool] = _constant) -> Finding:
    """Redundant dimension ⇒ flat ḡ, on Böhning's bound of random last layers.

    Bare: any redundant unit, a copy of another included: refuted, ḡ rises along a copy's own μ. Corrected: along a
    unit that is always 0 or unheard; and for a copy, f_k = c·f_j with weights s·v_j, along c·s·e_j − e_k; not along an
    active unit.
    """
    rng = effort.rng("flat")
    bare, corrected = [], []
    for _ in range(effort.size(250, 2500)):
        d, classes, n = int(rng.integers(5, 12)), int(rng.integers(2, 6)), 100
        f, weights = np.maximum(rng.standard_normal((n, d)), 0), rng.standard_normal((classes, d))
        c, s = rng.uniform(0.3, 3, 2)
        f[:, 1], weights[:, 1] = c * f[:, 0], s * weights[:, 0]  # a copy
        f[:, 2], weights[:, 3] = 0.0, 0.0  # a unit that is always 0; one that nobody hears
        problem = SoftmaxLoss(weights, rng.standard_normal(classes), f, rng.integers(classes, size=n), 0.05)
        bound, axis = problem.bound_at(rng.standard_normal(d)), np.eye(d)
        for j, words in ((1, "along the mean of a copy"), (2, "a unit that is 0"), (3, "an unheard unit")):
            bare.append((constant(bound, axis[j], rng), f"{words}: ḡ is not flat"))
        for direction in (axis[2], axis[3], c * s * axis[0] - axis[1]):
            corrected.append((constant(bound, direction, rng), "not flat"))
        corrected.append((not constant(bound, axis[4], rng), "flat along an active dimension"))
    return Finding(Tally.of(bare), Tally.of(corrected))


def _activations(net: nn.Module, x: torch.Tensor, layer: int) -> torch.Tensor:
    """f [N, d] of h`layer`, before its gate, the gates before it at their masked means."""
    with torch.no_grad():
        for name, module in net.eval().named_children():
            if name == f"h{layer}":
                break
            x = module(x)
    return x


def _next(net: nn.Module, x: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Mean [N, k] and covariance [N, k, k] of what h`layer` sends on, given the units before; Σ ½ log(1+α) of it."""
    gate, linear = vib_gates(net)[f"h{layer}"], _linear(net, layer + 1)
    with torch.no_grad():
        f = _activations(net, x, layer)
        mu, sigma = gate.mu * gate.active, gate.sigma * gate.active
        spread = linear.weight * (f * sigma)[:, None, :]
        alpha = (mu / sigma)[gate.active] ** 2
        mean = (f * mu) @ linear.weight.T + linear.bias
        return mean, spread @ spread.transpose(1, 2), float(0.5 * torch.log1p(alpha).sum())


def merging(effort: Effort) -> Finding:
    """T4b: two proportional units become one: same mean, no more covariance, strictly less information.

    Of the next pre-activation, example by example, from both networks' own weights and gates; in either hidden layer.
    """
    rng = effort.rng("T4b")
    outcomes, margin, saved, silent = [], np.inf, np.inf, 0
    for index in range(effort.size(75, 750)):
        net, x = _network(rng, (6, 9, 7, 3))
        layer = 1 + index % 2
        first, second = (int(j) for j in rng.choice(9 if layer == 1 else 7, 2, replace=False))
        gate, linear = vib_gates(net)[f"h{layer}"], _linear(net, layer)
        with torch.no_grad():
            c = float(np.exp(rng.normal()))
            for parameter in (linear.weight, linear.bias):
                parameter[second] = c * parameter[first]
            gate.mu[[first, second]] = torch.tensor(rng.uniform(0.5, 2, 2) * rng.choice([-1, 1], 2))
            gate.log_var[[first, second]] = torch.tensor(rng.uniform(-7, -1.5, 2))  # α > 1: only kept units are merged
            linear.bias[[first, second]] += torch.tensor([0.2, 0.2 * c], dtype=torch.float64)
        if not _activations(net, x, layer)[:, first].any():
            silent += 1
            continue
        merged, report = merge_redundant(net, x)
        (mean, covariance, before), (new_mean, new_covariance, after) = (
            _next(each, x, layer) for each in (net, merged)
        )
        scale = float(covariance.diagonal(dim1=1, dim2=2).max())
        least = float(torch.linalg.eigvalsh(covariance - new_covariance).min()) / scale
        margin, saved = min(margin, least), min(saved, before - after)
        same = bool(torch.allclose(mean, new_mean, rtol=1e-9, atol=1e-9))
        held = report.status == "proved" and report.closed == 1 and same and least > -1e-12 and after < before
        outcomes.append((held, str(report)))
    evidence = {"least covariance margin": margin, "least information saved (nats)": saved,
                "left out: a pair that is always 0": silent}  # fmt: skip
    return Finding(Tally.of(outcomes, independent=True), evidence=evidence)
