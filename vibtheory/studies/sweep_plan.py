"""One run of a sweep, as a plan: what decides its training and what is recorded of it."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from vibtheory.datasets.dataset import Dataset
from vibtheory.networks.registry import build
from vibtheory.networks.streams import INITIAL_WEIGHTS, random_stream
from vibtheory.studies.estimators import Estimator
from vibtheory.training.recipe import Recipe

__all__ = ["SweepRun", "data_identity"]


@dataclass(frozen=True)
class SweepRun:
    """Everything that one process needs to know about one run.

    `network` is what `networks.registry.build` takes; `batch` lists (γ, seed) of all runs that are trained in step
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
        """What `networks.registry.build` makes this run's kind of net from."""
        arguments = self.network.get("arguments", {})
        return self.network if self.gated else {**self.network, "arguments": {**arguments, "gated": False}}

    def fresh_net(self) -> nn.Sequential:
        """The net with the initial weights of this run's seed; the global random state is left alone."""
        with random_stream(self.seed, INITIAL_WEIGHTS):
            return build(self.description)

    @property
    def folder(self) -> Path:
        """Where the run lives: named after what decides its training."""
        identity = [self.network, data_identity(self.dataset), self.gated, self.recipe.to_dict(), self.seed]
        identity += [self.batch] if self.batch else []
        fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:10]
        kind = "gated" if self.gated else "regular"
        return self.out / "runs" / f"{kind}-gamma{self.recipe.gamma:g}-seed{self.seed}-{fingerprint}"


def data_identity(dataset: str | Dataset) -> str:
    """The name, and of arrays also their checksums."""
    if isinstance(dataset, str):
        return dataset
    parts = (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test)
    return f"{dataset.name} " + " ".join(f"{zlib.crc32(np.ascontiguousarray(part).data):08x}" for part in parts)
