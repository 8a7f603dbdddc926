"""`information_of(model, x, …)`: the information in one layer of any torch model, from both sides, in nats.

The noise is declared: a deterministic layer carries all the information of a continuous input (docs/theory.md P3, F).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler

from vibtheory.bridge.channels import Inputs, LayerLaw, as_batches, layer_law
from vibtheory.errors import as_generator, as_scalar, as_seed, as_whole, check_choice, check_type, reject
from vibtheory.information import GatedChannel, MutualInformation, estimate, relevance
from vibtheory.information.result import SATURATION_MARGIN, sampling_error
from vibtheory.storage.report import Report

__all__ = ["LayerInformation", "information_of"]

_LOWER = {"rows": ("infonce", "pairwise_bhattacharyya"), "population": ("infonce",)}
# fitted to the rows: they bound I for x uniform on these, and on average lie too low for the population behind them
_ROWS = ("variational", "per_unit", "gaussian_tight")
_UPPER = {"rows": ("pairwise", *_ROWS), "population": ("leave_one_out", "leave_one_out_per_unit", *_ROWS)}
_SEEDED = ("infonce", "leave_one_out", "leave_one_out_per_unit")
_BLOCK_ENTRIES = 2**22  # 32 MiB of float64 per block of log densities
_QUADRATURE = 10**6  # N·d up to which the units' quadrature is worth its cost
_PAIRS = 2 * 10**8  # N²·d up to which the units' leave-one-out is


@dataclass(frozen=True, eq=False)
class LayerInformation(Report):
    """lower ≤ I(h; x) ≤ upper for one layer; nats.

    Attributes:
        layer: the module's name. over: "rows" (x uniform on these N rows, I ≤ log N) or "population" (behind them).
        lower, upper: the best bounds on I over what `over` says, within their errors. For the population they hold in
            expectation, and `upper` is one of the leave-one-out kind: large, or inf, where rows are far apart.
        bounds: all that were computed. For the population too some bound I over these rows only (`to_frame()["over"]`).
        relevance: I(h; y) where labels were given, else None: for the population a lower bound, over the rows an
            estimate.
        n: N, rows. units: open ones. tau: standard deviation of the additive noise, in the unit of h.
        scale: `LayerLaw.scale`, in the unit of h.
        sensitivity: the best bounds again at other noises and numbers of rows: tau, n, lower, upper.
        notes: what the numbers are about, one sentence each.
    """

    layer: str
    over: str
    lower: MutualInformation
    upper: MutualInformation
    bounds: tuple[MutualInformation, ...]
    relevance: MutualInformation | None
    n: int
    units: int
    tau: float
    scale: float
    sensitivity: tuple[dict[str, float], ...]
    notes: tuple[str, ...]

    @property
    def noise(self) -> float:
        """τ in units of the layer's scale: with it, I does not depend on how the network is parametrised."""
        return self.tau / self.scale if self.scale else math.inf

    def _table(self) -> list[dict[str, Any]]:
        found = [*self.bounds, *([] if self.relevance is None else [self.relevance])]
        return [
            {
                "of": "I(h; y)" if bound is self.relevance else "I(h; x)",
                "method": bound.method,
                "kind": bound.kind,
                "over": "rows" if bound.method in _ROWS else self.over,
                "nats": bound.nats,
                "stderr": bound.stderr,
                "best": bound in (self.lower, self.upper),
                "ceiling": bound.ceiling,
                "saturated": bound.saturated,
                "saturated_share": bound.saturated_share,
                "nats_per_unit": bound.nats / max(self.units, 1),
                "share_of_log_n": bound.nats / math.log(self.n) if self.n > 1 else math.nan,
                "warnings": " ".join(bound.warnings),
            }
            for bound in found
        ]

    def __str__(self) -> str:
        lines = [
            f"{self.layer}: {self.lower.nats:.4g} ≤ I(h; x) ≤ {self.upper.nats:.4g} nats over the {self.over}, "
            f"N = {self.n}, {self.units} open units, τ = {self.tau:.4g} = {self.noise:.3g} of the layer's scale",
            f"  {self.lower}",
            f"  {self.upper}",
        ]
        if self.relevance is not None:
            told, sign = self.relevance, "≥" if self.relevance.kind == "lower" else "≈"
            line = f"  I(h; y) {sign} {told.nats:.4g} ± {told.stderr:.2g} nats, of H(y) = {told.parts['H(y)']:.4g}"
            lines.append("; ".join([line, *told.warnings]))
        per = max(self.units, 1)
        share = math.log(self.n) if self.n > 1 else math.inf
        lines.append(
            f"  per open unit {self.lower.nats / per:.3g} to {self.upper.nats / per:.3g} nats; of log N = {share:.3g}: "
            f"{100 * self.lower.nats / share:.3g} % to {100 * self.upper.nats / share:.3g} %"
        )
        lines += [
            f"  at τ = {row['tau']:.4g}, N = {row['n']:.0f}: {row['lower']:.4g} to {row['upper']:.4g}"
            for row in self.sensitivity
        ]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


