"""A gated network as a function, the same for all its gates: what they share, and are not made to find out again."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property, partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from vibtheory.bridge.affine import entries
from vibtheory.bridge.downstream import traced
from vibtheory.errors import InvalidInputError, reject
from vibtheory.networks.forward import activation, device_of, in_float64, precision_of
from vibtheory.networks.gates import vib_gates
from vibtheory.networks.likelihood import outputs_of

__all__ = ["FrozenNetwork"]


class FrozenNetwork:
    """A copy of `net` in evaluation mode and float64 (its own precision where it insists), gates at their masked means.

    Attributes:
        net: the copy. x: inputs [N, ...]. gates: by name. device, dtype: of its weights.
    """

    def __init__(self, net: nn.Module, x: NDArray[Any]) -> None:
        self.net = in_float64(net, x).requires_grad_(False)
        self.net.eval()
        self.x, self.gates = x, vib_gates(self.net)
        for gate in self.gates.values():
            gate.sample_in_eval = False
        self.device, self.dtype = device_of(self.net), precision_of(self.net)
        self._means: list[tuple[dict[str, Tensor], Tensor]] | None = None

    def inputs(self, rows: slice) -> Tensor:
        """Inputs [n, ...] in the copy's type; a first layer may work on them in place."""
        return torch.as_tensor(self.x[rows]).to(self.device, self.dtype, copy=True)

    @cached_property
    def trace(self) -> fx.GraphModule | str:
        """Of `traced`."""
        return traced(self.net)

    @cached_property
    def probes(self) -> Tensor:
        """Three examples [3, ...], the first unlike the others."""
        x = self.inputs(slice(2))
        return torch.cat([x, x[:1], x[:1] / 2])[-3:].flip(0)

    @cached_property
    def results(self) -> tuple[dict[fx.Node, Any], dict[fx.Node, Any]]:
        """The results of the trace's operations on the first probe alone, and on all three."""
        assert isinstance(self.trace, fx.GraphModule)
        runs = [fx.Interpreter(self.trace, garbage_collect_values=False) for _ in range(2)]
        with torch.no_grad():
            for run, x in zip(runs, (self.probes[:1], self.probes), strict=True):
                run.run(x)
        return runs[0].env, runs[1].env

    @cached_property
    def entries(self) -> int:
        """Of `affine.entries`, for one example."""
        return entries(self.net, self.inputs(slice(1)))

    @cached_property
    def _two(self) -> tuple[dict[str, list[Tensor]], Tensor]:
        return self._entered(self.inputs(slice(2)))

    def shapes(self, layer: str) -> tuple[tuple[int, ...], int]:
        """The shape of f at a gate, without the batch axis, and the number of outputs.

        Raises:
            InvalidInputError: inputs that the network does not take, or a gate that is not called once.
        """
        try:
            entered, output = self._two
            if len(entered[layer]) != 1:
                activation(self.net, self.gates[layer], self.inputs(slice(2)))
        except (InvalidInputError, RuntimeError, ValueError, IndexError) as error:
            if isinstance(error, InvalidInputError) and str(error).startswith(("layer", "net")):
                raise
            got = f"shape {list(self.x.shape)} ({str(error)[:160]})"
            reject("data.x_train", got, "inputs that the network accepts",
                   "give the data the shape that the network was trained on")  # fmt: skip
        if self._alone is None:
            self.check_separate()
        return tuple(entered[layer][0].shape[1:]), output[0].numel()

    def check_separate(self) -> None:
        """Raise InvalidInputError where what the network makes of an example is not of this example alone."""
        near = 1e-9 if self.dtype == torch.float64 else 16 * float(torch.finfo(self.dtype).eps)
        with torch.no_grad():
            found = outputs_of(self.net, self.probes)
        size = float(found.abs().nan_to_num(0, 0).max())
        if self._alone is None or not torch.allclose(found, self._alone, near, near * size, equal_nan=True):
            reject("net", f"{type(self.net).__name__}, whose output for an example depends on the others of its batch, "
                   "or on chance", "a function of one example in eval()", "use recorded statistics there")  # fmt: skip

    @cached_property
    def _alone(self) -> Tensor | None:
        """Outputs of the probes, each by itself; None where the network does not take one."""
        try:
            with torch.no_grad():
                return torch.cat([outputs_of(self.net, one) for one in torch.split(self.probes, 1)])
        except (RuntimeError, ValueError, IndexError):
            return None

    def at_means(self, batch: int, memory: int) -> list[tuple[dict[str, Tensor], Tensor]] | None:
        """f [n, d, ...] at each gate and outputs [n, K], batch by batch; None where they take more than half `memory`.

        For a float64 copy whose gates are called once each.
        """
        entered, output = self._two
        numbers = output[0].numel() + sum(f[0].numel() for calls in entered.values() for f in calls)
        fits = 16 * len(self.x) * numbers <= memory and self.dtype == torch.float64
        if not fits or any(len(calls) != 1 for calls in entered.values()):
            return None
        if self._means is None:
            self._means = []
            for start in range(0, len(self.x), batch):
                entered, output = self._entered(self.inputs(slice(start, start + batch)))
                f = {name: calls[0] for name, calls in entered.items()}
                self._means.append((f, output.reshape(len(output), -1)))
        return self._means

    def outputs(self) -> Tensor:
        """Outputs [N, K]."""
        if self._means is not None:
            return torch.cat([output for _, output in self._means])
        parts = (self.inputs(slice(start, start + 100)) for start in range(0, len(self.x), 100))
        with torch.no_grad():
            return torch.cat([outputs_of(self.net, part) for part in parts]).reshape(len(self.x), -1)

    def _entered(self, x: Tensor) -> tuple[dict[str, list[Tensor]], Tensor]:
        """What enters each gate, call by call, and the output."""
        found: defaultdict[str, list[Tensor]] = defaultdict(list)

        def catch(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name].append(inputs[0].clone())

        watches = [gate.register_forward_pre_hook(partial(catch, name)) for name, gate in self.gates.items()]
        try:
            with torch.no_grad():
                return found, outputs_of(self.net, x)
        finally:
            for watch in watches:
                watch.remove()
