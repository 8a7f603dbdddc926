"""What every gate law shares: z multiplies a layer's activation, and a law says how z is drawn and what it costs.

A law (a file beside this one) is four things: `sample` (z while training), `mean` (what evaluation multiplies by, and
compression folds into the weights), `penalty` (what training pays the price γ for) and `keep` (which units stay).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from vibtheory.errors import InvalidInputError, as_indices, as_scalar, reject, shown

__all__ = ["GateLaw", "gate_information", "named_gates", "objective"]


class GateLaw(nn.Module):
    """One stochastic gate per unit (dense layers) or channel (convolutions), of a law that a subclass says.

    Args:
        features: number of gated units d.
        multiplier: s ≥ 0, the layer's weight on its penalty in `objective`: 1 for a dense layer, H·W of the
            convolution's output (times a recipe's factor) for a convolution: docs/theory.md, "The price".
        threshold: ≥ 0; a unit is kept while its law's measure exceeds it; None: the law's own, `usual_threshold`.
        axis: the units' axis in the activation: 1 for [N, d, ...], -1 for token models, [N, T, d].
        options: the law's further arguments, numbers; `options` of its class has their usual values.

    Attributes:
        law: its name, as `make_gate` and `insert_gates` take it.
        usual_threshold, options: the law's own threshold; its further arguments with their usual values.
        starts: which option each of its parameters [d] starts at.
        per_input: whether z in `eval()` is a function of the input, so that no smaller net computes the same.
        active: boolean buffer [d]; False where `close` has shut a gate for good: z = 0 there, and no penalty.
        sample_in_eval: `eval()` multiplies by `mean()`; set True to sample z on the kept units instead, and average
            the outputs of several passes.
        union: (n, start): draw noise for n examples and take the rows from `start` on. Processes that share a
            batch of n thus use the noise that one process would; None: the batch is all there is.

    Raises:
        InvalidInputError: features < 1, multiplier < 0, threshold < 0, axis 0, or an option that the law lacks.
    """

    law: ClassVar[str]
    usual_threshold: ClassVar[float] = 0.0
    options: ClassVar[Mapping[str, float]] = {}
    starts: ClassVar[Mapping[str, str]] = {}
    per_input: ClassVar[bool] = False
    active: Tensor

    def __init__(
        self, features: int, *, multiplier: float = 1.0, threshold: float | None = None, axis: int = 1, **options: float
    ) -> None:
        super().__init__()
        threshold = self.usual_threshold if threshold is None else threshold
        if unknown := [name for name in options if name not in self.options]:
            known = ", ".join(("multiplier", "threshold", "axis", *self.options))
            reject("options", ", ".join(unknown), f"of {known}, for {self.law!r}", "leave the others out")
        if isinstance(features, bool) or not isinstance(features, int) or features < 1:
            reject("features", features, "an integer >= 1", "pass the number of units or channels")
        self.multiplier, self.threshold = as_scalar("multiplier", multiplier), as_scalar("threshold", threshold)
        if self.multiplier < 0:
            reject("multiplier", multiplier, "a number >= 0", "use 1 for dense layers, H*W for convolutions")
        if self.threshold < 0:
            reject("threshold", threshold, "a number >= 0", "leave it out for the law's own")
        if not isinstance(axis, int) or axis == 0:
            reject("axis", shown(axis), "any axis but 0", "axis 0 holds the examples; units are on axis 1 or -1")
        self.features = features
        self.axis = axis
        self.sample_in_eval = False
        self.union: tuple[int, int] | None = None
        self.register_buffer("active", torch.ones(features, dtype=torch.bool))
        self.given = {name: as_scalar(name, value) for name, value in {**self.options, **options}.items()}
        for name, option in self.starts.items():
            setattr(self, name, nn.Parameter(torch.full((features,), self.given[option], dtype=torch.float32)))

    def _draw(self, n: int, rows: slice) -> Tensor:
        """z [rows, d] before closed units are set to 0; noise is drawn for n examples."""
        raise NotImplementedError

    def _expectation(self) -> Tensor:
        """What evaluation multiplies a kept unit by, [d]."""
        raise NotImplementedError

    def _unit_penalty(self) -> Tensor:
        """Each unit's part of the penalty, [d]."""
        raise NotImplementedError

    def _measure(self) -> Tensor:
        """What the threshold is compared with, [d]."""
        raise NotImplementedError

    @property
    def open(self) -> Tensor:
        """Boolean [d]: the units that are sampled: while training all that are not closed for good, later the kept."""
        return self.active if self.training else self.keep

    @property
    def keep(self) -> Tensor:
        """Boolean [d]: units whose measure (the law says which) exceeds the threshold, and that are not closed."""
        return (self._measure().detach() > self.threshold) & self.active

    def sample(self, n: int, rows: slice = slice(None)) -> Tensor:
        """z [n, d] for n examples, or those of its `rows`; 0 where a unit is not open; differentiable."""
        return self._draw(n, rows) * self.open

    def mean(self) -> Tensor:
        """[d]: what `eval()` multiplies by, and what compression folds into the weights; 0 where not kept."""
        expectation = self._expectation()
        return torch.where(self.keep, expectation, torch.zeros_like(expectation))

    def penalty(self) -> Tensor:
        """A scalar, differentiable: the sum over the units that are not closed (the multiplier is not included)."""
        return (self._unit_penalty() * self.active).sum()

    def learned(self) -> list[nn.Parameter]:
        """What a recipe's learning rate and decay of the gates are for."""
        return list(self.parameters())

    def close(self, units: Tensor | list[int]) -> None:
        """Shut `units` (boolean [d] or indices) for good: they pass nothing on and cost nothing from now on."""
        closed = as_indices("units", units, self.features, "pass a boolean for each unit, or the numbers of some")
        self.active[torch.from_numpy(closed).to(self.active.device)] = False

    def forward(self, h: Tensor) -> Tensor:
        """h [N, d, ...] → h ⊙ z, with one z per example and unit, shared over positions."""
        if h.ndim < 2 or not -h.ndim < self.axis < h.ndim or h.shape[self.axis] != self.features:
            expected = f"[N, {self.features}, ...]" if self.axis == 1 else f"{self.features} units on axis {self.axis}"
            raise InvalidInputError(
                f"h: got shape {list(h.shape)}, expected {expected}. "
                f"Remedy: build the gate with the number of units (axis {self.axis}) of the activation it follows"
            )
        shape = [1] * h.ndim
        shape[self.axis] = self.features
        if not self.training and not self.sample_in_eval:
            return h * self.mean().to(h.dtype).view(shape)
        n, start = self.union or (h.shape[0], 0)
        return self._sampled(h, n, slice(start, start + h.shape[0]), shape)

    def _sampled(self, h: Tensor, n: int, rows: slice, shape: list[int]) -> Tensor:
        """h ⊙ z: z is that of the `rows` of n examples, and of `shape` but for its first axis."""
        return h * self.sample(n, rows).to(h.dtype).view(h.shape[0], *shape[1:])

    def extra_repr(self) -> str:
        law = "" if self.law == "vib" else f"{self.law!r}, "
        axis = "" if self.axis == 1 else f", axis={self.axis}"
        return f"{law}{self.features}, multiplier={self.multiplier:g}, threshold={self.threshold:g}{axis}"


