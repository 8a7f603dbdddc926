"""The discrete information bottleneck: Blahut–Arimoto with annealing, and the deterministic bottleneck.

Convention for β, here and in `bottleneck_curve` and `gaussian_bottleneck`: minimise I(T;X) − β I(T;Y) over encoders
p(t|x), T – X – Y a Markov chain (Tishby, Pereira & Bialek 1999). β is a price: nats of I(T;X) paid per nat of I(T;Y),
the slope dI(T;X)/dI(T;Y) of the curve. By data processing nothing is worth keeping at β ≤ 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, rel_entr

from vibtheory.errors import as_array, as_generator, as_scalar, reject, shown
from vibtheory.information.result import Rounded

__all__ = ["BottleneckSolution", "blahut_arimoto", "deterministic_bottleneck", "stability_beta"]

Array = NDArray[np.float64]

_NEVER = -1e100  # stands for log 0 where it must survive a multiplication by 0
_EXACT = 1e-9  # nats: a cluster that lowers the objective by less is not worth adding
_SAME = 1e-11  # nats of the objective that merging two clusters may cost
_NEAR = 1e-7  # nats per mass of the smaller that two clusters differ by when they are merged
_ROUNDS = 30  # of added clusters
_ASCENT = 60  # steps of the search for a better cluster
_TIDY = 20  # steps between mergers
_STALL = 100  # steps in which the objective has to fall by 1e-12 nats
_MEMORY = 8  # iterates that an extrapolation uses


@dataclass(frozen=True)
class BottleneckSolution(Rounded):
    """One encoder and where it lies in the information plane; all information in nats.

    Attributes:
        encoder: [nx, nt], p(t|x); rows sum to 1. Clusters of no mass are removed, and those that say the same of y
            (to 1e-11 nats of the objective) are one.
        beta: the price β of the objective.
        i_tx: I(T;X). i_ty: I(T;Y). h_t: H(T).
        objective: I(T;X) − β I(T;Y) (method "blahut-arimoto"), H(T) − β I(T;Y) (method "deterministic").
        method: the algorithm.
        status: "converged", or what went wrong and the remedy.
        iterations: fixed-point steps taken.
        gap: how far the objective can lie above its minimum, as far as the search for a better cluster found; ∞ where
            nothing is known (deterministic, or fewer clusters allowed than are of use).
    """

    encoder: Array
    beta: float
    i_tx: float
    i_ty: float
    h_t: float
    objective: float
    method: str
    status: str
    iterations: int
    gap: float = np.inf

    @property
    def clusters(self) -> int:
        """Number of clusters with mass, each with a p(y|t) of its own."""
        return int(self.encoder.shape[1])

    def __str__(self) -> str:
        return (
            f"{self.method} at β = {self.beta:g}: I(T;X) = {self.i_tx:.6f} nats, I(T;Y) = {self.i_ty:.6f} nats, "
            f"{self.clusters} cluster{'s' if self.clusters > 1 else ''}; {self.status}"
        )


def blahut_arimoto(
    joint: ArrayLike,
    beta: float,
    *,
    clusters: int | None = None,
    restarts: int = 6,
    start: ArrayLike | None = None,
    tolerance: float = 1e-12,
    max_iterations: int = 20_000,
    seed: int = 0,
) -> BottleneckSolution:
    """The information bottleneck at one β: min over p(t|x) of I(T;X) − β I(T;Y).

    Blahut–Arimoto's fixed point p(t|x) ∝ p(t) exp(−β KL(p(y|x)‖p(y|t))) never raises the objective; Anderson's
    extrapolation (Walker & Ni 2011) speeds it up where that holds too. Its local minima are left by what the problem
    is, a convex one over distributions of clusters r = p(y|t): with Z_x the fixed point's normaliser, mass on r lowers
    the objective if and only if c(r) = Σ_x p(x) exp(β Σ_y p(y|x) log r(y)) / Z_x > 1, and no encoder lies lower by
    more than max_r log c(r) (the dual bound of rate–distortion, Blahut 1972). That maximum is searched from every
    p(y|x) and from random mixtures of them; what is found above 1 joins the clusters, and the fixed point goes on.

    Args:
        joint: [nx, ny], p(x, y) ≥ 0 with sum 1; every x must have mass.
        beta: β ≥ 0.
        clusters: nt, at most this many values of T; nx of them suffice and are the default. With fewer than are of
            use the problem is not convex, and the best of 2 + `restarts` starts is returned.
        restarts: number of random mixtures (with few clusters: of random encoders), ≥ 0.
        start: [nx, nt], the encoder to begin from (to continue along β); T = X by default.
        tolerance: stop when no entry of p(y, t) moves by more in one step.
        max_iterations: fixed-point steps, of each start.
        seed: of the random starts.

    Returns:
        BottleneckSolution.

    Raises:
        InvalidInputError: joint is not a distribution, β < 0, a count or the tolerance out of range, start no encoder.
    """
    p_xy = check_joint(joint)
    price = check_beta(beta)
    nx = p_xy.shape[0]
    nt = nx if clusters is None else as_count("clusters", clusters, 1)
    as_count("restarts", restarts, 0)
    as_count("max_iterations", max_iterations, 1)
    if not tolerance > 0:
        reject("tolerance", tolerance, "a number > 0", "use the default 1e-12")
    first = None if start is None else p_xy.T @ _check_encoder(start, nx, nt)
    rng = as_generator("seed", seed, "clusters to start from")
    problem = Problem(p_xy, restarts, rng)
    found = problem.solve(price, first, tolerance, max_iterations)
    if found.clusters <= nt:
        return found
    steps = found.iterations
    starts = [first, _agglomerated(found, p_xy, nt)]
    starts += [p_xy.T @ rng.dirichlet(np.full(nt, 0.5), size=nx) for _ in range(restarts)]
    for p_yt in (p for p in starts if p is not None):
        other = problem.solve(price, p_yt, tolerance, max_iterations, grow=False)
        steps += other.iterations
        if found.clusters > nt or other.objective < found.objective:
            found = other
    return replace(found, iterations=steps)


def deterministic_bottleneck(
    joint: ArrayLike,
    beta: float,
    *,
    restarts: int = 30,
    max_iterations: int = 1000,
    seed: int = 0,
) -> BottleneckSolution:
    """The deterministic bottleneck: min over maps t = t(x) of H(T) − β I(T;Y) (Strouse & Schwab 2017).

    Their fixed point t(x) = argmax_t [log p(t) − β KL(p(y|x)‖p(y|t))], then single moves and merges of clusters while
    they lower the objective (the fixed point alone stops at partitions that a merge improves); best of the restarts.

    Args:
        joint: [nx, ny], p(x, y) ≥ 0 with sum 1; every x must have mass.
        beta: β ≥ 0.
        restarts: number of random partitions besides T = X and T constant, ≥ 0.
        max_iterations: rounds per start.
        seed: of the random partitions.

    Raises:
        InvalidInputError: joint is not a distribution, β < 0, or a count out of range.
    """
    p_xy = check_joint(joint)
    price = check_beta(beta)
    as_count("restarts", restarts, 0)
    as_count("max_iterations", max_iterations, 1)
    nx = p_xy.shape[0]
    rng = as_generator("seed", seed, "partitions to start from")
    starts: list[NDArray[np.intp]] = [np.arange(nx, dtype=np.intp), np.zeros(nx, dtype=np.intp)]
    starts += [np.asarray(rng.integers(0, nx, size=nx), dtype=np.intp) for _ in range(restarts)]
    iterations, best, best_value, settled = 0, starts[0], np.inf, True
    for labels in starts:
        done = False
        for _ in range(max_iterations):
            iterations += 1
            after = _improve_partition(p_xy, price, labels)
            done = bool((after == labels).all())
            labels = after
            if done:
                break
        value = _partition_value(p_xy, price, labels)
        if value < best_value - 1e-15:
            best, best_value, settled = labels, value, done
    encoder = _without_empty(p_xy, np.eye(nx)[best])
    i_tx, i_ty, h_t = _plane(p_xy, encoder)
    status = "converged" if settled else f"not converged. Remedy: raise max_iterations above {max_iterations}"
    return BottleneckSolution(encoder, price, i_tx, i_ty, h_t, best_value, "deterministic", status, iterations)


def stability_beta(joint: ArrayLike) -> float:
    """β at which the trivial encoder stops being a local minimum: 1/s₂², ∞ for independent x and y.

    s₂ is the second singular value of p(x,y)/√(p(x)p(y)), the maximal correlation; Gaussian analogue: 1/ρ₁². A
    non-trivial global minimum can exist at smaller β already (a first-order jump), never at β ≤ 1.

    Args:
        joint: [nx, ny], p(x, y).
    """
    p_xy = check_joint(joint)
    p_y = p_xy.sum(0)
    seen = p_y > 0
    scaled = p_xy[:, seen] / np.sqrt(np.outer(p_xy.sum(1), p_y[seen]))
    values = np.linalg.svd(scaled, compute_uv=False)
    second = float(values[1]) if values.size > 1 else 0.0
    return 1 / second**2 if second > 1e-12 else float("inf")


def check_joint(joint: ArrayLike) -> Array:
    """`joint` as a distribution [nx, ny], of sum 1 to float64; raises InvalidInputError otherwise.

    A softmax in float32 sums to 1 to 1e-6 only, and half precision to 1e-2: the tolerance is that of the entries.
    """
    p_xy = as_array("joint", joint, (None, None), "pass p(x, y) with one row per x")
    if p_xy.size == 0:
        reject("joint", f"shape {list(p_xy.shape)}", "at least one x and one y", "pass p(x, y)")
    if (p_xy < 0).any():
        reject("joint", f"smallest entry {p_xy.min():g}", "probabilities >= 0", "pass p(x, y)")
    if abs(p_xy.sum() - 1) > 1e-6 + 1e3 * _resolution(joint):
        reject("joint", f"sum {p_xy.sum():.12g}", "sum 1", "divide by the sum")
    if (p_xy.sum(1) <= 0).any():
        reject("joint", "an x of probability 0", "p(x) > 0 for every row", "remove the empty rows")
    return np.asarray(p_xy / p_xy.sum(), dtype=np.float64)


def _resolution(joint: ArrayLike) -> float:
    kind = np.asarray(joint).dtype
    return float(np.finfo(kind).eps) if kind.kind == "f" else 0.0


def as_count(argument: str, value: object, least: int) -> int:
    """`value` as a whole number of at least `least`; raises InvalidInputError about `argument` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        reject(argument, shown(value), f"an integer >= {least}", "use the default")
    return int(value)


