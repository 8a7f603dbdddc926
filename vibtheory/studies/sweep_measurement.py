"""What a sweep measures of a net at a recorded epoch; the net is kept, so that more can be measured later."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
from torch import nn

from vibtheory.bridge.channels import layer_law
from vibtheory.compression.evaluation import evaluate
from vibtheory.compression.metrics import compression
from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import as_generator, reject
from vibtheory.information import MutualInformation, estimate
from vibtheory.storage import read_state, write_state
from vibtheory.studies.estimators import Estimator
from vibtheory.studies.sweep_plan import SweepRun, gated_layer
from vibtheory.studies.sweep_rows import SweepRows

__all__ = ["Measurement"]

_BATCH = 1000


class Measurement:
    """Called with the net after each epoch; keeps it and writes its rows where the epoch is to be recorded."""

    def __init__(self, run: SweepRun, log: SweepRows, data: Dataset) -> None:
        self.run, self.log, self.data = run, log, data
        total = len(data.x_train)
        for n in (run.plan.n, *(estimator.n for estimator in run.estimators)):
            if n is not None and n > total:
                reject("n", n, f"at most {total}, the training inputs", "ask for no more inputs than there are")
        order = as_generator("seed", 0, "inputs that a sweep measures")
        self.order = order.permutation(total)  # its first n are the subset of n
        self.gated_net, before = gated_layer(run.plan.network, run.plan.layer)  # its size is what a regular net keeps
        self.place = run.plan.layer if run.gated else before

    def __call__(self, net: nn.Module, epoch: int) -> None:
        if epoch not in self.run.plan.record:
            return
        write_state(self.run.folder / "nets", f"epoch{epoch}", net.state_dict(), {})
        self._measure(net, epoch)

    def measure_kept_nets(self) -> None:
        """Fill in what is missing at epochs whose nets were kept: after a kill, or for other estimators."""
        for epoch in self.run.plan.record:
            found = read_state(self.run.folder / "nets", f"epoch{epoch}") if self.log.missing(epoch) else None
            if found is not None:
                net = self.run.fresh_net()
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
            result = estimate(law.channel(estimator.tau, part), estimator.method, **estimator.options)
            seconds = time.perf_counter() - started
            self.log.add(
                epoch, key, {**facts, **_row(run, estimator, result, n or len(self.order)), "seconds": seconds}
            )
        self.log.write()

    def _facts(self, net: nn.Module, epoch: int) -> dict[str, Any]:
        run, data = self.run, self.data
        size = compression(net if run.gated else self.gated_net)
        test = evaluate(net, data.x_test, data.y_test, likelihood=data.likelihood)
        part = np.sort(self.order[: run.plan.n])
        fit = evaluate(net, data.x_train[part], data.y_train[part], likelihood=data.likelihood)
        arguments = run.plan.network.get("arguments", {})
        name = run.plan.network["builder"] + (f" {json.dumps(arguments)}" if arguments else "")
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


def _row(run: SweepRun, estimator: Estimator, result: MutualInformation, n: int) -> dict[str, Any]:
    return {
        "layer": run.plan.layer,
        "method": estimator.method,
        "tau": estimator.tau,
        "n": n,
        "nats": result.nats,
        "stderr": result.stderr,
        "kind": result.kind,
        "saturated": bool(result.saturated),
        "ceiling": result.ceiling,
    }
