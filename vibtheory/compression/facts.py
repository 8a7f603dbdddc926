"""What is known of the units of a traced model's tensors, and what is needed of them.

A unit is an index on an axis of a parameter that makes or takes channels. `Facts` runs a graph of torch's own
operations and keeps of every tensor which unit each entry belongs to and whether it is 0 or constant whatever the input
is; `operations` says how each operation passes that on, and back, what it needs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from vibtheory.compression.fixed_modules import FixedScale

__all__ = [
    "CONSTANT",
    "VARIES",
    "ZERO",
    "Fact",
    "Facts",
    "Ids",
    "Key",
    "Units",
    "Use",
    "along_axis",
    "compact",
    "flips",
]

aten = torch.ops.aten
ZERO, CONSTANT, VARIES = 0, 1, 2

Ids = NDArray[np.int64]
Key = tuple[fx.Node, int]


class Fact(NamedTuple):
    """Of one tensor: per entry its unit's id (-1: none) and its state; an axis of size 1 where they do not vary."""

    units: Tensor
    state: Tensor
    shape: torch.Size


@dataclass
class Use:
    """One use of a weight by a linear map.

    Attributes:
        weight: its parameter's name; bias: that of the bias, if it has one.
        rows_axis, columns_axis: of the weight, which of its axes are outputs and inputs.
        groups: of a convolution.
        droppable: boolean [inputs], those that are 0, or constant where the bias can take that up.
        constant: float64 [inputs], what the droppable ones are worth.
        needed: boolean [outputs], those that something which reaches the outputs listens to.
        alone: nothing else uses the weight, and a Linear or convolution module called once owns it.
    """

    weight: str
    bias: str | None
    rows_axis: int
    columns_axis: int
    groups: int
    droppable: Tensor
    constant: Tensor
    needed: Tensor
    alone: bool


@dataclass
class Units:
    """What `follow` found.

    Attributes:
        ids: by (parameter or buffer, axis): the unit of each index on that axis.
        uses: of weights by linear maps.
        pinned: (units that must stay, why).
    """

    ids: dict[tuple[str, int], Ids] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    pinned: list[tuple[Ids, str]] = field(default_factory=list)
    pairs: list[Ids] = field(default_factory=list)
    count: int = 0

    def new(self, n: int) -> Ids:
        self.count += n
        return np.arange(self.count - n, self.count)

    def classes(self) -> Ids:
        """Of each unit, the number of the class of units that leave together."""
        pairs = np.concatenate([*self.pairs, np.zeros((2, 0), np.int64)], 1)
        graph = coo_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), (self.count, self.count))
        return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def compact(full: Tensor) -> Tensor:
    for axis in range(full.ndim):
        if full.shape[axis] > 1 and bool((full == full.narrow(axis, 0, 1)).all()):
            full = full.narrow(axis, 0, 1)
    return full


def along_axis(values: Tensor, axis: int, ndim: int) -> Tensor:
    return values.view([-1 if a == axis % ndim else 1 for a in range(ndim)])


def flips(node: fx.Node) -> bool:
    """w.t() or w.T"""
    return node.target is aten.t.default or (node.target is aten.permute.default and node.args[1] == [1, 0])


