"""The checkpoint of a run in progress: weights, optimizer, random state and history, all at full size."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vibtheory.errors import CheckpointError
from vibtheory.storage import read_state, write_state

if TYPE_CHECKING:
    from vibtheory.datasets.dataset import Dataset

__all__ = ["data_fingerprint", "restore", "snapshot"]


def snapshot(folder: Path, loop: Any, seed: int) -> None:
    """Write the state at the end of an epoch, atomically, replacing the last one."""
    with loop.full_size():
        names: dict[Tensor, str] = {parameter: name for name, parameter in loop.net.named_parameters()}
        tensors = {f"net.{name}": tensor for name, tensor in loop.net.state_dict().items()}
        for parameter, state in loop.optimizer.state.items():
            tensors |= {f"optimizer.{names[parameter]}:{key}": value for key, value in state.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if loop.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(loop.device)
        if loop.teacher is not None:
            tensors["teacher"] = loop.teacher
        progress = {"history": loop.rows, "shrunken": loop.shrinker is not None}
        write_state(folder, "checkpoint", tensors, {**_identity(loop, seed), **progress})


def restore(folder: Path, loop: Any, seed: int) -> bool:
    """Load the state that `snapshot` wrote, if there is one; False where the run starts afresh.

    Raises:
        CheckpointError: unreadable, or of another recipe, seed, data set or network.
    """
    found = read_state(folder, "checkpoint")
    if found is None:
        return False
    tensors, plain = found
    wanted = _identity(loop, seed)
    differing = [key for key, value in wanted.items() if plain.get(key) != value]
    if differing:
        raise CheckpointError(
            f"checkpoint: {folder} holds another run (its {', '.join(differing)} differ), expected the same call. "
            "Remedy: choose another folder, or repeat the call with the settings it was started with"
        )
    try:
        _check_progress(tensors, plain, loop)
        loop.net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        parameters = dict(loop.net.named_parameters())
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                name, _, what = key.removeprefix("optimizer.").rpartition(":")
                # the step count too: a fused Adam keeps it on the device
                value = value.to(loop.device).clone()
                if value.shape == parameters[name].shape:  # moments in their parameter's memory layout
                    value = torch.empty_like(parameters[name]).copy_(value)
                loop.optimizer.state[parameters[name]][what] = value
        torch.set_rng_state(tensors["random.cpu"])
        if loop.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], loop.device)
        teacher: Tensor | None = tensors.get("teacher")
        loop.teacher = None if teacher is None else teacher.to(loop.device)
        loop.rows = list(plain["history"])
        shrunken = bool(plain["shrunken"])
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint: {folder} cannot be continued ({str(error).splitlines()[0]}), expected a checkpoint of this "
            "network. Remedy: delete the folder to start afresh"
        ) from error
    if shrunken:
        loop.shrink()
    return True


_ADAM = {"step", "exp_avg", "exp_avg_sq"}


def _check_progress(tensors: dict[str, Tensor], plain: dict[str, Any], loop: Any) -> None:
    """Raise ValueError unless the history and the optimizer's state are whole, and of this network's shapes."""
    rows = plain["history"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("its history is no list of rows")
    kept = [f"kept_{name}" for name in loop.gates]
    for row in rows:
        if row.get("status") not in ("completed", "collapsed") or not all(isinstance(row.get(k), int) for k in kept):
            raise ValueError(f"a row of its history is {row!r:.80}")
    found: dict[str, set[str]] = {}
    parameters = dict(loop.net.named_parameters())
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            name, _, what = key.removeprefix("optimizer.").rpartition(":")
            found.setdefault(name, set()).add(what)
            if not value.is_floating_point() or value.shape != (() if what == "step" else parameters[name].shape):
                raise ValueError(f"{key} has shape {list(value.shape)} and type {value.dtype}")
    if any(what != _ADAM for what in found.values()):
        raise ValueError("the optimizer's state is incomplete")


def _identity(loop: Any, seed: int) -> dict[str, Any]:
    """What must be the same for a checkpoint to be continued."""
    return {
        "format": 1,
        "recipe": loop.recipe.to_dict(),
        "seed": seed,
        "data": loop.fingerprint,
        "amp": loop.amp,
        "shapes": {name: list(tensor.shape) for name, tensor in _full_shapes(loop).items()},
    }


def _full_shapes(loop: Any) -> dict[str, Tensor]:
    return dict(loop.net.named_parameters())


def data_fingerprint(data: Dataset) -> list[Any]:
    """Name, shape and checksums of the training data."""
    return [data.name, *data.x_train.shape, *(_crc(array) for array in (data.x_train, data.y_train))]


def _crc(array: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)
