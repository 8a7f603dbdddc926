"""Checkpoints and a run that version 1 of the format wrote (recorded/) load, resume and end as they would have then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vibtheory import networks
from vibtheory.datasets.dataset import from_arrays
from vibtheory.networks.gates import named_gates
from vibtheory.training.run import load
from vibtheory.training.single import train

RECORDED = Path(__file__).parent / "recorded"
RECIPE: dict[str, Any] = {
    "epochs": 6, "pretrain_epochs": 2, "batch_size": 8, "gamma": 1e-3, "gate_learning_rate": 0.3, "shift": 1,
    "distill": 0.3, "prune_every": 2, "initial_log_variance": -3.0,
}  # fmt: skip
_RNG = np.random.default_rng(2)
_X = _RNG.normal(scale=2.0, size=(30, 1, 3, 3)).astype(np.float32)
_X[:, :, 0] = 0
_Y = (_X[:, 0, 2, 2] > _X[:, 0, 1, 1]).astype(int)
DATA = from_arrays(_X[:20], _Y[:20], _X[20:], _Y[20:])


def _net() -> nn.Sequential:
    torch.manual_seed(6)
    return networks.mlp((9, 4, 2))


def _history(folder: Path, key: str) -> Any:
    return json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))[key]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECORDED / "stopped", tmp_path / "stopped"))


def test_a_saved_run_loads() -> None:
    run = load(RECORDED / "run")
    assert (run.status, run.seed, run.recipe.gamma, len(run.rows)) == ("completed", 3, 1e-3, 8)
    assert {name: int(gate.active.sum()) for name, gate in named_gates(run.net).items()} == {"input": 5, "h1": 2}


def test_a_stopped_run_goes_on(stopped: Path) -> None:
    """From epoch 5 of 8, cut to its open units; the saved run is the same one undisturbed, by the code of then."""
    before = _history(stopped, "history")
    assert len(before) == 5
    epochs: list[int] = []
    run = train(
        _net(), DATA, seed=3, device="cpu", checkpoint=stopped, on_epoch=lambda _, n: epochs.append(n), **RECIPE
    )
    assert epochs == [6, 7, 8]
    assert run.rows[:5] == before
    then = load(RECORDED / "run")
    for name, tensor in then.net.state_dict().items():  # another machine's rounding is let through
        torch.testing.assert_close(run.net.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    assert [row["kept_input"] for row in run.rows] == [row["kept_input"] for row in then.rows]
