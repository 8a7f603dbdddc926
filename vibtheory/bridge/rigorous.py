"""The rigorous surrogates (docs/theory.md T5): Böhning's bound and its exact twin, and the Lipschitz surrogate.

**Böhning**, for layers whose rest is affine up to the loss. Logits V(f_n⊙z) + v₀. Softmax cross-entropy has Hessian
⪯ B = ½(I − 11ᵀ/K) everywhere (Böhning 1992; Böhning & Lindsay 1988), so with D_n = diag f_n

    g(z) ≤ g(z⁰) + ∇g(z⁰)ᵀ(z − z⁰) + (z − z⁰)ᵀQ(z − z⁰),   Q = ½ E[D_nVᵀBVD_n],

tangent at z⁰. For ½‖y − ŷ‖² the Hessian is I itself and the same formula with B = I is an identity (`exact`).

**Lipschitz**, for deeper layers; loose, minimal at its anchor.
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
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.affine import channel_contributions, entries
from vibtheory.bridge.surrogate import Quadratic, about

__all__ = ["curvature_bound", "lipschitz_bound"]

Array = NDArray[np.float64]
Weigh = Callable[[slice, Tensor], Tensor]
_AT_ONCE = 1 << 22  # float64 entries of channel contributions held at once: 32 MiB, or less


def curvature_bound(layer: GatedLayer, anchor: Array) -> Quadratic:
    """ḡ of an affine layer: Böhning's for "multinomial", g itself for "gaussian".

    Args:
        layer: a gated layer with `layer.affine`.
        anchor: z⁰ [d], where ḡ touches g.

    Returns:
        Q, b, c of zᵀQz + bᵀz + c, in nats of the data-set mean loss. One pass over the data, float64 sums.
    """
    loss = 0.0
    with torch.no_grad():
        # a common shift of all logits changes neither the loss nor ḡ
        curvature = _accumulator(layer, layer.likelihood.project)
        for f, output, y in layer.outputs_at(anchor):
            loss += float(layer.likelihood.loss(output, y).sum())
            curvature.add(f, pull=layer.likelihood.gradient(output, y))
    gram = curvature.gram() * (layer.likelihood.half_curvature / layer.n)
    slope, unit = curvature.slope.cpu().numpy() / layer.n, np.hypot(layer.anchor, layer.sigma)
    return about(gram.cpu().numpy(), slope, loss / layer.n, anchor, unit=unit)


def lipschitz_bound(layer: GatedLayer, anchor: Array, sigma: Array) -> Quadratic:
    """ḡ with its minimum at the anchor; one pass over the data.

    Args:
        layer: without an `obstacle`.
        anchor: z⁰ [d].
        sigma: σ [d] at which the slopes δ_n are chosen; every σ gives a valid bound.

    Returns:
        Q, b, c of zᵀQz + bᵀz + c, in nats of the data-set mean loss, and κ in the note.
    """
    with torch.no_grad():
        kappa = layer.constant
        variance = torch.as_tensor(sigma**2, device=layer.device)
        steepest = layer.likelihood.half_curvature * kappa**2
        curvature, total = _accumulator(layer), torch.zeros((), dtype=torch.float64, device=layer.device)
        for f, output, y in layer.outputs_at(anchor):
            total += layer.likelihood.loss(output, y).sum()
            slope = kappa * layer.likelihood.gradient(output, y).norm(dim=1)  # κ‖∇_n‖ [n]
            curvature.add(f, partial(_weights, total, variance, slope, steepest))
    note = f"κ = {kappa:.4g} (certified), minimum at the anchor"
    return about(curvature.gram().cpu().numpy() / layer.n, np.zeros(layer.d), float(total) / layer.n, anchor, note)


def _weights(total: Tensor, variance: Tensor, slope: Tensor, curvature: float, rows: slice, own: Tensor) -> Tensor:
    """c_n of some examples, from ‖V(f_n⊙e_j)‖² [d, n]; adds their κ‖∇_n‖δ_n/2 to `total`."""
    delta = (variance @ own).sqrt().clamp_min(1e-12)  # a floor: any δ > 0 is valid, and E s_n² is 0 where σ or f is
    total += (slope[rows] * delta).sum() / 2
    return curvature + slope[rows] / (2 * delta)


def _accumulator(layer: GatedLayer, seen: Callable[[Tensor], Tensor] = lambda v: v) -> _Flat | _ByChannel:
    """Sums Q = Σ_n c_n⟨v_nj, v_nk⟩, v_nj = V(f_n⊙e_j), in the cheapest of three ways that fits in the layer's memory.

    V is not formed where its rows or columns are more than the n·d vectors that are asked for.

    `seen` maps V's rows to what the loss sees of them; those that cannot reach the loss (behind closed gates) are left
    out.
    """
    size = math.prod(layer.shape)
    few = layer.n * layer.d < min(size, layer.listened.numel())
    if few or (formed := layer.affine_map) is None:
        return _ByChannel(layer, seen, None)
    v = seen(formed.v)
    fits = size == layer.d or 32 * size * size <= layer.memory  # else Q is as large
    if fits and size * size <= size * len(v) + layer.d**2 * len(v):  # multiplications per example
        return _Flat(layer.d, v)
    return _ByChannel(layer, seen, v)


class _Flat:
    """Q through (VᵀV) ⊙ Σ_n c_n f fᵀ on all D entries of f, then summed over positions."""

    def __init__(self, d: int, v: Tensor) -> None:
        self.d, self.v, self.kernel = d, v, v.T @ v
        self.moment, self.slope = torch.zeros_like(self.kernel), torch.zeros_like(self.kernel[:d, 0])
        # ‖V(f⊙e_j)‖² = fᵀMf with M the blocks of VᵀV that join positions of one channel
        self.blocks = d, v.shape[1] // d, d, v.shape[1] // d
        blocks = self.kernel.reshape(self.blocks)
        self.diagonal = torch.stack([blocks[j, :, j] for j in range(d)])  # [d, P, P]

    def add(self, f: Tensor, weigh: Weigh | None = None, pull: Tensor | None = None) -> None:
        """Examples f [n, d, ...] with the weights c [n] that `weigh` finds (None: 1); `slope` gains Σ_n v_njᵀpull_n."""
        flat = f.reshape(len(f), -1)
        scaled = flat
        if weigh is not None:
            by_channel = f.reshape(len(f), self.d, -1).transpose(0, 1)  # [d, n, P]
            own = ((by_channel @ self.diagonal) * by_channel).sum(2).clamp_min(0)
            scaled = flat * weigh(slice(None), own)[:, None]
        if pull is not None:
            self.slope += (flat * (pull @ self.v)).sum(0).reshape(self.d, -1).sum(1)
        self.moment.addmm_(flat.T, scaled)

    def gram(self) -> Tensor:
        return (self.kernel * self.moment).reshape(self.blocks).sum((1, 3))


class _ByChannel:
    """Q from the contribution v_nj of each channel j to the rows of the next pre-activation that matter.

    Through V [m, D] where it is small enough to be formed, else by running the affine modules channel by channel.
    """

    def __init__(self, layer: GatedLayer, seen: Callable[[Tensor], Tensor], v: Tensor | None) -> None:
        assert layer.prefix is not None
        self.prefix: nn.Sequential = layer.prefix
        self.d, self.seen, self.listened = layer.d, seen, layer.listened.reshape(-1)
        self.all_listened = bool(self.listened.all())
        self.v = None if v is None else v.reshape(len(v), layer.d, v.shape[1] // layer.d).permute(1, 2, 0)  # [C, P, m]
        zero = torch.zeros(1, *layer.shape, dtype=torch.float64, device=layer.device)
        held = entries(layer.prefix, zero) if v is None else max(len(v), 1)
        self.rows = max(1, min(_AT_ONCE, layer.memory // 32) // (layer.d * max(held, layer.d)))
        self.total = torch.zeros(layer.d, layer.d, dtype=torch.float64, device=layer.device)
        self.slope = torch.zeros_like(self.total[0])

    def add(self, f: Tensor, weigh: Weigh | None = None, pull: Tensor | None = None) -> None:
        """As `_Flat.add`."""
        for start in range(0, len(f), self.rows):
            rows = slice(start, start + self.rows)
            if self.v is None:
                v = channel_contributions(self.prefix, f[rows])
                v = self.seen((v if self.all_listened else v[:, :, self.listened]).movedim(2, 0)).movedim(0, 2)
            else:
                v = (f[rows].reshape(-1, self.d, self.v.shape[1]).transpose(0, 1) @ self.v).transpose(0, 1)
            if pull is not None:  # v [n, C, m]
                self.slope += torch.einsum("ncm,nm->c", v, pull[rows])
            grams = v @ v.mT
            if weigh is not None:
                grams *= weigh(rows, grams.diagonal(0, 1, 2).T)[:, None, None]
            self.total += grams.sum(0)

    def gram(self) -> Tensor:
        return self.total
