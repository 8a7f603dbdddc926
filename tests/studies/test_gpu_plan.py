"""The GPU plan, rehearsed: left at its time limit or killed in the middle of a file, it goes on to the same tables."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import gpu_plan
from vibtheory import datasets
from vibtheory.storage import files

PART = "table 3, seed 0"
CLOCK = ["seconds", "images_per_second", "peak_memory_mib"]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load", functools.cache(datasets.load))


def _call(out: Path) -> tuple[str, pd.DataFrame | None]:
    """The part's status and the table that are there after a call."""
    gpu_plan.main(["--rehearse", "--only", PART, "--out", str(out)])
    status = pd.read_csv(out / "plan.csv").set_index("part").loc[PART, "status"]
    table = out / "table3.csv"
    return str(status), pd.read_csv(table).drop(columns=CLOCK) if table.exists() else None


def test_left_killed_and_resumed_is_the_undisturbed_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, whole = _call(tmp_path / "whole")
    assert status == "done"
    assert whole is not None
    assert whole["r_w"].max() < 90  # closed and cut out while training
    with monkeypatch.context() as patch:  # three runs of six epochs: in the middle of each
        left = iter([1.0] * 7)
        patch.setattr(gpu_plan.Plan, "left", lambda _: next(left, -1.0))
        assert _call(tmp_path / "left") == ("stopped", None)
    histories = sorted((tmp_path / "left/histories").iterdir())
    assert [len(pd.read_csv(path)) for path in histories] == [3, 3, 3]
    real: Any = files.os.replace  # type: ignore[attr-defined]
    for k in (1, 4, 9):
        written: list[Any] = []

        def killed(source: Any, target: Any, written: list[Any] = written, last: int = k) -> None:
            written.append(target)
            if len(written) == last:
                raise KeyboardInterrupt
            real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "replace", killed)  # type: ignore[attr-defined]
            with pytest.raises(KeyboardInterrupt):
                _call(tmp_path / "left")
    status, resumed = _call(tmp_path / "left")
    assert status == "done"
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
    monkeypatch.setattr(gpu_plan, "record", None)  # what is done is not done again
    assert _call(tmp_path / "left")[0] == "done"


def test_no_time_no_gpu_and_a_failing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"no GPU. Remedy"):
        gpu_plan.main([])
    gpu_plan.main(["--rehearse", "--minutes", "0", "--out", str(tmp_path)])
    assert set(pd.read_csv(tmp_path / "plan.csv")["status"]) == {"no time"}

    def fails(words: Any, **options: Any) -> None:
        raise (subprocess.TimeoutExpired if "figure" in words else subprocess.CalledProcessError)(1, words)

    monkeypatch.setattr(subprocess, "run", fails)
    gpu_plan.main(["--rehearse", "--only", "step", "figure 2", "--out", str(tmp_path)])
    plan = pd.read_csv(tmp_path / "plan.csv").set_index("part")["status"]
    assert (plan["step"], plan["figure 2"]) == ("failed", "stopped")


def test_the_way_to_accelerate_counts_compiling() -> None:
    columns = ["accelerate", "net", "images_per_second", "start_seconds"]
    steps = pd.DataFrame([("graph", "dense", 47740, 1.0), ("graph", "vib", 34344, 1.0),
                          ("compile+graph", "dense", 64562, 74.0), ("compile+graph", "vib", 54956, 31.0)],
                         columns=columns)  # fmt: skip
    # graph: 146.6 + 436.8 + 2 + 1; the other: 108.4 + 272.9 + 148 + 31 = 560 s
    assert gpu_plan.fastest(steps, ()) == "compile+graph"
    assert gpu_plan.fastest(steps, (2, 5, 10)) == "graph"  # three more captures: + 3 against + 93 s
