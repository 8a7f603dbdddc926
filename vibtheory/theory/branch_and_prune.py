"""All stationary points with a positive definite Hessian on many sign regions at once, by branch and prune (T6).

In y = s∘x_S > 0 a strict local minimum with support S and signs s solves

    Gy + p/2 + √D v(y) = 0,   M(y) = G − diag c(y) ≻ 0,   c = v²/(1+v²) = 1/(2+α),

signs applied to G and p. Both v and c fall with y, dv/dt = −c, and c ≤ ½. Let y lie in the box [l, h], e = h − y ≥ 0,
w = h − l, and δ = `DEGENERATE`. A box is cut down, and discarded once it is empty, by what every such y satisfies:

1. M(y) ⪯ M(h), so K = M(h) − δ must be positive definite, or λ_min(M(y)) ≤ δ: degenerate.
2. M(y) − δ = K − diag(c(y) − c(h)) ≻ 0 needs c_j(y_j) − c_j(h_j) < 1/(K⁻¹)_jj: a lower limit on y_j.
3. Subtracting the equation at y from its left side g at h: Ge − √D(v(y) − v(h)) = g. With any approximate inverse P of
   K, e = P(g + q − δe) + (I − PK)e, where q = √D(v(y) − v(h)) − c(h)e. Since √D v is convex in y with slope −c,
   0 ≤ q ≤ √D(v(l) − v(h)) − c(h)w: an interval for e.
4. No gate outside S opens: |2G_jᵀx + p_j| ≤ 2√D_j; discarded where that fails on the whole box.

To begin with, yᵀGy ≤ ½‖p‖‖y‖ bounds y, and y = −G⁻¹(p/2 + √D v) needs one inverse per support. Boxes that survive
are bisected at the gate whose q blurs e most. Newton's method starts from their middles; {M ≻ 0} is convex because c
is, and Φ is strictly convex on it, so a region is finished with the first such point found: it is the only one. All
intervals are widened by their rounding, with I − PK computed, so that an ill-conditioned P is no gap in the proof.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import SolverError
from vibtheory.theory.normalised import EPS, NormalisedProblem
from vibtheory.theory.penalty import root_noise

__all__ = ["DEGENERATE", "stationary_points"]

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]
# A minimum with λ_min(M) or some y_j at or below this is a fold or a tie, to within what rounding leaves certifiable.
DEGENERATE = 1e-8
_SCREENS = 3
_CONTRACTIONS = 3
_NEWTON = 12
_MOST_BOXES = 200_000


@dataclass(frozen=True)
class _Boxes:
    """n boxes [low, high] of order k; `region` says which (support, sign) each belongs to."""

    region: Index  # [n]
    support: Index  # [n, k]
    sign: Array  # [n, k]
    gram: Array  # [n, k, k], signs applied, as are
    linear: Array  # [n, k]
    price: Array  # [n, k]
    low: Array  # [n, k]
    high: Array  # [n, k]

    def keep(self, chosen: Mask | Index) -> _Boxes:
        return _Boxes(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.region)


def stationary_points(problem: NormalisedProblem, gram: Array, supports: Index, signs: Array) -> list[Array]:
    """Every x with one of these supports and signs, ∇F = 0 on the support and M ≻ 0, degenerate ones excepted.

    Args:
        problem: Φ in normalised coordinates.
        gram: G [size, size].
        supports: [n, k] with λ_min(G_S) > `DEGENERATE`.
        signs: [m, k] of ±1.

    Returns:
        List of x [size], at most one per support and sign.

    Raises:
        SolverError: a region could not be decided within the limit on boxes.
    """
    boxes = _screen(problem, gram, supports, signs)
    found: dict[int, Array] = {}
    while len(boxes):
        boxes, blur = _contract(problem, gram, boxes)
        for place, y in _newton(boxes):
            x = np.zeros(problem.size)
            x[boxes.support[place]] = boxes.sign[place] * y
            found.setdefault(int(boxes.region[place]), x)
        open_ = ~np.isin(boxes.region, list(found))
        boxes = _bisect(boxes.keep(open_), blur[open_])
        if len(boxes) > _MOST_BOXES:
            undecided = boxes.support[0].tolist()
            raise SolverError(
                f"enumeration: no decision on support {undecided} (of the columns with w > 0) after {len(boxes)} "
                "boxes: a minimum there is degenerate up to rounding. Remedy: change gamma or b a little"
            )
    return list(found.values())


def _screen(problem: NormalisedProblem, gram: Array, supports: Index, signs: Array) -> _Boxes:
    """First boxes of all regions from y = −G⁻¹(p/2 + √D v), one inverse per support; the empty ones left out."""
    blocks = gram[supports[:, :, None], supports[:, None, :]]
    inverse = np.linalg.inv(blocks)  # [n, k, k]
    residual = np.abs(np.eye(supports.shape[1]) - inverse @ blocks).sum(axis=2)  # [n, k]
    size = np.abs(inverse)
    noise = _noise(problem, supports.shape[1])
    linear, root = problem.linear[supports][:, None], np.sqrt(problem.price[supports])[:, None]  # [n, 1, k]
    least = np.linalg.eigvalsh(blocks)[:, 0]
    farthest = (0.51 * np.linalg.norm(linear[:, 0], axis=1) / (least - DEGENERATE / 2))[:, None, None]
    middle = -0.5 * (linear @ inverse) * signs  # [n, m, k], and so below
    low = np.zeros_like(middle)
    high = np.broadcast_to(farthest, middle.shape)
    rounding = (
        noise * ((0.5 * np.abs(linear) + root) @ size) + (residual + noise * size.sum(axis=2))[:, None] * farthest
    )
    for _ in range(_SCREENS):
        most, fewest = root_noise(low / root), root_noise(high / root)
        centre = middle - signs * ((signs * root * (0.5 * (most + fewest))) @ inverse)
        radius = (root * (0.5 * (most - fewest))) @ size + rounding
        low, high = np.maximum(low, centre - radius), np.maximum(np.minimum(high, centre + radius), 0.0)
    which, way = np.nonzero(((low <= high) & (high > DEGENERATE)).all(axis=2))
    low, high = low[which, way], high[which, way]
    stay = _may_stay_closed(problem, gram, supports[which], signs[way], low, high)
    which, way, low, high = which[stay], way[stay], low[stay], high[stay]
    sign = signs[way]
    flip = sign[:, :, None] * sign[:, None, :]
    chosen = supports[which]
    return _Boxes(
        np.arange(len(which)), chosen, sign, blocks[which] * flip, problem.linear[chosen] * sign,
        problem.price[chosen], low, high,
    )  # fmt: skip


def _contract(problem: NormalisedProblem, gram: Array, boxes: _Boxes) -> tuple[_Boxes, Array]:
    """Steps 1 to 4, a few times; the boxes left, and how much each gate's q blurs the others' e [n, k]."""
    order = boxes.low.shape[1]
    noise, diagonal = _noise(problem, order), np.arange(order)
    for _ in range(_CONTRACTIONS):
        root = np.sqrt(boxes.price)
        curvature = root_noise(boxes.high / root) ** 2
        curvature /= 1 + curvature  # c(h)
        matrix = boxes.gram.copy()
        matrix[:, diagonal, diagonal] -= curvature + DEGENERATE
        inverse, definite = _inverses(matrix)
        if not definite.any():
            return boxes.keep(definite), boxes.low[definite]
        boxes, inverse, matrix = boxes.keep(definite), inverse[definite], matrix[definite]
        low, high, root, curvature = boxes.low, boxes.high, root[definite], curvature[definite]
        residual = np.abs(np.eye(order) - inverse @ matrix).sum(axis=2)
        size = np.abs(inverse)
        off = residual.max(axis=1) + noise * order * size.sum(axis=2).max(axis=1)
        schur = inverse[:, diagonal, diagonal] - 2 * (off * np.linalg.norm(inverse, axis=(1, 2)))[:, None]
        with np.errstate(divide="ignore"):
            roof = curvature + (1 + noise) / np.maximum(schur, 0.0)  # c(y) is below
        v = np.sqrt(np.where(roof < 0.5, roof / (1 - np.minimum(roof, 0.5)), 1.0))
        low = np.maximum(low, root * (1 / v - v) * (1 - noise) - noise)

        here, width = root_noise(high / root), np.maximum(high - low, 0.0)
        slope = np.einsum("nij,nj->ni", boxes.gram, high) + 0.5 * boxes.linear + root * here  # g
        least = -DEGENERATE * width
        most = np.maximum(root * (root_noise(low / root) - here) - curvature * width, 0.0)
        centre = np.einsum("nij,nj->ni", inverse, slope + 0.5 * (most + least))
        scale = np.einsum("nij,nj->ni", np.abs(boxes.gram), high) + np.abs(boxes.linear) + root
        radius = np.einsum("nij,nj->ni", size, 0.5 * (most - least) + noise * scale)
        radius += (residual + noise * size.sum(axis=2)) * width.max(axis=1)[:, None]
        low, high = np.maximum(low, high - centre - radius), np.minimum(high, high - centre + radius)
        left = ((low <= high) & (high > DEGENERATE)).all(axis=1)
        left[left] = _may_stay_closed(problem, gram, boxes.support[left], boxes.sign[left], low[left], high[left])
        boxes = replace(boxes.keep(left), low=low[left], high=high[left])
        blur = ((most - least) * (size / (root + high)[:, :, None]).sum(axis=1))[left]
        if not len(boxes):
            break
    return boxes, blur


def _may_stay_closed(
    problem: NormalisedProblem, gram: Array, support: Index, sign: Array, low: Array, high: Array
) -> Mask:
    """Step 4: False where some closed gate's |2Gx + p| exceeds 2√D for every y in the box."""
    columns = gram[support]  # [n, k, size]
    response = np.einsum("nk,nkj->nj", (low + high) * sign, columns) + problem.linear
    doubt = np.einsum("nk,nkj->nj", high - low, np.abs(columns))
    rounding = _noise(problem, support.shape[1]) * (np.abs(response) + doubt + (low + high).sum(axis=1)[:, None] + 2.0)
    opens = np.abs(response) - doubt > 2.0 * np.sqrt(problem.price) + rounding + 10 * EPS * np.abs(problem.linear)
    np.put_along_axis(opens, support, False, axis=1)
    return np.asarray(~opens.any(axis=1))


