"""`sweep`: γ × seeds × recorded epochs → one table of size, error and information; resumable row by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vibtheory.errors import CheckpointError, as_seed, check_choice, reject, shown
from vibtheory.storage import check_row, locked, read_sealed, write_sealed, write_text
from vibtheory.studies.estimators import DEFAULT_ESTIMATORS, Estimator, as_estimators
from vibtheory.studies.jobs import side_by_side
from vibtheory.studies.sweep_log import COLUMN_KINDS
from vibtheory.training.recipe import Recipe

if TYPE_CHECKING:
    from pandas import DataFrame

    from vibtheory.datasets import Dataset
    from vibtheory.studies.sweep_plan import SweepRun

__all__ = ["COLUMNS", "Estimator", "SweepResult", "sweep"]

COLUMNS = tuple(COLUMN_KINDS)
_RUN = ["gated", "gamma", "seed", "layer"]  # whose rows a later call replaces as a whole
_PATIENCE = 120.0  # seconds for another sweep to let go of the table, which it holds for a moment


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What `sweep` returns.

    Attributes:
        table: one row per (gated, gamma, seed, epoch, method, tau, n), columns `COLUMNS`. Epoch 0 is the net before
            any noisy epoch (after pretraining, if there is any). error: test set, percent. r_w, r_n: percent.
            cross_entropy: mean −log q(y|x) on the sweep's n training inputs, gates at their masked means, nats.
            nats, stderr, ceiling: of I(h; x), nats; kind: upper, lower or estimate. seconds: of that estimate.
        path: the CSV with the same content, and with the rows of earlier calls about other runs or layers.
        status: "completed", or which runs collapsed (their later epochs are not in the table), with the remedy.
        kept: rows of earlier calls in the CSV.
    """

    table: DataFrame
    path: Path
    status: str
    kept: int = 0

    def __str__(self) -> str:
        runs = len(self.table.groupby(["gated", "gamma", "seed"]))
        kept = f" beside {self.kept} of earlier sweeps" if self.kept else ""
        return f"Sweep of {runs} runs, {len(self.table)} estimates in {self.path}{kept}: {self.status}"


def sweep(
    *,
    gammas: Sequence[float],
    seeds: int | Sequence[int] = 5,
    dataset: str | Dataset = "mnist",
    network: str | Mapping[str, Any] = "lenet_300_100",
    out: str | Path = "runs/sweep",
    epochs: int | None = None,
    record: int | Sequence[int] = 5,
    estimators: str | Sequence[Any] = DEFAULT_ESTIMATORS,
    layer: str = "h1",
    gated: bool | Sequence[bool] = True,
    recipe: Recipe | Mapping[str, Any] | None = None,
    n: int = 5000,
    full_at_last: bool = True,
    batched: bool = False,
    jobs: int = 1,
    cluster: str | None = None,
    device: str = "auto",
) -> SweepResult:
    """Train a network for each γ and seed, and record size, error and I(h; x) of one layer at chosen epochs.

    Each run keeps a checkpoint, its rows, and the net at each recorded epoch in `out`: the same call continues a
    stopped sweep and ends with the same table (but for `seconds`); other estimators are computed without training.

    `out`/table.csv gathers the sweeps of one network, data set and recipe (prices and epochs may differ): rows of a run
    (gated, gamma, seed) and layer of this call replace those of an earlier one, all others stay.

    Args:
        gammas: prices of information; each replaces the recipe's.
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
        batched: train all γ and seeds as one program (`train_many`): for GPUs. The runs then share their batches of
            examples. On a CPU `prune_every` is worth more: it cuts closed units out of nets that are trained alone.
        jobs: processes on this machine, one thread each. With 1, OPENBLAS_NUM_THREADS=1 makes it the same to the bit.
        cluster: address of a Dask scheduler ("tcp://…") to use instead; its workers must see `out`.
        device: as in `train`.

    Returns:
        SweepResult, also written to `out`/table.csv after each finished run.

    Raises:
        InvalidInputError: an argument out of range, an unknown name, a cluster that does not answer, an `out` whose
            table is of another network, data set or recipe.
        MissingDependencyError: `cluster` without the extra of that name.
        CheckpointError, DataError, DivergedError: from the runs.
    """
    from vibtheory.studies.sweep_run import finish

    runs = _plan(gammas, seeds, dataset, network, Path(out), epochs, record, estimators, layer, gated, recipe, n,
                 full_at_last, device, batched)  # fmt: skip
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        reject("jobs", repr(jobs), "an integer >= 1", "pass the number of processes")
    path, settings = Path(out) / "table.csv", _settings(runs[0], _base(recipe, epochs))
    with locked(path.parent, wait=_PATIENCE):
        _earlier(path, settings)  # refuses a table of something else: now, not after hours of training
    results: dict[int, tuple[list[dict[str, Any]], str]] = {}
    alone = [[place] for place in range(len(runs))]
    kinds = [[place for place, run in enumerate(runs) if run.gated is kind] for kind in (True, False)]
    groups = [kind for kind in kinds if kind] if batched else alone
    for number, found in side_by_side(finish, [[runs[k] for k in group] for group in groups], jobs, cluster):
        results |= dict(zip(groups[number], found, strict=True))
        table = _table([results[k][0] for k in sorted(results)])
        with locked(path.parent, wait=_PATIENCE):
            kept = _added(path, settings, table)
    collapsed = [runs[k].folder.name for k in sorted(results) if results[k][1] == "collapsed"]
    status = "completed"
    if collapsed:
        status = f"{len(collapsed)} of {len(runs)} runs collapsed ({', '.join(collapsed)}); use smaller gammas there"
    return SweepResult(table, path, status, kept)


