"""Training: mean cross-entropy + Σ γ_i s_i Σ ½ log(1+α_ij), with noise at the gates.

`train` checks and seeds; `vibtheory.training.loop` pretrains, trains epoch by epoch, checkpoints, and stops early where
a layer dies. Interrupt it however you like (Ctrl-C, SIGTERM, kill -9): with `checkpoint` set, the same call goes on
from the last epoch's end, and on one CPU ends with the same bits as an undisturbed run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import as_path, as_seed, reject
from vibtheory.networks.gates import named_gates
from vibtheory.networks.likelihood import check_net
from vibtheory.networks.streams import TRAINING, random_stream
from vibtheory.storage import locked
from vibtheory.training.distributed import lost_worker_explained, synchronised, world
from vibtheory.training.examples import check_dataset
from vibtheory.training.hardware import InTurns, check_acceleration, choose_device, interleave
from vibtheory.training.loop import Loop, Settings
from vibtheory.training.recipe import Recipe, recipe_of
from vibtheory.training.run import Run

__all__ = ["folder_of", "in_turns", "train"]

_ENDING = 2.0  # seconds within which the processes of a killed command let go of their folders


@torch.inference_mode(False)  # gradients, whatever the caller switched off
def train(
    net: nn.Module,
    data: Dataset,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    amp: bool | None = None,
    progress: bool = False,
    on_epoch: Callable[[nn.Module, int], None] | None = None,
    teacher: nn.Module | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 0.0,
    evaluate_every: int = 1,
    accelerate: str = "none",
    **changes: Any,
) -> Run:
    """Train `net` in place, gates and weights together.

    Args:
        net: a gated network (`vibtheory.networks`, `insert_gates`), or one without gates: plain training. Parameters
            that do not require a gradient, those of gates too, stay as they are.
        data: `vibtheory.datasets.load(...)` or `from_arrays(...)`; its likelihood decides the loss.
        recipe: what to do; None: `Recipe()`. Keyword arguments named like its fields replace them
            (`gamma=3e-4, epochs=20`). Without gates a recipe's gamma means nothing, and one given here is refused.
        seed: of batches, gate noise and dropout; the global torch random state is left alone. The network's initial
            weights are the caller's: seed before building it.
        device: "auto" (CUDA if present), "cpu", "cuda", "cuda:1", ….
        amp: bfloat16 autocast; None: on CUDA only. Gates and statistics stay float32.
        progress: a live bar with error, kept units and r_W.
        on_epoch: called with the net (full size, evaluation mode) and the number of epochs done: at the start (0) and
            after each epoch, before its checkpoint is written; it must leave the net and torch's random state alone.
            A resumed run calls it for the epochs that it trains.
        teacher: a trained net whose predictions on the training inputs (as they are, not shifted) are followed with
            weight `recipe.distill`, from the first epoch on; None: the net itself as it is after pretraining.
        checkpoint: folder for resuming; the same call continues a stopped run. None: no checkpoint. Parameters and
            buffers are kept, plain attributes (a counter in `forward`) are not: register a buffer for those.
        checkpoint_seconds: write it no more often than that, a finite number ≥ 0 (and at the end); 0: after every
            epoch.
        evaluate_every: epochs between evaluations on `data.x_test`; the last epoch is always evaluated.
        accelerate: "none", "compile" (torch.compile), "graph" (the whole step as one CUDA graph), "compile+graph", or
            "blocks+graph" (of a Sequential only BatchNorm + ReLU + gate are compiled: in seconds, also after a cut).

    Returns:
        Run: the net (in evaluation mode), its history, and a status.

    Raises:
        InvalidInputError: an argument of the wrong type or out of range, data that do not fit the net, nothing that
            learns, a layer name in gamma that is none; with `checkpoint`, a net whose `state_dict` has more than
            tensors (`get_extra_state`).
        CheckpointError: the checkpoint is unreadable, or belongs to another recipe, seed, data set (training or test),
            network (layers, gates and their laws and thresholds, what is frozen) or teacher.
        DivergedError: a non-finite loss; names step and layer.
    """
    check_dataset(data)
    check_net("net", net)
    recipe, seed = recipe_of(recipe, changes), as_seed("seed", seed)
    if changes.get("gamma") and not named_gates(net):
        reject("gamma", changes["gamma"], "none for a network without gates", "insert some: vt.insert_gates")
    settings = Settings(
        device=choose_device(device), seed=seed, amp=amp, evaluate_every=evaluate_every, accelerate=accelerate,
        progress=progress, folder=folder_of(checkpoint),
        checkpoint_seconds=checkpoint_seconds, on_epoch=on_epoch, teacher=teacher,
    )  # fmt: skip
    (run,) = interleave([in_turns(net, data, recipe, settings)], settings.device)
    assert run is not None
    return run


def folder_of(checkpoint: object) -> Path | None:
    """The folder that `checkpoint` names. Raises InvalidInputError: neither a path nor None."""
    return None if checkpoint is None else as_path("checkpoint", checkpoint, "pass that of a folder, or None")


def in_turns(net: nn.Module, data: Dataset, recipe: Recipe, settings: Settings) -> InTurns[Run]:
    """`train`, pausing after each step: one of several runs that `vibtheory.training.hardware.interleave` goes through.

    Raises as `train`, when it is begun.
    """
    place, folder, processes, gates = settings.device, settings.folder, world(), named_gates(net)
    if isinstance(recipe.layer_gamma, dict) and set(recipe.layer_gamma) != set(gates):
        reject("gamma", sorted(recipe.layer_gamma), f"exactly the gated layers {list(gates)}", "name each layer once")
    if recipe.distill and settings.teacher is None and not recipe.pretrain_epochs:
        reject("distill", recipe.distill, "0 without a teacher", "pass teacher, or set pretrain_epochs")
    for name, share in (("label_smoothing", recipe.label_smoothing), ("distill", recipe.distill)):
        if share and data.likelihood != "multinomial":
            reject(name, share, "0 for regression", "leave it out: there are no labels")
    check_acceleration(settings.accelerate, place, processes.size)
    with (
        locked(folder, wait=_ENDING) if folder and processes.rank == 0 else nullcontext(),
        random_stream(settings.seed, TRAINING, place),
    ):
        loop = Loop(net.to(place), data, recipe, settings)
        with lost_worker_explained(processes, folder), synchronised(net, processes):
            return (yield from loop.turns())
