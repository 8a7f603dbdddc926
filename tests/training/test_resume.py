"""A run that is killed, however and whenever, and started again ends with the bits of an undisturbed one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.robustness.kills import stopped_at
from vibtheory import networks
from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.errors import CheckpointError, InvalidInputError, VibTheoryError
from vibtheory.networks.gates import named_gates
from vibtheory.networks.insertion import insert_gates
from vibtheory.storage import locked
from vibtheory.training import loop as training_loop
from vibtheory.training.budget import compress_to
from vibtheory.training.checkpoint import State
from vibtheory.training.run import Run
from vibtheory.training.single import train

FULL: dict[str, Any] = {
    "epochs": 10, "pretrain_epochs": 2, "batch_size": 25, "gamma": 1e-3, "gate_learning_rate": 0.15, "shift": 1,
    "distill": 0.3, "prune_every": 2, "initial_log_variance": -4.0,
}  # fmt: skip
KILLS = 3  # of each kind


def _data() -> Dataset:
    rng = np.random.default_rng(2)
    x = rng.normal(scale=2.0, size=(150, 1, 5, 5))
    x[:, :, 0] = 0.0
    y = (x[:, 0, 2, 2] > x[:, 0, 3, 3]).astype(int)
    return from_arrays(x[:100], y[:100], x[100:], y[100:])


DATA = _data()


def _net(seed: int = 6, hidden: int = 9) -> nn.Sequential:
    torch.manual_seed(seed)
    return networks.mlp((25, hidden, 2))


def _run(folder: Path | None, **changes: Any) -> Run:
    return train(_net(), DATA, seed=3, device="cpu", checkpoint=folder, **{**FULL, **changes})


def _tensors(run: Run) -> dict[str, torch.Tensor]:
    return run.net.state_dict()


def _rows(run: Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.rows]


def _child(folder: Path, step: int, kind: signal.Signals) -> None:
    """The run in a process of its own, which sends itself the signal at this step."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stopped_at(step, kind)
    try:
        _run(folder)
    except KeyboardInterrupt:
        os._exit(130)
    os._exit(0)


def _epochs_done(folder: Path) -> int:
    path = folder / "checkpoint.json"
    return len(json.loads(path.read_text(encoding="utf-8"))["history"]) if path.exists() else 0


