"""Blahut–Arimoto's fixed point on one joint law: extrapolated, and grown by better clusters until there are none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from vibtheory.information.bottleneck_solution import BottleneckSolution, information_plane

Array = NDArray[np.float64]

NEVER = -1e100  # stands for log 0 where it must survive a multiplication by 0
_EXACT = 1e-9  # nats: a cluster that lowers the objective by less is not worth adding
_SAME = 1e-11  # nats of the objective that merging two clusters may cost
_NEAR = 1e-7  # nats per mass of the smaller that two clusters differ by when they are merged
_ROUNDS = 30  # of added clusters
_ASCENT = 60  # steps of the search for a better cluster
_TIDY = 20  # steps between mergers
_STALL = 100  # steps in which the objective has to fall by 1e-12 nats
_MEMORY = 8  # iterates that an extrapolation uses


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
                better, gap = self._better_clusters(beta, log_z, gain)
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
        with np.errstate(divide="ignore"):  # an empty cluster stays empty
            score = self.y_given_x @ (beta * _log(p_yt / np.where(p_t > 0, p_t, 1.0))) + np.log(p_t)
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
            fewer, loss = merged(p_yt, _NEAR)
            if beta * loss > _SAME:
                break
            p_yt = fewer
        return p_yt

    def _better_clusters(self, beta: float, log_z: Array, least: float) -> tuple[Array, float]:
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
        clusters = np.column_stack([p_yt / np.where(p_t > 0, p_t, 1.0), better.T])
        score = beta * (self.y_given_x @ _log(clusters))
        top = score.max(1, keepdims=True)
        factor = np.exp(score - top)

        def value(weight: Array) -> float:
            return -float(self.p_x @ _log(factor @ weight))

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
        i_tx, i_ty, h_t = information_plane(self.p_xy, encoder)
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
        return np.asarray(np.maximum(np.log(p), NEVER), dtype=np.float64)


def merged(p_yt: Array, apart: float | None = None) -> tuple[Array, float]:
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
