"""The run's optimizer against torch's own Adam and SGD, bit for bit, and what a checkpoint keeps of it."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

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
