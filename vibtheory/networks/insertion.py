"""Gates for any torch model: a copy of it with a gate after each activation, or at the places that one names.

Three ways, the first that computes what the model computes: nested Sequentials stay Sequentials; other models are
traced with torch.fx; where a trace fails or changes something (options of `forward`, branches on `training`,
statistics), or places are named, the copy stays the user's own module and its calls are caught as they run
(`interception`).
"""

from __future__ import annotations

import copy
import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from vibtheory.errors import InvalidInputError, as_positive, reject, shown
from vibtheory.networks.activations import is_activation
from vibtheory.networks.equivalence import deviation, device_of_inputs, opened, probes, training_batches
from vibtheory.networks.forward import (
    MISFIT,
    as_example,
    called,
    check_modes,
    copied,
    copy_of,
    run_on,
    take_float_tokens,
    with_hooks,
)
from vibtheory.networks.gates import GateLaw, make_gate, named_gates
from vibtheory.networks.insertion_fx import Tracer, insert_into_graph
from vibtheory.networks.interception import intercept, places_of
from vibtheory.networks.likelihood import check_net, check_numbers
from vibtheory.networks.options import takes_options
from vibtheory.networks.places import Place, Rule, Where, rules_of
from vibtheory.networks.sequential import free_name, join_weights
from vibtheory.networks.streams import random_state_kept, random_stream
from vibtheory.networks.unit_axes import UnitAxes

__all__ = ["insert_gates"]

_TOLERANCE = 1e-5
_LEARNED = 1e-3  # of gradients, which sums in another order may move further
_WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Embedding)


