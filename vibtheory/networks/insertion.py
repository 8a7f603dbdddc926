"""Gates for any torch model: a copy of it with a gate after each activation.

Three ways, the first that fits: nested Sequentials stay Sequentials; other models are traced with torch.fx, which
also sees functional activations and modules used many times; models that fx cannot trace get their activation modules
wrapped.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from vibtheory.errors import as_positive, reject
from vibtheory.networks.gates import Gate
from vibtheory.networks.insertion_fx import ACTIVATIONS, insert_into_graph

__all__ = ["insert_gates"]

_WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


def insert_gates(
    model: nn.Module,
    example_input: Any,
    *,
    input_gate: bool = False,
    multiplier: float | str = "feature_map",
    threshold: float = 1.0,
    mean: float = 1.0,
    log_variance: float = -9.0,
    feature_axis: int | None = None,
) -> nn.Module:
    """A copy of `model` with a `Gate` after each activation (ReLU, GELU, …, as module, function or method).

    An activation whose result is the model's output gets no gate. Names: "<layer>_gate", where <layer> is the
    convolution or linear layer whose output is activated ("." becomes "_" in traced models), or the activation's own
    name after an addition; a repeated name gets "_2", "_3", …. `named_gates(gated)` lists them.

    The original parameters keep their names: `gated.load_state_dict(model.state_dict(), strict=False)` works, and so
    does saving `gated` and loading into a fresh `insert_gates(model, ...)` (only for models that fx cannot trace do
    activation modules with parameters, such as PReLU, move). A traced copy is a `torch.fx.GraphModule`: Python control
    flow in `forward` is fixed as it ran, functional dropout becomes a module that follows `train()`/`eval()`.

    Args:
        model: any module; unchanged.
        example_input: one batch [N, ...] or a tuple of positional inputs; shapes only.
        input_gate: also a gate on the input's units ("input_gate"; after a leading flatten, on its result). Not for
            models that fx cannot trace.
        multiplier: "feature_map": the number of positions that share a gate (H·W; T for tokens); or one number.
        threshold, mean, log_variance: see `Gate`.
        feature_axis: the units' axis; None: axis 1, or the last one after a Linear or LayerNorm.

    Raises:
        InvalidInputError: no activation found, a multiplier that is no number >= 0, an example the model does not take,
            or an activation module used several times in a model that fx cannot trace.
    """
    if multiplier != "feature_map":
        if isinstance(multiplier, str):
            reject("multiplier", repr(multiplier), '"feature_map" or a number', "pass 1.0 to weigh every unit alike")
        as_positive("multiplier", multiplier)
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    result = copy.deepcopy(model)
    modes = {name: module.training for name, module in model.named_modules()}

    def make(shape: torch.Size, axis: int) -> Gate:
        axis = axis if feature_axis is None else feature_axis
        if not -len(shape) < axis < len(shape) or axis == 0:
            reject("feature_axis", axis, f"an axis of {list(shape)} other than 0", "pass 1 or -1")
        axis = 1 if len(shape) == 2 else axis
        positions = math.prod(shape[1:]) / shape[axis] if multiplier == "feature_map" else float(multiplier)
        return Gate(
            shape[axis],
            multiplier=positions,
            threshold=threshold,
            axis=axis,
            mean=mean,
            log_variance=log_variance,
        ).to(_device(inputs))

    result.eval()
    shapes = _run(result, inputs)
    gates: list[Gate]
    if isinstance(result, nn.Sequential) and all(_is_flat(m) for m in result._modules.values()):
        result, gates = _into_sequential(result, inputs, input_gate, make)
    else:
        graph = _trace(result)
        if graph is not None:
            result, gates = insert_into_graph(result, graph, inputs, input_gate, make)
        elif input_gate:
            reject(
                "input_gate", True, "False: torch.fx cannot trace this model", "put a Gate before the model yourself"
            )
        else:
            gates = _wrap_modules(result, shapes, make)
    if not gates:
        remedy = "use nn.ReLU (or another activation of torch.nn), or put vibtheory.Gate into the model by hand"
        reject("model", f"{type(model).__name__} without an activation", "at least one activation", remedy)
    for name, module in result.named_modules():
        module.training = modes.get(name, model.training)
    return result


def _device(inputs: tuple[Any, ...]) -> torch.device:
    return next((v.device for v in inputs if isinstance(v, Tensor)), torch.device("cpu"))


def _trace(model: nn.Module) -> fx.Graph | None:
    try:
        return fx.Tracer().trace(model)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError, IndexError):
        return None  # control flow that depends on data, unpacking of proxies, …


class _Call:
    """One run's calls of an activation module: shapes, and the axis by the last weights that ran before."""

    def __init__(self) -> None:
        self.shapes: list[torch.Size] = []
        self.axis = 1
        self.layer = ""


