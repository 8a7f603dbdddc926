"""Merge redundant units (docs/theory.md T4b): where f_k = c·f_j on all data, one gate does the work of both, for less.

Unit j stays, with outgoing weights v = Σ_m c_mμ_mw_m and gate z ~ N(1, 1/Σα_m); the others close. Then for every input

    mean of the next pre-activation:   f_jv = Σ_m f_mμ_mw_m                            (unchanged)
    its covariance:                    f_j²vvᵀ/Σα_m ⪯ f_j²Σ_m c_m²σ_m²w_mw_mᵀ            (Cauchy–Schwarz)
    the price of the group's gates:    ½log(1 + Σα_m) < ½Σ log(1 + α_m)                 (strictly, two or more α > 0)

`merge_redundant` does it on a copy and proves all three on the network that it returns, in the precision it has.

Decisions. Only units that `eval()` keeps (α > threshold) are merged: then the function that is trained (z sampled) and
the one that is evaluated (μ⊙keep) both keep their means. A closed unit is closed for good: `Gate.close`, μ = 0 and
outgoing weights 0, so that neither its mean nor its noise reaches anything. Units with f ≡ 0 are left alone (Prop 1).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.compression.proportionality import ProportionalGroup, proportional_groups
from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import reject
from vibtheory.networks.forward import as_example, copy_of
from vibtheory.networks.gates import Gate, vib_gates
from vibtheory.networks.units import FeedingGate, gated_layers, inputs_of

__all__ = ["MergeReport", "MergedGroup", "merge_redundant"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MergedGroup:
    """Units of one layer that became one.

    Attributes:
        layer: the gated layer's name.
        kept: index of the unit that stays. closed: indices of those that closed.
        ratios: c_m with f_m = c_m f_kept, for `closed`.
        proportionality_error: max over data and m of |f_m − c_mf_kept| / max|f_m|; at most the stated tolerance.
        alpha_before: α of kept and closed units, in that order. alpha_after: α of the kept one now.
        information_before, information_after: multiplier · ½Σlog(1+α) of the group, nats.
        covariance_margin: least eigenvalue of (Σ_before − Σ_after)/f_j² on the outgoing weights' span, relative to
            the trace of Σ_before/f_j²; the same for every input; ≥ −rounding.
        mean_error: largest change of a next pre-activation's mean over the data relative to the largest
            sum of the sizes of its terms.
    """

    layer: str
    kept: int
    closed: tuple[int, ...]
    ratios: tuple[float, ...]
    proportionality_error: float
    alpha_before: tuple[float, ...]
    alpha_after: float
    information_before: float
    information_after: float
    covariance_margin: float
    mean_error: float


@dataclass(frozen=True)
class MergeReport:
    """What `merge_redundant` did, and what it proved about it.

    Attributes:
        status: "proved", "nothing to merge", or "not proved" (with the remedy in `reason`).
        reason: in words.
        groups: the merged groups.
        skipped: layers that were not looked at, with the reason, by name.
        information_before, information_after: Σ multiplier · ½Σlog(1+α) over all gates, nats.
        mean_error: the largest over groups; covariance_margin: the least over groups.
        rounding: what both are held against, relative: 1e-12 for float64 networks, 1e-5 for float32.
    """

    status: Literal["proved", "nothing to merge", "not proved"]
    reason: str
    groups: tuple[MergedGroup, ...]
    skipped: dict[str, str]
    information_before: float
    information_after: float
    mean_error: float
    covariance_margin: float
    rounding: float

    @property
    def closed(self) -> int:
        """How many units were closed."""
        return sum(len(group.closed) for group in self.groups)

    def __str__(self) -> str:
        return (
            f"merge: {self.status}: {self.closed} units closed in {len(self.groups)} groups; information "
            f"{self.information_before:.6g} -> {self.information_after:.6g} nats; mean changed by "
            f"{self.mean_error:.1e}, covariance margin {self.covariance_margin:.1e}. {self.reason}"
        )


def merge_redundant(
    net: nn.Module,
    data: Dataset | Tensor,
    *,
    layer: str | None = None,
    tolerance: float = 1e-5,
    batch_size: int = 1024,
    seed: int = 0,
) -> tuple[nn.Module, MergeReport]:
    """Merge every group of units whose activations are proportional on all of `data` (T4b).

    Proportionality is checked, not estimated: max_n |f_k − c·f_j| ≤ tolerance · max_n |f_k| over all examples and
    positions, once with the gates upstream at their masked means and once with them sampled (seeded).

    Args:
        net: a Sequential of gates, linear layers, ungrouped convolutions and unit-wise layers. It is not changed.
        data: a Dataset (its training inputs are used) or inputs [N, ...].
        layer: one gated layer, or None for all that feed an affine layer directly, which is used there alone.
        tolerance: ≥ 0, relative, as above. Rounding of a float32 forward pass is about 1e-6.
        batch_size: examples per forward pass.
        seed: of the sampled pass.

    Returns:
        (new network, MergeReport).

    Raises:
        InvalidInputError: not such a Sequential, no gates, a layer that does not exist or does not feed an affine
            layer (or one whose weights are shared, computed or hooked), tolerance < 0, batch_size < 1, or no data.
    """
    inputs = inputs_of(data)
    if not tolerance >= 0:
        reject("tolerance", tolerance, "a number >= 0", "use 1e-5 for float32 networks")
    if batch_size < 1:
        reject("batch_size", batch_size, "an integer >= 1", "pass the number of examples per forward pass")
    gated_layers(net, layer)  # refuses
    as_example(inputs[:2], net, "data")  # weights computed from others have no graph then, and can be copied
    merged = copy_of(net)
    layers, skipped = gated_layers(merged, layer)
    before = _information(merged)
    groups: list[MergedGroup] = []
    for each in layers:
        groups += _merge_layer(each, inputs, tolerance, batch_size, seed)
    return merged, _report(groups, skipped, before, _information(merged), next(merged.parameters()).dtype)


def _merge_layer(layer: FeedingGate, inputs: Tensor, tolerance: float, batch_size: int, seed: int) -> list[MergedGroup]:
    def activations() -> Iterator[Array]:
        yield from layer.activations(inputs, batch_size)
        yield from layer.activations(inputs, batch_size, seed)

    found = proportional_groups(activations, layer.gate.keep.cpu().numpy(), tolerance)
    if not found:
        return []
    old_gate, old_weights = copy.deepcopy(layer.gate), layer.outgoing()
    for group in found:
        _merge_group(layer, group, old_weights)
    error = _mean_error(layer, old_gate, old_weights, layer.activations(inputs, batch_size))
    return [_described(layer, old_gate, old_weights, group, error) for group in found]


def _merge_group(layer: FeedingGate, group: ProportionalGroup, weights: Array) -> None:
    """Write T4b's gate and weights into the network."""
    gate, units = layer.gate, group.units
    mu, _, alpha = _gate_values(gate, units)
    with torch.no_grad():
        gate.mu[group.kept], gate.log_var[group.kept] = 1.0, -float(np.log(alpha.sum()))
        gate.mu[units[1:]] = 0.0
        columns = layer.columns()  # [out, d, positions]
        merged = torch.from_numpy((group.ratios * mu) @ weights[units])  # v = Σ c μ w [out·positions]
        columns[:, group.kept] = merged.view(columns.shape[0], columns.shape[2]).to(columns)
        columns[:, units[1:]] = 0.0
        gate.close(torch.tensor(units[1:], device=gate.active.device))


