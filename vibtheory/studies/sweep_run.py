"""One run of a sweep: train, and record at chosen epochs. Stopped however, it goes on where it was.

A run's folder holds train's checkpoint, the net at each recorded epoch, and rows.json with one entry per estimate. The
nets make later questions cheap: other estimators are computed from them, without training again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from vibtheory import datasets
from vibtheory.datasets.dataset import Dataset
from vibtheory.storage import locked
from vibtheory.storage.run_store import PATIENCE
from vibtheory.studies.sweep_measurement import Measurement
from vibtheory.studies.sweep_plan import SweepRun
from vibtheory.studies.sweep_rows import SweepRows
from vibtheory.training.hardware import choose_device, interleave
from vibtheory.training.loop import Settings
from vibtheory.training.run import Run
from vibtheory.training.single import in_turns

__all__ = ["finish"]

_NEVER = 10**9  # the measurement evaluates, at recorded epochs


def finish(group: Sequence[SweepRun]) -> list[tuple[list[dict[str, Any]], str]]:
    """Rows and status ("completed", "collapsed") of each run; what is there already is read, the rest is done.

    Args:
        group: the runs that take turns, a training step each.

    Raises:
        CheckpointError: a folder is damaged, or was trained past an epoch that is now to be recorded.
        InvalidInputError: more inputs asked for than there are.
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
                    assert done is not None  # nothing stops them
                    log.close(done.status)
            for log in logs:
                log.check()
        return [(log.rows(), str(log.status)) for log in logs]


def _train(group: Sequence[SweepRun], measurements: Sequence[Measurement], data: Dataset) -> list[Run | None]:
    place = choose_device(group[0].plan.device)

    def on_epoch(run: SweepRun, measurement: Measurement, net: nn.Module, done: int) -> None:
        measurement(net, done - run.recipe.pretrain_epochs)

    turns = []
    for run, measurement in zip(group, measurements, strict=True):
        settings = Settings(device=place, seed=run.seed, evaluate_every=_NEVER, folder=run.folder / "checkpoint",
                            on_epoch=partial(on_epoch, run, measurement))  # fmt: skip
        turns.append(in_turns(run.fresh_net(), data, run.recipe, settings))
    return interleave(turns, place)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: side by side that is faster, and the numbers do not depend on the number of jobs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
