"""One run of a sweep: train, and record at chosen epochs. Stopped however, it goes on where it was.

A run's folder holds train's checkpoint, the net at each recorded epoch, and rows.json with one entry per estimate. The
nets make later questions cheap: other estimators are computed from them, without training again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vibtheory import datasets
from vibtheory.building import build
from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import CheckpointError, reject
from vibtheory.evaluation import evaluate
from vibtheory.gates import named_gates
from vibtheory.information import MutualInformation, estimate
from vibtheory.layer_channel import LayerLaw, layer_law
from vibtheory.metrics import compression
from vibtheory.recipe import Recipe
from vibtheory.storage import locked, read_state, write_state, write_text
from vibtheory.sweep_estimators import Estimator
from vibtheory.sweep_jobs import abandoned
from vibtheory.training import train

__all__ = ["SweepRun", "finish", "gated_layer"]

_PATIENCE = 120.0  # seconds for which a killed sweep's workers may still hold a run
_WRITE_EVERY = 5.0  # seconds of estimates that a kill may cost
_BATCH = 1000
_NEVER = 10**9


@dataclass(frozen=True)
class SweepRun:
    """Everything that one process needs to know about one run. `network` is what `vibtheory.building.build` takes."""

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

    @property
    def folder(self) -> Path:
        """Where the run lives: named after what decides its training."""
        identity = [self.network, _data_identity(self.dataset), self.gated, self.recipe.to_dict(), self.seed]
        fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:10]
        kind = "gated" if self.gated else "regular"
        return self.out / "runs" / f"{kind}-gamma{self.recipe.gamma:g}-seed{self.seed}-{fingerprint}"


def gated_layer(network: dict[str, Any], layer: str) -> tuple[nn.Sequential, str]:
    """The gated net with fresh weights, and the name of the module before its gate `layer`.

    Raises:
        InvalidInputError: no such gate.
    """
    with torch.random.fork_rng(devices=[]):
        net = build(network)
    names = list(net._modules)
    if layer not in named_gates(net):
        reject("layer", repr(layer), "one of " + ", ".join(named_gates(net)), "choose one of those names")
    return net, names[names.index(layer) - 1]


def finish(run: SweepRun) -> tuple[list[dict[str, Any]], str]:
    """Rows and status ("completed", "collapsed") of a run; what is there already is read, the rest is done.

    Raises:
        CheckpointError: the folder is damaged, or was trained past an epoch that is now to be recorded.
        DataError, DivergedError: from data and training.
    """
    with locked(run.folder, wait=_PATIENCE), _one_thread():
        log = _Log(run)
        if not log.complete():
            recorder = _Recorder(run, log)
            recorder.measure_kept_nets()

            def on_epoch(net: nn.Module, done: int) -> None:
                if abandoned():
                    os._exit(1)  # leave the run to the next sweep
                recorder(net, done - run.recipe.pretrain_epochs)

            if log.status is None:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(run.seed)
                    net = build(_arguments(run.network, run.gated))
                done = train(
                    net,
                    recorder.data,
                    run.recipe,
                    seed=run.seed,
                    device=run.device,
                    checkpoint=run.folder / "checkpoint",
                    evaluate_every=_NEVER,
                    on_epoch=on_epoch,
                )
                log.close(done.status)
            log.check()
        return log.rows(), str(log.status)


class _Log:
    """rows.json: status, and for each recorded epoch the net's facts and one row per estimate."""

    def __init__(self, run: SweepRun) -> None:
        self.run, self.path = run, run.folder / "rows.json"
        self.status: str | None = None
        self.epochs: dict[str, dict[str, dict[str, Any]]] = {}
        self.written = 0.0
        if self.path.exists():
            try:
                plain = json.loads(self.path.read_text(encoding="utf-8"))
                self.status, self.epochs = plain["status"], plain["epochs"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise CheckpointError(
                    f"out: {self.path} is not readable ({type(error).__name__}: {error}), expected what a sweep wrote. "
                    "Remedy: delete that file; its rows are computed again from the nets beside it"
                ) from error

    def wanted(self, epoch: int) -> list[tuple[str, Estimator, int | None]]:
        """(key, estimator, number of inputs or None for all) of each row of an epoch, in the table's order."""
        plan = [(estimator, estimator.n or self.run.n) for estimator in self.run.estimators]
        rows: list[tuple[str, Estimator, int | None]] = [
            (f"{self.run.layer} {n} {estimator.key}", estimator, n) for estimator, n in plan
        ]
        if self.run.full_at_last and epoch == self.run.recipe.epochs:
            full = [estimator for estimator in self.run.estimators if estimator.full]
            rows += [(f"{self.run.layer} all {estimator.key}", estimator, None) for estimator in full]
        return rows

    def missing(self, epoch: int) -> list[tuple[str, Estimator, int | None]]:
        have = self.epochs.get(str(epoch), {})
        return [entry for entry in self.wanted(epoch) if entry[0] not in have]

    def complete(self) -> bool:
        due = [epoch for epoch in self.run.record if self.status != "collapsed" or str(epoch) in self.epochs]
        return self.status is not None and not any(self.missing(epoch) for epoch in due)

    def add(self, epoch: int, key: str, row: dict[str, Any]) -> None:
        """One more row; written at the latest when `write` is called, and at once if the last writing was long ago."""
        self.epochs.setdefault(str(epoch), {})[key] = row
        if time.monotonic() - self.written > _WRITE_EVERY:
            self.write()

    def close(self, status: str) -> None:
        self.status = status
        self.write()

    def check(self) -> None:
        if not self.complete():
            lost = [epoch for epoch in self.run.record if self.missing(epoch)]
            raise CheckpointError(
                f"out: {self.run.folder} was trained without recording epochs {lost}, expected nets kept at them. "
                "Remedy: record the epochs that were kept, or choose another folder"
            )

    def rows(self) -> list[dict[str, Any]]:
        found = [(self.epochs.get(str(epoch), {}), self.wanted(epoch)) for epoch in self.run.record]
        return [rows[key] for rows, wanted in found for key, _, _ in wanted if key in rows]

    def write(self) -> None:
        write_text(self.path, json.dumps({"status": self.status, "epochs": self.epochs}) + "\n")
        self.written = time.monotonic()


class _Recorder:
    """Called with the net after each epoch; keeps it and writes its rows where the epoch is to be recorded."""

    def __init__(self, run: SweepRun, log: _Log) -> None:
        self.run, self.log = run, log
        self.data = datasets.load(run.dataset) if isinstance(run.dataset, str) else run.dataset
        total = len(self.data.x_train)
        for n in (run.n, *(estimator.n for estimator in run.estimators)):
            if n is not None and n > total:
                reject("n", n, f"at most {total}, the training inputs", "ask for no more inputs than there are")
        self.order = np.random.default_rng(0).permutation(total)  # its first n are the subset of n
        self.gated_net, before = gated_layer(run.network, run.layer)  # its size is what a regular net keeps
        self.place = run.layer if run.gated else before

    def __call__(self, net: nn.Module, epoch: int) -> None:
        if epoch not in self.run.record:
            return
        write_state(self.run.folder / "nets", f"epoch{epoch}", net.state_dict(), {})
        self._measure(net, epoch)

    def measure_kept_nets(self) -> None:
        """Fill in what is missing at epochs whose nets were kept: after a kill, or for other estimators."""
        for epoch in self.run.record:
            found = read_state(self.run.folder / "nets", f"epoch{epoch}") if self.log.missing(epoch) else None
            if found is not None:
                with torch.random.fork_rng(devices=[]):
                    net = build(_arguments(self.run.network, self.run.gated))
                net.load_state_dict(found[0])
                self._measure(net.eval(), epoch)

    def _measure(self, net: nn.Module, epoch: int) -> None:
        run, missing = self.run, self.log.missing(epoch)
        if not missing:
            return
        facts = self._facts(net, epoch)
        largest = max(len(self.order) if n is None else n for _, _, n in missing)
        # Whole batches, always the same ones: an activation's last bit depends on what else is in its batch.
        rows = self.order[: math.ceil(largest / _BATCH) * _BATCH]
        law = layer_law(net, self.data.x_train[rows], self.place, batch=_BATCH)
        for key, estimator, n in missing:
            part = np.arange(len(self.order) if n is None else n)
            started = time.perf_counter()
            result = _estimate(law, estimator, part)
            seconds = time.perf_counter() - started
            self.log.add(
                epoch, key, {**facts, **_row(run, estimator, result, n or len(self.order)), "seconds": seconds}
            )
        self.log.write()

    def _facts(self, net: nn.Module, epoch: int) -> dict[str, Any]:
        run, data = self.run, self.data
        size = compression(net if run.gated else self.gated_net)
        test = evaluate(net, data.x_test, data.y_test, likelihood=data.likelihood)
        part = np.sort(self.order[: run.n])
        fit = evaluate(net, data.x_train[part], data.y_train[part], likelihood=data.likelihood)
        arguments = run.network.get("arguments", {})
        name = run.network["builder"] + (f" {json.dumps(arguments)}" if arguments else "")
        return {
            "network": name,
            "dataset": data.name,
            "gated": run.gated,
            "gamma": run.recipe.gamma,
            "seed": run.seed,
            "epoch": epoch,
            "error": test.error,
            "r_w": size.r_w,
            "r_n": size.r_n,
            "flop": size.flop,
            "cross_entropy": fit.loss,
        }


def _estimate(law: LayerLaw, estimator: Estimator, rows: Any) -> MutualInformation:
    return estimate(law.channel(estimator.tau, rows), estimator.method, **estimator.options)


def _row(run: SweepRun, estimator: Estimator, result: MutualInformation, n: int) -> dict[str, Any]:
    return {
        "layer": run.layer,
        "method": estimator.method,
        "tau": estimator.tau,
        "n": n,
        "nats": result.nats,
        "stderr": result.stderr,
        "kind": result.kind,
        "saturated": bool(result.saturated),
        "ceiling": result.ceiling,
    }


def _arguments(network: dict[str, Any], gated: bool) -> dict[str, Any]:
    return network if gated else {**network, "arguments": {**network.get("arguments", {}), "gated": False}}


def _data_identity(dataset: str | Dataset) -> str:
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
