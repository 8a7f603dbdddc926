"""The gate: z = μ + σ⊙ε multiplies a layer's activation, and what a gate costs is information (poster, eq. (*)).

A unit survives where its signal-to-noise ratio α = μ²/σ² stays above a threshold. Everything is computed from
log α = log μ² − log σ², so that σ → 0 and μ → 0 are safe in float32 and bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vibtheory.errors import InvalidInputError, reject

__all__ = [
    "Gate",
    "gate_information",
    "joint_information",
    "log1p_alpha",
    "named_gates",
    "objective",
    "unit_prices",
]


class Gate(nn.Module):
    """One stochastic gate per unit (dense layers) or channel (convolutions).

    Args:
        features: number of gated units d.
        multiplier: s ≥ 0, the layer's weight on its information in `objective`: 1 for a dense layer, H·W of the
            convolution's output (times a recipe's factor) for a convolution. "One convention for the price".
        threshold: a unit is kept while α > threshold (and μ ≠ 0).
        axis: the units' axis in the activation: 1 for [N, d, ...], -1 for token models, [N, T, d].
        mean, log_variance: initial μ and log σ².

    Attributes:
        mu: Parameter [d], the gate's mean μ.
        log_var: Parameter [d], log σ².
        active: boolean buffer [d]; False where `close` has shut a gate for good: z = 0 there, α = 0, no information.
        sample_in_eval: `eval()` multiplies by μ⊙keep; set True to sample z on the kept units instead, and average
            the outputs of several passes.
        union: (n, start): draw noise for n examples and take the rows from `start` on. Processes that share a
            batch of n thus use the noise that one process would; None: the batch is all there is.

    Raises:
        InvalidInputError: features < 1, multiplier < 0, threshold < 0 or axis 0.
    """

    mu: nn.Parameter
    log_var: nn.Parameter
    active: Tensor

    def __init__(
        self,
        features: int,
        *,
        multiplier: float = 1.0,
        threshold: float = 1.0,
        axis: int = 1,
        mean: float = 1.0,
        log_variance: float = -9.0,
    ) -> None:
        super().__init__()
        if isinstance(features, bool) or not isinstance(features, int) or features < 1:
            reject("features", features, "an integer >= 1", "pass the number of units or channels")
        if not multiplier >= 0:
            reject("multiplier", multiplier, "a number >= 0", "use 1 for dense layers, H*W for convolutions")
        if not threshold >= 0:
            reject("threshold", threshold, "a number >= 0", "use 1, the value at which signal equals noise")
        if axis == 0:
            reject("axis", axis, "any axis but 0", "axis 0 holds the examples; units are on axis 1 or -1")
        self.features = features
        self.axis = axis
        self.multiplier = float(multiplier)
        self.threshold = float(threshold)
        self.sample_in_eval = False
        self.union: tuple[int, int] | None = None
        self.mu = nn.Parameter(torch.full((features,), float(mean)))
        self.log_var = nn.Parameter(torch.full((features,), float(log_variance)))
        self.register_buffer("active", torch.ones(features, dtype=torch.bool))

    @property
    def sigma(self) -> Tensor:
        """σ [d]: the gate's standard deviation, same unit as μ."""
        return torch.exp(0.5 * self.log_var)

    @property
    def log_alpha(self) -> Tensor:
        """log α [d] in float32; −∞ at μ = 0 and where the gate was closed for good."""
        log_alpha = 2 * torch.log(self.mu.float().abs()) - self.log_var.float()
        return log_alpha.masked_fill(~self.active, -torch.inf)

    @property
    def alpha(self) -> Tensor:
        """α = μ²/σ² [d], the signal-to-noise ratio (never its inverse); 0 at μ = 0."""
        return torch.exp(self.log_alpha)

    @property
    def keep(self) -> Tensor:
        """Boolean [d]: units whose α exceeds the threshold."""
        log_threshold = math.log(self.threshold) if self.threshold > 0 else -math.inf
        return self.log_alpha.detach() > log_threshold

    def information(self) -> Tensor:
        """½ Σ_j log(1 + α_j), a scalar in nats, differentiable (docs/theory.md P2; the multiplier is not included)."""
        return 0.5 * (log1p_alpha(self.mu, self.log_var) * self.active).sum()

    def mean(self) -> Tensor:
        """μ ⊙ keep [d]: what `eval()` multiplies by, and what compression folds into the weights."""
        return torch.where(self.keep, self.mu, torch.zeros_like(self.mu))

    def close(self, units: Tensor) -> None:
        """Shut `units` (boolean [d] or indices) for good: they pass nothing on and carry no information from now on."""
        self.active[units] = False

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
        open_ = self.active if self.training else self.keep
        mu, sigma = self.mu * open_, self.sigma * open_
        n, start = self.union or (h.shape[0], 0)
        noise = torch.randn(n, self.features, device=h.device, dtype=mu.dtype)[start : start + h.shape[0]]
        z = torch.addcmul(mu, sigma, noise)  # [N, d]
        return h * z.to(h.dtype).view(h.shape[0], *shape[1:])

    def extra_repr(self) -> str:
        axis = "" if self.axis == 1 else f", axis={self.axis}"
        return f"{self.features}, multiplier={self.multiplier:g}, threshold={self.threshold:g}{axis}"


