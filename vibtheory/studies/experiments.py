"""Table runs: γ × seeds from a recipe file, each job resumable, one results table at the end."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vibtheory.errors import CheckpointError, InvalidInputError, as_seed, check_choice, reject
from vibtheory.storage import check_row, read_sealed, write_sealed
from vibtheory.studies.tables import DECAYED
from vibtheory.training.recipe import Recipe

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Experiment", "experiment", "run_experiment"]

MODES = ("quick", "full", "curve")
_ROW_KINDS: dict[str, type] = {
    "table": int, "network": str, "gamma": float, "seed": int, "stage": str, "error_last": float, "error_best": float,
    "r_w": float, "r_n": float, "flop": int, "architecture": str, "epochs": int, "status": str, "seconds": float,
}  # fmt: skip
_MORE_KINDS: dict[str, type] = {"row": str, "device": str, "images_per_second": float, "peak_memory_mib": float}


@dataclass(frozen=True)
class Experiment:
    """One recipe file: which network on which data, how trained, and how often in each mode.

    Attributes:
        name: the file's name without suffix.
        table: the poster's table that it belongs to.
        network: a function of `vibtheory.networks` (or `vibtheory.networks.vgg`).
        dataset: a name for `vibtheory.datasets.load`.
        recipe: the record's recipe.
        finetune: the recipe after compression, on the small plain net; None: no fine-tuning.
        modes: for each of "quick", "full", "curve": its γs, its seeds, and changes to the recipe and to fine-tuning.
        row: which of the table's comparisons it belongs to, such as "3.1"; "": the table has only one.
        arguments: of `network`.
        teacher: how the regular net (the same shape without gates) is trained whose predictions fine-tuning follows
            with weight `finetune.distill`; None: no teacher. All runs have the same one.
    """

    name: str
    table: int
    network: str
    dataset: str
    recipe: Recipe
    finetune: Recipe | None
    modes: dict[str, dict[str, Any]]
    row: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    teacher: Recipe | None = None

    def jobs(self, mode: str) -> list[tuple[Recipe, int]]:
        """(recipe, seed) of every run of a mode, γ by γ. Raises InvalidInputError for an unknown mode."""
        check_choice("mode", mode, self.modes)
        plan = self.modes[mode]
        changed = {**self.recipe.to_dict(), **plan.get("recipe", {})}
        if not isinstance(self.recipe.gamma, int | float):
            reject("recipe gamma", self.recipe.gamma, "one number", "put the layers' factors into layer_weights")
        gammas = plan.get("gammas", [self.recipe.gamma])
        return [(Recipe.from_dict({**changed, "gamma": gamma}), seed) for gamma in gammas for seed in plan["seeds"]]

    def tuning(self, mode: str) -> Recipe | None:
        """Fine-tuning in a mode; None where its epochs are 0."""
        changes = self.modes[mode].get("finetune")
        if self.finetune is None or not changes:
            return self.finetune
        tuning = Recipe.from_dict({**self.finetune.to_dict(), **changes})
        return tuning if tuning.epochs else None

    @property
    def label(self) -> str:
        """What its rows are called: the network, or the recipe where several share one (Tables 3, 4; decayed gates)."""
        return self.name if self.row or self.name.endswith(DECAYED) else self.network

    def with_decayed_gates(self) -> Experiment:
        """The same with the weights' L2 penalty on μ and log σ² too, as in the authors' runs; under another name."""
        recipe = replace(self.recipe, gate_weight_decay=self.recipe.weight_decay)
        return replace(self, name=f"{self.name}{DECAYED}", recipe=recipe)


def experiment(name: str | Path) -> Experiment:
    """Read a packaged recipe by name ("lenet_300_100", "lenet_5_caffe") or a TOML file by path.

    Raises:
        InvalidInputError: no such recipe, not TOML, a key missing or unknown.
    """
    folder = resources.files("vibtheory").joinpath("studies/recipes")
    packaged = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    if str(name) in packaged:
        text = folder.joinpath(f"{name}.toml").read_text(encoding="utf-8")
    elif Path(name).is_file():
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reject("recipe", f"{name} ({error})", "a readable TOML file in UTF-8", "check the file")
    else:
        reject("recipe", str(name), f"one of {', '.join(packaged)}, or a TOML file", "correct the name or the path")
    try:
        plain = tomllib.loads(text)
        repr(plain)  # a ValueError where a whole number is too long to print
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError; so are numbers too long to read
        reject("recipe", f"{name}: {error}", "valid TOML", "correct that line")
    return _experiment(Path(name).stem, plain)


def _experiment(name: str, plain: dict[str, Any]) -> Experiment:
    required = {"table", "network", "dataset", "recipe"}
    optional = {"row", "arguments", "finetune", "teacher", *MODES}
    missing, unknown = required - set(plain), set(plain) - required - optional
    if missing or unknown:
        got = f"{name}: missing {sorted(missing) or 'nothing'}, unknown {sorted(unknown) or 'nothing'}"
        reject("recipe", got, f"the keys {sorted(required)} and any of {sorted(optional)}", "correct the file")
    kinds: tuple[tuple[str, type, str], ...] = (
        ("table", int, "a number"), ("network", str, "a name"), ("dataset", str, "a name"),
    )  # fmt: skip
    for key, kind, what in kinds:
        if not isinstance(plain[key], kind) or isinstance(plain[key], bool):
            reject(f"recipe {key}", repr(plain[key])[:200], what, "correct the file")
    modes = {mode: plain[mode] for mode in MODES if mode in plain}
    for section in ("recipe", "finetune", "teacher", *modes):
        if not isinstance(plain.get(section, {}), dict):
            reject("recipe", f"{section} = {plain[section]!r:.200}", f"a section [{section}]", "correct the file")
    for mode, plan in modes.items():
        parts: tuple[tuple[str, type], ...] = (("gammas", list), ("recipe", dict), ("finetune", dict))
        for key, part in parts:
            if not isinstance(plan.get(key, part()), part):
                reject(f"recipe [{mode}] {key}", repr(plan[key])[:200], f"a {part.__name__}", "correct that section")
        strange = set(plan) - {"gammas", "seeds", "recipe", "finetune"}
        seeds = plan.get("seeds")
        if strange or not isinstance(seeds, list) or not seeds:
            reject(
                f"recipe [{mode}]", plan, "seeds = [0, …], and any of gammas, recipe, finetune", "correct that section"
            )
        for seed in seeds:
            as_seed(f"recipe [{mode}] seeds", seed)
    if not isinstance(plain.get("arguments", {}), dict):
        reject("recipe arguments", plain["arguments"], "a table such as { classes = 10 }", "correct the file")
    finetune = Recipe.from_dict({"gamma": 0.0, **plain["finetune"]}) if "finetune" in plain else None
    teacher = Recipe.from_dict({"gamma": 0.0, **plain["teacher"]}) if "teacher" in plain else None
    if bool(finetune and finetune.distill) != (teacher is not None):
        got = f"{name}: {'only' if teacher else 'no'} [teacher]{'' if teacher else ' with distill in [finetune]'}"
        reject("recipe", got, "[teacher] and distill in [finetune], or neither", "complete the file")
    facts = (plain["table"], plain["network"], plain["dataset"], Recipe.from_dict(plain["recipe"]))
    more = (str(plain.get("row", "")), dict(plain.get("arguments", {})), teacher)
    return Experiment(name, *facts, finetune, modes, *more)


def run_experiment(
    plan: Experiment,
    mode: str,
    *,
    runs: str | Path = "runs",
    jobs: int = 1,
    progress: bool = False,
    device: str = "auto",
    root: str | Path | None = None,
    accelerate: str = "none",
) -> DataFrame:
    """Train, compress, fine-tune and measure every run of a mode; finished runs are read back, stopped ones resumed.

    Args:
        plan: from `experiment`.
        mode: "quick", "full" or "curve".
        runs: where checkpoints and results of each run are kept.
        jobs: processes side by side; torch's threads are divided among them.
        progress: a live bar for each run (one job only).
        device, accelerate: as in `vibtheory.train`.
        root: folder with the data set's files; None: where `vibtheory.datasets.load` looks.

    Returns:
        One row per run and stage ("pruned", "finetuned"): table, network, mode, gamma, seed, stage, error_last and
        error_best (test set, percent; best over the epochs after pretraining), r_w, r_n (percent), flop, architecture,
        epochs, status, seconds; for rows of Tables 3 and 4 also row, device, images_per_second (training) and
        peak_memory_mib.

    Raises:
        InvalidInputError: jobs < 1 or an unknown mode.
        DataError, CheckpointError, DivergedError: from the runs.
    """
    import pandas as pd
    from joblib import Parallel, delayed

    if jobs < 1:
        reject("jobs", jobs, "an integer >= 1", "pass the number of processes")
    planned = plan.jobs(mode)
    if plan.tuning(mode) is not None:
        from vibtheory.studies.teacher import trained_teacher

        trained_teacher(plan, Path(runs), progress, device, root)  # before the runs that share it begin
    threads = max(1, (os.cpu_count() or 1) // jobs)
    tasks = [
        delayed(_run_one)(
            plan, mode, recipe, seed, Path(runs), threads, progress and jobs == 1, device, root, accelerate
        )
        for recipe, seed in planned
    ]
    results = Parallel(n_jobs=min(jobs, len(tasks)))(tasks)
    return pd.DataFrame([row for rows in results for row in rows])


def _run_one(
    plan: Experiment,
    mode: str,
    recipe: Recipe,
    seed: int,
    runs: Path,
    threads: int,
    progress: bool,
    device: str = "auto",
    root: str | Path | None = None,
    accelerate: str = "none",
) -> list[dict[str, Any]]:
    """One γ and one seed, from pretraining to fine-tuning; its rows are kept in its folder."""
    import torch

    from vibtheory import datasets
    from vibtheory.compression.cut import compress
    from vibtheory.networks.registry import build
    from vibtheory.studies.teacher import fingerprint, trained_teacher
    from vibtheory.training.single import train

    # Fine-tuning has a key of its own: changing it must not train again.
    network = [plan.network, plan.arguments] if plan.arguments else [plan.network]
    trained = fingerprint([*network, plan.dataset, recipe.to_dict()])
    finetune = plan.tuning(mode)
    settings = finetune and finetune.to_dict()
    tuning = fingerprint([settings, plan.teacher.to_dict()] if settings and plan.teacher else settings)
    folder = runs / f"{plan.name}-gamma{recipe.gamma:g}-seed{seed}-{trained}"
    finished = folder / f"rows-{tuning}.json"
    if finished.exists():
        rows = _finished_rows(finished)
        if any((row["gamma"], row["seed"]) != (recipe.gamma, seed) for row in rows):
            raise CheckpointError(
                f"{finished}: rows of gamma {rows[0]['gamma']:g}, seed {rows[0]['seed']}, expected those of gamma "
                f"{recipe.gamma:g}, seed {seed}. Remedy: delete this file, and the same command measures the run again"
            )
        return [{**row, "mode": mode} for row in rows]
    data = datasets.load(plan.dataset) if root is None else datasets.load(plan.dataset, root)
    if plan.arguments.get("classes", data.classes) != data.classes:
        got, want = f"{plan.arguments['classes']} classes", f"{data.classes}, as {plan.dataset} has"
        reject("recipe arguments", got, want, f"set classes = {data.classes} in {plan.name}")
    # Big nets in short epochs: their checkpoints would take longer than the training between them.
    options: dict[str, Any] = {"checkpoint_seconds": 30.0} if plan.row else {}
    options |= {"seed": seed, "device": device, "progress": progress, "accelerate": accelerate}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = build({"builder": plan.network, "arguments": plan.arguments})
        run = train(net, data, recipe, checkpoint=folder / "checkpoint", **options)
        run.save(folder)
        rows = [_row(plan, run.history, recipe, seed, "pruned", run.status, device)]
        if finetune is not None and run.status == "completed":
            small, place = compress(net), folder / f"finetune-{tuning}"
            teacher = trained_teacher(plan, runs, False, device, root)
            tuned = train(small, data, finetune, teacher=teacher, checkpoint=place, **options)
            tuned_row = {"stage": "finetuned", **_errors(tuned.history), "epochs": finetune.epochs}
            rows.append({**rows[0], **tuned_row, **(_speed(tuned.history) if plan.row else {})})
    finally:
        torch.set_num_threads(before)
    write_sealed(finished, {"rows": rows}, indent=1)
    return [{**row, "mode": mode} for row in rows]


def _finished_rows(path: Path) -> list[dict[str, Any]]:
    """Rows that `_run_one` kept, unchanged since. Raises CheckpointError otherwise."""
    try:
        rows = read_sealed(path).get("rows")
        if not isinstance(rows, list) or not rows:
            raise ValueError("it holds no rows")
        for row in rows:
            check_row(row, _ROW_KINDS)
            check_row(row, {name: kind for name, kind in _MORE_KINDS.items() if name in row})
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not readable ({error}), expected the rows of a finished run. "
            "Remedy: delete this file, and the same command measures the run again"
        ) from error
    return rows


def _row(
    plan: Experiment, history: DataFrame, recipe: Recipe, seed: int, stage: str, status: str, run_device: str = "auto"
) -> dict[str, Any]:
    trained = history[history["phase"] == "train"] if len(history) else history
    errors = _errors(trained)
    return {
        "table": plan.table,
        "network": plan.label,
        "gamma": recipe.gamma,
        "seed": seed,
        "stage": stage,
        **errors,
        "r_w": float(trained["r_w"].iloc[-1]),
        "r_n": float(trained["r_n"].iloc[-1]),
        "flop": int(trained["flop"].iloc[-1]),
        "architecture": str(trained["architecture"].iloc[-1]),
        "epochs": int(recipe.epochs),
        "status": status,
        "seconds": round(float(history["seconds"].sum()), 1),
        **({"row": plan.row, "device": _device_name(run_device), **_speed(history)} if plan.row else {}),
    }


def _speed(history: DataFrame) -> dict[str, float]:
    """Seconds in all, training images per second (median over epochs) and peak memory of a history."""
    return {
        "seconds": round(float(history["seconds"].sum()), 1),
        "images_per_second": round(float(history["images_per_second"].median()), 1),
        "peak_memory_mib": round(float(history["peak_memory_mib"].max()), 1),
    }


def _device_name(device: str) -> str:
    import torch

    from vibtheory.training.devices import choose_device

    place = choose_device(device)
    return torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"


def _errors(history: DataFrame) -> dict[str, float]:
    import pandas as pd

    error = history["error"].dropna() if "error" in history else pd.Series(dtype=float)
    if error.empty:
        raise InvalidInputError("history: no epoch was evaluated, expected at least one. Remedy: set epochs >= 1")
    return {"error_last": float(error.iloc[-1]), "error_best": float(error.min())}
