"""Two gloo processes on the CPU against one: the same losses, one writer, and what happens when a process dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests.tiny_cifar import dataset, seeded
from vibtheory import cli
from vibtheory.errors import InvalidInputError, VibTheoryError
from vibtheory.networks.gates import named_gates
from vibtheory.training import loop as training_loop
from vibtheory.training import single as training
from vibtheory.training.distributed import World, lost_worker_explained, parallel, process_group, synchronised, world
from vibtheory.training.single import train

# 103 examples in batches of 20: the last one, of 3, gives its processes 1 and 2 rows.
DATA = dataset(103, 40)
RECIPE: dict[str, Any] = {
    "epochs": 3, "pretrain_epochs": 2, "batch_size": 20, "gamma": 3e-3, "learning_rate": 3e-3, "weight_decay": 1e-3,
    "gate_learning_rate": 5e-2, "initial_log_variance": -3.0, "initial_spread": 0.01,
}  # fmt: skip
SETTINGS = {
    "augment": {"augment": "crop+flip"},
    "shift and distil": {"shift": 1, "distill": 0.3},
}


def _train(folder: Path | None, **changes: Any) -> Any:
    net = seeded(5, classes=3, size=8)
    return train(net, DATA, seed=3, device="cpu", checkpoint=folder, **{**RECIPE, **changes})


def _worker(rank: int, size: int, folder: Path, changes: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    written = []
    real = training_loop.snapshot
    training_loop.snapshot = lambda *a: (written.append(1), real(*a))[1]  # type: ignore[attr-defined]
    run = _train(folder / "checkpoint", **changes)
    torch.save(run.net.state_dict(), folder / f"net{rank}.pt")
    report = {"rows": run.rows, "written": len(written), "norm": type(run.net.norm1_1).__name__}
    (folder / f"rank{rank}.json").write_text(json.dumps(report))
    distributed.destroy_process_group()


def _together(
    folder: Path, changes: dict[str, Any], size: int = 2, worker: Callable[..., None] = _worker
) -> list[dict[str, Any]]:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=worker, args=(rank, size, folder, changes)) for rank in range(size)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(size)]


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_follow_one(name: str, tmp_path: Path) -> None:
    alone = _train(None, **SETTINGS[name])
    reports = _together(tmp_path, SETTINGS[name])
    assert [report["written"] for report in reports] == [5, 0]  # one writer
    for rank, report in enumerate(reports):
        assert report["norm"] == "BatchNorm2d"
        for ours, theirs in zip(report["rows"], alone.rows, strict=True):
            # the test loss grows its rounding sixfold an epoch, to 1e-5 at the last: a wide margin
            for key, within in (("cross_entropy", 1e-5), ("information", 1e-5), ("test_loss", 1e-4)):
                assert ours[key] == pytest.approx(theirs[key], rel=within, abs=within), key
            assert all(ours[key] == theirs[key] for key in ("error", "r_w", "flop"))
        state = torch.load(tmp_path / f"net{rank}.pt", weights_only=True)
        for key, tensor in alone.net.state_dict().items():
            torch.testing.assert_close(state[key], tensor, rtol=1e-3, atol=1e-4, msg=key)
    losses = [row["cross_entropy"] for row in alone.rows]
    assert losses[-1] < 0.95 * losses[0]  # the comparison is of a net that learns
    assert all("forward" not in module.__dict__ for module in alone.net.modules())


def test_a_parameter_that_nothing_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays as it is, on two processes as on one: without a gradient there is no decay either."""
    plain = seeded

    def with_idle(*arguments: Any, **options: Any) -> nn.Module:
        net = plain(*arguments, **options)
        net.register_parameter("idle", nn.Parameter(torch.ones(3)))
        return net

    monkeypatch.setitem(_train.__globals__, "seeded", with_idle)
    changes = {"epochs": 1, "pretrain_epochs": 1}
    reports = _together(tmp_path, changes)
    alone = _train(None, **changes)
    for rank, report in enumerate(reports):
        for one, two in zip(alone.rows, report["rows"], strict=True):
            assert two["cross_entropy"] == pytest.approx(one["cross_entropy"], rel=1e-5)
        assert bool((torch.load(tmp_path / f"net{rank}.pt", weights_only=True)["idle"] == 1).all())


