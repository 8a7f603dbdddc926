"""What follows a gate where it branches: certified Lipschitz constants through sums and concatenations (T5, lipschitz).

Between two operations that are not affine the traced graph is one affine map from each to the next, formed and measured
as in `lipschitz_constants`; where it is too large to form, norms multiply along a path, add over a sum and combine as
√(L₁² + L₂²) over a concatenation. With p_v the affine images of the gate that the first other operations (or the
output) take, κ_v the constant from p_v to the output, and s_v = ‖Δp_v‖, the output moves by at most Σ_v κ_v s_v, so by
at most κ‖Δp‖ with κ² = Σ_v κ_v and p the p_v times √κ_v, one below the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from vibtheory.bridge.affine import channel_scale, convolved_by_channel, is_affine, matrix_of, one_channel_each
from vibtheory.bridge.closed_units import is_elementwise
from vibtheory.bridge.downstream import Downstream, as_module, name_of, reached, shape_value
from vibtheory.bridge.lipschitz_constants import factored_norm, pointwise, spectral_norm, uncertified
from vibtheory.bridge.output_loss import OutputLoss
from vibtheory.networks.gates import Gate

__all__ = ["Branching"]

_FORMED, _SIDE = 12_000_000, 1024  # entries of a matrix that is formed, and its smaller side: a graph has many
_SUMS, _JOINS = ("add", "sub"), ("cat", "concat", "concatenate", "stack")
_REARRANGED = ("view", "reshape", "flatten", "permute", "transpose", "swapaxes", "movedim", "squeeze", "unsqueeze",
               "chunk", "split", "unbind", "clone", "contiguous", "neg", "getitem", "pixel_shuffle", "pad")  # fmt: skip
_ONE = ("abs", "amax", "amin", "clamp", "clip")  # of constant 1, and not affine


class Branching:
    """The operations from a gate to the output, each affine or of a known constant.

    Args:
        after: what follows the gate, with a graph whose parameters are float64.
        results: of all operations on one example and on three, where it is seen that no operation mixes them.
        likelihood: of the loss; what it cannot see of the output is left out.
        memory: bytes that intermediate results may take.

    Attributes:
        obstacle: the first operation without a certificate, in words; empty where all have one.
        affine: whether there are only affine ones.
    """

    def __init__(
        self, after: Downstream, results: Sequence[dict[fx.Node, Any]], likelihood: OutputLoss, memory: int
    ) -> None:
        assert after.graph is not None
        assert after.gate is not None
        self.graph, self.gate, self.likelihood, self.memory = after.graph, after.gate, likelihood, memory
        nodes = self.graph.graph.nodes
        self.values, several = results
        self.data = reached(self.graph.graph, [n for n in nodes if n.op == "placeholder"])
        self.active = {self.gate: 0}  # and what depends on more of it than its shape, numbered in order
        for node in nodes:
            if self.active.keys() & set(node.all_input_nodes) and not shape_value(node):
                self.active[node] = len(self.active)
        self.constants: dict[fx.Node, float | None] = {self.gate: 1.0}  # None: affine
        self.obstacle, self.affine = "", False
        output = next(n for n in nodes if n.op == "output").args[0]
        if not isinstance(output, fx.Node) or not isinstance(self.values[output], Tensor):
            self.obstacle = "the network returns more than one tensor"
            return
        self.output, heard = output, {output}
        for node in reversed(nodes):
            heard.update(node.all_input_nodes if node in heard else ())
        self.active = {n: i for n, i in self.active.items() if n in heard or n is self.gate}
        for node in self.active:
            if node is self.gate or node.op == "output":
                continue
            found = self._constant(node) if _alike(self.values[node], several[node]) else "it mixes examples"
            if isinstance(found, str):
                self.obstacle = f"operation {node.name!r} after the gate: {found}"
                return
            self.constants[node] = found
        self.affine = all(value is None for node, value in self.constants.items() if node is not self.gate)

    def _constant(self, node: fx.Node) -> float | str | None:
        """The Lipschitz constant of an operation that is not affine, None for one that is, or why neither is known."""
        sources, name = self._inputs(node), name_of(node)
        unknown = f"{name} has no certified Lipschitz constant"
        if node.op != "call_module" and name in (*_SUMS, *_JOINS):
            return None if node.kwargs.keys() <= {"dim", "axis"} else unknown
        if len(sources) > 1:
            return f"{name} of several results of the gate has no certified Lipschitz constant"
        module = as_module(self.graph, node, sources[0])
        if module is not None:
            return uncertified([module]) or (None if is_affine(module) else pointwise(module))
        others = {n for n in node.all_input_nodes if n is not sources[0] and not shape_value(n)}
        first = node.op != "call_module" and node.args[:1] == (sources[0],)
        once = not node.kwargs and node.args.count(sources[0]) == 1  # x·x is not affine
        if once and (name == "mul" or (name in ("truediv", "div") and first)):
            return f"{name} by another result of the example" if others & self.data.keys() else None
        if not first or others or (name == "getitem" and not _plain(node.args[1])):
            return unknown
        if name == "pad" and (*node.args[2:3], node.kwargs.get("mode", "constant"))[0] != "constant":
            return unknown
        if name in _ONE:
            return 1.0
        return None if name in (*_REARRANGED, "mean", "sum") else unknown

    def _inputs(self, node: fx.Node) -> list[fx.Node]:
        return [n for n in node.all_input_nodes if n in self.active]

    @cached_property
    @torch.no_grad()
    def _kappas(self) -> dict[fx.Node, float]:
        """κ_v of the first operations' inputs v."""
        reach: dict[fx.Node, dict[fx.Node, float]] = {}  # ‖Δ‖ ≤ Σ_v reach[v] s_v after an operation
        for node, constant in self.constants.items():
            if node is self.gate or (constant is None and node is not self.output):
                continue
            target, found = self._inputs(node)[0] if constant is not None else node, dict[fx.Node, float]()
            for source in self._region(target):
                if self.constants[source] is None:
                    continue
                if source is self.gate:
                    found[target] = 1.0 + found.get(target, 0.0)
                    continue
                norm = self._norm(source, target)
                for first, factor in reach[source].items():
                    found[first] = norm * factor + found.get(first, 0.0)
            reach[node] = {first: value * (1.0 if constant is None else constant) for first, value in found.items()}
        return reach.get(self.output, {self.output: 0.0})  # no path leads there

    @property
    def constant(self) -> float:
        """κ."""
        return math.sqrt(sum(self._kappas.values()))

    @cached_property
    def prefix(self) -> nn.Sequential:
        """The affine map from f⊙z [n, d, ...] to p [n, M]."""
        return nn.Sequential(self._map(self.gate, {v: math.sqrt(kappa) for v, kappa in self._kappas.items()}))

    def _region(self, target: fx.Node, source: fx.Node | None = None) -> list[fx.Node]:
        """The affine operations up to `target` and the others that they start from; or those after `source` alone."""
        wanted, found = {target}, []
        for node in sorted(self.constants, key=self.active.__getitem__, reverse=True):
            if node in wanted:
                found.append(node)
                if self.constants[node] is None:
                    wanted.update(self._inputs(node))
        found.reverse()
        if source is None:
            return found
        after = {source}
        for node in found:
            if self.constants[node] is None and after & set(self._inputs(node)):
                after.add(node)
        return [node for node in found if node in after and node is not source]

    def _map(self, source: fx.Node, targets: dict[fx.Node, float]) -> _Map:
        nodes = {n for target in targets for n in self._region(target, source)}
        weights = {target: weight * self._alive(target) for target, weight in targets.items()}
        centred = self.output if self.likelihood.name == "multinomial" else None
        return _Map(self.graph, self.values, source, sorted(nodes, key=self.active.__getitem__), weights, centred)

    def _alive(self, node: fx.Node) -> Tensor:
        """[1, C, 1, ...], 0 for channels that only closed gates listen to; a single 1 where anything else does."""
        value, gates = self.values[node], list[Tensor]()
        everything = torch.ones_like(value.reshape(-1)[:1])
        for user in (u for u in node.users if u in self.active):
            after = [as_module(self.graph, u, user) for u in user.users]
            if self.constants.get(user) is None or not is_elementwise(as_module(self.graph, user, node)):
                return everything
            if not all(isinstance(gate, Gate) and gate.axis == 1 for gate in after):
                return everything
            gates += [gate.mean() != 0 for gate in after if isinstance(gate, Gate)]
        return torch.stack(gates).any(0).to(value).reshape(1, -1, *(1,) * (value.ndim - 2)) if gates else everything

    def _norm(self, source: fx.Node, target: fx.Node) -> float:
        """At least the norm of the affine map from `source` to `target`."""
        if source is target:
            return 1.0
        shape, out = self.values[source].shape[1:], self.values[target].numel()
        if math.prod(shape) * out <= _FORMED and min(math.prod(shape), out) <= _SIDE:
            return spectral_norm(matrix_of(self._map(source, {target: 1.0}), shape, self.memory)[0])
        norms = {source: 1.0}
        for node in self._region(target, source):
            if node.op == "call_module" or name_of(node) not in (*_SUMS, *_JOINS):
                norms[node] = self._single(node, norms)
                continue
            summed = name_of(node) in _SUMS
            parts: Any = node.args if summed else node.args[0]
            given = [norms[n] * self._spread(node, n) ** summed for n in parts if n in norms]  # twice for x + x
            norms[node] = sum(given) if summed else math.hypot(*given)
        return norms[target]

    def _spread(self, node: fx.Node, source: fx.Node) -> float:
        """√k, where broadcasting repeats `source` k times."""
        return math.sqrt(self.values[node].numel() / self.values[source].numel())

    def _single(self, node: fx.Node, norms: dict[fx.Node, float]) -> float:
        """The norm up to an affine operation on one result."""
        source = next(n for n in self._inputs(node) if n in norms)
        name, module = name_of(node), as_module(self.graph, node, source)
        if module is not None:
            modules, start = [module], source
            if channel_scale(module) is not None and source.op == "call_module" and source.args[0] in norms:
                before = self.graph.get_submodule(str(source.target))
                if isinstance(before, nn.Conv1d | nn.Conv2d):  # the scale of its channels goes into its kernel
                    modules, start = [before, module], self._inputs(source)[0]
            return norms[start] * factored_norm(modules, self.values[start])
        norm = norms[source]
        if name in ("mul", "truediv", "div"):
            other = next(a for a in node.args if a is not source)
            value = self.values[other] if isinstance(other, fx.Node) else other
            factor = torch.as_tensor(value, dtype=torch.float64).abs()
            return norm * float(factor.max() if name == "mul" else 1 / factor.min()) * self._spread(node, source)
        if name in ("mean", "sum"):
            return norm * self._spread(node, source) ** (1 if name == "mean" else -1)
        return norm


