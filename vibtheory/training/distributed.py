"""One training run on several processes (torchrun): batches are shared out, gradients averaged, one process writes.

Every process holds the whole data set and the same random state. Batches, augmentation and gate noise are drawn for the
union batch on each of them, and each takes its own rows: the loss is that of one process on the union batch, to
rounding. BatchNorm takes its statistics over the union batch too.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from vibtheory.errors import VibTheoryError, reject

__all__ = ["World", "lost_worker_explained", "parallel", "process_group", "synchronised", "world"]

_LOST = ("connection closed", "connection reset", "broken pipe", "connection refused", "timed out", "nccl", "gloo")


@dataclass(frozen=True)
class World:
    """The processes of this run.

    Attributes:
        rank: this process, from 0; process 0 writes checkpoints.
        size: how many there are; 1 for an ordinary run.
    """

    rank: int = 0
    size: int = 1

    def share(self, n: int) -> slice:
        """This process' rows of a batch of n; shares differ by one row at most."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        if self.size == 1:
            return values
        total = values.clone()
        distributed.all_reduce(total)
        return total / self.size

    def of_first(self, value: Any) -> Any:
        """What process 0 gave, on every process."""
        held = [value]
        if self.size > 1:
            distributed.broadcast_object_list(held)
        return held[0]

    def check_batches(self, examples: int, batch_size: int) -> None:
        """Raise InvalidInputError unless every process gets an equal share of a batch, and rows of the last one."""
        if batch_size % self.size:
            fitting = max(1, batch_size // self.size) * self.size
            remedy = f"use batch_size = {fitting}, or another number of processes"
            reject("batch_size", f"{batch_size} on {self.size} processes", "a multiple of their number", remedy)
        if 0 < examples % batch_size < self.size:
            got = f"{batch_size}, which leaves {examples % batch_size} of {examples} examples to {self.size} processes"
            reject("batch_size", got, "a last batch with a row for each process", "change batch_size a little")

    def check_same_progress(self, epochs: int) -> None:
        """Raise VibTheoryError unless every process found the same checkpoint."""
        if self.size > 1:
            found: list[int | None] = [None] * self.size
            distributed.all_gather_object(found, epochs)
            if len(set(found)) > 1:
                raise VibTheoryError(
                    f"checkpoint: the processes found {found} finished epochs, expected the same everywhere. "
                    "Remedy: put the run's folder on a file system that all machines share"
                )

    def check_same_buffers(self, net: nn.Module) -> None:
        """Raise VibTheoryError where a buffer holds what this process' rows of the batches made of it."""
        moving = {name: buffer for name, buffer in net.named_buffers() if buffer.is_floating_point()}
        if self.size == 1 or not moving:
            return
        sizes = torch.stack([buffer.detach().double().abs().sum() for buffer in moving.values()])
        bounds = torch.cat([sizes, -sizes])
        distributed.all_reduce(bounds, distributed.ReduceOp.MAX)
        high, low = bounds.chunk(2)  # low: with the sign turned
        apart = [name for name, differs in zip(moving, high + low > 1e-4 * high, strict=True) if differs]
        if apart:
            raise VibTheoryError(
                f"processes: {self.size}, whose {apart[0]} differ, as each was made of its own rows; expected buffers "
                "that are the same everywhere (of BatchNorms they are). Remedy: train in one process"
            )


def world() -> World:
    """The processes of the current torch process group, or this one alone."""
    if not distributed.is_available() or not distributed.is_initialized():
        return World()
    return World(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Join the processes that torchrun started; does nothing otherwise.

    Args:
        device: as in `vibtheory.train`; "auto" and "cuda" become this process' own GPU where there is one.

    Yields:
        The device to train on.

    Raises:
        VibTheoryError: the processes did not find each other.
    """
    if not distributed.is_torchelastic_launched() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device in ("auto", "cuda"):
        local = int(os.environ.get("LOCAL_RANK", "0"))
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu" if device == "auto" else device
    if device.startswith("cuda") and torch.cuda.is_available():
        torch.cuda.set_device(device)
    before = signal.signal(signal.SIGTERM, _interrupt)  # torchrun's, once another process has ended
    try:
        _find_each_other("nccl" if device.startswith("cuda") else "gloo")
        yield device
    finally:
        signal.signal(signal.SIGTERM, before)
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _find_each_other(backend: str) -> None:
    try:
        distributed.init_process_group(backend, timeout=timedelta(minutes=10))
    except (RuntimeError, ValueError) as error:
        raise VibTheoryError(
            f"processes: they did not find each other ({_first_line(error)}), expected torchrun's settings. "
            "Remedy: start all of them with torchrun and the same --rdzv-endpoint, see docs/several_machines.md"
        ) from error


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def lost_worker_explained(processes: World, folder: Path | None) -> Iterator[None]:
    """Turn the errors by which torch reports that another process is gone into one that says what to do."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, distributed.DistError) or any(sign in str(error).lower() for sign in _LOST)
        if processes.size == 1 or not lost:
            raise
        where, remedy = "", "set checkpoint to make it resumable"
        if folder:
            where = f"; the checkpoint in {folder} is whole"
            remedy = "the same command goes on from the last checkpoint"
        raise VibTheoryError(
            f"processes: another one of the {processes.size} ended or hangs ({_first_line(error)}), expected all "
            f"of them to go on{where}. Remedy: look for its own message (out of memory?); {remedy}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def parallel(net: nn.Module, device: torch.device, processes: World) -> nn.Module:
    """`net` with gradients averaged over all processes (which also take process 0's weights); itself if alone.

    Wrap again when parameters are frozen or thawed.
    """
    if processes.size == 1:
        return net
    ids = [device.index] if device.type == "cuda" and device.index is not None else None
    # Buffers are the same everywhere, so no step has to send them; the option's name depends on torch's version.
    known = inspect.signature(DistributedDataParallel).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    # A parameter that a step does not use has no gradient, as on one process.
    options: dict[str, Any] = {option: False, "find_unused_parameters": True}
    return DistributedDataParallel(_WithUnused(net, device), device_ids=ids, **options)


class _WithUnused(nn.Module):
    """`net`, and one parameter that it never uses: torch warns where it looks for those and finds none."""

    def __init__(self, net: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.net, self.unused = net, nn.Parameter(torch.zeros(1, device=device))

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.net(x)
        return outputs


@contextmanager
def synchronised(net: nn.Module, processes: World) -> Iterator[None]:
    """BatchNorm statistics over the union batch inside a `with` block. (torch's own SyncBatchNorm needs a GPU.)"""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and processes.size > 1]
    for norm in norms:
        forward: Any = functools.partial(_normalise, norm)
        forward.stands_for = type(norm).forward  # what it computes in evaluation
        norm.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalise(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    """BatchNorm of x [n, C, ...] with mean and variance over all processes' rows, in float32."""
    if not norm.training:
        return type(norm).forward(norm, x)
    axes, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
    h = x.float()
    count = h.new_full((1,), x.numel() / x.shape[1])
    sums: Tensor = _Sum.apply(torch.cat([h.sum(axes), count]))  # type: ignore[no-untyped-call]
    n = sums[-1].detach()
    mean = sums[:-1] / n
    centred = h - mean.view(shape)
    squares: Tensor = _Sum.apply(centred.square().sum(axes))  # type: ignore[no-untyped-call]
    variance = squares / n
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        assert norm.num_batches_tracked is not None
        with torch.no_grad():
            norm.num_batches_tracked += 1
            factor = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean, factor)
            norm.running_var.lerp_(variance * (n / (n - 1)), factor)
    h = centred * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        h = h * norm.weight.float().view(shape) + norm.bias.float().view(shape)
    return h.to(x.dtype)


class _Sum(torch.autograd.Function):
    """Sum over all processes. Its gradient is summed too: every process' loss depends on the sum."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total