def _plan(
    gammas: Sequence[float],
    seeds: int | Sequence[int],
    dataset: str | Dataset,
    network: str | Mapping[str, Any],
    out: Path,
    epochs: int | None,
    record: int | Sequence[int],
    estimators: str | Sequence[Any],
    layer: str,
    gated: bool | Sequence[bool],
    recipe: Recipe | Mapping[str, Any] | None,
    n: int,
    full_at_last: bool,
    device: str,
    batched: bool,
) -> list[SweepRun]:
    """Every run, in the table's order; every complaint before the work."""
    from vibtheory.studies.sweep_plan import SweepRun
    from vibtheory.studies.sweep_recorder import gated_layer

    if isinstance(network, str):
        check_choice("network", network, ("lenet_300_100", "lenet_5_caffe", "vgg16_cifar", "vgg19_cifar"))
    built = {"builder": network} if isinstance(network, str) else dict(network)
    gated_layer(built, layer)
    base = _base(recipe, epochs)
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        reject("n", repr(n), "an integer >= 2", "pass a number of training inputs")
    kinds = [gated] if isinstance(gated, bool) else list(gated)
    if not kinds or not all(isinstance(kind, bool) for kind in kinds) or len(set(kinds)) < len(kinds):
        reject("gated", repr(gated), "True, False or (True, False)", "say which nets to train")
    prices = list(gammas)
    if not prices or len(set(prices)) < len(prices):
        reject("gammas", prices, "at least one price, each once", "list the prices of the sweep")
    chosen = _seeds(seeds)
    wanted = _recorded(record, base.epochs)
    listed = as_estimators(estimators, n)
    noisy = tuple(estimator for estimator in listed if estimator.tau > 0)
    if False in kinds and not noisy:
        reject("estimators", "none with tau > 0", "one with stated noise for nets without gates", "set tau > 0")
    runs: list[SweepRun] = []
    for kind in kinds:
        pairs = tuple((gamma, seed) for gamma in (prices if kind else [0.0]) for seed in chosen)
        own: dict[str, Any] = {} if kind else {"layer_weights": None, "prune_every": 0}
        runs += [
            SweepRun(
                network=built,
                dataset=dataset,
                gated=kind,
                recipe=replace(base, gamma=gamma, **own),
                seed=seed,
                record=wanted,
                estimators=listed if kind else noisy,
                layer=layer,
                n=n,
                full_at_last=full_at_last,
                out=out,
                device=device,
                batch=pairs if batched else (),
            )
            for gamma, seed in pairs
        ]
    return runs


def _base(recipe: Recipe | Mapping[str, Any] | None, epochs: int | None) -> Recipe:
    """The recipe of all runs, but for the price."""
    base = Recipe(prune_every=1) if recipe is None else recipe
    if not isinstance(base, Recipe):
        base = Recipe.from_dict(base)
    if epochs is not None:
        base = replace(base, epochs=epochs)
    if base.epochs < 1:
        reject("epochs", base.epochs, "an integer >= 1", "train for at least one epoch")
    return base