@torch.inference_mode(False)  # a copy that can learn, whatever the caller switched off
def insert_gates(
    model: nn.Module,
    example_input: Any,
    *,
    where: Where | None = None,
    input_gate: bool = False,
    multiplier: float | str = "feature_map",
    law: str = "vib",
    feature_axis: int | None = None,
    **options: Any,
) -> nn.Module:
    """A copy of `model` with a gate after each activation (ReLU, GELU, …, as module, function or method).

    Also after each module of anyone's, without weights, that computes a nonlinear function entry by entry.

    With `where`, at the places named there instead, attention heads and the outputs of any modules among them:

        where="heads"            # every attention: one gate per head, shared over its width
        where=["mlp", "heads"]   # and the neurons of linear layers; "channels": those of convolutions
        where={"blocks.*.mlp": {"axis": -1}, "blocks.*.attn": "heads"}

    An activation whose result is the model's output, is made of weights alone, or has units on axis 0 (a table of
    positions), gets no gate.
    Names: "<layer>_gate", where <layer> is the convolution or linear layer whose output is activated ("." becomes "_"
    in traced models), or the activation's own name after an addition; a repeated name gets "_2", "_3", ….
    `named_gates(gated)` lists them.

    The original parameters keep their names: `gated.load_state_dict(model.state_dict(), strict=False)` works, and so
    does saving `gated` and loading into a fresh `insert_gates(model, ...)`. A traced copy is a `torch.fx.GraphModule`.
    Whichever way, with its gates passing everything on the copy is compared with `model`: in evaluation mode on several
    inputs, in training mode with the same random state, running statistics and gradients included (where it runs on the
    example in training mode at all). The copy's embeddings also take tokens as float32, as data sets hold them.

    Args:
        model: any module; unchanged.
        example_input: one batch [N, ...] or a tuple of positional inputs; shapes only.
        where: None; or module names (as `named_modules` gives them, with * and ?) and kinds ("mlp", "channels",
            "heads"), one, a list, or a mapping to a kind or to options of those gates: kind, axis, law,
            multiplier and the law's own. A name takes the activations and attentions that run in that module or under
            it; where there are none, its output (the first tensor of a tuple). The first entry that takes a place
            counts. Attention is `nn.MultiheadAttention` without extra keys, `scaled_dot_product_attention` on
            [N, heads, T, width], or a product with softmax weights [N, heads, T, S].
        input_gate: also a gate on the input's units ("input_gate"; after a leading flatten that is traced, on its
            result): the last axis where a Linear, a recurrent layer or attention reads it, else axis 1.
        multiplier: "feature_map": the number of positions that share a gate (H·W; T for tokens); or one number.
        law: what the gates are: VIB's "vib", or another of `vibtheory.networks.gates.LAWS`;
            those of the weights ("gl", "dn", "ns", "pf") take Sequentials.
        options: of the law's class: threshold; mean and log_variance for VIB's.
        feature_axis: the units' axis; None: where the operation that makes the units puts them and what follows moves
            them (axis 1 of a convolution, the last of a Linear, a transpose between).

    Raises:
        InvalidInputError: no activation found, an entry of `where` that takes nothing, an unknown law (the message
            lists them) or option, a multiplier that is no number >= 0, an example the model does not take, or a model
            that gates would change.
    """
    check_net("model", model)
    for name, module in model.named_modules():  # a trace would lose its weights, and it takes no hooks
        if isinstance(module, torch.jit.ScriptModule):
            got = f"a scripted part {name!r}" if name else "a scripted model"
            reject("model", got, "the Python module that it was made from", "insert gates, then script")
    if hasattr(model, "_orig_mod"):
        reject("model", "a compiled model", "the module that it was made from", "insert gates, then compile")
    check_numbers("model", model)
    for name, module in model.named_modules():
        owner = getattr(module.forward, "__self__", module)
        if isinstance(owner, nn.Module) and all(owner is not own for own in model.modules()):
            got = f"{name or type(model).__name__!r}, whose forward is that of another object ({type(owner).__name__})"
            reject("model", got, "a model of its own weights", "pass that object, or make it a module of the model")
    result = copy_of(model)
    check_modes("model", copy_of(model))
    modes = {name: module.training for name, module in model.named_modules()}

    def make(shape: torch.Size, axis: int, own: Mapping[str, Any] | None = None) -> GateLaw:
        try:
            return gate_at(shape, axis, own or {})
        except InvalidInputError as error:
            argument, _, rest = str(error).removeprefix("feature_").partition(":")
            if not own or argument not in {"options", *own}:
                raise
            raise InvalidInputError(f"where[{argument}]:{rest}") from error

    def gate_at(shape: torch.Size, axis: int, own: Mapping[str, Any]) -> GateLaw:
        chosen: dict[str, Any] = {"law": law, "multiplier": multiplier} | options | dict(own)
        axis = chosen.pop("axis", axis if feature_axis is None else feature_axis)
        if len(shape) < 2:
            got = f"an example whose activations are {list(shape)}"
            reject("example_input", got, "[N, ...], examples first", "pass a batch: x_train[:2]")
        if not isinstance(axis, int) or not -len(shape) < axis < len(shape) or axis == 0:
            reject("feature_axis", shown(axis), f"an axis of {list(shape)} other than 0", "pass 1 or -1")
        axis = 1 if len(shape) == 2 else axis
        price = chosen["multiplier"]
        if price == "feature_map":
            chosen["multiplier"] = math.prod(shape[1:]) / shape[axis]
        elif isinstance(price, str):
            reject("multiplier", repr(price), '"feature_map" or a number', "pass 1.0 to weigh every unit alike")
        else:
            as_positive("multiplier", price)
        return make_gate(chosen.pop("law"), shape[axis], axis=axis, **chosen).to(device_of_inputs(inputs))

    take_float_tokens(result)
    inputs = as_example(example_input, result.eval())
    one = isinstance(run_on(result, inputs), Tensor)
    gates: list[Any] = []
    input_axis = _input_axis(result, inputs) if input_gate else None
    changed = "not tried"
    rules = rules_of(where)
    if one and isinstance(result, nn.Sequential) and all(_is_flat(m) for m in result._modules.values()):
        chosen = None if where is None else places_of(result, inputs, rules)[1]
        result, gates = _into_sequential(result, inputs, input_axis, make, chosen)
        changed = _changes(model, result, inputs)
    elif where is None and not _fixed_by_trace(model, inputs) and (graph := _trace(result)) is not None:
        try:
            result, gates = insert_into_graph(result, graph, inputs, input_axis, make)
            changed = _changes(model, result, inputs)
        except MISFIT:  # a trace in which a buffer is not a tensor, say
            changed = "as a trace"
    if changed:
        result = copy_of(model).eval()
        take_float_tokens(result)
        gates = intercept(result, inputs, input_axis, make, rules)
        changed = _changes(model, result, inputs)
    if changed:
        has = " (it has gates)" if named_gates(model) else ""
        remedy = "train it as it is" if has else "put vibtheory.Gate into the model by hand"
        got = f"{type(model).__name__}{has}, which gates would change {changed}"
        reject("model", got, "a model that runs the same functions on every input", remedy)
    if not gates:
        remedy = "use nn.ReLU (or another activation of torch.nn), or put vibtheory.Gate into the model by hand"
        wanted = "at least one activation, where gradients are on"
        reject("model", f"{type(model).__name__} without an activation", wanted, remedy)
    for name, module in result.named_modules():
        module.training = modes.get(name, model.training)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    for name, parameter in result.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return join_weights(with_hooks(result, model))


