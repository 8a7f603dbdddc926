"""Checkpoints of runs in progress: what a run gives away and takes back, as tensors and plain data.

`snapshot` and `restore` write and read it beside what identifies the run; what is in it only the run itself knows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import CheckpointError
from vibtheory.storage import read_state, write_state

__all__ = [
    "State",
    "data_fingerprint",
    "load_random_state",
    "random_state",
    "restore",
    "snapshot",
]


@dataclass(frozen=True)
class State:
    """Where a run stands at the end of an epoch.

    Attributes:
        tensors: weights, optimizer and random state, by name.
        progress: history and flags, plain JSON types.
    """

    tensors: dict[str, Tensor]
    progress: dict[str, Any]


def snapshot(folder: Path, identity: dict[str, Any], state: State) -> None:
    """Write `state` and what must be the same for it to be continued, atomically, replacing the last one."""
    write_state(folder, "checkpoint", state.tensors, {**identity, **state.progress})


def restore(folder: Path, identity: dict[str, Any], take: Callable[[State], None]) -> bool:
    """Give the state that `snapshot` wrote to `take`, if there is one; False where the run starts afresh.

    Raises:
        CheckpointError: unreadable, of another identity (recipe, seed, data set, network), or `take` cannot use it.
    """
    found = read_state(folder, "checkpoint")
    if found is None:
        return False
    tensors, plain = found
    differing = [key for key, value in identity.items() if plain.get(key) != value]
    if differing:
        raise CheckpointError(
            f"checkpoint: {folder} holds another run (its {', '.join(differing)} differ), expected the same call. "
            "Remedy: choose another folder, or repeat the call with the settings it was started with"
        )
    try:
        take(State(tensors, plain))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint: {folder} cannot be continued ({str(error).splitlines()[0]}), expected a checkpoint of this "
            "network. Remedy: delete the folder to start afresh"
        ) from error
    return True


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Torch's random state, on the CPU and on `device`."""
    state = {"random.cpu": torch.get_rng_state()}
    return state | ({"random.cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def load_random_state(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Set what `random_state` gave."""
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)


def data_fingerprint(data: Dataset) -> list[Any]:
    """Name, shape and checksums of the training data."""
    return [data.name, *data.x_train.shape, *(_crc(array) for array in (data.x_train, data.y_train))]


def _crc(array: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)
