"""Runs that earlier versions recorded (folder `recorded`) are still read, resumed, merged, and told apart.

The folder holds what `_sweep` and `_table` below left when the format was first committed: of each, a run that ended
and one that Ctrl-C stopped (in its third epoch). Checkpoints and nets that no test reads were deleted.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import vibtheory as vt
from vibtheory import datasets
from vibtheory.datasets import Dataset, from_arrays
from vibtheory.errors import InvalidInputError
from vibtheory.studies import sweep_run
from vibtheory.studies.experiment_runs import run_experiment
from vibtheory.studies.experiments import experiment
from vibtheory.studies.table_runs import record
from vibtheory.training import loop
from vibtheory.training import single as training

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
# What the version that recorded them came to when it went on with the stopped runs.
LAST = {"h1.mu": 2.3718127608, "input.mu": 4.2906051278, "linear1.weight": 5.8518578764, "linear2.weight": 2.7886313498}
"""Sums of absolute values of the sweep's last net."""
CROSS_ENTROPY = [1.0413289070, 1.0263704062, 1.0030996799, 0.9840434790]
"""Of the table's run, epoch by epoch."""


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
    monkeypatch.setattr(datasets, "load", lambda name, root: _data())
    return tmp_path


def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (training, sweep_run):
        monkeypatch.setattr(module, "in_turns", lambda *_, **__: pytest.fail("trained again"))


def _epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Epochs that are done at each checkpoint from here on."""
    done: list[int] = []
    real = loop.snapshot

    def counted(folder: Path, identity: Any, state: Any) -> None:
        real(folder, identity, state)
        done.append(len(state.progress["history"]))

    monkeypatch.setattr(loop, "snapshot", counted)
    return done


def test_a_recorded_sweep_is_read_to_the_last_bit(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_training(monkeypatch)
    before = (here / "sweep/table.csv").read_bytes()
    result = _sweep(here / "sweep", 1e-3)
    assert (here / "sweep/table.csv").read_bytes() == before
    assert list(result.table["epoch"].unique()) == [0, 1, 3]


def test_a_stopped_sweep_goes_on_and_is_merged(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (here / "sweep/table.csv").read_text(encoding="utf-8")
    done = _epochs(monkeypatch)
    result = _sweep(here / "sweep", 1e-2)
    assert done == [3]  # two of three epochs were done
    assert len(list((here / "sweep/runs").iterdir())) == 2
    after = (here / "sweep/table.csv").read_text(encoding="utf-8")
    assert after.startswith(before)
    assert result.kept == 6
    (net,) = here.glob("sweep/runs/gated-gamma0.01-*/nets/epoch3-*.safetensors")
    weights = load_file(net)
    for name, size in LAST.items():
        assert float(weights[name].double().abs().sum()) == pytest.approx(size, rel=1e-5), name


def test_a_recorded_sweep_of_another_recipe_is_refused(here: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"of another recipe \(batch_size 20, now 10\)"):
        vt.sweep(
            gammas=[1e-3], dataset=_data(), network={"builder": "mlp", "arguments": {"sizes": [6, 4, 2]}}, n=30,
            out=here / "sweep", recipe={"batch_size": 10, "gate_learning_rate": 0.1, "prune_every": 1},
        )  # fmt: skip


def test_a_recorded_table_is_read_and_merged(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (here / "figures/table1.csv").read_text(encoding="utf-8")
    with monkeypatch.context() as patch:
        _no_training(patch)
        quick = record(1, ["quick"], network="tiny.toml", jobs=1)
    assert quick is not None
    assert (here / "figures/table1.csv").read_text(encoding="utf-8") == before
    both = record(1, ["curve"], network="tiny.toml", jobs=1)
    assert both is not None
    assert list(both["mode"]) == ["quick"] * 2 + ["curve"] * 2
    assert (here / "figures/table1.csv").read_text(encoding="utf-8").startswith(before)


def test_a_stopped_table_run_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = _epochs(monkeypatch)
    frame = run_experiment(experiment("tiny.toml"), "full", runs="runs", device="cpu")
    assert done == [4, 1]  # three of four epochs were done; then fine-tuning
    assert list(frame["stage"]) == ["pruned", "finetuned"]
    (run,) = Path("runs").glob("*-seed1-*/run.json")
    history = json.loads(run.read_text(encoding="utf-8"))["history"]
    assert [row["cross_entropy"] for row in history] == pytest.approx(CROSS_ENTROPY, rel=1e-5)
    run_experiment(experiment("tiny.toml"), "full", runs="fresh", device="cpu")  # its name is what it was
    assert {path.name for path in Path("fresh").iterdir()} < {path.name for path in Path("runs").iterdir()}
