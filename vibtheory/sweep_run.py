"""One run of a sweep: train, and record at chosen epochs. Stopped however, it goes on where it was.

A run's folder holds train's checkpoint, the net at each recorded epoch, and rows.json with one entry per estimate. The
nets make later questions cheap: other estimators are computed from them, without training again.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vibtheory import datasets
from vibtheory.building import build
from vibtheory.datasets.dataset import Dataset
from vibtheory.recipe import Recipe
from vibtheory.run import Run
from vibtheory.storage import locked
from vibtheory.sweep_estimators import Estimator
from vibtheory.sweep_jobs import abandoned
from vibtheory.sweep_log import RowLog
from vibtheory.sweep_recorder import Recorder
from vibtheory.training import train
from vibtheory.training_many import train_many

__all__ = ["SweepRun", "data_identity", "finish"]

_PATIENCE = 120.0  # seconds for which a killed sweep's workers may still hold a run
_NEVER = 10**9  # the recorder evaluates, at recorded epochs


@dataclass(frozen=True)
class SweepRun:
    """Everything that one process needs to know about one run.

    `network` is what `vibtheory.building.build` takes; `batch` lists (γ, seed) of all runs that are trained in step
    with this one (they share their batches of examples, so that each depends on the others), () if it is trained alone.
    """

    network: dict[str, Any]
    dataset: str | Dataset
    gated: bool
    recipe: Recipe
    seed: int
    record: tuple[int, ...]
    estimators: tuple[Estimator, ...]
    layer: str
    n: int
    full_at_last: bool
    out: Path
    device: str
    batch: tuple[tuple[float, int], ...] = ()

    @property
    def description(self) -> dict[str, Any]:
        """What `vibtheory.building.build` makes this run's kind of net from."""
        arguments = self.network.get("arguments", {})
        return self.network if self.gated else {**self.network, "arguments": {**arguments, "gated": False}}

    def fresh_net(self) -> nn.Sequential:
        """The net with the initial weights of this run's seed; the global random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return build(self.description)

    @property
    def folder(self) -> Path:
        """Where the run lives: named after what decides its training."""
        identity = [self.network, data_identity(self.dataset), self.gated, self.recipe.to_dict(), self.seed]
        identity += [self.batch] if self.batch else []
        fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:10]
        kind = "gated" if self.gated else "regular"
        return self.out / "runs" / f"{kind}-gamma{self.recipe.gamma:g}-seed{self.seed}-{fingerprint}"


def finish(group: Sequence[SweepRun]) -> list[tuple[list[dict[str, Any]], str]]:
    """Rows and status ("completed", "collapsed") of each run; what is there already is read, the rest is done.

    Args:
        group: one run, or all runs of a batch, which are trained in step.

    Raises:
        CheckpointError: a folder is damaged, or was trained past an epoch that is now to be recorded.
        InvalidInputError: more inputs asked for than there are, a recipe that cannot be batched.
        DataError, DivergedError: from data and training.
    """
    with ExitStack() as held:
        held.enter_context(_one_thread())
        for run in group:
            held.enter_context(locked(run.folder, wait=_PATIENCE))
        logs = [RowLog(run) for run in group]
        if not all(log.complete() for log in logs):
            dataset = group[0].dataset
            data = datasets.load(dataset) if isinstance(dataset, str) else dataset
            recorders = [Recorder(run, log, data) for run, log in zip(group, logs, strict=True)]
            for recorder in recorders:
                recorder.measure_kept_nets()
            if any(log.status is None for log in logs):
                for log, done in zip(logs, _train(group, recorders, data), strict=True):
                    log.close(done.status)
            for log in logs:
                log.check()
        return [(log.rows(), str(log.status)) for log in logs]


def _train(group: Sequence[SweepRun], recorders: Sequence[Recorder], data: Dataset) -> list[Run]:
    first = group[0]

    def on_epoch(nets: Sequence[nn.Module], done: int) -> None:
        if abandoned():
            os._exit(1)  # leave the run to the next sweep
        for net, recorder in zip(nets, recorders, strict=True):
            recorder(net, done - first.recipe.pretrain_epochs)

    if first.batch:
        name = "batch-" + hashlib.sha256(json.dumps([run.folder.name for run in group]).encode()).hexdigest()[:10]
        prices = [(float(run.recipe.gamma), run.seed) for run in group]  # type: ignore[arg-type]
        return train_many(lambda: build(first.description), data, prices, first.recipe, device=first.device,
                          evaluate_every=_NEVER, checkpoint=first.out / "runs" / name, on_epoch=on_epoch)  # fmt: skip
    net = first.fresh_net()
    place = first.folder / "checkpoint"
    return [train(net, data, first.recipe, seed=first.seed, device=first.device, checkpoint=place,
                  evaluate_every=_NEVER, on_epoch=lambda net, done: on_epoch([net], done))]  # fmt: skip


def data_identity(dataset: str | Dataset) -> str:
    """The name, and of arrays also their checksums."""
    if isinstance(dataset, str):
        return dataset
    parts = (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test)
    return f"{dataset.name} " + " ".join(f"{zlib.crc32(np.ascontiguousarray(part).data):08x}" for part in parts)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: side by side that is faster, and the numbers do not depend on the number of jobs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
