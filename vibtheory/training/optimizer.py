"""Where gates start, and the optimizer of weights and gates: its two groups, and what a checkpoint keeps of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam as functional_adam

from vibtheory.networks.gates import Gate, GateLaw
from vibtheory.training.recipe import Recipe

__all__ = ["adam", "initialise_gates", "load_optimizer", "optimizer_tensors", "update"]

_ADAM = {"step", "exp_avg", "exp_avg_sq"}


def initialise_gates(gates: dict[str, GateLaw], recipe: Recipe) -> None:
    """Where the recipe lets normal gates (VIB's, BC-GNJ's) start; as they are where it does not say."""
    start = recipe.initial_log_variance
    for gate in gates.values():
        if not isinstance(gate, Gate):
            continue
        if start is not None:
            nn.init.constant_(gate.log_var, start)
        if recipe.initial_spread:
            nn.init.normal_(gate.mu, 1.0, recipe.initial_spread)
            nn.init.normal_(gate.log_var, -9.0 if start is None else start, recipe.initial_spread)


def adam(
    parameters: Iterable[Tensor], of_gates: Iterable[Tensor], recipe: Recipe, *, capturable: bool = False
) -> torch.optim.Optimizer:
    """Adam on all `parameters`; those `of_gates` in a second group with a learning rate and a decay of their own."""
    second = list(of_gates)
    own = {id(p) for p in second}
    groups = [
        {
            "params": [p for p in parameters if id(p) not in own],
            "lr": recipe.learning_rate,
            "weight_decay": recipe.weight_decay,
        },
        {"params": second, "lr": recipe.gate_learning_rate, "weight_decay": recipe.gate_weight_decay},
    ]
    return torch.optim.Adam(groups, fused=True, capturable=capturable)


@torch.no_grad()
def update(optimizer: torch.optim.Optimizer) -> None:
    """optimizer.step() of `adam`'s, without what that looks up, logs and checks anew each time."""
    found = [[p for p in group["params"] if p.grad is not None] for group in optimizer.param_groups]
    if any(group["capturable"] for group in optimizer.param_groups) or any(
        p not in optimizer.state for parameters in found for p in parameters
    ):
        optimizer.step()
        return
    for group, parameters in zip(optimizer.param_groups, found, strict=True):
        if not parameters:
            continue
        states = [optimizer.state[p] for p in parameters]
        functional_adam(
            parameters,
            [p.grad for p in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            eps=group["eps"],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
        )


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What Adam remembers of each of the named `parameters`."""
    return {
        f"optimizer.{name}:{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Give it back. Raises ValueError unless it is whole, and of the parameters' shapes."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            name, _, what = key.removeprefix("optimizer.").rpartition(":")
            if not value.is_floating_point() or value.shape != (() if what == "step" else parameters[name].shape):
                raise ValueError(f"{key} has shape {list(value.shape)} and type {value.dtype}")
            found.setdefault(name, {})[what] = value
    if any(set(what) != _ADAM for what in found.values()):
        raise ValueError("the optimizer's state is incomplete")
    for name, states in found.items():
        parameter = parameters[name]
        for what, value in states.items():
            # the step count too: a fused Adam keeps it on the device; moments in their parameter's memory layout
            moment = value.shape == parameter.shape
            value = value.to(parameter.device)
            kept = torch.empty_like(parameter.detach()).copy_(value) if moment else value.clone()
            optimizer.state[parameter][what] = kept