@np.errstate(under="ignore")
def information_of(
    model: nn.Module,
    x: Inputs,
    y: ArrayLike | None = None,
    *,
    layer: str,
    noise: float | None = None,
    unit: Literal["scale", "h"] = "scale",
    over: Literal["rows", "population"] = "population",
    upstream: Literal["means", "sampled"] = "means",
    draws: int = 8,
    call: int | None = None,
    batch: int = 500,
    seed: int = 0,
) -> LayerInformation:
    """I(h; x) of one layer, bounded from both sides, with what decides the answer: noise, rows, ceilings.

    Args:
        model: any torch module; its mode is restored.
        x: [N, ...] inputs, an array, a tensor or a `DataLoader`; 500 to 5,000 rows: the cost is N² times the units.
        y: [N] labels: I(h; y) too, as `vibtheory.information.relevance`.
        layer: name of a module, as in `layer_law`: a gate, or any module that gives a tensor (a convolution's is taken
            position by position).
        noise: standard deviation τ of additive noise, which is part of the layer's definition; None: none but the
            layer's own gates'.
        unit: what `noise` is counted in: the layer's own scale (`LayerInformation.scale`), or the unit of h.
        over: "population": x is drawn as these rows were; the two sides hold in expectation over such rows. "rows":
            x is uniform on these rows, and I ≤ log N.
        upstream: gates and dropout before the layer, and whatever else makes the forward pass random: at their means,
            or sampled: then h given x is a mixture, bounded from above by I(h; x and that noise) and from below with
            a critic that averages over `draws` of it (Poole et al. 2019; any critic gives a bound). Where the layer is
            a dropout itself, its mask counts as noise upstream and has to be sampled; `noise` comes after it.
        draws: of the noise upstream.
        call: which call of the module is meant, counted from 0, where a forward pass calls it several times.
        batch: inputs per forward pass.
        seed: of every draw.

    Raises:
        InvalidInputError: a layer without noise, a dropout at its mean, labels of another length, one row for the
            population, or as `layer_law`.
    """
    check_type("model", model, nn.Module, "pass a torch network")
    check_choice("unit", unit, ("scale", "h"))
    check_choice("over", over, ("rows", "population"))
    check_choice("upstream", upstream, ("means", "sampled"))
    sampled, times, seed = upstream == "sampled", as_whole("draws", draws, 1), as_seed("seed", seed)
    if sampled and over == "rows":
        reject("over", "'rows' with sampled noise upstream", "'population'", "leave over out")
    if noise is not None and as_scalar("noise", noise) < 0:
        reject("noise", noise, "a number >= 0", "pass a standard deviation")
    sampler = getattr(x.batch_sampler, "sampler", x.sampler) if isinstance(x, DataLoader) else None
    if y is not None and not isinstance(sampler, SequentialSampler | None):
        reject("x", "a DataLoader that draws its rows, with labels beside it", "rows in the order of y",
               "pass shuffle=False, or arrays")  # fmt: skip
    # a loader may shuffle: every draw has the same rows, in one order
    rows = torch.cat(as_batches(model, x, batch))
    if over == "population" and len(rows) < 2:
        reject("x", "1 row", "at least 2, for what is said of the population behind them", "over='rows', or more rows")
    laws = [
        layer_law(model, rows, layer, batch=batch, seed=seed + k if sampled else None, call=call)
        for k in range(times + 1 if sampled else 1)
    ]
    law = laws[0]
    scale = law.scale
    tau = 0.0 if noise is None else float(noise) * (scale if unit == "scale" else 1.0)
    if noise and tau == 0:
        reject("noise", f"{noise} of a scale of 0, as nothing in {layer!r} varies over these rows",
               "a layer that varies", "read it as I(h; x) = 0, or pass unit='h'")  # fmt: skip
    if tau == 0 and not law.sigma.any():
        reject("noise", noise, f"noise > 0, as {layer!r} has none of its own", "pass noise=0.1, a tenth of its scale")
    channels = [part.channel(tau) for part in laws]
    bounds = _bounds(channels, over, seed)
    lower = max((b for b in bounds if b.kind == "lower"), key=lambda b: b.nats - 1.96 * _error(b))
    upper, *others = (b for b in bounds if b.kind == "upper" and (over == "rows" or b.method not in _ROWS))
    for other in others:  # the least of several, each with its error, would lie too low: only where it is lower clearly
        if other.nats + 1.96 * _error(other) < upper.nats:
            upper = other
    return LayerInformation(
        layer=layer,
        over=over,
        lower=lower,
        upper=upper,
        bounds=tuple(bounds),
        relevance=None if y is None else relevance(channels[0], y, over=over, seed=seed),
        n=channels[0].n,
        units=channels[0].d,
        tau=tau,
        scale=scale,
        sensitivity=_sensitivity(laws, tau, seed, lower.method, upper.method),
        notes=_notes(law, lower, upper, sampled, over),
    )


