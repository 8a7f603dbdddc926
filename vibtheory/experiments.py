"""Table runs: γ × seeds from a recipe file, each job resumable, one results table at the end."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vibtheory.errors import InvalidInputError, check_choice, reject
from vibtheory.recipe import Recipe
from vibtheory.storage import write_text

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Experiment", "experiment", "run_experiment"]

MODES = ("quick", "full", "curve")


@dataclass(frozen=True)
class Experiment:
    """One recipe file: which network on which data, how trained, and how often in each mode.

    Attributes:
        name: the file's name without suffix.
        table: the poster's table that it belongs to.
        network: a function of `vibtheory.networks` (or `vibtheory.vgg`).
        dataset: a name for `vibtheory.datasets.load`.
        recipe: the record's recipe.
        finetune: the recipe after compression, on the small plain net; None: no fine-tuning.
        modes: for each of "quick", "full", "curve": its γs, its seeds, and changes to the recipe.
    """

    name: str
    table: int
    network: str
    dataset: str
    recipe: Recipe
    finetune: Recipe | None
    modes: dict[str, dict[str, Any]]

    def jobs(self, mode: str) -> list[tuple[Recipe, int]]:
        """(recipe, seed) of every run of a mode, γ by γ. Raises InvalidInputError for an unknown mode."""
        check_choice("mode", mode, self.modes)
        plan = self.modes[mode]
        changed = {**self.recipe.to_dict(), **plan.get("recipe", {})}
        if not isinstance(self.recipe.gamma, int | float):
            reject("recipe gamma", self.recipe.gamma, "one number", "put the layers' factors into layer_weights")
        gammas = plan.get("gammas", [self.recipe.gamma])
        return [(Recipe.from_dict({**changed, "gamma": gamma}), seed) for gamma in gammas for seed in plan["seeds"]]


def experiment(name: str | Path) -> Experiment:
    """Read a packaged recipe by name ("lenet_300_100", "lenet_5_caffe") or a TOML file by path.

    Raises:
        InvalidInputError: no such recipe, not TOML, a key missing or unknown.
    """
    folder = resources.files("vibtheory").joinpath("recipes")
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
    except tomllib.TOMLDecodeError as error:
        reject("recipe", f"{name}: {error}", "valid TOML", "correct that line")
    return _experiment(Path(name).stem, plain)


def _experiment(name: str, plain: dict[str, Any]) -> Experiment:
    required, optional = {"table", "network", "dataset", "recipe"}, {"finetune", *MODES}
    missing, unknown = required - set(plain), set(plain) - required - optional
    if missing or unknown:
        got = f"{name}: missing {sorted(missing) or 'nothing'}, unknown {sorted(unknown) or 'nothing'}"
        reject("recipe", got, f"the keys {sorted(required)} and any of {sorted(optional)}", "correct the file")
    modes = {mode: plain[mode] for mode in MODES if mode in plain}
    for mode, plan in modes.items():
        strange = set(plan) - {"gammas", "seeds", "recipe"}
        seeds = plan.get("seeds")
        if strange or not isinstance(seeds, list) or not seeds or not all(isinstance(s, int) for s in seeds):
            reject(f"recipe [{mode}]", plan, "seeds = [0, …], and optionally gammas and recipe", "correct that section")
    finetune = Recipe.from_dict({"gamma": 0.0, **plain["finetune"]}) if "finetune" in plain else None
    return Experiment(name, plain["table"], plain["network"], plain["dataset"], Recipe.from_dict(plain["recipe"]),
                      finetune, modes)  # fmt: skip


def run_experiment(
    plan: Experiment, mode: str, *, runs: str | Path = "runs", jobs: int = 1, progress: bool = False
) -> DataFrame:
    """Train, compress, fine-tune and measure every run of a mode; finished runs are read back, stopped ones resumed.

    Args:
        plan: from `experiment`.
        mode: "quick", "full" or "curve".
        runs: where checkpoints and results of each run are kept.
        jobs: processes side by side; torch's threads are divided among them.
        progress: a live bar for each run (one job only).

    Returns:
        One row per run and stage ("pruned", "finetuned"): table, network, mode, gamma, seed, stage, error_last and
        error_best (test set, percent; best over the epochs after pretraining), r_w, r_n (percent), flop, architecture,
        epochs, status, seconds.

    Raises:
        InvalidInputError: jobs < 1 or an unknown mode.
        DataError, CheckpointError, DivergedError: from the runs.
    """
    import pandas as pd
    from joblib import Parallel, delayed

    if jobs < 1:
        reject("jobs", jobs, "an integer >= 1", "pass the number of processes")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    tasks = [
        delayed(_run_one)(plan, mode, recipe, seed, Path(runs), threads, progress and jobs == 1)
        for recipe, seed in plan.jobs(mode)
    ]
    results = Parallel(n_jobs=min(jobs, len(tasks)))(tasks)
    return pd.DataFrame([row for rows in results for row in rows])


def _run_one(
    plan: Experiment, mode: str, recipe: Recipe, seed: int, runs: Path, threads: int, progress: bool
) -> list[dict[str, Any]]:
    """One γ and one seed, from pretraining to fine-tuning; its rows are kept in its folder."""
    import torch

    from vibtheory import datasets
    from vibtheory.building import build
    from vibtheory.compression import compress
    from vibtheory.training import train

    # Fine-tuning has a key of its own: changing it must not train again.
    trained = _fingerprint([plan.network, plan.dataset, recipe.to_dict()])
    tuning = _fingerprint(plan.finetune and plan.finetune.to_dict())
    folder = runs / f"{plan.name}-gamma{recipe.gamma:g}-seed{seed}-{trained}"
    finished = folder / f"rows-{tuning}.json"
    if finished.exists():
        rows: list[dict[str, Any]] = json.loads(finished.read_text(encoding="utf-8"))
        return [{**row, "mode": mode} for row in rows]
    data = datasets.load(plan.dataset)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = build({"builder": plan.network})
        run = train(net, data, recipe, seed=seed, checkpoint=folder / "checkpoint", progress=progress)
        run.save(folder)
        rows = [_row(plan, run.history, recipe, seed, "pruned", run.status)]
        if plan.finetune is not None and run.status == "completed":
            small, place = compress(net), folder / f"finetune-{tuning}"
            tuned = train(small, data, plan.finetune, seed=seed, checkpoint=place, progress=progress)
            rows.append({**rows[0], "stage": "finetuned", **_errors(tuned.history), "epochs": plan.finetune.epochs})
    finally:
        torch.set_num_threads(before)
    write_text(finished, json.dumps(rows, indent=1) + "\n")
    return [{**row, "mode": mode} for row in rows]


def _fingerprint(settings: Any) -> str:
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:10]


def _row(plan: Experiment, history: DataFrame, recipe: Recipe, seed: int, stage: str, status: str) -> dict[str, Any]:
    trained = history[history["phase"] == "train"] if len(history) else history
    errors = _errors(trained)
    return {
        "table": plan.table,
        "network": plan.network,
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
    }


def _errors(history: DataFrame) -> dict[str, float]:
    import pandas as pd

    error = history["error"].dropna() if "error" in history else pd.Series(dtype=float)
    if error.empty:
        raise InvalidInputError("history: no epoch was evaluated, expected at least one. Remedy: set epochs >= 1")
    return {"error_last": float(error.iloc[-1]), "error_best": float(error.min())}
