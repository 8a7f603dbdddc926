"""What closed gates make superfluous, followed through every operation of a model by its meaning.

Three facts of every unit (a channel, a neuron) of every tensor: which other units leave only together with it, because
an addition, a normalisation or a shared weight couples them; whether it is 0 or constant whatever the input is, because
gates are closed; and whether anything that reaches the outputs needs it. No value of the run decides, so a unit that
merely looked silent is never among them. Operations that are not known here keep everything they touch.

The model is traced to torch's own operations on the user's example (`make_fx`), so branches and loops are those of the
example; whoever cuts compares outputs.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.functional_tensor import dispatch_functionalize
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from vibtheory.compression.facts import Units
from vibtheory.compression.operations import Operations
from vibtheory.networks.equivalence import opened

__all__ = ["CONVOLUTIONS", "follow", "silent_inputs"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def follow(net: nn.Module, example: tuple[Any, ...], any_size: bool = False) -> Units:
    """The facts about `net`, in evaluation mode and its gates replaced by `FixedScale`, on positional inputs.

    With `any_size` a constant is one only if it does not depend on the size of the maps, as the mean of a constant that
    a padded depthwise convolution has passed on does.

    Raises:
        RuntimeError and others of torch: the model cannot be traced on its example.
    """
    probe = copy.deepcopy(net)  # it may keep what it computes: here tensors of the trace
    state: dict[str, Tensor] = {}
    detached: dict[int, Tensor] = {}
    for path, module in net.named_modules():
        for name, value in [*module._parameters.items(), *module._buffers.items()]:
            if value is not None:  # a tied one is the same tensor again
                state[f"{path}.{name}" if path else name] = detached.setdefault(id(value), value.detach())
    leaves, structure = pytree.tree_flatten(example)
    places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def run(given: dict[str, Tensor], *tensors: Tensor) -> list[Tensor]:
        all_leaves = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            all_leaves[place] = tensor
        with _WithoutSideEffects():
            result = functional_call(probe, given, pytree.tree_unflatten(all_leaves, structure), tie_weights=False)
        return [value for value in pytree.tree_leaves(opened(result)) if isinstance(value, Tensor)]

    tensors = [leaves[k] for k in places]
    with torch.no_grad():
        graph = make_fx(dispatch_functionalize(run), _error_on_data_dependent_ops=False)(state, *tensors)
        names = {id(v): k for k, v in reversed(state.items())}
        follower = Operations(graph, net, names, _called_once(copy.deepcopy(net), example), any_size)
        follower.run(state, *tensors)
    follower.backward()
    return follower.found


def silent_inputs(net: nn.Module, example: tuple[Any, ...]) -> dict[str, Tensor]:
    """Of each linear map by a parameter, which units of its input are 0 whatever the input is: boolean [d].

    Args and errors are those of `follow`; keys are names of the modules that hold the parameters.
    """
    silent: dict[str, Tensor] = {}
    for use in follow(net, example).uses:
        name, zero = use.weight.rpartition(".")[0], use.droppable & (use.constant == 0)
        silent[name] = silent.get(name, torch.ones_like(zero)) & zero
    return silent


class _WithoutSideEffects(TorchFunctionMode):
    """The activation that torch cannot make free of side effects; one_hot, which reads its indices to check them.

    A linear map of a transposed tensor, which torch would spread over the batch, becomes one product with its weight.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "relu6" and (kwargs.get("inplace") or args[1:] == (True,)):
            return nn.functional.hardtanh_(args[0], 0.0, 6.0)
        if name == "one_hot" and (classes := kwargs.get("num_classes", args[1] if args[1:] else -1)) >= 0:
            return (args[0][..., None] == torch.arange(classes, device=args[0].device)).long()
        if name == "linear" and args:
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **kwargs)


def _called_once(net: nn.Module, example: tuple[Any, ...]) -> set[str]:
    """Parameters of linear layers and convolutions that are called once and share them with nobody."""
    calls: Counter[str] = Counter()
    kinds = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
    layers = {name: m for name, m in net.named_modules(remove_duplicate=False) if isinstance(m, kinds)}
    handles = [m.register_forward_pre_hook(lambda *_, n=name: calls.update([n])) for name, m in layers.items()]
    net(*example)
    for handle in handles:
        handle.remove()
    homes = Counter(id(p) for m in net.modules() for p in m._parameters.values() if p is not None)
    return {
        f"{name}.weight" if name else "weight"
        for name, m in layers.items()
        if calls[name] == 1 and all(homes[id(p)] == 1 for p in m.parameters(recurse=False))
    }
