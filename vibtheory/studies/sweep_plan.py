"""A sweep as a plan, and its runs: what decides their training, and what is recorded of them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, InstanceOf
from torch import nn

from vibtheory.datasets.catalogue import CATALOGUE
from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import as_path, check_choice, reject
from vibtheory.networks.gates import named_gates
from vibtheory.networks.registry import build
from vibtheory.networks.streams import INITIAL_WEIGHTS, random_state_kept, random_stream
from vibtheory.storage.run_store import fingerprint
from vibtheory.storage.schema import Declared, Price, Seed
from vibtheory.studies.estimators import DEFAULT_ESTIMATORS, Estimator, as_estimators
from vibtheory.training.recipe import Recipe

__all__ = ["SweepPlan", "SweepRun", "gated_layer"]

NETWORKS = ("lenet_300_100", "lenet_5_caffe", "vgg16_cifar", "vgg19_cifar")


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepPlan(Declared):
    """What a sweep trains and records.

    Attributes:
        gammas: prices of information, each once; each replaces the recipe's.
        seeds: how many (0, 1, …), or which.
        dataset: a name for `vibtheory.datasets.load`, or a Dataset.
        network: a function of `vibtheory.networks`, or {"builder": "mlp", "arguments": {"sizes": […]}}.
        out: folder of table.csv (table.json beside it says of what) and of the runs.
        epochs: noisy epochs; None: the recipe's.
        record: epochs to record, or an integer: every so many. Epoch 0 and the last one are always recorded.
        estimators: "default", or `Estimator`s, or tuples (method, tau, options).
        layer: gate of a dense layer whose information is recorded.
        gated: False trains the regular net of the same shape instead: no gates, no price (γ = 0 in the table), one run
            per seed; of the estimators those with tau > 0 are recorded. (True, False) does both.
        recipe: how to train; None: `Recipe(prune_every=1)`, so that closed units cost no more time. Regular nets follow
            it without gates.
        n: training inputs for estimators that do not set their own.
        full_at_last: estimators marked `full` are computed on all training inputs too at the last epoch.
        batched: all γ and seeds take turns in one process, a step each (`train_many`): for GPUs. The same runs.
        device: as in `train`.

    Raises:
        InvalidInputError: a value out of range, an unknown name, a list with something twice.
    """

    gammas: Annotated[Sequence[Price], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1)] | Annotated[Sequence[Seed], Field(min_length=1)] = 5
    dataset: str | InstanceOf[Dataset] = "mnist"
    network: str | Mapping[str, Any] = "lenet_300_100"
    out: str | Path = "runs/sweep"
    epochs: Annotated[int, Field(ge=1)] | None = None
    record: Annotated[int, Field(ge=1)] | Sequence[int] = 5
    estimators: str | Sequence[Any] = DEFAULT_ESTIMATORS
    layer: str = "h1"
    gated: bool | Annotated[Sequence[bool], Field(min_length=1)] = True
    recipe: InstanceOf[Recipe] | Mapping[str, Any] | None = None
    n: Annotated[int, Field(ge=2)] = 5000
    full_at_last: bool = True
    batched: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check, and keep every field in its plainest form: lists for numbers, a Recipe, networks as a description."""
        for name in ("gammas", "seeds", "record"):
            value = getattr(self, name)
            if isinstance(value, range | np.ndarray):
                self._keep(name, np.asarray(value).tolist())
        super().__post_init__()
        self._keep("out", as_path("out", self.out, "pass that of a folder"))
        if isinstance(self.dataset, str):
            check_choice("dataset", self.dataset, CATALOGUE)
        if isinstance(self.network, str):
            check_choice("network", self.network, NETWORKS)
        network = {"builder": self.network} if isinstance(self.network, str) else dict(self.network)
        gated_layer(network, self.layer)
        self._keep("network", network)
        recipe = Recipe(prune_every=1) if self.recipe is None else self.recipe
        recipe = recipe if isinstance(recipe, Recipe) else Recipe.from_dict(recipe)
        recipe = recipe if self.epochs is None else replace(recipe, epochs=self.epochs)
        if recipe.epochs < 1:
            reject("epochs", recipe.epochs, "a whole number >= 1", "train for at least one epoch")
        self._keep("recipe", recipe)
        self._keep("seeds", tuple(range(self.seeds)) if isinstance(self.seeds, int) else tuple(self.seeds))
        kinds = (self.gated,) if isinstance(self.gated, bool) else tuple(self.gated)
        self._keep("gated", kinds)
        for name in ("gammas", "seeds", "gated"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                reject(name, list(values), "each once", f"list the {name} of the sweep")
        last = recipe.epochs
        every = range(0, last, self.record) if isinstance(self.record, int) else self.record
        if not all(0 <= epoch <= last for epoch in every):
            reject("record", list(every), f"epochs between 0 and {last}", "pass record=5, or a list")
        self._keep("record", tuple(sorted({0, *every, last})))
        self._keep("estimators", as_estimators(self.estimators, self.n))
        if not (all(kinds) or self.noisy):
            reject("estimators", "none with tau > 0", "one with stated noise for nets without gates", "set tau > 0")

    def _keep(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def noisy(self) -> tuple[Estimator, ...]:
        """The estimators with additive noise, which regular nets have too."""
        return tuple(one for one in self.estimators if isinstance(one, Estimator) and one.tau > 0)

    @property
    def settings(self) -> dict[str, Any]:
        """What all rows of one table.csv have in common and its columns do not tell, in JSON types."""
        own: Any = self
        recipe = {name: value for name, value in own.recipe.to_dict().items() if name not in ("gamma", "epochs")}
        common = {"network": self.network, "dataset": self.data_identity, "recipe": recipe}
        plain: dict[str, Any] = json.loads(json.dumps(common))
        return plain

    @property
    def data_identity(self) -> str:
        """The data set's name, and of arrays also their checksums."""
        data = self.dataset
        if isinstance(data, str):
            return data
        parts = (data.x_train, data.y_train, data.x_test, data.y_test)
        return f"{data.name} " + " ".join(f"{zlib.crc32(np.ascontiguousarray(part).data):08x}" for part in parts)

    def groups(self) -> list[list[SweepRun]]:
        """All runs in the table's order, in groups that take turns: one run each, or all of a kind."""
        found: list[list[SweepRun]] = []
        own: Any = self
        for kind in own.gated:
            pairs = tuple((gamma, seed) for gamma in (own.gammas if kind else [0.0]) for seed in own.seeds)
            recipe = own.recipe if kind else replace(own.recipe, layer_weights=None, prune_every=0, prune_at=())
            runs = [SweepRun(self, kind, replace(recipe, gamma=gamma), seed) for gamma, seed in pairs]
            found += [runs] if self.batched else [[run] for run in runs]
        return found


@dataclass(frozen=True, eq=False)
class SweepRun:
    """One run of a plan.

    Attributes:
        plan: the sweep's.
        gated: whether its net has gates.
        recipe: with this run's price.
        seed: of its weights and its training.
    """

    plan: Any  # a SweepPlan: its fields are in their plainest form
    gated: bool
    recipe: Recipe
    seed: int

    @property
    def estimators(self) -> tuple[Estimator, ...]:
        """What is recorded of it."""
        return tuple(self.plan.estimators if self.gated else self.plan.noisy)

    @property
    def description(self) -> dict[str, Any]:
        """What `networks.registry.build` makes this run's kind of net from."""
        network: dict[str, Any] = self.plan.network
        return network if self.gated else {**network, "arguments": {**network.get("arguments", {}), "gated": False}}

    def fresh_net(self) -> nn.Sequential:
        """The net with the initial weights of this run's seed; the global random state is left alone."""
        with random_stream(self.seed, INITIAL_WEIGHTS):
            return build(self.description)

    @property
    def folder(self) -> Path:
        """Where the run lives: named after what decides its training."""
        identity = [self.plan.network, self.plan.data_identity, self.gated, self.recipe.to_dict(), self.seed]
        kind = "gated" if self.gated else "regular"
        name = f"{kind}-gamma{self.recipe.gamma:g}-seed{self.seed}-{fingerprint(identity)}"
        return Path(self.plan.out, "runs", name)


def gated_layer(network: dict[str, Any], layer: str) -> tuple[nn.Sequential, str]:
    """The gated net that `network` describes, with fresh weights, and the name of the module before its gate `layer`.

    Raises:
        InvalidInputError: no such gate.
    """
    with random_state_kept():
        net = build(network)
    names = list(net._modules)
    if layer not in named_gates(net):
        reject("layer", repr(layer), "one of " + ", ".join(named_gates(net)), "choose one of those names")
    return net, names[names.index(layer) - 1]
