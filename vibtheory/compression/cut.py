"""Physical compression: a gated network becomes a plain, smaller torch model with the same outputs."""

from __future__ import annotations

from typing import Any

from torch import nn

from vibtheory.compression.chain import compress_chain, unshared
from vibtheory.compression.graph import compress_graph
from vibtheory.errors import InvalidInputError, reject
from vibtheory.networks.gates import named_gates
from vibtheory.networks.sequential import ordered_modules

__all__ = ["compress"]


def compress(net: nn.Module, example_input: Any = None, *, fold_batchnorm: bool = False) -> nn.Module:
    """A plain torch model without gates, physically smaller, with the outputs of `net.eval()` to float rounding.

    Closed units and everything that only fed them are cut out; the means of the open gates move into the weights. Where
    inputs or single units of a flattened map were pruned, a `Select` keeps their index, so the small model accepts the
    original input. Chains (nested Sequentials of linear layers, convolutions, BatchNorm, pooling, Flatten) are cut by
    hand; other graphs through torch-pruning, where channels coupled by residual additions leave only if all are closed.

    Args:
        net: a gated network; unchanged.
        example_input: one input batch or a tuple of inputs; needed for models that are not chains.
        fold_batchnorm: also merge BatchNorm into the weights before it (chains; leave False to fine-tune).

    Returns:
        The small model in evaluation mode. Fine-tuning is ordinary training of it.

    Raises:
        InvalidInputError: no gates, a layer would vanish (the message names it), `example_input` missing where it is
            needed, or a model that cannot be cut without changing its outputs.
    """
    if not named_gates(net):
        remedy = "compress networks of vibtheory.networks, or call vibtheory.insert_gates and train first"
        reject("net", f"{type(net).__name__} without gates", "a gated network", remedy)
    if isinstance(net, nn.Sequential) and _is_chain(net):
        return compress_chain(net, fold_batchnorm=fold_batchnorm)
    if fold_batchnorm:
        reject("fold_batchnorm", True, "False for a model that is not a chain", "leave it out")
    if example_input is None:
        reject("example_input", None, "an input batch, since the model is not a chain", "pass example_input=x[:2]")
    example = example_input if isinstance(example_input, tuple) else (example_input,)
    return compress_graph(net, example)


def _is_chain(net: nn.Sequential) -> bool:
    """A chain whose units stay on axis 1, so that a Flatten makes consecutive units of each."""
    if any(gate.axis not in (1, -1) for gate in named_gates(net).values()):
        return False
    try:
        modules = ordered_modules(unshared(net))
    except InvalidInputError:
        return False
    tokens = any(gate.axis == -1 for gate in named_gates(net).values())
    return not (tokens and any(isinstance(m, (nn.Flatten, nn.BatchNorm1d, nn.Conv2d)) for _, m in modules))
