"""The live bar's text, on a console of ours."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import rich
import rich.console
import torch

from vibtheory import networks
from vibtheory.datasets.dataset import from_arrays
from vibtheory.training.progress import live_bar
from vibtheory.training.single import train

ROW: dict[str, Any] = {"cross_entropy": 0.123456, "kept_a": 7, "kept_b": 12, "error": 0.0, "r_w": 3.456}


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    console = rich.console.Console(file=text, width=200, force_terminal=True)
    monkeypatch.setattr(rich, "_console", console)
    return text


def test_bar_shows_loss_kept_units_error_and_ratio(console: io.StringIO) -> None:
    with live_bar(True, total=9, done=4) as advance:
        advance(ROW)
    text = console.getvalue()
    for part in ("CE 0.1235", "kept 7-12", "error 0.00 %", "r_W 3.46 %", "5/9"):
        assert part in text


def test_missing_measurements_are_left_out(console: io.StringIO) -> None:
    with live_bar(True, total=2, done=0) as advance:
        advance({"cross_entropy": 2.5, "error": None})
    assert "CE 2.5" in console.getvalue()
    assert "error" not in console.getvalue()
    assert "kept" not in console.getvalue()


def test_training_draws_the_bar_only_when_asked(console: io.StringIO) -> None:
    data = from_arrays(np.eye(4), [0, 1, 0, 1], np.eye(4), [0, 1, 0, 1])
    torch.manual_seed(0)
    train(networks.mlp((4, 3, 2)), data, device="cpu", epochs=2)
    assert console.getvalue() == ""
    train(networks.mlp((4, 3, 2)), data, device="cpu", epochs=2, progress=True)
    assert "2/2" in console.getvalue()
    assert "kept 4-3" in console.getvalue()


def test_bar_stops_on_an_error(console: io.StringIO) -> None:
    with pytest.raises(KeyboardInterrupt), live_bar(True, total=2, done=0):
        raise KeyboardInterrupt
    hidden, shown = (console.getvalue().count(f"\x1b[?25{code}") for code in "lh")  # the cursor
    assert hidden == shown == 1
