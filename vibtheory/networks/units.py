"""A gated layer that feeds an affine one: what lies between a gate's units and the next pre-activation.

Shared by merging (docs/theory.md T4b) and by the executable propositions (T4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import as_array, reject
from vibtheory.networks.forward import evaluating, is_dense
from vibtheory.networks.gates import Gate, vib_gates
from vibtheory.networks.sequential import ordered_modules

__all__ = ["FeedingGate", "gated_layers", "inputs_of"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FeedingGate:
    """A gate, the modules before it, and the linear layer or convolution that it feeds.

    Attributes:
        name: the layer's name. gate, affine: its modules. upstream: every module before the gate, in order.
    """

    name: str
    gate: Gate
    affine: nn.Linear | nn.Conv2d
    upstream: tuple[nn.Module, ...]

    def columns(self) -> Tensor:
        """The affine layer's weights as a view [out, d, positions]; positions: a flattened map's, or a kernel's."""
        weight = self.affine.weight
        return weight.view(weight.shape[0], self.gate.features, -1)

    def outgoing(self) -> Array:
        """Outgoing weights of each unit [d, out·positions], a copy in float64."""
        columns = self.columns().detach().double().cpu().transpose(0, 1)
        return np.array(columns.reshape(self.gate.features, -1).numpy())

    def activations(self, inputs: Tensor, batch_size: int, seed: int | None = None) -> Iterator[Array]:
        """f [batch·positions, d] before the gate, in float64, batch by batch.

        Args:
            inputs: [N, ...].
            batch_size: examples per pass.
            seed: None holds the gates upstream at their masked means; a seed samples their kept units.
        """
        before = nn.Sequential(*self.upstream)
        for start in range(0, len(inputs), batch_size):
            h = inputs[start : start + batch_size].to(self.gate.mu, copy=True)
            sampled = () if seed is None else vib_gates(before).values()
            with torch.no_grad(), evaluating(before, sampled, None if seed is None else (seed, start)):
                h = before(h)
            if h.ndim > 2:  # [N, d, positions…] → [N·positions, d]
                h = h.flatten(2).transpose(1, 2).reshape(-1, h.shape[1])
            yield h.double().cpu().numpy()


def gated_layers(net: nn.Module, layer: str | None = None) -> tuple[list[FeedingGate], dict[str, str]]:
    """The gated layers of a Sequential that feed an affine layer directly, and why the others are left out, by name.

    Gates and affine layers here are changed by those who call: so each stands in one place, with weights of its own.

    Args:
        net: a Sequential of gates, linear layers, ungrouped convolutions and unit-wise layers.
        layer: only this one.

    Raises:
        InvalidInputError: not such a Sequential, no gates, or `layer` does not exist or is left out.
    """
    modules = ordered_modules(net)
    names = list(vib_gates(net))
    if not names:
        reject("net", "no gates", "a gated network", "call vibtheory.insert_gates first")
    if layer is not None and layer not in names:
        reject("layer", repr(layer), "one of " + ", ".join(names), "choose a gated layer")
    found, others = [], {}
    for place, (name, gate) in enumerate(modules):
        if not isinstance(gate, Gate) or layer not in (None, name):
            continue
        following = [m for _, m in modules[place + 1 :] if not isinstance(m, nn.Flatten | nn.Identity)]
        if not (following and isinstance(following[0], nn.Linear | nn.Conv2d) and gate.axis == 1):
            after = type(following[0]).__name__ if following else "nothing"
            others[name] = f"feeds {after}, not an affine layer"
        elif not all(_own_parameters(module, modules) for module in (gate, following[0])):
            others[name] = "has a gate or feeds weights that are used elsewhere too, computed from others, or hooked"
        else:
            found.append(FeedingGate(name, gate, following[0], tuple(m for _, m in modules[:place])))
    if layer is not None and not found:
        reject("layer", f"{layer!r}, which {others[layer]}", "a gate that feeds a linear layer or convolution",
               "choose another layer: an affine map right after the gate is needed")  # fmt: skip
    return found, others


def _own_parameters(module: nn.Module, modules: list[tuple[str, nn.Module]]) -> bool:
    """Whether changing the module's parameters changes what it computes, as they say, and nothing else."""
    own = set(map(id, module.parameters()))
    elsewhere = sum(any(id(p) in own for p in other.parameters()) for _, other in modules) > 1
    computed = isinstance(module, nn.Linear | nn.Conv2d) and "weight" not in module._parameters  # of a weight norm, say
    return not (elsewhere or computed or module._forward_pre_hooks or module._forward_hooks)


def inputs_of(data: Dataset | Tensor) -> Tensor:
    """Training inputs [N, ...] of a Dataset, or the tensor itself.

    Raises:
        InvalidInputError: neither of the two, no example, or NaN or infinite entries.
    """
    if isinstance(data, Dataset):
        data = torch.from_numpy(np.asarray(data.x_train))
    if not isinstance(data, Tensor):
        reject("data", type(data).__name__, "a Dataset or a tensor of inputs", "pass inputs [N, ...]")
    if data.ndim < 2 or len(data) == 0 or not is_dense(data):
        reject("data", f"shape {list(data.shape)}", "at least one example, [N, ...]", "pass inputs [N, ...]")
    if not bool(torch.isfinite(data).all()):
        as_array("data", data.double().cpu().numpy())  # raises, and counts them
    return data
