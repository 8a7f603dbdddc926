"""`vibtheory compress`: from a model of one's own to a small ONNX file, again from its checkpoint, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vibtheory.cli.inputs import places

from .conftest import Call

SHORT = ("--data", "points.npz", "--out", "small", "--epochs", 2, "--fine-tune-epochs", 1, "--trials", 2)


def test_within_a_budget(here: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    save_file(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).state_dict(), "state.safetensors")
    command = ("compress", "tiny_models:plain", "--state", "state.safetensors", *SHORT, "--error", 80)
    first = call(*command)
    assert first.code == 0, first.err
    assert "held-out error ≤ 80 %: met" in first.out
    report = json.loads(Path("small/report.json").read_text(encoding="utf-8"))
    assert len(report["trials"]) == 2
    session = onnxruntime.InferenceSession("small/small.onnx", providers=["CPUExecutionProvider"])
    with np.load("points.npz") as points:
        x, y = points["x_test"].astype(np.float32), points["y_test"]
    out = session.run(None, {session.get_inputs()[0].name: x})[0]
    assert 100 * (out.argmax(1) != y).mean() == pytest.approx(report["error_after"])
    monkeypatch.setattr("vibtheory.training.loop.Loop.step", None)  # a finished run takes no step
    assert call(*command).out == first.out


def test_no_price_meets_it(here: Path, call: Call) -> None:
    answer = call("compress", "tiny_models:plain", *SHORT, "--r-w", 0.01)
    assert answer.code == 3 or "all 2 trials collapsed" in answer.err
    assert (": not met" in answer.out and "of 2 prices" in answer.out) or answer.code == 2


def test_refusals_name_the_option(here: Path, call: Call) -> None:
    answer = call("compress", "tiny_models:plain", *SHORT, "--r-w", 120)
    assert answer.code == 2
    assert answer.err.startswith("error: --r-w: got 120")
    without = call("compress", "tiny_models:plain", *SHORT).err
    assert "exactly one of --r-w, --flop, --error" in without
    assert "Remedy: pass --r-w 10.0, say" in without  # the option, not Python's argument


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("heads", "--where: got heads, expected something that this model has: 1 (mlp)"),
        ("1=neurons", "--where: got '1': 'neurons', expected one of mlp, channels, heads"),
        ("1,axis=5", "--where: got 5, expected an axis of [2, 5] other than 0"),
        ("1,multiplier=-1", "--where: got smallest entry -1"),
        ("1,size=3", "--where: got size, expected of multiplier"),
        ("1,law=none", "--where: got 'none', expected one of vib"),
        ("1,threshold", "--where: got '1,threshold', expected NAME, NAME=KIND or NAME,option=value"),
    ],
)
def test_where_is_refused_by_its_own_name(here: Path, call: Call, where: str, said: str) -> None:
    answer = call("compress", "tiny_models:plain", *SHORT, "--error", 80, "--where", where)
    assert (answer.code, answer.err[: 7 + len(said)]) == (2, f"error: {said}")


def test_where_the_gates_stand(here: Path, call: Call) -> None:
    typed = ["heads", "layers.*=mlp,log_variance=-3.5", "rnn,axis=-1,law=l0,multiplier=feature_map"]
    assert places(nn.Linear(2, 2), typed) == {
        "where": {
            "heads": {}, "layers.*": {"kind": "mlp", "log_variance": -3.5},
            "rnn": {"axis": -1, "law": "l0", "multiplier": "feature_map"},
        }
    }  # fmt: skip
    command = ("--data", "points.npz", "--gamma", 0.1, "--where", "1=mlp,multiplier=2")
    assert "0_gate" in call("check", "tiny_models:plain", *command).out
    assert call("check", "tiny_models:gated", *command).err.startswith("error: --where: got 1=mlp,multiplier=2, expec")
