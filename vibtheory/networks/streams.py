"""Random numbers of torch for one purpose, in a stream of their own; the global state is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vibtheory.errors import as_torch_seed

__all__ = ["INITIAL_WEIGHTS", "TRAINING", "random_stream"]

INITIAL_WEIGHTS = "initial weights"
"""The purpose under which sweeps, tables and `train_many` draw a network's weights from a run's seed."""

TRAINING = "training"
"""Order of the batches, augmentation, gate noise and dropout."""


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
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        # torch.manual_seed formats a traceback for each kind of accelerator, which costs more than a small forward pass
        seeded = torch.default_generator if place.type == "cpu" else torch
        seeded.manual_seed(derived)
        yield