def _plain(index: Any) -> bool:
    """No entry of a tensor is taken twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is ... or isinstance(part, int | slice) for part in parts)


class _Map(nn.Module):
    """An affine part of a graph, u [B, *shape of the source] to [B, M]: its linear part is what matters.

    One example at a time, vectorised, so that results of other branches and sizes are those of one example.
    """

    def __init__(
        self, graph: fx.GraphModule, values: dict[fx.Node, Any], source: fx.Node, nodes: list[fx.Node],
        weights: dict[fx.Node, Tensor], centred: fx.Node | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.graph, self.values, self.source, self.nodes = graph, values, source, nodes
        self.run = fx.Interpreter(graph, garbage_collect_values=False)
        self.weights, self.centred = weights, centred

    def forward(self, u: Tensor) -> Tensor:
        return torch.vmap(self._one)(u, {})

    def by_channel(self, f: Tensor) -> Tensor:
        """What each channel of f [n, C, ...] adds to the map: [n·C, M]."""
        known: dict[fx.Node, Tensor] = {}
        for node in self.nodes:
            module, users, ends = as_module(self.graph, node, self.source), list(node.users), [node]
            after = as_module(self.graph, users[0], node) if len(users) == 1 and node not in self.weights else None
            scale = None if after is None else channel_scale(after)
            if scale is not None:  # a BatchNorm of this convolution alone goes into its kernel
                ends += users
            alone = convolved_by_channel(module, f, 1.0 if scale is None else scale)
            if alone is not None:
                known |= dict.fromkeys(ends, alone[:, None])
        readers = [node for node in self.nodes if self.source in node.all_input_nodes]
        if known.keys() >= set(readers) and self.source not in self.weights:
            u = f[:, :1].repeat_interleave(f.shape[1], 0)  # nothing reads it
        else:
            u = one_channel_each(f)
        zero = {node: torch.zeros_like(alone[:1]) for node, alone in known.items()}
        v, offset = torch.vmap(self._one)(u, known), torch.vmap(self._one)(torch.zeros_like(u[:1]), zero)
        return v - offset if bool(offset.any()) else v

    def _one(self, u: Tensor, known: dict[fx.Node, Tensor]) -> Tensor:
        env = self.run.env = {**self.values, self.source: u[None], **known}
        for node in self.nodes:
            if node not in known:
                env[node] = self.run.run_node(node)
        parts = []
        for target, weight in self.weights.items():
            part = (env[target] * weight).reshape(-1)
            parts.append(part - part.mean() if target is self.centred else part)
        return torch.cat(parts) + 0 * u.sum()  # a gradient, where no part depends on u


def _alike(one: Any, several: Any) -> bool:
    """Whether the first example has in `several` the result that it has alone."""
    if isinstance(one, Tensor) and not (one.is_floating_point() or one.is_complex()):
        return one.ndim > 0 and torch.equal(one, several[: len(one)])
    if isinstance(one, Tensor):
        if one.ndim == 0 or one.shape[1:] != several.shape[1:]:
            return False
        near = 1e-9 * float(several.abs().nan_to_num(0, 0).max())
        return torch.allclose(one, several[: len(one)], 1e-9, near, equal_nan=True)
    return not isinstance(one, tuple | list) or all(map(_alike, one, several))