def test_with_dropout_an_epoch_is_all_examples_still(tmp_path: Path) -> None:
    """The last batch has 1 and 2 rows, and so many masks are drawn; the next epoch's order is one all the same."""

    def notes(rank: int, size: int, folder: Path, _changes: dict[str, Any]) -> None:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
        rows: list[int] = []

        class Noting(training_loop.Loop):
            def step(self, batch: torch.Tensor, price: Any) -> torch.Tensor:
                rows.extend(batch[self.world.share(len(batch))].tolist())
                return super().step(batch, price)

        training.Loop = Noting  # type: ignore[misc]
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(DATA.x_train[0].size, 3))
        train(net, DATA, gamma=0.0, epochs=3, batch_size=20, device="cpu")
        (folder / f"rank{rank}.json").write_text(json.dumps({"rows": rows}))
        distributed.destroy_process_group()

    first, second = (report["rows"] for report in _together(tmp_path, {}, worker=notes))
    each = [rows[k * len(rows) // 3 : (k + 1) * len(rows) // 3] for rows in (first, second) for k in range(3)]
    for k in range(3):
        assert sorted(each[k] + each[k + 3]) == list(range(103))


def test_running_statistics_of_half_a_batch_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """InstanceNorm's: each process would end with its own, and the one that writes with those of half of the rows."""
    plain = seeded

    def with_norm(*arguments: Any, **options: Any) -> nn.Module:
        net = plain(*arguments, **options)
        return nn.Sequential(OrderedDict(first=nn.InstanceNorm2d(3, track_running_stats=True), rest=net))

    def fails(rank: int, size: int, folder: Path, changes: dict[str, Any]) -> None:
        with pytest.raises(VibTheoryError, match=r"processes: 2, whose \S*running_mean differ") as refused:
            _worker(rank, size, folder, changes)
        distributed.destroy_process_group()
        (folder / f"rank{rank}.json").write_text(json.dumps({"words": str(refused.value)}))

    monkeypatch.setitem(_train.__globals__, "seeded", with_norm)
    reports = _together(tmp_path, {"epochs": 1, "pretrain_epochs": 0}, worker=fails)
    assert all("Remedy: train in one process" in report["words"] for report in reports)
    assert not (tmp_path / "checkpoint" / "checkpoint.json").exists()


def test_the_checkpoint_of_two_is_continued_by_one(tmp_path: Path) -> None:
    _together(tmp_path, SETTINGS["augment"])
    again = _train(tmp_path / "checkpoint", **SETTINGS["augment"])
    rows = json.loads((tmp_path / "rank0.json").read_text())["rows"]
    assert again.rows == rows  # read, not trained


DYING = """
import json, os, pathlib, signal
from tests.tiny_cifar import two_blocks
from torch import nn

class Dies(nn.Identity):
    def forward(self, x):
        state = pathlib.Path("run/checkpoint/checkpoint.json")
        if self.training and os.environ.get("RANK") == "1" and pathlib.Path("die").exists() and state.exists():
            if len(json.loads(state.read_text())["history"]) >= 2:
                os.kill(os.getpid(), signal.SIGKILL)
        return x

def build():
    return nn.Sequential(Dies(), two_blocks(classes=3, size=8))
"""


def _torchrun(folder: Path) -> tuple[bool, str, str]:
    """`torchrun --nproc-per-node 2 -m vibtheory train ...` by torchrun's own agent: it went well, stdout, stderr.

    The agent and its workers are forks of this process, so that none of them loads torch again.
    """
    logs = folder / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    agent = multiprocessing.get_context("fork").Process(target=_agent, args=(folder, logs))
    agent.start()
    agent.join()
    said = ["".join(path.read_text() for path in sorted(logs.rglob(f"{name}.log"))) for name in ("stdout", "stderr")]
    return agent.exitcode == 0, said[0], said[1]


def _agent(folder: Path, logs: Path) -> None:
    # The agent redirects the workers' streams, which must not be pytest's.
    sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))  # noqa: SIM115
    torch.set_num_threads(1)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ["OMP_NUM_THREADS"] = "1"
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, run_id="dying", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        start_method="fork", max_restarts=0, monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=Std.ALL),
    )  # fmt: skip
    try:
        elastic_launch(config, _command)()
    except ChildFailedError:
        os._exit(1)
    os._exit(0)


def _command() -> None:
    arguments = "train dying:build --out run --data points.npz --recipe recipe.toml --device cpu"
    sys.argv = ["vibtheory", *arguments.split()]
    cli.main()