def _described(
    layer: FeedingGate, old: Gate, old_weights: Array, group: ProportionalGroup, mean_error: float
) -> MergedGroup:
    """What the network that came out really has: its rounded parameters, not T4b's exact ones."""
    units = group.units
    _, sigma, alpha = _gate_values(old, units)
    _, new_sigma, new_alpha = _gate_values(layer.gate, [group.kept])
    noise = (group.ratios * sigma)[:, None] * old_weights[units]  # rows c σ w: Σ_before/f² = noiseᵀ noise
    new_noise = new_sigma * layer.outgoing()[[group.kept]]
    # All rows lie in a space of few dimensions, outside of which both covariances are 0.
    basis = np.linalg.qr(np.vstack([noise, new_noise]).T)[0]
    before, after = noise @ basis, new_noise @ basis
    trace = float((before**2).sum())
    least = float(np.linalg.eigvalsh(before.T @ before - after.T @ after)[0])
    half = 0.5 * old.multiplier
    return MergedGroup(
        layer=layer.name,
        kept=group.kept,
        closed=tuple(units[1:]),
        ratios=tuple(m.ratio for m in group.members),
        proportionality_error=max(m.error for m in group.members),
        alpha_before=tuple(alpha.tolist()),
        alpha_after=float(new_alpha[0]),
        information_before=half * float(np.log1p(alpha).sum()),
        information_after=half * float(np.log1p(new_alpha[0])),
        covariance_margin=least / trace if trace > 0 else 0.0,
        mean_error=mean_error,
    )


