"""How torch's operations pass units on, and back, what is needed of their inputs: a rule for each family.

A rule notes the facts of what an operation returns and says what must stay; it gives False where it does not know the
operation, which then keeps everything that it touches.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from vibtheory.compression.facts import CONSTANT, VARIES, ZERO, Fact, Facts, Key, Use, along_axis, compact, flips

__all__ = ["Operations"]

aten = torch.ops.aten
# Entries move or repeat.
_LAYOUT = {
    *(aten.view, aten._unsafe_view, aten.permute, aten.transpose, aten.t, aten.expand, aten.select, aten.slice),
    *(aten.squeeze, aten.unsqueeze, aten.cat, aten.stack, aten.split, aten.split_with_sizes, aten.unbind, aten.chunk),
    *(aten.unsafe_split, aten.index_select, aten.repeat, aten.roll, aten.flip, aten.reshape, aten._reshape_alias),
    *(aten.pixel_shuffle, aten.pixel_unshuffle, aten.channel_shuffle, aten.native_channel_shuffle),
}
_VIEWS = (aten.view, aten._unsafe_view, aten.reshape, aten._reshape_alias)
_SAFE_LAYOUT = {*_VIEWS, aten.permute, aten.transpose, aten.t, aten.expand, aten.squeeze, aten.unsqueeze}
_SAME = {aten.clone, aten.detach, aten.alias, aten._to_copy, aten.lift_fresh_copy, aten.lift, aten._prelu_kernel}
_SAME |= {aten.hardswish}  # entry by entry, though torch does not tag it so
_SPATIAL = {  # entries are combined over the last axes; how many axes
    **dict.fromkeys((aten.upsample_nearest1d, aten._upsample_nearest_exact1d, aten.upsample_linear1d), 1),
    **dict.fromkeys((aten.reflection_pad1d, aten.replication_pad1d), 1),
    **dict.fromkeys((aten.max_pool2d_with_indices, aten.avg_pool2d, aten._adaptive_avg_pool2d), 2),
    **dict.fromkeys((aten.adaptive_max_pool2d, aten.reflection_pad2d, aten.replication_pad2d), 2),
    **dict.fromkeys((aten.upsample_nearest2d, aten._upsample_nearest_exact2d, aten.upsample_bilinear2d), 2),
    **dict.fromkeys((aten.upsample_bicubic2d, aten._upsample_bilinear2d_aa, aten._upsample_bicubic2d_aa), 2),
    **dict.fromkeys((aten.max_pool3d_with_indices, aten.avg_pool3d, aten._adaptive_avg_pool3d), 3),
    **dict.fromkeys((aten.adaptive_max_pool3d, aten.reflection_pad3d, aten.replication_pad3d), 3),
    **dict.fromkeys((aten.upsample_nearest3d, aten._upsample_nearest_exact3d, aten.upsample_trilinear3d), 3),
}
_AVERAGES = {aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d}
_REDUCTIONS = {aten.mean, aten.sum, aten.amax, aten.amin}
_SOFTMAX = {aten._softmax, aten._log_softmax}
_BATCHNORM = {
    *(aten.native_batch_norm, aten._native_batch_norm_legit_no_training, aten._native_batch_norm_legit),
    *(aten.cudnn_batch_norm, aten._batch_norm_with_update, aten._batch_norm_no_update),
}


class Operations(Facts):
    """Runs a graph by the rules."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op in ("placeholder", "get_attr") and isinstance(value, Tensor):
            self.facts[n, 0] = self._leaf(n, value)
        elif n.op == "call_function" and n.target is not operator.getitem:
            values = value if isinstance(value, tuple | list) else [value]
            outs = [v if isinstance(v, Tensor) else None for v in values]
            rule = self._rule(n.target)
            if not rule(n, outs):
                self._unknown(n, outs)
        elif n.op == "output":
            self._need_all(self._operands(n))
            for _, fact in self._operands(n):
                self._pin(fact.units, "it reaches the output of the model")
        return value

    def _rule(self, func: Any) -> Callable[[fx.Node, list[Any]], bool]:
        packet = getattr(func, "overloadpacket", None)
        if packet is None or func._schema.is_mutable:
            return lambda n, outs: False
        for rule, packets in (
            (self._layout, _LAYOUT), (self._spatial, _SPATIAL),
            (self._padding, {aten.constant_pad_nd}), (self._reduction, _REDUCTIONS),
            (self._within, {*_SOFTMAX, aten.native_layer_norm}), (self._batchnorm, _BATCHNORM),
            (self._groupnorm, {aten.native_group_norm}), (self._convolution, {aten.convolution}),
            (self._linear, {aten.addmm, aten.mm, aten.linear}), (self._embedding, {aten.embedding}),
        ):  # fmt: skip
            if packet in packets:
                return rule
        if torch.Tag.data_dependent_output in func.tags:
            return self._read
        if torch.Tag.pointwise in func.tags or packet in _SAME:
            return self._pointwise
        return lambda n, outs: False

    def _unknown(self, n: fx.Node, outs: list[Tensor | None]) -> None:
        operands = self._operands(n)
        mutates = getattr(getattr(n.target, "_schema", None), "is_mutable", False)
        name = str(n.target).removeprefix("aten.").partition(".")[0]
        if mutates:  # all that shares its memory is no longer known
            places = {o.untyped_storage().data_ptr() for o in outs if o is not None}
            for node, value in self.env.items():
                same = isinstance(value, Tensor) and value.untyped_storage().data_ptr() in places
                if same and self._key(node) in self.facts:
                    old = self.facts[self._key(node)]
                    self._pin(old.units, f"{name!r} writes into it")
                    self.facts[self._key(node)] = self._opaque(value, VARIES)
        state = max([int(fact.state.max()) for _, fact in operands], default=CONSTANT)
        for _, fact in operands:
            self._pin(fact.units, f"{name!r} is not followed")
        if mutates:
            self._need_all(operands)
        for k, out in enumerate(outs):
            if out is not None:
                self.facts[n, k] = self._opaque(out, VARIES if mutates else max(state, CONSTANT))

        self._back(n, len(outs), lambda _: self._need_all(operands))

    def _coupled(self, facts: Sequence[Fact], shapes: Sequence[Sequence[int]], why: str) -> Tensor:
        """The units of entries combined one by one."""
        ndim = max(len(shape) for shape in shapes)
        units = [fact.units.view([1] * (ndim - fact.units.ndim) + list(fact.units.shape)) for fact in facts]
        sizes = [[1] * (ndim - len(shape)) + list(shape) for shape in shapes]
        varying = [a for a in range(ndim) if any(u.shape[a] > 1 for u in units)]
        # the others are spread over these units: a scale for all of them, a map of one channel
        of_units = [u for u, size in zip(units, sizes, strict=True) if any(size[a] > 1 for a in varying)]
        result = (of_units or units)[0]
        for one in (of_units or units)[1:]:
            result = torch.where(result >= 0, result, one)
        for one in of_units:
            self._pair(result, one, why)
        return result

    def _pointwise(self, n: fx.Node, outs: list[Any]) -> bool:
        operands = self._operands(n)
        if outs[0] is None or not operands:
            return False
        ndim = outs[0].ndim
        facts = [fact for _, fact in operands]
        units = self._coupled(facts, [f.shape for f in facts], "it is combined with what is no unit of a layer")
        states = [f.state.view([1] * (ndim - f.state.ndim) + list(f.state.shape)) for f in facts]
        state = reduce(torch.maximum, states)
        packet = n.target.overloadpacket  # type: ignore[union-attr]
        product = packet in (aten.mul, aten.div)
        if product:
            zero = states[0] == 0 if packet is aten.div else reduce(torch.logical_or, [s == 0 for s in states])
            state = torch.where(zero, 0, state)
        elif bool((state == 0).any()) and not self._zero_at_zero(n):
            state = state.clamp_min(CONSTANT)
        self.facts[n, 0] = Fact(compact(units), compact(state), outs[0].shape)

        def action(needs: dict[int, Tensor]) -> None:
            for k, (key, fact) in enumerate(operands):
                need = needs[0]
                for other, each in enumerate(states):
                    if product and other != k:
                        need = need & (each != 0)
                lead = ndim - len(fact.shape)
                for axis in range(ndim):
                    if axis < lead or fact.shape[axis - lead] == 1:
                        need = need.any(axis, keepdim=True)
                self._need(key, need.view(need.shape[lead:]))

        self._back(n, 1, action)
        return True

    def _zero_at_zero(self, n: fx.Node) -> bool:
        """f(0, …, 0) = 0?"""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        args, kwargs = pytree.tree_map(
            lambda v: torch.zeros((), dtype=v.dtype) if isinstance(v, Tensor) else v, (args, kwargs)
        )
        try:
            value = n.target(*args, **kwargs)  # type: ignore[operator]
        except (RuntimeError, NotImplementedError, IndexError):
            return False
        return value.ndim == 0 and float(value) == 0

    def _layout(self, n: fx.Node, outs: list[Any]) -> bool:
        operands = self._operands(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        packet = n.target.overloadpacket  # type: ignore[union-attr]
        if packet is aten.cat:  # torch passes over empty vectors, such as a cache of keys that nothing is in yet
            args = ([v for v in args[0] if v.shape != (0,)], *args[1:])
            operands = [(key, fact) for key, fact in operands if fact.shape != (0,)]
        if not operands or len(operands) != len([v for v in pytree.tree_leaves(args) if isinstance(v, Tensor)]):
            return False
        if packet is aten.index_select:
            if int(operands[1][1].state.max()) == VARIES:
                return False
            operands = operands[:1]
        facts = [fact for _, fact in operands]
        if all(f.units.numel() == 1 and f.state.numel() == 1 and int(f.units.max()) < 0 for f in facts):
            state = max(int(f.state.max()) for f in facts)
            mixed = packet is aten.constant_pad_nd or len(facts) > 1
            for k, out in enumerate(outs):
                self.facts[n, k] = self._opaque(out, max(state, CONSTANT) if mixed else state)
            self._back(n, len(outs), lambda _: self._need_all(operands))
            return True
        offsets = np.cumsum([0, *[int(np.prod(f.shape)) for f in facts]])
        if packet in (aten.cat, aten.stack) and len(facts) > 1:
            axis = (args[1] if len(args) > 1 else 0) % outs[0].ndim
            together = packet is aten.stack or all(f.units.shape[axis] == 1 for f in facts)
            if together:
                shapes = [[1 if a == axis and packet is aten.cat else s for a, s in enumerate(f.shape)] for f in facts]
                joint = self._coupled(facts, shapes, "it is joined to what is no unit of a layer")
                facts = [f._replace(units=joint) for f in facts]
        numbers = iter(
            torch.arange(offset, offset + int(np.prod(f.shape))).view(f.shape)
            for f, offset in zip(facts, offsets, strict=False)
        )
        args = pytree.tree_map(lambda v: next(numbers, v) if isinstance(v, Tensor) else v, args)
        if packet in _VIEWS:
            moved: Any = args[0].reshape(args[1])
        elif packet is aten.constant_pad_nd:
            moved = n.target(args[0], args[1], -1)  # type: ignore[operator]
        else:
            moved = n.target(*args, **kwargs)  # type: ignore[operator]
        placed = list(moved) if isinstance(moved, tuple | list) else [moved]
        units = torch.cat([f.units.expand(f.shape).reshape(-1) for f in facts] + [torch.tensor([-1])])
        states = torch.cat([f.state.expand(f.shape).reshape(-1) for f in facts] + [torch.tensor([CONSTANT])])
        if packet is aten.constant_pad_nd and (len(args) < 3 or args[2] == 0):
            states[-1] = ZERO if bool((facts[0].state == ZERO).any()) else CONSTANT
        for k, place in enumerate(placed):
            close = compact(units[place])
            self.facts[n, k] = Fact(close, compact(states[place]), place.shape)
            varying = sum(size > 1 for size in close.shape)
            before = facts[0].units
            if packet in _SAFE_LAYOUT:
                moved_units = varying > 1
            else:
                moved_units = packet not in (aten.cat, aten.stack) and not torch.equal(
                    close.flatten(), before.flatten()
                )
            if moved_units:
                name = str(packet).rpartition(".")[2]
                self._pin(before, f"{name!r} takes its channels apart")

        def action(needs: dict[int, Tensor]) -> None:
            flat = torch.zeros(int(offsets[-1]) + 1, dtype=torch.bool)
            for k, need in needs.items():
                flat[placed[k][need.expand(placed[k].shape)]] = True
            for (key, fact), start, end in zip(operands, offsets, offsets[1:], strict=False):
                self._need(key, compact(flat[int(start) : int(end)].view(fact.shape)))

        self._back(n, len(outs), action)
        return True

    def _spatial(self, n: fx.Node, outs: list[Any]) -> bool:
        ((key, fact), *_) = self._operands(n)
        axes = list(range(-_SPATIAL[n.target.overloadpacket], 0))  # type: ignore[union-attr]
        if any(fact.units.shape[a] > 1 for a in axes):
            return False
        state = fact.state.amax(axes, keepdim=True)
        if n.target.overloadpacket in _AVERAGES:  # type: ignore[union-attr]
            state = self._at_any_size(n, state, axes)
        return self._mixed(n, key, Fact(fact.units, state, outs[0].shape), axes)

    def _padding(self, n: fx.Node, outs: list[Any]) -> bool:
        """Around maps it leaves units where they are; along their axis it moves them."""
        ((key, fact), *_) = self._operands(n)
        axes = sorted({-1 - k // 2 for k, by in enumerate(n.args[1]) if by})  # type: ignore[arg-type]
        if not axes or any(fact.units.shape[a] > 1 for a in axes):
            return self._layout(n, outs)
        filled = len(n.args) > 2 and n.args[2] != 0
        state = fact.state.amax(axes, keepdim=True).clamp_min(CONSTANT if filled else ZERO)
        return self._mixed(n, key, Fact(fact.units, state, outs[0].shape), axes)

    def _mixed(self, n: fx.Node, key: Key, fact: Fact, axes: list[int]) -> bool:
        """Entries along `axes`, which are of one unit each, make what `fact` says."""
        self.facts[n, 0] = fact

        def action(needs: dict[int, Tensor]) -> None:
            self._need(key, reduce(lambda need, axis: need.any(axis, keepdim=True), axes, needs[0]))

        self._back(n, 1, action)
        return True

    def _reduction(self, n: fx.Node, outs: list[Any]) -> bool:
        ((key, fact), *_) = self._operands(n)
        if len(n.args) < 2 or not isinstance(n.args[1], list) or not n.args[1]:
            return False
        axes = sorted(int(a) % len(fact.shape) for a in n.args[1])
        if any(fact.units.shape[a] > 1 for a in axes):
            return False
        units, state = fact.units, self._at_any_size(n, fact.state.amax(axes, keepdim=True), axes)
        keep = (len(n.args) > 2 and bool(n.args[2])) or bool(n.kwargs.get("keepdim"))
        if not keep:
            for axis in reversed(axes):
                units, state = units.squeeze(axis), state.squeeze(axis)
        self.facts[n, 0] = Fact(units, state, outs[0].shape)

        def action(needs: dict[int, Tensor]) -> None:
            need = needs[0]
            for axis in [] if keep else axes:
                need = need.unsqueeze(axis)
            self._need(key, need)

        self._back(n, 1, action)
        return True

    def _at_any_size(self, n: fx.Node, state: Tensor, axes: list[int]) -> Tensor:
        """`state` after a sum or mean over `axes`; where it must hold at any size, constants of some sizes vary."""
        if not self.any_size or not bool((state == CONSTANT).any()):
            return state
        x = self.env[n.args[0]].cpu()  # type: ignore[index]
        spread = x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True)
        uneven = spread > 1e-12 * x.abs().amax(axes, keepdim=True)
        if n.target.overloadpacket is aten.sum:  # type: ignore[union-attr]
            uneven = torch.ones_like(uneven)
        return torch.where((state == CONSTANT) & uneven.any(0, keepdim=True), VARIES, state)

    def _within(self, n: fx.Node, outs: list[Any]) -> bool:
        """LayerNorm and softmax: along their axes every entry depends on all."""
        ((key, fact), *parameters) = self._operands(n)
        norm = n.target.overloadpacket is aten.native_layer_norm  # type: ignore[union-attr]
        axes = list(range(-len(n.args[1]), 0)) if norm else [int(n.args[1])]  # type: ignore[arg-type]
        what = f"{self._owner(n) or 'a LayerNorm'} normalises over it" if norm else "a softmax runs over it"
        if any(fact.units.shape[a] > 1 for a in axes):
            self._pin(fact.units, what)
        for _, other in parameters:
            self._pin(other.units, what)
        state = fact.state.amax(axes, keepdim=True).clamp_min(CONSTANT)
        self.facts[n, 0] = Fact(fact.units, state, outs[0].shape)
        self._back(n, 1, lambda needs: self._need(key, reduce(lambda t, a: t.any(a, keepdim=True), axes, needs[0])))
        return True

    def _batchnorm(self, n: fx.Node, outs: list[Any]) -> bool:
        ((key, fact), *parameters) = self._operands(n)
        why = f"{self._owner(n) or 'a BatchNorm'} meets it on another axis"
        units, state = self._along(fact, 1, why)
        for _, other in parameters:
            if len(other.shape) == 1:
                self._pair(units, other.units.expand(other.shape), why)
        ndim = len(fact.shape)
        state = along_axis(state.clamp_min(CONSTANT), 1, ndim)
        self.facts[n, 0] = Fact(along_axis(torch.from_numpy(units.copy()), 1, ndim), state, outs[0].shape)
        self._back(n, 1, lambda needs: self._need(key, needs[0]))
        return True

    def _groupnorm(self, n: fx.Node, outs: list[Any]) -> bool:
        ((key, fact), *parameters) = self._operands(n)
        groups, ndim = int(n.args[6]), len(fact.shape)  # type: ignore[arg-type]
        what = f"{self._owner(n) or 'a GroupNorm'} normalises its group by all of its channels"
        units, state = self._along(fact, 1, what)
        self._pin(units, what)
        for _, other in parameters:
            self._pin(other.units, what)
        each = len(units) // groups
        state = state.view(groups, each).amax(1).repeat_interleave(each).clamp_min(CONSTANT)
        self.facts[n, 0] = Fact(
            along_axis(torch.from_numpy(units.copy()), 1, ndim), along_axis(state, 1, ndim), outs[0].shape
        )

        def action(needs: dict[int, Tensor]) -> None:
            need = self._any(needs[0], 1, each * groups).view(groups, each).any(1).repeat_interleave(each)
            self._need(key, along_axis(need, 1, ndim))

        self._back(n, 1, action)
        return True

    def _read(self, n: fx.Node, outs: list[Any]) -> bool:
        """What Python takes out of a tensor may decide a branch, and the other way listens to other units."""
        operands = self._operands(n)
        if any(int(fact.state.max()) == VARIES for _, fact in operands):
            raise RuntimeError("a value that depends on the input is read in Python, where a branch may depend on it")
        self._need_all(operands)
        return False

    def _embedding(self, n: fx.Node, outs: list[Any]) -> bool:
        weight, index = n.args[0], n.args[1]
        if weight not in self.parameter:
            return False
        value = self.env[weight]  # type: ignore[index]
        units = torch.from_numpy(self._ids(self.parameter[weight], 1, value))  # type: ignore[index]
        self.as_weight.add(n)
        self._pin(self._ids(self.parameter[weight], 0, value), "it is an entry of a vocabulary")  # type: ignore[index]
        state = self._opaque(outs[0], int(self.facts[self._key(index)].state.max()))  # type: ignore[arg-type]
        self.facts[n, 0] = state._replace(units=along_axis(units, -1, outs[0].ndim))
        return True

    def _linear(self, n: fx.Node, outs: list[Any]) -> bool:
        packet = n.target.overloadpacket  # type: ignore[union-attr]
        bias, x, weight = n.args if packet is aten.addmm else (n.args[2] if len(n.args) > 2 else None, *n.args[:2])
        if n.kwargs or not isinstance(weight, fx.Node) or not isinstance(x, fx.Node):
            return False
        flipped = flips(weight)
        source = weight.args[0] if flipped else weight
        if source not in self.parameter or (bias is not None and bias not in self.parameter):
            return False
        rows, columns = (0, 1) if flipped or packet is aten.linear else (1, 0)
        return self._map(n, outs[0], x, source, bias, (rows, columns, -1, 1), True)  # type: ignore[arg-type]

    def _convolution(self, n: fx.Node, outs: list[Any]) -> bool:
        x, weight, bias, _, padding, _, transposed, _, groups = n.args
        if weight not in self.parameter or (bias is not None and bias not in self.parameter):
            return False
        sizes = tuple(self.env[weight].shape[:2])  # type: ignore[index]
        own = groups != 1 and sizes == (groups, 1)  # a filter for each channel
        rows, columns = (1, 0) if transposed and not own else (0, 1)
        even = not transposed and not any(padding)  # type: ignore[arg-type]
        return self._map(n, outs[0], x, weight, bias, (rows, columns, 1, groups), even)  # type: ignore[arg-type]

    def _map(
        self, n: fx.Node, out: Tensor, x: fx.Node, weight: fx.Node, bias: fx.Node | None,
        axes: tuple[int, int, int, int], even: bool,
    ) -> bool:  # fmt: skip
        """A linear map by a parameter; `even`: a constant input gives a constant output."""
        rows, columns, axis, groups = axes
        name, w, fact, key = self.parameter[weight], self.env[weight], self.facts[self._key(x)], self._key(x)
        owner = name.rpartition(".")[0] or name
        self.as_weight.add(n)
        units, state = self._along(fact, axis, f"{owner!r} meets it on another axis")
        d, ndim = len(units), len(fact.shape)
        outputs = out.shape[axis]
        alone = name in self.alone and len(weight.users) == 1
        if groups == 1:
            self._pair(self._ids(name, columns, w), units, "it takes the model's input, or units that were rearranged")
            made = self._ids(name, rows, w)
        elif w.shape[1] == 1 and rows == 0:  # depthwise: an output leaves with its input
            made = self._ids(name, rows, w)
            self._pair(
                made, np.repeat(units, outputs // d), "it takes the model's input, or units that were rearranged"
            )
        else:
            self._pin(units, f"{owner!r} takes its channels in groups")
            made = self.found.new(outputs) if rows else self._ids(name, rows, w)
            self._pin(made, f"{owner!r} makes its channels in groups")
        if bias is not None:
            self._pair(self._ids(self.parameter[bias], 0, self.env[bias]), made, "a bias is shared")
        droppable = state == ZERO
        constant = torch.zeros(d, dtype=torch.float64)
        if groups == 1 and alone and bool((state == CONSTANT).any()):
            values = self.env[x].movedim(axis, 0).flatten(1).double().cpu()
            first = values[:, 0]
            flat = (values - first[:, None]).abs().amax(1) <= 1e-12 * first.abs()
            folds = (state == CONSTANT) & flat & torch.isfinite(first) & ((first == 0) | even)
            constant[folds], droppable = first[folds], droppable | folds
        if bool(droppable.all()):  # one stays
            droppable, constant[0] = droppable & (torch.arange(d) > 0), 0.0
        if axis == -1:  # a Linear does not mix other places, so what is 0 in all its inputs gives its bias
            result = fact.state.amax(-1, keepdim=True)
        else:
            per_group = state.view(groups, d // groups).amax(1)
            result = along_axis(per_group.repeat_interleave(outputs // groups), axis, out.ndim)
        new_units = along_axis(torch.from_numpy(made.copy()), axis, out.ndim)
        self.facts[n, 0] = Fact(new_units, result if bias is None else result.clamp_min(CONSTANT), out.shape)
        use = Use(name, None if bias is None else self.parameter[bias], rows, columns, groups, droppable, constant,
                  torch.zeros(outputs, dtype=torch.bool), alone)  # fmt: skip
        self.found.uses.append(use)

        def action(needs: dict[int, Tensor]) -> None:
            use.needed = self._any(needs[0], axis, outputs)
            heard = use.needed.view(groups, -1).any(1).repeat_interleave(d // groups) & ~droppable
            self._need(key, along_axis(heard, axis, ndim))

        self._back(n, 1, action)
        return True
