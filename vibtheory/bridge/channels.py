"""The law of a network's layer given its input: where a trained (or plain) net becomes a `GatedChannel`.

I(h; x) of one layer is taken with the gates before it at their masked means (F): sampled ones would make
h given x a mixture instead of a Gaussian. With them sampled, h is Gaussian given the layer before: I(h_i; h_{i−1}).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from vibtheory.errors import as_seed, as_whole, check_choice, check_type, reject
from vibtheory.information.channel import GatedChannel
from vibtheory.networks.forward import activation, device_of, evaluating, is_dense, precision_of, takes_float_tokens
from vibtheory.networks.gates import Gate, GateLaw, named_gates
from vibtheory.networks.likelihood import check_numbers

__all__ = ["Inputs", "LayerLaw", "as_batches", "layer_law"]

Inputs = ArrayLike | Tensor | Iterable[Any]
"""Inputs of a network: [N, ...] as an array or a tensor, or batches (a `DataLoader`), of which the first part is x."""


@dataclass(frozen=True, eq=False)
class LayerLaw:
    """What decides the law of h given x: h = f(x) ⊙ (μ + σ⊙ε), up to additive noise.

    Attributes:
        f: [N, d] activations before the gate; of a map, channels and positions flattened.
        mu: [d] the gate's means, 0 where it is masked; 1 for a layer without gates.
        sigma: [d] its standard deviations, 0 where it is masked; 0 for a layer without gates.
        held: names of the gates and dropouts before the layer, which were held at their means (not with a seed).
    """

    f: NDArray[np.floating[Any]]
    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    held: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """Root mean square of h's standard deviation over the units that vary, without additive noise; 0 if none."""
        f = self.f.astype(np.float64)
        varies = ((np.ptp(f, axis=0) > 0) & (self.mu != 0)) | ((f != 0).any(axis=0) & (self.sigma != 0))
        variance = f.var(axis=0) * self.mu**2 + (f**2).mean(axis=0) * self.sigma**2
        return float(np.sqrt(variance[varies].mean())) if varies.any() else 0.0

    def channel(self, tau: float = 0.0, rows: NDArray[np.intp] | None = None) -> GatedChannel:
        """The channel on `rows` [n] of f (None: all), with additive noise of standard deviation `tau` (unit of h)."""
        return GatedChannel(self.f if rows is None else self.f[rows], self.mu, self.sigma, tau)


def layer_law(
    net: nn.Module, x: Inputs, layer: str, *, batch: int = 5000, seed: int | None = None, call: int | None = None
) -> LayerLaw:
    """The law of `layer` on the inputs `x`, in evaluation mode: closed and masked gates carry nothing.

    Args:
        net: any network; its mode is restored.
        x: [N, ...] inputs, or batches of them (`Inputs`); real ones are taken in the network's precision.
        layer: name of a gate on a dense layer; in a net without gates the name of the module whose output is meant
            ("relu1" is what the gate h1 would multiply), a convolution's too.
        batch: inputs per forward pass, where `x` is one array.
        seed: None: gates and dropout before are at their means, and the channel's information is I(h; x). An integer:
            they are sampled, once per input, and it is I(h_i; h_{i−1}) with h_{i−1} uniform on those N draws. A dropout
            is sampled like those before it: given x its output is a mixture, which no channel is.
        call: which call of the module is meant, counted from 0, where a forward pass calls it several times.

    Raises:
        InvalidInputError: no such module, a gate on a map or with other than normal noise, no tensor, several calls,
            inputs that the network does not take, or (without a seed) a dropout, or a forward pass that is random in
            evaluation mode.
    """
    check_type("net", net, nn.Module, "pass a torch network")
    check_choice("layer", layer, [name for name, _ in net.named_modules() if name])
    seed = None if seed is None else as_seed("seed", seed)
    module = net.get_submodule(layer)
    if isinstance(module, GateLaw) and not isinstance(module, Gate):
        reject("layer", f"{layer!r}, a gate of the law {module.law!r}", "a gate whose noise is normal",
               "choose the module before it: what it gives is a layer too")  # fmt: skip
    if seed is None and isinstance(module, _DropoutNd) and module.p > 0:
        reject("layer", f"{layer!r}, a dropout, whose output given x is a mixture", "a layer that is Gaussian given x",
               "sample it: upstream='sampled' of information_of, seed=0 of layer_law; or name the module before "
               "it")  # fmt: skip
    batches = as_batches(net, x, batch)
    noisy: dict[str, nn.Module] = {
        name: part
        for name, part in net.named_modules()
        if isinstance(part, _DropoutNd) or (isinstance(part, GateLaw) and part is not module)
    }
    sampled = () if seed is None else named_gates(net).values()
    with evaluating(net, sampled, 0 if seed is None else seed), takes_float_tokens(net):
        for part in noisy.values():
            part.training = seed is not None and isinstance(part, _DropoutNd)
        f = torch.cat([_activation(net, module, part, call) for part in batches])
        if not f.isfinite().all():
            check_numbers("net", net)
            reject("x", f"inputs at which {layer!r} is NaN or infinite", "finite activations", "leave those rows out")
        first = batches[0][:8]
        if seed is None and not torch.equal(*(_activation(net, module, first, call) for _ in range(2))):
            reject("net", f"a forward pass that is random before {layer!r}, in evaluation too", "a deterministic one",
                   "pass seed=0 to sample it, once per input, or take its noise out")  # fmt: skip
        held = () if seed is not None else _called_before(net, module, noisy, first)
    if isinstance(module, Gate):
        if f.ndim != 2:
            reject("layer", f"{layer!r} with activations {list(f.shape[1:])}", "a dense layer, [N, d]",
                   "choose a dense layer: units of a map share one gate and are not independent given x")  # fmt: skip
        keep = module.keep.cpu().numpy()
        mu, sigma = (value.detach().double().cpu().numpy() for value in (module.mu, module.sigma))
        return LayerLaw(f.numpy(), np.where(keep, mu, 0.0), np.where(keep, sigma, 0.0), held)
    flat = f.flatten(1) if f.ndim > 1 else f[:, None]
    return LayerLaw(flat.numpy(), np.ones(flat.shape[1]), np.zeros(flat.shape[1]), held)


