"""P1 decided: both sides of L_i ≤ L̃_i on channels small enough for quadrature, with the gap split into its parts.

y → x → h_1 → … → h_L, finite x and y, gated units h = f·z, z ~ N(μ, σ²). Every term is an integral of its own, so that
the identity gap = γ KL(p(h_i)‖q(h_i)) + E KL(p(y|h_L)‖q(y|h_L)) + [I(h_i;y) − I(h_L;y)] is tested, not assumed.
Densities are against Lebesgue measure plus an atom at 0 (P3), so ReLU zeros are exact too. In nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, logsumexp, rel_entr

from vibtheory.errors import as_array, as_positive, as_scalar, as_whole, check_choice, check_type, reject, resolution
from vibtheory.information.bottleneck_solution import check_joint
from vibtheory.information.channel import GatedChannel
from vibtheory.information.result import Rounded

__all__ = ["GatedUnit", "LayerBound", "layer_bound"]

Array = NDArray[np.float64]

_SPREAD = np.array([-9.0, -6.5, -4.5, -3.0, -1.5, 0.0, 1.5, 3.0, 4.5, 6.5, 9.0])  # panel edges, in standard deviations
_MAX_NODES = 1_500_000


@dataclass(frozen=True)
class GatedUnit:
    """One gated unit deeper in the chain: h_i = f(h_{i−1}) z, z ~ N(mu, sigma²).

    Attributes:
        f: vectorised map of h_{i−1} [n] to activations [n]; exact zeros become an atom of h_i.
        mu, sigma: the gate, σ > 0.
        kinks: values of h_{i−1} where f is not smooth (quadrature panels end there).
    """

    f: Callable[[Array], Array]
    mu: float
    sigma: float
    kinks: tuple[float, ...] = ()


@dataclass(frozen=True)
class LayerBound(Rounded):
    """Both sides of P1 for one layer i; everything in nats.

    Attributes:
        gamma: γ_i, nats of loss per nat. layer: i, counted from 1.
        information: I(h_i; h_{i−1}), with h_0 = x.
        relevance: I(h_i; y). relevance_last: I(h_L; y). entropy_y: H(y).
        objective: L_i = γ I(h_i; h_{i−1}) − I(h_i; y).
        rate: E KL(p(h_i|h_{i−1})‖q(h_i)). cross_entropy: −E log q(y|h_L).
        bound: L̃_i = γ·rate + cross_entropy; ∞ if q has no atom where h_i has one.
        prior_gap: KL(p(h_i)‖q(h_i)). classifier_gap: E KL(p(y|h_L)‖q(y|h_L)).
        processing_gap: I(h_i;y) − I(h_L;y), lost between layer i and the last.
        quadrature_error: largest change of a term when the order of the rule is raised by half.
        status: "resolved to …", or what went wrong and the remedy.
    """

    gamma: float
    layer: int
    information: float
    relevance: float
    relevance_last: float
    entropy_y: float
    objective: float
    rate: float
    cross_entropy: float
    bound: float
    prior_gap: float
    classifier_gap: float
    processing_gap: float
    quadrature_error: float = float("inf")
    status: str = "not checked"

    @property
    def gap(self) -> float:
        """L̃_i − H(y) − L_i ≥ 0, from the two sides."""
        return self.bound - self.entropy_y - self.objective

    @property
    def identity_error(self) -> float:
        """|gap − (γ·prior_gap + classifier_gap + processing_gap)|; 0 when both are infinite."""
        parts = self.gamma * self.prior_gap + self.classifier_gap + self.processing_gap
        return 0.0 if self.gap == parts else abs(self.gap - parts)

    def __str__(self) -> str:
        return (
            f"P1, layer {self.layer}, γ = {self.gamma:g}: L = {self.objective:z.6f} ≤ L̃ − H(y) = "
            f"{self.bound - self.entropy_y:z.6f} nats; gap {self.gap:z.6f} = γ·KL(p(h)‖q(h)) "
            f"{self.gamma * self.prior_gap:z.6f} + E KL(p(y|h_L)‖q) {self.classifier_gap:z.6f} + I(h_i;y) − I(h_L;y) "
            f"{self.processing_gap:z.6f} (to {self.identity_error:.1e}); {self.status}"
        )


@np.errstate(under="ignore")
def layer_bound(
    joint: ArrayLike,
    f: ArrayLike,
    mu: ArrayLike,
    sigma: ArrayLike,
    log_classifier: Callable[[Array], Array],
    *,
    gamma: float = 1.0,
    deeper: Sequence[GatedUnit] = (),
    layer: int = 1,
    prior_variance: ArrayLike | None = None,
    prior: str = "pattern",
    order: int = 16,
    tolerance: float = 1e-6,
) -> LayerBound:
    """Compute both sides of P1 at layer i by quadrature, and every part of the gap.

    Args:
        joint: [nx, ny], p(x, y).
        f: [nx, d], the first layer's activations at each x, d = 1 or 2. mu, sigma: [d], its gates, σ > 0.
        log_classifier: h_L [n, d_L] → log q(y|h_L) [n, ny] nats, rows normalised.
        gamma: γ_i ≥ 0.
        deeper: scalar gated units h_2, …, h_L; they need d = 1.
        layer: i, between 1 and L.
        prior_variance: ξ [d_i] > 0 of q(h_i) in units of h²; default: the best one on f ≠ 0 (P2).
        prior: "pattern": q = P(zero pattern)·∏_{f_j≠0} N(0, ξ_j), the valid one with zeros; "gaussian": N(0, diag ξ).
            The same where f is never 0.
        order: Gauss–Legendre nodes per panel, ≥ 2.
        tolerance: quadrature error in nats above which the status says "not resolved".

    Raises:
        InvalidInputError: joint is no distribution; f, μ, σ or ξ of the wrong shape or range; a layer that does not
            exist; more than two units, or two followed by others; a classifier of the wrong shape or not normalised;
            a γ < 0, order < 2, tolerance ≤ 0; a problem too big for the rule.
    """
    p_xy = check_joint(joint)
    activations = as_array("f", f, (p_xy.shape[0], None), "pass one row per x and one column per unit")
    width = activations.shape[1]
    means = as_array("mu", mu, (width,), "pass one mean per unit of f")
    deviations = as_positive("sigma", sigma, (width,), "pass one standard deviation > 0 per unit of f")
    check_type("deeper", deeper, Iterable, "pass a sequence of GatedUnit(f, mu, sigma)")
    GatedChannel(activations, means, deviations)  # refuses what has squares that leave float64
    units = tuple(deeper)
    if width not in (1, 2) or (width == 2 and units):
        reject(
            "f", f"{width} units, {len(units)} deeper layers", "1 unit, or 2 without deeper layers", "use fewer units"
        )
    layer = as_whole("layer", layer, 1, 1 + len(units), "count gated layers from 1")
    price = as_scalar("gamma", gamma)
    if price < 0:
        reject("gamma", price, "a number >= 0", "gamma is a price")
    check_choice("prior", prior, ("pattern", "gaussian"))
    order = as_whole("order", order, 2, remedy="use the default 16")
    tolerance = float(as_positive("tolerance", tolerance, (), "use the default 1e-6"))
    if not callable(log_classifier):
        reject("log_classifier", type(log_classifier).__name__, "a function of h_L", "pass h [n, d] -> log q(y|h)")
    for unit in units:
        check_type("deeper", unit, GatedUnit, "pass a sequence of GatedUnit(f, mu, sigma)")
        as_scalar("deeper.mu", unit.mu)
        as_positive("deeper.sigma", unit.sigma, ())
    xi = (
        None if prior_variance is None else as_positive("prior_variance", prior_variance, (width if layer == 1 else 1,))
    )

    def terms(nodes: int) -> LayerBound:
        first = _first_law(activations, means, deviations, [u.kinks for u in units][:1], nodes)
        laws = [first]
        for i, unit in enumerate(units):
            laws.append(_next_law(laws[-1], unit, units[i + 1].kinks if i + 1 < len(units) else (), nodes))
        return _terms(p_xy, laws, log_classifier, price, layer, xi, prior)

    coarse, fine = terms(order), terms(order + order // 2)
    error = 0.0
    for field in fields(fine):
        before, after = getattr(coarse, field.name), getattr(fine, field.name)
        if isinstance(after, float) and not np.isinf(after):
            error = float(np.maximum(error, abs(after - before)))  # NaN stays
    status = f"resolved to {error:.1e} nats"
    if not error <= tolerance:
        status = f"not resolved: {error:.1e} nats. Remedy: raise order above {order}, or name the kinks of f"
    elif np.isinf(fine.bound):
        status += "; the bound is infinite: h has an atom at 0 and the Gaussian q none. Remedy: prior='pattern'"
    settled = {field.name: getattr(fine, field.name) for field in fields(fine)}
    return LayerBound(**{**settled, "quadrature_error": error, "status": status})


@dataclass(frozen=True)
class _Law:
    """Quadrature nodes of one layer and its law there; parents are x, or the nodes of the layer before.

    points [n, d], weights [n]; kernel [parents, n] density given the parent; chain [nx, n] density given x;
    scale, centre [parents, d] of the conditional Gaussian; on [parents, d] whether f ≠ 0; parent_mass [nx, parents].
    """

    points: Array
    weights: Array
    kernel: Array
    chain: Array
    scale: Array
    centre: Array
    on: NDArray[np.bool_]
    parent_mass: Array


def _first_law(f: Array, mu: Array, sigma: Array, kinks: Sequence[tuple[float, ...]], order: int) -> _Law:
    axes = []
    for j in range(f.shape[1]):
        live = f[:, j] != 0
        extra = kinks[0] if kinks else ()
        axes.append(_rule(f[live, j] * mu[j], abs(f[live, j]) * sigma[j], extra, bool((~live).any()), order))
    sizes = [len(points) for points, _ in axes]
    if np.prod(sizes) > _MAX_NODES:
        reject("f", f"{np.prod(sizes)} quadrature nodes", f"at most {_MAX_NODES}", "use fewer x, or a lower order")
    grids = np.meshgrid(*[points for points, _ in axes], indexing="ij")
    weights = np.ones(1)
    for _, axis_weights in axes:
        weights = np.multiply.outer(weights, axis_weights).reshape(-1)
    points = np.stack([g.reshape(-1) for g in grids], axis=1)  # [n, d]
    kernel = np.ones((f.shape[0], points.shape[0]))
    for j in range(f.shape[1]):
        kernel *= _density(points[:, j], f[:, j], mu[j], sigma[j])
    return _Law(points, weights, kernel, kernel, abs(f) * sigma, f * mu, f != 0, np.eye(f.shape[0]))


def _next_law(before: _Law, unit: GatedUnit, kinks: tuple[float, ...], order: int) -> _Law:
    f = as_array("deeper.f", unit.f(before.points[:, 0]), (before.points.shape[0],), "f must map [n] to finite [n]")
    mass = before.chain * before.weights  # [nx, parents]
    live = np.flatnonzero(f != 0)
    if live.size == 0:
        reject(
            "deeper.f", "zero everywhere", "an activation that is not always 0", "remove the unit: it carries nothing"
        )
    # Panels from a spread of the parents: quantiles of their activation by mass, and the extremes that matter.
    ordered = live[np.argsort(f[live])]
    cumulative = np.cumsum(mass[:, ordered].sum(0))
    levels = np.concatenate([[1e-12, 1e-8, 1e-5], np.linspace(0.001, 0.999, 25), [1 - 1e-5, 1 - 1e-8, 1 - 1e-12]])
    chosen = f[ordered[np.minimum(np.searchsorted(cumulative, levels * cumulative[-1]), ordered.size - 1)]]
    points, weights = _rule(chosen * unit.mu, abs(chosen) * unit.sigma, kinks, bool((f == 0).any()), order)
    kernel = _density(points, f, unit.mu, unit.sigma)
    column = f[:, None]
    return _Law(
        points[:, None], weights, kernel, mass @ kernel, abs(column) * unit.sigma, column * unit.mu, column != 0, mass
    )


def _density(h: Array, f: Array, mu: float, sigma: float) -> Array:
    """p(h|f) [parents, n] against Lebesgue + δ₀; a node at exactly 0 is the atom."""
    scale = abs(f)[:, None] * sigma
    with np.errstate(divide="ignore", invalid="ignore"):
        normal = np.exp(-0.5 * ((h - f[:, None] * mu) / scale) ** 2) / (np.sqrt(2 * np.pi) * scale)
    return np.where(h == 0, f[:, None] == 0, np.where(f[:, None] != 0, normal, 0)).astype(np.float64)


def _rule(centres: Array, scales: Array, kinks: tuple[float, ...], atom: bool, order: int) -> tuple[Array, Array]:
    """Composite Gauss–Legendre nodes and weights for a mixture of Gaussians, with the atom at 0 as one more node."""
    edges = np.unique((centres[:, None] + scales[:, None] * _SPREAD).reshape(-1))
    if edges.size:
        inside = [k for k in (*kinks, 0.0) if edges[0] < k < edges[-1]]
        edges = np.unique(np.concatenate([edges, inside]))
        finest = 0.05 * scales.min()
        wide = np.concatenate([[True], np.diff(edges) > finest])
        edges = edges[wide | np.isin(edges, inside)]
    nodes, weights = np.polynomial.legendre.leggauss(order)
    half = np.diff(edges)[:, None] / 2
    points = (edges[:-1, None] + half * (nodes + 1)).reshape(-1)
    measure = (half * weights).reshape(-1)
    measure[points == 0] = 0  # cannot happen for panels that end at 0; kept apart from the atom all the same
    if atom:
        points, measure = np.append(points, 0.0), np.append(measure, 1.0)
    return points, measure


def _terms(
    p_xy: Array,
    laws: list[_Law],
    log_classifier: Callable[[Array], Array],
    gamma: float,
    layer: int,
    xi: Array | None,
    prior: str,
) -> LayerBound:
    """Every term of P1 as its own integral."""
    p_x, p_y = p_xy.sum(1), p_xy.sum(0)
    law, last = laws[layer - 1], laws[-1]
    parents = p_x @ law.parent_mass  # [parents]
    marginal = p_x @ law.chain  # [n], p(h_i)
    square = law.centre**2 + law.scale**2
    if xi is None:
        with np.errstate(invalid="ignore"):  # a unit that is always 0 has no ξ, and needs none
            xi = (parents @ square) / (parents @ law.on if prior == "pattern" else 1.0)
    # Zero patterns: each node and each parent has one; q(pattern) is its true probability.
    code = 2 ** np.arange(law.on.shape[1])
    parent_code = law.on @ code
    probability = np.bincount(parent_code, parents, minlength=2 ** law.on.shape[1])
    if prior == "gaussian":
        probability = (np.arange(probability.size) == probability.size - 1).astype(np.float64)
    lively = law.points != 0  # [n, d]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.log(probability[lively @ code])
        log_q += np.where(lively, -0.5 * (law.points**2 / xi + np.log(2 * np.pi * xi)), 0).sum(1)
        divergence = 0.5 * (np.log(xi / law.scale**2) + square / xi - 1)
        conditional_kl = np.where(law.on, divergence, 0).sum(1) - np.log(probability[parent_code])
        # Σ p log(p/q) in logs: q underflows in tails where p does not.
        log_ratio = np.where(marginal > 0, np.log(marginal) - log_q, 0)
    prior_gap = float((law.weights * marginal * np.where(marginal > 0, log_ratio, 0)).sum())
    information = float(parents @ (rel_entr(law.kernel, np.maximum(marginal, 1e-300)) @ law.weights))

    returned = log_classifier(last.points)
    log_q_y = as_array("log_classifier", returned, (last.points.shape[0], p_y.size))
    log_sums = logsumexp(log_q_y, axis=1, keepdims=True)
    if np.abs(log_sums).max() > 1e-9 + p_y.size * resolution(returned):
        reject("log_classifier", "rows that do not sum to 1", "log-probabilities", "apply log_softmax")
    log_q_y = log_q_y - log_sums
    joint_last = p_xy.T @ last.chain  # [ny, n], p(y, h_L)
    cross_entropy = -float(((joint_last * log_q_y.T) @ last.weights).sum())
    total = joint_last.sum(0)
    posterior = joint_last / np.where(total > 0, total, 1)
    # In logs again: in the tails of h_L, q(y|h_L) underflows where p(y|h_L) does not.
    divergence_y = -entr(posterior) - posterior * log_q_y.T
    classifier_gap = float((divergence_y.sum(0) * total) @ last.weights)
    relevance, relevance_last = (_relevance(p_xy, one) for one in (law, last))
    rate = float(parents[parents > 0] @ conditional_kl[parents > 0])
    return LayerBound(
        gamma=gamma,
        layer=layer,
        information=information,
        relevance=relevance,
        relevance_last=relevance_last,
        entropy_y=float(entr(p_y).sum()),
        objective=gamma * information - relevance,
        rate=rate,
        cross_entropy=cross_entropy,
        bound=(gamma * rate if gamma > 0 else 0.0) + cross_entropy,
        prior_gap=prior_gap,
        classifier_gap=classifier_gap,
        processing_gap=relevance - relevance_last,
    )


def _relevance(p_xy: Array, law: _Law) -> float:
    """I(h; y) = Σ_y ∫ p(y, h) log[p(y, h)/(p(y) p(h))] dh."""
    joint = p_xy.T @ law.chain
    total = joint.sum(0)
    # Through p(y|h): the product p(y) p(h) underflows in tails where p(y, h) does not yet.
    posterior = np.divide(joint, total, out=np.zeros_like(joint), where=total > 0)
    return float((rel_entr(posterior, p_xy.sum(0)[:, None]).sum(0) * total) @ law.weights)