def test_a_killed_worker_ends_the_run_and_the_command_goes_on(tmp_path: Path) -> None:
    import numpy as np

    (tmp_path / "dying.py").write_text(DYING)
    settings = {**RECIPE, "epochs": 2}
    (tmp_path / "recipe.toml").write_text("\n".join(f"{key} = {value}" for key, value in settings.items()))
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez(tmp_path / "points.npz", **{name: getattr(DATA, name) for name in names})
    (tmp_path / "die").touch()
    well, _, said = _torchrun(tmp_path)
    assert not well
    assert "error: processes: another one of the 2 ended" in said or "interrupted" in said
    assert "same command goes on" in said
    state = json.loads((tmp_path / "run" / "checkpoint" / "checkpoint.json").read_text())
    assert len(state["history"]) == 2
    (tmp_path / "die").unlink()
    well, answer, said = _torchrun(tmp_path)
    assert well, said
    assert "find_unused_parameters" not in said  # torch's warning that it found none
    assert answer.count("saved in run") == 1  # one process speaks
    history = json.loads((tmp_path / "run" / "run.json").read_text())["history"]
    assert len(history) == 4
    assert history[:2] == state["history"]


def test_batches_must_divide() -> None:
    World(2, 4).check_batches(100, 20)
    with pytest.raises(InvalidInputError, match=r"128 on 3 processes.*Remedy: use batch_size = 126"):
        World(0, 3).check_batches(50000, 128)
    with pytest.raises(InvalidInputError, match=r"batch_size = 4"):
        World(0, 4).check_batches(50000, 2)
    with pytest.raises(InvalidInputError, match=r"leaves 2 of 102 examples to 4 processes"):
        World(0, 4).check_batches(102, 20)


@pytest.mark.parametrize("n", [1, 5, 12, 13])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_partition_the_batch(n: int, size: int) -> None:
    shares = [World(rank, size).share(n) for rank in range(size)]
    rows = [row for share in shares for row in range(share.start, share.stop)]
    assert rows == list(range(n))
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 21}, "21 on 2 processes"),
        ({"prune_every": 1}, "prune_every"),
        ({"accelerate": "compile"}, "accel"),
    ],
)
def test_train_refuses_what_several_processes_cannot_do(
    changes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (training, training_loop):
        monkeypatch.setattr(module, "world", lambda: World(0, 2))
    with pytest.raises(InvalidInputError, match=words):
        _train(None, **changes)


def test_the_union_batch_has_one_noise() -> None:
    gate = named_gates(seeded(classes=3, size=8))["conv1_1"].train()
    h = torch.rand(7, 6, 2, 2) + 0.5
    torch.manual_seed(8)
    whole = gate(h)
    for start, stop in ((0, 3), (3, 7)):
        gate.union = (7, start)
        torch.manual_seed(8)
        assert torch.equal(gate(h[start:stop]), whole[start:stop])


def test_lost_connections_are_explained_and_nothing_else(tmp_path: Path) -> None:
    lost = "[gloo/transport/tcp/pair.cc:1] Connection closed by peer [127.0.0.1]:1"
    whole = pytest.raises(VibTheoryError, match=r"another one of the 3.*is whole.*same command")
    with whole, lost_worker_explained(World(0, 3), tmp_path):
        raise RuntimeError(lost)
    with pytest.raises(VibTheoryError, match="set checkpoint"), lost_worker_explained(World(0, 3), None):
        raise distributed.DistBackendError("watchdog")
    for processes, text in ((World(), "Connection closed by peer"), (World(0, 3), "shapes differ")):
        with pytest.raises(RuntimeError, match=text), lost_worker_explained(processes, tmp_path):
            raise RuntimeError(text)


def test_all_processes_must_see_one_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(found: list[int], epochs: int) -> None:
        found[:] = [epochs, 0]

    monkeypatch.setattr(distributed, "all_gather_object", gather)
    World(0, 2).check_same_progress(0)
    with pytest.raises(VibTheoryError, match=r"\[4, 0\] finished epochs.*share"):
        World(0, 2).check_same_progress(4)
    World().check_same_progress(4)


def test_an_ordinary_run_is_left_alone() -> None:
    assert world() == World(0, 1)
    with process_group("auto") as device:
        assert device == "auto"
    net = nn.Sequential(nn.BatchNorm1d(3))
    assert parallel(net, torch.device("cpu"), World()) is net
    with synchronised(net, World()):
        assert "forward" not in net[0].__dict__
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(World().mean(values), values)


def test_processes_that_do_not_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("MASTER_ADDR is not set")

    monkeypatch.setattr(distributed, "init_process_group", fail)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(VibTheoryError, match=r"MASTER_ADDR.*rdzv-endpoint"), process_group("cpu"):
        pass
    assert signal.getsignal(signal.SIGTERM) is before
