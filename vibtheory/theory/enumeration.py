"""Every certified local minimum of Φ for d ≤ 12 (THEORY.md T6: enumeration is complete): ground truth for the solvers.

For one support S (independent columns, T2) and one sign vector s put y = s∘x_S > 0. The part of that orthant where the
Hessian of F is positive definite, M(y) = sG_Ss − diag(1/(2+α)) ≻ 0, is convex because 1/(2+α) = v²/(1+v²) is convex in
y, and F is strictly convex there: at most one strict local minimum per region, 3^d regions. A region is discarded where
it provably holds none, in this order, vectorised over regions and widened for rounding:

1. contraction: a stationary point satisfies y = s∘x_LS − (sG_S⁻¹s)√D v, v ∈ (0, 1], and v falls as y grows; the
   interval for y becomes empty;
2. some closed gate would open for every y in the interval, or M is indefinite at its upper end, where M is largest;
3. at a point of a log-barrier path in the region, duality bounds λ_min(M) or some y_j at any minimum by 1e-8: at best
   degenerate (`_degenerate`). Such minima, of probability about 1e-8 for random data, are the only ones not listed.

Pure Newton from the path's points reaches the interior minimum where there is one; it is polished and certified.

Cost: at most 3^d regions in step 1 and a few thousand paths: d = 8 in seconds, d = 12 in a minute or two.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import reject
from vibtheory.theory.central_path import SINGULAR, centre, gradient_at, multipliers, pure_newton, smallest_eigenvalue
from vibtheory.theory.certificate import certify_normalised
from vibtheory.theory.minima import LocalMinimum, as_local_minimum
from vibtheory.theory.normalised import NormalisedProblem, normalise, root_noise
from vibtheory.theory.polish import newton_on_support
from vibtheory.theory.quadratic import QuadraticBound

__all__ = ["MAX_ENUMERATED", "enumerate_local_minima"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
MAX_ENUMERATED = 12
_CONTRACTIONS = 12
_WIDEN = 1e-9
_CHUNK = 20_000
_STAGES = 16
_SHRINK = 0.05
DEGENERATE = 1e-8


def enumerate_local_minima(bound: QuadraticBound) -> tuple[LocalMinimum, ...]:
    """All certified local minima of Φ, the lowest (global) first.

    Args:
        bound: ḡ with at most 12 columns of w_j > 0 (the others are free and cost nothing). Φ need not be bounded below:
            where b leaves the row space the first entry is only the lowest local minimum, and where w_j = 0 ≠ b_j there
            is none.

    Returns:
        LocalMinimum records sorted by Φ; never empty for a bounded Φ, except where every minimum is degenerate (a tie
        or a singular Hessian), which cannot be certified.

    Raises:
        InvalidInputError: more than 12 columns with w_j > 0.

    Source: THEORY.md T2, T6.
    """
    problem = normalise(bound)
    if problem.size > MAX_ENUMERATED:
        reject("bound", f"{problem.size} columns with w > 0", f"at most {MAX_ENUMERATED}", "use find_local_minimum")
    if ((bound.w == 0) & (bound.b != 0)).any():
        return ()
    everything = np.arange(problem.size)
    gram = problem.block(everything, everything)
    found = [np.zeros(problem.size)]
    for order in range(1, problem.size + 1):
        supports = np.array(list(combinations(range(problem.size), order)))
        independent: Mask = (
            np.linalg.eigvalsh(gram[supports[:, :, None], supports[:, None, :]])[:, 0] > SINGULAR * order
        )
        kept, signs = supports[independent], np.array(list(product((1.0, -1.0), repeat=order)))
        step = max(1, _CHUNK // len(signs))
        for first in range(0, len(kept), step):
            found.extend(_search(problem, gram, kept[first : first + step], signs))
    minima = []
    for x in found:
        polished, steps = newton_on_support(problem, x, 20) if x.any() else (x, 0)
        certificate = certify_normalised(problem, polished)
        if certificate.certified and (np.sign(polished) == np.sign(x)).all():
            minima.append(as_local_minimum(bound, problem, polished, certificate, "enumeration", steps))
    return tuple(sorted(minima, key=lambda minimum: minimum.value))


@dataclass(frozen=True)
class _Regions:
    """n candidate regions of order k, signs applied; `low` ≤ y ≤ `high` at any stationary point."""

    support: NDArray[np.intp]  # [n, k]
    sign: Array  # [n, k]
    gram: Array  # [n, k, k]
    inverse: Array  # [n, k, k]
    linear: Array  # [n, k]
    price: Array  # [n, k]
    low: Array  # [n, k]
    high: Array  # [n, k]

    def keep(self, mask: Mask) -> _Regions:
        return _Regions(*(getattr(self, field.name)[mask] for field in fields(self)))


def _search(problem: NormalisedProblem, gram: Array, supports: NDArray[np.intp], signs: Array) -> list[Array]:
    """Stationary points with M ≻ 0 over all (support, sign) pairs of one order; supports [n, k], signs [2^k, k]."""
    which = np.repeat(np.arange(len(supports)), len(signs))
    sign = np.tile(signs, (len(supports), 1))
    flip = sign[:, :, None] * sign[:, None, :]
    blocks = gram[supports[:, :, None], supports[:, None, :]]
    regions = _Regions(
        support=supports[which],
        sign=sign,
        gram=blocks[which] * flip,
        inverse=np.linalg.inv(blocks)[which] * flip,
        linear=problem.linear[supports[which]] * sign,
        price=problem.price[supports[which]],
        low=np.zeros_like(sign),
        high=np.full_like(sign, np.inf),
    )
    regions = regions.keep(_possible(problem, gram, regions))
    y = regions.high.copy()
    found: list[Array] = []
    slope = gradient_at(regions.gram, regions.linear, regions.price, y)
    barrier = np.maximum(1.0, np.abs(np.einsum("ni,ni->n", slope, y)) / max(1, y.shape[1]))
    for _ in range(_STAGES):
        if not len(y):
            break
        y = centre(regions.gram, regions.linear, regions.price, y, barrier)
        point, done = pure_newton(regions.gram, regions.linear, regions.price, y)
        for i in np.flatnonzero(done):
            x = np.zeros(problem.size)
            x[regions.support[i]] = regions.sign[i] * point[i]
            found.append(x)
        alive = ~done & ~_degenerate(regions, y, barrier)
        regions, y, barrier = regions.keep(alive), y[alive], _SHRINK * barrier[alive]
    return found


def _possible(problem: NormalisedProblem, gram: Array, regions: _Regions) -> Mask:
    """Contract the intervals in place; False where steps 1 and 2 rule a region out."""
    alive = _contract(regions)
    alive[alive] = _may_stay_closed(problem, gram, regions.keep(alive))
    rest = regions.keep(alive)
    alive[alive] = smallest_eigenvalue(rest.gram, rest.high, rest.price) > SINGULAR
    return alive


def _contract(regions: _Regions) -> Mask:
    """Step 1, in place; False where an interval is empty."""
    low, high, root = regions.low, regions.high, np.sqrt(regions.price)
    middle = -0.5 * np.einsum("nij,nj->ni", regions.inverse, regions.linear)
    weight = regions.inverse * root[:, None, :]
    up, down = np.maximum(weight, 0.0), np.minimum(weight, 0.0)
    slack = _WIDEN * (1.0 + np.abs(middle) + np.abs(weight).sum(axis=2))
    active = np.arange(len(low))
    for _ in range(_CONTRACTIONS):
        least = root_noise(high[active] / root[active]) * (1 - _WIDEN)
        most = np.minimum(root_noise(low[active] / root[active]) * (1 + _WIDEN), 1.0)
        a, b = up[active], down[active]
        top = middle[active] - np.einsum("nij,nj->ni", a, least) - np.einsum("nij,nj->ni", b, most) + slack[active]
        bottom = middle[active] - np.einsum("nij,nj->ni", a, most) - np.einsum("nij,nj->ni", b, least) - slack[active]
        before = high[active] - low[active]
        high[active] = np.minimum(high[active], top)
        low[active] = np.maximum(low[active], bottom)
        after = high[active] - low[active]
        shrinks = (after < 0.95 * before).any(axis=1) & ((after >= 0) & (high[active] > 0)).all(axis=1)
        active = active[shrinks]
        if not len(active):
            break
    return np.asarray(((low <= high) & (high > 0)).all(axis=1))


def _may_stay_closed(problem: NormalisedProblem, gram: Array, regions: _Regions) -> Mask:
    """False where some closed gate's |2Gx + p| exceeds 2√D for every y in the interval."""
    middle, radius = 0.5 * (regions.low + regions.high) * regions.sign, 0.5 * (regions.high - regions.low)
    columns = gram[regions.support]  # [n, k, size]
    response = 2.0 * np.einsum("nk,nkj->nj", middle, columns) + problem.linear
    doubt = 2.0 * np.einsum("nk,nkj->nj", radius, np.abs(columns))
    opens = np.abs(response) - doubt > 2.0 * np.sqrt(problem.price) + _WIDEN * (1.0 + np.abs(response) + doubt)
    np.put_along_axis(opens, regions.support, False, axis=1)
    return np.asarray(~opens.any(axis=1))


