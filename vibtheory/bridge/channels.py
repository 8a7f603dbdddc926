"""The law of a network's layer given its input: where a trained (or plain) net becomes a `GatedChannel`.

I(h; x) of one layer is taken with the gates before it at their masked means (F): sampled ones would make
h given x a mixture instead of a Gaussian. With them sampled, h is Gaussian given the layer before: I(h_i; h_{i−1}).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.errors import reject
from vibtheory.information.channel import GatedChannel
from vibtheory.networks.forward import activation, evaluating
from vibtheory.networks.gates import Gate, named_gates

__all__ = ["LayerLaw", "layer_law"]


@dataclass(frozen=True, eq=False)
class LayerLaw:
    """What decides the law of h given x: h = f(x) ⊙ (μ + σ⊙ε), up to additive noise.

    Attributes:
        f: [N, d] activations before the gate.
        mu: [d] the gate's means, 0 where it is masked; 1 for a layer without gates.
        sigma: [d] its standard deviations, 0 where it is masked; 0 for a layer without gates.
    """

    f: NDArray[np.float32]
    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]

    def channel(self, tau: float = 0.0, rows: NDArray[np.intp] | None = None) -> GatedChannel:
        """The channel on `rows` [n] of f (None: all), with additive noise of standard deviation `tau` (unit of h)."""
        return GatedChannel(self.f if rows is None else self.f[rows], self.mu, self.sigma, tau)


def layer_law(
    net: nn.Module, x: NDArray[np.float32], layer: str, *, batch: int = 5000, seed: int | None = None
) -> LayerLaw:
    """The law of `layer` on the inputs `x`, in evaluation mode: closed and masked gates carry nothing.

    Args:
        net: any network; its mode is restored.
        x: [N, ...] inputs.
        layer: name of a gate on a dense layer; in a net without gates the name of the module whose output is meant
            ("relu1" is what the gate h1 would multiply).
        batch: inputs per forward pass.
        seed: None: the gates before are at their masked means, and the channel's information is I(h; x). An integer:
            they are sampled, once per input, and it is I(h_i; h_{i−1}) with h_{i−1} uniform on those N draws.

    Raises:
        InvalidInputError: no such module, or an activation that is not one number per unit.
    """
    names = [name for name, _ in net.named_modules() if name]
    if layer not in names:
        reject("layer", repr(layer), "one of " + ", ".join(names), "choose one of those names")
    gate = net.get_submodule(layer)
    f = _activations(net, gate, x, batch, seed)
    if f.ndim != 2:
        reject("layer", f"{layer!r} with activations {list(f.shape[1:])}", "a dense layer, [N, d]",
               "choose a dense layer: units of a map share one gate and are not independent given x")  # fmt: skip
    width = f.shape[1]
    if not isinstance(gate, Gate):
        return LayerLaw(f.numpy(), np.ones(width), np.zeros(width))
    keep = gate.keep.cpu().numpy()
    mu, sigma = (value.detach().double().cpu().numpy() for value in (gate.mu, gate.sigma))
    return LayerLaw(f.numpy(), np.where(keep, mu, 0.0), np.where(keep, sigma, 0.0))


def _activations(net: nn.Module, module: nn.Module, x: NDArray[np.float32], batch: int, seed: int | None) -> Tensor:
    """[N, ...] what enters `module` if it is a gate, else what leaves it."""
    place = next(net.parameters()).device
    with evaluating(net, () if seed is None else named_gates(net).values(), seed):
        starts = range(0, len(x), batch)
        return torch.cat([activation(net, module, torch.from_numpy(x[i : i + batch]).to(place)).cpu() for i in starts])
