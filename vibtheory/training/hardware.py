"""Where a step runs, and how fast: the device, the whole step as one CUDA graph, and several runs on one device.

On a GPU a VGG step of 128 small images is over in a millisecond or two; launching its hundreds of kernels one by one
takes longer than running them, and what one run leaves of the card another one can use.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.errors import check_choice, reject, shown
from vibtheory.networks.gates import GateLaw
from vibtheory.networks.sequential import ordered_modules

__all__ = [
    "ACCELERATIONS",
    "GraphedStep",
    "InTurns",
    "check_acceleration",
    "choose_device",
    "compiled_blocks",
    "interleave",
]

Result = TypeVar("Result")
InTurns = Generator[bool, bool | None, Result]
"""A run that pauses after each step: it yields whether an epoch ended there, is sent whether to write its checkpoint
now, and returns its result."""

ACCELERATIONS = ("none", "compile", "graph", "blocks+graph", "compile+graph")
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
    except (RuntimeError, TypeError):
        reject("device", shown(name), "auto, cpu or cuda", "use auto")
    if device.type not in ("cpu", "cuda"):
        reject("device", repr(name), "auto, cpu or cuda", "use auto")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        reject("device", repr(name), "a device that is present", f"use auto or cpu; {found} CUDA devices were found")
    return device


def check_acceleration(name: str, device: torch.device, processes: int) -> None:
    """Raise InvalidInputError unless `name` is known and can be had here."""
    check_choice("accelerate", name, ACCELERATIONS)
    if "graph" in name and device.type != "cuda":
        reject("accelerate", repr(name), "none or compile without a GPU", "CUDA graphs need device='cuda'")
    if name != "none" and processes > 1:
        reject("accelerate", repr(name), "none with several processes", "leave accelerate out under torchrun")


def compiled_blocks(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """`net` while it trains, with each BatchNorm, ReLU and gate in a row compiled as one: what costs most but products.

    One function is compiled for all of them, its sizes symbolic: in seconds, once, whatever is cut out later.

    Raises:
        InvalidInputError: `net` is no Sequential of known layers.
    """
    block: Any = torch.compile(_block, dynamic=True)
    modules = [module for _, module in ordered_modules(net)]

    def forward(x: Tensor) -> Tensor:
        rest = list(modules)
        while rest:
            norm, act, gate = (*rest, None, None)[:3]
            if isinstance(norm, nn.BatchNorm2d) and isinstance(act, nn.ReLU) and isinstance(gate, GateLaw):
                assert norm.num_batches_tracked is not None
                norm.num_batches_tracked.add_(1)
                z = gate.sample(len(x)) if gate.training else gate.mean()[None]
                statistics = norm.running_mean, norm.running_var, norm.weight, norm.bias
                x = block(x, z, *statistics, norm.momentum, norm.eps)
                del rest[:3]
            else:
                x = rest.pop(0)(x)
        return x

    return forward


def _block(
    x: Tensor, z: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, momentum: float, eps: float
) -> Tensor:
    h = functional.batch_norm(x, mean, variance, weight, bias, True, momentum, eps)
    return functional.relu(h) * z.to(h.dtype)[:, :, None, None]


class GraphedStep:
    """A training step on a batch of indices, replayed as one CUDA graph after a few ordinary calls.

    A batch of another size (an epoch's last one) takes the ordinary way. Nothing in the step may depend on Python
    values that change later, and the optimizer must be capturable. It is to be called on a stream that is not the
    default one (`interleave` gives each run one): capturing demands that, and what libraries allocate for a stream
    (cuBLAS's workspaces) then belongs to one run only.

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
            return self._step(batch)
        self._batch.copy_(batch)
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=torch.cuda.current_stream()):  # records, does not run
                self._loss = self._step(self._batch)
        self._graph.replay()
        return self._loss.clone()


class _Lane:
    """What one of several runs has for itself while it has its turn: random state, and on CUDA a stream.

    A graph keeps the random state that it was captured with, so that each run's noise is its own, in any order.

    Args:
        device: of the run.
        alone: the only one: it may use the device's random state as it is.
    """

    def __init__(self, device: torch.device, alone: bool) -> None:
        self._device, self._alone = device, alone
        self._state = torch.get_rng_state()
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(device))
            self._default = torch.cuda.default_generators[device.index or 0]
            self._generator = self._default.clone_state()

    @contextmanager
    def turn(self) -> Iterator[None]:
        with ExitStack() as held:
            if self._device.type == "cuda":
                held.enter_context(torch.cuda.stream(self._stream))
                if not self._alone:
                    held.callback(self._default.graphsafe_set_state, self._default.graphsafe_get_state())
                    self._default.graphsafe_set_state(self._generator)
            if self._alone:
                yield
                return
            held.callback(torch.set_rng_state, torch.get_rng_state())
            torch.set_rng_state(self._state)
            try:
                yield
            finally:
                self._state = torch.get_rng_state()


def interleave(
    runs: Sequence[InTurns[Result]], device: torch.device, stop: Callable[[], bool] = lambda: False
) -> list[Result | None]:
    """Take turns, a step each, until all have ended: on one GPU the runs' steps overlap, on streams of their own.

    Each run has a random state of its own, so that it ends as it would alone (on the CPU with the same bits).

    Args:
        runs: in progress, or not begun yet.
        device: of all of them.
        stop: asked at the end of each epoch of each run; True: that run writes its checkpoint and is left there.

    Returns:
        What each run returned, in order; None for those that were stopped.
    """
    found: list[Result | None] = [None] * len(runs)
    with ExitStack() as held:
        lanes = [_Lane(device, len(runs) == 1) for _ in runs]
        for run, lane in zip(runs, lanes, strict=True):
            held.callback(_close, lane, run)
        going, ended = dict(enumerate(runs)), dict.fromkeys(range(len(runs)), False)
        while going:
            for place, run in list(going.items()):
                with lanes[place].turn():
                    try:
                        leave = ended[place] and stop()
                        ended[place] = run.send(leave or None)
                    except StopIteration as end:
                        found[place] = end.value
                        leave = True
                if leave:
                    del going[place]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return found


def _close(lane: _Lane, run: InTurns[Result]) -> None:
    """Close `run` in a turn of its own: what it puts back, it puts back where it took it."""
    with lane.turn():
        run.close()
