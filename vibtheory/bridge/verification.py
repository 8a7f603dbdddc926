"""Is ḡ(z) ≥ g(z)? Violations on fresh samples of z, with their exact Clopper–Pearson limit (docs/theory.md T5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.networks.forward import device_of, evaluating, gate_held_at, in_float64, precision_of
from vibtheory.networks.gates import Gate, vib_gates

__all__ = ["BoundCheck", "clopper_pearson_upper", "compare", "own_losses", "sample_points"]

Array = NDArray[np.float64]
_ROWS = 16384  # in one forward pass, at most


@dataclass(frozen=True)
class BoundCheck:
    """What a sample says about "ḡ ≥ g"; a count on z, never a proof.

    Attributes:
        samples: number of points z.
        violations: points with g(z) > ḡ(z) + tolerance.
        rate_limit: one-sided 95 % Clopper–Pearson upper limit of the violation rate under the sampled distribution.
        worst: largest g(z) − ḡ(z) in nats (negative: ḡ was above everywhere). mean_gap: mean of ḡ(z) − g(z) in nats.
        tolerance: what counts as rounding, in nats.
        guarantee: the bound's own guarantee, as text. status: what to conclude, and the remedy.
    """

    samples: int
    violations: int
    rate_limit: float
    worst: float
    mean_gap: float
    tolerance: float
    guarantee: str
    status: str

    def __str__(self) -> str:
        return (
            f"{self.violations} of {self.samples} points above ḡ (rate ≤ {self.rate_limit:.3g} at 95 %), "
            f"worst g − ḡ = {self.worst:.3g} nats, mean gap {self.mean_gap:.3g} nats: {self.status}"
        )


def clopper_pearson_upper(violations: int, samples: int, confidence: float = 0.95) -> float:
    """Exact one-sided upper limit, at level `confidence`, of a rate after `violations` in `samples` independent trials.

    Source: Clopper and Pearson, 1934.
    """
    if violations >= samples:
        return 1.0
    return float(scipy.special.betaincinv(violations + 1, samples - violations, confidence))


def compare(above: Array, true: Array, level: str, guarantee: str, relative: float = 1e-10) -> BoundCheck:
    """Count where the loss `true` [S] exceeds the bound `above` [S] by more than `relative` of their size.

    Both in nats, at the same points; a size below 1 nat counts as 1. `level` ("statistical", or of a bound that admits
    no violation) decides the status; `guarantee` is passed on.
    """
    excess = true - above
    tolerance = relative * np.maximum(1.0, np.maximum(np.abs(true), np.abs(above)))
    violations = int((excess > tolerance).sum())
    if violations == 0:
        status = "no violation found"
    elif level == "statistical":
        status = "a statistical bound; rebuild it with more samples, or at the (μ, σ) where you use it"
    else:
        status = f"a {level} bound is violated: the network or the data changed since it was built; rebuild it"
    return BoundCheck(
        len(true), violations, clopper_pearson_upper(violations, len(true)), float(excess.max()),
        float(-excess.mean()), float(tolerance.max()), guarantee, status,
    )  # fmt: skip


def sample_points(mu: Array, sigma: Array, samples: int, generator: np.random.Generator, wide: bool) -> Array:
    """z [samples, d] ~ N(μ, σ²); `wide` takes every fourth so, and the rest around μ, around 0, and 0/1 (gates cut).

    `mu` and `sigma` are [d]; the noise comes from `generator`.
    """
    noise = generator.standard_normal((samples, mu.size))
    z = np.asarray(mu + sigma * noise)
    if wide:
        scale = max(1.0, float(np.abs(mu).max()))
        for start, block in ((1, mu + scale * noise), (2, 5 * scale * noise), (3, (noise > 0).astype(np.float64))):
            z[start::4] = block[start::4]
    return z


def own_losses(
    net: nn.Module,
    x: NDArray[Any],
    y: NDArray[Any],
    likelihood: str,
    layer: str,
    points: Array,
    *,
    others: int = 0,
    seed: int = 0,
    batch: int = 2000,
    rows: int = _ROWS,
) -> tuple[Array, float]:
    """g at each z of `points` [S, d] by the net's own forward pass, z put in at the gate; and its relative rounding.

    It shares nothing with what builds ḡ but the network and the seeds: no trace, no chain, no cut, no likelihood.

    Args:
        net: gated network. x, y: data [N, ...]. likelihood: "multinomial" or "gaussian". layer: the gate's name.
        points: one z per row. others, seed, batch: as in `quadratic_bound`. rows: inputs in one forward pass, at most.

    Returns:
        Losses [S] in nats, and 16 times the unit rounding of the precision that the network ran in.
    """
    exact = in_float64(net, x)
    gate = vib_gates(exact)[layer]
    weight = torch.zeros((), dtype=precision_of(exact), device=device_of(exact))
    before = _called_before(exact, gate, torch.as_tensor(x[:2]).to(weight)) if others else []
    total = np.zeros(len(points))
    for repeat in range(max(others, 1)):
        for index, start in enumerate(range(0, len(x), batch)):
            inputs = torch.as_tensor(x[start : start + batch]).to(weight)
            labels = torch.as_tensor(y[start : start + batch]).to(weight.device)
            most = max(1, min(_ROWS, rows) // len(inputs))
            step = 1 if others else most  # sampled gates: the noise of this batch again for each z
            for s in range(0, len(points), step):
                z = torch.tensor(points[s : s + step], dtype=torch.float64, device=weight.device)
                repeated = inputs.repeat(len(z), *(1,) * (inputs.ndim - 1))
                noise = (seed, repeat, index) if others else None
                held = gate_held_at(gate, z.repeat_interleave(len(inputs), 0))
                with torch.no_grad(), evaluating(exact, before, noise), held:
                    outputs = exact(repeated).double()
                losses = _loss(outputs.reshape(len(z), len(inputs), -1), labels, likelihood)
                total[s : s + step] += losses.sum(1).cpu().numpy()
    return total / (len(x) * max(others, 1)), 16 * float(torch.finfo(weight.dtype).eps)


def _loss(outputs: Tensor, labels: Tensor, likelihood: str) -> Tensor:
    """−log q [s, n] of outputs [s, n, K]."""
    if likelihood == "gaussian":
        return 0.5 * (outputs - labels.double().reshape(outputs.shape[1:])).square().sum(2)
    classes = labels.long().expand(len(outputs), -1)
    return functional.cross_entropy(outputs.transpose(1, 2), classes, reduction="none")


def _called_before(net: nn.Module, gate: Gate, x: Tensor) -> list[Gate]:
    """The gates that a forward pass of `net` comes to before `gate`."""
    order: list[Gate] = []
    gates = vib_gates(net).values()
    handles = [each.register_forward_pre_hook(lambda module, _: order.append(module)) for each in gates]
    try:
        with torch.no_grad(), evaluating(net):
            net(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    return order[: order.index(gate)]
