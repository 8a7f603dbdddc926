"""The run's optimizer against torch's own Adam and SGD, bit for bit, and what a checkpoint keeps of it."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vibtheory as vt
from vibtheory.training.optimizer import Optimizer, load_optimizer, optimizer_tensors
from vibtheory.training.recipe import Recipe

RULES: tuple[Literal["adam", "sgd"], ...] = ("adam", "sgd")
STEPS = 6


def _recipe(rule: Literal["adam", "sgd"]) -> Recipe:
    return Recipe(
        weight_optimizer=rule, learning_rate=0.03, weight_decay=0.01, gate_learning_rate=0.2, gate_weight_decay=0.004
    )


def _parameters() -> list[nn.Parameter]:
    """Two weights, one in another memory layout; a gate's two; one weight that never has a gradient."""
    torch.manual_seed(3)
    wide = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    return [nn.Parameter(v) for v in (torch.randn(5, 4), wide, torch.randn(5), torch.randn(5), torch.randn(2))]


def _gradients(parameters: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for k, parameter in enumerate(parameters[:4]):
        late = k == 3 and step < 2  # its gradient begins later than the others'
        parameter.grad = None if late else torch.randn(parameter.shape, generator=generator)


def _references(rule: str, parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    weights, gates = [*parameters[:2], parameters[4]], parameters[2:4]
    second = torch.optim.Adam(gates, lr=0.2, weight_decay=0.004, fused=True)
    if rule == "adam":
        return [torch.optim.Adam(weights, lr=0.03, weight_decay=0.01, fused=True), second]
    return [torch.optim.SGD(weights, lr=0.03, weight_decay=0.01, momentum=0.9, nesterov=True, fused=True), second]


@pytest.mark.parametrize("rule", RULES)
def test_steps_are_those_of_torch(rule: Literal["adam", "sgd"]) -> None:
    ours, theirs = _parameters(), _parameters()
    optimizer, references = Optimizer(ours, ours[2:4], _recipe(rule)), _references(rule, theirs)
    start = [p.detach().clone() for p in ours]
    for step in range(STEPS):
        _gradients(ours, step)
        _gradients(theirs, step)
        optimizer.step()
        for reference in references:
            reference.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)), step
    moved = [not torch.equal(a, b) for a, b in zip(start, ours, strict=True)]
    assert moved == [True, True, True, True, False]


@pytest.mark.parametrize("rule", RULES)
def test_continued_from_a_checkpoint(rule: Literal["adam", "sgd"]) -> None:
    whole, half = _parameters(), _parameters()
    names = [str(k) for k in range(5)]
    first, second = (Optimizer(p, p[2:4], _recipe(rule)) for p in (whole, half))
    for step in range(STEPS):
        _gradients(whole, step)
        first.step()
        if step < 3:
            _gradients(half, step)
            second.step()
    kept = {k: v.clone() for k, v in optimizer_tensors(second, dict(zip(names, half, strict=True))).items()}
    third = Optimizer(half, half[2:4], _recipe(rule))
    load_optimizer(third, dict(zip(names, half, strict=True)), kept)
    for step in range(3, STEPS):
        _gradients(half, step)
        third.step()
    assert all(torch.equal(a, b) for a, b in zip(whole, half, strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_another_rules_state_is_refused(rule: Literal["adam", "sgd"]) -> None:
    parameters = _parameters()
    names: dict[str, Tensor] = dict(zip("abcde", parameters, strict=True))
    other = Optimizer(parameters, parameters[2:4], _recipe("sgd" if rule == "adam" else "adam"))
    _gradients(parameters, 2)
    other.step()
    kept = optimizer_tensors(other, names)
    with pytest.raises(ValueError, match="incomplete"):
        load_optimizer(Optimizer(parameters, parameters[2:4], _recipe(rule)), names, kept)


@pytest.mark.parametrize("rule", RULES)
def test_complex_weights_step_as_torchs(rule: Literal["adam", "sgd"]) -> None:
    """Torch's fused steps refuse them, and so did the checkpoint of such a net when it was continued."""
    torch.manual_seed(4)
    start, pulls = torch.randn(2, 3, dtype=torch.complex64), torch.randn(STEPS, 2, 3, dtype=torch.complex64)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = Optimizer([ours], [], _recipe(rule))
    kinds = {"adam": torch.optim.Adam, "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True)}
    reference = kinds[rule]([theirs], lr=0.03, weight_decay=0.01, foreach=False)
    for step, pull in enumerate(pulls):
        if step == 3:
            kept = {k: v.clone() for k, v in optimizer_tensors(optimizer, {"w": ours}).items()}
            optimizer = Optimizer([ours], [], _recipe(rule))
            load_optimizer(optimizer, {"w": ours}, kept)
        ours.grad, theirs.grad = pull.clone(), pull.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs)
    assert not torch.equal(ours, start)


class Spectrum(nn.Module):
    """A complex filter, which its parameters begin with."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(4, dtype=torch.complex64))
        self.b = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=6)))


def test_a_net_with_complex_weights_takes_real_inputs() -> None:
    """They were cast to the first parameter's type."""
    torch.manual_seed(5)
    net, x, y = Spectrum(), torch.randn(30, 6), torch.arange(30) % 2
    data = vt.datasets.from_arrays(x, y, x, y)
    gated = vt.insert_gates(net, x)
    assert vt.train(gated, data, gamma=1e-3, epochs=2, batch_size=10, device="cpu").status == "completed"
    with torch.no_grad():
        logits = gated.eval()(x)
        entering = torch.relu(torch.fft.irfft(torch.fft.rfft(x) * gated.filter, n=6))
    loss = float(nn.functional.cross_entropy(logits, y))
    assert vt.metrics.evaluate(gated, x, y).loss == pytest.approx(loss, rel=1e-5)
    (name,) = vt.gates.named_gates(gated)
    bound = vt.quadratic_bound(gated, data, name)
    assert bound.guarantee.kind == "bohning"
    assert bound.value(bound.trained_mu[None]) == pytest.approx(loss, rel=1e-5)
    assert vt.verify_bound(bound, gated, data, samples=50).violations == 0
    assert np.allclose(vt.layer_law(gated, x, name).f, entering, atol=1e-5)
