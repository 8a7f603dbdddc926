"""The limit on ‖α*‖₀ that is known before anything is solved, at full rank too (docs/theory.md T9).

At every local minimum, for any a > 0: gates with α ≥ a are few by the budget (T7), and gates below a by the spectrum,

    ‖α*‖₀ ≤ #{i : λ_i(G) > 1/(2+a)} + ⌊‖β‖²(1+a)/(4aγ)⌋.

The first part jumps where a = 1/λ_i − 2, the second falls in between: its least value over a is at one of these d
breakpoints, where λ_i itself is not counted (T9's proof has the strict inequality). Both parts only fall as γ rises,
so the limit informs above one price, which each breakpoint gives in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vibtheory.storage.report import Report
from vibtheory.theory.quadratic import QuadraticBound, check_bound
from vibtheory.theory.rank import RankReport, numerical_rank

__all__ = ["APriori", "a_priori_limit", "at_rank"]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class APriori(Report):
    """T9's limit. Counts; prices in nats.

    Attributes:
        limit: at most so many gates are open at any local minimum; never above d.
        level: the minimising a > 0; inf where only the whole spectrum is counted.
        small: how many λ_i(G) exceed 1/(2+a): the most gates with α < a.
        large: the most gates with α ≥ a, by the budget (T7).
        trivial: min(d, rank[A] + 1) with d the columns that are not zero: what is known without T9.
        from_gamma: the limit is below `trivial` at every price above this one, and at none below it (the largest gate's
            price, at the present ratios, if prices differ).
    """

    limit: int
    level: float
    small: int
    large: int
    trivial: int
    from_gamma: float

    @property
    def informative(self) -> bool:
        """limit < min(d, rank[A] + 1)."""
        return self.limit < self.trivial

    def __str__(self) -> str:
        said = "" if self.informative else f", which says no more than min(d, rank + 1) = {self.trivial}"
        return (
            f"at most {self.limit} open gates a priori: {self.small} with α < {self.level:.4g} (spectrum) and "
            f"{self.large} above (budget){said}; informative for γ > {self.from_gamma:.4g} nats"
        )


def a_priori_limit(bound: QuadraticBound) -> APriori:
    """T9 for a bound: the limit on ‖α*‖₀ from G's spectrum, ‖β‖² and the prices alone.

    With unequal prices the cheapest gates are counted first, as in T7's budget: never looser than γ_min for all.

    Args:
        bound: ḡ with d gates, b in A's row space.

    Raises:
        InvalidInputError: Φ is unbounded below (b outside the row space: there is no β).

    Source: docs/theory.md T9.
    """
    check_bound(bound)
    bound.require_bounded()
    return at_rank(bound, numerical_rank(bound))


def at_rank(bound: QuadraticBound, rank: RankReport) -> APriori:
    """`a_priori_limit` of a bound whose b is known to be in A's row space, with its rank report at hand."""
    live = bound.live.size
    trivial, unit = min(live, rank.rank + 1), float(bound.gamma.max())
    if live == 0:
        return APriori(0, np.inf, 0, 0, 0, np.inf)
    squares = np.zeros(live)
    squares[: rank.singular_values.size] = rank.singular_values[:live] ** 2
    # Enclosed from above: an eigenvalue within rounding of a breakpoint is counted on its far side.
    rows = 0 if bound.A is None else bound.A.shape[0]
    squares += 4 * (live + rows) * _EPS * squares[0] + rank.remainder**2
    # Counting the first `small` eigenvalues allows any a up to that of the next; none is needed where a has to be > 0.
    small = np.flatnonzero(squares < 0.5)
    levels = np.append(1 / squares[small] - 2, np.inf)
    small = np.append(small, live)
    spent = bound._beta_squared_above / 4 * (1 + 1e-12) * np.append(1 + 1 / levels[:-1], 1.0)
    shares = np.cumsum(np.sort(bound.gamma[bound.live]) / unit)
    large = np.searchsorted(shares * unit, spent, side="right")
    best = int(np.argmin(small + large))
    room = trivial - 1 - small  # the budget's part may be this large for the limit to inform
    least = spent[room >= 0] / shares[room[room >= 0]]
    return APriori(
        limit=min(live, int(small[best] + large[best])), level=float(levels[best]), small=int(small[best]),
        large=int(large[best]), trivial=trivial, from_gamma=float(least.min(initial=np.inf)),
    )  # fmt: skip