def _bisect(boxes: _Boxes, blur: Array) -> _Boxes:
    """Both halves of every box, cut at the gate that blurs most, at the middle in asinh(t/2)."""
    at = np.arange(len(boxes)), np.argmax(blur, axis=1)
    cut = _middle(boxes)[at]
    left, right = boxes.high.copy(), boxes.low.copy()
    left[at], right[at] = cut, cut
    twice = boxes.keep(np.tile(np.arange(len(boxes)), 2))
    return replace(twice, low=np.concatenate([boxes.low, right]), high=np.concatenate([left, boxes.high]))


def _newton(boxes: _Boxes) -> list[tuple[int, Array]]:
    """Newton's method from the middles: (place, y) where it ends at a stationary point with y > 0 and M(y) ≻ 0."""
    y, root = _middle(boxes), np.sqrt(boxes.price)
    reach = boxes.high - boxes.low
    places, diagonal = np.arange(len(boxes)), np.arange(y.shape[1])
    done: list[tuple[int, Array]] = []
    for _ in range(_NEWTON):
        if not len(places):
            break
        gram = boxes.gram[places]
        v = root_noise(y / root[places])
        slope = np.einsum("nij,nj->ni", gram, y) + 0.5 * boxes.linear[places] + root[places] * v
        scale = np.einsum("nij,nj->ni", np.abs(gram), y) + np.abs(boxes.linear[places]) + root[places]
        matrix = gram.copy()
        matrix[:, diagonal, diagonal] -= v**2 / (1 + v**2)
        inverse, definite = _inverses(matrix)
        arrived = definite & (np.abs(slope) <= 1e-12 * scale).all(axis=1)
        done += [(int(places[i]), y[i]) for i in np.flatnonzero(arrived)]
        y = y - np.einsum("nij,nj->ni", inverse, slope)
        near = (y > boxes.low[places] - reach[places]) & (y < boxes.high[places] + reach[places]) & (y > 0)
        going = definite & ~arrived & near.all(axis=1)
        places, y = places[going], y[going]
    return done


