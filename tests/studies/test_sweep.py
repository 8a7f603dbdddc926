"""The sweep: what it records, that recording changes nothing, and that kills lose nothing and double nothing."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.backend import context as loky_context
from safetensors.torch import load_file
from typer.testing import CliRunner

import vibtheory as vt
from vibtheory import networks
from vibtheory.cli import app
from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.errors import CheckpointError, InvalidInputError, MissingDependencyError, VibTheoryError
from vibtheory.storage import locked, run_store, write_sealed
from vibtheory.studies import side_by_side as sweep_jobs
from vibtheory.studies import sweep as sweeps
from vibtheory.studies import sweep_measurement, sweep_rows, sweep_run
from vibtheory.studies.sweep import COLUMNS, SweepResult
from vibtheory.training import checkpoint as training_state
from vibtheory.training.recipe import Recipe
from vibtheory.training.single import train

N, EPOCHS = 100, 6
ESTIMATORS = [
    ("variational",),
    vt.Estimator("gaussian", 0.7, full=True),
    vt.Estimator("infonce", 1.3, n=20, options={"seed": 4}),
]
RECIPE = {"batch_size": 25, "gate_learning_rate": 0.15, "pretrain_epochs": 1, "prune_every": 1, "weight_decay": 0.0}


def _data() -> Dataset:
    rng = np.random.default_rng(2)
    x = rng.normal(scale=2.0, size=(150, 1, 5, 5))
    x[:, :, 0] = 0.0
    y = (x[:, 0, 2, 2] > x[:, 0, 3, 3]).astype(int)
    return from_arrays(x[:N], y[:N], x[N:], y[N:])


DATA = _data()
MLP = {"builder": "mlp", "arguments": {"sizes": [25, 9, 2]}}
CALL: dict[str, Any] = {
    "gammas": [1e-3, 2e-2], "seeds": [3], "dataset": DATA, "network": MLP, "epochs": EPOCHS, "record": [2, 5],
    "estimators": ESTIMATORS, "gated": (True, False), "recipe": RECIPE, "n": 40, "device": "cpu",
}  # fmt: skip


def _sweep(out: Path, **changes: Any) -> SweepResult:
    return vt.sweep(out=out, **{**CALL, **changes})


def _same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"), check_exact=True)


def _epochs_done(out: Path) -> int:
    paths = out.glob("runs/*/checkpoint/checkpoint.json")
    return sum(len(json.loads(path.read_text(encoding="utf-8"))["history"]) for path in paths)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> SweepResult:
    return _sweep(folder)


def test_the_table_has_one_row_per_estimate(undisturbed: SweepResult) -> None:
    table = undisturbed.table
    assert tuple(table.columns) == COLUMNS
    assert not table.duplicated(["gated", "gamma", "seed", "epoch", "layer", "method", "tau", "n"]).any()
    epochs, estimates = 4, 3  # 0, 2, 5 and the last; gaussian once more on all inputs at the last
    assert len(table[table["gated"]]) == 2 * (epochs * estimates + 1)
    assert len(table[~table["gated"]]) == epochs * 2 + 1  # no estimator with tau = 0
    assert sorted(set(table["epoch"])) == [0, 2, 5, EPOCHS]
    assert set(table.loc[table["method"] == "infonce", "n"]) == {20}
    full = table[table["n"] == N]
    assert set(full["epoch"]) == {EPOCHS}
    assert set(full["method"]) == {"gaussian"}
    assert set(table.loc[~table["gated"], "gamma"]) == {0.0}
    assert (table.loc[~table["gated"], ["r_w", "r_n"]] == 100).all(axis=None)
    assert table.loc[table["gated"] & (table["epoch"] == EPOCHS), "r_w"].min() < 70  # the price was paid
    assert "completed" in str(undisturbed)
    assert "3 runs" in str(undisturbed)


def test_the_csv_is_the_table(undisturbed: SweepResult) -> None:
    pd.testing.assert_frame_equal(pd.read_csv(undisturbed.path), undisturbed.table, rtol=1e-14)


@pytest.mark.parametrize("gated", [True, False])
def test_gaussian_row_by_hand(gated: bool, undisturbed: SweepResult, folder: Path) -> None:
    """½ log det(I + Cov/τ²) and the error, from the kept weights with numpy alone."""
    row = undisturbed.table.query("gated == @gated and epoch == @EPOCHS and method == 'gaussian' and n == @N").iloc[-1]
    gamma = "0.02" if gated else "0"
    (path,) = folder.glob(f"runs/{'gated' if gated else 'regular'}-gamma{gamma}-*/nets/epoch{EPOCHS}-*.safetensors")
    state = {name: tensor.double().numpy() for name, tensor in load_file(path).items()}

    def mean(name: str) -> Any:
        if not gated:
            return 1.0
        keep = (state[f"{name}.mu"] ** 2 > np.exp(state[f"{name}.log_var"])) & (state[f"{name}.active"] > 0)
        return state[f"{name}.mu"] * keep

    def hidden(x: Any) -> Any:
        return np.maximum(
            (x.reshape(len(x), -1) * mean("input")) @ state["linear1.weight"].T + state["linear1.bias"], 0
        )

    f, mu = hidden(DATA.x_train), mean("h1")
    noise = np.exp(state["h1.log_var"]) * (mu != 0) if gated else np.zeros(9)
    covariance = np.cov((f * mu).T, bias=True) + np.diag((f**2).mean(axis=0) * noise)
    assert row["nats"] == pytest.approx(0.5 * np.linalg.slogdet(np.eye(9) + covariance / 0.7**2)[1], rel=1e-5)
    logits = (hidden(DATA.x_test) * mu) @ state["linear2.weight"].T + state["linear2.bias"]
    assert row["error"] == pytest.approx(100 * (logits.argmax(axis=1) != DATA.y_test).mean(), abs=1e-9)


def test_recording_leaves_training_alone(undisturbed: SweepResult, folder: Path) -> None:
    with networks.random_stream(3, networks.INITIAL_WEIGHTS):
        net = networks.mlp((25, 9, 2))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(net, DATA, Recipe.from_dict({**RECIPE, "epochs": EPOCHS, "gamma": 2e-2}), seed=3, device="cpu")
    torch.set_num_threads(threads)
    (path,) = folder.glob(f"runs/gated-gamma0.02-*/nets/epoch{EPOCHS}-*.safetensors")
    kept = load_file(path)
    assert all(torch.equal(kept[name], tensor) for name, tensor in net.state_dict().items())


def test_train_calls_on_epoch_with_the_full_net() -> None:
    seen: list[tuple[int, int, bool]] = []
    torch.manual_seed(0)
    train(
        networks.mlp((25, 9, 2)), DATA, Recipe.from_dict({**RECIPE, "epochs": 2, "gamma": 2e-2}), device="cpu",
        on_epoch=lambda net, done: seen.append((done, net.get_submodule("linear1").weight.numel(), net.training)),
    )  # fmt: skip
    assert seen == [(done, 225, False) for done in range(4)]


def _at_write(stop: int, act: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Do something right after the k-th net, row file, checkpoint or table."""
    count = 0

    def then_act(write: Any) -> Any:
        def counted(*arguments: Any) -> None:
            nonlocal count
            write(*arguments)
            count += 1
            if count == stop:
                act()

        return counted

    for module, name in (
        (sweep_measurement, "write_state"),
        (sweep_rows, "write_sealed"),
        (training_state, "write_state"),
        (run_store, "write_text"),
    ):
        patch.setattr(module, name, then_act(getattr(module, name)))