def _called_before(net: nn.Module, module: nn.Module, parts: dict[str, nn.Module], x: Tensor) -> tuple[str, ...]:
    called: list[str] = []
    watches = [
        part.register_forward_pre_hook(lambda *_, name=name: called.append(name)) for name, part in parts.items()
    ]
    try:
        activation(net, module, x, stop=True)
    finally:
        for watch in watches:
            watch.remove()
    return tuple(dict.fromkeys(called))


def as_batches(net: nn.Module, x: Inputs, batch: int) -> list[Tensor]:
    """`x` as tensors of at most `batch` rows (or the batches it comes in), where `net` is and in its precision.

    Raises:
        InvalidInputError: about x: no numbers, or none at all; about batch: no whole number >= 1.
    """
    batch = as_whole("batch", batch, 1)
    if isinstance(x, list | tuple) or hasattr(x, "__array__"):  # a data frame too, which iterates over its names
        whole = _tensor(x)
        found = list(torch.split(whole, batch)) if whole.ndim else []
    elif not isinstance(x, Iterable):
        reject("x", type(x).__name__, "inputs [N, ...] or batches of them", "pass an array, a tensor or a DataLoader")
    else:
        found = [_tensor(part[0] if isinstance(part, list | tuple) else part) for part in x]
    if not found or not all(len(part) for part in found):
        reject("x", "no inputs", "at least one", "pass inputs [N, ...], or batches of them")
    place, own = device_of(net), precision_of(net)
    return [part.to(place, own if part.is_floating_point() else part.dtype) for part in found]


def _tensor(x: Any) -> Tensor:
    if isinstance(x, Tensor) and x.ndim and not is_dense(x):
        reject("x", f"a tensor, {x.layout} on {x.device}", "numbers [N, ...]", "pass x.to_dense(), with its values")
    if np.ma.is_masked(x):
        reject("x", "a masked array", "one without masked entries", "leave those rows out, or pass x.filled(…)")
    try:
        return x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.ascontiguousarray(x))
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a list of tensors with gradients
        reject("x", f"{type(x).__name__} ({error})", "numbers [N, ...]", "pass an array, a tensor or a DataLoader")


def _activation(net: nn.Module, module: nn.Module, x: Tensor, call: int | None) -> Tensor:
    try:
        found = activation(net, module, x, call=call).cpu()
    except (RuntimeError, TypeError, IndexError) as error:  # torch's own, at inputs of another shape or kind
        reject("x", f"inputs {list(x.shape)} of {x.dtype} ({str(error).splitlines()[0]})", "what the network takes",
               "pass inputs as its forward pass wants them")  # fmt: skip
    if found.ndim == 0 or len(found) != len(x):
        reject("layer", f"a module that gives {list(found.shape)} for {len(x)} inputs", "[N, ...], a row per input",
               "choose one whose first axis is the examples")  # fmt: skip
    return found.float() if found.dtype == torch.bfloat16 else found  # NumPy has none