def _inverses(matrix: Array) -> tuple[Array, Mask]:
    """Inverses [n, k, k] by symmetric elimination, and which matrices are positive definite (the others' are void).

    A pivot that is not positive in floating point means λ_min ≤ k²·eps·‖M‖, far below `DEGENERATE`.
    """
    work = np.ascontiguousarray(np.moveaxis(matrix, 0, -1))  # [k, k, n]: every step runs over all matrices
    definite = np.ones(work.shape[2], dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        for j in range(len(work)):
            pivot = work[j, j].copy()
            definite &= pivot > 0
            pivot[~definite] = 1.0
            row = work[j].copy()
            scaled = row / pivot
            work -= scaled[:, None] * row
            work[j], work[:, j] = scaled, scaled
            work[j, j] = -1 / pivot
    return np.ascontiguousarray(-np.moveaxis(work, -1, 0)), definite


def _middle(boxes: _Boxes) -> Array:
    root = np.sqrt(boxes.price)
    return np.asarray(
        2 * root * np.sinh(0.5 * (np.arcsinh(0.5 * boxes.low / root) + np.arcsinh(0.5 * boxes.high / root)))
    )


def _noise(problem: NormalisedProblem, order: int) -> float:
    """Relative rounding of the sums of `order` terms here, entries of G included."""
    return 8 * (order + 8) * EPS + problem.entry_error
