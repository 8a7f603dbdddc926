"""The kinds of ḡ: on what grounds each bounds the loss, which apply to a layer, and their builders (T5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.bohning import curvature_bound
from vibtheory.bridge.coefficients import Quadratic
from vibtheory.bridge.fitted import fitted_bound
from vibtheory.bridge.lipschitz import lipschitz_bound, why_not
from vibtheory.bridge.tangent import tangent_bound
from vibtheory.errors import reject

__all__ = ["KINDS", "LEVEL", "PROVED", "build", "resolve", "unfit"]

Array = NDArray[np.float64]

LEVEL = {"exact": "exact", "bohning": "rigorous", "lipschitz": "rigorous", "fitted": "statistical",
         "tangent": "statistical"}  # fmt: skip
KINDS = ("auto", *LEVEL)
PROVED = {
    "exact": "the loss is quadratic in these gates, ḡ = g",
    "bohning": "softmax Hessian ⪯ ½(I − 11ᵀ/K), tangent at the anchor",
    "lipschitz": "global",
}


def build(
    view: GatedLayer,
    kind: str,
    centre: Array,
    spread: Array,
    samples: int | None,
    generator: np.random.Generator,
    full: int,
    solver: str,
) -> Quadratic:
    """ḡ of `kind`, not "auto", around z⁰ = `centre` [d] for σ = `spread` [d]; the rest as in `quadratic_bound`."""
    if kind in ("exact", "bohning"):
        return curvature_bound(view, centre)
    if kind == "lipschitz":
        return lipschitz_bound(view, centre, spread)
    if kind == "fitted":
        return fitted_bound(view, centre, spread, samples, generator, full, solver=solver)
    return tangent_bound(view, centre, spread, 200 if samples is None else samples, generator)


def resolve(view: GatedLayer, kind: str) -> str:
    """The kind that "auto" means here, or a complaint where `kind` does not apply."""
    if kind == "auto":
        return next(k for k in ("exact", "bohning", "lipschitz", "tangent") if not unfit(view, k))
    reason = unfit(view, kind)
    if reason and kind == "lipschitz":
        reject("kind", f"'lipschitz' for layer {view.layer!r} ({reason})",
               "a chain of modules with certified constants", 'use kind="tangent" or "fitted"')  # fmt: skip
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
    return why_not(view) if kind == "lipschitz" else ""
