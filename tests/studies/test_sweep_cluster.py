"""A sweep on a Dask cluster of two worker processes, one of them killed half-way: nothing lost, nothing twice."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, popen_forkserver
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster, utils

import vibtheory as vt
from vibtheory.datasets.dataset import from_arrays
from vibtheory.errors import InvalidInputError, VibTheoryError
from vibtheory.studies import side_by_side as side_by_side_module
from vibtheory.studies.side_by_side import side_by_side

EPOCHS = 6
METHOD = "distributed.worker.multiprocessing-method"


def _call(out: Path, **changes: Any) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    x = rng.normal(scale=3.0, size=(90, 12))
    y = (x[:, 0] > x[:, 1]).astype(int)
    call: dict[str, Any] = {
        "gammas": [1e-3, 1e-2], "seeds": 2, "dataset": from_arrays(x[:60], y[:60], x[60:], y[60:]),
        "network": {"builder": "mlp", "arguments": {"sizes": [12, 6, 2]}}, "epochs": EPOCHS, "record": 5, "n": 50,
        "estimators": [("variational",), ("pairwise", 0.5)], "recipe": {"batch_size": 20}, "device": "cpu",
    }  # fmt: skip
    return vt.sweep(out=out, **{**call, **changes}).table


def _epochs_done(out: Path) -> dict[str, int]:
    """Epochs of each run, by the name of its folder."""
    paths = out.glob("runs/*/checkpoint/checkpoint.json")
    return {path.parts[-3]: len(json.loads(path.read_text(encoding="utf-8"))["history"]) for path in paths}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Workers are forks of one server, which imports what they need once.

    The server runs before Dask's threads ask for it: both at once have failed inside Python's own import.
    """
    with pytest.MonkeyPatch.context() as patch, dask.config.set({METHOD: "forkserver"}):
        patch.setattr(utils, "_forkserver_preload_set", True)  # ours instead
        multiprocessing.set_forkserver_preload(["distributed.nanny", "vibtheory.studies.sweep_run", "torch._dynamo"])
        assert popen_forkserver.Popen.method == "forkserver"
        forkserver.ensure_running()
        with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as running:
            yield running


def _kill_at_write(stop: int) -> Callable[[], None]:
    """For a worker: kill -9 right after its k-th checkpoint. The process that replaces it knows nothing of this."""

    def prepare() -> None:  # a local function travels whole: workers do not import the tests
        import os
        import signal

        from vibtheory.training import checkpoint

        real, written = checkpoint.write_state, []

        def counted(*arguments: object) -> None:
            real(*arguments)
            written.append(1)
            if len(written) == stop:
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoint.write_state = counted  # type: ignore[assignment]

    return prepare


def test_a_worker_is_killed_half_way(cluster: LocalCluster, tmp_path: Path) -> None:
    with Client(cluster) as client:
        workers = {address: int(pid) for address, pid in client.run(os.getpid).items()}
        assert len(set(workers.values())) == 2
        client.run(_kill_at_write(EPOCHS // 2), workers=[next(iter(workers))])
        out = tmp_path / "cluster"
        table = _call(out, cluster=cluster.scheduler_address)
        client.wait_for_workers(2)
        after = set(client.run(os.getpid).values())
    assert len(after & set(workers.values())) == 1  # one was killed and replaced, the other lived on

    assert set(_epochs_done(out).values()) == {EPOCHS}
    assert len(_epochs_done(out)) == 4
    assert not table.duplicated(["gated", "gamma", "seed", "epoch", "layer", "method", "tau", "n"]).any()
    undisturbed = _call(tmp_path / "here")
    pd.testing.assert_frame_equal(table.drop(columns="seconds"), undisturbed.drop(columns="seconds"), check_exact=True)


def test_nobody_at_that_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side_module, "ANSWER_WITHIN", 0.1)
    with pytest.raises(InvalidInputError, match=r"cluster: got tcp://127.0.0.1:1 .*Remedy: start one"):
        _call(tmp_path, cluster="tcp://127.0.0.1:1")


def test_a_scheduler_without_workers(tmp_path: Path) -> None:
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0", protocol="tcp") as empty,
        pytest.raises(InvalidInputError, match=r"without workers.*Remedy: start some"),
    ):
        _call(tmp_path, cluster=empty.scheduler_address)


def test_a_job_that_kills_its_workers(cluster: LocalCluster) -> None:
    assert cluster.scheduler is not None
    cluster.scheduler.allowed_failures = 0
    with pytest.raises(VibTheoryError, match=r"worker after worker at tcp://.* died \(KilledWorker\).*Remedy"):
        list(side_by_side(os._exit, [1], cluster=cluster.scheduler_address))  # type: ignore[arg-type]
