"""VIB's law: z = μ + σ⊙ε multiplies a layer's activation, and what a gate costs is information (paper, eq. (*)).

A unit survives where its signal-to-noise ratio α = μ²/σ² stays above a threshold. Everything is computed from
log α = log μ² − log σ², so that σ → 0 and μ → 0 are safe in float32 and bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vibtheory.errors import reject
from vibtheory.networks.gates.law import GateLaw, named_gates

__all__ = ["Gate", "add_information_gradient", "log1p_alpha", "unit_prices", "vib_gates"]


class Gate(GateLaw):
    """VIB's gate, one per unit (dense layers) or channel (convolutions).

    Args:
        features, multiplier, axis: see `GateLaw`.
        threshold: a unit is kept while α > threshold (and μ ≠ 0).
        mean, log_variance: initial μ and log σ².

    Attributes:
        mu: Parameter [d], the gate's mean μ.
        log_var: Parameter [d], log σ².

    Raises:
        InvalidInputError: as `GateLaw`.
    """

    law: ClassVar[str] = "vib"
    usual_threshold: ClassVar[float] = 1.0
    options: ClassVar[Mapping[str, float]] = {"mean": 1.0, "log_variance": -9.0}
    starts: ClassVar[Mapping[str, str]] = {"mu": "mean", "log_var": "log_variance"}
    mu: nn.Parameter
    log_var: nn.Parameter

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

    def penalty(self) -> Tensor:
        """`information`, a scalar."""
        return self.information()

    def sample(self, n: int, rows: slice = slice(None)) -> Tensor:
        """z = μ + σ⊙ε [n, d] for n examples, or those of its `rows`; 0 where a unit is not open."""
        return _factor(self.mu, self.log_var, self.open, _noise(n, self.mu)[rows])

    def _sampled(self, h: Tensor, n: int, rows: slice, shape: list[int]) -> Tensor:
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor
        if not torch.compiler.is_compiling() and any(map(wrapped, (h, self.mu, self.log_var))):
            return super()._sampled(h, n, rows, shape)
        noise = _noise(n, self.mu)[rows]
        place = [-1, *shape[1:]]
        gated: Tensor = _Gated.apply(h, self.mu, self.log_var, self.open, noise, place)  # type: ignore[no-untyped-call]
        return gated

    def _expectation(self) -> Tensor:
        return self.mu


def _noise(n: int, like: Tensor) -> Tensor:
    """ε [n, d]."""
    return torch.randn(n, len(like), dtype=like.dtype, device=like.device)


def _factor(mu: Tensor, log_var: Tensor, open_: Tensor, noise: Tensor) -> Tensor:
    """z = μ + σ⊙ε [n, d], 0 where a unit is not open; noise: ε [n, d]."""
    passes = open_.to(mu.dtype)
    return torch.addcmul(mu * passes, torch.exp(0.5 * log_var) * passes, noise)


class _Gated(torch.autograd.Function):
    """h ⊙ z as one step of the tape: a third of the kernels of its parts, and nothing kept but h, z and ε.

    dh = g⊙z, and with s = Σ_positions g⊙h: dμ = Σ_n s, d log σ² = ½σ ⊙ Σ_n s⊙ε. Derivatives of these are those of the
    plain expression.
    """

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, mu: Tensor, log_var: Tensor, open_: Tensor, noise: Tensor, shape: list[int]
    ) -> Tensor:
        z = _factor(mu, log_var, open_, noise).to(h.dtype).view(shape)
        ctx.save_for_backward(h, mu, log_var, open_, noise, z)
        return h * z

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        h, mu, log_var, open_, noise, z = ctx.saved_tensors
        if torch.is_grad_enabled():  # the caller wants to differentiate again
            out = h * _factor(mu, log_var, open_, noise).to(h.dtype).view_as(z)
            wanted = [t for t, needed in zip((h, mu, log_var), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(out, wanted, g, create_graph=True))
            return *(next(found) if needed else None for needed in ctx.needs_input_grad[:3]), None, None, None
        by_h, by_mu, by_log_var = ctx.needs_input_grad[:3]
        dh = g * z if by_h else None
        if not (by_mu or by_log_var):
            return dh, None, None, None, None, None
        positions = [axis for axis in range(1, h.ndim) if z.shape[axis] == 1 != h.shape[axis]]
        s = g * h
        if positions:
            s = s.sum(positions)  # a half-precision sum is rounded once, as its terms are: a copy of g⊙h costs more
        s = s.to(mu.dtype).view_as(noise)
        passes = open_.to(mu.dtype)
        dmu = s.sum(0) * passes
        dlog_var = s.mul_(noise).sum(0) * passes * torch.exp(0.5 * log_var) * 0.5
        return dh, dmu, dlog_var, None, None, None


def log1p_alpha(mu: Tensor, log_var: Tensor) -> Tensor:
    """log(1 + μ²/σ²) of mu [d] and log_var = log σ² [d], with finite gradients wherever both are finite.

    log(1 + α) = softplus(log α). At μ = 0 log α is −∞ and its gradient 0·∞, so the logarithm is taken of 1e-30 there
    and the result replaced by 0; |μ| below 1e-30 counts as 0 (its slope 2/μ would overflow float32).
    """
    magnitude = mu.float().abs()
    value = nn.functional.softplus(2 * torch.log(magnitude.clamp_min(1e-30)) - log_var.float())
    return value.masked_fill(magnitude < 1e-30, 0.0)


def vib_gates(net: nn.Module) -> dict[str, Gate]:
    """`named_gates` of a network whose gates all have VIB's law: what the theory is about.

    Raises:
        InvalidInputError: a gate of another law; the message names it.
    """
    found: dict[str, Gate] = {}
    for name, gate in named_gates(net).items():
        if gate.law != "vib" or not isinstance(gate, Gate):
            reject("net", f"a gate of the law {gate.law!r} at {name!r}", "VIB gates, which this analysis is about",
                   'build the network with law="vib"')  # fmt: skip
        found[name] = gate
    return found


def unit_prices(gates: Mapping[str, Gate], price: float | Mapping[str, float]) -> Tensor:
    """½ γ_i s_i of every gated unit, layer after layer [Σd]: nats of objective per nat of log(1+α).

    `gates` and `price` are as in `objective`.
    """
    layers = []
    for name, gate in gates.items():
        gamma = price[name] if isinstance(price, Mapping) else price
        layers.append(0.5 * gamma * gate.multiplier * gate.active.float())
    return torch.cat(layers)


@torch.no_grad()
def add_information_gradient(gates: Mapping[str, Gate], prices: Tensor) -> None:
    """Add to .grad of each learned μ and log σ² the gradient of Σ_i γ_i s_i Σ_j ½ log(1 + α_ij), in few kernels.

    That of `log1p_alpha`, bit for bit: with p = α/(1 + α), ∂ log(1 + α) = 2p/μ by μ and −p by log σ².

    Args:
        gates: gates by layer name.
        prices: from `unit_prices`, [Σd].
    """
    parts: list[list[Tensor]] = [[gate.mu for gate in gates.values()], [gate.log_var for gate in gates.values()]]
    mu, log_var = (torch.cat(part).float() for part in parts)
    magnitude = mu.abs()
    reached = magnitude.clamp_min(1e-30)
    log_alpha = (2 * reached.log()).sub_(log_var)
    by_log_var = torch.ops.aten.softplus_backward(prices * (magnitude >= 1e-30), log_alpha, 1, 20)
    by_mu = (2 * by_log_var).div_(reached).mul_(mu.sgn())
    for parameters, gradient in zip(parts, (by_mu, by_log_var.neg_()), strict=True):
        for parameter, share in zip(parameters, gradient.split([len(p) for p in parameters]), strict=True):
            if not parameter.requires_grad:
                continue  # the caller's own: a frozen gate
            share = share.to(parameter.dtype)
            parameter.grad = share.clone() if parameter.grad is None else parameter.grad.add_(share)