def _run(model: nn.Module, inputs: tuple[Any, ...]) -> dict[str, _Call]:
    """Each activation module's calls in one forward pass, by module name."""
    calls: dict[str, _Call] = {}
    last = {"axis": 1}

    def note(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(module, (nn.Linear, nn.LayerNorm)):
                last["axis"] = -1
            elif isinstance(module, _WEIGHTS):
                last["axis"] = 1
            elif isinstance(output, Tensor):
                call = calls.setdefault(name, _Call())
                call.shapes.append(output.shape)
                call.axis = last["axis"]

        return hook

    watched: tuple[type[nn.Module], ...] = (*_WEIGHTS, nn.LayerNorm, *ACTIVATIONS)
    handles = [
        module.register_forward_hook(note(name, module))
        for name, module in list[tuple[str, nn.Module]](model.named_modules())
        if isinstance(module, watched)
    ]
    try:
        with torch.no_grad():
            model(*inputs)
    except (RuntimeError, TypeError, ValueError) as failure:
        reject("example_input", f"an input the model does not take ({failure})", "one batch", "pass x_train[:2]")
    finally:
        for handle in handles:
            handle.remove()
    return calls


# ---- Sequentials -----------------------------------------------------------------------------------------------------


def _is_flat(module: nn.Module | None) -> bool:
    """A leaf, or a Sequential of such."""
    if isinstance(module, nn.Sequential):
        return all(_is_flat(m) for m in module._modules.values())
    return module is not None and not any(True for _ in module.children())


def _into_sequential(
    model: nn.Sequential, inputs: tuple[Any, ...], input_gate: bool, make: Any
) -> tuple[nn.Sequential, list[Gate]]:
    """Gates as further entries of the Sequentials; every other entry keeps its name."""
    leaves = sum(1 for _ in _occurrences(model))
    gates: list[Gate] = []
    state = {"h": inputs[0], "seen": 0, "axis": 1, "layer": "input", "pending": input_gate}

    def rebuild(part: nn.Sequential) -> nn.Sequential:
        entries: OrderedDict[str, nn.Module] = OrderedDict()
        for name, module in part._modules.items():
            assert module is not None
            if isinstance(module, nn.Sequential):
                entries[name] = rebuild(module)
                continue
            if state["pending"] and not isinstance(module, nn.Flatten):
                add(entries, "input_gate")
            if isinstance(module, _WEIGHTS):
                state["axis"], state["layer"] = (-1 if isinstance(module, nn.Linear) else 1), name
            entries[name] = module
            state["h"] = module(state["h"])
            state["seen"] += 1
            if state["pending"]:
                add(entries, "input_gate")
            if isinstance(module, ACTIVATIONS) and state["seen"] < leaves:
                add(entries, f"{state['layer']}_gate")
        return nn.Sequential(entries)

    def add(entries: OrderedDict[str, nn.Module], name: str) -> None:
        unique, k = name, 2
        while unique in entries:
            unique, k = f"{name}_{k}", k + 1
        entries[unique] = make(state["h"].shape, state["axis"])
        gates.append(entries[unique])  # type: ignore[arg-type]
        state["pending"] = False

    with torch.no_grad():
        return rebuild(model), gates


def _occurrences(part: nn.Sequential) -> Any:
    for module in part._modules.values():
        if isinstance(module, nn.Sequential):
            yield from _occurrences(module)
        else:
            yield module


# ---- models that fx cannot trace -------------------------------------------------------------------------------------


def _wrap_modules(model: nn.Module, calls: dict[str, _Call], make: Any) -> list[Gate]:
    """Replace each activation module by Sequential(activation, gate)."""
    gates: list[Gate] = []
    for name, call in calls.items():
        if len(call.shapes) > 1:
            remedy = "give each use its own activation module, or make the model traceable by torch.fx"
            reject("model", f"activation {name!r} used {len(call.shapes)} times", "one use each", remedy)
        gate = make(call.shapes[0], call.axis)
        parent, _, leaf = name.rpartition(".")
        wrapped = nn.Sequential(OrderedDict(activation=model.get_submodule(name), gate=gate))
        setattr(model.get_submodule(parent), leaf, wrapped)
        gates.append(gate)
    return gates
