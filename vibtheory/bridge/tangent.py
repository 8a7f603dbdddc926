"""The inflated tangent: value, gradient and Gauss–Newton curvature at the anchor (T5), for any architecture.

    ḡ(z) = g(z⁰) + ∇g(z⁰)ᵀΔ + s·ΔᵀCΔ + 2e,  Δ = z − z⁰,  C = ½ E[J_nᵀH_nJ_n] + r·diag(1/σ²),

J_n the Jacobian of the output in z, H_n the loss's curvature. For each ridge r of a list, s is the least factor that
makes ḡ an upper bound on a sample of z, and the r with the smallest E ḡ is taken; then s is the least such factor on a
second sample, whose order statistic limits the violation rate: no third one is needed. e is float32's rounding of g (0
where the rest runs in float64).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.surrogate import Quadratic, about

__all__ = ["gauss_newton", "tangent_bound"]

Array = NDArray[np.float64]
_RIDGES = (1e-6, 1e-3, 1e-2, 0.1, 1.0, 10.0)  # shares of the mean curvature per gate, in units of σ
_LEAST = 1e-3  # ḡ keeps at least this share of the Gauss–Newton curvature


def gauss_newton(layer: GatedLayer, anchor: Array) -> tuple[Array, Array, float]:
    """½ E[JᵀHJ] [d, d], ∇g [d] and g at the anchor; one pass over the data, K backward passes per batch."""
    total = torch.zeros(layer.d, layer.d, dtype=torch.float64, device=layer.device)
    gradient = torch.zeros(layer.d, dtype=torch.float64, device=layer.device)
    loss = 0.0
    for batch in layer.batches():
        z = torch.as_tensor(anchor, device=layer.device).expand(len(batch.f), -1).clone().requires_grad_(True)
        with torch.enable_grad():
            output = layer.output(batch, z)
            output = output + 0 * z.sum(1, keepdim=True).to(output.dtype)  # slopes 0, where no path leads there
            classes = output.shape[1]
            rows = [torch.autograd.grad(output[:, k].sum(), z, retain_graph=k + 1 < classes)[0] for k in range(classes)]
        with torch.no_grad():
            jacobian = torch.stack(rows, 1).double()  # [n, K, d]: z has one row per example
            loss += float(layer.likelihood.loss(output, batch.y).sum())
            gradient += torch.einsum("nk,nkd->d", layer.likelihood.gradient(output, batch.y), jacobian)
            half = layer.likelihood.curvature_root(output).transpose(1, 2) @ jacobian
            flat = half.reshape(-1, layer.d)
            total.addmm_(flat.T, flat)
    curvature = ((total + total.T) / (4 * layer.n)).cpu().numpy()
    return curvature, gradient.cpu().numpy() / layer.n, loss / layer.n


def tangent_bound(
    layer: GatedLayer, anchor: Array, sigma: Array, samples: int, generator: np.random.Generator
) -> Quadratic:
    """ḡ above g at `samples` fresh z ~ N(anchor, σ²), which are `held`; a fifth as many before them chose the ridge."""
    curvature, gradient, value = gauss_newton(layer, anchor)
    spread = np.maximum(sigma, 1e-12)
    live = np.diag(curvature) > 0  # f ≡ 0 makes a column zero, and g does not depend on that gate
    unit = np.where(live, float(np.mean(np.diag(curvature) * sigma**2)) / spread**2, 0.0)
    layer.keep_in_memory()
    first = max(samples // 5, 1)
    delta = sigma * generator.standard_normal((first + samples, layer.d))
    rounding = 2 * layer.rounding * max(abs(value), 1e-12)
    losses = layer.mean_loss(anchor + delta)
    excess = losses - value - delta @ gradient - rounding

    def least(trial: Array, rows: slice) -> float:
        rise = np.einsum("si,ij,sj->s", delta[rows], trial, delta[rows], optimize=True)
        return max(float(np.max(excess[rows][rise > 0] / rise[rise > 0], initial=0.0)), _LEAST)

    trials = {ridge: curvature + np.diag(ridge * unit) for ridge in _RIDGES}
    ridge = min(trials, key=lambda r: least(trials[r], slice(first)) * float(np.diag(trials[r]) @ sigma**2))
    factor = least(trials[ridge], slice(first, None))
    note = f"Gauss–Newton curvature × {factor:.4g}, ridge {ridge:g} (least on {samples} held-out z)"
    found = about(factor * trials[ridge], gradient, value + rounding, anchor, note)
    return replace(found, held=(anchor + delta[first:], losses[first:]))
