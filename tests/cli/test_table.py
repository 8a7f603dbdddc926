"""`vibtheory table`: published rows beside ours, what is trained, kept, merged and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vibtheory import datasets, networks, storage
from vibtheory.datasets import from_arrays
from vibtheory.errors import VibTheoryError
from vibtheory.networks import registry as building
from vibtheory.storage import locked, run_store
from vibtheory.studies import table_runs
from vibtheory.studies.tables import longest_runs
from vibtheory.training import single as training

from .conftest import Call

PLAN = """
table = 1
network = "tiny"
dataset = "mnist"
[recipe]
gamma = 1e-3
epochs = 2
batch_size = 20
[quick]
seeds = [0]
recipe = { epochs = 1 }
[curve]
seeds = [3, 4]
gammas = [1e-3, 1e-1]
"""


@pytest.fixture
def tiny(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with np.load("points.npz") as arrays:
        data = from_arrays(**arrays, name="mnist")
    monkeypatch.setattr(datasets, "load", lambda name, root: data)
    monkeypatch.setitem(building._BUILDERS, "tiny", lambda: networks.mlp((4, 5, 2)))
    (here / "tiny.toml").write_text(PLAN, encoding="utf-8")
    return here


def test_published_rows_alone(here: Path, call: Call) -> None:
    for number, method in ((1, "DN"), (2, "SBP"), (3, "NS-Best"), (4, "VIBNet")):
        answer = call("table", number)
        assert answer.code == 0
        assert f"| {method} |" in answer.out
        for ours in {3: ("ours 3.1", "ours 3.2", "ours 3.3"), 4: ("ours 4.1", "ours 4.2")}.get(number, ("ours",)):
            assert f"| {ours} | not run |" in answer.out
    assert not list(here.glob("figures/*"))


def test_quick_then_curve(tiny: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = call("table", 1, "--network", "tiny.toml", "--quick", "--jobs", 1)
    assert quick.code == 0, quick.err
    assert "ours (tiny), γ = 0.001, pruned (quick)" in quick.out
    first = pd.read_csv("figures/table1.csv")
    assert list(first["mode"]) == ["quick"]
    assert Path("figures/table1.png").read_bytes().startswith(b"\x89PNG")
    curve = call("table", 1, "--network", "tiny.toml", "--curve", "--quick", "--jobs", 1)
    assert curve.code == 0, curve.err
    both = pd.read_csv("figures/table1.csv")
    assert sorted(both["mode"]) == ["curve"] * 4 + ["quick"]  # the quick row once, not twice
    assert "ours (tiny), γ = 0.1, pruned (curve)" in curve.out
    assert "mean ± std of 2 seeds" in curve.out
    monkeypatch.setattr(training, "in_turns", None)  # from here on nothing may train
    assert call("table", 1, "--network", "tiny.toml", "--curve", "--jobs", 1).out == curve.out
    shown = call("table", 1)
    assert shown.out == curve.out
    pd.testing.assert_frame_equal(pd.read_csv("figures/table1.csv").sort_values("mode"), both.sort_values("mode"))


def test_a_recipe_of_ones_own_leaves_the_rows_of_others(
    tiny: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold images out, or change the law; and a changed copy may bear a packaged recipe's name."""
    first = call(*QUICK)
    before, record = pd.read_csv("figures/table1.csv"), Path("figures/table1.csv")
    before = pd.concat([before.assign(network="lenet_300_100"), before])
    before.to_csv(record, index=False)
    Path("other").mkdir()
    own = PLAN.replace("batch_size = 20", "batch_size = 10").replace('"tiny"', '"lenet_300_100"')
    monkeypatch.setitem(building._BUILDERS, "lenet_300_100", lambda: networks.mlp((4, 5, 2)))
    for name in ("mine.toml", "other/lenet_300_100.toml"):
        Path(name).write_text(own, encoding="utf-8")
        answer = call("table", 1, "--network", name, "--quick", "--jobs", 1)
        assert answer.code == 0, first.err + answer.err
    rows = pd.read_csv(record)
    assert list(rows["network"]) == ["lenet_300_100", "tiny", "mine", "lenet_300_100.toml"]
    pd.testing.assert_frame_equal(rows[:2], before.reset_index(drop=True))
    assert all(f"| ours{name}, γ" in answer.out for name in ("", " (tiny)", " (mine)", " (lenet_300_100.toml)"))


QUICK = ("table", 1, "--network", "tiny.toml", "--quick", "--jobs", 1)
CURVE = ("table", 1, "--network", "tiny.toml", "--curve", "--jobs", 1)


