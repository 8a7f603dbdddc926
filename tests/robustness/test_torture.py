"""A 60-case run of benchmarks/torture.py, ten kills of each kind of run, and proof that a failure would be seen."""

from __future__ import annotations

import faulthandler
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.torture import run_case, torture
from tests.robustness import asking, kills
from tests.robustness.damage import damaged, replaced
from tests.robustness.families import FAMILIES
from tests.robustness.kills import RUNS, killed_until_done
from vibtheory.cli import inputs
from vibtheory.errors import CheckpointError
from vibtheory.studies.experiment_runs import _finished_rows


def test_sixty_spoiled_files(prepared: Path) -> None:
    counts, failures = torture(60, prepared, seed=1)
    assert failures == []
    assert sum(counts.values()) == 60
    for name in FAMILIES:
        assert counts[f"{name}: refused"] > 0
    assert sum(n for outcome, n in counts.items() if outcome.endswith("right")) > 10


@pytest.mark.parametrize("name", RUNS)
def test_ten_kills_and_the_same_bits(name: str, tmp_path: Path) -> None:
    report = killed_until_done(name, 10, 0, tmp_path)
    assert report.kills == 10
    assert report.completed >= 1
    assert report.differing == 0


def test_a_run_that_differs_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = kills._bits
    monkeypatch.setattr(kills, "_bits", lambda folder: [*real(folder), folder.name])
    assert killed_until_done("train", 0, 0, tmp_path).differing == 1


def _defect(*_: object) -> str:
    raise ZeroDivisionError("planted")


def _eats(*_: object) -> str:
    return str(len(bytearray(3 << 30)))


def _hangs(*_: object) -> str:
    while True:
        pass


def _dies(*_: object) -> str:
    faulthandler.disable()
    os.abort()


def _payload(*_: object) -> str:
    Path("payload-ran").touch()
    return "right"


PLANTED = {"ZeroDivisionError": _defect, "MemoryError": _eats, "a hang": _hangs, "exit -6": _dies, "payload": _payload}


@pytest.mark.parametrize("words", PLANTED)
def test_each_kind_of_failure_would_be_seen(words: str, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.torture.SECONDS", 1)
    monkeypatch.setattr("benchmarks.torture.FAMILIES", {"planted": PLANTED[words], "idx": FAMILIES["idx"]})
    counts, failures = torture(4, prepared)
    assert counts["planted: FAILED"] == 2
    assert counts["idx: FAILED"] == 0
    assert len(failures) == 2
    assert all(words in line for line in failures)


def test_a_traceback_or_a_second_line_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "template").mkdir()
    monkeypatch.chdir(tmp_path)

    def defect(*_: object) -> None:
        raise KeyError("planted")

    monkeypatch.setattr(inputs, "trained_model", defect)
    assert "exit code 70" in run_case("weights", 3, 0, tmp_path)
    monkeypatch.setattr(asking, "app", None)
    assert run_case("weights", 3, 0, tmp_path) not in ("right", "refused")


@pytest.mark.parametrize("content", ["", "{", "[]", "[3]", "3", "\xff", "[" * 100_000, "[{}]", '[{"gamma": "x"}]'])
def test_damaged_rows_of_a_finished_run(content: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match="Remedy: delete this file"):
        _finished_rows(path)


@pytest.mark.parametrize("run", [kills.table_of, kills.sweep_of])
def test_rows_of_another_run_are_refused(run: Any, tmp_path: Path) -> None:
    run(tmp_path)
    first, second = sorted(path for path in tmp_path.rglob("*.json") if "rows" in path.name)[:2]
    second.write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match=r"rows.*of.*gamma 0\.\d+, seed \d.*Remedy: delete th"):
        run(tmp_path)


def test_the_damage_is_damage() -> None:
    rng = np.random.default_rng(0)
    content = bytes(range(256)) * 4
    assert sum(damaged(rng, content) != content for _ in range(200)) > 195
    tree = {"a": [1, {"b": 2}], "c": "x"}
    assert sum(replaced(rng, tree) != tree for _ in range(200)) > 190
    assert tree == {"a": [1, {"b": 2}], "c": "x"}
