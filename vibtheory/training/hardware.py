"""Where a step runs, and how fast: the device, what compiles or records the step, and the whole step as one CUDA graph.

On a GPU a VGG step of 128 small images is over in a millisecond or two; launching its hundreds of kernels one by one
takes longer than running them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vibtheory.errors import reject

__all__ = ["ACCELERATIONS", "GraphedStep", "check_acceleration", "choose_device"]

ACCELERATIONS = ("none", "compile", "graph", "compile+graph")
_WARM_UP = 3  # steps before a capture: libraries choose their algorithms and allocate workspaces in them


def choose_device(name: str) -> torch.device:
    """ "auto" takes CUDA where it is present.

    Raises:
        InvalidInputError: neither auto, cpu nor cuda, or a CUDA device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        reject("device", repr(name), "auto, cpu or cuda", "use auto")
    if device.type not in ("cpu", "cuda"):
        reject("device", repr(name), "auto, cpu or cuda", "use auto")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        reject("device", repr(name), "a device that is present", f"use auto or cpu; {found} CUDA devices were found")
    return device


def check_acceleration(name: str, device: torch.device, processes: int) -> None:
    """Raise InvalidInputError unless `name` is known and can be had here."""
    if name not in ACCELERATIONS:
        reject("accelerate", repr(name), "one of " + ", ".join(ACCELERATIONS), "choose one of those names")
    if "graph" in name and device.type != "cuda":
        reject("accelerate", repr(name), "none or compile without a GPU", "CUDA graphs need device='cuda'")
    if name != "none" and processes > 1:
        reject("accelerate", repr(name), "none with several processes", "leave accelerate out under torchrun")


class GraphedStep:
    """A training step on a batch of indices, replayed as one CUDA graph after a few ordinary calls.

    A batch of another size (an epoch's last one) takes the ordinary way. Nothing in the step may depend on Python
    values that change later, and the optimizer must be capturable.

    Args:
        step: indices [n] → the batch's loss, a scalar tensor; updates weights in place.
    """

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        self._step = step
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch = self._loss = torch.empty(0)

    def __call__(self, batch: Tensor) -> Tensor:
        """The loss of one step; indices [n]."""
        if self._calls == 0:
            self._batch = batch.clone()
        if len(batch) != len(self._batch):
            return self._step(batch)
        self._calls += 1
        if self._calls <= _WARM_UP:
            return self._on_side_stream(batch)
        self._batch.copy_(batch)
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):  # records, does not run
                self._loss = self._step(self._batch)
        self._graph.replay()
        return self._loss.clone()

    def _on_side_stream(self, batch: Tensor) -> Tensor:
        """A real step, on a stream of its own as capturing demands of its warm-up."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = self._step(batch)
        torch.cuda.current_stream().wait_stream(stream)
        return loss