def log1p_alpha(mu: Tensor, log_var: Tensor) -> Tensor:
    """log(1 + μ²/σ²) of mu [d] and log_var = log σ² [d], with finite gradients wherever both are finite.

    log(1 + α) = softplus(log α). At μ = 0 log α is −∞ and its gradient 0·∞, so the logarithm is taken of 1e-30 there
    and the result replaced by 0; |μ| below 1e-30 counts as 0 (its slope 2/μ would overflow float32).
    """
    magnitude = mu.float().abs()
    value = nn.functional.softplus(2 * torch.log(magnitude.clamp_min(1e-30)) - log_var.float())
    return value.masked_fill(magnitude < 1e-30, 0.0)


def named_gates(net: nn.Module) -> dict[str, Gate]:
    """The gates of `net` by layer name (their module path), in the order of the forward pass for our networks."""
    return {name: module for name, module in net.named_modules() if isinstance(module, Gate)}


def gate_information(net: nn.Module) -> dict[str, float]:
    """½ Σ_j log(1 + α_j) of each gate, in nats, by layer name; without gradients."""
    with torch.no_grad():
        return {name: float(gate.information()) for name, gate in named_gates(net).items()}


def objective(loss: Tensor, gates: Mapping[str, Gate], gamma: float | Mapping[str, float]) -> Tensor:
    """The training objective: mean loss + Σ_i γ_i s_i Σ_j ½ log(1 + α_ij), a scalar in nats per example.

    This is (*) of the poster divided by L: (*)'s γ is L γ_i s_i / 2 here ("One convention for the price").

    Args:
        loss: scalar, the data-set (or batch) mean of −log q(y|h_L), in nats.
        gates: gates by layer name, from `named_gates`.
        gamma: the price γ_i ≥ 0 of information, one number or one per layer name.

    Raises:
        InvalidInputError: `gamma` is a mapping that misses a layer.
    """
    total = loss
    for name, gate in gates.items():
        if isinstance(gamma, Mapping) and name not in gamma:
            reject("gamma", sorted(gamma), f"an entry for every gated layer: {list(gates)}", f"add {name!r}")
        price = gamma[name] if isinstance(gamma, Mapping) else gamma
        total = total + (price * gate.multiplier) * gate.information()
    return total


def unit_prices(gates: Mapping[str, Gate], price: float | Mapping[str, float]) -> Tensor:
    """½ γ_i s_i of every gated unit, layer after layer [Σd]: nats of objective per nat of log(1+α).

    `gates` and `price` are as in `objective`.
    """
    layers = []
    for name, gate in gates.items():
        gamma = price[name] if isinstance(price, Mapping) else price
        layers.append(0.5 * gamma * gate.multiplier * gate.active.float())
    return torch.cat(layers)


def joint_information(gates: Mapping[str, Gate], prices: Tensor) -> Tensor:
    """Σ_i γ_i s_i Σ_j ½ log(1 + α_ij), a scalar: what `objective` adds to the loss, in few kernels.

    Args:
        gates: gates by layer name.
        prices: from `unit_prices`.
    """
    mu = torch.cat([gate.mu for gate in gates.values()])
    log_var = torch.cat([gate.log_var for gate in gates.values()])
    return torch.dot(log1p_alpha(mu, log_var), prices)
