"""The true loss of a network as a function of its last hidden layer's gates, with Böhning's bound at any point.

g(z) = mean_n CE(y_n, V(f_n⊙z) + v₀). Softmax's Hessian is diag p − ppᵀ ⪯ B = ½(I − 11ᵀ/K) everywhere (Böhning 1992), so

    ∇²g ⪯ 2AᵀA,   AᵀA = ½ (VᵀBV) ⊙ E[f fᵀ] = ¼ (V_cᵀV_c) ⊙ E[f fᵀ],   V_c = V minus its mean over classes,

and the quadratic with that curvature, tangent to g at any μ, majorises g everywhere (T5, T7). All in nats.
Everything is summed over batches of examples in float64; f itself is kept in the precision it came in.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import scipy.linalg
import scipy.special
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_indices, as_positive, as_whole, check_type, reject
from vibtheory.theory.penalty import Profile
from vibtheory.theory.quadratic import Guarantee, QuadraticBound

__all__ = ["SoftmaxLoss", "check_loss"]

Array = NDArray[np.float64]
Index = NDArray[np.intp]

_BOHNING = Guarantee("bohning", "rigorous", "softmax curvature at most (I − 11ᵀ/K)/2 everywhere (Böhning 1992)")


def without_class_mean(weights: Array) -> Array:
    """V [K, d] minus its mean over classes, which softmax does not see; exactly 0 where that leaves only rounding."""
    centred = weights - weights.mean(axis=0)
    rounding = 8 * np.finfo(np.float64).eps * len(weights) * np.abs(weights).max(axis=0)
    return np.where((np.abs(centred) <= rounding).all(axis=0), 0.0, centred)


class SoftmaxLoss:
    """g, its derivatives and Böhning's bound for a gated layer that feeds an affine map to softmax logits.

    Its methods take gates mu [d], and `support`, the indices of the open ones.

    Args:
        V: outgoing weights [K, d].
        v0: logits' bias [K].
        f: activations of the gated layer [N, d], before the gate; float32 is kept as it is.
        y: class labels [N], integers in [0, K).
        gamma: price γ > 0 in nats per log(1+α) against the mean loss: scalar or [d].
        layer: the layer's name, for reports.
        batch: examples per batch; the working memory is about 8·batch·(d + 3K) bytes.

    Attributes:
        V [K, d]: outgoing weights, class mean removed (softmax does not see it).
        gamma [d], layer: as above. d, classes, examples: sizes.

    Raises:
        InvalidInputError: shapes that do not fit, NaN or infinity, labels outside [0, K), γ ≤ 0, K < 2, batch < 1.
    """

    def __init__(
        self,
        V: ArrayLike,
        v0: ArrayLike,
        f: ArrayLike,
        y: ArrayLike,
        gamma: ArrayLike = 1.0,
        *,
        layer: str | None = None,
        batch: int = 4096,
    ) -> None:
        weights = as_array("V", V, (None, None), "pass V [K, d], one row per class")
        if weights.shape[0] < 2 or weights.shape[1] < 1:
            reject("V", f"shape {list(weights.shape)}", "at least two classes and one gate", "pass V [K, d]")
        self.classes, self.d = weights.shape
        self.v0 = as_array("v0", v0, (self.classes,), "pass one bias per class")
        self._f = _activations(f, self.d)
        self.examples = len(self._f)
        self._y = _labels(y, self.examples, self.classes)
        prices = as_positive("gamma", gamma, remedy="pass one price γ > 0 in nats, or one per gate")
        if prices.ndim and prices.shape != (self.d,):
            reject("gamma", f"shape {list(prices.shape)}", f"a scalar or shape [{self.d}]", "pass one price per gate")
        self.gamma = np.broadcast_to(prices, (self.d,)).copy()
        self.layer = layer
        self._batch = as_whole("batch", batch, 1, remedy="pass the number of examples to hold at once")
        self.V = without_class_mean(weights)

    @cached_property
    def moments(self) -> Array:
        """E f fᵀ [d, d], not centred."""
        moments = np.zeros((self.d, self.d))
        for f, _ in self._batches():
            moments += f.T @ f
        return moments / self.examples

    @cached_property
    def gram(self) -> Array:
        """Q = AᵀA [d, d] of Böhning's bound; the same wherever it is anchored."""
        gram = 0.25 * (self.V.T @ self.V) * self.moments
        return np.asarray((gram + gram.T) / 2)

    @property
    def w(self) -> Array:
        """w [d], the diagonal of Q: what a gate's variance costs."""
        return np.diag(self.gram)

    def loss(self, mu: ArrayLike) -> float:
        """g(μ) in nats; μ [d]."""
        return self._loss_and_gradient(self._mean(mu))[0]

    def loss_and_gradient(self, mu: ArrayLike) -> tuple[float, Array]:
        """g(μ) in nats and ∇g(μ) [d], in one pass over the data."""
        return self._loss_and_gradient(self._mean(mu))

    def loss_hessian(self, mu: ArrayLike, support: Index | None = None) -> Array:
        """∇²g(μ) restricted to `support` [s, s] (all gates by default)."""
        return self._loss_hessian(self._mean(mu), np.arange(self.d) if support is None else self._gates(support))

    def _loss_hessian(self, mean: Array, support: Index) -> Array:
        V = self.V[:, support]
        hessian = np.zeros((support.size, support.size))
        for f, _ in self._batches():
            p = scipy.special.softmax((f * mean) @ self.V.T + self.v0, axis=1)  # [n, K]
            own = f[:, support]
            for k in range(self.classes):
                hessian += np.outer(V[k], V[k]) * ((own * p[:, k : k + 1]).T @ own)
            mixed = own * (p @ V)  # [n, s]
            hessian -= mixed.T @ mixed
        hessian /= self.examples
        return np.asarray((hessian + hessian.T) / 2)

    def objective(self, mu: ArrayLike) -> float:
        """J(μ) = g(μ) + Σ_j ρ_j(|μ_j|) in nats, ρ with Böhning's w (T7)."""
        mean = self._mean(mu)
        return self._loss_and_gradient(mean)[0] + float(np.sum(Profile(mean, self.w, self.gamma).value))

    def gradient(self, mu: ArrayLike) -> Array:
        """∇J(μ) [d] where μ_j ≠ 0; at μ_j = 0 the loss's part alone, to compare with ±2√(γ_jw_j)."""
        mean = self._mean(mu)
        return self._loss_and_gradient(mean)[1] + np.sign(mean) * Profile(mean, self.w, self.gamma).slope

    def hessian(self, mu: ArrayLike, support: Index) -> Array:
        """∇²J(μ) on `support` [s, s]."""
        mean, support = self._mean(mu), self._gates(support)
        profile = Profile(mean[support], self.w[support], self.gamma[support])
        return self._loss_hessian(mean, support) + np.diag(profile.curvature)

    def bound_at(self, mu: ArrayLike) -> QuadraticBound:
        """Böhning's ḡ anchored at μ: ḡ ≥ g everywhere, with equal value and gradient at μ (T5, `bohning`)."""
        mean = self._mean(mu)
        value, slope = self._loss_and_gradient(mean)
        b = slope - 2 * self.gram @ mean
        c = value - float(slope @ mean) + float(mean @ self.gram @ mean)
        # ¼(VᵀV)⊙E[ffᵀ] is a Schur product of Gram matrices: semidefinite by construction.
        return QuadraticBound.from_gram(self.gram, b, c, self.gamma, guarantee=_BOHNING, layer=self.layer, check=False)

    def hessian_lipschitz(self, support: Index, scale: Array) -> float:
        """L with ‖∇²g_SS(x) − ∇²g_SS(y)‖ ≤ L‖x − y‖ in coordinates μ_S = scale·x (for Kantorovich, T6), nats.

        The third derivative along a, a, u of log-sum-exp is a third central moment, at most range(u)·Var(a), and
        Var(a) ≤ aᵀBa, range(VD_nu) ≤ c_n‖u‖ with c_n = max_kl ‖(v_k − v_l)⊙f_n‖: L = λ_max(½(VᵀV) ⊙ E[c_n f fᵀ]).
        """
        support = self._gates(support)
        scale = as_array("scale", scale, (support.size,), "pass one number per gate of the support")
        if support.size == 0:
            return 0.0
        V = self.V[:, support] * scale
        first, second = np.triu_indices(self.classes, k=1)
        differences = (V[first] - V[second]) ** 2  # [K(K−1)/2, s]
        moments = np.zeros((support.size, support.size))
        for f, _ in self._batches():
            own = f[:, support]
            reach = np.zeros(len(own))
            for start in range(0, len(differences), 64):
                np.maximum(reach, (own**2 @ differences[start : start + 64].T).max(axis=1), out=reach)
            moments += (own * np.sqrt(reach)[:, None]).T @ own
        return float(scipy.linalg.norm(0.5 * (V.T @ V) * (moments / self.examples), 2))

    def rounding(self, mu: ArrayLike) -> tuple[Array, Array]:
        """Bounds on what float64 does to ∇g and ∇²g: e [d] and r [d] with |error of ∇g_j| ≤ e_j, of ∇²g_ij ≤ r_i r_j.

        Sums of n terms in any order err by n·eps of Σ|terms|; a logit's error δ changes each probability by at most 2δ
        of itself, and E|f_j| ≤ √E f_j².
        """
        size = np.sqrt(np.diag(self.moments)) * np.abs(self.V).max(axis=0)
        reach = np.abs(self._mean(mu)) * np.abs(self.V).max(axis=0)
        logit = float(np.abs(self.v0).max())
        for f, _ in self._batches():
            logit = max(logit, float((np.abs(f) @ reach).max()))
        terms = min(self._batch, self.examples) + self.examples / self._batch + self.classes + 32
        relative = float(np.finfo(np.float64).eps) * (terms + 4 * (self.d + 8) * (logit + 1))
        return 2 * relative * size, np.sqrt(2 * relative) * size

    def _loss_and_gradient(self, mean: Array) -> tuple[float, Array]:
        total, slope = 0.0, np.zeros(self.d)
        for f, y in self._batches():
            logits = (f * mean) @ self.V.T + self.v0  # [n, K]
            log_p = scipy.special.log_softmax(logits, axis=1)
            rows = np.arange(len(y))
            total -= float(log_p[rows, y].sum())
            error = np.exp(log_p)
            error[rows, y] -= 1
            slope += np.einsum("kj,kj->j", self.V, error.T @ f)
        return total / self.examples, slope / self.examples

    def _batches(self) -> Iterator[tuple[Array, NDArray[np.int64]]]:
        for start in range(0, self.examples, self._batch):
            stop = start + self._batch
            yield np.asarray(self._f[start:stop], dtype=np.float64), self._y[start:stop]

    def _mean(self, mu: ArrayLike) -> Array:
        return as_array("mu", mu, (self.d,), "pass one μ per gate")

    def _gates(self, support: Index) -> Index:
        return as_indices("support", support, self.d, "pass the numbers of the open gates")


