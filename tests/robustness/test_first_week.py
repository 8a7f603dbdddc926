"""What a beginner passes by mistake is named as what it is, and nothing of it is taken in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import vibtheory as vt
from vibtheory.studies.sweep_plan import SweepPlan

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
DATA = vt.datasets.from_arrays(X, Y, X, Y, name="mine")
EXAMPLE = torch.zeros(2, 6)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def gated() -> nn.Module:
    return vt.insert_gates(model(), EXAMPLE)


def spoiled(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        net[0].weight[0, 0] = torch.nan  # type: ignore[index]
    return net


def frozen(net: nn.Module) -> nn.Module:
    return net.requires_grad_(False)


NAN = "weights that are NaN.*0.weight"
MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "a name for a model": (lambda: vt.insert_gates("resnet", EXAMPLE), "model: got str"),
    "a class for a model": (lambda: vt.insert_gates(nn.ReLU, EXAMPLE), "model: got the class ReLU"),
    "a name for a net": (lambda: vt.compress("net"), "net: got str"),
    "nothing for a net": (lambda: vt.metrics.compression(None), "net: got NoneType"),
    "NaN in the example": (lambda: vt.insert_gates(model(), EXAMPLE * torch.nan), "example_input: got NaN"),
    "one row for a batch": (lambda: vt.insert_gates(model(), EXAMPLE[0]), r"example_input.*\[N, \.\.\.\]"),
    "gates a second time": (lambda: vt.insert_gates(gated(), EXAMPLE), "it has gates.*train it as it is"),
    "NaN weights, gates": (lambda: vt.insert_gates(spoiled(model()), EXAMPLE), NAN),
    "NaN weights, check": (lambda: vt.check_network(spoiled(gated()), DATA, gamma=1e-3), NAN),
    "NaN weights, trained": (lambda: vt.check_trained(spoiled(gated()), DATA, gamma=1e-3, draws=3), NAN),
    "lazy layers, check": (lambda: vt.check_network(nn.Sequential(nn.LazyLinear(2)), DATA, gamma=1.0), "net: got lazy"),
    "no values, check": (lambda: vt.check_network(model().to("meta"), DATA, gamma=1e-3), "net: got .* \"meta\""),
    "no values, gates": (lambda: vt.insert_gates(model().to("meta"), EXAMPLE), "model: got .* \"meta\""),
    "NaN weights, bits": (lambda: vt.information_of(spoiled(model()), X, Y, layer="1", noise=0.1), NAN),
    "frozen": (lambda: vt.train(frozen(gated()), DATA, gamma=1e-3, epochs=1), "net: got parameters.*all frozen"),
    "one example to hold out": (lambda: vt.compress_to(model(), DATA.subset(1), r_w=50.0, epochs=1), "held_out: got 1"),
    "data for dataset": (lambda: vt.sweep(gammas=[1e-3], data=DATA), "unknown data, expected some of gammas"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_as_what_it_is(mistake: str) -> None:
    call, words = MISTAKES[mistake]
    with pytest.raises(vt.errors.InvalidInputError, match=words):
        call()


def test_settings_beside_a_plan_are_not_dropped_in_silence(tmp_path: Path) -> None:
    part = vt.datasets.load("mnist").subset(50, 20)
    plan = SweepPlan(gammas=[1e-3], seeds=1, out=tmp_path, epochs=1, dataset=part, n=50)
    with pytest.raises(vt.errors.InvalidInputError, match="settings: got epochs, expected none beside a plan"):
        vt.sweep(plan, epochs=2)


def test_gates_alone_learn_over_frozen_weights_but_not_while_they_rest() -> None:
    net = vt.insert_gates(frozen(model()), EXAMPLE)
    before = {name: value.clone() for name, value in net.named_parameters()}
    vt.train(net, DATA, gamma=1e-3, epochs=1, seed=0, device="cpu")
    moved = {name for name, value in net.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"0_gate.mu", "0_gate.log_var"}
    with pytest.raises(vt.errors.InvalidInputError, match="in pretraining besides those of gates"):
        vt.train(net, DATA, gamma=1e-3, epochs=1, pretrain_epochs=1, seed=0, device="cpu")


@pytest.mark.parametrize("rows", [2, 9])
def test_few_examples_leave_one_to_judge_by(rows: int) -> None:
    small = vt.compress_to(model(), DATA.subset(rows), r_w=50.0, epochs=1, trials=1, fine_tune_epochs=0, device="cpu")
    assert small.trials[0].status in ("completed", "collapsed")


def test_sizes_of_a_net_without_gates_and_the_best_constant_of_one_class_print_as_numbers() -> None:
    assert str(vt.metrics.compression(model())).startswith("no gates: r_W 100.00 %")
    one = vt.datasets.from_arrays(X, 0 * Y, X, 0 * Y, name="one")
    assert "constant's is 0. " in str(vt.check_network(model(), one, gamma=1e-3))
