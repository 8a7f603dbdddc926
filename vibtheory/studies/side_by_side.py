"""Independent jobs side by side: in this process, in local processes (joblib), or on a Dask cluster (distributed)."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from vibtheory.errors import MissingDependencyError, VibTheoryError, reject

__all__ = ["side_by_side"]

Item = TypeVar("Item")
Result = TypeVar("Result")

ANSWER_WITHIN = 10.0
"""Seconds for a Dask scheduler to answer."""

_owner: int | None = None  # in a local process: the process whose items it works on
_LOOK_EVERY = 0.2  # seconds between looks whether that one still lives


def side_by_side(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int = 1,
    cluster: str | None = None,
    threads: int = 1,
) -> Iterator[tuple[int, Result]]:
    """(place, function(item)) of every item, as they finish. Local processes end with this one, however it ends.

    Args:
        function, items: picklable, unless `jobs` is 1 and there is no cluster.
        jobs: processes on this machine, no more than there are items; 1: this one.
        cluster: address of a Dask scheduler to use instead. A job whose worker dies is run again on another one.
        threads: of each process, where there are several on this machine.

    Raises:
        MissingDependencyError: `cluster` without the extra of that name.
        InvalidInputError: no scheduler answers there, or it has no workers.
        VibTheoryError: a local process died (killed, out of memory), or one job's workers did again and again.
    """
    jobs = min(jobs, len(items))
    if cluster is None and jobs <= 1:
        yield from ((place, function(item)) for place, item in enumerate(items))
        return
    with _deaths_explained(cluster):
        if cluster is None:
            yield from _in_processes(function, items, jobs, threads)
        else:
            yield from _on_cluster(function, items, cluster)


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, threads: int
) -> Iterator[tuple[int, Result]]:
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", inner_max_num_threads=threads):
        pool = Parallel(n_jobs=jobs, return_as="generator_unordered", max_nbytes=None)
        yield from pool(delayed(_placed)(function, place, item, os.getpid()) for place, item in enumerate(items))


def _on_cluster(
    function: Callable[[Item], Result], items: Sequence[Item], address: str
) -> Iterator[tuple[int, Result]]:
    # Not through joblib's Dask backend: it waits for ever for a job whose workers died (joblib 1.6.0).
    with _client(address) as client:
        futures = [client.submit(function, item, pure=False) for item in items]
        places = {future.key: place for place, future in enumerate(futures)}
        for future in _distributed().as_completed(futures):
            yield places[future.key], future.result()


def _placed(function: Callable[[Item], Result], place: int, item: Item, owner: int) -> tuple[int, Result]:
    global _owner
    if os.getpid() == owner:  # joblib may take none, within a daemon for one: nobody to end with
        return place, function(item)
    if _owner is None:
        threading.Thread(target=_end_with_the_owner, daemon=True).start()
    _owner = owner
    return place, function(item)


def _end_with_the_owner() -> None:
    """End this process once its owner is gone: it would hold its runs' folders; what it wrote is whole at any time."""
    while _owner is None or os.getppid() == _owner:
        time.sleep(_LOOK_EVERY)
    os._exit(1)


@contextmanager
def _deaths_explained(cluster: str | None) -> Iterator[None]:
    """Say in our words that a worker died."""
    if cluster is None:
        died = importlib.import_module("joblib.externals.loky.process_executor").TerminatedWorkerError
    else:
        died = _distributed().KilledWorker
    try:
        yield
    except died as error:
        what = "jobs: a process" if cluster is None else f"cluster: worker after worker at {cluster}"
        raise VibTheoryError(
            f"{what} died ({type(error).__name__}), expected it to finish its run. "
            "Remedy: give it more memory, or use fewer jobs; the same call goes on from what was recorded"
        ) from error


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise MissingDependencyError(
            "cluster: distributed is not installed, expected the extra `cluster`. "
            "Remedy: pip install 'vibtheory[cluster]', or use jobs= on this machine"
        ) from error


def _client(address: str) -> AbstractContextManager[Any]:
    try:
        client = _distributed().Client(address, timeout=ANSWER_WITHIN, set_as_default=True)
    except (OSError, ValueError, TypeError) as error:
        reject(
            "cluster", f"{address} ({error})", "the address of a running Dask scheduler", "start one: dask scheduler"
        )
    if not client.scheduler_info()["workers"]:
        client.close()
        reject("cluster", f"{address} without workers", "at least one worker", f"start some: dask worker {address}")
    found: AbstractContextManager[Any] = client
    return found
