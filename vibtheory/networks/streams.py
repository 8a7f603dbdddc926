"""Random numbers of torch for one purpose, in a stream of their own; the global state is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vibtheory.errors import as_torch_seed

__all__ = ["INITIAL_WEIGHTS", "TRAINING", "random_state_kept", "random_stream"]

INITIAL_WEIGHTS = "initial weights"
"""The purpose under which sweeps, tables and `train_many` draw a network's weights from a run's seed."""

TRAINING = "training"
"""Order of the batches, augmentation, gate noise and dropout."""

_WITHOUT_OWN = ("cpu", "meta")  # devices without random numbers beside the CPU's


@contextmanager
def random_stream(seed: int, purpose: str, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, torch draws from `seed`'s stream for `purpose` (`vibtheory.errors.as_generator`); restored afterwards.

    Args:
        seed: a whole number from 0 to 2**63 - 1.
        purpose: any text; the same one gives the same numbers again.
        device: where numbers are drawn besides the CPU.

    Raises:
        InvalidInputError: not such a seed.
    """
    place = torch.device(device)
    derived = as_torch_seed("seed", seed, purpose)
    with random_state_kept(place):
        torch.default_generator.manual_seed(derived)  # torch.manual_seed sets every device's numbers, kept or not
        if place.type == "cuda":
            with torch.cuda.device(place):
                torch.cuda.manual_seed(derived)
        elif place.type not in _WITHOUT_OWN:
            torch.get_device_module(place).manual_seed(derived)
        yield


@contextmanager
def random_state_kept(device: torch.device | str = "cpu") -> Iterator[None]:
    """Afterwards torch's global numbers go on, on the CPU and on `device`, as if none had been drawn inside."""
    place = torch.device(device)
    away = place.type not in _WITHOUT_OWN
    with torch.random.fork_rng(devices=[place] if away else [], device_type=place.type if away else "cuda"):
        yield
