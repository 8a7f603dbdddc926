"""Batched training is the sequential loop: same weights when the noise is shared, same history, same refusals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vibtheory import networks
from vibtheory.datasets.dataset import from_arrays
from vibtheory.errors import CheckpointError, DivergedError, InvalidInputError
from vibtheory.networks.gates import Gate
from vibtheory.training.many import train_many
from vibtheory.training.recipe import Recipe
from vibtheory.training.run import Run
from vibtheory.training.single import train

RNG = np.random.default_rng(4)
X = RNG.normal(scale=2.0, size=(240, 1, 3, 3))
DATA = from_arrays(X[:160], X[:160, 0, 0].argmax(axis=1), X[160:], X[160:, 0, 0].argmax(axis=1))
REGRESSION = from_arrays(X[:160], X[:160, 0, 1, :2] * 3, X[160:], X[160:, 0, 1, :2] * 3, likelihood="gaussian")
QUICK: dict[str, Any] = {"epochs": 4, "pretrain_epochs": 1, "batch_size": 32, "device": "cpu"}
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def _build() -> nn.Sequential:
    return networks.mlp((9, 8, 3))


def _one(gamma: float, seed: int, **changes: Any) -> Run:
    with networks.random_stream(seed, networks.INITIAL_WEIGHTS):
        net = _build()
    return train(net, DATA, seed=seed, gamma=gamma, **{**QUICK, **changes})


def _assert_same(a: Run, b: Run) -> None:
    other = b.net.state_dict()
    for name, tensor in a.net.state_dict().items():
        torch.testing.assert_close(tensor, other[name], **TOLERANCE)
    assert len(a.rows) == len(b.rows)
    for first, second in zip(a.rows, b.rows, strict=True):
        for key in ("epoch", "phase", "error", "kept_input", "kept_h1", "r_w"):
            if "error" in first or key in ("epoch", "phase"):  # train_many counts units when it evaluates
                assert first[key] == second[key]
        assert ("error" in first) == ("error" in second)
        assert first["cross_entropy"] == pytest.approx(second["cross_entropy"], rel=1e-4)
    assert (a.seed, a.status, a.message, a.data) == (b.seed, b.status, b.message, b.data)
    assert a.recipe == b.recipe
    assert a.net.vib_config == b.net.vib_config


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "shift": {"shift": 1},
    "prices": {"warmup_epochs": 2, "relax_at": 0.6, "layer_weights": {"input": 2.0, "h1": 0.3}},
    "noisy gates, decay": {"initial_log_variance": -1.5, "gate_weight_decay": 0.2, "schedule": "cosine"},
    "rarely evaluated": {"evaluate_every": 3},
    "pretraining, rate down to 0": {"pretrain_epochs": 3, "pretrain_schedule": "cosine"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_one_pair_is_train(name: str) -> None:
    (many,) = train_many(_build, DATA, [(2e-3, 7)], share_noise=True, **{**QUICK, **OPTIONS[name]})
    _assert_same(many, _one(2e-3, 7, **OPTIONS[name]))


def test_shared_noise_is_the_sequential_loop_for_every_gamma() -> None:
    gammas = (0.0, 1e-3, 3e-2)
    many = train_many(_build, DATA, [(gamma, 5) for gamma in gammas], share_noise=True, **QUICK)
    for gamma, run in zip(gammas, many, strict=True):
        _assert_same(run, _one(gamma, 5))
    assert many[0].rows[-1]["information"] > many[2].rows[-1]["information"]


def test_seeds_decide_the_initial_weights_and_the_noise_differs() -> None:
    first, second, third = train_many(_build, DATA, [(1e-3, 1), (1e-3, 2), (1e-3, 1)], **QUICK)
    still = train_many(_build, DATA, [(1e-3, 1), (1e-3, 2)], **{**QUICK, "epochs": 0, "pretrain_epochs": 0})
    for seed, run in zip((1, 2), still, strict=True):
        with networks.random_stream(seed, networks.INITIAL_WEIGHTS):
            assert torch.equal(run.net.get_parameter("linear1.weight"), _build()[2].weight)
    weights = [run.net.get_parameter("linear1.weight") for run in (first, second, third)]
    assert (weights[0] - weights[1]).abs().max() > 0.1
    assert 1e-5 < (weights[0] - weights[2]).abs().max() < 0.1  # one start, one order, noise of its own


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(9)
    expected = torch.rand(2)
    torch.manual_seed(9)
    train_many(_build, DATA, [(1e-3, 1)], **QUICK)
    assert torch.equal(torch.rand(2), expected)


def test_regression() -> None:
    recipe = Recipe(epochs=12, batch_size=20, learning_rate=3e-2, gamma=1.0)
    many = train_many(lambda: networks.mlp((9, 8, 2)), REGRESSION, [(1e-4, 0), (1e-4, 1)], recipe, device="cpu")
    variance = 0.5 * REGRESSION.y_test.var(axis=0).sum()
    assert all(run.rows[-1]["test_loss"] < 0.2 * variance for run in many)
    assert all(run.rows[-1]["error"] is None and run.recipe.gamma == 1e-4 for run in many)


def test_pruning_closes_for_good_and_a_dead_layer_is_reported() -> None:
    changes = {**QUICK, "epochs": 12, "gate_learning_rate": 0.3, "prune_every": 1, "initial_log_variance": -3.0}
    alive, dead = train_many(_build, DATA, [(2e-3, 0), (1e3, 0)], share_noise=True, **changes)
    assert alive.status == "completed"
    assert int(alive.net.get_submodule("input").active.sum()) < 9
    assert dead.status == "collapsed"
    assert "survived; use a smaller gamma" in dead.message
    assert not alive.net.training


def test_divergence_names_the_pairs() -> None:
    with pytest.raises(DivergedError, match=r"gamma 0.25, seed 3.*Remedy"):
        train_many(_build, DATA, [(0.25, 3)], **{**QUICK, "learning_rate": 1e36})


BAD: dict[str, Any] = {
    "no pairs": lambda: train_many(_build, DATA, []),
    "negative seed": lambda: train_many(_build, DATA, [(1e-3, -1)]),
    "augment": lambda: train_many(_build, DATA, [(1e-3, 0)], augment="flip"),
    "initial_spread": lambda: train_many(_build, DATA, [(1e-3, 0)], initial_spread=0.1),
    "distill": lambda: train_many(_build, DATA, [(1e-3, 0)], distill=0.5, pretrain_epochs=1),
    "gamma per layer": lambda: train_many(_build, DATA, [(1e-3, 0)], gamma={"input": 1.0, "h1": 1.0}),
    "negative gamma": lambda: train_many(_build, DATA, [(-1e-3, 0)]),
    "evaluate_every": lambda: train_many(_build, DATA, [(1e-3, 0)], evaluate_every=0),
    "layer weights": lambda: train_many(_build, DATA, [(1e-3, 0)], layer_weights={"h1": 1.0}),
    "input width": lambda: train_many(lambda: networks.mlp((8, 3)), DATA, [(1e-3, 0)]),
    "outputs": lambda: train_many(lambda: networks.mlp((9, 2)), DATA, [(1e-3, 0)]),
    "device": lambda: train_many(_build, DATA, [(1e-3, 0)], device="tpu"),
    "unknown keyword": lambda: train_many(_build, DATA, [(1e-3, 0)], gama=1.0),
    "prune before a sigmoid": lambda: train_many(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 4), Gate(4), nn.Sigmoid(), nn.Linear(4, 3)),
        DATA,
        [(1e-3, 0)],
        prune_every=1,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    with pytest.raises(InvalidInputError, match="Remedy"):
        BAD[case]()


RESUMED: dict[str, Any] = {**QUICK, "epochs": 5, "shift": 1, "prune_every": 2, "gate_learning_rate": 0.15, "gamma": 0.0}
PAIRS = [(1e-3, 1), (3e-2, 2)]


def _many(folder: Path | None, **changes: Any) -> list[Run]:
    return train_many(_build, DATA, PAIRS, checkpoint=folder, **{**RESUMED, **changes})


@pytest.mark.parametrize("stop", [0, 1, 3, 6])
def test_a_stopped_batch_goes_on_to_the_same_bits(stop: int, tmp_path: Path) -> None:
    def show(nets: Sequence[nn.Module], done: int) -> None:
        assert not any(module.training for net in nets for module in net.modules())
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_many(_build, DATA, PAIRS, checkpoint=tmp_path, on_epoch=show, **RESUMED)
    seen: list[int] = []
    resumed = train_many(_build, DATA, PAIRS, checkpoint=tmp_path, on_epoch=lambda _, k: seen.append(k), **RESUMED)
    assert seen == list(range(stop if stop > 1 else 0, 7))  # the interrupted epoch's checkpoint was not written yet
    for one, other in zip(_many(None), resumed, strict=True):
        assert all(torch.equal(tensor, other.net.state_dict()[name]) for name, tensor in one.net.state_dict().items())
        drop = ("seconds",)
        for a, b in zip(one.rows, other.rows, strict=True):
            assert {k: v for k, v in a.items() if k not in drop} == {k: v for k, v in b.items() if k not in drop}
    again = _many(tmp_path)  # a finished batch is only read
    assert all(torch.equal(t, again[1].net.state_dict()[name]) for name, t in resumed[1].net.state_dict().items())


def test_a_batch_of_other_runs_is_refused(tmp_path: Path) -> None:
    _many(tmp_path)
    with pytest.raises(CheckpointError, match=r"its recipes differ.*Remedy"):
        _many(tmp_path, epochs=4)
    with pytest.raises(CheckpointError, match=r"its seeds differ"):
        train_many(_build, DATA, [(1e-3, 1), (3e-2, 3)], checkpoint=tmp_path, **RESUMED)
    path = tmp_path / "checkpoint.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    del plain["histories"], plain["checksum"]
    plain["checksum"] = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"cannot be continued.*Remedy"):
        _many(tmp_path)