def _bounds(channels: list[GatedChannel], over: str, seed: int) -> list[MutualInformation]:
    channel = channels[0]
    if len(channels) == 1:
        found = [_estimate(channel, name, seed) for name in _LOWER[over]]
    else:
        found = [_averaged_infonce(channels, seed)]
    for name in _UPPER[over]:
        if name == "gaussian_tight" and channel.tau == 0:
            continue
        if name == "per_unit" and channel.n * channel.d > _QUADRATURE:
            continue
        if name == "leave_one_out_per_unit" and channel.n**2 * channel.d > _PAIRS:
            continue
        found.append(_estimate(channel, name, seed))
    return found


def _estimate(channel: GatedChannel, method: str, seed: int) -> MutualInformation:
    return estimate(channel, method, **({"seed": seed} if method in _SEEDED else {}))


def _averaged_infonce(channels: list[GatedChannel], seed: int) -> MutualInformation:
    """InfoNCE whose critic is log mean_s p(h|f_s(x)), with noise upstream drawn apart from that which made h.

    With atoms no draw of the own row may have h's zero pattern, and the critic would say −∞: its posterior over the
    rows is mixed with the uniform one, by the share of the other half's rows of which that is so.
    """
    first, n = channels[0], channels[0].n
    h = first.sample(as_generator("seed", seed, "infonce, noise upstream"))
    score, size = np.empty((n, n)), max(1, _BLOCK_ENTRIES // (n * len(channels)))
    for start in range(0, n, size):
        densities = np.stack([channel.log_density(h[start : start + size]) for channel in channels[1:]])
        top = densities.max(axis=0)
        top[np.isneginf(top)] = 0.0
        with np.errstate(divide="ignore"):  # log 0 where no draw could have made this h
            score[start : start + size] = top + np.log(np.exp(densities - top, out=densities).sum(axis=0))
    own, odd = np.diag(score), np.arange(n) % 2 == 1
    mixed = np.zeros(n)
    if first.tau == 0:
        for half in (odd, ~odd):
            mixed[half] = (np.isneginf(own[~half]).sum() + 1) / ((~half).sum() + 2)
    top = score.max(axis=1, keepdims=True)
    nobody = np.isneginf(top[:, 0])  # all rows are alike then
    share = np.exp(score - np.where(nobody[:, None], 0.0, top))
    mass = np.where(nobody, 1.0, share.sum(axis=1))
    with np.errstate(divide="ignore"):
        critic = np.log1p(-mixed) + own - np.where(nobody, 0.0, top[:, 0]) - np.log(mass) + math.log(n)
        terms = np.where(nobody, 0.0, np.logaddexp(critic, np.log(mixed)))
    share /= mass[:, None]
    np.fill_diagonal(share, 0.0)
    absence = np.exp(np.where(nobody, 0.0, critic - terms)) @ -np.log1p(-np.minimum(share, 0.999))
    return MutualInformation(
        nats=float(terms.mean()),
        kind="lower",
        method="infonce",
        ceiling=math.log(n),
        assumes=("rows drawn independently", "the noise upstream drawn apart for h and for the critic"),
        saturated_share=float((terms >= math.log(n) - SATURATION_MARGIN).mean()),
        **sampling_error(terms - absence),
    )


def _sensitivity(laws: list[LayerLaw], tau: float, seed: int, low: str, high: str) -> tuple[dict[str, float], ...]:
    """The two chosen bounds at half and twice the noise, and on half and a quarter of the rows."""
    n = len(laws[0].f)
    order = as_generator("seed", seed, "rows of the sensitivity").permutation(n)
    cases = [(t, n) for t in (tau / 2, 2 * tau) if tau > 0] + [(tau, m) for m in (n // 4, n // 2) if m >= 16]
    found = []
    for noise, rows in cases:
        channels = [law.channel(noise, np.sort(order[:rows])) for law in laws]
        lower = _averaged_infonce(channels, seed) if len(channels) > 1 else _estimate(channels[0], low, seed)
        upper = _estimate(channels[0], high, seed)
        found.append({"tau": noise, "n": float(rows), "lower": lower.nats, "upper": upper.nats})
    return tuple(found)


def _notes(
    law: LayerLaw, lower: MutualInformation, upper: MutualInformation, sampled: bool, over: str
) -> tuple[str, ...]:
    found = []
    if over == "population":
        found.append(f"{', '.join(_ROWS)} bound I over these rows, not over the population: no part of the upper bound")
    if law.held:
        found.append(
            f"held at their means: {', '.join(law.held)}. I(h; x) is that of the network without their noise; "
            "upstream='sampled' takes it in"
        )
    if sampled:
        found.append("the upper bounds are on I(h; x and the noise upstream) ≥ I(h; x)")
    if upper.nats < lower.nats:
        found.append("the bounds cross within their errors: read the standard errors")
    if upper.saturated:
        found.append("rows are too far apart for the upper bound: more rows, or more noise, would lower it")
    if lower.saturated:
        found.append("the lower bound is at its ceiling: more rows, or more noise, would raise it")
    return tuple(found)


def _error(bound: MutualInformation) -> float:
    return 0.0 if math.isnan(bound.stderr) else bound.stderr