@pytest.fixture(scope="module")
def undisturbed() -> Run:
    run = _run(None)
    assert run.status == "completed"
    active = {name: int(gate.active.sum()) for name, gate in named_gates(run.net).items()}
    assert active["input"] < 25  # the run did cut units out
    return run


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_and_resumed_is_bit_identical(kind: signal.Signals, undisturbed: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(int(kind))
    for _ in range(KILLS):
        step = int(rng.integers(10, 32))  # anywhere in an epoch of eight, in writing a checkpoint too
        process = multiprocessing.get_context("fork").Process(target=_child, args=(tmp_path, step, kind))
        process.start()
        process.join()
        assert process.exitcode == (130 if kind == signal.SIGINT else -kind)
    done = _epochs_done(tmp_path)
    assert 1 <= done < 12
    resumed = _run(tmp_path)
    expected = _tensors(undisturbed)
    assert all(torch.equal(expected[name], tensor) for name, tensor in _tensors(resumed).items())
    assert _rows(resumed) == _rows(undisturbed)


def stop_after_the_next_checkpoint(patch: pytest.MonkeyPatch, epochs: int | None = None) -> None:
    """Ctrl-C right after a checkpoint is written: the next one, or that of so many epochs."""
    write = training_loop.snapshot

    def write_then_stop(folder: Path, identity: dict[str, Any], state: State) -> None:
        write(folder, identity, state)
        if epochs in (None, len(state.progress["history"])):
            raise KeyboardInterrupt

    patch.setattr(training_loop, "snapshot", write_then_stop)


@pytest.mark.parametrize("stop", range(1, 12))
def test_stopped_after_every_epoch(
    stop: int, undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deterministic: Ctrl-C right after the checkpoint of each epoch, pretraining's last one included."""
    stop_after_the_next_checkpoint(monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path)
    monkeypatch.undo()
    resumed = _run(tmp_path)
    expected = _tensors(undisturbed)
    assert all(torch.equal(expected[name], tensor) for name, tensor in _tensors(resumed).items())
    assert _rows(resumed) == _rows(undisturbed)


def test_with_momentum_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SGD remembers is cut, kept and put back like Adam's."""
    expected = _tensors(_run(None, weight_optimizer="sgd"))
    for _ in range(11):
        with monkeypatch.context() as patch:
            stop_after_the_next_checkpoint(patch)
            with pytest.raises(KeyboardInterrupt):
                _run(tmp_path, weight_optimizer="sgd")
    resumed = _run(tmp_path, weight_optimizer="sgd")
    assert int(named_gates(resumed.net)["input"].active.sum()) < 25
    assert all(torch.equal(expected[name], tensor) for name, tensor in _tensors(resumed).items())


class _Centred(nn.Module):
    """Takes away a running mean, which is kept as a test says; both places hold the same one."""

    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.inner = nn.Linear(25, 6)
        self.readout = nn.Linear(6, 2)
        self.register_buffer("mean", torch.zeros(6), persistent=persistent)
        self.readout.register_buffer("mean", self.mean, persistent=persistent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.inner(x.flatten(1)))
        if self.training:
            self.mean.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
        return self.readout(h - self.readout.mean)


@pytest.mark.parametrize("persistent", [True, False])
def test_a_buffer_that_torch_does_not_keep_goes_on_too(tmp_path: Path, persistent: bool) -> None:
    def run(folder: Path | None, stop: int | None = None) -> Run:
        def watch(_net: nn.Module, epoch: int) -> None:
            if epoch == stop:
                raise KeyboardInterrupt

        torch.manual_seed(0)
        return train(_Centred(persistent), DATA, gamma=0.0, epochs=5, seed=3, device="cpu", checkpoint=folder,
                     on_epoch=watch)  # fmt: skip

    whole = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=4)
    resumed = run(tmp_path)
    assert resumed.rows[-1]["cross_entropy"] == whole.rows[-1]["cross_entropy"]
    assert torch.equal(resumed.net.mean, whole.net.mean)
    assert resumed.net.readout.mean.data_ptr() == resumed.net.mean.data_ptr()


class _Counting(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: dict[str, int]) -> None: ...


def test_a_state_that_is_no_tensor_is_refused_where_it_would_be_written(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(25, 6), nn.ReLU(), _Counting(6, 2))
    trained = train(net, DATA, gamma=0.0, epochs=1, device="cpu", teacher=net, distill=0.5)
    for call in (lambda: train(net, DATA, gamma=0.0, epochs=1, device="cpu", checkpoint=tmp_path / "a"),
                 lambda: trained.save(tmp_path / "b"),
                 lambda: compress_to(net, DATA, r_w=50.0, epochs=1, trials=1, checkpoint=tmp_path / "c")):  # fmt: skip
        with pytest.raises(
            InvalidInputError, match=r"net: got a dict in its state \(\S*3._extra_state\), expected tensors"
        ):
            call()
    assert compress_to(net, DATA, r_w=90.0, epochs=1, fine_tune_epochs=1, trials=1).trials


def test_a_finished_run_is_only_read(undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(tmp_path)
    monkeypatch.setattr(training_loop.Loop, "_epoch", lambda *_: pytest.fail("trained again"))
    again = _run(tmp_path)
    assert all(torch.equal(_tensors(undisturbed)[name], tensor) for name, tensor in _tensors(again).items())


def test_a_collapsed_run_stays_collapsed(tmp_path: Path) -> None:
    collapse = {"gamma": 1e3, "gate_learning_rate": 0.5, "epochs": 60}
    first, second = _run(tmp_path, **collapse), _run(tmp_path, **collapse)
    assert first.status == second.status == "collapsed"
    assert first.rows == second.rows
    assert "use a smaller gamma" in second.message


OTHERS: dict[str, Any] = {
    "recipe": lambda f: _run(f, gamma=3e-2),
    "seed": lambda f: train(_net(), DATA, seed=4, device="cpu", checkpoint=f, **FULL),
    "shapes": lambda f: train(_net(hidden=8), DATA, seed=3, device="cpu", checkpoint=f, **FULL),
    "data": lambda f: train(_net(), replace(DATA, name="other"), seed=3, device="cpu", checkpoint=f, **FULL),
    "test": lambda f: train(_net(), replace(DATA, y_test=1 - DATA.y_test), seed=3, device="cpu", checkpoint=f, **FULL),
    "network": lambda f: train(_threshold(2.0), DATA, seed=3, device="cpu", checkpoint=f, **FULL),
    "teacher": lambda f: train(_net(), DATA, seed=3, device="cpu", checkpoint=f, teacher=_net(), **FULL),
}


def _threshold(value: float) -> nn.Sequential:
    net = _net()
    named_gates(net)["h1"].threshold = value
    return net


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    _run(folder)
    return folder


@pytest.mark.parametrize("what", OTHERS)
def test_another_run_is_refused(what: str, finished: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"its .*{what}.* differ"):
        OTHERS[what](finished)


def test_modules_are_compared_under_one_torch_only(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another torch may print them otherwise; a run must go on under it."""
    monkeypatch.setattr(torch, "__version__", "2.99")
    train(_threshold(2.0), DATA, seed=3, device="cpu", checkpoint=finished, **FULL)


def _own(activation: type[nn.Module] = nn.ReLU, **gates: Any) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(25, 4), activation(), nn.Linear(4, 2))
    return insert_gates(net, torch.as_tensor(DATA.x_test[:2]), **gates)


def _frozen() -> nn.Module:
    net = _own()
    net.get_parameter("1.weight").requires_grad_(False)
    return net


def _teacher(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(25, 2))


CHANGES: dict[str, tuple[str, Any, Any]] = {
    "activation": ("network", _own, lambda: _own(nn.Tanh)),
    "law": ("network", lambda: _own(law="l0"), lambda: _own(law="gd")),
    "law without parameters of its own": ("network", lambda: _own(law="gl"), lambda: _own(law="dn")),
    "prior": ("network", lambda: _own(law="gd"), lambda: _own(law="gd", prior_open=0.5)),
    "multiplier": ("network", _own, lambda: _own(multiplier=2.0)),
    "teacher": ("teacher", _own, _own),
    "a layer frozen": ("frozen", _own, _frozen),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_that_no_shape_shows_is_refused(what: str, tmp_path: Path) -> None:
    key, before, after = CHANGES[what]
    given: dict[str, Any] = {"epochs": 1, "seed": 3, "device": "cpu", "checkpoint": tmp_path, "distill": 0.5}
    first = train(before(), DATA, teacher=_teacher(0), **given)
    again = train(before(), DATA, teacher=_teacher(0), **given)
    assert _rows(again) == _rows(first)
    with pytest.raises(CheckpointError, match=rf"its {key}( \(torch .*\))? differ"):
        train(after(), DATA, teacher=_teacher(int(key == "teacher")), **given)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _forget(path: Path, key: str) -> None:
    plain = json.loads(path.read_text(encoding="utf-8"))
    del plain[key]
    path.write_text(json.dumps(plain), encoding="utf-8")


DAMAGE: dict[str, Any] = {
    "truncated weights": lambda f: _truncate(next(f.glob("*.safetensors"))),
    "flipped bit": lambda f: _flip(next(f.glob("*.safetensors"))),
    "missing weights": lambda f: next(f.glob("*.safetensors")).unlink(),
    "empty weights": lambda f: next(f.glob("*.safetensors")).write_bytes(b""),
    "truncated description": lambda f: _truncate(f / "checkpoint.json"),
    "not JSON": lambda f: (f / "checkpoint.json").write_bytes(b"\xff\xfe{"),
    "a list": lambda f: (f / "checkpoint.json").write_text("[1, 2]"),
    "no history": lambda f: _forget(f / "checkpoint.json", "history"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_checkpoints(kind: str, finished: Path, tmp_path: Path) -> None:
    for file in finished.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    DAMAGE[kind](tmp_path)
    with pytest.raises(CheckpointError, match="Remedy"):
        _run(tmp_path)


def test_folder_in_use(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(VibTheoryError, match=r"in use by another run.*Remedy"):
        _run(tmp_path)


def test_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(VibTheoryError, match=r"could not use.*Remedy"):
        _run(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
