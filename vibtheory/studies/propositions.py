"""Props 1 and 2 decided on a network (docs/theory.md T4): kill a unit, keep training the gates, and watch its α.

Prop 2: nothing downstream listens (outgoing weights are 0). Prop 1: the unit says nothing (f ≡ 0). In both the
data term has gradient exactly 0 at that gate, and the price of information alone moves it: ∂/∂log σ² = −½γα/(1+α) < 0
wherever α > 0, so α falls and no stationary point has α > 0 with 0 < σ < ∞.

A unit with f ≡ c ≠ 0 is different: it is a bias in disguise (`theory.silent_gate.constant_unit`). Where the next layer
has a bias, `absorb_constant_unit` moves it there at no loss: Prop 1 holds at global minima.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import as_positive, as_whole, check_choice, reject
from vibtheory.networks.gates import objective, vib_gates
from vibtheory.networks.streams import random_stream
from vibtheory.networks.units import FeedingGate, gated_layers, inputs_of
from vibtheory.storage.report import Report

__all__ = ["ConstantUnitReport", "DeadUnitReport", "absorb_constant_unit", "check_dead_unit"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DeadUnitReport(Report):
    """What happened to a killed unit while the gates went on training.

    Attributes:
        verdict: "α falls" or "α does not fall".
        proposition: 2 (outgoing weights 0) or 1 (f ≡ 0).
        layer, unit: which gate.
        alpha: α before the first step and after each [steps + 1].
        mu, log_variance: the gate's own coordinates, likewise.
        data_gradient: largest |∂ loss/∂(μ, log σ²)| of the data term at that gate over all steps; 0 exactly in theory.
        gamma: the price at that gate, nats per ½log(1+α), multiplier included.
    """

    verdict: Literal["α falls", "α does not fall"]
    proposition: Literal[1, 2]
    layer: str
    unit: int
    alpha: Array
    mu: Array
    log_variance: Array
    data_gradient: float
    gamma: float

    @property
    def drift(self) -> float:
        """Largest change of μ² + 4 log σ², which gradient flow in (μ, log σ²) conserves; small for small SGD steps."""
        invariant = self.mu**2 + 4 * self.log_variance
        return float(np.abs(invariant - invariant[0]).max())

    def __str__(self) -> str:
        return (
            f"Prop {self.proposition} at {self.layer}[{self.unit}]: {self.verdict}: {self.alpha[0]:.4g} -> "
            f"{self.alpha[-1]:.4g} in {len(self.alpha) - 1} steps; largest data gradient {self.data_gradient:.1e}"
        )


@dataclass(frozen=True)
class ConstantUnitReport:
    """A unit with f ≡ c moved into the next layer's bias.

    Attributes:
        status: "absorbed" (loss no higher, information lower) or "not lower" (the unit cost nothing).
        constant: c. shift: z*, the gate's value that was fixed.
        loss_before: E_z of the data term over this gate (Gauss–Hermite), the others at their means, nats.
        loss_after: the data term with the unit absorbed, nats.
        information_before, information_after: multiplier · ½log(1+α) of the unit, nats.
    """

    status: Literal["absorbed", "not lower"]
    constant: float
    shift: float
    loss_before: float
    loss_after: float
    information_before: float
    information_after: float

    def __str__(self) -> str:
        return (
            f"constant unit f = {self.constant:.4g}: {self.status} at z = {self.shift:.4g}; "
            f"loss {self.loss_before:.6g} -> {self.loss_after:.6g}, "
            f"information {self.information_before:.4g} -> {self.information_after:.4g} nats"
        )


def check_dead_unit(
    net: nn.Module,
    data: Dataset | tuple[Tensor, Tensor],
    layer: str,
    unit: int,
    *,
    gamma: float | None = None,
    steps: int = 200,
    learning_rate: float = 0.02,
    optimizer: str = "adam",
    proposition: Literal[1, 2] = 2,
    batch_size: int = 256,
    seed: int = 0,
) -> DeadUnitReport:
    """Kill one unit of a copy of `net`, train all gates (weights frozen) on `objective`, and record that unit's α.

    Args:
        net: a gated Sequential; it is not changed.
        data: a Dataset (its training set), or (inputs, labels): int64 labels: cross-entropy, float: squared error/2.
        layer, unit: the unit; the layer must feed an affine layer.
        gamma: training price γ > 0; None takes the one recorded with a trained network.
        steps: optimiser steps. learning_rate: > 0. optimizer: "adam" or "sgd".
        proposition: 2 zeroes the outgoing weights; 1 makes f ≡ 0 by zeroing the weights upstream of a ReLU.
        batch_size, seed: of the batches and of the gates' noise.

    Raises:
        InvalidInputError: no such layer or unit, no γ, a setting out of range, or for Prop 1 no linear layer or
            convolution followed by a ReLU before the gate.
    """
    check_choice("optimizer", optimizer, ("adam", "sgd"))
    check_choice("proposition", str(proposition), ("1", "2"))
    as_whole("steps", steps, 1)
    as_whole("batch_size", batch_size, 1)
    rate = float(as_positive("learning_rate", learning_rate, ()))
    inputs, labels = _examples(data)
    price = _price(net, gamma)
    killed = copy.deepcopy(net)
    target = gated_layers(killed, layer)[0][0]
    gate = target.gate
    if not 0 <= unit < gate.features:
        reject("unit", unit, f"an index in [0, {gate.features})", f"choose a unit of layer {layer}")
    if not bool(gate.active[unit]):
        reject("unit", f"{unit}, which is closed for good", "an open unit", "choose a unit whose gate is active")
    _kill(target, unit, proposition)

    killed.train(False)  # BatchNorm and dropout as in eval; only the gates sample
    gates = vib_gates(killed)
    for parameter in killed.parameters():
        parameter.requires_grad_(False)
    trained = [p for each in gates.values() for p in (each.mu, each.log_var)]
    for parameter in trained:
        parameter.requires_grad_(True)
    for each in gates.values():
        each.train()
    step = (torch.optim.Adam if optimizer == "adam" else torch.optim.SGD)(trained, lr=rate)
    device = gate.mu.device
    history = [_coordinates(target, unit)]
    largest = 0.0
    with random_stream(seed, "training with a dead gate", device):
        for _ in range(steps):
            chosen = torch.randint(len(inputs), (min(batch_size, len(inputs)),))
            loss = _loss(killed(inputs[chosen].to(gate.mu)), labels[chosen].to(device))
            own = torch.autograd.grad(loss, [gate.mu, gate.log_var], retain_graph=True)
            largest = max(largest, *(abs(float(g[unit])) for g in own))
            step.zero_grad()
            objective(loss, gates, price).backward()  # type: ignore[no-untyped-call]
            step.step()
            history.append(_coordinates(target, unit))
    mu, log_variance = np.array(history).T
    alpha = mu**2 * np.exp(-log_variance)
    own_price = price[layer] if isinstance(price, dict) else price
    verdict: Literal["α falls", "α does not fall"] = "α falls" if alpha[-1] < alpha[0] else "α does not fall"
    return DeadUnitReport(
        verdict, proposition, layer, unit, alpha, mu, log_variance, largest, own_price * gate.multiplier
    )


def absorb_constant_unit(
    net: nn.Module, data: Dataset | tuple[Tensor, Tensor], layer: str, unit: int, *, tolerance: float = 1e-5
) -> tuple[nn.Module, ConstantUnitReport]:
    """Move a unit with f ≡ c into the next layer's bias and close its gate (T4, Prop 1 at a global minimum).

    E_z loss is an average over z, so some z* does at least as well: the mean where the loss is convex in the next
    pre-activation, else the best quadrature node. The bias takes w·c·z*. Works on a copy.

    Args:
        net: a gated Sequential; data, layer, unit: as in `check_dead_unit`.
        tolerance: max − min of f over the data, relative to |c|.

    Raises:
        InvalidInputError: no such layer or unit, f not constant on the data (or constantly 0), or the next layer is no
            linear layer with a bias.
    """
    inputs, labels = _examples(data)
    absorbed = copy.deepcopy(net)
    target = gated_layers(absorbed, layer)[0][0]
    if not 0 <= unit < target.gate.features:
        reject("unit", unit, f"an index in [0, {target.gate.features})", f"choose a unit of layer {layer}")
    if not isinstance(target.affine, nn.Linear) or target.affine.bias is None:
        reject("layer", f"{layer!r}, followed by {target.affine}", "a linear layer with a bias after the gate",
               "without a bias Prop 1 can fail: see theory.silent_gate.constant_unit")  # fmt: skip
    f = np.concatenate([batch[:, unit] for batch in target.activations(inputs, 1024)])
    constant = float(f.mean())
    if constant == 0 or np.ptp(f) > tolerance * abs(constant):
        reject("unit", f"f from {f.min():.4g} to {f.max():.4g}", "f constant and not 0 on the data",
               "Prop 2 and f = 0 are check_dead_unit's")  # fmt: skip
    gate, affine = target.gate, target.affine
    mu, log_variance = _coordinates(target, unit)
    nodes, masses = np.polynomial.hermite_e.hermegauss(41)
    z = np.append(mu + np.exp(0.5 * log_variance) * nodes, mu)
    column = target.columns()[:, unit, :].detach().sum(dim=1)  # f ≡ c at every position: their weights add up
    with torch.no_grad():
        original = affine.bias.clone()
        gate.close(torch.tensor([unit]))
        losses = []
        absorbed.eval()
        for value in z:
            affine.bias.copy_(original + column * (constant * float(value)))
            losses.append(_mean_loss(absorbed, inputs, labels))
        best = int(np.argmin(losses))
        affine.bias.copy_(original + column * (constant * float(z[best])))
        target.columns()[:, unit] = 0.0
        gate.mu[unit] = 0.0
    before = float(masses @ np.array(losses[:-1]) / masses.sum())
    information = 0.5 * gate.multiplier * float(np.log1p(mu**2 * np.exp(-log_variance)))
    status: Literal["absorbed", "not lower"] = "absorbed" if losses[best] <= before and information > 0 else "not lower"
    absorbed.train(net.training)
    return absorbed, ConstantUnitReport(status, constant, float(z[best]), before, losses[best], information, 0.0)


def _kill(target: FeedingGate, unit: int, proposition: int) -> None:
    with torch.no_grad():
        if proposition == 2:
            target.columns()[:, unit] = 0.0
            return
        weighted = [m for m in target.upstream if isinstance(m, nn.Linear | nn.Conv2d)]
        last = weighted[-1] if weighted else None
        after = target.upstream[target.upstream.index(last) + 1 :] if last is not None else ()
        if (
            last is None
            or last.weight.shape[0] != target.gate.features
            or not any(isinstance(m, nn.ReLU) for m in after)
        ):
            reject("proposition", "1", "a linear layer or convolution and a ReLU right before the gate",
                   "choose another layer, or proposition=2")  # fmt: skip
        last.weight[unit] = 0.0
        if last.bias is not None:
            last.bias[unit] = -1.0  # ReLU(−1) = 0
        for module in after:
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight[unit], module.bias[unit] = 0.0, -1.0


def _price(net: nn.Module, gamma: float | None) -> float | dict[str, float]:
    if gamma is None:
        recorded = getattr(net, "vib_config", None)
        gamma = recorded.get("gamma") if isinstance(recorded, dict) else None
        if gamma is None:
            reject("gamma", None, "a price γ > 0", "pass gamma=…: this network has no recorded one")
    if isinstance(gamma, dict):
        return {name: float(as_positive(f"gamma[{name!r}]", value, ())) for name, value in gamma.items()}
    return float(as_positive("gamma", gamma, ()))


def _examples(data: Dataset | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    if isinstance(data, Dataset):
        return inputs_of(data), torch.from_numpy(np.asarray(data.y_train))
    if not (isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)):
        reject("data", type(data).__name__, "a Dataset or (inputs, labels)", "pass two tensors of the same length")
    if len(data[0]) != len(data[1]):
        reject("data", f"{len(data[0])} inputs, {len(data[1])} labels", "as many labels as inputs", "check the labels")
    return inputs_of(data[0]), data[1]


def _loss(output: Tensor, labels: Tensor) -> Tensor:
    if labels.is_floating_point():
        return 0.5 * ((output - labels.to(output)) ** 2).flatten(1).sum(dim=1).mean()
    return nn.functional.cross_entropy(output, labels)


def _mean_loss(net: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    total = 0.0
    parameter = next(net.parameters())
    for start in range(0, len(inputs), 4096):
        x, y = inputs[start : start + 4096].to(parameter), labels[start : start + 4096].to(parameter.device)
        total += float(_loss(net(x).double(), y)) * len(x)
    return total / len(inputs)


def _coordinates(target: FeedingGate, unit: int) -> tuple[float, float]:
    """(μ, log σ²) of one gate."""
    return float(target.gate.mu[unit].detach()), float(target.gate.log_var[unit].detach())