def test_two_commands_at_once_lose_no_rows(tiny: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first one trains, the second one starts and ends, in the same folder."""
    train, meanwhile = table_runs.run_experiment, []

    def slow(*arguments: Any, **options: Any) -> pd.DataFrame:
        monkeypatch.setattr(table_runs, "run_experiment", train)
        meanwhile.append(call(*CURVE))
        return train(*arguments, **options)

    monkeypatch.setattr(table_runs, "run_experiment", slow)
    first = call(*QUICK)
    assert first.code == meanwhile[0].code == 0, first.err + meanwhile[0].err
    assert sorted(pd.read_csv("figures/table1.csv")["mode"]) == ["curve"] * 4 + ["quick"]
    assert "(curve)" in first.out  # what the other one added is shown, too


def test_reading_merging_writing_and_drawing_are_one_step(
    tiny: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def alone(write: Any) -> Any:
        def checked(path: Path, content: Any) -> None:
            if path.parent.name == "figures":
                with pytest.raises(VibTheoryError, match="in use"), locked(path.parent):
                    pass
                written.append(path.name)
            write(path, content)

        return checked

    write_text, write_bytes = alone(storage.write_text), alone(storage.write_bytes)
    monkeypatch.setattr(run_store, "write_text", write_text)
    monkeypatch.setattr("vibtheory.figures.style.write_bytes", write_bytes)
    answer = call(*QUICK)
    assert answer.code == 0, answer.err
    assert set(written) == {"table1.csv", "table1.png", "table1.pdf"}


def test_a_held_folder_is_refused_before_the_training(tiny: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_store, "PATIENCE", 0.0)
    monkeypatch.setattr(training, "in_turns", None)
    with locked(tiny / "figures"):
        answer = call(*QUICK)
    assert answer.code == 2
    assert "figures is in use by another run" in answer.err
    assert "Remedy: wait" in answer.err


def _rows(*rows: tuple[str, str, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["mode", "network", "gamma", "r_w"])


def test_the_figure_has_the_record_and_the_sweep_or_else_short_runs() -> None:
    rows = _rows(
        ("quick", "a", 1.0, 1.0), ("curve", "a", 1.0, 2.0), ("full", "a", 1.0, 3.0), ("full", "a", 1.0, 4.0),
        ("curve", "a", 2.0, 5.0), ("quick", "a", 2.0, 6.0), ("quick", "a", 3.0, 7.0), ("quick", "b", 1.0, 8.0),
    )  # fmt: skip
    assert list(longest_runs(rows)["r_w"]) == [2.0, 3.0, 4.0, 5.0, 8.0]


def test_a_collapsed_run_is_code_3(tiny: Path, call: Call) -> None:
    """As of `train` and `sweep`; what was trained is shown and kept all the same."""
    Path("tiny.toml").write_text(f"{PLAN}recipe = {{ initial_log_variance = 20.0 }}", encoding="utf-8")
    assert call(*QUICK).code == 0
    answer = call(*CURVE)
    assert answer.code == 3
    assert "collapsed (curve)" in answer.out
    assert set(pd.read_csv("figures/table1.csv")["status"]) == {"completed", "collapsed"}
    assert call(*QUICK).code == 0  # of other modes it says nothing
    assert call("table", 1).code == 0  # nor where nothing was asked for


def test_rows_of_another_precision_are_not_taken(tiny: Path, call: Call) -> None:
    assert call(*QUICK, "--amp").code == 0
    for other in ((), ("--no-amp",)):
        answer = call(*QUICK, *other)
        assert answer.code == 2
        assert "trained with bfloat16" in answer.err
    assert call(*QUICK, "--amp").code == 0
    assert call(*QUICK, "--runs", "float32").code == 0
    assert "trained without bfloat16" in call(*QUICK, "--runs", "float32", "--amp").err


BAD = {
    "no such table": ((5,), "1, 2, 3 or 4"),
    "no such comparison": ((3, "--quick", "--row", "3.9"), "3.1, 3.2, 3.3"),
    "a table without comparisons": ((1, "--quick", "--row", "1.1"), "one comparison"),
    "no way to accelerate": ((1, "--quick", "--network", "tiny.toml", "--accelerate", "warp"), "compile+graph"),
    "no sweep for it": ((4, "--curve"), "quick, full"),
    "a recipe of another table": ((2, "--quick", "--network", "tiny.toml"), "table 1"),
    "no such recipe": ((1, "--quick", "--network", "gone"), "--network: got gone"),
    "a mode that the recipe lacks": ((1, "--full", "--network", "tiny.toml"), "quick, curve"),
    "no processes": ((1, "--quick", "--network", "tiny.toml", "--jobs", 0), "--jobs: got 0"),
    "processes for one process": ((1, "--quick", "--together", "--jobs", 2), "--jobs: got 2, expected none with"),
    "one comparison, not trained": ((3, "--row", "3.1"), "--row: got 3.1, expected --quick, --full or --curve"),
    "decayed gates, not trained": ((1, "--decay-gates"), "--decay-gates: got True"),
    "a network, not trained": ((1, "--network", "tiny.toml"), "--network: got tiny.toml, expected --quick, --full"),
    "processes, nothing trained": ((1, "--jobs", 2), "--jobs: got 2, expected --quick, --full"),
    "runs, nothing trained": ((1, "--runs", "there"), "--runs: got there, expected --quick, --full"),
    "a precision, nothing trained": ((1, "--no-amp"), "--amp: got False, expected --quick, --full"),
    "one process, nothing trained": ((1, "--together"), "--together: got True"),
    "a results file that is no table": ((1, "--out", "empty"), "table1.csv"),
    "a results file of something else": ((1, "--out", "other"), "mode"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(tiny: Path, call: Call, case: str) -> None:
    arguments, words = BAD[case]
    for folder, text in (("empty", ""), ("other", "a,b\n1,2\n")):
        Path(folder).mkdir()
        Path(folder, "table1.csv").write_text(text, encoding="utf-8")
    answer = call("table", *arguments)
    assert answer.code == 2, answer.err
    assert answer.err.splitlines()[-1].startswith("error: ")
    assert words in answer.err
    assert case != "no processes" or len(answer.err.splitlines()) == 1  # no runs are announced
