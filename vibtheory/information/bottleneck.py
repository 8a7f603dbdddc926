"""The discrete information bottleneck: Blahut–Arimoto with annealing, and the deterministic bottleneck.

Convention for β, here and in `bottleneck_curve` and `gaussian_bottleneck`: minimise I(T;X) − β I(T;Y) over encoders
p(t|x), T – X – Y a Markov chain (Tishby, Pereira & Bialek 1999). β is a price: nats of I(T;X) paid per nat of I(T;Y),
the slope dI(T;X)/dI(T;Y) of the curve. By data processing nothing is worth keeping at β ≤ 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, rel_entr

from vibtheory.errors import as_array, as_generator, as_scalar, reject

__all__ = ["BottleneckSolution", "blahut_arimoto", "deterministic_bottleneck", "stability_beta"]

Array = NDArray[np.float64]

_NEVER = -1e100  # stands for log 0 where it must survive a multiplication by 0


@dataclass(frozen=True)
class BottleneckSolution:
    """One encoder and where it lies in the information plane; all information in nats.

    Attributes:
        encoder: [nx, nt], p(t|x); rows sum to 1, clusters of no mass removed.
        beta: the price β of the objective.
        i_tx: I(T;X). i_ty: I(T;Y). h_t: H(T).
        objective: I(T;X) − β I(T;Y) (method "blahut-arimoto"), H(T) − β I(T;Y) (method "deterministic").
        method: the algorithm.
        status: "converged", or what went wrong and the remedy. Converged means stationary: a global minimum only as far
            as the restarts found it; `bottleneck_curve.exact_ib_curve` bounds the distance for small alphabets.
        iterations: fixed-point steps taken by all restarts together.
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

    @property
    def clusters(self) -> int:
        """Number of clusters with mass (some may share one p(y|t))."""
        return int(self.encoder.shape[1])

    def __str__(self) -> str:
        return (
            f"{self.method} at β = {self.beta:g}: I(T;X) = {self.i_tx:.6f} nats, I(T;Y) = {self.i_ty:.6f} nats, "
            f"{self.clusters} clusters; {self.status}"
        )