def _interrupt() -> None:
    raise KeyboardInterrupt


def _child(out: Path, write: int, jobs: int) -> None:
    os.setsid()  # its own processes are its group
    torch.set_num_threads(1)
    sweeping = os.getpid()  # with jobs, its processes write too, and live on
    _at_write(write, lambda: os.getpid() == sweeping and os.kill(sweeping, signal.SIGKILL), pytest.MonkeyPatch())
    _sweep(out, jobs=jobs)
    os._exit(0)


def _killed(out: Path, write: int, jobs: int = 1) -> int:
    """Start the sweep in a process of its own, which kill -9 ends right after its k-th write; its process group."""
    process = multiprocessing.get_context("fork").Process(target=_child, args=(out, write, jobs))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return int(process.pid or 0)


def test_killed_and_resumed_is_identical(undisturbed: SweepResult, tmp_path: Path) -> None:
    for write in np.random.default_rng(5).integers(1, 9, 3):
        _killed(tmp_path, int(write))
    assert 1 <= _epochs_done(tmp_path) < 3 * (EPOCHS + 1)
    resumed = _sweep(tmp_path)
    _same(resumed.table, undisturbed.table)
    assert len(list(tmp_path.glob("runs/*"))) == 3


@pytest.mark.filterwarnings("ignore:`fork` start method")
def test_side_by_side_killed_and_resumed_is_identical(
    undisturbed: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the first finished run: its processes must let go of the others, and must not take a new one."""
    monkeypatch.setattr(loky_context, "_DEFAULT_START_METHOD", "fork")  # processes that need not import torch again
    group = _killed(tmp_path, 1, jobs=2)
    try:
        _same(_sweep(tmp_path, jobs=2).table, undisturbed.table)
    finally:
        get_reusable_executor().shutdown(kill_workers=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)  # an idle process would wait for work for minutes


@pytest.mark.parametrize("stop", range(1, 14, 3))
def test_stopped_after_every_kind_of_write(
    stop: int, undisturbed: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _at_write(stop, _interrupt, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        _sweep(tmp_path)
    monkeypatch.undo()
    _same(_sweep(tmp_path).table, undisturbed.table)


@pytest.fixture(scope="module")
def batch_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batched")


@pytest.fixture(scope="module")
def batched(batch_folder: Path) -> SweepResult:
    return _sweep(batch_folder, batched=True)


def test_batched_is_the_same_sweep(batched: SweepResult, undisturbed: SweepResult) -> None:
    _same(batched.table, undisturbed.table)


@pytest.mark.parametrize("stop", [2, 8, 13])
def test_batched_stopped_and_resumed_is_identical(
    stop: int, batched: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _at_write(stop, _interrupt, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        _sweep(tmp_path, batched=True)
    monkeypatch.undo()
    _same(_sweep(tmp_path, batched=True).table, batched.table)


def test_a_finished_sweep_is_only_read(undisturbed: SweepResult, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_run, "in_turns", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(sweep_measurement, "estimate", lambda *_, **__: pytest.fail("estimated again"))
    pd.testing.assert_frame_equal(_sweep(folder).table, undisturbed.table, check_exact=True)


def test_other_estimators_need_no_training(
    undisturbed: SweepResult, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_run, "in_turns", lambda *_, **__: pytest.fail("trained again"))
    table = _sweep(folder, estimators=[("gaussian", 0.7), ("logdet", 0.7)], full_at_last=False).table
    gaussian, logdet = (table[table["method"] == method].reset_index() for method in ("gaussian", "logdet"))
    columns = ["gated", "gamma", "epoch", "nats"]
    before = undisturbed.table.query("method == 'gaussian' and n == 40").reset_index()
    pd.testing.assert_frame_equal(gaussian[columns], before[columns], check_exact=True)
    assert np.allclose(gaussian["nats"] - logdet["nats"], -9 * np.log(0.7))
    _sweep(folder)  # the rows of these runs are the last call's: put them back


def _first_run(out: Path) -> Path:
    return next(out.glob("runs/gated*"))


def test_epochs_that_were_not_kept(tmp_path: Path) -> None:
    one = {"gammas": [1e-3], "gated": True}
    _sweep(tmp_path, **one)
    with pytest.raises(CheckpointError, match=r"without recording epochs \[1\].*Remedy"):
        _sweep(tmp_path, **one, record=[1])


def test_damaged_rows_are_found_and_come_back(undisturbed: SweepResult, tmp_path: Path) -> None:
    one = {"gammas": [1e-3], "gated": True}
    first = _sweep(tmp_path, **one)
    path = _first_run(tmp_path) / "rows.json"
    path.write_text(path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"rows\.json is not readable.*Remedy: delete that file"):
        _sweep(tmp_path, **one)
    path.unlink()
    _same(_sweep(tmp_path, **one).table, first.table)


ONE: dict[str, Any] = {
    "gammas": [1e-3], "gated": True, "epochs": 1, "record": [1], "estimators": [("variational",), ("gaussian", 0.7)]
}  # fmt: skip


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rows")
    _sweep(out, **ONE)
    return _first_run(out) / "rows.json"


def _refused(path: Path, words: str) -> None:
    with pytest.raises(CheckpointError, match=rf"rows\.json is not readable.*{words}.*Remedy: delete that file"):
        _sweep(path.parents[2], **ONE)


@pytest.mark.parametrize(
    "content",
    ["[]", "null", '{"status": null, "epochs": {}}', "[" * 100_000, '{"status": "completed", "epochs": {"0": 3}}'],
)
def test_rows_without_a_seal_are_refused(content: str, rows_file: Path) -> None:
    text = rows_file.read_text(encoding="utf-8")
    rows_file.write_text(content, encoding="utf-8")
    try:
        _refused(rows_file, "no checksum|nested too deeply")
    finally:
        rows_file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("value", ["1.5", '"1.5"'])
def test_a_changed_number_in_the_rows_is_refused(value: str, rows_file: Path) -> None:
    text = rows_file.read_text(encoding="utf-8")
    nats = json.loads(text)["epochs"]["1"].popitem()[1]["nats"]
    assert f'"nats": {nats}' in text
    rows_file.write_text(text.replace(f'"nats": {nats}', f'"nats": {value}'), encoding="utf-8")
    try:
        _refused(rows_file, "does not match its own checksum")
    finally:
        rows_file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": []}, r"epochs: got \[\], expected a dictionary"),
        ({"epochs": None}, "epochs: got None"),
        ({"epochs": {"0": 3}}, r"epochs\['0'\]: got 3"),
        ({"epochs": {"0": {"h1 40 x": [1]}}}, r"epochs\['0'\]\['h1 40 x'\]: got \[1\]"),
        ({"epochs": {"0": {"h1 40 x": {}}}}, "row: got no network"),
        ({"status": 3}, "status: got 3"),
        ({"status": ["completed"]}, "status: got"),
    ],
)
def test_rows_of_other_types_are_refused(changes: dict[str, Any], words: str, rows_file: Path) -> None:
    """Sealed, so that only the types are wrong."""
    text = rows_file.read_text(encoding="utf-8")
    write_sealed(rows_file, {"status": "completed", "epochs": {}, **changes})
    try:
        _refused(rows_file, words)
    finally:
        rows_file.write_text(text, encoding="utf-8")


def _runs_in(path: Path) -> list[tuple[Any, ...]]:
    return list(pd.read_csv(path)[["gated", "gamma", "seed", "layer"]].drop_duplicates().itertuples(False, None))


def test_a_later_sweep_adds_to_the_table(tmp_path: Path) -> None:
    first = _sweep(tmp_path, **ONE)
    before = first.path.read_text(encoding="utf-8").splitlines()
    assert "earlier" not in str(first)
    second = _sweep(tmp_path, **{**ONE, "gammas": [2e-2]})
    assert second.kept == len(first.table)
    assert f"{second.kept} of earlier sweeps" in str(second)
    assert set(second.table["gamma"]) == {2e-2}  # the result is this call's alone
    lines = second.path.read_text(encoding="utf-8").splitlines()
    assert lines[: len(before)] == before  # to the last bit
    assert len(lines) == len(before) + len(second.table)
    _sweep(tmp_path, **{**ONE, "seeds": [4], "gated": False, "epochs": 2, "record": [2]})
    _sweep(tmp_path, **{**ONE, "layer": "input"})
    again = _sweep(tmp_path, **{**ONE, "estimators": [("plain",)]})
    runs = [(True, 2e-2, 3, "h1"), (False, 0.0, 4, "h1"), (True, 1e-3, 3, "input"), (True, 1e-3, 3, "h1")]
    assert _runs_in(again.path) == runs
    table = pd.read_csv(again.path)
    assert not table.duplicated(["gated", "gamma", "seed", "epoch", "layer", "method", "tau", "n"]).any()
    ours = table[(table["gamma"] == 1e-3) & (table["layer"] == "h1")]
    assert set(ours["method"]) == {"plain"}  # a run's rows are replaced as a whole


def test_a_regression_sweep_is_read_back_and_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets that are numbers have no share of errors; their loss is ½‖y − ŷ‖², 1 of a net whose outputs are 0."""
    x, y = DATA.x_train, np.tile([1.0, -1.0], (N, 1))
    settings = {**ONE, "dataset": from_arrays(x, y, x, y, likelihood="gaussian"), "recipe": None}
    first = _sweep(tmp_path, **settings)
    assert first.table["error"].isna().all()
    assert first.table["cross_entropy"].iloc[0] == pytest.approx(1.0, abs=0.2)  # small initial weights
    with monkeypatch.context() as patch:
        patch.setattr(sweep_run, "in_turns", lambda *_, **__: pytest.fail("trained again"))
        pd.testing.assert_frame_equal(_sweep(tmp_path, **settings).table, first.table, check_exact=True)
    lines = first.path.read_text(encoding="utf-8").splitlines()
    second = _sweep(tmp_path, **{**settings, "gammas": [2e-2]})
    assert second.path.read_text(encoding="utf-8").splitlines()[: len(lines)] == lines  # to the last bit


def test_two_sweeps_at_once_lose_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first one trains, the second one starts and ends, in the same folder."""
    real, meanwhile = sweeps.side_by_side, []

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(sweeps, "side_by_side", real)
        meanwhile.append(_sweep(tmp_path, **{**ONE, "gammas": [2e-2]}))
        return real(*arguments)

    monkeypatch.setattr(sweeps, "side_by_side", slow)
    result = _sweep(tmp_path, **ONE)
    assert result.kept == len(meanwhile[0].table)
    assert _runs_in(result.path) == [(True, 2e-2, 3, "h1"), (True, 1e-3, 3, "h1")]


def test_the_table_is_written_under_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = run_store.write_text, []

    def checked(path: Path, text: str) -> None:
        with pytest.raises(VibTheoryError, match="in use"), locked(path.parent):
            pass
        written.append(path.name)
        real(path, text)

    monkeypatch.setattr(run_store, "write_text", checked)
    _sweep(tmp_path, **ONE)
    assert written == ["table.csv"]
    monkeypatch.setattr(run_store, "PATIENCE", 0.0)
    with locked(tmp_path), pytest.raises(VibTheoryError, match=r"in use by another run.*Remedy: wait"):
        _sweep(tmp_path, **ONE)


OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "recipe": ({"recipe": {**RECIPE, "batch_size": 20}}, r"recipe \(batch_size 25, now 20\)"),
    "a newer setting": ({"recipe": {**RECIPE, "initial_spread": 0.1}}, r"recipe \(initial_spread None, now 0.1\)"),
    "network": ({"network": {"builder": "mlp", "arguments": {"sizes": [25, 8, 2]}}}, "network .*25, 9, 2.*25, 8, 2"),
    "data": ({"dataset": from_arrays(DATA.x_train * 2, DATA.y_train, DATA.x_test, DATA.y_test)}, "dataset"),
}


@pytest.mark.parametrize("what", OTHER)
def test_a_table_of_something_else_is_refused(what: str, rows_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, words = OTHER[what]
    out = rows_file.parents[2]
    before = (out / "table.csv").read_bytes()
    monkeypatch.setattr(sweep_run, "in_turns", lambda *_, **__: pytest.fail("trained before it was refused"))
    with pytest.raises(InvalidInputError, match=rf"out: got .*of another {words}.*Remedy: choose another folder"):
        _sweep(out, **{**ONE, **changes})
    assert (out / "table.csv").read_bytes() == before


DAMAGED: dict[str, tuple[str, bytes | None, str]] = {
    "no label": ("table.json", None, "FileNotFoundError"),
    "a label of another kind": ("table.json", b"[]", "no checksum"),
    "an empty table": ("table.csv", b"", "No columns"),
    "other columns": ("table.csv", b"a,b\n1,2\n", "without the columns network"),
    "a number of another kind": ("table.csv", f"{','.join(COLUMNS)}\n{',' * 6}x{',' * 14}\n".encode(), "x"),
    "a flag of another kind": ("table.csv", f"{','.join(COLUMNS)}\n{',' * 20}\n".encode(), "entries in gated, seed"),
}  # fmt: skip


@pytest.mark.parametrize("saved", [("True", "TRUE"), ("0.00031622776601683794", "3.16E-04")])
def test_a_table_that_a_spreadsheet_saved_is_refused(saved: tuple[str, str], tmp_path: Path) -> None:
    """With its prices rounded the same runs stood there twice."""
    once = {**ONE, "gammas": [10**-3.5]}
    path = _sweep(tmp_path, **once).path
    before = path.read_bytes()
    changed = before.replace(*(text.encode() for text in saved))
    assert changed != before
    path.write_bytes(changed)
    with pytest.raises(InvalidInputError, match=r"as another program saved it.*Remedy: move table.csv away"):
        _sweep(tmp_path, **once)
    path.write_bytes(before)
    assert _sweep(tmp_path, **once).kept == 0


def test_a_table_of_whole_prices_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "linesep", "\r\n")  # as on Windows, in which pandas writes otherwise
    once = {**ONE, "gammas": [1, 2], "gated": True, "network": {**MLP, "arguments": {"sizes": [25, 12, 2]}}}
    first = _sweep(tmp_path, **once)
    assert b"\r" not in first.path.read_bytes()
    assert _sweep(tmp_path, **{**once, "gammas": [3]}).kept == len(first.table)


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_table_is_refused_and_comes_back(what: str, tmp_path: Path) -> None:
    name, content, words = DAMAGED[what]
    first = _sweep(tmp_path, **ONE)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(VibTheoryError, match=rf"{words}.*Remedy: move table.csv away"):
        _sweep(tmp_path, **ONE)
    first.path.unlink()
    _same(_sweep(tmp_path, **ONE).table, first.table)
    assert first.path.exists()


def test_a_label_of_other_entries_is_refused(tmp_path: Path) -> None:
    _sweep(tmp_path, **ONE)
    write_sealed(tmp_path / "table.json", {"network": MLP, "dataset": "x", "recipe": 3})
    with pytest.raises(CheckpointError, match=r"recipe is 3, expected dict.*Remedy: move table.csv away"):
        _sweep(tmp_path, **ONE)


def test_collapsed_runs_are_named_and_stay_collapsed(tmp_path: Path) -> None:
    one = {"gammas": [1e3], "gated": True, "epochs": 40, "record": 10, "recipe": {**RECIPE, "gate_learning_rate": 0.5}}
    first, second = _sweep(tmp_path, **one), _sweep(tmp_path, **one)
    for result in (first, second):
        assert "1 of 1 runs collapsed" in result.status
        assert "smaller gammas" in result.status
    pd.testing.assert_frame_equal(first.table, second.table, check_exact=True)
    assert first.table["epoch"].max() < 40


def test_record_by_number(tmp_path: Path) -> None:
    table = _sweep(tmp_path, gammas=[1e-3], gated=True, record=4, estimators=[("plain",)], recipe=None).table
    assert list(table["epoch"]) == [0, 4, EPOCHS]
    assert table["nats"].iloc[0] == pytest.approx(4.5 * np.log1p(np.exp(9.0)), rel=1e-6)  # ½·9·log(1+e⁹) at the start


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no gammas": ({"gammas": []}, "gammas: got"),
    "a gamma twice": ({"gammas": [1e-3, 1e-3]}, "gammas: got"),
    "negative gamma": ({"gammas": [-1.0]}, "gammas[0]: got -1.0"),
    "no seeds": ({"seeds": 0}, "seeds: got"),
    "a seed twice": ({"seeds": [1, 1]}, "seeds: got"),
    "negative seed": ({"seeds": [-1]}, "seeds[0]: got -1"),
    "a seed too large": ({"seeds": [2**63]}, "seeds[0]: got"),
    "no whole seed": ({"seeds": [0.5]}, "seeds[0]: got"),
    "seeds a bool": ({"seeds": True}, "seeds: got"),
    "unknown network": ({"network": "lenet"}, "network: got"),
    "unknown data": ({"dataset": "mnits"}, "mnits"),
    "no epochs": ({"epochs": 0}, "epochs: got"),
    "record past the end": ({"record": [7]}, "record: got"),
    "record 0": ({"record": 0}, "record: got"),
    "record a bool": ({"record": True}, "record: got"),
    "record halves": ({"record": [0.5]}, "record[0]: got"),
    "no estimators": ({"estimators": []}, "estimators: got none"),
    "an estimator twice": ({"estimators": [("plain",), ("plain", 0.0)]}, "estimators: got one of them twice"),
    "a number as estimator": ({"estimators": [3]}, "estimators: got 3"),
    "four entries": ({"estimators": [("plain", 0.0, {}, 1)]}, "estimators: got"),
    "unknown list": ({"estimators": "all"}, "estimators: got 'all'"),
    "regular without noise": ({"estimators": [("variational",)]}, "none with tau > 0"),
    "unknown layer": ({"layer": "h7"}, "layer: got 'h7', expected one of input, h1"),
    "gated neither": ({"gated": "yes"}, "gated: got"),
    "gated nothing": ({"gated": ()}, "gated: got"),
    "gated twice": ({"gated": (True, True)}, "gated: got"),
    "unknown setting": ({"recipe": {"gama": 1}}, "recipe: got unknown gama"),
    "n of one": ({"n": 1}, "n: got 1"),
    "n beyond the data": ({"n": 101}, "n: got 101, expected at most 100"),
    "estimator's n beyond the data": ({"estimators": [vt.Estimator("plain", 1.0, n=101)]}, "n: got 101"),
    "no jobs": ({"jobs": 0}, "jobs: got 0"),
    "jobs a bool": ({"jobs": True}, "jobs: got True"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_calls(what: str, tmp_path: Path) -> None:
    changes, message = BAD[what]
    with pytest.raises(InvalidInputError) as caught:
        _sweep(tmp_path, **changes)
    assert message in str(caught.value)
    assert "Remedy" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "pair"}, "method: got 'pair'"),
        ({"method": "plain", "tau": -1.0}, "tau: got -1"),
        ({"method": "plain", "tau": float("nan")}, "tau"),
        ({"method": "plain", "n": 1}, "n: got 1"),
        ({"method": "plain", "n": True}, "n: got True"),
        ({"method": "plain", "options": 3}, "options: got 3"),
    ],
)
def test_bad_estimators(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        vt.Estimator(**arguments)


def test_cluster_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'vibtheory\[cluster\]'"):
        _sweep(tmp_path, cluster="tcp://127.0.0.1:1")


def test_one_item_runs_here_however_many_jobs() -> None:
    assert list(sweep_jobs.side_by_side(lambda _: os.getpid(), [7], jobs=2)) == [(0, os.getpid())]
    assert sweep_jobs._owner is None  # it would end with its parent
    assert list(sweep_jobs.side_by_side(str, [], jobs=2)) == []
    assert sweep_jobs._placed(str, 0, 7, os.getpid()) == (0, "7")  # as joblib does where it may have no processes
    assert sweep_jobs._owner is None


def test_a_dead_process_is_explained() -> None:
    with pytest.raises(
        VibTheoryError, match=r"jobs: a process died \(TerminatedWorkerError\).*Remedy: give it more memory"
    ):
        list(sweep_jobs.side_by_side(os._exit, [1, 1], jobs=2))  # type: ignore[arg-type]


def _npz(path: Path) -> str:
    rng = np.random.default_rng(1)
    x = rng.random((60, 784))
    np.savez(path, x_train=x[:40], y_train=np.arange(40) % 10, x_test=x[40:], y_test=np.arange(20) % 10)
    return str(path)


def test_command(tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = ["sweep", "--gammas", "1e-3,1e-2", "--seeds", "2,", "--epochs", "2", "--record", "1", "--out", str(out),
            "--data", _npz(tmp_path / "d.npz"), "-n", "30", "--device", "cpu", "--recipe"]  # fmt: skip
    (tmp_path / "recipe.toml").write_text("batch_size = 20\nprune_every = 1\n", encoding="utf-8")
    done = CliRunner().invoke(app, [*line, str(tmp_path / "recipe.toml")])
    assert done.exit_code == 0, done.output
    assert "Sweep of 2 runs" in done.output
    table = pd.read_csv(out / "table.csv")
    assert set(table["seed"]) == {2}
    assert set(table["epoch"]) == {0, 1, 2}
    (tmp_path / "hard.toml").write_text("batch_size = 1\ngate_learning_rate = 0.5\n", encoding="utf-8")
    line[line.index("--gammas") + 1] = "1e-1"
    added = CliRunner().invoke(app, [*line, str(tmp_path / "recipe.toml")])
    assert added.exit_code == 0, added.output
    assert f"beside {len(table)} of earlier sweeps" in added.output
    assert set(pd.read_csv(out / "table.csv")["gamma"]) == {1e-3, 1e-2, 1e-1}
    line[line.index("--gammas") + 1] = "1e4"
    refused = CliRunner().invoke(app, [*line, str(tmp_path / "hard.toml")])
    assert refused.exit_code == 2
    assert "of another recipe (batch_size 20, now 1" in " ".join(refused.stderr.split())
    line[line.index("--out") + 1] = str(tmp_path / "hard")
    assert CliRunner().invoke(app, [*line, str(tmp_path / "hard.toml")]).exit_code == 3


@pytest.mark.parametrize(
    ("option", "value"), [("--gammas", "a,b"), ("--gammas", ","), ("--seeds", "1.5"), ("--record", "x")]
)
def test_bad_options(option: str, value: str, tmp_path: Path) -> None:
    given = {"--gammas": "1e-3", "--out": str(tmp_path), option: value}
    done = CliRunner().invoke(app, ["sweep", *(part for pair in given.items() for part in pair)])
    assert done.exit_code == 2
    assert option in done.stderr
