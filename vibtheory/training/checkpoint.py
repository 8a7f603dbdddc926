"""Checkpoints of runs in progress: what a run gives away and takes back, as tensors and plain data.

`snapshot` and `restore` write and read it beside what identifies the run; what is in it only the run itself knows.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import CheckpointError
from vibtheory.networks.gates import named_gates
from vibtheory.storage import read_state, write_state

__all__ = [
    "State",
    "data_fingerprint",
    "described",
    "load_random_state",
    "net_fingerprint",
    "random_state",
    "restore",
    "snapshot",
    "test_fingerprint",
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
        CheckpointError: unreadable, of another identity (recipe, seed, data, network, teacher), or `take` cannot use
            it. What an older checkpoint does not say is not compared.
    """
    found = read_state(folder, "checkpoint")
    if found is None:
        return False
    tensors, plain = found
    differing = [key for key, value in identity.items() if plain.get(key, value) != value]
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


def test_fingerprint(data: Dataset) -> list[Any]:
    """Shape and checksums of the test data, which decide what a history says."""
    return [*data.x_test.shape, *(_crc(array) for array in (data.x_test, data.y_test))]


def described(net: nn.Module) -> str:
    """What `net` computes, apart from its state: modules with their settings; of gates also law and options."""
    text = re.sub(r" at 0x[0-9a-f]+", "", str(net))  # addresses, in the names of functions
    return f"{text} {[(name, gate.law, gate.given) for name, gate in named_gates(net).items()]}"


def net_fingerprint(net: nn.Module, *, state: bool) -> int:
    """Checksum of `described`, and with `state` of every parameter and buffer too."""
    found = zlib.crc32(described(net).encode())
    for name, tensor in net.state_dict().items() if state else ():
        found = zlib.crc32(name.encode(), found)
        if isinstance(tensor, Tensor):
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            found = zlib.crc32(raw.data, found)
    return found


def _crc(array: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)
