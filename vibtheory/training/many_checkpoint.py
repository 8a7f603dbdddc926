"""The checkpoint of a batch of runs in progress: stacked weights, optimizer, random state and histories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vibtheory.errors import CheckpointError
from vibtheory.storage import read_state, write_state

__all__ = ["restore_batch", "snapshot_batch"]


def snapshot_batch(folder: Path, batch: Any) -> None:
    """Write the state at the end of an epoch, atomically, replacing the last one."""
    names = {parameter: name for name, parameter in batch.parameters.items()}
    tensors = {f"parameter.{name}": tensor for name, tensor in batch.parameters.items()}
    tensors |= {f"buffer.{name}": tensor for name, tensor in batch.buffers.items()}
    for parameter, state in batch.optimizer.state.items():
        tensors |= {f"optimizer.{names[parameter]}:{key}": value for key, value in state.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if batch.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(batch.device)
    write_state(folder, "checkpoint", tensors, {**_identity(batch), "histories": batch.rows})


def restore_batch(folder: Path, batch: Any) -> bool:
    """Load the state that `snapshot_batch` wrote, if there is one; False where the batch starts afresh.

    Raises:
        CheckpointError: unreadable, or of other recipes, seeds, data or networks.
    """
    found = read_state(folder, "checkpoint")
    if found is None:
        return False
    tensors, plain = found
    differing = [key for key, value in _identity(batch).items() if plain.get(key) != value]
    if differing:
        raise CheckpointError(
            f"checkpoint: {folder} holds another batch (its {', '.join(differing)} differ), expected the same call. "
            "Remedy: choose another folder, or repeat the call with the settings it was started with"
        )
    try:
        with torch.no_grad():
            for kind, stacked in (("parameter", batch.parameters), ("buffer", batch.buffers)):
                for name, tensor in stacked.items():
                    tensor.copy_(tensors[f"{kind}.{name}"])
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                name, _, what = key.removeprefix("optimizer.").rpartition(":")
                batch.optimizer.state[batch.parameters[name]][what] = value.to(batch.device).clone()
        torch.set_rng_state(tensors["random.cpu"])
        if batch.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], batch.device)
        batch.rows = [list(rows) for rows in plain["histories"]]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint: {folder} cannot be continued ({str(error).splitlines()[0]}), expected a checkpoint of these "
            "networks. Remedy: delete the folder to start afresh"
        ) from error
    return True


def _identity(batch: Any) -> dict[str, Any]:
    """What must be the same for a checkpoint to be continued."""
    return {
        "format": 1,
        "recipes": [recipe.to_dict() for recipe in batch.recipes],
        "seeds": batch.seeds,
        "data": batch.fingerprint,
        "noise": batch.randomness,
        "shapes": {name: list(tensor.shape) for name, tensor in batch.parameters.items()},
    }
