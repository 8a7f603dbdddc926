"""Böhning's bound and the exact quadratic: layers whose rest is affine up to the loss (docs/theory.md T5).

Logits V(f_n⊙z) + v₀. Softmax cross-entropy has Hessian ⪯ B = ½(I − 11ᵀ/K) everywhere (Böhning 1992; Böhning & Lindsay
1988), so with D_n = diag f_n

    g(z) ≤ g(z⁰) + ∇g(z⁰)ᵀ(z − z⁰) + (z − z⁰)ᵀQ(z − z⁰),   Q = ½ E[D_nVᵀBVD_n] = ½ (VᵀBV) ⊙ E[f fᵀ],

tangent at z⁰. For ½‖y − ŷ‖² the Hessian is I itself and the same formula with B = I is an identity (`exact`).
A convolutional gate has D = channels·positions entries of f; Q sums over the positions of each pair of channels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.affine import block_sum, matrix_of
from vibtheory.bridge.coefficients import Quadratic, about, symmetric

__all__ = ["curvature_bound"]

Array = NDArray[np.float64]


def curvature_bound(layer: GatedLayer, anchor: Array) -> Quadratic:
    """ḡ of an affine layer: Böhning's for "multinomial", g itself for "gaussian".

    Args:
        layer: a gated layer with `layer.affine`.
        anchor: z⁰ [d], where ḡ touches g.

    Returns:
        Q, b, c of zᵀQz + bᵀz + c, in nats of the data-set mean loss. One pass over the data, float64 sums.
    """
    assert layer.prefix is not None
    likelihood = layer.likelihood
    v, offset = matrix_of(layer.prefix, layer.shape)  # [K, D], [K]
    v = likelihood.project(v)  # a common shift of all logits changes neither the loss nor ḡ
    size = v.shape[1]
    z = torch.as_tensor(anchor, device=v.device)
    positions = size // layer.d
    moment = torch.zeros(size, size, dtype=torch.float64, device=v.device)
    slope = torch.zeros(size, dtype=torch.float64, device=v.device)
    loss = 0.0
    with torch.no_grad():
        for batch in layer.batches():
            f = batch.f.reshape(len(batch.f), -1)  # [n, D]
            output = (f * z.repeat_interleave(positions)) @ v.T + offset
            loss += float(likelihood.loss(output, batch.y).sum())
            slope += (f * (likelihood.gradient(output, batch.y) @ v)).sum(0)
            moment.addmm_(f.T, f)
    n = layer.n
    gram = block_sum((v.T @ v) * moment, layer.d) * (likelihood.half_curvature / n)
    gradient = slope.reshape(layer.d, positions).sum(1) / n
    return about(symmetric(gram), gradient.cpu().numpy(), loss / n, anchor)