def blahut_arimoto(
    joint: ArrayLike,
    beta: float,
    *,
    clusters: int | None = None,
    restarts: int = 6,
    annealing_steps: int = 12,
    start: ArrayLike | None = None,
    tolerance: float = 1e-12,
    max_iterations: int = 20_000,
    seed: int = 0,
) -> BottleneckSolution:
    """The information bottleneck at one β: min over p(t|x) of I(T;X) − β I(T;Y).

    Blahut–Arimoto's fixed point p(t|x) ∝ p(t) exp(−β KL(p(y|x)‖p(y|t))) never raises the objective but has local
    minima, so the best of several starts is returned: T = X; one encoder annealed from β = 1 up, disturbed at each
    step so that clusters can split (Rose 1998); and random encoders. The trivial encoder is always a candidate.

    Args:
        joint: [nx, ny], p(x, y) ≥ 0 with sum 1; every x must have mass.
        beta: β ≥ 0.
        clusters: nt, at most this many values of T; nx of them suffice and are the default.
        restarts: number of random encoders, ≥ 0.
        annealing_steps: geometric steps from 1 to β, ≥ 0; 0 leaves the annealed start out.
        start: [nx, nt], one more encoder to begin from (to continue along β).
        tolerance: stop when no entry of the encoder moves by more in one step.
        max_iterations: fixed-point steps per batch of starts.
        seed: of the random encoders and the disturbances.

    Returns:
        BottleneckSolution.

    Raises:
        InvalidInputError: joint is not a distribution, β < 0, a count or the tolerance out of range, start no encoder.
    """
    p_xy = check_joint(joint)
    price = _check_beta(beta)
    nx = p_xy.shape[0]
    nt = nx if clusters is None else clusters
    for name, count, least in (
        ("clusters", nt, 1),
        ("restarts", restarts, 0),
        ("annealing_steps", annealing_steps, 0),
        ("max_iterations", max_iterations, 1),
    ):
        if count < least:
            reject(name, count, f"an integer >= {least}", "use the default")
    if not tolerance > 0:
        reject("tolerance", tolerance, "a number > 0", "use the default 1e-12")
    rng = as_generator("seed", seed, "encoders to start from")
    iterations = 0

    starts = [np.eye(nx, nt)[np.minimum(np.arange(nx), nt - 1)][:, :nt]]
    starts += [rng.dirichlet(np.full(nt, 0.5), size=nx) for _ in range(restarts)]
    if start is not None:
        starts.append(_check_encoder(start, nx, nt))
    if annealing_steps and price > 1:
        encoder = np.full((1, nx, nt), 1 / nt)
        for step in np.geomspace(1, price, annealing_steps + 1)[1:]:
            encoder = encoder * np.exp(0.05 * rng.standard_normal(encoder.shape))
            encoder /= encoder.sum(-1, keepdims=True)
            encoder, used, _ = _iterate(p_xy, float(step), encoder, 1e-6, max_iterations // 10 + 1)
            iterations += used
        starts.append(encoder[0])
    starts.append(np.eye(1, nt).repeat(nx, axis=0))  # trivial: T constant
    batch, used, moved = _iterate(p_xy, price, np.stack(starts), tolerance, max_iterations)
    iterations += used

    plane = [_plane(p_xy, encoder) for encoder in batch]
    objectives = np.array([i_tx - price * i_ty for i_tx, i_ty, _ in plane])
    best = int(np.argmin(objectives))
    i_tx, i_ty, h_t = plane[best]
    status = "converged"
    if moved[best] > tolerance:
        status = (
            f"not converged: the encoder still moves by {moved[best]:.1e} per step. Remedy: raise max_iterations above "
            f"{max_iterations}, or move β away from a critical value, where convergence is slow"
        )
    encoder = _without_empty(p_xy, batch[best])
    return BottleneckSolution(
        encoder, price, i_tx, i_ty, h_t, float(objectives[best]), "blahut-arimoto", status, iterations
    )


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
    price = _check_beta(beta)
    if restarts < 0:
        reject("restarts", restarts, "an integer >= 0", "use the default 30")
    if max_iterations < 1:
        reject("max_iterations", max_iterations, "an integer >= 1", "use the default 1000")
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
    """`joint` as a distribution [nx, ny]; raises InvalidInputError otherwise. Shared by the bottleneck modules."""
    p_xy = as_array("joint", joint, (None, None), "pass p(x, y) with one row per x")
    if p_xy.size == 0:
        reject("joint", f"shape {list(p_xy.shape)}", "at least one x and one y", "pass p(x, y)")
    if (p_xy < 0).any():
        reject("joint", f"smallest entry {p_xy.min():g}", "probabilities >= 0", "pass p(x, y)")
    if abs(p_xy.sum() - 1) > 1e-9:
        reject("joint", f"sum {p_xy.sum():.12g}", "sum 1", "divide by the sum")
    if (p_xy.sum(1) <= 0).any():
        reject("joint", "an x of probability 0", "p(x) > 0 for every row", "remove the empty rows")
    return np.asarray(p_xy / p_xy.sum(), dtype=np.float64)


def _check_beta(beta: float) -> float:
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


def _iterate(
    p_xy: Array, beta: float, encoder: Array, tolerance: float, max_iterations: int
) -> tuple[Array, int, Array]:
    """Fixed-point steps on a batch of encoders [s, nx, nt]: the batch, steps taken, each one's last movement [s]."""
    encoder = encoder.copy()
    p_x = p_xy.sum(1)
    y_given_x = p_xy / p_x[:, None]
    moved = np.full(encoder.shape[0], np.inf)
    used = 0
    for _ in range(max_iterations):
        active = np.flatnonzero(moved > tolerance)
        if active.size == 0:
            break
        old = encoder[active]  # [a, nx, nt]
        p_t = np.einsum("x,axt->at", p_x, old)
        p_yt = np.einsum("xy,axt->aty", p_xy, old)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_pt = np.where(p_t > 0, np.log(p_t), _NEVER)
            log_y_t = np.where(p_yt > 0, np.log(p_yt), _NEVER) - np.where(p_t > 0, log_pt, 0)[..., None]
        # Σ_y p(y|x) log p(y|x) does not depend on t and cancels in the normalisation.
        score = log_pt[:, None, :] + beta * np.einsum("xy,aty->axt", y_given_x, log_y_t)
        new = np.exp(score - score.max(-1, keepdims=True))
        new /= new.sum(-1, keepdims=True)
        moved[active] = abs(new - old).max((1, 2))
        encoder[active] = new
        used += int(active.size)
    return encoder, used, moved


def _plane(p_xy: Array, encoder: Array) -> tuple[float, float, float]:
    """I(T;X), I(T;Y) and H(T) of one encoder [nx, nt]."""
    p_x = p_xy.sum(1)
    p_t = p_x @ encoder
    p_yt = p_xy.T @ encoder
    i_tx = float((p_x[:, None] * rel_entr(encoder, p_t[None, :])).sum())
    i_ty = float(rel_entr(p_yt, np.outer(p_yt.sum(1), p_t)).sum())
    i_tx = max(i_tx, 0.0)
    return i_tx, min(max(i_ty, 0.0), i_tx), float(entr(p_t).sum())  # data processing, which rounding may break


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
