"""The error of a network in `eval()`: with μ⊙keep, or averaged over S samples of the gates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.errors import as_seed, as_whole, check_choice, reject
from vibtheory.networks.forward import device_of, embeddings, evaluating, is_dense, precision_of, takes_float_tokens
from vibtheory.networks.gates import named_gates
from vibtheory.networks.likelihood import outputs_of

__all__ = ["Evaluation", "error", "evaluate"]

Array = NDArray[Any] | Tensor


@dataclass(frozen=True)
class Evaluation:
    """How well a network predicts a set of examples.

    Attributes:
        loss: mean −log q(y|h_L) per example in nats; for the Gaussian likelihood ½‖y − ŷ‖², which is −log q at unit
            variance without its constant.
        error: misclassified examples in percent; None for the Gaussian likelihood.
        examples: how many were evaluated.
        samples: gate samples averaged over; 0 means the gates' means.
    """

    loss: float
    error: float | None
    examples: int
    samples: int

    def __str__(self) -> str:
        error = "" if self.error is None else f"error {self.error:.2f} %, "
        how = f", mean of {self.samples} gate samples" if self.samples else ""
        return f"{error}loss {self.loss:.4f} nats on {self.examples} examples{how}"


def error(net: nn.Module, x: Array, y: Array, *, samples: int = 0, batch: int = 2000, seed: int = 0) -> float:
    """Misclassified examples in percent; see `evaluate`."""
    result = evaluate(net, x, y, samples=samples, batch=batch, seed=seed).error
    assert result is not None
    return result


def evaluate(
    net: nn.Module,
    x: Array,
    y: Array,
    *,
    likelihood: str = "multinomial",
    samples: int = 0,
    batch: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Loss and error of `net` in evaluation mode; the net, its mode and torch's random state are left as they were.

    Args:
        net: any module that maps [N, ...] to logits [N, K] (or predictions [N, K] for "gaussian").
        x: inputs [N, ...].
        y: labels [N] ("multinomial") or targets [N, K] ("gaussian").
        likelihood: "multinomial" or "gaussian".
        samples: 0: gates at μ⊙keep. S ≥ 1: sample the open gates S times and average the predictive distribution
            (the mean prediction for "gaussian").
        batch: examples per forward pass.
        seed: of the gate samples.

    Raises:
        InvalidInputError: no examples, x and y of different lengths, an unknown likelihood, batch < 1 or samples < 0,
            or outputs that are no tensor [N, K].
    """
    check_choice("likelihood", likelihood, ("multinomial", "gaussian"))
    for name, values in (("x", x), ("y", y)):
        if not isinstance(values, np.ndarray | Tensor) or not is_dense(values):
            reject(name, f"a {type(values).__name__}", "an array or a tensor [N, ...]", f"pass data.{name}_test")
    if len(x) != len(y) or len(x) == 0:
        reject("y", f"{len(y)} labels for {len(x)} inputs", "one label per input, at least one", "pass matching arrays")
    as_whole("batch", batch, 1, remedy="pass the number of examples per forward pass")
    as_whole("samples", samples, 0, remedy="0 uses the gates' means")
    seed = as_seed("seed", seed)
    place, own = device_of(net), precision_of(net)
    whole = bool(embeddings(net))  # tokens stay numbers
    loss, wrong = 0.0, 0
    sampled = named_gates(net).values() if samples else ()
    with torch.no_grad(), evaluating(net, sampled, seed), takes_float_tokens(net):
        for start in range(0, len(x), batch):
            inputs = _tensor(x[start : start + batch]).to(place)
            inputs = inputs if whole and not inputs.is_floating_point() else inputs.to(own)
            truth = _tensor(y[start : start + batch]).to(place)
            outputs = _predict(net, inputs, samples, likelihood)  # [n, K]
            _check_labels(truth, outputs.shape[1], likelihood)
            if likelihood == "gaussian":
                loss += float(0.5 * (outputs - truth.reshape(outputs.shape)).square().sum())
            else:
                loss += float(functional.nll_loss(outputs, truth.long(), reduction="sum"))
                wrong += int((outputs.argmax(dim=1) != truth).sum())
    percent = None if likelihood == "gaussian" else 100 * wrong / len(x)
    return Evaluation(loss / len(x), percent, len(x), samples)


def _predict(net: nn.Module, inputs: Tensor, samples: int, likelihood: str) -> Tensor:
    """log q(y|x) [n, K], or the mean prediction [n, K]; averaged over gate samples."""
    outputs = [outputs_of(net, inputs).double() for _ in range(max(samples, 1))]
    if outputs[0].ndim != 2:
        got, remedy = f"outputs of shape {list(outputs[0].shape)}", "leave out squeeze(1), or end the net in Flatten()"
        reject("net", got, "[N, K]", remedy)
    if likelihood == "gaussian":
        return torch.stack(outputs).mean(dim=0)
    return torch.logsumexp(torch.stack([o.log_softmax(dim=1) for o in outputs]), dim=0) - math.log(len(outputs))


def _check_labels(truth: Tensor, width: int, likelihood: str) -> None:
    if likelihood == "gaussian":
        if truth.numel() != len(truth) * width:
            reject("y", f"targets of shape {list(truth.shape[1:])}", f"[{width}]", "match the network's outputs")
    elif truth.ndim != 1 or int(truth.min()) < 0 or int(truth.max()) >= width:
        reject("y", "labels outside the network's outputs", f"[N] in 0 … {width - 1}", "check the number of classes")


def _tensor(values: Array) -> Tensor:
    return (
        values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    )  # a copy: torch takes no negative strides