def _fixed_by_trace(model: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Does `forward` take more than tensors, or a layer of one's own hold a size that cutting its weights changes?

    Nor would a trace open torch's own transformer layers, whose activations are inside.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
            return True
        sizes = {n for p in module.parameters(recurse=False) if p.ndim > 1 for n in p.shape}
        held = {value for value in vars(module).values() if type(value) is int}
        torchs = any(c.__module__.startswith("torch.") for c in type(module).__mro__ if c is not nn.Module)
        if sizes & held and not torchs and not any(True for _ in module.children()):
            return True
    return takes_options(model, inputs)


class _Tracer(Tracer):
    """Activations of one's own stay modules, behind which their gates come."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or is_activation(m)


def _trace(model: nn.Module) -> fx.Graph | None:
    try:
        return _Tracer().trace(model)
    except NameError as error:  # torch's word for it; a copy would go on with the other model's weights
        got = f"{type(model).__name__}, whose forward pass calls a module that it does not hold ({error})"
        reject("model", got, "a model of its own modules", "make that module an attribute of the model")
    except MISFIT:
        return None  # control flow that depends on data, unpacking of proxies, …


def _changes(model: nn.Module, gated: nn.Module, inputs: tuple[Any, ...]) -> str:
    """How `gated`, its gates passing everything on, differs from `model`; empty where it does not.

    Compared in evaluation mode on several inputs, and in training mode with the same random state, buffers included.
    """
    plain, open_ = copy_of(model), copy_of(gated)
    take_float_tokens(plain)
    for gate in named_gates(open_).values():
        gate.forward = partial(_pass_on, gate)  # type: ignore[method-assign]
    with random_state_kept(device_of_inputs(inputs)):  # `run_on` draws too
        try:
            if not deviation(plain.eval(), open_.eval(), probes(inputs, model), seed=0) <= _TOLERANCE:
                return "in evaluation mode" + _why_fused(plain, open_, inputs)
            for batch in training_batches(inputs):
                try:
                    run_on(copy.deepcopy(plain).train(), batch)
                except InvalidInputError:
                    continue
                if not deviation(plain.train(), open_.train(), probes(batch, model), seed=0) <= _TOLERANCE:
                    return "in training mode"
                # a trace drops a buffer that it does not read: it must not have moved
                kept = dict(model.named_buffers()) | dict(open_.named_buffers())
                if any(not torch.allclose(value, kept[key], equal_nan=True) for key, value in plain.named_buffers()):
                    return "in what training records (running statistics)"
                # a trace drops torch.no_grad() and backward passes of the user's own
                if not _learn_alike(plain, open_, batch):
                    return "in what training learns (gradients)"
                break
        except MISFIT as failure:
            return f"by an error ({failure})"
    return ""


def _learn_alike(plain: nn.Module, gated: nn.Module, batch: tuple[Any, ...]) -> bool:
    """Has each parameter of `plain` the gradient in `gated` that it has there, of random sums of the outputs?"""
    try:
        wanted = _gradients(plain, batch)
    except MISFIT:  # a model for prediction alone
        return True
    got = _gradients(gated, batch)
    names: dict[nn.Parameter, list[str]] = {}  # of a shared one a trace knows those alone that are called
    for name, parameter in plain.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    largest = max([float(g.abs().max()) for g in wanted.values() if g.numel()], default=0.0)
    close = partial(torch.allclose, rtol=_LEARNED, atol=_LEARNED * 1e-2 * largest, equal_nan=True)
    return all(
        close(next((got[name] for name in known if name in got), torch.zeros_like(parameter)), wanted[known[0]])
        for parameter, known in names.items()
    )


def _gradients(net: nn.Module, batch: tuple[Any, ...]) -> dict[str, Tensor]:
    """By parameter, under each of its names; one that nothing depends on has 0."""
    net.zero_grad()
    with torch.enable_grad(), random_stream(0, "comparison of gradients", device_of_inputs(batch)):
        leaves = pytree.tree_leaves(opened(called(net, copied(batch))))
        outputs = [v for v in leaves if isinstance(v, Tensor) and v.requires_grad]
        torch.autograd.backward(outputs, [torch.randn_like(v) for v in outputs])
    named = net.named_parameters(remove_duplicate=False)
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in named}


def _why_fused(plain: nn.Module, open_: nn.Module, inputs: tuple[Any, ...]) -> str:
    """Words for it where torch's fused attention alone makes the difference: it sets what padding hides to 0."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        same = fused and deviation(plain, open_, [inputs], seed=0) <= _TOLERANCE
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    how = "which training does not have: torch.backends.mha.set_fastpath_enabled(False) turns it off"
    return f" (by torch's fused attention, {how})" if same else ""


def _pass_on(gate: GateLaw, h: Tensor) -> Tensor:
    if h.shape[gate.axis] != gate.features:
        raise RuntimeError(f"{gate.features} units expected on axis {gate.axis} of {list(h.shape)}")
    return h


def _input_axis(net: nn.Module, inputs: tuple[Any, ...]) -> int:
    """Where the units of the first input are: the last axis for modules that work on that, else 1."""
    readers: list[nn.Module] = []
    last = (nn.Linear, nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.LayerNorm)

    def watch(module: nn.Module, given: tuple[Any, ...]) -> None:
        if isinstance(module, last) and given and given[0] is inputs[0]:
            readers.append(module)

    watches = [module.register_forward_pre_hook(watch) for module in net.modules()]
    try:
        run_on(net, inputs)
    finally:
        for each in watches:
            each.remove()
    return -1 if readers else 1


# ---- Sequentials -----------------------------------------------------------------------------------------------------


def _is_flat(module: nn.Module | None) -> bool:
    """A leaf, or a Sequential of such."""
    if isinstance(module, nn.Sequential):
        return all(_is_flat(m) for m in module._modules.values())
    return module is not None and not any(True for _ in module.children())


def _into_sequential(
    model: nn.Sequential, inputs: tuple[Any, ...], input_axis: int | None, make: Any, chosen: dict[Place, Rule] | None
) -> tuple[nn.Sequential, list[GateLaw]]:
    """Gates as further entries of the Sequentials, at the `chosen` places (None: each activation but the last layer's).

    Every other entry keeps its name.
    """
    paths = {module: path for path, module in model.named_modules()}
    uses: Counter[nn.Module] = Counter()
    leaves = sum(1 for _ in _occurrences(model))
    fewest = min(getattr(inputs[0], "ndim", 2), 2)  # axes; one number for each example has no units
    gates: list[GateLaw] = []
    units = UnitAxes()
    state = {"h": inputs[0], "seen": 0, "layer": "input", "pending": input_axis is not None}

    def rebuild(part: nn.Sequential) -> nn.Sequential:
        entries: OrderedDict[str, nn.Module] = OrderedDict()
        for name, module in part._modules.items():
            assert module is not None
            if isinstance(module, nn.Sequential):
                entries[name] = rebuild(module)
                continue
            if state["pending"] and not isinstance(module, nn.Flatten):
                add(part, entries, "input_gate")
            if isinstance(module, _WEIGHTS):
                state["layer"] = name
            entries[name] = module
            state["h"] = module(state["h"])
            state["seen"] += 1
            if state["pending"]:
                add(part, entries, "input_gate")
            if chosen is not None:
                groups = (Place(paths[module], group, uses[module]) for group in ("activation", "output"))
                for rule in (chosen[place] for place in groups if place in chosen):
                    add(part, entries, f"{state['layer']}_gate", rule.options)
                uses[module] += 1
            elif is_activation(module) and state["seen"] < leaves and state["h"].ndim >= fewest:
                add(part, entries, f"{state['layer']}_gate")
        return nn.Sequential(entries)

    def add(
        part: nn.Sequential, entries: OrderedDict[str, nn.Module], name: str, options: Mapping[str, Any] | None = None
    ) -> None:
        unique = free_name(name, lambda n: n in entries or n in part._modules)
        axis = input_axis if state["pending"] and state["h"] is inputs[0] else units.of(state["h"])[0]
        entries[unique] = make(state["h"].shape, axis, options)
        gates.append(entries[unique])  # type: ignore[arg-type]
        state["pending"] = False

    with torch.no_grad(), units:
        return rebuild(model), gates


def _occurrences(part: nn.Sequential) -> Any:
    for module in part._modules.values():
        if isinstance(module, nn.Sequential):
            yield from _occurrences(module)
        else:
            yield module