def _mean_error(layer: FeedingGate, old: Gate, old_weights: Array, batches: Iterator[Array]) -> float:
    """Largest |change| of the mean of f⊙z under the outgoing weights, over the data, relative to max Σ|terms|.

    For a convolution: of every position's contribution through every tap of the kernel, of which the pre-activation
    is a sum. Both the trained mean (μ of all open gates) and the evaluated one (μ⊙keep) are compared.
    """
    error = size = 0.0
    new_weights = layer.outgoing()
    images = []  # (weights before, after) for each kind of mean
    for kind in ("trained", "evaluated"):
        masks = [(gate.active if kind == "trained" else gate.keep).cpu().numpy() for gate in (old, layer.gate)]
        means = [gate.mu.detach().double().cpu().numpy() * m for gate, m in zip((old, layer.gate), masks, strict=True)]
        images.append((means[0][:, None] * old_weights, means[1][:, None] * new_weights))
    for f in batches:
        for before, after in images:
            error = max(error, float(np.abs(f @ (after - before)).max()))
            size = max(size, float((np.abs(f) @ np.abs(before)).max()))
    return error / size if size > 0 else 0.0


def _gate_values(gate: Gate, units: list[int]) -> tuple[Array, Array, Array]:
    """μ, σ, α of `units` in float64 (`Gate.alpha` is float32)."""
    mu = gate.mu.detach().double().cpu().numpy()[units]
    sigma = np.exp(0.5 * gate.log_var.detach().double().cpu().numpy()[units])
    return mu, sigma, (mu / sigma) ** 2


def _information(net: nn.Module) -> float:
    total = 0.0
    for gate in vib_gates(net).values():
        alpha = _gate_values(gate, list(range(gate.features)))[2] * gate.active.cpu().numpy()
        total += 0.5 * gate.multiplier * float(np.log1p(alpha).sum())
    return total


def _report(
    groups: list[MergedGroup], skipped: dict[str, str], before: float, after: float, dtype: torch.dtype
) -> MergeReport:
    rounding = 1e-12 if dtype == torch.float64 else 1e-5
    mean_error = max((g.mean_error for g in groups), default=0.0)
    margin = min((g.covariance_margin for g in groups), default=0.0)
    # Approximate proportionality moves the mean too, by at most the error that was allowed.
    allowed = rounding + sum(g.proportionality_error * len(g.closed) for g in groups)
    status: Literal["proved", "nothing to merge", "not proved"]
    if not groups:
        status, reason = "nothing to merge", "No two kept units are proportional on all of the data."
    elif mean_error <= allowed and margin >= -rounding and after < before:
        status, reason = "proved", "Mean unchanged, covariance no larger, information strictly lower."
    else:
        status = "not proved"
        reason = "A claim failed in this precision. Remedy: net.double(), or a smaller tolerance."
    return MergeReport(status, reason, tuple(groups), skipped, before, after, mean_error, margin, rounding)