def check_beta(beta: float) -> float:
    price = as_scalar("beta", beta)
    if price < 0:
        reject("beta", price, "a number >= 0", "the objective is I(T;X) - beta I(T;Y)")
    return price


def _check_encoder(start: ArrayLike, nx: int, nt: int) -> Array:
    encoder = as_array("start", start, (nx, None), "pass p(t|x), one row per x")
    if (encoder < 0).any() or (abs(encoder.sum(1) - 1) > 1e-6).any():
        reject(
            "start", "rows that are no distributions", "p(t|x) >= 0 with rows of sum 1", "divide each row by its sum"
        )
    if encoder.shape[1] > nt:
        reject("start", f"{encoder.shape[1]} clusters", f"at most clusters = {nt}", "raise clusters")
    return np.pad(encoder, ((0, 0), (0, nt - encoder.shape[1])))


class Problem:
    """Blahut–Arimoto on one joint, for every β: the state is p(y, t) [ny, K], an image of the encoder.

    Args:
        p_xy: [nx, ny], checked.
        restarts: random mixtures of p(y|x) from which better clusters are searched.
        rng: draws them.
    """

    def __init__(self, p_xy: Array, restarts: int, rng: np.random.Generator) -> None:
        self.p_xy, self.p_x, self.p_y = p_xy, p_xy.sum(1), p_xy.sum(0)
        self.log_px = np.log(self.p_x)
        self.y_given_x = p_xy / self.p_x[:, None]
        mixtures = rng.dirichlet(np.full(len(p_xy), 0.1), size=restarts) @ self.y_given_x
        # never on the boundary, which no step could leave: r(y) = 0 stays 0
        self.seeds = 0.95 * np.concatenate([self.y_given_x, mixtures]) + 0.05 * self.p_y

    def solve(
        self, beta: float, p_yt: Array | None, tolerance: float, max_iterations: int, grow: bool = True
    ) -> BottleneckSolution:
        """The fixed point from p(y, t), grown by better clusters until there are none."""
        if p_yt is None:
            p_yt = (self.seeds[: len(self.p_x)] * self.p_x[:, None]).T
        trivial = self.p_y[:, None]
        if beta <= 1:  # data processing: I(T;X) ≥ I(T;Y)
            return self._solution(beta, trivial, 0, 0.0, 0.0, tolerance, max_iterations)
        steps, gap = 0, np.inf
        for small, gain in (
            (max(tolerance, 1e-8), 1e-5),
            (tolerance, _EXACT),
        ):  # coarse first: most clusters come there
            for _ in range(_ROUNDS):
                p_yt, log_z, used, moved = self._descend(p_yt, beta, small, max_iterations - steps)
                steps += used
                if not grow:
                    break
                better, gap = self._better_clusters(p_yt, beta, log_z, gain)
                if gap <= gain or steps >= max_iterations:
                    break
                grown = self._grown(p_yt, better, beta)
                if grown is None:
                    break
                p_yt = grown
        return self._solution(beta, p_yt, steps, gap, moved, tolerance, max_iterations)

    def encoder(self, p_yt: Array, beta: float) -> tuple[Array, Array]:
        """p(t|x) [nx, K] and log Z_x [nx] of one fixed-point step."""
        p_t = p_yt.sum(0)
        score = self.y_given_x @ (beta * _log(p_yt / p_t)) + np.log(p_t)
        top = score.max(1, keepdims=True)
        weight = np.exp(score - top)
        total = weight.sum(1, keepdims=True)
        return weight / total, (top + np.log(total))[:, 0]

    def _descend(self, p_yt: Array, beta: float, tolerance: float, budget: int) -> tuple[Array, Array, int, float]:
        """Fixed-point steps with Anderson's extrapolation: p(y, t), log Z, steps, the last movement."""
        steps, moved = 0, np.inf
        safe, lowest, stalled = (
            p_yt,
            np.inf,
            np.inf,
        )  # a plain step from the best point so far, and that point's objective
        points: list[Array] = []
        residuals: list[Array] = []
        while True:
            encoder, log_z = self.encoder(p_yt, beta)
            steps += 1
            value = -float(self.p_x @ log_z)
            if value > lowest + 1e-14 and points:  # the extrapolation overshot
                p_yt, points, residuals = safe, [], []
                continue
            after = self.p_xy.T @ encoder
            residual = after - p_yt
            moved = float(abs(residual).max())
            safe, lowest = after, min(value, lowest)
            if moved <= tolerance or steps >= budget:
                return after, log_z, steps, moved
            if steps % _STALL == 0:
                if stalled - lowest < 1e-12:
                    return after, log_z, steps, moved
                stalled = lowest
            if steps % _TIDY == 0:
                tidy = self._tidied(after, beta)
                if tidy.shape != after.shape:
                    p_yt, points, residuals, lowest, stalled = tidy, [], [], np.inf, np.inf
                    continue
            points.append(after.ravel())
            residuals.append(residual.ravel())
            p_yt = after
            if len(points) > 1:
                del points[:-_MEMORY], residuals[:-_MEMORY]
                change = np.diff(np.array(residuals), axis=0)
                gram = change @ change.T
                gram[np.diag_indices_from(gram)] *= 1 + 1e-12
                try:
                    mix = np.linalg.solve(gram, change @ residuals[-1])
                except np.linalg.LinAlgError:
                    points, residuals = [], []
                    continue
                step = (mix @ np.diff(np.array(points), axis=0)).reshape(after.shape)
                p_yt = np.maximum(after - step, 0.1 * after)
                p_yt /= p_yt.sum()

    def _tidied(self, p_yt: Array, beta: float) -> Array:
        """p(y, t) without empty clusters, and with those merged that say the same of y to `_SAME` nats."""
        p_yt = p_yt[:, p_yt.sum(0) > 1e-13]
        while p_yt.shape[1] > 1:
            fewer, loss = _merged(p_yt, _NEAR)
            if beta * loss > _SAME:
                break
            p_yt = fewer
        return p_yt

    def _better_clusters(self, p_yt: Array, beta: float, log_z: Array, least: float) -> tuple[Array, float]:
        """The best r [k ≤ 16, ny] with log c(r) > `least`, and max log c (≥ 0), by ascent from the seeds."""
        r = self.seeds
        for _ in range(_ASCENT):  # Jensen's minoriser of log c: it never falls
            score = _log(r) @ (beta * self.y_given_x.T) + (self.log_px - log_z)
            top = score.max(1, keepdims=True)
            weight = np.exp(score - top)
            total = weight.sum(1, keepdims=True)
            log_c = (top + np.log(total))[:, 0]
            r, before = (weight / total) @ self.y_given_x, r
        order = np.argsort(-log_c)
        chosen: list[Array] = []
        for candidate, gain in zip(before[order], log_c[order], strict=True):
            if gain <= least or len(chosen) == 16:
                break
            if all(abs(candidate - other).max() > 1e-3 for other in chosen):
                chosen.append(candidate)
        return np.array(chosen).reshape(-1, len(self.p_y)), max(0.0, float(log_c.max()))

    def _grown(self, p_yt: Array, better: Array, beta: float) -> Array | None:
        """p(y, t) with the clusters `better` [k, ny] at weights that lower the objective; None if rounding forbids it.

        For fixed clusters the objective is convex in their weights: Blahut's p(t) ← p(t) c(t), from the best share.
        """
        p_t = p_yt.sum(0)
        clusters = np.column_stack([p_yt / p_t, better.T])
        score = beta * (self.y_given_x @ _log(clusters))
        top = score.max(1, keepdims=True)
        factor = np.exp(score - top)

        def value(weight: Array) -> float:
            return -float(self.p_x @ np.log(factor @ weight))

        old, new = np.pad(p_t, (0, len(better))), np.pad(np.full(len(better), 1 / len(better)), (len(p_t), 0))
        weights = [(1 - share) * old + share * new for share in 10.0 ** -np.arange(1, 9)]
        weight = min(weights, key=value)
        for _ in range(_ASCENT):
            weight = weight * (factor.T @ (self.p_x / (factor @ weight)))
        return clusters * weight if value(weight) < value(old) - 1e-14 else None

    def _solution(
        self, beta: float, p_yt: Array, steps: int, gap: float, moved: float, tolerance: float, limit: int
    ) -> BottleneckSolution:
        """The tidied encoder with its place in the plane; T constant if it is no worse."""
        encoder = self.encoder(self._tidied(p_yt, beta), beta)[0]
        i_tx, i_ty, h_t = _plane(self.p_xy, encoder)
        if i_tx - beta * i_ty > -_SAME:
            encoder, i_tx, i_ty, h_t = np.ones((len(self.p_x), 1)), 0.0, 0.0, 0.0
        status = "converged"
        if moved > tolerance and gap > 1e-7:
            status = (
                f"not converged: p(y, t) still moves by {moved:.1e} per step, and the objective can be {gap:.1e} nats "
                f"too high. Remedy: raise max_iterations above {limit}"
            )
        return BottleneckSolution(
            encoder, beta, i_tx, i_ty, h_t, i_tx - beta * i_ty, "blahut-arimoto", status, steps, gap
        )


