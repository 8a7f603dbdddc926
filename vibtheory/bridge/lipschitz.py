"""The Lipschitz surrogate: rigorous for deeper layers, loose, minimal at its anchor (docs/theory.md T5).

All dependence on z runs through p_n = V(f_n⊙z), the first affine map after the gate. With κ a certified Lipschitz
constant of the rest and h the loss's half curvature (¼ for softmax cross-entropy, ½ for ½‖y − ŷ‖²),

    loss_n(z) ≤ loss_n(z⁰) + ‖∇_n‖κs_n + hκ²s_n²,  s_n = ‖V(f_n⊙(z − z⁰))‖,

∇_n the loss's gradient in the output at z⁰. Young's inequality s_n ≤ s_n²/(2δ_n) + δ_n/2 makes it quadratic:

    ḡ(z) = E[loss_n(z⁰) + κ‖∇_n‖δ_n/2] + (z − z⁰)ᵀQ(z − z⁰),  Q = E[c_n (V_nᵀV_n)],  c_n = hκ² + κ‖∇_n‖/(2δ_n),

V_n the columns V(f_n⊙e_j). The δ_n that makes E ḡ over z ~ N(z⁰, σ²) smallest is δ_n² = E s_n² = Σ_j σ_j²‖V(f_n⊙e_j)‖².
Entries of p that cannot reach the loss, because gates behind them are closed, are left out of V and of κ: as rigorous,
tighter and cheaper.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.bridge.activations import Batch, GatedLayer
from vibtheory.bridge.affine import block_sum, channel_contributions
from vibtheory.bridge.coefficients import Quadratic, about, symmetric
from vibtheory.bridge.lipschitz_constants import lipschitz_constant, uncertified

__all__ = ["lipschitz_bound", "why_not"]

Array = NDArray[np.float64]
_FLAT = 4096  # entries of f up to which the D × D moment matrix may be formed
_CHUNK = 1 << 22  # float64 entries of channel contributions held at once: 32 MiB


def why_not(layer: GatedLayer) -> str:
    """Why this kind does not apply, in words; empty where it does."""
    if layer.tail is None or layer.prefix is None:
        return layer.reason
    return uncertified([*layer.prefix, *layer.tail])


def lipschitz_bound(layer: GatedLayer, anchor: Array, sigma: Array) -> Quadratic:
    """ḡ with its minimum at the anchor; one pass over the data.

    Args:
        layer: a gated layer with `why_not(layer) == ""`.
        anchor: z⁰ [d].
        sigma: σ [d] at which the slopes δ_n are chosen; every σ gives a valid bound.

    Returns:
        Q, b, c of zᵀQz + bᵀz + c, in nats of the data-set mean loss, and κ in the note.
    """
    assert layer.prefix is not None
    assert layer.tail is not None
    with torch.no_grad():
        probe = layer.prefix(torch.zeros(1, *layer.shape, dtype=torch.float64, device=layer.device))
        kappa = lipschitz_constant(list(layer.tail), probe.shape[1:], layer.likelihood)
        z = torch.as_tensor(anchor, device=layer.device)
        variance = torch.as_tensor(sigma**2, device=layer.device)
        accumulate = _accumulator(layer, variance)
        constant = 0.0
        for batch in layer.batches():
            output = layer.output(batch, z)
            constant += float(layer.likelihood.loss(output, batch.y).sum())
            slope = kappa * layer.likelihood.gradient(output, batch.y).norm(dim=1)  # κ‖∇_n‖ [n]
            constant += accumulate.add(batch, slope, layer.likelihood.half_curvature * kappa**2)
    gram = symmetric(accumulate.gram()) / layer.n
    note = f"κ = {kappa:.4g} (certified), minimum at the anchor"
    return about(gram, np.zeros(layer.d), constant / layer.n, anchor, note)


def _weights(slope: Tensor, spread: Tensor, curvature: float) -> tuple[Tensor, float]:
    """c_n [n] and Σ_n κ‖∇_n‖δ_n/2 for E s_n² = `spread` [n]."""
    delta = spread.sqrt().clamp_min(1e-12)  # a floor: any δ > 0 is valid, and spread is 0 where σ or f is
    return curvature + slope / (2 * delta), float((slope * delta).sum()) / 2


def _accumulator(layer: GatedLayer, variance: Tensor) -> _Flat | _ByChannel:
    """The cheaper of two ways to Q; rows of V that cannot reach the loss (behind closed gates) are left out of both."""
    size, formed = math.prod(layer.shape), layer.affine_map
    if formed is None:
        return _ByChannel(layer, variance, layer.listened.reshape(-1), None)
    rows = len(formed.v)
    if size <= _FLAT and size * size <= size * rows + layer.d**2 * rows:  # multiplications per example
        return _Flat(layer, variance, formed.v)
    return _ByChannel(layer, variance, formed.listened.reshape(-1), formed.v)


class _Flat:
    """Q through (VᵀV) ⊙ E[c f fᵀ] on all D entries of f, then summed over positions."""

    def __init__(self, layer: GatedLayer, variance: Tensor, v: Tensor) -> None:
        self.d, self.kernel = layer.d, v.T @ v
        self.moment = torch.zeros_like(self.kernel)
        positions = v.shape[1] // layer.d
        # Σ_j σ_j²‖V(f⊙e_j)‖² = fᵀMf with M the blocks of VᵀV that join positions of one channel
        self.variance, self.positions = variance, positions
        blocks = self.kernel.reshape(layer.d, positions, layer.d, positions)
        self.diagonal = torch.stack([blocks[j, :, j] for j in range(layer.d)])  # [d, P, P]

    def add(self, batch: Batch, slope: Tensor, curvature: float) -> float:
        f = batch.f.reshape(len(batch.f), self.d, self.positions).transpose(0, 1)  # [d, n, P]
        own = ((f @ self.diagonal) * f).sum(2).clamp_min(0)  # ‖V(f_n⊙e_j)‖² [d, n]
        weight, constant = _weights(slope, self.variance @ own, curvature)
        flat = batch.f.reshape(len(batch.f), -1)
        self.moment.addmm_(flat.T, flat * weight[:, None])
        return constant

    def gram(self) -> Tensor:
        return block_sum(self.kernel * self.moment, self.d)


class _ByChannel:
    """Q_jk = E[c_n⟨v_nj, v_nk⟩] with v_nj channel j's contribution to the rows of the next pre-activation that matter.

    Through V [m, D] where it is small enough to be formed, else by running the affine modules channel by channel.
    """

    def __init__(self, layer: GatedLayer, variance: Tensor, listened: Tensor, v: Tensor | None) -> None:
        assert layer.prefix is not None
        self.prefix: nn.Sequential = layer.prefix
        self.d, self.variance, self.listened = layer.d, variance, listened
        self.columns = None if v is None else v.T.reshape(layer.d, v.shape[1] // layer.d, len(v))  # [C, P, m ≥ 0]
        held = max(listened.numel(), math.prod(layer.shape)) if v is None else len(v)
        self.rows = max(1, _CHUNK // (layer.d * max(held, 1)))
        self.total = torch.zeros(layer.d, layer.d, dtype=torch.float64, device=layer.device)

    def add(self, batch: Batch, slope: Tensor, curvature: float) -> float:
        constant = 0.0
        for start in range(0, len(batch.f), self.rows):
            f = batch.f[start : start + self.rows]
            if self.columns is None:
                v = channel_contributions(self.prefix, f)[:, :, self.listened].transpose(0, 1)
            else:
                v = f.reshape(len(f), self.d, -1).transpose(0, 1) @ self.columns  # [C, n, m]
            own = v.square().sum(2)  # [C, n]
            weight, part = _weights(slope[start : start + self.rows], self.variance @ own, curvature)
            scaled = (v * weight.sqrt()[:, None]).flatten(1)
            self.total.addmm_(scaled, scaled.T)
            constant += part
        return constant

    def gram(self) -> Tensor:
        return self.total
