"""The runs of a recipe file, γ × seeds from pretraining to fine-tuning, each resumable, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vibtheory.errors import CheckpointError, InvalidInputError, reject
from vibtheory.storage import write_sealed
from vibtheory.storage.run_store import fingerprint, read_record
from vibtheory.storage.schema import fit
from vibtheory.studies.experiments import Experiment
from vibtheory.training.recipe import Recipe

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor, nn

    from vibtheory.datasets.dataset import Dataset
    from vibtheory.training.hardware import InTurns

__all__ = ["close_by_rank", "run_experiment", "run_folder", "run_together"]

_CHECKPOINT_SECONDS = 60.0  # Tables 3 and 4: big nets in short epochs; their checkpoints would take longer than those
_EVALUATE_EVERY = 10  # and so would their evaluations


@dataclass(frozen=True)
class Row:
    """What a run keeps of each stage: `run_experiment` says what the fields are."""

    table: int
    network: str
    gamma: float
    seed: int
    stage: str
    error_last: float
    error_best: float
    r_w: float
    r_n: float
    flop: int
    architecture: str
    epochs: int
    status: str
    seconds: float
    row: str = ""  # from here on Tables 3 and 4 only, which have several comparisons
    device: str = ""
    images_per_second: float = 0.0
    peak_memory_mib: float = 0.0


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
    amp: bool | None = None,
) -> DataFrame:
    """Train, compress, fine-tune and measure every run of a mode; finished runs are read back, stopped ones resumed.

    Args:
        plan: from `vibtheory.studies.experiments.experiment`.
        mode: "quick", "full" or "curve".
        runs: where checkpoints and results of each run are kept.
        jobs: processes side by side; torch's threads, as they are set, are divided among them.
        progress: a live bar for each run (one job only).
        device, accelerate, amp: as in `vibtheory.train`.
        root: folder with the data set's files; None: where `vibtheory.datasets.load` looks.

    Returns:
        One row per run and stage ("pruned", "finetuned"): table, network, mode, gamma, seed, stage, error_last and
        error_best (test set, percent; best over the epochs after pretraining that were evaluated: all, or for Tables 3
        and 4 each tenth and the last), r_w, r_n (percent), flop, architecture,
        epochs, status, seconds; for rows of Tables 3 and 4 also row, device, images_per_second (training) and
        peak_memory_mib.

    Raises:
        InvalidInputError: jobs < 1 or an unknown mode.
        VibTheoryError: a process died (killed, out of memory).
        DataError, CheckpointError, DivergedError: from the runs.
    """
    import pandas as pd
    import torch

    from vibtheory.studies.side_by_side import side_by_side

    if jobs < 1:
        reject("jobs", jobs, "an integer >= 1", "pass the number of processes")
    planned = plan.jobs(mode)
    jobs = min(jobs, len(planned))
    if plan.tuning(mode) is not None:
        _trained_teacher(plan, Path(runs), progress, device, root, {})  # before the runs that share it begin
    options: dict[str, Any] = {"runs": runs, "device": device, "root": root, "accelerate": accelerate, "amp": amp}
    options["progress"] = progress and jobs == 1
    items = [[(plan, mode, recipe, seed)] for recipe, seed in planned]
    threads = max(1, torch.get_num_threads() // jobs)
    found = dict(side_by_side(partial(run_together, **options), items, jobs, threads=threads))
    return pd.concat([found[place] for place in range(len(items))], ignore_index=True)


def run_together(
    planned: Sequence[tuple[Experiment, str, Recipe, int]],
    *,
    runs: str | Path = "runs",
    device: str = "auto",
    root: str | Path | None = None,
    accelerate: str = "none",
    amp: bool | None = None,
    progress: bool = False,
    stop: Callable[[], bool] = lambda: False,
    loaded: dict[Any, Dataset] | None = None,
) -> DataFrame:
    """As `run_experiment`, for runs of any plans in one process: they take turns, a training step each.

    Args:
        planned: plan, mode, recipe and seed of each run.
        runs, device, root, accelerate, amp, progress: as in `run_experiment`.
        stop: asked at the end of each epoch of each run; True: that run writes its checkpoint and is left there.
        loaded: data sets that earlier calls in this process left here; this one adds its own.

    Returns:
        The rows of the runs that were finished; none, without columns, if all were stopped.

    Raises:
        DataError, CheckpointError, DivergedError: from the runs.
    """
    import pandas as pd

    from vibtheory.training.hardware import choose_device, interleave

    loaded = {} if loaded is None else loaded  # runs have data in common
    turns = [_one(*run, Path(runs), progress, device, root, accelerate, amp, loaded) for run in planned]
    results = interleave(turns, choose_device(device), stop)
    return pd.DataFrame([row for rows in results for row in rows or []])


def _one(
    plan: Experiment,
    mode: str,
    recipe: Recipe,
    seed: int,
    runs: Path,
    progress: bool,
    device: str,
    root: str | Path | None,
    accelerate: str,
    amp: bool | None,
    loaded: dict[Any, Dataset],
) -> InTurns[list[dict[str, Any]]]:
    """One γ and one seed, from pretraining to fine-tuning; its rows are kept in its folder."""
    from vibtheory.compression.cut import compress
    from vibtheory.networks.registry import build
    from vibtheory.networks.streams import INITIAL_WEIGHTS, random_stream
    from vibtheory.training.hardware import choose_device
    from vibtheory.training.loop import Settings
    from vibtheory.training.single import in_turns

    # Fine-tuning has a key of its own: changing it must not train again.
    finetune = plan.tuning(mode)
    tuned_as = finetune and finetune.to_dict()
    tuning = fingerprint([tuned_as, *_taught_as(plan)] if tuned_as and plan.teacher else tuned_as)
    folder = run_folder(plan, recipe, seed, runs)
    finished = folder / f"rows-{tuning}.json"
    place = choose_device(device)
    in_bfloat16 = place.type == "cuda" if amp is None else amp
    if finished.exists():
        rows = _finished_rows(finished, in_bfloat16)
        if any((row["gamma"], row["seed"]) != (recipe.gamma, seed) for row in rows):
            raise CheckpointError(
                f"{finished}: rows of gamma {rows[0]['gamma']:g}, seed {rows[0]['seed']}, expected those of gamma "
                f"{recipe.gamma:g}, seed {seed}. Remedy: delete this file, and the same command measures the run again"
            )
        return [{**row, "network": plan.label, "mode": mode} for row in rows]
    data = _data(plan, root, loaded)
    if plan.arguments.get("classes", data.classes) != data.classes:
        got, want = f"{plan.arguments['classes']} classes", f"{data.classes}, as {plan.dataset} has"
        reject("recipe arguments", got, want, f"set classes = {data.classes} in {plan.name}")
    rare = {"checkpoint_seconds": _CHECKPOINT_SECONDS, "evaluate_every": _EVALUATE_EVERY} if plan.row else {}
    settings = Settings(device=place, seed=seed, progress=progress, accelerate=accelerate,
                        amp=amp, folder=folder / "checkpoint", **rare)  # type: ignore[arg-type]  # fmt: skip
    with random_stream(seed, INITIAL_WEIGHTS):
        net = build({"builder": plan.network, "arguments": plan.arguments})
    run = yield from in_turns(net, data, recipe, settings)
    run.save(folder)
    where = _device_name(device, amp)
    rows = [_row(plan, run.history, recipe, seed, run.status, where)]
    if plan.ranking and run.status == "completed":
        rows[0] |= _ranked(plan, net, data)
    if finetune is not None and run.status == "completed":
        teacher = _trained_teacher(plan, runs, False, device, root, loaded)
        tuning_settings = replace(settings, folder=folder / f"finetune-{tuning}", teacher=teacher)
        tuned = yield from in_turns(compress(net), data, finetune, tuning_settings)
        tuned_row = {"stage": "finetuned", **_errors(tuned.history), "epochs": finetune.epochs}
        rows.append({**rows[0], **tuned_row, **(_speed(tuned.history) if plan.row else {})})
    write_sealed(finished, {"rows": rows, "amp": in_bfloat16}, indent=1)
    return [{**row, "mode": mode} for row in rows]


def _data(plan: Experiment, root: str | Path | None, loaded: dict[Any, Dataset]) -> Dataset:
    """What every net of `plan` is trained and tested on, its teacher too; kept in `loaded`."""
    from vibtheory import datasets

    kind = plan.dataset, plan.held_out, plan.examples
    if kind not in loaded:
        whole = datasets.load(plan.dataset, root)
        whole = whole.split(plan.held_out) if plan.held_out else whole
        loaded[kind] = whole.subset(plan.examples) if plan.examples else whole
    return loaded[kind]


def _taught_as(plan: Experiment) -> list[Any]:
    """What decides the teacher, beside the network and the data set."""
    assert plan.teacher is not None
    return [plan.teacher.to_dict(), *([plan.held_out, plan.examples] if plan.held_out or plan.examples else [])]


def run_folder(plan: Experiment, recipe: Recipe, seed: int, runs: Path) -> Path:
    """Where in `runs` the run of `plan` with this `recipe` and `seed` is kept."""
    network: list[Any] = [plan.network, plan.arguments] if plan.arguments else [plan.network]
    network += [plan.held_out, plan.examples] if plan.held_out or plan.examples else []
    network += [plan.ranking, plan.share] if plan.ranking else []
    trained = fingerprint([*network, plan.dataset, recipe.to_dict()])
    return runs / f"{plan.name}-gamma{recipe.gamma:g}-seed{seed}-{trained}"


def close_by_rank(plan: Experiment, net: nn.Module, x: Tensor) -> None:
    """Close the units of `net` that `plan` cuts by rank, if any; `x` is an example batch."""
    from torch import nn

    from vibtheory.compression.ranking import close_ranked
    from vibtheory.networks.gates import named_gates

    if plan.ranking == "filters":
        for gate in named_gates(net).values():
            gate.threshold = plan.share
    elif plan.ranking:
        assert isinstance(net, nn.Sequential)
        close_ranked(net, x, plan.share, plan.ranking)


def _ranked(plan: Experiment, net: nn.Module, data: Dataset) -> dict[str, Any]:
    """Cut by rank what training left whole; error and sizes then."""
    import torch

    from vibtheory.training.run import measured

    x, y = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)
    close_by_rank(plan, net.cpu(), x[:2])
    found = measured(net, (x, y), data.likelihood)
    error = {"error_last": found["error"], "error_best": found["error"]}
    return {**error, **{key: found[key] for key in ("r_w", "r_n", "flop", "architecture")}}


def _finished_rows(path: Path, amp: bool = False) -> list[dict[str, Any]]:
    """Rows that `_one` kept, unchanged since, with or without `amp`. Raises CheckpointError otherwise.

    An older file does not say which.
    """

    def rows(plain: dict[str, Any]) -> list[dict[str, Any]]:
        found = plain.get("rows")
        if not isinstance(found, list) or not found:
            raise ValueError("it holds no rows")
        for row in found:
            fit(Row, row, "row", more=True)
        if plain.get("amp", amp) is not amp:
            got = f"a run trained {'without' if amp else 'with'} bfloat16, expected one {'with' if amp else 'without'}"
            raise CheckpointError(f"{path}: {got}. Remedy: ask for its --amp, or other --runs")
        return found

    remedy = "delete this file, and the same command measures the run again"
    return read_record(path, rows, "the rows of a finished run", remedy)


def _row(plan: Experiment, history: DataFrame, recipe: Recipe, seed: int, status: str, device: str) -> dict[str, Any]:
    trained = history[history["phase"] == "train"] if len(history) else history
    errors = _errors(trained)
    return {
        "table": plan.table,
        "network": plan.label,
        "gamma": recipe.gamma,
        "seed": seed,
        "stage": "pruned",
        **errors,
        "r_w": float(trained["r_w"].iloc[-1]),
        "r_n": float(trained["r_n"].iloc[-1]),
        "flop": int(trained["flop"].iloc[-1]),
        "architecture": str(trained["architecture"].iloc[-1]),
        "epochs": int(recipe.epochs),
        "status": status,
        "seconds": round(float(history["seconds"].sum()), 1),
        **({"row": plan.row, "device": device, **_speed(history)} if plan.row else {}),
    }


def _speed(history: DataFrame) -> dict[str, float]:
    """Seconds in all, training images per second (median over epochs) and peak memory of a history."""
    return {
        "seconds": round(float(history["seconds"].sum()), 1),
        "images_per_second": round(float(history["images_per_second"].median()), 1),
        "peak_memory_mib": round(float(history["peak_memory_mib"].max()), 1),
    }


def _device_name(device: str, amp: bool | None) -> str:
    import torch

    from vibtheory.training.hardware import choose_device

    place = choose_device(device)
    return torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu, bfloat16" if amp else "cpu"


def _errors(history: DataFrame) -> dict[str, float]:
    import pandas as pd

    error = history["error"].dropna() if "error" in history else pd.Series(dtype=float)
    if error.empty:
        raise InvalidInputError("history: no epoch was evaluated, expected at least one. Remedy: set epochs >= 1")
    return {"error_last": float(error.iloc[-1]), "error_best": float(error.min())}


def _trained_teacher(
    plan: Experiment, runs: Path, progress: bool, device: str, root: str | Path | None, loaded: dict[Any, Dataset]
) -> nn.Module | None:
    """The regular net whose predictions fine-tuning follows: trained once, kept beside the runs; None: no teacher."""
    from vibtheory.networks.registry import build
    from vibtheory.networks.streams import random_stream
    from vibtheory.training.run import load
    from vibtheory.training.single import train

    if plan.teacher is None:
        return None
    identity = fingerprint([plan.network, plan.arguments, plan.dataset, *_taught_as(plan)])
    folder = runs / f"{plan.name}-teacher-{identity}"
    if (folder / "run.json").exists():
        return load(folder).net
    data = _data(plan, root, loaded)
    with random_stream(0, "initial weights of the teacher"):
        net = build({"builder": plan.network, "arguments": {**plan.arguments, "gated": False}})
    run = train(net, data, plan.teacher, device=device, progress=progress, checkpoint=folder / "checkpoint")
    run.save(folder)
    return run.net
