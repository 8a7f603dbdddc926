"""Table runs from a recipe file: what is read, refused, trained, kept and taken up again."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.backend import context as loky_context
from joblib.parallel import get_active_backend

from vibtheory import datasets, networks
from vibtheory.datasets import Dataset, from_arrays
from vibtheory.errors import CheckpointError, InvalidInputError, VibTheoryError
from vibtheory.networks import gates
from vibtheory.networks import registry as building
from vibtheory.storage import write_sealed
from vibtheory.studies import experiment_runs, experiments
from vibtheory.studies.experiment_runs import run_experiment
from vibtheory.studies.experiments import experiment
from vibtheory.training import loop as training_loop
from vibtheory.training import run
from vibtheory.training import single as training

PLAN = """
table = 1
network = "tiny"
dataset = "mnist"
[recipe]
gamma = 1e-3
epochs = 2
pretrain_epochs = 1
batch_size = 20
[finetune]
epochs = 1
batch_size = 20
[quick]
seeds = [0]
recipe = { epochs = 1 }
[full]
seeds = [0, 1]
[curve]
seeds = [3]
gammas = [1e-3, 1e-1]
"""
SAME = ["gamma", "seed", "stage", "error_last", "error_best", "r_w", "r_n", "flop", "architecture", "epochs", "status"]


def _tiny() -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 6)) * [1.0, 3.0, 0.2, 1.0, 1.0, 1.0]
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    return from_arrays(x[:40], y[:40], x[40:], y[40:], name="mnist")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> experiments.Experiment:
    monkeypatch.setattr(datasets, "load", lambda name, root: _tiny())
    monkeypatch.setitem(building._BUILDERS, "tiny", lambda: networks.mlp((6, 5, 2)))
    (tmp_path / "tiny.toml").write_text(PLAN, encoding="utf-8")
    return experiment(tmp_path / "tiny.toml")


def _count(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Seeds of the runs that are trained from here on, or "teacher"."""
    calls: list[Any] = []
    real = training.in_turns

    def counted(net: Any, data: Any, recipe: Any, settings: Any) -> Any:
        calls.append("teacher" if "-teacher-" in str(settings.folder) else settings.seed)
        return real(net, data, recipe, settings)

    monkeypatch.setattr(training, "in_turns", counted)
    return calls


def test_jobs_of_each_mode(plan: experiments.Experiment) -> None:
    assert [(r.gamma, r.epochs, s) for r, s in plan.jobs("quick")] == [(1e-3, 1, 0)]
    assert [(r.gamma, r.epochs, s) for r, s in plan.jobs("full")] == [(1e-3, 2, 0), (1e-3, 2, 1)]
    assert [(r.gamma, r.epochs, s) for r, s in plan.jobs("curve")] == [(1e-3, 2, 3), (1e-1, 2, 3)]
    plan.modes["quick"]["recipe"]["gamma"] = 0.5
    assert [r.gamma for r, _ in plan.jobs("quick")] == [0.5]
    assert plan.finetune is not None
    assert plan.finetune.gamma == 0.0
    assert (plan.name, plan.table, plan.network, plan.dataset) == ("tiny", 1, "tiny", "mnist")


def test_rows_of_a_run(plan: experiments.Experiment, tmp_path: Path) -> None:
    frame = run_experiment(plan, "quick", runs=tmp_path / "runs")
    assert list(frame["stage"]) == ["pruned", "finetuned"]
    assert set(frame["mode"]) == {"quick"}
    assert list(frame["epochs"]) == [1, 1]
    (folder,) = (tmp_path / "runs").iterdir()
    history = json.loads((folder / "run.json").read_text(encoding="utf-8"))["history"]
    trained = [row for row in history if row["phase"] == "train"]
    pruned = frame.iloc[0]
    assert len(history) == 2  # one epoch of pretraining, one with noise
    assert pruned["error_last"] == trained[-1]["error"]
    assert pruned["error_best"] == min(row["error"] for row in trained)
    assert pruned["r_w"] == trained[-1]["r_w"]
    assert pruned["flop"] == trained[-1]["flop"]
    assert (frame["error_best"] <= frame["error_last"]).all()


class _Asked:
    """Stands for joblib.Parallel: how many processes are asked for, with how many threads each."""

    jobs = threads = 0

    def __init__(self, n_jobs: int, **_: object) -> None:
        backend, _ = get_active_backend()
        _Asked.jobs, _Asked.threads = n_jobs, backend.inner_max_num_threads

    def __call__(self, tasks: list[Any]) -> list[tuple[int, pd.DataFrame]]:
        return [(place, pd.DataFrame({"seed": [0]})) for place, _ in enumerate(tasks)]


