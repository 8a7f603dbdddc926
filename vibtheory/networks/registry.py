"""Networks remember how they were built, so that a saved run can be loaded by itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

import numpy as np
from torch import nn

from vibtheory.errors import CheckpointError, InvalidInputError

__all__ = ["build", "builder", "description"]

P = ParamSpec("P")
_BUILDERS: dict[str, Callable[..., nn.Sequential]] = {}


def builder(function: Callable[P, nn.Sequential]) -> Callable[P, nn.Sequential]:
    """Decorate a function that builds a network: `description(net)` then says which, with which arguments."""
    name = function.__name__
    signature = inspect.signature(function)

    @functools.wraps(function)
    def build_and_note(*args: P.args, **kwargs: P.kwargs) -> nn.Sequential:
        net = function(*args, **kwargs)
        arguments = signature.bind(*args, **kwargs).arguments
        plain = {key: np.asarray(value).tolist() for key, value in arguments.items()}
        object.__setattr__(net, "vib_network", {"builder": name, "arguments": plain})
        return net

    _BUILDERS[name] = build_and_note
    return build_and_note


def description(net: nn.Module) -> dict[str, Any] | None:
    """Which builder made `net`, and with which arguments (plain JSON types); None for a network of one's own."""
    found: dict[str, Any] | None = getattr(net, "vib_network", None)
    return found


def build(description: dict[str, Any] | None) -> nn.Sequential:
    """The network of a `description`, with fresh weights.

    Raises:
        CheckpointError: no description (a network of one's own), an unknown builder, or arguments it does not take.
    """
    name = description.get("builder") if isinstance(description, dict) else None
    if name is None:
        raise CheckpointError(
            "net: got None for a run of a network of your own, which no name stands for. "
            "Remedy: build it as it was for training and pass it as net=…"
        )
    if name not in _BUILDERS:
        raise CheckpointError(
            f"net: no network {name!r} here, expected one of {', '.join(_BUILDERS)}. Remedy: correct the name; "
            "to load a run of another network, build it as it was for training and pass it as net=…"
        )
    assert description is not None
    try:
        return _BUILDERS[name](**description.get("arguments", {}))
    except (TypeError, InvalidInputError) as error:
        raise CheckpointError(
            f"net: {name} does not take {description.get('arguments')!r} ({error}), expected its arguments. "
            "Remedy: correct them; a run's JSON file is restored from a copy"
        ) from error
