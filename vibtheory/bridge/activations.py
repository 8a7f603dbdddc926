"""One gated layer of a trained network over a data set: streams f, the activation at the gate, and the rest after it.

g(z) = data-set mean loss with the gate's output replaced by f_n⊙z, the same z for all examples n. With a fresh z_n per
example, E over the noise is the same number for every ḡ here, because ḡ and g are means over examples: E g(z) is
(1/N) Σ_n E loss_n(z_n) in both readings. Only the activations of one batch and float64 sums are ever in memory.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from vibtheory.bridge.affine import MEMORY, AffineMap, is_affine, matrix_of
from vibtheory.bridge.branching import Branching
from vibtheory.bridge.closed_units import reaches_output, without_closed_units
from vibtheory.bridge.downstream import Downstream, modules_after
from vibtheory.bridge.frozen import FrozenNetwork
from vibtheory.bridge.lipschitz_constants import lipschitz_constant, uncertified
from vibtheory.bridge.output_loss import OutputLoss
from vibtheory.errors import reject
from vibtheory.networks.forward import activation, evaluating, gate_held_at, results_before, with_results
from vibtheory.networks.gates import vib_gates

__all__ = ["Batch", "GatedLayer"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Batch:
    """Inputs x [n, ...] in the copy's type, f [n, d, ...] at the gate in float64, labels y, other results before it.

    Those are of the graph's nodes, or of calls of modules where there is no graph.
    """

    x: Tensor
    f: Tensor
    y: Tensor
    before: Any = ()


class GatedLayer:
    """A frozen copy of `net` in evaluation mode and float64 (its own precision where it insists), seen from one gate.

    Args:
        net: gated network, copied and never changed; or such a copy, which several layers share.
        layer: name of the gate.
        x: inputs [N, ...].
        y: labels [N] or targets [N, K].
        likelihood: "multinomial" or "gaussian".
        samples: 0 holds every other gate at its masked mean. S ≥ 1 repeats the data set S times with the gates *before*
            the layer sampled (seeded: the same noise in every pass); those after it stay at their masked means.
        seed: of that noise.
        batch: examples per forward pass, at most.
        memory: bytes that intermediate results may take; bounds what is computed at once, not the result.

    Attributes:
        d: number of gates. shape: f's shape without the batch axis. anchor: masked means μ⊙keep [d]. sigma: σ [d].
        prefix: the affine map after the gate (float64) through which all dependence on z runs; None where unknown.
        tail: what follows it, where that is a chain; what only closed gates after the layer would listen to is left out
            of both: the same function, smaller. branches: of a net that is no chain, certified.
        reason: why there is no chain. obstacle: why there is no constant κ. affine: whether the loss's argument is
            affine in z.
        rows: examples whose forward pass fits in `memory`; batch: examples per forward pass.

    Raises:
        InvalidInputError: x or y do not fit the network, sampling without a chain, or labels out of range.
    """

    def __init__(
        self,
        net: nn.Module | FrozenNetwork,
        layer: str,
        x: NDArray[Any],
        y: NDArray[Any],
        likelihood: str,
        *,
        samples: int = 0,
        seed: int = 0,
        batch: int = 2000,
        memory: int = MEMORY,
    ) -> None:
        self._frozen = net if isinstance(net, FrozenNetwork) else FrozenNetwork(net, x)
        self.net, self.device, self.dtype = self._frozen.net, self._frozen.device, self._frozen.dtype
        self.likelihood = OutputLoss(likelihood)
        self.layer, self.x, self.y = layer, x, y
        self.samples, self.seed, self.memory = samples, seed, memory
        self.gate = self._frozen.gates[layer]
        self.d = self.gate.features
        self.anchor: Array = self.gate.mean().double().cpu().numpy()
        self.sigma: Array = self.gate.sigma.double().cpu().numpy()
        self.shape, outputs = self._frozen.shapes(layer)
        self.likelihood.check(y, outputs)
        self.rows = max(1, memory // (8 * (self._frozen.entries + 4 * outputs * self.d)))
        self.batch = min(batch, self.rows)
        self.tail: nn.Sequential | None = None
        self.branches: Branching | None = None
        self._cache: list[Batch] | None = None
        self._repeated: list[nn.Module] = []  # whose results before the gate are used again
        self._grows: list[bool] = []  # which of their tensors grow with the batch
        self.after = self._followed()
        self.reason = self.after.reason
        self.obstacle = self._obstacle()
        if samples and self.tail is None:
            reject("others", samples, "0 here", f"hold the other gates at their means; {self.reason}")

    @property
    def affine(self) -> bool:
        return len(self.tail) == 0 if self.tail is not None else self.branches is not None and self.branches.affine

    @cached_property
    def prefix(self) -> nn.Sequential | None:
        return None if self.branches is None or self.branches.obstacle else self.branches.prefix

    @cached_property
    def constant(self) -> float:
        """κ, a certified Lipschitz constant from `prefix` to the output."""
        if self.branches is not None:
            return self.branches.constant
        assert self.tail is not None
        return lipschitz_constant(list(self.tail), self.listened.shape, self.likelihood)

    @property
    def n(self) -> int:
        """Examples in the mean, repeats included."""
        return len(self.x) * max(self.samples, 1)

    @property
    def rounding(self) -> float:
        """Relative rounding error of `mean_loss`: 0 stands for float64's, of a network that runs in it."""
        return 0.0 if self.dtype == torch.float64 else 16 * float(torch.finfo(self.dtype).eps)

    def batches(self) -> Iterator[Batch]:
        """Every example once (S times with `samples`); f in float64."""
        if self._cache is not None:
            yield from self._cache
            return
        for repeat in range(max(self.samples, 1)):
            for index, start in enumerate(range(0, len(self.x), self.batch)):
                yield self._batch(start, (self.seed, repeat, index))

    def keep_in_memory(self) -> None:
        """Cache f for repeated passes where it fits in half of `memory`; otherwise it is recomputed on every pass."""
        size = self.n * (math.prod(self.shape) * 8 + self.x[0].size * 8)
        fits = 2 * size <= self.memory and (not self._repeated or len(self.x) <= self.batch)
        if self._cache is None and not self.after.graph and fits:
            self._cache = list(self.batches())

    def outputs_at(self, anchor: Array) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """f, outputs [n, K] with the gates at `anchor` [d], and labels of every example once, as `batches`."""
        known = None
        if not self.samples and np.array_equal(anchor, self.anchor):
            known = self._frozen.at_means(self.batch, self.memory)
        if known is None:
            z = torch.as_tensor(anchor, device=self.device)
            yield from ((batch.f, self.output(batch, z), batch.y) for batch in self.batches())
            return
        start = 0
        for entered, output in known:
            yield entered[self.layer], output, self._labels(slice(start, start + len(output)))
            start += len(output)

    def output(self, batch: Batch, z: Tensor) -> Tensor:
        """Network output [n, K] with the gate's output replaced by f⊙z; z [d], or [n, d] one per example."""
        if self.tail is None and self.after.graph is None:
            return self._rerun(batch, z, 1)
        shape = [1] * batch.f.ndim
        shape[0], shape[self.gate.axis] = len(z) if z.ndim == 2 else 1, self.d
        gated = batch.f * z.reshape(shape)
        if self.tail is not None and self.prefix is not None:
            return _two_axes(self.tail(self.prefix(gated)))
        return _two_axes(self.after.finish(batch.before, gated.to(self.dtype)))

    @cached_property
    def listened(self) -> Tensor:
        """Boolean, of the shape after `prefix`: the entries that can reach the output past closed gates."""
        assert self.prefix is not None
        with torch.no_grad():
            probe = self.prefix(torch.zeros(1, *self.shape, dtype=torch.float64, device=self.device))
        if self.tail is None:
            return torch.ones_like(probe[0], dtype=torch.bool)
        return reaches_output(list(self.tail), probe.shape[1:])

    @cached_property
    def affine_map(self) -> AffineMap | None:
        """`prefix` as a matrix; None where there is no chain or the matrix would take more than half of `memory`."""
        if self.prefix is None or 16 * self.listened.numel() * math.prod(self.shape) > self.memory:
            return None
        v, offset = matrix_of(self.prefix, self.shape, self.memory)
        return AffineMap(v[self.listened.reshape(-1)], offset, self.listened)

    @cached_property
    def _formed_is_cheaper(self) -> bool:
        """Whether the matrix of `affine_map` is less work for an example than the modules that it stands for."""
        assert self.prefix is not None
        assert self.affine_map is not None
        x, work = torch.zeros(1, *self.shape, dtype=torch.float64, device=self.device), 0
        with torch.no_grad():
            for module in self.prefix:
                x = module(x)
                work += x.numel() * sum(p[0].numel() for p in module.parameters() if p.ndim > 1)
        return self.affine_map.v.numel() <= 4 * work  # a product of matrices is faster than as large a convolution

    def mean_loss(self, z: Array) -> Array:
        """g(z) in nats for each row of z [S, d]: the truth that ḡ must bound. One pass over the data."""
        points = torch.as_tensor(np.atleast_2d(z), dtype=torch.float64, device=self.device)
        total = torch.zeros(len(points), dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for batch in self.batches():
                rows = len(batch.f)
                step = max(1, self.rows // rows)
                if self.tail is not None:
                    width = batch.f[0].numel() if self.affine_map is None else self.affine_map.offset.numel()
                    step = max(1, min(self.memory // (64 * max(rows * width, 1)), step))
                for start in range(0, len(points), step):
                    some = points[start : start + step]  # [s, d]
                    output = self._stacked(batch, some)  # [s·n, K]
                    y = batch.y.repeat(len(some), *(1,) * (batch.y.ndim - 1))
                    total[start : start + step] += self.likelihood.loss(output, y).reshape(-1, rows).sum(1)
        return np.asarray((total / self.n).cpu().numpy(), dtype=np.float64)

    def _stacked(self, batch: Batch, z: Tensor) -> Tensor:
        """Outputs [s·n, K] for every pair of z [s, d] and example."""
        if self.tail is None and self.after.graph is not None:
            return torch.cat([self.output(batch, one) for one in z])
        if self.affine_map is not None and self.tail is not None and self._formed_is_cheaper:
            return _two_axes(self.tail(self.affine_map.after(batch.f, z)))
        each = z.repeat_interleave(len(batch.f), 0)
        if self.tail is None:
            return self._rerun(batch, each, len(z))
        return self.output(Batch(batch.x, batch.f.repeat(len(z), *(1,) * (batch.f.ndim - 1)), batch.y), each)

    def _rerun(self, batch: Batch, z: Tensor, times: int) -> Tensor:
        """Outputs [times·n, K] of the net itself on the batch's examples `times` times, with z at the gate."""
        x = batch.x.repeat(times, *(1,) * (batch.x.ndim - 1))
        with with_results(batch.before, self._grows, times), gate_held_at(self.gate, z):
            return _two_axes(self.net(x))

    def _batch(self, start: int, entropy: Sequence[int]) -> Batch:
        x, y = (part(slice(start, start + self.batch)) for part in (self._frozen.inputs, self._labels))
        if self.after.graph is not None:
            with torch.no_grad():
                f, before = self.after.resume(x)
            return Batch(x, f.double(), y, before)
        gates = vib_gates(self.net).values() if self.samples else ()
        with evaluating(self.net, (gate for gate in gates if gate is not self.gate), entropy if self.samples else None):
            if self.tail is not None:
                return Batch(x, activation(self.net, self.gate, x, stop=True).double(), y)
        calls, f = results_before(self.net, self.gate, x)
        return Batch(x, f.double(), y, calls if [module for module, _ in calls] == self._repeated else ())

    def _labels(self, rows: slice) -> Tensor:
        return torch.as_tensor(self.y[rows]).to(self.device)

    def _followed(self) -> Downstream:
        """What follows the gate; sets `prefix` and `tail` where it is a chain that computes what the network does."""
        after = modules_after(self.net, self.layer, self._frozen.trace)
        if after.modules is not None and self.gate.axis != 1:
            after = Downstream(None, f"the gate's units are on axis {self.gate.axis}, not 1")
        self.after = after
        if after.modules is not None:
            rest = copy.deepcopy(nn.Sequential(*after.modules)).double()
            chain = without_closed_units(list(rest))
            cut = next((i for i, module in enumerate(chain) if not is_affine(module)), len(chain))
            self.prefix, self.tail = nn.Sequential(*chain[:cut]), nn.Sequential(*chain[cut:])
        if after.modules is None and after.graph is None:
            self._remember()
            return after
        z = torch.linspace(0.5, 1.5, self.d, dtype=torch.float64, device=self.device)
        x, results = self._frozen.inputs(slice(2)), list[dict[fx.Node, Any]]()
        if after.graph is not None:
            x = self._frozen.probes
            results = [after.results(known, z, self.gate.axis) for known in self._frozen.results]
            (output,) = after.graph.graph.find_nodes(op="output")
            found = results[1][output]
        else:
            f = activation(self.net, self.gate, x, stop=True)
            found = self.output(Batch(x, f.double(), x), z)
        with torch.no_grad(), gate_held_at(self.gate, z):
            truth = _two_axes(self.net(x)).double()
        near = 1e-9 + self.rounding
        size = float(truth.abs().nan_to_num(0, 0).max())
        if torch.allclose(_two_axes(found).detach().double(), truth, near, near * size, equal_nan=True):
            if results and not self.rounding and self.gate.axis == 1:
                self.branches = Branching(after, results, self.likelihood, self.memory)
            return after
        self.prefix = self.tail = None
        self._remember()
        return Downstream(None, "its trace does not compute what the network does")

    def _remember(self) -> None:
        """Let results of modules before the gate be used again, where two z beside each other show that they can be."""
        x = self._frozen.inputs(slice(2))
        z = torch.linspace(0.5, 1.5, 2 * self.d, dtype=torch.float64, device=self.device)
        (calls, f), (twice, _) = (results_before(self.net, self.gate, v) for v in (x, torch.cat([x, x])))
        once, more = (
            [v for v in tree_leaves([result for _, result in found]) if isinstance(v, Tensor)]
            for found in (calls, twice)
        )
        grows = [v.shape != w.shape for v, w in zip(once, more, strict=True)]
        if any(v.shape[1:] != w.shape[1:] for v, w in zip(once, more, strict=True)):  # time first, say
            return
        with torch.no_grad():
            truth = torch.cat([self._rerun(Batch(x, f, x), one, 1) for one in z.reshape(2, -1)])
            self._grows = grows
            found = self._rerun(Batch(x, f, x, calls), z.reshape(2, -1).repeat_interleave(len(x), 0), 2)
        near = 1e-9 + self.rounding
        if torch.allclose(found, truth, near, near * float(truth.abs().max())):
            self._repeated = [module for module, _ in calls]

    def _obstacle(self) -> str:
        if self.branches is not None:
            return self.branches.obstacle
        if self.tail is not None and self.prefix is not None:
            return uncertified([*self.prefix, *self.tail])
        return self.reason


def _two_axes(output: Tensor) -> Tensor:
    return output.reshape(len(output), -1)
