"""The compared methods rerun: each law on one net, data, recipe and fine-tuning; the price chosen on held-out images.

Every method gets the same `Budget`: 8 prices (or shares of units to cut), one seed, 5,000 held-out training images.
Chosen is the smallest net whose fine-tuned held-out error stays within `SLACK` of the least that any method reached on
the table's net; then fresh seeds, once, on the test set. What differs between methods is the law, the range of its
prices, and how a price is spread over the layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vibtheory.errors import as_generator, check_choice, reject
from vibtheory.storage.run_store import RecordedTable
from vibtheory.studies.experiment_runs import Row, run_together
from vibtheory.studies.experiments import Experiment, experiment
from vibtheory.studies.side_by_side import side_by_side
from vibtheory.studies.tables import check_table, published, spread

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "BUDGETS", "HELD_OUT", "METHODS", "SLACK", "Budget", "Method", "chosen", "collapsed", "compare_methods",
    "expected_cost", "method_table", "methods_on", "methods_table",
]  # fmt: skip

SLACK = 0.3
"""Points of held-out error above the best by which a method may buy a smaller net."""

_BASES = {1: "lenet_300_100", 2: "lenet_5_caffe", 3: "vgg_3_1"}
_SCALES = {3: 0.025}  # of the prices: VIBNet's own in that recipe over its in Table 1's, rounded; LeNets: 1
HELD_OUT = 5000
"""Training images that prices are chosen on."""
_CHOOSING_SEED = 30


@dataclass(frozen=True)
class Budget:
    """What every method may spend.

    Attributes:
        prices: how many are tried.
        seeds: of the runs on the test set.
        examples: training images; 0: all.
        recipe, finetune: changes to the record's.
    """

    prices: int = 8
    seeds: tuple[int, ...] = (31, 32, 33)
    examples: int = 0
    recipe: dict[str, Any] = field(default_factory=dict)
    finetune: dict[str, Any] = field(default_factory=dict)


def _short(epochs: int, pretrain: int, rate: float) -> dict[str, Any]:
    schedule = {"epochs": epochs, "pretrain_epochs": pretrain, "prune_from": 2, "prune_every": 1, "shift": 0}
    return {**schedule, "gate_learning_rate": rate}


BUDGETS = {
    "quick": Budget(3, (31, 32), 6_000, _short(8, 2, 5e-2), {"epochs": 2, "shift": 0}),
    "reduced": Budget(8, (31, 32, 33), 10_000, _short(6, 1, 5e-2), {"epochs": 2, "shift": 0}),
    "full": Budget(),
    "gpu": Budget(4, (31,), 0, {"epochs": 40, "pretrain_epochs": 10}, {"epochs": 10}),
}
"""By name: a look; 7 epochs, and 2 of fine-tuning, on 10,000 images without augmentation; the record's recipe; 50 + 10
epochs, for Table 3 on a GPU."""

_ACCELERATION = {"conv1": 10.0, "conv2": 5.0}


@dataclass(frozen=True)
class Method:
    """One compared method.

    Attributes:
        name: as the tables print it.
        law: of `vibtheory.networks.gates.LAWS`.
        lowest, highest: the range of its prices, per unit of its penalty; of shares to cut where it ranks.
        spread: of a price over the layers: "recipe" (the record's factors), "unit" (every unit alike, also channels),
            "weights" (in proportion to the weights that leave a unit) or "acceleration" (10 times on the first block
            of convolutions, 5 times on the second, as in the authors' script for SBPa).
        ranking: units are cut by rank after training without a price; see `Experiment`.
        tables: those whose net it works on.
        once: units are cut at the end of training, not after its epochs.
        batch_norm: its LeNets have one before each activation, which other methods' have not.
    """

    name: str
    law: str
    lowest: float
    highest: float
    spread: str = "unit"
    ranking: str = ""
    tables: tuple[int, ...] = (1, 2)
    once: bool = False
    batch_norm: bool = False

    def values(self, table: int, budget: Budget) -> list[float]:
        """The prices, or shares, that are tried on `table`'s net within `budget`."""
        space = np.linspace if self.ranking else np.geomspace
        scale = 1.0 if self.ranking else _SCALES.get(table, 1.0)
        return list(map(float, (scale * space(self.lowest, self.highest, budget.prices)).round(9)))

    def plan(self, table: int, phase: str, value: float, budget: Budget) -> Experiment:
        """`table`'s runs of a `phase` ("choose": images held out; "test") at a price or share `value` in `budget`."""
        base = experiment(_BASES[table])
        assert base.finetune is not None
        layer_weights = None if self.ranking else self._layer_weights(base)
        recipe = replace(base.recipe, layer_weights=layer_weights, **budget.recipe)
        recipe = replace(recipe, prune_every=0, prune_at=()) if self.once else recipe
        price = 0.0 if self.ranking else value
        arguments = {**base.arguments, "law": self.law}
        arguments |= {"batch_norm": True} if self.batch_norm and table < 3 else {}  # a VGG has them
        seeds = [_CHOOSING_SEED] if phase == "choose" else list(budget.seeds)
        return replace(
            base, name=f"methods{table}-{self.name}", recipe=recipe, teacher=None, arguments=arguments,
            finetune=replace(base.finetune, distill=0.0, **budget.finetune), examples=budget.examples,
            held_out=HELD_OUT if phase == "choose" else 0, modes={phase: {"gammas": [price], "seeds": seeds}},
            ranking=self.ranking, share=value if self.ranking else 0.0,
        )  # fmt: skip

    def _layer_weights(self, base: Experiment) -> dict[str, float] | None:
        from torch import nn

        from vibtheory.networks.gates import GateLaw
        from vibtheory.networks.registry import build
        from vibtheory.networks.sequential import ordered_modules

        if self.spread == "recipe":
            factors = base.recipe.layer_weights
            return None if factors is None else dict(factors)
        modules = ordered_modules(build({"builder": base.network, "arguments": {**base.arguments, "law": self.law}}))
        found: dict[str, tuple[GateLaw, float]] = {}
        for place, (name, gate) in enumerate(modules):
            if isinstance(gate, GateLaw):
                after = next(m for _, m in modules[place:] if isinstance(m, nn.Linear | nn.Conv2d))
                block = name.partition("_")[0]
                sizes = {"weights": after.weight.numel() / gate.features, "acceleration": _ACCELERATION.get(block, 1.0)}
                found[name] = gate, sizes.get(self.spread, 1.0)
        units = sum(gate.features for gate, _ in found.values())
        mean = sum(size * gate.features for gate, size in found.values()) / units
        return {name: size / mean / gate.multiplier for name, (gate, size) in found.items()}


METHODS = {
    method.name: method
    for method in (
        Method("VIBNet", "vib", 1e-4, 2e-3, "recipe", tables=(1, 2, 3)),
        Method("VD", "vd", 1e-5, 5e-4),
        Method("L0", "l0", 3e-4, 1e-2),
        Method("L0-sep", "l0", 3e-4, 1e-2, "weights"),
        Method("SBP", "sbp", 3e-5, 2e-3, tables=(1, 2, 3)),
        Method("SBPa", "sbp", 3e-5, 2e-3, "acceleration", tables=(2, 3)),
        Method("BC-GNJ", "bc-gnj", 1e-4, 2e-3, tables=(1, 2, 3)),
        Method("BC-GHS", "bc-ghs", 3e-5, 2e-3, tables=(1, 2, 3)),
        Method("GD", "gd", 1e-4, 3e-3),
        Method("GL", "gl", 3e-4, 1e-2),
        Method("DN", "dn", 3e-4, 1e-2),
        Method("NS-Single", "ns", 3e-4, 2e-2, tables=(1, 2, 3), once=True, batch_norm=True),
        Method("NS-Best", "ns", 3e-4, 2e-2, tables=(1, 2, 3), batch_norm=True),
        Method("VIBNet-BN", "vib", 1e-4, 2e-3, "recipe", batch_norm=True),
        Method("PF", "pf", 0.2, 0.9, ranking="filters", tables=(2, 3), once=True),
        Method("magnitude", "open", 0.3, 0.93, ranking="magnitude"),
        Method("group norm", "open", 0.3, 0.93, ranking="group"),
    )
}
"""By name; the last two are torch-pruning's. NS has a net with BatchNorm, and VIBNet-BN is its equal: "NS-Single" cuts
once, "NS-Best" after each epoch, as many passes as epochs; it leaves inputs whole, as the ranks do."""


@dataclass(frozen=True, kw_only=True)
class _MethodRow(Row):
    """A run's row in the recorded table."""

    method: str
    phase: str


def methods_table(table: int, budget: str = "full", out: str | Path = "figures") -> RecordedTable:
    """`out`/methods_tableN.csv, or methods_tableN_BUDGET.csv, which `compare_methods` adds to.

    Args:
        table: 1, 2, or 3 (all methods on the net of its first comparison, VGG-16 with two hidden layers).
        budget: a name in `BUDGETS`.
        out: its folder.

    Raises:
        InvalidInputError: another table or budget.
    """
    check_table(table, _BASES, "VIBNet's own rows of Table 4: `vibtheory table 4`")
    check_choice("budget", budget, BUDGETS)
    name = f"methods_table{table}{'' if budget == 'full' else '_' + budget}.csv"
    return RecordedTable(Path(out) / name, _MethodRow, ("method", "phase"))


def methods_on(table: int, names: Sequence[str]) -> list[Method]:
    """The methods in `names`, or all, that work on the net of `table`.

    Raises:
        InvalidInputError: an unknown name, or a method that the net does not take.
    """
    for name in names:
        check_choice("methods", name, METHODS)
        if table not in METHODS[name].tables:
            reject("methods", f"{name} on Table {table}", f"Table {' or '.join(map(str, METHODS[name].tables))}",
                   "leave it out there")  # fmt: skip
    return [method for method in METHODS.values() if table in method.tables and (not names or method.name in names)]


def compare_methods(
    table: int,
    *,
    budget: str = "full",
    methods: Sequence[str] = (),
    out: str | Path = "figures",
    runs: str | Path = "runs",
    jobs: int = 1,
    cluster: str | None = None,
    device: str = "auto",
    root: str | Path | None = None,
    accelerate: str = "none",
    amp: bool | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> DataFrame:
    """Choose each method's price on held-out images, then run fresh seeds on the test set; finished runs are read back.

    Args:
        table: 1 (LeNet-300-100), 2 (LeNet-5-Caffe) or 3 (VGG-16, CIFAR-10).
        budget: a name in `BUDGETS`: "quick" is a look, no comparison.
        methods: names in `METHODS`; none: all. The bar on the error is that of all methods recorded so far.
        out, runs: folders of the table and of the runs.
        jobs: processes side by side, one thread each; 1: this one, with torch's threads as they are set.
        cluster: address of a Dask scheduler to use instead; its workers must see `runs`.
        device, accelerate, amp: as in `vibtheory.train`.
        root: folder with the data set's files; None: where `vibtheory.datasets.load` looks.
        announce: called with a line as each method's runs are done.

    Returns:
        All recorded rows: those of `run_experiment` (gamma: the price, or the share to cut), method, and phase
        ("choose", errors on held-out images; "test").

    Raises:
        InvalidInputError: another table or budget, an unknown method or one that the table's net does not take; jobs.
        MissingDependencyError: torch-pruning, or Dask, is needed and missing.
        DataError, CheckpointError, DivergedError: from the runs.
    """
    store = methods_table(table, budget, out)
    todo = methods_on(table, methods)
    if jobs < 1:
        reject("jobs", jobs, "an integer >= 1", "pass the number of processes")
    store.check()
    spend = BUDGETS[budget]
    options = {"runs": runs, "device": device, "root": root, "accelerate": accelerate, "amp": amp}
    points = [(m, table, v, spend) for m in todo for v in m.values(table, spend)]
    picked = chosen(_phase(store, "choose", points, announce, jobs, cluster, options))
    for method in todo:
        if method.name not in picked:
            announce(f"{method.name}: collapsed at every price")
    left = [(m, table, picked[m.name], spend) for m in todo if m.name in picked]
    return _phase(store, "test", left, announce, jobs, cluster, options)


def _phase(
    store: RecordedTable, phase: str, points: Sequence[tuple[Method, int, float, Budget]],
    announce: Callable[[str], None], jobs: int, cluster: str | None, options: dict[str, Any],
) -> DataFrame:  # fmt: skip
    """All runs of a phase, side by side; a method's rows are written when its last run has ended."""
    import pandas as pd

    plans = [(method, value, method.plan(table, phase, value, budget)) for method, table, value, budget in points]
    planned = [(*point, recipe, seed) for point in plans for recipe, seed in point[2].jobs(phase)]
    work = partial(run_together, loaded={}, **options)
    items = [[(plan, phase, recipe, seed)] for _, _, plan, recipe, seed in planned]
    left = defaultdict(set)
    for place, (method, *_) in enumerate(planned):
        left[method.name].add(place)
    found: dict[int, DataFrame] = {}

    def table_of(names: Iterable[str]) -> DataFrame:
        parts = [found[place].assign(network=plan.network, gamma=value, method=method.name, phase=phase)
                 for place, (method, value, plan, *_) in enumerate(planned) if method.name in names]  # fmt: skip
        return pd.concat(parts, ignore_index=True).drop(columns="mode")

    for place, rows in side_by_side(work, items, jobs, cluster):
        found[place] = rows
        name = planned[place][0].name
        left[name].discard(place)
        if not left[name]:
            store.add(table_of([name]))
            announce(f"{name}, {phase}: done")
    if found:
        return store.add(table_of(left))[0]  # in the methods' order, whichever ended first
    recorded = store.read()
    assert recorded is not None
    return recorded


def expected_cost(table: int, budget: str = "full", methods: Sequence[str] = ()) -> DataFrame:
    """What `compare_methods` with the same arguments would run, before it does, from a few measured training steps.

    Args:
        table, budget, methods: as in `compare_methods`.

    Returns:
        One row per method: method, runs, steps (of training and fine-tuning, in all), milliseconds (processor time of
        one step of the whole gated net), core_minutes. An upper bound: units that close early make steps cheaper.

    Raises:
        InvalidInputError: as `compare_methods`.
    """
    import pandas as pd

    methods_table(table, budget)
    spend, rows = BUDGETS[budget], []
    for method in methods_on(table, methods):
        value = method.values(table, spend)[0]
        plan = method.plan(table, "choose", value, spend)
        assert plan.finetune is not None
        epochs = plan.recipe.pretrain_epochs + plan.recipe.epochs + plan.finetune.epochs
        images = spend.examples or {"mnist": 60_000, "cifar10": 50_000}[plan.dataset]
        runs, step = spend.prices + len(spend.seeds), _step_seconds(plan)
        steps = runs * epochs * -(-images // plan.recipe.batch_size)
        rows.append({"method": method.name, "runs": runs, "steps": steps, "milliseconds": round(1e3 * step, 2),
                     "core_minutes": round(steps * step / 60, 1)})  # fmt: skip
    return pd.DataFrame(rows)


def _step_seconds(plan: Experiment, repeats: int = 5) -> float:
    """Median processor seconds of a training step of the gated net, on random images."""
    import time

    import torch

    from vibtheory.datasets.dataset import from_arrays
    from vibtheory.networks.registry import build
    from vibtheory.training.loop import Loop, Settings

    rng, batch = as_generator("seed", 0, "step time"), plan.recipe.batch_size
    shape = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}[plan.dataset]
    x, y = rng.random((batch, *shape), dtype=np.float32), rng.integers(0, 10, batch)
    net = build({"builder": plan.network, "arguments": plan.arguments})
    data = from_arrays(x, y, x[:10], y[:10], classes=10, name="random")
    loop = Loop(net, data, replace(plan.recipe, shift=0, augment=None), Settings(device=torch.device("cpu")))
    net.train()
    loop.set_learning_rates(1.0)
    loop.enter_phase(False, plan.recipe.price(0))
    taken = []
    for _ in range(repeats + 1):
        started = time.process_time()
        loop.take_step(torch.arange(batch))
        taken.append(time.process_time() - started)
    return float(np.median(taken[1:]))


def chosen(results: DataFrame) -> dict[str, float]:
    """The price of each method: the smallest net within `SLACK` of the least held-out error of all; else its best.

    All: those on the table's own net, where there are any; a LeNet with BatchNorm is another one.

    Args:
        results: as `compare_methods` returns; methods that collapsed at every price are left out.
    """
    tuned = results[(results["phase"] == "choose") & (results["stage"] == "finetuned")]
    normed = tuned["method"].isin([method.name for method in METHODS.values() if method.batch_norm])
    own_net = tuned[~(normed & (tuned["table"] < 3))]
    bar = (own_net if len(own_net) else tuned)["error_last"].min() + SLACK
    picked = {}
    for name, rows in tuned.groupby("method", sort=False):
        within = rows[rows["error_last"] <= bar]
        ranked = within.sort_values("r_w") if len(within) else rows.sort_values("error_last")
        picked[str(name)] = float(ranked["gamma"].iloc[0])
    return picked


def collapsed(results: DataFrame) -> set[str]:
    """The methods that collapsed at every price, or in a run on the test set; `results` as of `compare_methods`."""
    picked = chosen(results)
    return {str(name) for name, rows in results.groupby("method") if name not in picked or _lost(rows)}


def _lost(rows: DataFrame) -> int:
    """Runs on the test set, of one method's rows, that collapsed: those that were not fine-tuned."""
    stages = rows.loc[rows["phase"] == "test", "stage"]
    return max(0, int((stages == "pruned").sum()) - int((stages == "finetuned").sum()))


def method_table(table: int, results: DataFrame) -> DataFrame:
    """Each method's printed row beside ours, as text: mean ± standard deviation over the test seeds, fine-tuned.

    Args:
        table: 1, 2 or 3.
        results: as `compare_methods` returns.

    Returns:
        Columns method, price, r_W (%), error (%), net (of the seed with the least r_W), seeds, printed r_W (%),
        printed error (%). Printed rows without a run of ours say "not run", methods of which no run was left
        "collapsed"; where some test seeds collapsed, means are of the others, and seeds says so.
    """
    import pandas as pd

    printed = published(table).drop_duplicates("method").set_index("method")
    tuned = results[(results["phase"] == "test") & (results["stage"] == "finetuned")]
    nothing_left = collapsed(results)
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys([*(m.name for m in methods_on(table, ())), *printed.index]):
        mine, ran = tuned[tuned["method"] == name], results[results["method"] == name]
        row = {"method": name, "price": "", "r_W (%)": "collapsed" if name in nothing_left else "not run",
               "error (%)": "", "net": "", "seeds": ""}  # fmt: skip
        if len(mine):
            row |= {column: spread(mine[key].mean(), mine[key].std(), 2)
                    for column, key in (("r_W (%)", "r_w"), ("error (%)", "error_last"))}  # fmt: skip
            lost = _lost(ran)
            row |= {"price": f"{mine['gamma'].iloc[0]:.3g}",
                    "seeds": f"{len(mine)}" + (f", {lost} collapsed" if lost else ""),
                    "net": str(mine.sort_values("r_w")["architecture"].iloc[0])}  # fmt: skip
        known = printed.loc[name] if name in printed.index else {}
        for column, key in (("printed r_W (%)", "r_w"), ("printed error (%)", "error")):
            row[column] = f"{known[key]:g}" if len(known) else "-"
        rows.append(row)
    return pd.DataFrame(rows)
