"""The path of one local minimum over the price γ, with its events (docs/theory.md T7, "Path").

On a fixed support S the minimum moves smoothly, dμ_S/dγ = −H_S⁻¹ [sign(μ)·2√(w(1+α)/γ)/(2+α)]. It stops where a
gate opens (γ = (a_jᵀr)²/w_j, r = β − Aμ), where one closes (μ_j → 0), or where λ_min(H_S) = 0 and the path jumps. It
also jumps where a gate opens onto negative curvature, λ_min(H_{S∪j}) < 0 (`vibtheory claims --only "T7 jumps"`).
Predictor (that derivative), corrector (Newton on S), certificate at every point; a step that does not certify with the
same support and signs is halved, down to the event. Each (support, sign) holds at most one strict minimum (T6), so two
certified ends with the same signs lie on the same branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_positive, as_whole, reject
from vibtheory.storage.report import Report
from vibtheory.theory.certificate import support_hessian
from vibtheory.theory.minima import LocalMinimum, as_local_minimum, find_local_minimum
from vibtheory.theory.normalised import normalise
from vibtheory.theory.penalty import root_noise
from vibtheory.theory.polish import certified_end, newton_on_support
from vibtheory.theory.quadratic import QuadraticBound, check_bound

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PathEvent", "SparsityPath", "path_slope", "sparsity_path"]

Array = NDArray[np.float64]

_RESOLUTION = 1e-10  # an event is located to this relative width in γ
_JUMP = 1e-3  # moving by more than this share of ‖x‖ across an event is a jump


@dataclass(frozen=True)
class PathEvent:
    """Where the support or the branch changes.

    Attributes:
        gamma: the price in nats at which it happens, to a relative width of 1e-10.
        kind: "opens", "closes" or "jumps": a finite move, with or without a change of support.
        opened, closed: indices of the gates that open and close in the direction of travel.
        distance: ‖Δ(μ√w)‖ across the event; ~0 unless it jumps.
    """

    gamma: float
    kind: str
    opened: tuple[int, ...]
    closed: tuple[int, ...]
    distance: float

    def __str__(self) -> str:
        gates = [f"+{j}" for j in self.opened] + [f"-{j}" for j in self.closed]
        return f"γ = {self.gamma:.10g} nats: {self.kind} {' '.join(gates)}".rstrip()


@dataclass(frozen=True, eq=False)
class SparsityPath(Report):
    """Certified local minima along γ, and the events between them.

    Attributes:
        gammas: prices [k] in nats, in the order of travel (the largest gate's, if prices differ between gates).
        minima: one LocalMinimum per price.
        events: in the order of travel.
        steps: accepted predictor–corrector steps.
    """

    gammas: Array
    minima: tuple[LocalMinimum, ...]
    events: tuple[PathEvent, ...]
    steps: int

    @property
    def mu(self) -> Array:
        """Gate means [k, d]."""
        return np.array([m.mu for m in self.minima])

    @property
    def alpha(self) -> Array:
        """Signal-to-noise ratios [k, d]."""
        return np.array([m.alpha for m in self.minima])

    @property
    def nonzeros(self) -> NDArray[np.intp]:
        """‖α*‖₀ at each price [k]."""
        return np.array([m.nonzeros for m in self.minima])

    @property
    def status(self) -> str:
        """ "certified" if every point is, else which prices are not, and the remedy."""
        bad = [float(g) for g, m in zip(self.gammas, self.minima, strict=True) if not m.certificate.certified]
        if not bad:
            return "certified"
        shown = ", ".join(f"{g:.6g}" for g in bad[:5])
        return f"{len(bad)} of {len(self.minima)} points not certified (γ = {shown}); remedy: move those γ off an event"

    def __str__(self) -> str:
        counts = {kind: sum(e.kind == kind for e in self.events) for kind in ("opens", "closes", "jumps")}
        events = ", ".join(f"{n} × {kind}" for kind, n in counts.items() if n) or "no events"
        return (
            f"path over γ from {self.gammas[0]:.4g} to {self.gammas[-1]:.4g} nats: {self.nonzeros[0]} to "
            f"{self.nonzeros[-1]} survivors, {events}; {self.status}"
        )

    def _table(self) -> list[dict[str, Any]]:
        return [
            {"gamma": g, "nonzeros": m.nonzeros, "value": m.value, "certificate": m.certificate.status}
            for g, m in zip(self.gammas, self.minima, strict=True)
        ]

    def events_to_frame(self) -> pd.DataFrame:
        """One row per event."""
        import pandas as pd

        names = ["gamma", "kind", "opened", "closed", "distance"]
        return pd.DataFrame([{n: getattr(e, n) for n in names} for e in self.events], columns=names)


def path_slope(bound: QuadraticBound, mu: ArrayLike) -> Array:
    """dμ/dγ [d] along the path at a stationary point; 0 off the support (T7).

    Where prices differ between gates, γ is the largest one and their ratios stay.

    Args:
        bound: ḡ at the present prices.
        mu: a stationary point [d] with nonsingular Hessian on its support.

    Raises:
        InvalidInputError: wrong shape, or a singular Hessian (the path jumps there).
    """
    check_bound(bound)
    return _slope(bound, as_array("mu", mu, (bound.d,), "pass one μ per gate"))


def _slope(bound: QuadraticBound, mean: Array) -> Array:
    problem = normalise(bound)
    x = problem.coordinates(mean)
    support = np.flatnonzero(x)
    root = np.sqrt(problem.price[support])
    v = root_noise(np.abs(x[support]) / root)
    push = np.sign(x[support]) * 2 * root * v / (1 + v**2)  # T7's, as √(1+α)/(2+α) = v/(1+v²)
    try:
        slope = np.linalg.solve(support_hessian(problem, support, v), push) / -float(bound.gamma.max())
    except np.linalg.LinAlgError:
        reject("mu", "a point with a singular Hessian", "a nonsingular Hessian on the support",
               "the path jumps here: continue with sparsity_path")  # fmt: skip
    x = np.zeros(problem.size)
    x[support] = slope
    return problem.means(x)


@np.errstate(under="ignore")
def sparsity_path(
    bound: QuadraticBound, gammas: ArrayLike, start: ArrayLike | str = "continuation", *, max_events: int = 10_000
) -> SparsityPath:
    """Follow a local minimum of Φ over `gammas`, locating every event on the way.

    Args:
        bound: ḡ; its own γ only fixes the ratios between gates (equal for a scalar γ).
        gammas: prices [k] > 0 in nats, strictly increasing or decreasing.
        start: μ [d] from which the first minimum is sought, or a name, as in `find_local_minimum`.
        max_events: ≥ 1; past it, the remaining prices are solved from warm starts without locating events.

    Returns:
        SparsityPath, its minima certified (see its `status`).

    Raises:
        InvalidInputError: γ ≤ 0, not monotone or empty, Φ unbounded below, bad start, max_events < 1.
    """
    check_bound(bound)
    prices = as_positive("gammas", gammas, (None,), "pass a list of prices γ > 0 in nats")
    steps = np.diff(prices)
    if prices.size == 0 or not ((steps > 0).all() or (steps < 0).all()):
        reject("gammas", f"{prices.size} prices, not monotone" if prices.size else "none",
               "strictly increasing or decreasing prices", "sort them and drop repeats")  # fmt: skip
    max_events = as_whole("max_events", max_events, 1, remedy="omit it")
    walker = _Walker(bound, float(prices[0]), start, max_events)
    minima = [walker.minimum]
    for price in prices[1:]:
        walker.advance(float(price))
        minima.append(walker.minimum)
    return SparsityPath(prices, tuple(minima), tuple(walker.events), walker.steps)


class _Walker:
    """The current point of the path, and how to move it."""

    def __init__(self, bound: QuadraticBound, gamma: float, start: ArrayLike | str, max_events: int) -> None:
        self.base, self.ratios = bound, bound.gamma / bound.gamma.max()
        self.gamma, self.minimum = gamma, find_local_minimum(self.at(gamma), start)
        self.events: list[PathEvent] = []
        self.steps, self.max_events = 0, max_events
        self.stride = np.inf

    def at(self, gamma: float) -> QuadraticBound:
        """ḡ at another price."""
        return self.base._at_prices(gamma * self.ratios)

    def advance(self, target: float) -> None:
        """Move to `target`, halving steps that fail and crossing the events found."""
        while self.gamma != target:
            left = np.log(target) - np.log(self.gamma)
            step = float(np.clip(left, -self.stride, self.stride))
            goal = target if step == left else self.gamma * float(np.exp(step))
            moved = self._step(goal)
            if moved is not None:
                self.gamma, self.minimum = goal, moved
                self.steps += 1
                self.stride *= 2
            elif abs(step) > _RESOLUTION:
                self.stride = abs(step) / 2
            else:
                self._cross(target)

    def _step(self, goal: float) -> LocalMinimum | None:
        """Predict, correct and certify at `goal` with the same support and signs; None if that fails."""
        if not self.minimum.certificate.certified:
            return None
        there, mu = self.at(goal), self.minimum.mu
        problem = normalise(there)
        x = problem.coordinates(mu)
        support, signs = np.flatnonzero(x), np.sign(x)
        if support.size:
            predicted = problem.coordinates(mu + _slope(self.at(self.gamma), mu) * (goal - self.gamma))
            x = predicted if (np.sign(predicted) == signs).all() else x
            part = problem.part(support, problem.block(support, support), problem.linear[support])
            x[support] = newton_on_support(part, x[support], 30)[0]
        x, certificate = certified_end(problem, x)
        if not certificate.certified or (np.sign(x) != signs).any():  # a gate that has closed is an event
            return None
        return as_local_minimum(there, problem, x, certificate, "path", 1)

    def _cross(self, target: float) -> None:
        """Past an event: the minimum that descent finds just beyond, and what changed."""
        before, at = self.minimum, self.gamma
        log_left = np.log(target) - np.log(self.gamma)
        beyond, found = target, before
        for width in (4 * _RESOLUTION, 1e-8, 1e-6, 1e-4, 1e-2, 1.0):  # wider where nothing certifies: it must end
            beyond = target if width >= abs(log_left) else self.gamma * float(np.exp(np.sign(log_left) * width))
            found = find_local_minimum(self.at(beyond), before.mu)
            if found.certificate.certified or beyond == target:
                break
        if len(self.events) >= self.max_events:
            self.gamma, self.minimum = target, find_local_minimum(self.at(target), before.mu)
            return
        root = np.sqrt(self.base.w)
        distance = float(np.linalg.norm((found.mu - before.mu) * root))
        size = float(np.linalg.norm(before.mu * root)) + float(np.sqrt(beyond))
        opened = tuple(int(j) for j in np.flatnonzero((found.alpha > 0) & (before.alpha == 0)))
        closed = tuple(int(j) for j in np.flatnonzero((found.alpha == 0) & (before.alpha > 0)))
        jump = distance > _JUMP * size
        if jump or opened or closed:
            kind = "jumps" if jump or (opened and closed) else "opens" if opened else "closes"
            self.events.append(PathEvent(at, kind, opened, closed, distance))
        self.gamma, self.minimum, self.stride = beyond, found, 1e-2