class Facts(fx.Interpreter):
    """Holds every tensor's facts while the graph runs; `backward` then finds what is needed.

    Args:
        graph: traced. net: its model. names: parameters and buffers by the id of their tensor. alone: weights of layers
            that are called once and share them with nobody. any_size: whether a constant must be so at other sizes.
    """

    def __init__(
        self, graph: fx.GraphModule, net: nn.Module, names: dict[int, str], alone: set[str], any_size: bool
    ) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.any_size = any_size
        self.found = Units()
        self.names, self.alone, self.modules = names, alone, dict(net.named_modules())
        self.parameter: dict[fx.Node, str] = {}
        self.facts: dict[Key, Fact] = {}
        self.needs: dict[Key, Tensor] = {}
        self.backs: list[tuple[fx.Node, int, Callable[[dict[int, Tensor]], None]]] = []
        self.as_weight: set[fx.Node] = set()  # parameters' users that know what its axes mean

    def _leaf(self, n: fx.Node, value: Tensor) -> Fact:
        name = self.names.get(id(value), "")
        ones = [1] * value.ndim
        units = torch.full(ones, -1)
        state = torch.full(ones, CONSTANT if name or n.op == "get_attr" else VARIES)
        if name:
            self.parameter[n] = name
            if value.ndim == 1:
                units = torch.from_numpy(self._ids(name, 0, value))
            if isinstance(self.modules[name.rpartition(".")[0]], FixedScale):
                state = (value != 0).long().cpu()
        return Fact(units, state, value.shape)

    def _ids(self, name: str, axis: int, value: Tensor) -> Ids:
        if (name, axis) not in self.found.ids:
            self.found.ids[name, axis] = self.found.new(value.shape[axis])
        return self.found.ids[name, axis]

    def _key(self, node: fx.Node) -> Key:
        if node.target is operator.getitem:
            return node.args[0], node.args[1]  # type: ignore[return-value]
        return node, 0

    def _operands(self, n: fx.Node) -> list[tuple[Key, Fact]]:
        nodes = [a for a in pytree.tree_leaves((n.args, n.kwargs)) if isinstance(a, fx.Node)]
        keys = [self._key(a) for a in nodes]
        return [(key, self.facts[key]) for key in keys if key in self.facts]

    def _pin(self, units: Tensor | Ids, why: str) -> None:
        units = np.unique(np.asarray(units).ravel())
        self.found.pinned.append((units[units >= 0], why))

    def _pair(self, one: Tensor | Ids, other: Tensor | Ids, why: str) -> None:
        """The same entries: units of both leave together; where only one has a unit, that one stays."""
        a, b = np.broadcast_arrays(np.asarray(one), np.asarray(other))
        both = (a >= 0) & (b >= 0)
        if both.any():
            self.found.pairs.append(np.unique(np.stack([a[both], b[both]]), axis=1))
        lonely = (a >= 0) != (b >= 0)
        if lonely.any():
            self._pin(np.maximum(a, b)[lonely], why)

    def _need(self, key: Key, need: Tensor) -> None:
        if key in self.facts:
            old = self.needs.get(key)
            self.needs[key] = need if old is None else old | need

    def _need_all(self, operands: Iterable[tuple[Key, Fact]]) -> None:
        for key, fact in operands:
            self._need(key, torch.ones([1] * len(fact.shape), dtype=torch.bool))

    def _back(self, n: fx.Node, outs: int, action: Callable[[dict[int, Tensor]], None]) -> None:
        self.backs.append((n, outs, action))

    def backward(self) -> None:
        for n, outs, action in reversed(self.backs):
            needs = {k: self.needs[n, k] for k in range(outs) if (n, k) in self.needs}
            if needs:
                action(needs)
        for node, name in self.parameter.items():
            users = [u for user in node.users for u in (user.users if flips(user) else [user])]
            if len(self.facts[node, 0].shape) > 1 and not self.as_weight.issuperset(users):
                for (other, _), ids in self.found.ids.items():
                    if other == name:
                        self._pin(ids, f"{name!r} is used in a way that is not followed")

    def _opaque(self, value: Tensor, state: int) -> Fact:
        ones = [1] * value.ndim
        return Fact(torch.full(ones, -1), torch.full(ones, state), value.shape)

    def _owner(self, n: fx.Node) -> str | None:
        """The module whose parameters an operation takes."""
        for node in n.args:
            if isinstance(node, fx.Node) and node in self.parameter:
                return repr(self.parameter[node].rpartition(".")[0])
        return None

    def _along(self, fact: Fact, axis: int, why: str) -> tuple[Ids, Tensor]:
        """Units and states by index on an axis; units that (also) vary elsewhere stay."""
        axis %= len(fact.shape)
        d = fact.shape[axis]
        others = [a for a in range(len(fact.shape)) if a != axis]
        state = (fact.state.amax(others) if others else fact.state).flatten().expand(d)
        if fact.units.numel() == 1 or any(fact.units.shape[a] > 1 for a in others):
            self._pin(fact.units, why)
            return np.full(d, -1), state
        return fact.units.flatten().expand(d).numpy(), state

    def _any(self, need: Tensor, axis: int, size: int) -> Tensor:
        return need.movedim(axis, 0).flatten(1).any(1).expand(size)
