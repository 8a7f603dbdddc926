"""`compress_to`: budgets met, outputs by the model's own forward pass, resumed to the same result, refusals."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import vibtheory as vt
from vibtheory.errors import CheckpointError, InvalidInputError
from vibtheory.storage import read_sealed, write_sealed
from vibtheory.training import budget as module


@pytest.fixture(scope="module")
def data() -> vt.datasets.Dataset:
    """Three blobs in 12 dimensions, of which 4 say something."""
    rng = np.random.default_rng([5, 5])
    centre = np.zeros((3, 12))
    centre[:, :4] = 3 * rng.standard_normal((3, 4))
    y = np.arange(900) % 3
    x = centre[y] + rng.standard_normal((900, 12))
    return vt.datasets.from_arrays(x[:700], y[:700], x[700:], y[700:], name="blobs")


@pytest.fixture(scope="module")
def model(data: vt.datasets.Dataset) -> nn.Module:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 3))
    vt.train(net, data, gamma=0.0, epochs=4, batch_size=50, learning_rate=3e-3)
    return net.eval()


SHORT = {"epochs": 3, "fine_tune_epochs": 1, "trials": 4, "recipe": vt.Recipe(batch_size=50, gate_learning_rate=0.05)}


@pytest.fixture(scope="module")
def small(model: nn.Module, data: vt.datasets.Dataset) -> module.CompressedModel:
    return vt.compress_to(model, data, r_w=40.0, **SHORT)


def test_with_distill_the_model_as_given_is_the_teacher(model: nn.Module, data: vt.datasets.Dataset) -> None:
    """At distill=1 labels play no part where the budget is a size: wrong ones give the same bits."""
    wrong = vt.datasets.from_arrays(data.x_train, 2 - data.y_train, data.x_test, data.y_test)
    options = SHORT | {"trials": 2, "recipe": vt.Recipe(batch_size=50, gate_learning_rate=0.05, distill=1.0)}
    nets = [vt.compress_to(model, part, r_w=40.0, **options).net for part in (data, wrong)]
    for ours, theirs in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(ours, theirs)
    with torch.no_grad():
        same = nets[1](torch.as_tensor(data.x_test)).argmax(1) == model(torch.as_tensor(data.x_test)).argmax(1)
    assert same.double().mean() > 0.9  # what learns the wrong labels agrees on a third


def test_a_budget_of_weights_is_met_by_the_lowest_price_that_meets_it(small, model, data):
    assert small.met
    assert small.status == "r_W ≤ 40 %: met"
    weights = [sum(p.numel() for p in net.parameters() if p.ndim > 1) for net in (small.net, model)]
    assert 100 * weights[0] / weights[1] == pytest.approx(small.size.r_w)
    assert small.size.r_w <= 40
    meeting = [trial.gamma for trial in small.trials if trial.status == "completed" and trial.r_w <= 40]
    assert small.gamma == min(meeting)
    assert len(small.trials) == 4
    with torch.no_grad():  # its error by its own forward pass
        wrong = small.net(torch.as_tensor(data.x_test)).argmax(1).numpy() != data.y_test
    assert small.after.error == pytest.approx(100 * wrong.mean())
    assert small.after.error <= 10  # of three far blobs; guessing errs at 67 %
    assert small.before.error == vt.metrics.error(model, data.x_test, data.y_test)
    assert not vt.gates.named_gates(small.net)
    assert "as given" in str(small)
    assert small.to_dict()["trials"][0]["gamma"] == small.trials[0].gamma


def test_the_given_model_is_unchanged(model, data):
    before = copy.deepcopy(model.state_dict())
    vt.compress_to(model, data, flop=60.0, **(SHORT | {"trials": 1, "epochs": 1}))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_budget_of_error_takes_the_highest_price(model, data):
    found = vt.compress_to(model, data, error=12.0, **SHORT)
    assert found.met
    meeting = [trial.gamma for trial in found.trials if trial.status == "completed" and trial.error <= 12]
    assert found.gamma == max(meeting)


def test_stopped_and_called_again_it_ends_with_the_same_result(small, model, data, tmp_path, monkeypatch):
    own, calls = module.train, []

    def train(*given, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return own(*given, **options)

    monkeypatch.setattr(module, "train", train)
    with pytest.raises(KeyboardInterrupt):
        vt.compress_to(model, data, r_w=40.0, checkpoint=tmp_path, **SHORT)
    again = vt.compress_to(model, data, r_w=40.0, checkpoint=tmp_path, **SHORT)
    assert again.to_dict() == small.to_dict()
    for one, other in zip(again.net.parameters(), small.net.parameters(), strict=True):
        assert torch.equal(one, other)

    other = copy.deepcopy(model)
    other[0].bias.data[0] += 1e-7
    with pytest.raises(CheckpointError, match=r"goes on from other weights than the model's.*Remedy"):
        vt.compress_to(other, data, r_w=40.0, checkpoint=tmp_path, **SHORT)
    for changes, words in (
        ({"law": "l0"}, "goes on from other gates,"),
        ({"threshold": 2.0}, "goes on from other gates,"),
        ({"r_w": 30.0}, "goes on from another budget,"),
        ({"held_out": 60}, "goes on from another held_out,"),
        ({"r_w": None, "flop": 40.0, "law": "l0"}, "goes on from other gates, another budget,"),
    ):
        with pytest.raises(CheckpointError, match=words):
            vt.compress_to(model, data, checkpoint=tmp_path, **(SHORT | {"r_w": 40.0} | changes))


def test_more_trials_in_the_same_folder_are_fine_tuned_from_their_own_choice(model, data, tmp_path):
    """With one trial its price is chosen, with four another: the net is that of a call without a folder."""
    one = vt.compress_to(model, data, error=12.0, checkpoint=tmp_path, **(SHORT | {"trials": 1}))
    more = vt.compress_to(model, data, error=12.0, checkpoint=tmp_path, **SHORT)
    alone = vt.compress_to(model, data, error=12.0, **SHORT)
    assert one.gamma != more.gamma
    assert more.to_dict() == alone.to_dict()
    assert all(torch.equal(p, q) for p, q in zip(more.net.parameters(), alone.net.parameters(), strict=True))


def test_a_folder_of_before_goes_on(small, model, data, tmp_path):
    """Its model.json has the weights' checksums only."""
    vt.compress_to(model, data, r_w=40.0, checkpoint=tmp_path, **(SHORT | {"trials": 1}))
    found = read_sealed(tmp_path / "model.json")
    write_sealed(tmp_path / "model.json", {"checksums": found["checksums"]})
    again = vt.compress_to(model, data, r_w=40.0, checkpoint=tmp_path, **SHORT)
    assert again.to_dict() == small.to_dict()