def _degenerate(regions: _Regions, y: Array, barrier: Array) -> Mask:
    """Step 3: True where every local minimum of the region has λ_min(M) or some y_j below `DEGENERATE`.

    With Z = τM(ŷ)⁻¹ (up to a factor), ζ_j = −Z_jj c'_j ≥ 0 and λ = ∇F(ŷ) − ζ, a minimum y* in the
    region satisfies, F and c being convex,

        λ_min(M(y*)) tr Z ≤ ⟨Z, M(y*)⟩ ≤ τk + ζᵀ(y* − ŷ)   and   (ζ + λ)ᵀ(y* − ŷ) ≤ 0,

    hence λ_min(M(y*)) tr Z ≤ τk + max −λᵀ(y − ŷ) and λ_jy*_j ≤ τk + λ_jŷ_j + max over the others, over the interval.
    """
    multiplier, curvature = multipliers(regions.gram, regions.price, y, barrier)
    gradient = gradient_at(regions.gram, regions.linear, regions.price, y)
    # Any Z ⪰ 0 will do: rescaling it takes up most of what is left of ∇F off the path's centre.
    fit = np.einsum("ni,ni->n", gradient, curvature) / np.einsum("ni,ni->n", curvature, curvature)
    fit = np.clip(fit, 0.1, 10.0)
    multiplier, slope = fit * multiplier, gradient - fit[:, None] * curvature
    gain = np.maximum(-slope * (regions.low - y), -slope * (regions.high - y))  # [n, k]
    room = fit * barrier * y.shape[1] + gain.sum(axis=1)
    room += 1e-12 * (1.0 + (np.abs(slope) * (y + regions.high)).sum(axis=1))
    thin = room < DEGENERATE * multiplier
    others = room[:, None] - gain + slope * y  # ≥ λ_j y*_j
    return np.asarray(thin | (others < DEGENERATE * slope).any(axis=1))