def _log(p: Array) -> Array:
    """log p, and a number that stands for log 0 where it must survive a multiplication by 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(np.log(p), _NEVER), dtype=np.float64)


def _merged(p_yt: Array, apart: float | None = None) -> tuple[Array, float]:
    """p(y, t) with the two clusters merged that lose least I(T;Y), and that loss in nats."""
    p_t = p_yt.sum(0)
    entropy = entr(p_yt).sum(0) - entr(p_t)  # p(t) H(Y|t)
    loss = entr(p_yt[:, :, None] + p_yt[:, None, :]).sum(0) - entr(p_t[:, None] + p_t) - entropy[:, None] - entropy
    loss[np.tril_indices_from(loss)] = np.inf
    if apart is not None:  # a new cluster of little mass loses little wherever it is
        loss[loss > apart * np.minimum(p_t[:, None], p_t)] = np.inf
    keep, gone = np.unravel_index(int(np.argmin(loss)), loss.shape)
    fewer = np.delete(p_yt, gone, axis=1)
    fewer[:, keep] += p_yt[:, gone]
    return fewer, float(loss[keep, gone])


def _agglomerated(found: BottleneckSolution, p_xy: Array, clusters: int) -> Array:
    """p(y, t) of `found` with the pairs merged, one after another, that lose least I(T;Y) (Slonim & Tishby 2000)."""
    p_yt = p_xy.T @ found.encoder
    while p_yt.shape[1] > clusters:
        p_yt = _merged(p_yt)[0]
    return p_yt


def _plane(p_xy: Array, encoder: Array) -> tuple[float, float, float]:
    """I(T;X), I(T;Y) and H(T) of one encoder [nx, nt]."""
    p_x = p_xy.sum(1)
    p_t = p_x @ encoder
    p_yt = p_xy.T @ encoder
    i_tx = float((p_x[:, None] * rel_entr(encoder, p_t[None, :])).sum())
    i_ty = float(rel_entr(p_yt, np.outer(p_yt.sum(1), p_t)).sum())
    return max(i_tx, 0.0), max(i_ty, 0.0), float(entr(p_t).sum())


def _without_empty(p_xy: Array, encoder: Array) -> Array:
    kept = encoder[:, p_xy.sum(1) @ encoder > 1e-14]
    return np.asarray(kept / kept.sum(1, keepdims=True), dtype=np.float64)


def _partition_value(p_xy: Array, beta: float, labels: NDArray[np.intp]) -> float:
    """H(T) − β I(T;Y) of the map x → labels[x]."""
    _, i_ty, h_t = _plane(p_xy, np.eye(p_xy.shape[0])[labels])
    return h_t - beta * i_ty


def _improve_partition(p_xy: Array, beta: float, labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """One round: the fixed-point step if it helps, else the best single move or merge, else `labels` unchanged."""
    nx = p_xy.shape[0]
    p_x = p_xy.sum(1)
    indicator = np.eye(nx)[labels]
    p_t, p_ty = p_x @ indicator, indicator.T @ p_xy
    y_given_x = p_xy / p_x[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        y_given_t = np.where(p_t[:, None] > 0, p_ty / p_t[:, None], 0)
        divergence = rel_entr(y_given_x[:, None, :], y_given_t[None, :, :]).sum(-1)  # [nx, nt]
        penalised = np.where(np.isinf(divergence), -_NEVER, divergence)
        score = np.where(p_t > 0, np.log(p_t), _NEVER)[None, :] - beta * penalised
    candidates: list[NDArray[np.intp]] = [np.asarray(np.argmax(score, axis=1), dtype=np.intp)]
    used = np.unique(labels)
    free = np.setdiff1d(np.arange(nx), used)[:1]
    for x in range(nx):
        for t in np.concatenate([used, free]):
            moved = labels.copy()
            moved[x] = t
            candidates.append(moved)
    candidates += [np.where(labels == a, b, labels) for a in used for b in used if a < b]
    now = _partition_value(p_xy, beta, labels)
    values = [_partition_value(p_xy, beta, c) for c in candidates]
    if values[0] < now - 1e-14:
        return candidates[0]
    best = int(np.argmin(values))
    return candidates[best] if values[best] < now - 1e-14 else labels