def named_gates(net: nn.Module) -> dict[str, GateLaw]:
    """The gates of `net` by layer name (their module path), in the order of the forward pass for our networks."""
    return {name: module for name, module in net.named_modules() if isinstance(module, GateLaw)}


def gate_information(net: nn.Module) -> dict[str, float]:
    """Each gate's penalty by layer name, without gradients: for VIB's law ½ Σ_j log(1 + α_j), in nats."""
    with torch.no_grad():
        return {name: float(gate.penalty()) for name, gate in named_gates(net).items()}


def objective(loss: Tensor, gates: Mapping[str, GateLaw], gamma: float | Mapping[str, float]) -> Tensor:
    """The training objective: mean loss + Σ_i γ_i s_i penalty_i, a scalar in nats per example.

    With VIB's penalty ½ Σ_j log(1 + α_ij) this is (*) of the paper divided by L: (*)'s γ is L γ_i s_i / 2 here ("One
    convention for the price").

    Args:
        loss: scalar, the data-set (or batch) mean of −log q(y|h_L), in nats.
        gates: gates by layer name, from `named_gates`.
        gamma: the price γ_i ≥ 0 of the penalty, one number or one per layer name.

    Raises:
        InvalidInputError: `gamma` is a mapping that misses a layer.
    """
    total = loss
    for name, gate in gates.items():
        if isinstance(gamma, Mapping) and name not in gamma:
            reject("gamma", sorted(gamma), f"an entry for every gated layer: {list(gates)}", f"add {name!r}")
        price = gamma[name] if isinstance(gamma, Mapping) else gamma
        total = total + (price * gate.multiplier) * gate.penalty()
    return total
