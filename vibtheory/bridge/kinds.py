"""The kinds of ḡ: on what grounds each bounds the loss, which apply to a layer, and their builders (T5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.affine import MEMORY
from vibtheory.bridge.fitted import fitted_bound
from vibtheory.bridge.rigorous import curvature_bound, lipschitz_bound
from vibtheory.bridge.surrogate import Quadratic
from vibtheory.bridge.tangent import tangent_bound
from vibtheory.errors import as_array, as_generator, as_whole, check_choice, reject

__all__ = ["KINDS", "LEVEL", "PROVED", "BoundOptions", "build", "resolve", "unfit"]

Array = NDArray[np.float64]

LEVEL = {"exact": "exact", "bohning": "rigorous", "lipschitz": "rigorous", "fitted": "statistical",
         "tangent": "statistical"}  # fmt: skip
KINDS = ("auto", *LEVEL)
PROVED = {
    "exact": "the loss is quadratic in these gates, ḡ = g",
    "bohning": "softmax Hessian ⪯ ½(I − 11ᵀ/K), tangent at the anchor",
    "lipschitz": "global",
}


@dataclass(frozen=True, eq=False)
class BoundOptions:
    """How ḡ is built and its level measured; the keywords of `quadratic_bound`.

    Attributes:
        anchor: z⁰ [d] where ḡ is built; None: the trained masked means μ⊙keep.
        sigma: σ [d] for which lipschitz, fitted and tangent are tuned; None: the trained σ.
        others: 0 holds the other gates at their masked means; S ≥ 1 averages over S seeded samples of those before it.
        samples: of z for fitted (default 10 per unknown) and tangent (default 200, and a fifth more for its ridge), a
            pass over the data each.
        level_samples: fresh z that measure the level of fitted (default 1000) and tangent (default: none, the samples
            that set its height say it).
        full: most gates for which fitted's Q is a full matrix; past it, diagonal plus rank 10.
        solver: of fitted, "fast" (a dense interior-point method) or "cvxpy" (the reference, slow past d = 30).
        seed: of every sample.
        batch: examples per forward pass, at most.
        memory: bytes that intermediate results may take (default 256 MiB, at least 1): what is computed at once follows
            from it, never the bound. Beside it stand the data, the network, Q [d, d], and up to 256 MiB for the
            matrices whose norms `lipschitz` certifies.

    Raises:
        InvalidInputError: an unknown solver, or a number out of range.
    """

    anchor: ArrayLike | None = None
    sigma: ArrayLike | None = None
    others: int = 0
    samples: int | None = None
    level_samples: int | None = None
    full: int = 60
    solver: str = "fast"
    seed: int = 0
    batch: int = 2000
    memory: int = MEMORY

    def __post_init__(self) -> None:
        check_choice("solver", self.solver, ("fast", "cvxpy"))
        for name, least in (("others", 0), ("samples", 1), ("level_samples", 1), ("batch", 1), ("memory", 1)):
            if getattr(self, name) is not None:
                as_whole(name, getattr(self, name), least)

    @classmethod
    def of(cls, options: BoundOptions | None, changes: Mapping[str, Any]) -> BoundOptions:
        """`options` (None: the defaults) with `changes` by name. Raises InvalidInputError for a name that is none."""
        names = [field.name for field in fields(cls)]
        for name in changes:
            if name not in names:
                reject(name, "an unknown option", "one of " + ", ".join(names), "correct its spelling")
        return replace(options or cls(), **changes)

    def around(self, view: GatedLayer) -> tuple[Array, Array]:
        """z⁰ and σ [d] for this layer. Raises InvalidInputError for another shape or σ < 0."""
        centre, spread = view.anchor, view.sigma
        if self.anchor is not None:
            centre = as_array("anchor", self.anchor, (view.d,), "pass one z⁰ per gate")
        if self.sigma is not None:
            spread = as_array("sigma", self.sigma, (view.d,), "pass one σ per gate")
        if (spread < 0).any():
            reject("sigma", f"smallest entry {spread.min():g}", "entries >= 0", "pass σ, not log σ²")
        return centre, spread


def build(view: GatedLayer, kind: str, centre: Array, spread: Array, options: BoundOptions) -> Quadratic:
    """ḡ of `kind`, not "auto", around z⁰ = `centre` [d] for σ = `spread` [d]."""
    if kind in ("exact", "bohning"):
        return curvature_bound(view, centre)
    if kind == "lipschitz":
        return lipschitz_bound(view, centre, spread)
    samples, generator = options.samples, as_generator("seed", options.seed, "points of a fitted bound")
    if kind == "fitted":
        return fitted_bound(view, centre, spread, samples, generator, options.full, solver=options.solver)
    return tangent_bound(view, centre, spread, 200 if samples is None else samples, generator)


def resolve(view: GatedLayer, kind: str) -> str:
    """The kind that "auto" means here, or a complaint where `kind` does not apply."""
    if kind == "auto":
        return next(k for k in ("exact", "bohning", "lipschitz", "tangent") if not unfit(view, k))
    reason = unfit(view, kind)
    if reason and kind == "lipschitz":
        reject("kind", f"'lipschitz' for layer {view.layer!r} ({reason})",
               "operations with certified Lipschitz constants", 'use kind="tangent" or "fitted"')  # fmt: skip
    if reason:
        need = "gaussian" if kind == "exact" else "multinomial"
        reject("kind", f"{kind!r} for layer {view.layer!r} ({reason})",
               f'likelihood "{need}" and an affine map from the layer to the output', 'use kind="auto"')  # fmt: skip
    return kind


def unfit(view: GatedLayer, kind: str) -> str:
    """Why `kind` does not apply to this layer, in words; empty where it does."""
    if kind in ("exact", "bohning"):
        need = "gaussian" if kind == "exact" else "multinomial"
        if need != view.likelihood.name:
            return f"likelihood {view.likelihood.name!r}"
        return "" if view.affine else (view.reason or "not affine")
    return view.obstacle if kind == "lipschitz" else ""