def test_what_cannot_be_met_is_said(model, data):
    found = vt.compress_to(model, data, r_w=0.001, **(SHORT | {"trials": 3}))
    assert not found.met
    closed = sum(trial.status == "collapsed" for trial in found.trials)
    why = f", {closed} of which closed a whole layer" if closed else ""
    assert f"not met by any of 3 prices{why}; allow more" in found.status
    assert found.size.r_w == min(trial.r_w for trial in found.trials if trial.status == "completed")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"budget: got none, expected exactly one of r_w, flop, error"),
        ({"r_w": 10.0, "flop": 10.0}, r"budget: got r_w, flop"),
        ({"r_w": 0.0}, r"r_w: got 0.0, expected a number between 0 and 100"),
        ({"error": "a"}, r"error: got str"),
        ({"r_w": 10.0, "trials": 0}, r"trials: got 0"),
        ({"r_w": 10.0, "epochs": 1.5}, r"^epochs: got 1.5"),
        ({"r_w": 10.0, "fine_tune_epochs": -1}, r"fine_tune_epochs: got -1, expected an integer >= 0.*use 0 for none"),
        ({"r_w": 10.0, "recipe": {}}, r"recipe: got a dict"),
        ({"r_w": 10.0, "checkpoint": 5}, r"checkpoint: got 5"),
        ({"r_w": 10.0, "held_out": 900}, r"held_out: got 900"),
    ],
)
def test_refusals(model, data, given, message):
    with pytest.raises(InvalidInputError, match=message):
        vt.compress_to(model, data, **given)
    with pytest.raises(InvalidInputError, match=r"model: got the class Linear, expected a torch.nn.Module"):
        vt.compress_to(nn.Linear, data, r_w=10.0)


def test_regression_has_no_error(model, data):
    targets = np.zeros((700, 3)), np.zeros((200, 3))
    numbers = vt.datasets.from_arrays(data.x_train, targets[0], data.x_test, targets[1], likelihood="gaussian")
    with pytest.raises(InvalidInputError, match=r"error: got a budget for regression"):
        vt.compress_to(model, numbers, error=5.0)


def test_too_few_steps_are_told_from_too_small_a_budget(model, data):
    """Two steps an epoch: no price closes a gate, and more prices would not."""
    few = data.subset(180)
    found = vt.compress_to(model, few, r_w=40.0, epochs=2, fine_tune_epochs=0, trials=3)
    assert not found.met
    assert {trial.r_w for trial in found.trials} == {100.0}
    assert "no gate closed at any of 3 prices; train for more steps" in found.status
    closed = replace(found, trials=(*found.trials, replace(found.trials[0], r_w=60.0)))
    assert "not met by any of 4 prices" in closed.status
    recipe = vt.Recipe(batch_size=10, gate_learning_rate=0.3)
    assert vt.compress_to(model, few, r_w=40.0, epochs=5, fine_tune_epochs=0, trials=3, recipe=recipe).met
