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
    assert "not met by any of 2 prices" in answer.out or answer.code == 2


def test_refusals_name_the_option(here: Path, call: Call) -> None:
    answer = call("compress", "tiny_models:plain", *SHORT, "--r-w", 120)
    assert answer.code == 2
    assert answer.err.startswith("error: --r-w: got 120")
    assert "exactly one of r_w, flop, error" in call("compress", "tiny_models:plain", *SHORT).err
