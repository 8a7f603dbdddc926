"""SIGKILL at random steps: a child process runs, is killed, and is started again until it is done.

A step is a gradient, a file flushed, a file renamed: the n-th one of a run is the same on every machine, as its n-th
millisecond is not.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from pandas import DataFrame

from vibtheory import datasets, networks
from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.networks import registry as building
from vibtheory.storage import write_text
from vibtheory.studies.experiment_runs import run_experiment
from vibtheory.studies.experiments import Experiment
from vibtheory.studies.sweep import sweep
from vibtheory.training.recipe import Recipe
from vibtheory.training.run import load
from vibtheory.training.single import train

__all__ = ["RUNS", "KillReport", "killed_until_done", "stopped_at", "sweep_of", "table_of"]

TIMED = ("seconds", "images_per_second", "peak_memory_mib")


@dataclass(frozen=True)
class KillReport:
    """How many children were killed, how many runs came to their end, and how many of those differ in a bit."""

    kills: int
    completed: int
    differing: int


def _data() -> Dataset:
    rng = np.random.default_rng(2)
    x = rng.normal(scale=2.0, size=(120, 9))
    y = (x[:, 0] > x[:, 3]).astype(int)
    return from_arrays(x[:80], y[:80], x[80:], y[80:], name="mnist")


def _train(folder: Path) -> None:
    torch.manual_seed(6)
    recipe = {"epochs": 8, "pretrain_epochs": 2, "batch_size": 8, "gamma": 1e-3, "prune_every": 2,
              "gate_learning_rate": 0.1}  # fmt: skip
    run = train(networks.mlp((9, 7, 2)), _data(), seed=3, device="cpu", checkpoint=folder / "c", **recipe)
    run.save(folder / "run")


def table_of(runs: Path) -> DataFrame:
    """A table's short experiment on made-up data; finished runs are only read."""
    plan = Experiment(
        "tiny", 1, "tiny", "mnist", Recipe(gamma=1e-3, epochs=3, pretrain_epochs=1, batch_size=16),
        Recipe(gamma=0.0, epochs=2, batch_size=16), {"quick": {"seeds": [0, 1]}},
    )  # fmt: skip
    tiny = {"tiny": lambda: networks.mlp((9, 5, 2))}
    with patch.dict(building._BUILDERS, tiny), patch.object(datasets, "load", lambda name, root: _data()):
        return run_experiment(plan, "quick", runs=runs, jobs=1)


def sweep_of(out: Path) -> DataFrame:
    """A small sweep on the same data."""
    return sweep(
        gammas=[1e-3, 1e-2], seeds=2, out=out, epochs=4, record=2, dataset=_data(), n=60, device="cpu",
        network={"builder": "mlp", "arguments": {"sizes": [9, 5, 2]}}, estimators=[("variational",), ("gaussian", 0.5)],
        recipe={"batch_size": 16, "gate_learning_rate": 0.1, "prune_every": 1},
    ).table  # fmt: skip


def _table(folder: Path) -> None:
    write_text(folder / "table.csv", table_of(folder / "runs").drop(columns="seconds").to_csv(index=False))


def _sweep(folder: Path) -> None:
    write_text(folder / "table.csv", sweep_of(folder / "sweep").drop(columns="seconds").to_csv(index=False))


RUNS: dict[str, Callable[[Path], None]] = {"train": _train, "table": _table, "sweep": _sweep}


def stopped_at(step: int, kind: signal.Signals = signal.SIGKILL) -> Callable[[], int]:
    """From now on, send this process `kind` at its step of that number (from 0); the function counts the steps so far.

    Killed in the middle of a write, the file is cut to its half.
    """
    steps = 0

    def counted(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def one_more(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == step + 1:
                if name == "fsync" and kind == signal.SIGKILL:
                    os.truncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
                os.kill(os.getpid(), kind)
            return real(*arguments, **options)

        setattr(owner, name, one_more)

    for owner, name in ((torch.Tensor, "backward"), (os, "fsync"), (os, "replace")):
        counted(owner, name)
    return lambda: steps


def _child(name: str, folder: Path, step: int, counter: Any) -> None:
    torch.set_num_threads(1)  # after its parent used more, a forked child would wait for them for ever
    sys.settrace(None)  # a child writes no coverage
    steps = stopped_at(step)
    RUNS[name](folder)
    counter.value = steps()
    os._exit(0)


def _bits(folder: Path) -> list[Any]:
    """Everything a finished run left that must not depend on the kills."""
    found: list[Any] = []
    for path in sorted(folder.rglob("run.json")):
        run = load(path.parent, networks.mlp((9, 7 if path.parent.name == "run" else 5, 2)))
        rows = [{key: value for key, value in row.items() if key not in TIMED} for row in run.rows]
        found += [json.dumps(rows), *(tensor.numpy().tobytes() for tensor in run.net.state_dict().values())]
    found += [path.read_bytes() for path in sorted(folder.glob("table.csv"))]
    return found


def killed_until_done(name: str, kills: int, seed: int, folder: Path) -> KillReport:
    """Run, kill at a random step, run again, until there were `kills` kills and the last run came to its end."""
    context, rng = multiprocessing.get_context("fork"), np.random.default_rng([seed, len(name)])
    counter = context.Value("q", 0)

    def exit_code(place: Path, step: int) -> int | None:
        child = context.Process(target=_child, args=(name, place, step, counter))
        child.start()
        child.join()
        return child.exitcode

    if (code := exit_code(folder / "undisturbed", -1)) != 0:
        raise AssertionError(f"the undisturbed run ended with {code}")
    steps, expected = counter.value, _bits(folder / "undisturbed")
    done = completed = differing = 0
    while True:
        code = exit_code(folder / "killed", int(rng.integers(steps)) if done < kills else -1)
        if code == 0:
            completed += 1
            differing += _bits(folder / "killed") != expected
            if done >= kills:
                return KillReport(done, completed, differing)
            shutil.rmtree(folder / "killed")
        elif code == -signal.SIGKILL:
            done += 1
        else:
            raise AssertionError(f"a resumed run ended with {code}")