def check_loss(problem: object) -> None:
    """Raise InvalidInputError about `problem` unless it is a `SoftmaxLoss`."""
    check_type("problem", problem, SoftmaxLoss, "build one from V, v0, f, y and gamma")


def _activations(f: ArrayLike, d: int) -> NDArray[np.floating]:
    given = f.detach().cpu() if hasattr(f, "detach") else f
    single = str(getattr(given, "dtype", "")) in ("float32", "torch.float32") and not np.ma.is_masked(given)
    raw = np.asarray(given) if single else np.zeros(0)
    if single and raw.ndim == 2 and raw.shape[1] == d and np.isfinite(raw).all():
        activations: NDArray[np.floating] = raw  # no copy: 60,000 × 300 would double
    else:
        activations = as_array("f", f, (None, d), "pass activations [N, d], one column per gate of V")
    if len(activations) == 0:
        reject("f", "no examples", "at least one row", "pass the data's activations")
    return activations


def _labels(y: ArrayLike, examples: int, classes: int) -> NDArray[np.int64]:
    labels = as_array("y", y, (examples,), "pass one class label per row of f")
    if (labels != np.floor(labels)).any() or labels.min() < 0 or labels.max() >= classes:
        reject("y", f"labels from {labels.min():g} to {labels.max():g}", f"integers in [0, {classes})",
               "pass class labels, not one-hot rows or targets")  # fmt: skip
    return labels.astype(np.int64)
