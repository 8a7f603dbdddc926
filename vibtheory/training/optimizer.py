"""Where gates start, and the optimizer of weights and gates: its two groups, and what a checkpoint keeps of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from vibtheory.networks.gates import Gate, GateLaw
from vibtheory.training.recipe import Recipe

__all__ = ["Optimizer", "initialise_gates", "load_optimizer", "optimizer_tensors"]

_MOMENTUM = 0.9
_REMEMBERED = {"adam": {"step", "exp_avg", "exp_avg_sq"}, "sgd": {"momentum_buffer"}}


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


class Optimizer(torch.optim.Optimizer):
    """Adam on gates, Adam or gradient descent with Nesterov's momentum of 0.9 on weights; fused where they are real.

    Args:
        parameters: to be learned, those of the gates among them.
        of_gates: those in the second group, with a learning rate and a decay of their own, and Adam always.
        recipe: its rates, decays and `weight_optimizer`.
        capturable: whether a CUDA graph will record the step.
    """

    def __init__(
        self, parameters: Iterable[Tensor], of_gates: Iterable[Tensor], recipe: Recipe, *, capturable: bool = False
    ) -> None:
        gates = list(of_gates)
        own = {id(p) for p in gates}
        self._capturable = capturable
        groups: list[dict[str, Any]] = [
            {
                "params": [p for p in parameters if id(p) not in own],
                "rule": recipe.weight_optimizer,
                "lr": recipe.learning_rate,
                "weight_decay": recipe.weight_decay,
            },
            {
                "params": gates,
                "rule": "adam",
                "lr": recipe.gate_learning_rate,
                "weight_decay": recipe.gate_weight_decay,
            },
        ]
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = [p.grad for p in parameters]
            states = [self._state_of(p, group["rule"]) for p in parameters]
            fused = not any(p.is_complex() for p in parameters)  # torch's fused steps are for real numbers
            common = {"fused": fused, "maximize": False, "lr": group["lr"], "weight_decay": group["weight_decay"]}
            if group["rule"] == "sgd":
                moments: list[Tensor | None] = [state["momentum_buffer"] for state in states]
                sgd(parameters, gradients, moments, momentum=_MOMENTUM, dampening=0, nesterov=True, **common)
            else:
                first, second, steps = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
                adam(parameters, gradients, first, second, [], steps, amsgrad=False, beta1=0.9, beta2=0.999, eps=1e-8,
                     capturable=self._capturable, **common)  # fmt: skip

    def _state_of(self, parameter: Tensor, rule: str) -> dict[str, Tensor]:
        """What `rule` remembers of a parameter: zeros before its first step."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            if rule == "adam":
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for key in sorted(_REMEMBERED[rule] - {"step"}):
                state[key] = torch.zeros_like(parameter)
        return state


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What it remembers of each of the named `parameters`."""
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
            numbers = value.is_floating_point() or value.is_complex()
            if not numbers or value.shape != (() if what == "step" else parameters[name].shape):
                raise ValueError(f"{key} has shape {list(value.shape)} and type {value.dtype}")
            found.setdefault(name, {})[what] = value
    rules = {id(p): group["rule"] for group in optimizer.param_groups for p in group["params"]}
    if any(set(what) != _REMEMBERED[rules[id(parameters[name])]] for name, what in found.items()):
        raise ValueError("the optimizer's state is incomplete")
    for name, states in found.items():
        parameter = parameters[name]
        for what, value in states.items():
            # the step count too: a fused Adam keeps it on the device; moments in their parameter's memory layout
            moment = value.shape == parameter.shape
            value = value.to(parameter.device)
            kept = torch.empty_like(parameter.detach()).copy_(value) if moment else value.clone()
            optimizer.state[parameter][what] = kept
