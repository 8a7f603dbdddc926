"""What the trained objective itself says of the gates that are kept, α > 1, without a surrogate (docs/theory.md T8).

F(μ, σ) = E g(μ + σ⊙ε) + Σ γ_j log(1 + μ_j²/σ_j²), and H is the Hessian in μ of the first term. Where F is least in μ,

    H ⪰ diag(2γ_j(α_j − 1)/(σ_j²(1 + α_j)²)),

so with M_jj the inverse of that number on S₁ = {α_j > 1} and 0 elsewhere, M^½HM^½ has at least |S₁| eigenvalues ≥ 1.

Gradient and H come as S independent unbiased estimates, and what they cannot resolve is not decided:

- A mean square residual is estimated without its noise: products of different estimates only. Its error is the
  jackknife's.
- λ_min is concave: that of the mean H errs downwards, E λ_min(Ĥ) ≤ λ_min(H), so "≥ 1" is decided by it. A direction v
  found on the other estimates errs upwards, E vᵀĤv ≥ λ_min(H), so "< 1" is decided by that.
- Where losses alone show another gradient (Stein's identity), F jumps or has other slopes: nothing is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_positive, reject, shown
from vibtheory.storage.report import Report

__all__ = ["TrainedNetworkReport", "TrainedReport", "TrainedVerdict", "check_trained_objective"]

Array = NDArray[np.float64]
TrainedVerdict = Literal["holds", "violated", "not at a minimum", "not resolved"]
HOLDS: TrainedVerdict = "holds"
VIOLATED: TrainedVerdict = "violated"
NOT_AT_A_MINIMUM: TrainedVerdict = "not at a minimum"
NOT_RESOLVED: TrainedVerdict = "not resolved"
ALL_LAYERS = "all layers"  # the part of a network's report that is about all of them at once

_CONFIDENCE = 0.99  # one-sided, of each comparison
_CERTAIN = 0.999  # that slopes are not F's
_STEP = 0.1  # standard deviations of the gate that moves most, where F itself is asked whether it falls


@dataclass(frozen=True)
class Estimated(Report):
    """A number and the standard error of its estimate; 0 where it is exact."""

    value: float
    stderr: float = 0.0

    def __str__(self) -> str:
        return f"{self.value:.4g}" + (f" ± {self.stderr:.2g}" if self.stderr else "")


@dataclass(frozen=True, eq=False)
class TrainedReport(Report):
    """T8 at one point (μ, σ) of one layer's gates, or of several layers' at once. Losses in nats; the rest has no unit.

    Attributes:
        verdict: holds | violated | not at a minimum | not resolved (the sampling error is too large to say, or the
            slopes are not F's).
        reason: in words, with the remedy.
        layer: its name. d: gates that can be open. kept: #{α > 1}, what the bounds limit.
        rank: #{λ_i(H) > 0} to rounding, at most the rank of H: directions of negative curvature hold no gate open.
            above_one: #{λ_i(M^½HM^½) ≥ 1}. above_least: #{λ_i(H) ≥ 1/max M_jj}. The three bounds on `kept`.
        least: λ_min(M^½HM^½) on the kept gates, ≥ 1 at a minimum; errs downwards. infinity if no gate is kept.
        least_above: the same, erring upwards.
        offset: mean square over all gates of (σ/2γ)∂F/∂μ, how many σ each μ is from where it would rest.
        spread: mean square over kept gates of ½σ²H_jj(1+α)/(γα) − 1, how far each σ² is from where it would rest.
        missed: mean square over all gates of (σ/2γ) times what losses alone find of ∂F/∂μ beyond its slopes; None if
            not known. 0 but for noise, unless the network jumps or its backward pass is another function's.
        tolerance: root mean square up to which `offset` and `spread` count as 0.
        bend: F(μ+δ) + F(μ−δ) − 2F(μ) in nats along the direction of `least`, where that is below 1; else None.
        curvature: how H was found. gauss_newton_least: λ_min with the Gauss–Newton part of H alone; None if not known.
        draws: S, independent estimates of gradient and H; 1: they are exact.
        mu, sigma, gamma [d]: the point and its prices (γ_theory). spectrum [kept]: of M^½HM^½, descending.
    """

    verdict: TrainedVerdict
    reason: str
    layer: str
    d: int
    kept: int
    rank: int
    above_one: int
    above_least: int
    least: Estimated
    least_above: Estimated
    offset: Estimated
    spread: Estimated
    missed: Estimated | None
    tolerance: float
    bend: Estimated | None
    curvature: str
    gauss_newton_least: float | None
    draws: int
    mu: Array = field(repr=False)
    sigma: Array = field(repr=False)
    gamma: Array = field(repr=False)
    spectrum: Array = field(repr=False)

    def __str__(self) -> str:
        gauss = "" if self.gauss_newton_least is None else f"; Gauss–Newton alone {self.gauss_newton_least:.4g}"
        return (
            f"{self.layer}: {self.verdict}. {self.reason}\n"
            f"  {self.kept} of {self.d} gates kept; bounds {self.above_one} (scaled), {self.above_least} (by H's "
            f"eigenvalues), {self.rank} (rank)\n"
            f"  λ_min {self.least}, from above {self.least_above}{gauss}\n"
            f"  residuals, mean squares: {self.offset} (μ), {self.spread} (log σ²); H: {self.curvature}, "
            f"{self.draws} draws"
        )

    def row(self) -> dict[str, Any]:
        """The report as one flat row of numbers and words; standard errors in columns of their own."""
        plain = super().row()
        for name in ("least", "least_above", "offset", "spread", "missed", "bend"):
            value = getattr(self, name) or Estimated(np.nan, np.nan)
            plain |= {name: value.value, f"{name}_stderr": value.stderr}
        return plain


@dataclass(frozen=True, eq=False)
class TrainedNetworkReport(Report):
    """T8 on the gated layers of a network, and on all of them at once; `report["h1"]` and `report[0]` both work.

    Attributes:
        reports: in the order of the layers, "all layers" last where the sizes permitted it.
        before: the same before the gates were polished; empty where they were not.
    """

    reports: tuple[TrainedReport, ...]
    before: tuple[TrainedReport, ...] = ()

    @property
    def verdict(self) -> TrainedVerdict:
        """The first of violated, not at a minimum, not resolved that any part has, else holds.

        Where a whole network's joint curvature alone is not resolved, its layers decide.
        """
        verdicts = {r.verdict for r in self.reports if r.layer != ALL_LAYERS or r.verdict != NOT_RESOLVED}
        return next(v for v in (VIOLATED, NOT_AT_A_MINIMUM, NOT_RESOLVED, HOLDS) if v in verdicts)

    def __iter__(self) -> Iterator[TrainedReport]:
        return iter(self.reports)

    def __len__(self) -> int:
        return len(self.reports)

    def __getitem__(self, layer: str | int) -> TrainedReport:
        """The report of a layer by name or place; InvalidInputError lists those that exist."""
        names = [report.layer for report in self.reports]
        if isinstance(layer, str) and layer in names:
            return self.reports[names.index(layer)]
        if isinstance(layer, int) and -len(self) <= layer < len(self):
            return self.reports[layer]
        return reject("layer", shown(layer), "one of " + ", ".join(names), "choose one of those layers")

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {len(self)} parts", *map(str, self.reports)]
        lines += [f"before: {str(report).splitlines()[0]}" for report in self.before]
        return "\n".join(lines)

    def row(self) -> dict[str, Any]:
        """Verdict and number of parts; `to_frame` has one row per part, those before polishing first."""
        return {"verdict": self.verdict, "parts": len(self)}

    def _table(self) -> list[dict[str, Any]]:
        return [
            {**report.row(), "polished": polished}
            for polished, reports in ((False, self.before), (bool(self.before), self.reports))
            for report in reports
        ]


def check_trained_objective(
    mu: ArrayLike,
    sigma: ArrayLike,
    gamma: ArrayLike,
    gradient: ArrayLike,
    hessian: ArrayLike,
    *,
    tolerance: float = 0.2,
    gauss_newton: ArrayLike | None = None,
    missed: ArrayLike | None = None,
    bend: Callable[[Array], Array] | None = None,
    layer: str = "gates",
    curvature: str = "as given",
) -> TrainedReport:
    """Decide T8 at a point of the trained objective from estimates of its gradient and its curvature.

    Args:
        mu, sigma: the point [d], sigma > 0.
        gamma: γ_theory > 0 of log(1 + α) in nats, one number or [d].
        gradient: E∂g [S, d] in nats per unit of μ, S ≥ 3 independent unbiased estimates; [1, d] is taken as exact.
        hessian: H [S, d, d], from the same draws.
        tolerance: root mean square of both residuals, in units of σ and of σ², up to which a point counts as
            stationary: F is smoothed over σ, so a smaller move leaves H as it is.
        gauss_newton: the Gauss–Newton part of H [d, d], reported beside it.
        missed: E∂g from losses alone less `gradient` [S, d], S ≥ 3: of mean 0 where slopes are F's.
        bend: from a direction δ [d] to F(μ+δ) + F(μ−δ) − 2F(μ) in nats [S], from losses alone. Asked where the point is
            stationary and λ_min < 1: F must fall there. None: it is then called no minimum without asking.
        layer, curvature: words for the report.

    Returns:
        TrainedReport; "holds" only where residuals and λ_min are resolved.

    Raises:
        InvalidInputError: shapes that do not fit, σ or γ not positive, α beyond 1e150, 2 estimates.

    Source: docs/theory.md T8.
    """
    remedy = "pass matching arrays"
    mu = as_array("mu", mu, (None,), remedy)
    d = len(mu)
    sigma = as_positive("sigma", sigma, (d,), remedy)
    price = as_positive("gamma", gamma)
    if price.shape not in ((), (d,)):
        reject("gamma", f"shape {list(price.shape)}", f"a number or shape [{d}]", remedy)
    price = np.broadcast_to(price, (d,))
    g = as_array("gradient", gradient, (None, d), remedy)
    h = as_array("hessian", hessian, (len(g), d, d), remedy)
    if len(g) in (0, 2):
        reject("gradient", f"{len(g)} estimates", "one that is exact, or at least 3", "draw more noise")
    tolerance = float(as_positive("tolerance", tolerance, ()))
    with np.errstate(over="ignore"):
        alpha = (mu / sigma) ** 2
    if not (alpha < 1e150).all():
        reject("mu, sigma", f"α = μ²/σ² up to {alpha.max():.3g}", "at most 1e150", "pass σ, not σ² or its logarithm")
    beyond, jumps = None, False
    if missed is not None:
        each = sigma / (2 * price) * as_array("missed", missed, (max(len(g), 3), d), remedy)
        beyond = _mean_square(each)
        noise = each.var(0, ddof=1)  # of gates hardly correlated, of which dear ones count for little (Satterthwaite)
        count = noise.sum() ** 2 / (noise**2).sum() if noise.any() else d
        limit = scipy.special.fdtri(count, count * (len(each) - 1), _CERTAIN)
        jumps = (each.mean(0) ** 2).mean() > noise.mean() / len(each) * limit
    kept = alpha > 1
    offset = _mean_square(sigma / (2 * price) * g + mu / (sigma * (1 + alpha)))
    own = h[:, kept, kept] * (0.5 * sigma**2 * (1 + alpha) / (price * np.maximum(alpha, 1)))[kept]
    spread = _mean_square(own - 1)
    m = (sigma**2 * (1 + alpha) ** 2 / (2 * price * np.where(kept, alpha - 1, 1.0)))[kept]
    root = np.sqrt(m)
    scaled = h[:, kept][:, :, kept] * root[:, None] * root
    least, least_above, spectrum, direction = _least(scaled)
    mean = h.mean(0)
    mean = (mean + mean.T) / 2
    # Signs of eigenvalues, of H and of H − 1/max M, in units in which gates look alike (Sylvester's law of inertia).
    shift = 1 / m.max() if len(m) else 0.0
    scale = sigma / np.sqrt(2 * price)
    values = np.linalg.eigvalsh(mean * scale[:, None] * scale)
    scale = scale / np.maximum(scale * np.sqrt(shift), 1)
    shifted = np.linalg.eigvalsh(mean * scale[:, None] * scale - shift * np.diag(scale**2))
    gauss = None
    if gauss_newton is not None and kept.any():
        part = as_array("gauss_newton", gauss_newton, (d, d), remedy)[np.ix_(kept, kept)] * root[:, None] * root
        gauss = float(np.linalg.eigvalsh(part)[0])
    t = float(scipy.special.stdtrit(len(g) - 1, _CONFIDENCE)) if len(g) > 1 else 0.0
    below = least_above.value + t * least_above.stderr < 1
    bent = None
    if below and bend is not None:
        delta = np.zeros(d)
        delta[kept] = root * direction
        delta *= _STEP / np.abs(delta / sigma).max()
        bent = _mean(as_array("bend", bend(delta), (None,), "give one number per estimate"))
    if beyond is not None and jumps:
        verdict = NOT_RESOLVED
        reason = (
            f"The losses rise otherwise than their slopes say (mean square {beyond}, in units of σ): the network jumps "
            "(Hardshrink, rounding) or has the backward pass of another function (straight-through, detach), so that "
            "neither rest nor curvature is known. Remedy: put a continuous function in its place."
        )
    else:
        few = int((spectrum < 1).sum())
        verdict, reason = _judge(offset, spread, tolerance, least, below, bent, t, few, len(spectrum))
    return TrainedReport(
        verdict, reason, layer, d, int(kept.sum()), int((values > d * np.finfo(float).eps * abs(values).max()).sum()),
        int((spectrum >= 1).sum()), int((shifted >= 0).sum()) if len(m) else 0, least, least_above, offset,
        spread, beyond, tolerance, bent, curvature, gauss, len(g), mu, sigma, price, spectrum,
    )  # fmt: skip


def _judge(
    offset: Estimated, spread: Estimated, tolerance: float, least: Estimated, below: bool, bent: Estimated | None,
    t: float, few: int, kept: int,
) -> tuple[TrainedVerdict, str]:  # fmt: skip
    """The verdict from the numbers where slopes are F's; `t`: standard errors that resolve."""
    sides = {"μ by {:.3g} σ": offset, "the kept gates' σ² by {:.3g} of itself": spread}
    moving = [words for words, side in sides.items() if side.value - t * side.stderr > tolerance * tolerance]
    if moving:
        off = " and ".join(words.format(np.sqrt(sides[words].value)) for words in moving)
        return NOT_AT_A_MINIMUM, (
            f"Data and price do not balance: they would move {off} (root mean square; {tolerance:g} would pass), and "
            f"{few} of {kept} eigenvalues are below 1. "
            "Remedy: polish the gates, train longer at a smaller rate, or give the price that was trained at."
        )
    settled = all(side.value + t * side.stderr <= tolerance * tolerance for side in sides.values())
    if below and bent is not None and bent.value - t * bent.stderr > 0 and settled:
        return VIOLATED, (
            f"At a stationary point λ_min = {least} is below 1, yet F does not fall along its direction (second "
            f"difference {bent} nats). This contradicts a proof: please report it with to_json()."
        )
    if below:
        return NOT_AT_A_MINIMUM, (
            f"{few} of {kept} eigenvalues are below 1, the least {least}: F falls along that direction, on either "
            "side. Remedy: polish the gates or train longer."
        )
    if not settled:
        return NOT_RESOLVED, (
            f"The mean square residuals, {offset} in μ and {spread} in log σ², are not resolved against "
            f"{tolerance * tolerance:.3g}. Remedy: more draws."
        )
    if least.value - t * least.stderr < 1:
        return NOT_RESOLVED, f"λ_min = {least} is not resolved against 1. Remedy: more draws."
    return HOLDS, (
        "A point that is stationary to the tolerance, and all eigenvalues on the kept gates are at least 1."
        if kept
        else "A stationary point that keeps no gate: there is nothing to bound."
    )


def _mean(values: Array) -> Estimated:
    """The mean of independent estimates [S]; exact if S = 1."""
    n = len(values)
    return Estimated(float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0)


def _jackknife(value: float, without: Array) -> Estimated:
    """An estimate, with the error that leaving out one of S draws at a time shows."""
    n = len(without)
    return Estimated(value, float(np.sqrt((n - 1) * without.var())))


def _mean_square(r: Array) -> Estimated:
    """mean_j r_j² of a residual [k] from estimates [S, k], without the noise's share; 0 if k = 0."""
    n, k = r.shape
    if n == 1 or k == 0:
        return Estimated(float((r**2).mean()) if k else 0.0)

    def of(total: Array, squares: Array, n: int) -> Array:
        return np.asarray((total**2 - squares).sum(-1) / (n * (n - 1) * k))

    total, squares = r.sum(0), (r**2).sum(0)
    return _jackknife(float(of(total, squares, n)), of(total - r, squares - r**2, n - 1))


def _least(scaled: Array) -> tuple[Estimated, Estimated, Array, Array]:
    """λ_min of the mean of matrices [S, k, k] from below and from above, all eigenvalues descending, its direction."""
    n, k = scaled.shape[:2]
    if k == 0:
        return Estimated(np.inf), Estimated(np.inf), np.zeros(0), np.zeros(0)
    total = scaled.sum(0)
    total = (total + total.T) / 2
    values, vectors = np.linalg.eigh(total / n)
    least = float(values[0])
    if n == 1:
        return Estimated(least), Estimated(least), values[::-1], vectors[:, 0]
    without, along = np.empty(n), np.empty(n)
    for s, one in enumerate(scaled):
        others, directions = np.linalg.eigh((total - (one + one.T) / 2) / (n - 1))
        without[s], along[s] = others[0], directions[:, 0] @ one @ directions[:, 0]
    return _jackknife(least, without), _mean(along), values[::-1], vectors[:, 0]
