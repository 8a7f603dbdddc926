"""−log q(y|h_L) of a network's outputs, and whether network and data fit each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy

from vibtheory.errors import VibTheoryError, reject
from vibtheory.networks.forward import called, precision_of

__all__ = ["check_fit", "check_net", "check_numbers", "likelihood_loss", "outputs_of"]


def likelihood_loss(outputs: Tensor, targets: Tensor, likelihood: str) -> Tensor:
    """Mean −log q(y|h_L) in nats: softmax cross-entropy, or ½‖y − ŷ‖² (unit variance, without its constant)."""
    if likelihood == "gaussian":
        return 0.5 * (outputs - targets.reshape(outputs.shape)).square().sum(dim=1).mean()
    return functional.cross_entropy(outputs, targets)


def check_net(argument: str, net: object) -> None:
    """Raise InvalidInputError about `argument` unless `net` is a module."""
    if not isinstance(net, nn.Module):
        given = "the class" if isinstance(net, type) else "the function" if callable(net) else type(net).__name__
        named = f"{given} {getattr(net, '__name__', '')}".strip()
        reject(argument, named, "a torch.nn.Module", "call what makes it, and pass the result")


def check_numbers(argument: str, net: nn.Module) -> None:
    """Raise InvalidInputError about `argument` if a weight of `net` is NaN, or has no values."""
    if any(map(is_lazy, net.parameters())):
        reject(argument, "lazy layers that have no weights yet", "a model that has run once", "call model(x[:2]) first")
    if any(weight.is_meta for weight in net.parameters()):
        reject(argument, 'weights on the device "meta"', "weights with values", "load them: to_empty, load_state_dict")
    if names := [name for name, w in net.named_parameters() if w.is_floating_point() and w.isnan().any()]:
        got = f"weights that are NaN ({', '.join(map(repr, names[:3]))})"
        reject(argument, got, "finite weights", "load them as they were before training diverged")


def outputs_of(net: nn.Module, x: Tensor) -> Tensor:
    """net(x), on a copy of x. InvalidInputError where its forward pass takes more than one tensor, or returns none."""
    try:
        outputs: Any = called(net, (x.clone(),))  # a first layer may work in place
    except TypeError as error:
        reject("net", f"a forward pass that does not take one tensor ({error})", "net(x) of one tensor x [N, ...]",
               "wrap it in a module that splits its input")  # fmt: skip
    if not isinstance(outputs, Tensor):
        reject("net", f"outputs of type {type(outputs).__name__}", "one tensor, [N, K]",
               "wrap it in a module whose forward returns that tensor alone")  # fmt: skip
    return outputs


def check_fit(net: nn.Module, x: Tensor, y: Tensor, likelihood: str) -> int:
    """The number of outputs K. InvalidInputError unless `net` takes inputs like x [N, ...] and they fit every y."""
    net.eval()
    own = precision_of(net)
    if x.is_floating_point() and own != x.dtype and any(p.is_floating_point() for p in net.parameters()):
        reject("net", f"weights of {own}", f"{x.dtype}, as the data", "call net.float(); amp=True computes in bfloat16")
    remedy = "check the input shape and number of outputs"
    try:
        with torch.no_grad():
            outputs = outputs_of(net, x[:2])
        if outputs.ndim != 2:
            raise ValueError(f"outputs are {list(outputs.shape)}, not [N, K]; end the net in Flatten()")
        likelihood_loss(outputs.float(), torch.zeros_like(y[: len(x[:2])]), likelihood)
    except (RuntimeError, ValueError, IndexError, VibTheoryError) as error:
        if isinstance(error, VibTheoryError) and str(error).startswith("net: "):
            raise
        if x.is_floating_point() and any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in net.modules()):
            remedy = "begin its forward with x = x.long(): a data set holds float32, whole numbers exactly to 2**24"
        shapes = f"inputs {list(x.shape[1:])} and targets {list(y.shape[1:])} ({str(error).splitlines()[0]})"
        reject("data", shapes, "what the network takes and returns", remedy)
    if likelihood == "multinomial" and not 0 <= int(y.min()) <= int(y.max()) < outputs.shape[1]:
        labels = f"labels {int(y.min())} … {int(y.max())}"
        reject("data", labels, f"0 … {outputs.shape[1] - 1}, one output per class", remedy)
    return outputs.shape[1]
