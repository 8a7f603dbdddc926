"""The same recipe for many (γ, seed) pairs in one process: the runs take turns, a step each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import as_scalar, as_seed, reject, shown
from vibtheory.networks.likelihood import check_net
from vibtheory.networks.streams import INITIAL_WEIGHTS, random_stream
from vibtheory.training.examples import check_dataset
from vibtheory.training.hardware import choose_device, interleave
from vibtheory.training.loop import Settings
from vibtheory.training.recipe import Recipe, recipe_of
from vibtheory.training.run import Run
from vibtheory.training.single import folder_of, in_turns

__all__ = ["train_many"]


@torch.inference_mode(False)  # gradients, whatever the caller switched off
def train_many(
    build: Callable[[], nn.Module],
    data: Dataset,
    pairs: Sequence[tuple[float, int]],
    recipe: Recipe | None = None,
    *,
    device: str = "auto",
    amp: bool | None = None,
    evaluate_every: int = 1,
    accelerate: str = "none",
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 0.0,
    on_epoch: Callable[[int, nn.Module, int], None] | None = None,
    **changes: Any,
) -> list[Run]:
    """Train one network per (γ, seed) pair: any net, any recipe, each run as `train` would do it alone.

    On a GPU each run's steps have a stream of their own, so that small ones overlap (best with accelerate="graph":
    then nothing waits for Python); not measured there. On a CPU nothing overlaps, and the bits are those of `train`.
    Each seed decides its network's initial weights (`networks.random_stream(seed, networks.INITIAL_WEIGHTS)`), batches
    and noise.

    Args:
        build: makes a new network, e.g. `vibtheory.networks.lenet_300_100`; called once per pair.
        data: the data set.
        pairs: (γ, seed), one or more; γ replaces `recipe.gamma`, `recipe.layer_weights` still apply.
        recipe: what to do; None: `Recipe()`. Keyword arguments replace its fields.
        device, amp, evaluate_every, accelerate, checkpoint_seconds: as in `train`.
        checkpoint: folder for resuming, with a folder for each pair; the same call continues stopped runs. None: none.
        on_epoch: as in `train`, with the pair's place in `pairs` before the net and the number of epochs.

    Returns:
        One Run per pair, in order.

    Raises:
        InvalidInputError: no pairs, or networks that share parameters; else as `train`, as are CheckpointError and
            DivergedError.
    """
    check_dataset(data)
    recipe, folder, place = recipe_of(recipe, changes), folder_of(checkpoint), choose_device(device)
    if not callable(build):
        reject("build", f"a {type(build).__name__}", "a function that makes a network", "pass lambda: …")
    if on_epoch is not None and not callable(on_epoch):
        reject("on_epoch", shown(on_epoch), "a function of the pair's place, the net and the epochs done, or None",
               "pass one")  # fmt: skip
    wanted = [_pair(pair) for pair in pairs] if isinstance(pairs, Iterable) else []
    if not wanted:
        reject("pairs", shown(pairs), "at least one (gamma, seed)", "list the runs to train")
    settings = Settings(device=place, amp=amp, evaluate_every=evaluate_every, accelerate=accelerate,
                        checkpoint_seconds=checkpoint_seconds)  # fmt: skip
    turns, seen = [], dict[int, object]()
    for k, (gamma, seed) in enumerate(wanted):
        own = replace(
            settings, seed=seed, on_epoch=on_epoch and partial(on_epoch, k),
            folder=folder and folder / f"{k}-gamma{gamma:g}-seed{seed}",
        )  # fmt: skip
        with random_stream(own.seed, INITIAL_WEIGHTS, place):
            net = build()
        check_net("build", net)
        own_parts = {id(part): part for part in (net, *net.parameters())}
        if own_parts.keys() & seen.keys():
            reject("build", "a network with parameters of one returned before", "a new network at each call",
                   "build it inside: the pairs would train the same weights")  # fmt: skip
        seen |= own_parts
        turns.append(in_turns(net, data, replace(recipe, gamma=gamma), own))
    return [run for run in interleave(turns, place) if run is not None]


def _pair(pair: object) -> tuple[float, int]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        reject("pairs", shown(pair), "(gamma, seed), of each run", "list pairs of numbers")
    return as_scalar("pairs", pair[0]), as_seed("pairs", pair[1])
