"""Runs that earlier versions recorded (folder `recorded`) are still read, resumed, merged, and told apart.

The folder holds what `_sweep` and `_table` below left when the format was first committed: of each, a run that ended
and one that Ctrl-C stopped (in its third epoch). Checkpoints and nets that no test reads were deleted.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import vibtheory as vt
from vibtheory import datasets
from vibtheory.datasets import Dataset, from_arrays

RECORDED = Path(__file__).parent / "recorded"
PLAN = """
table = 1
network = "mlp"
arguments = { sizes = [6, 4, 2] }
dataset = "mnist"
[recipe]
gamma = 1e-3
epochs = 3
pretrain_epochs = 1
batch_size = 20
[finetune]
epochs = 1
batch_size = 20
[quick]
seeds = [0]
[full]
seeds = [1]
[curve]
seeds = [2]
gammas = [1e-2]
recipe = { epochs = 1 }
"""


def _data() -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 6)) * [1.0, 3.0, 0.2, 1.0, 1.0, 1.0]
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    return from_arrays(x[:40], y[:40], x[40:], y[40:], name="mnist")


def _sweep(out: Path, gamma: float) -> Any:
    return vt.sweep(
        gammas=[gamma], seeds=[3], dataset=_data(), network={"builder": "mlp", "arguments": {"sizes": [6, 4, 2]}},
        epochs=3, record=[1], estimators=[("variational",), ("gaussian", 0.7)], n=30, device="cpu", out=out,
        recipe={"batch_size": 20, "gate_learning_rate": 0.1, "prune_every": 1},
    )  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(RECORDED, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load", lambda name: _data())
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # threads of each run
    return tmp_path