def test_runs_take_the_threads_that_torch_has(
    plan: experiments.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OMP_NUM_THREADS, or the user's own number; bits depend on it."""
    seen: list[int] = []
    monkeypatch.setattr(datasets, "load", lambda name, root: (seen.append(torch.get_num_threads()), _tiny())[1])
    before, own = torch.get_num_threads(), (os.cpu_count() or 1) + 1
    torch.set_num_threads(own)
    try:
        run_experiment(plan, "quick", runs=tmp_path)
        assert set(seen) == {torch.get_num_threads()} == {own}
        torch.set_num_threads(5)
        monkeypatch.setattr(joblib, "Parallel", _Asked)
        run_experiment(plan, "full", runs=tmp_path, jobs=9)
        assert (_Asked.jobs, _Asked.threads) == (2, 2)  # no more processes than the two runs
    finally:
        torch.set_num_threads(before)


def test_finished_runs_are_read_back(
    plan: experiments.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_experiment(plan, "curve", runs=tmp_path)
    calls = _count(monkeypatch)
    again = run_experiment(plan, "curve", runs=tmp_path)
    assert calls == []
    pd.testing.assert_frame_equal(first, again)
    run_experiment(plan, "full", runs=tmp_path)  # other seeds: all their own work, each run and its fine-tuning
    assert sorted(calls) == [0, 0, 1, 1]


def _rewritten(path: Path, **changes: Any) -> None:
    """The finished run's rows with other entries in the first; an entry of None is left out. Sealed again."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    first = {key: value for key, value in {**rows[0], **changes}.items() if value is not None}
    write_sealed(path, {"rows": [first, *rows[1:]]})


def test_changed_rows_of_a_finished_run_are_refused_and_measured_again(
    plan: experiments.Experiment, tmp_path: Path
) -> None:
    first = run_experiment(plan, "quick", runs=tmp_path)
    (path,) = tmp_path.glob("*/rows-*.json")
    text = path.read_text(encoding="utf-8")
    assert '"epochs": 1' in text
    path.write_text(text.replace('"epochs": 1', '"epochs": 2', 1), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"does not match its own checksum.*Remedy: delete this file"):
        run_experiment(plan, "quick", runs=tmp_path)
    path.unlink()
    pd.testing.assert_frame_equal(run_experiment(plan, "quick", runs=tmp_path)[SAME], first[SAME])
    for changes, words in (
        ({"gamma": "x"}, "gamma: got 'x'"), ({"r_w": None}, "got no r_w"), ({"seed": True}, "seed: got True"),
        ({"device": 3}, "device: got 3"),
    ):  # fmt: skip
        path.write_text(text, encoding="utf-8")
        _rewritten(path, **changes)
        with pytest.raises(CheckpointError, match=rf"{words}.*Remedy: delete this file"):
            run_experiment(plan, "quick", runs=tmp_path)
    for rows in ([], {}, None, [3]):
        write_sealed(path, {"rows": rows})
        with pytest.raises(CheckpointError, match="Remedy: delete this file"):
            run_experiment(plan, "quick", runs=tmp_path)


def test_a_run_is_shared_between_modes_with_the_same_settings(
    plan: experiments.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan.modes["quick"] = {"seeds": [1]}
    full = run_experiment(plan, "full", runs=tmp_path)
    calls = _count(monkeypatch)
    quick = run_experiment(plan, "quick", runs=tmp_path)
    assert calls == []
    pd.testing.assert_frame_equal(quick[SAME], full[full["seed"] == 1].reset_index(drop=True)[SAME])


@pytest.mark.parametrize("stop_after", [1, 2, 4])  # a run: pretraining, two epochs, one of fine-tuning; then the next
def test_stopped_anywhere_it_ends_the_same(
    plan: experiments.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    undisturbed = run_experiment(plan, "full", runs=tmp_path / "a")
    real, written = training_loop.snapshot, 0

    def stop(*arguments: Any) -> None:
        nonlocal written
        real(*arguments)
        written += 1
        if written == stop_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "snapshot", stop)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(plan, "full", runs=tmp_path / "b")
    assert written == stop_after
    resumed = run_experiment(plan, "full", runs=tmp_path / "b")
    pd.testing.assert_frame_equal(resumed[SAME], undisturbed[SAME])


@pytest.mark.filterwarnings("ignore:`fork` start method")
def test_two_processes_give_the_same_rows(
    plan: experiments.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run_experiment(plan, "full", runs=tmp_path / "a", jobs=1)
    monkeypatch.setattr(loky_context, "_DEFAULT_START_METHOD", "fork")  # they see the tiny data, and import nothing
    try:
        together = run_experiment(plan, "full", runs=tmp_path / "b", jobs=2)
    finally:
        get_reusable_executor().shutdown(kill_workers=True)
    pd.testing.assert_frame_equal(together[SAME], alone[SAME])


def _killed_by_a_worker(plan: experiments.Experiment, runs: Path) -> None:
    """Two runs side by side, of which one kills this process at its checkpoint, and both stop there for ever."""
    os.setsid()
    owner, real = os.getpid(), training_loop.snapshot

    def kill(*arguments: Any) -> None:
        real(*arguments)
        os.kill(owner, signal.SIGKILL)
        threading.Event().wait()

    training_loop.snapshot = kill  # type: ignore[attr-defined]
    run_experiment(plan, "full", runs=runs, jobs=2)


@pytest.mark.filterwarnings("ignore:`fork` start method")
def test_killed_side_by_side_it_ends_the_same(
    plan: experiments.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes of a killed call end too, instead of holding its folders."""
    undisturbed = run_experiment(plan, "full", runs=tmp_path / "a")
    monkeypatch.setattr(loky_context, "_DEFAULT_START_METHOD", "fork")
    killed = multiprocessing.get_context("fork").Process(target=_killed_by_a_worker, args=(plan, tmp_path / "b"))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    try:
        resumed = run_experiment(plan, "full", runs=tmp_path / "b", jobs=2)
    finally:
        get_reusable_executor().shutdown(kill_workers=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(killed.pid or 0, signal.SIGKILL)
    pd.testing.assert_frame_equal(resumed[SAME], undisturbed[SAME])


@pytest.mark.filterwarnings("ignore:`fork` start method")
def test_a_dead_process_is_explained(
    plan: experiments.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loky_context, "_DEFAULT_START_METHOD", "fork")
    monkeypatch.setattr(datasets, "load", lambda name, root: os._exit(9))
    with pytest.raises(VibTheoryError, match=r"jobs: a process died.*Remedy: .*the same call goes on"):
        run_experiment(plan, "full", runs=tmp_path, jobs=2)


def test_a_changed_recipe_is_another_run(
    plan: experiments.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_experiment(plan, "quick", runs=tmp_path)
    calls = _count(monkeypatch)
    plan.modes["quick"]["recipe"] = {"epochs": 1, "learning_rate": 2e-3}
    run_experiment(plan, "quick", runs=tmp_path)
    assert calls == [0, 0]


def test_a_collapsed_run_has_one_row(plan: experiments.Experiment, tmp_path: Path) -> None:
    plan.modes["quick"]["recipe"] = {"epochs": 30, "gate_learning_rate": 1.0, "gamma": 1e4}
    plan.modes["quick"]["gammas"] = [1e4]
    frame = run_experiment(plan, "quick", runs=tmp_path)
    assert list(frame["status"]) == ["collapsed"]
    assert list(frame["stage"]) == ["pruned"]


@pytest.mark.usefixtures("plan")
def test_all_runs_follow_one_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PLAN.replace("[finetune]", "[teacher]\nepochs = 3\nbatch_size = 20\n[finetune]\ndistill = 1.0")
    (tmp_path / "taught.toml").write_text(text, encoding="utf-8")
    monkeypatch.setitem(building._BUILDERS, "tiny", lambda gated=True: networks.mlp((6, 5, 2), gated=gated))
    taught = experiment(tmp_path / "taught.toml")
    calls, followed = _count(monkeypatch), []
    counted = training.in_turns

    def seen(net: Any, data: Any, recipe: Any, settings: Any) -> Any:
        followed.append(settings.teacher)
        return counted(net, data, recipe, settings)

    monkeypatch.setattr(training, "in_turns", seen)
    frame = run_experiment(taught, "full", runs=tmp_path / "runs")
    assert calls == ["teacher", 0, 0, 1, 1]
    (place,) = (tmp_path / "runs").glob("taught-teacher-*")
    taught_by = run.load(place)
    assert len(taught_by.rows) == 3
    assert not gates.named_gates(taught_by.net)
    assert run_experiment(taught, "full", runs=tmp_path / "runs").equals(frame)
    assert len(calls) == 5  # read back, the teacher too
    assert [net is None for net in followed] == [True, True, False, True, False]  # training follows none
    for net in (followed[2], followed[4]):
        for key, value in taught_by.net.state_dict().items():
            assert net.state_dict()[key].equal(value)


@pytest.mark.usefixtures("plan")
def test_a_teacher_never_sees_the_held_out_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PLAN.replace("[finetune]", "[teacher]\nepochs = 1\nbatch_size = 10\n[finetune]\ndistill = 1.0")
    monkeypatch.setitem(building._BUILDERS, "tiny", lambda gated=True: networks.mlp((6, 5, 2), gated=gated))
    real, seen = training.in_turns, []

    def noted(net: Any, data: Any, recipe: Any, settings: Any) -> Any:
        seen.append({row.tobytes() for row in data.x_train})
        return real(net, data, recipe, settings)

    monkeypatch.setattr(training, "in_turns", noted)
    for own in ("held_out = 10\nexamples = 20\n", "held_out = 10\n", ""):
        (tmp_path / "taught.toml").write_text(own + text, encoding="utf-8")
        run_experiment(experiment(tmp_path / "taught.toml"), "quick", runs=tmp_path / "runs")
    assert [len(rows) for rows in seen] == [20] * 3 + [30] * 3 + [40] * 3  # teacher, run, fine-tuning of each
    assert seen[0] == seen[1]
    assert seen[3] == seen[4] < seen[6]


def test_packaged_recipes_are_read() -> None:
    for name, table, seeds in (("lenet_300_100", 1, 5), ("lenet_5_caffe", 2, 10)):
        packaged = experiment(name)
        assert (packaged.name, packaged.table, packaged.network) == (name, table, name)
        assert len(packaged.jobs("full")) == seeds
        assert packaged.jobs("quick")
        assert packaged.jobs("curve")


BAD = {
    "not TOML": (PLAN.replace("table = 1", "table ="), "TOML"),
    "a key is missing": (PLAN.replace("table = 1", ""), "table"),
    "an unknown key": (PLAN + "[slow]\nseeds = [1]\n", "slow"),
    "an unknown setting": (PLAN.replace("batch_size", "batch", 1), "batch"),
    "a setting out of range": (PLAN.replace("epochs = 2", "epochs = -2"), "epochs"),
    "an unknown setting of fine-tuning": (PLAN.replace("[finetune]", "[finetune]\nspeed = 3"), "speed"),
    "distilling from nobody": (PLAN.replace("[finetune]", "[finetune]\ndistill = 0.5"), "no [teacher]"),
    "a teacher of nobody": (PLAN.replace("[quick]", "[teacher]\nepochs = 1\n[quick]"), "only [teacher]"),
    "a teacher that is no section": ("teacher = 1" + PLAN, "recipe teacher: got 1, expected a dictionary"),
    "an unknown key of a mode": (PLAN.replace("[quick]", "[quick]\nseed = 3"), "quick"),
    "no seeds": (PLAN.replace("seeds = [3]", ""), "curve"),
    "an empty list of seeds": (PLAN.replace("seeds = [3]", "seeds = []"), "curve"),
    "seeds that are no list": (PLAN.replace("seeds = [3]", "seeds = 3"), "curve"),
    "seeds that are no integers": (PLAN.replace("seeds = [3]", 'seeds = ["a"]'), "curve"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused(tmp_path: Path, case: str) -> None:
    text, words = BAD[case]
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"recipe|epochs") as caught:
        experiment(path)
    assert words in str(caught.value)
    assert "Remedy" in str(caught.value)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no_such"):
        experiment("no_such")
    path = tmp_path / "latin.toml"
    path.write_bytes("# \xe4".encode("latin-1"))
    with pytest.raises(InvalidInputError, match="UTF-8"):
        experiment(path)


def test_bad_calls_are_refused(plan: experiments.Experiment, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="jobs"):
        run_experiment(plan, "quick", runs=tmp_path, jobs=0)
    with pytest.raises(InvalidInputError, match=r"mode.*quick, full, curve"):
        run_experiment(plan, "slow", runs=tmp_path)
    with pytest.raises(InvalidInputError, match="no epoch was evaluated"):
        experiment_runs._errors(pd.DataFrame({"error": [float("nan")]}))


def test_rows_of_decayed_gates_have_a_name_of_their_own() -> None:
    """So that `table 1 --full --decay-gates` stands beside the rows of `table 1 --full`."""
    plain = experiment("lenet_300_100")
    assert plain.label == "lenet_300_100"
    assert plain.with_decayed_gates().label == "lenet_300_100_decayed_gates"
    assert experiment("vgg_3_1").label == "vgg_3_1"
