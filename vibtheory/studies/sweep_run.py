"""One run of a sweep: train, and record at chosen epochs. Stopped however, it goes on where it was.

A run's folder holds train's checkpoint, the net at each recorded epoch, and rows.json with one entry per estimate. The
nets make later questions cheap: other estimators are computed from them, without training again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vibtheory import datasets
from vibtheory.datasets.dataset import Dataset
from vibtheory.networks.registry import build
from vibtheory.storage import locked
from vibtheory.storage.run_store import PATIENCE, fingerprint
from vibtheory.studies.side_by_side import abandoned
from vibtheory.studies.sweep_measurement import Measurement
from vibtheory.studies.sweep_plan import SweepRun
from vibtheory.studies.sweep_rows import SweepRows
from vibtheory.training.many import train_many
from vibtheory.training.run import Run
from vibtheory.training.single import train

__all__ = ["finish"]

_NEVER = 10**9  # the measurement evaluates, at recorded epochs


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
            held.enter_context(locked(run.folder, wait=PATIENCE))
        logs = [SweepRows(run) for run in group]
        if not all(log.complete() for log in logs):
            dataset = group[0].plan.dataset
            data = datasets.load(dataset) if isinstance(dataset, str) else dataset
            measurements = [Measurement(run, log, data) for run, log in zip(group, logs, strict=True)]
            for measurement in measurements:
                measurement.measure_kept_nets()
            if any(log.status is None for log in logs):
                for log, done in zip(logs, _train(group, measurements, data), strict=True):
                    log.close(done.status)
            for log in logs:
                log.check()
        return [(log.rows(), str(log.status)) for log in logs]


def _train(group: Sequence[SweepRun], measurements: Sequence[Measurement], data: Dataset) -> list[Run]:
    first = group[0]

    def on_epoch(nets: Sequence[nn.Module], done: int) -> None:
        if abandoned():
            os._exit(1)  # leave the run to the next sweep
        for net, measurement in zip(nets, measurements, strict=True):
            measurement(net, done - first.recipe.pretrain_epochs)

    if first.batch:
        name = "batch-" + fingerprint([run.folder.name for run in group])
        prices = [(float(run.recipe.gamma), run.seed) for run in group]  # type: ignore[arg-type]
        place = Path(first.plan.out, "runs", name)
        return train_many(lambda: build(first.description), data, prices, first.recipe, device=first.plan.device,
                          evaluate_every=_NEVER, checkpoint=place, on_epoch=on_epoch)  # fmt: skip
    net = first.fresh_net()
    place = first.folder / "checkpoint"
    return [train(net, data, first.recipe, seed=first.seed, device=first.plan.device, checkpoint=place,
                  evaluate_every=_NEVER, on_epoch=lambda net, done: on_epoch([net], done))]  # fmt: skip


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: side by side that is faster, and the numbers do not depend on the number of jobs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
