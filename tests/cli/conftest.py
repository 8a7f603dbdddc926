"""A folder of one's own with tiny models and data, and a way to call the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vibtheory.cli import app

MODELS = """
from torch import nn
from vibtheory.networks.lenet import mlp

def gated():
    return mlp((4, 5, 2))

def plain():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))

def number():
    return 3

def needs_more(width):
    return mlp((width, 2))
"""


class Answer:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Call = Callable[..., Answer]


@pytest.fixture(autouse=True)
def no_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands' figures are drawn without the search for a layout, most of the time; tests/figures has it."""
    monkeypatch.setattr("matplotlib.layout_engine.ConstrainedLayoutEngine.execute", lambda *_: None)


@pytest.fixture
def call() -> Call:
    def run(*arguments: object) -> Answer:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run


def points() -> dict[str, np.ndarray]:
    """The arrays of points.npz."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)) * [1.0, 3.0, 0.2, 1.0]
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    return {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: tiny_models.py, points.npz (two classes), targets.npz (regression)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny_models.py").write_text(MODELS, encoding="utf-8")
    arrays = points()
    np.savez("points.npz", **arrays)
    targets = {f"y_{part}": arrays[f"x_{part}"][:, :2] * 1.5 for part in ("train", "test")}
    np.savez("targets.npz", **(arrays | targets))
    return tmp_path