def _settings(run: SweepRun, base: Recipe) -> dict[str, Any]:
    """What all rows of one table.csv have in common and its columns do not tell, in JSON types."""
    from vibtheory.studies.sweep_plan import data_identity

    recipe = {name: value for name, value in base.to_dict().items() if name not in ("gamma", "epochs")}
    plain = {"network": run.network, "dataset": data_identity(run.dataset), "recipe": recipe}
    common: dict[str, Any] = json.loads(json.dumps(plain))
    return common


def _earlier(path: Path, settings: dict[str, Any]) -> DataFrame | None:
    """The table of earlier calls, if any.

    Raises:
        InvalidInputError: it is of something else, or no table of a sweep.
        CheckpointError: table.json, which says of what it is, is missing or damaged.
    """
    import pandas as pd

    if not path.exists():
        return None
    label, remedy = path.with_suffix(".json"), f"move {path.name} away; the runs stay, and finished ones are only read"
    try:
        before = read_sealed(label)
        check_row(before, {"network": dict, "dataset": str, "recipe": dict})
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"out: {label} is not readable ({type(error).__name__}: {error}), expected what a sweep wrote beside "
            f"{path.name}. Remedy: {remedy}"
        ) from error
    if before != settings:
        reject("out", f"{path} of another {_difference(before, settings)}", "a folder for each, or an empty one",
               "choose another folder")  # fmt: skip
    # Exactly: γ must compare equal to a new run's, and these rows are written back as they were.
    readers: dict[type, Callable[[str], Any]] = {str: str, float: lambda cell: float(cell or "nan")}
    try:
        table = pd.read_csv(path, converters={name: readers[k] for name, k in COLUMN_KINDS.items() if k in readers})
    except (OSError, ValueError) as error:
        reject("out", f"{path} ({error})", "a table that a sweep wrote", remedy)
    if tuple(table.columns) != COLUMNS:
        reject("out", f"{path} with other columns", "a table that a sweep wrote", remedy)
    codes = {bool: "b", int: "iu", float: "iuf"}
    wrong = [
        name for name, kind in COLUMN_KINDS.items() if kind is not str and table[name].dtype.kind not in codes[kind]
    ]
    if wrong and len(table):
        reject("out", f"{path} with other entries in {', '.join(wrong)}", "a table that a sweep wrote", remedy)
    return table


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first difference between two settings, in words."""
    for name in ("network", "dataset"):
        if before[name] != now[name]:
            return f"{name} ({before[name]}, now {now[name]})"
    old, new = before["recipe"], now["recipe"]
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    changed = [f"{name} {old.get(name)}, now {new.get(name)}" for name in names]
    return f"recipe ({'; '.join(changed)})"


def _added(path: Path, settings: dict[str, Any], table: DataFrame) -> int:
    """Write `table` to `path`, with the earlier rows of other runs and layers; their number. The lock is ours."""
    import pandas as pd

    old = _earlier(path, settings)
    if old is None:
        write_sealed(path.with_suffix(".json"), settings)  # first: without table.csv it counts for nothing
        write_text(path, table.to_csv(index=False))
        return 0
    ours = set(table[_RUN].itertuples(index=False, name=None))
    stays = old[[run not in ours for run in old[_RUN].itertuples(index=False, name=None)]]
    whole = pd.concat([stays, table], ignore_index=True) if len(stays) else table
    write_text(path, whole.to_csv(index=False))
    return len(stays)


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    chosen = list(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) else _integers(seeds)
    if not chosen or len(set(chosen)) < len(chosen):
        reject("seeds", shown(seeds), "a number >= 1, or different integers >= 0", "pass seeds=5, or the seeds")
    return [as_seed("seeds", seed) for seed in chosen]


def _recorded(record: int | Sequence[int], epochs: int) -> tuple[int, ...]:
    """Epochs to record: 0, those asked for, and the last."""
    if isinstance(record, int) and not isinstance(record, bool) and record >= 1:
        every: list[int] | None = list(range(0, epochs, record))
    else:
        every = _integers(record)
    if every is None or not all(0 <= epoch <= epochs for epoch in every):
        reject("record", repr(record), f"epochs between 0 and {epochs}, or an integer >= 1", "pass record=5, or a list")
    return tuple(sorted({0, *every, epochs}))


def _integers(values: object) -> list[int] | None:
    """`values` as a list if it is a sequence of integers, else None."""
    if not isinstance(values, Sequence) or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        return None
    return list(values)


def _table(parts: list[list[dict[str, Any]]]) -> DataFrame:
    import pandas as pd

    return pd.DataFrame([row for rows in parts for row in rows], columns=list(COLUMNS))
