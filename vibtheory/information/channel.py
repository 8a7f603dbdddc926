"""`GatedChannel`: the law of a gated layer h = f(x) ⊙ z + τn given its input, as a mixed measure (docs/theory.md P3).

Its entropies and log densities are in nats; f, σ and τ share the unit of h.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_generator, as_indices, as_numbers, as_scalar, check_type, reject

__all__ = ["GatedChannel", "cancels", "check_channel"]

_RESOLVED = 1e-13
_LEAST, _MOST = 1e-150, 1e150  # of a unit's largest numbers: their squares are float64s

Array = NDArray[np.float64]


class GatedChannel:
    """x → h with h_j ~ N(f_j(x) μ_j, f_j(x)² σ_j² + τ²), units independent given x; x uniform on the N rows.

    With τ = 0 a unit with f_j(x) = 0 is an atom at 0: the law has a density against ∏_j (Lebesgue + δ₀), and h can
    only have come from rows with the same zero pattern. With τ > 0 there are no atoms. Closed gates, (μ, σ) = (0, 0),
    carry nothing and are dropped: `f`, `mu` and `sigma` below hold the open ones only.

    Args:
        f: [N, d] activations before the gate, one row per input; float32 is accepted and computed in float64.
        mu: [d] or scalar, the gates' means.
        sigma: [d] or scalar ≥ 0, the gates' standard deviations.
        tau: ≥ 0, standard deviation of noise added to every unit, in the unit of h.

    Attributes:
        f: [N, d_open]. mu, sigma: [d_open]. tau: float. is_open: boolean [d].

    Raises:
        InvalidInputError: wrong shapes, no rows, σ < 0, τ < 0, or (τ = 0 only) an open gate without noise, or
            with so little that its square underflows where f μ does not; a unit whose largest f, gate or f times gate,
            or a τ, has a square that leaves float64.
    """

    @np.errstate(under="ignore")
    def __init__(self, f: ArrayLike, mu: ArrayLike, sigma: ArrayLike, tau: float = 0.0) -> None:
        features = as_array("f", f, (None, None), "pass activations [N, d], one row per input")
        if features.shape[0] < 1:
            reject("f", "no rows", "at least one input", "pass activations [N, d], one row per input")
        width = features.shape[1]
        mean = _per_unit("mu", mu, width)
        deviation = _per_unit("sigma", sigma, width)
        if (deviation < 0).any():
            reject("sigma", f"smallest entry {deviation.min():g}", "entries >= 0", "pass standard deviations")
        self.tau = as_scalar("tau", tau)
        if self.tau < 0:
            reject("tau", tau, "a number >= 0", "pass the standard deviation of the added noise, or 0 for none")
        silent = int(((deviation == 0) & (mean != 0)).sum())
        if silent and self.tau == 0:
            reject(
                "sigma",
                f"{silent} open gates with sigma = 0 and tau = 0",
                "some noise in every open gate (without it I(h; x) is the entropy of h, infinite for continuous x)",
                "pass tau > 0 to state the noise, or sigma > 0",
            )
        self.is_open = (mean != 0) | (deviation != 0)
        self.f: Array = features[:, self.is_open]
        self.mu: Array = mean[self.is_open]
        self.sigma: Array = deviation[self.is_open]
        self._in_range()
        noisy = (self.f != 0) & (self.sigma != 0) & (self.mean**2 >= np.finfo(np.float64).tiny)
        if self.tau == 0 and (noisy & ~self.active).any():
            reject("sigma", "noise whose square a float64 does not hold, in units that do not vanish",
                   "(f sigma)² of at least 1e-307", "pass a larger sigma, or f in another unit")  # fmt: skip

    def _in_range(self) -> None:
        """Refuse numbers whose squares, of which every density is made, leave float64."""
        f = np.maximum(self.f.max(axis=0, initial=0.0), -self.f.min(axis=0, initial=0.0))
        with np.errstate(over="ignore"):
            gate = np.hypot(self.mu, self.sigma)
            sizes = np.concatenate([f, gate, f * gate, [self.tau]])
        sizes = sizes[sizes > 0]
        if (sizes < _LEAST).any() or (sizes > _MOST).any():
            reject("f, mu, sigma, tau", f"sizes from {sizes.min():.3g} to {sizes.max():.3g}",
                   f"these and f times gate from {_LEAST:g} to {_MOST:g}, or 0", "use other units")  # fmt: skip

    @classmethod
    def regular(cls, f: ArrayLike, tau: float) -> GatedChannel:
        """The channel of a layer without gates, h = f(x) + τn: the noise has to be stated, τ > 0."""
        return cls(f, 1.0, 0.0, tau)

    @property
    def n(self) -> int:
        """N, the number of rows."""
        return len(self.f)

    @property
    def d(self) -> int:
        """Number of open gates."""
        return len(self.mu)

    @property
    def width(self) -> int:
        """Number of gates, open or closed."""
        return len(self.is_open)

    @property
    def mean(self) -> Array:
        """E[h|x], [N, d]."""
        mean: Array = self.f * self.mu
        return mean

    @property
    @np.errstate(under="ignore")
    def variance(self) -> Array:
        """Var[h|x], [N, d]; 0 at atoms."""
        variance: Array = (self.f * self.sigma) ** 2 + self.tau**2
        return variance

    @property
    def active(self) -> NDArray[np.bool_]:
        """[N, d]: where h_j given x has a density; False at atoms. All True with τ > 0."""
        return self._has_density(self.f)

    @cached_property
    def pattern(self) -> NDArray[np.intp]:
        """[N]: number of each row's zero pattern, 0 … count − 1; all 0 with τ > 0."""
        if self.tau > 0 or self.d == 0:
            return np.zeros(self.n, dtype=np.intp)
        packed = np.ascontiguousarray(np.packbits(self.active, axis=1))  # [N, ⌈d/8⌉] bytes
        keys = packed.view(np.dtype((np.void, packed.shape[1])))[:, 0]
        number: NDArray[np.intp] = np.unique(keys, return_inverse=True)[1].reshape(-1)
        return number

    def pattern_entropy(self) -> float:
        """H(zero pattern) in nats over the N rows; it is part of I(h; x), since the pattern is a function of both."""
        share = np.bincount(self.pattern) / self.n
        return float(-(share * np.log(share)).sum()) + 0.0  # 0, not −0, of one pattern

    def rows(self, index: ArrayLike) -> GatedChannel:
        """The channel on the rows `index` (integers or booleans [N]), at least one."""
        chosen = self._rows("index", index)
        if not len(chosen):
            reject("index", "no rows", "at least one", "pass numbers of rows, or a boolean for each")
        part = object.__new__(GatedChannel)  # checked once, as a whole
        part.f, part.mu, part.sigma, part.tau, part.is_open = (
            self.f[chosen],
            self.mu,
            self.sigma,
            self.tau,
            self.is_open,  # closed gates still count in `width`
        )
        return part

    def sample(self, seed: int | np.random.Generator, rows: ArrayLike | None = None) -> Array:
        """One draw of h for each of `rows` (all by default), from `seed` or its generator: [N, d].

        Raises:
            InvalidInputError: noise below 1e-13 of a unit's mean, which float64 would round away.
        """
        generator = as_generator("seed", seed, "GatedChannel.sample")
        f = self.f if rows is None else self.f[self._rows("rows", rows)]
        return self._draws(generator, f, 1)

    def _draws(self, generator: np.random.Generator, f: Array, count: int) -> Array:
        """`count` draws of h for each row of f, [count·B, d], draw after draw, as `sample` gives them in turn."""
        self.check_resolved()
        noise = generator.standard_normal((count, 1 + (self.tau > 0), *f.shape))
        h: Array = f * (self.mu + self.sigma * noise[:, 0])
        if self.tau > 0:
            h += self.tau * noise[:, 1]
        else:
            h[:, ~self._has_density(f)] = 0.0
        return h.reshape(count * len(f), self.d)

    def check_resolved(self) -> None:
        """Raise InvalidInputError for noise below 1e-13 of a unit's mean, which float64 would round away."""
        with np.errstate(over="ignore"):
            lost = self.active & (np.abs(self.mean) * _RESOLVED > np.sqrt(self.variance))
        if lost.any():
            reject("sigma" if self.tau == 0 else "tau", f"noise below {_RESOLVED:g} of the unit itself",
                   "noise that draws in float64 can show", "pass more noise, or centre f")  # fmt: skip

    @np.errstate(under="ignore")
    def log_density(self, h: ArrayLike, pattern: ArrayLike | None = None) -> Array:
        """log p(h_b | x_n) against ∏(Lebesgue + δ₀), or Lebesgue if τ > 0; −inf where the zero patterns differ.

        Args:
            h: [B, d].
            pattern: [B], the zero pattern's number of each h where known (τ = 0); else it is looked up.

        Returns:
            [B, N], nats. Cost: two matrix products, 4BNd operations; unit by unit, slower, where rows lie so far apart
            that products would lose 1e-4 nats.

        Raises:
            InvalidInputError: `h` has the wrong number of units, or `pattern` the wrong length.
        """
        points = as_array("h", h, (None, self.d), "pass points in the space of the open gates")
        source = None
        if pattern is not None:
            source = as_array("pattern", pattern, (len(points),), "one number per row of h").astype(np.intp)
        return self._log_density(points, source)

    def _log_density(self, points: Array, source: NDArray[np.intp] | None) -> Array:
        centre, weight, scaled, constant = self._terms
        if self._apart is not None:
            means, constant = self._apart
            result: Array = np.tile(constant, (len(points), 1))
            for h, mean, precision in zip(points.T, means.T, weight.T, strict=True):
                result -= 0.5 * precision * (h[:, None] - mean) ** 2
        else:
            shifted = points - centre
            result = shifted @ scaled.T  # Σ h m/v
            result -= 0.5 * (shifted**2 @ weight.T)  # Σ h²/2v
            result += constant
        if self.tau == 0:
            source = self._patterns_of(points) if source is None else source
            result[source[:, None] != self.pattern[None, :]] = -np.inf
        return result

    @np.errstate(under="ignore")
    def log_density_ratio(self, h: ArrayLike, rows: ArrayLike) -> Array:
        """log p(h_b | x_{rows_b}) − log p(h_b) in nats, [B]: its mean over draws is I(h; x).

        p(h) is the mixture over all N rows, so the ratio does not depend on the dominating measure.

        Args:
            h: [B, d], points drawn by `sample`.
            rows: [B] integers, the row that each point was drawn from.

        Raises:
            InvalidInputError: `rows` is not one row number per point, or a point cannot have come from its row.
        """
        as_numbers("rows", rows)
        index = np.asarray(rows)
        density = self.log_density(h)
        fits = index.shape == (len(density),) and index.dtype.kind in "iu"
        if not fits or not ((index >= 0) & (index < self.n)).all():
            got = f"{index.dtype} array of shape {list(index.shape)}"
            reject("rows", got, f"{len(density)} integers in 0 ... {self.n - 1}", "pass the row of each point")
        own = density[np.arange(len(index)), index]
        if np.isneginf(own).any():
            reject("h", "a point with another zero pattern than its row", "points drawn from `rows`", "use sample()")
        top = density.max(axis=1)
        marginal = top + np.log(np.exp(density - top[:, None]).mean(axis=1))
        ratio: Array = own - marginal
        return ratio

    def _rows(self, argument: str, index: ArrayLike) -> NDArray[np.intp]:
        return as_indices(argument, index, self.n, "pass numbers of rows, or a boolean for each")

    @np.errstate(under="ignore")
    def _has_density(self, f: Array) -> NDArray[np.bool_]:
        if self.tau > 0:
            return np.ones(f.shape, dtype=np.bool_)
        # not f != 0: where (fσ)² underflows, 1/v would overflow, and h is 0 to machine precision as well (checked)
        result: NDArray[np.bool_] = (f * self.sigma) ** 2 >= np.finfo(np.float64).tiny
        return result

    @cached_property
    def _terms(self) -> tuple[Array, Array, Array, Array]:
        """centre [d], 1/v, m/v [N, d] (0 at atoms), −½ Σ (m²/v + log 2πv) [N]; centred against cancellation."""
        # With atoms the origin is special: a shift would have to be the same in every pattern, so none is made.
        centre = self.mean.mean(axis=0) if self.tau > 0 else np.zeros(self.d)
        active, variance, mean = self.active, self.variance, self.mean - centre
        safe = np.where(active, variance, 1.0)
        weight = np.where(active, 1.0 / safe, 0.0)
        scaled = mean * weight
        constant = -0.5 * (mean * scaled + np.where(active, np.log(2 * np.pi * safe), 0.0)).sum(axis=1)
        return centre, weight, scaled, constant

    @cached_property
    def _apart(self) -> tuple[Array, Array] | None:
        """E[h|x] [N, d] and −½ Σ log 2πv [N], where densities are to be found by differences; else None."""
        centre, _, scaled, _ = self._terms
        if not cancels((self.mean - centre) * scaled):
            return None
        volume = np.log(2 * np.pi * np.where(self.active, self.variance, 1 / (2 * np.pi)))
        return self.mean, -0.5 * volume.sum(axis=1)

    def _patterns_of(self, points: Array) -> NDArray[np.intp]:
        """Pattern numbers [B] of points; −1 where no row has that pattern."""
        number = {row.tobytes(): int(k) for row, k in zip(np.packbits(self.active, axis=1), self.pattern, strict=True)}
        keys = np.packbits(points != 0, axis=1)
        return np.array([number.get(row.tobytes(), -1) for row in keys], dtype=np.intp)

    def __repr__(self) -> str:
        return f"GatedChannel(N={self.n}, open={self.d} of {self.width}, tau={self.tau:g})"


def check_channel(channel: object) -> None:
    """Raise InvalidInputError about `channel` unless it is a `GatedChannel`."""
    check_type("channel", channel, GatedChannel, "build one: GatedChannel(f, mu, sigma, tau)")


def cancels(squares: Array) -> bool:
    """Whether exponents made of the sums of `squares` [N, d], of the order of distances², lose more than 1e-4 nats."""
    return bool(np.finfo(np.float64).eps * squares.sum(axis=1).max(initial=0.0) > 1e-4)


def _per_unit(argument: str, value: ArrayLike, width: int) -> Array:
    array = as_array(argument, value)
    if array.shape not in ((), (width,)):
        reject(argument, f"shape {list(array.shape)}", f"a scalar or shape [{width}]", "one number per column of f")
    return np.full(width, array)
