"""Trained network + data → ḡ, layer by layer, and the whole check: the only place where torch meets the theory.

Here and nowhere else training's price is converted: T1–T6 price log(1+α) against the data-set mean loss, training
prices ½ log(1+α) with γ_i times the layer's multiplier s_i, so γ_theory = γ_i s_i/2 ("One convention for
the price").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.kinds import KINDS, LEVEL, PROVED, BoundOptions, build, resolve, unfit
from vibtheory.bridge.likelihood import LIKELIHOODS
from vibtheory.bridge.verification import BoundCheck, compare, own_losses, sample_points
from vibtheory.errors import as_array, as_generator, as_positive, as_scalar, check_choice, reject
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.theory.quadratic import Guarantee, QuadraticBound

if TYPE_CHECKING:
    from vibtheory.theory.network_report import NetworkReport

__all__ = ["BoundCheck", "check_network", "quadratic_bound", "theory_gamma", "verify_bound"]

Array = NDArray[np.float64]
Gamma = float | Mapping[str, float]


def quadratic_bound(
    net: nn.Module,
    data: Any,
    layer: str,
    kind: str = "auto",
    gamma: Gamma | None = None,
    options: BoundOptions | None = None,
    **changes: Any,
) -> QuadraticBound:
    """ḡ(z) = zᵀQz + bᵀz + c ≥ g(z), the training-set mean loss as a function of one layer's gates (docs/theory.md T5).

    Args:
        net: a gated network, in any mode; it is not changed.
        data: a `Dataset`: its `.x_train` [N, ...], `.y_train` and `.likelihood` are used.
        layer: the gate's name; `named_gates(net)` lists them.
        kind: exact | bohning | lipschitz | fitted | tangent, or "auto": the strongest of exact, bohning, lipschitz that
            applies, else tangent.
        gamma: training's γ_i > 0 in nats, one number or one per layer; None takes the one recorded by `train`.
        options: how; None: `BoundOptions()`. Keyword arguments named like its fields replace them
            (`anchor=z0, seed=3`): anchor, sigma, others, samples, level_samples, full, solver, seed, batch.

    Returns:
        The bound, with γ_theory = γ_i s_i/2, its `guarantee`, layer and the trained (μ⊙keep, σ).

    Raises:
        InvalidInputError: no such layer (those that exist are listed), no γ, data that do not fit, or a kind that does
            not apply to this layer.
        SolverError: the semidefinite program of `fitted` failed.
    """
    return bound_with_level(net, data, layer, kind, gamma, options, **changes)[0]


def bound_with_level(
    net: nn.Module,
    data: Any,
    layer: str,
    kind: str = "auto",
    gamma: Gamma | None = None,
    options: BoundOptions | None = None,
    **changes: Any,
) -> tuple[QuadraticBound, BoundCheck | None]:
    """`quadratic_bound`, and for a statistical kind the numbers behind its level: fresh z, violations, their limit."""
    check_choice("kind", kind, KINDS)
    options = (options or BoundOptions()).but(changes)
    others, seed = options.others, options.seed
    gate = _gate(net, layer)
    price = theory_gamma(net, layer, gamma)
    view = _view(net, data, layer, others, seed, options.batch)
    kind = resolve(view, kind)
    centre, spread = options.around(view)
    result = build(view, kind, centre, spread, options)
    level: BoundCheck | None = None
    if LEVEL[kind] == "statistical":
        fresh = options.level_samples or (1000 if kind == "fitted" else 200)
        z = centre + spread * as_generator("seed", seed, "points that test its level").standard_normal((fresh, view.d))
        level = compare(result.value, view.mean_loss, z, "statistical", "")
        detail = (
            f"{level.violations} of {level.samples} fresh z ~ N(μ, σ²) violate it, rate ≤ {level.rate_limit:.3g} at "
            f"95 % (Clopper–Pearson), worst violation {max(level.worst, 0.0):.3g} nats; {result.note}"
        )
    else:
        detail = PROVED[kind] + (f"; {result.note}" if result.note else "")
    if others:
        detail += f"; gates before {layer} averaged over {others} samples (seed {seed})"
    bound = QuadraticBound.from_gram(
        result.gram, result.b, result.c, price,
        guarantee=Guarantee(kind, LEVEL[kind], detail), layer=layer,
        trained_mu=view.anchor, trained_sigma=gate.sigma.detach().double().cpu().numpy(),
    )  # fmt: skip
    return bound, level


def verify_bound(
    bound: QuadraticBound,
    net: nn.Module,
    data: Any,
    *,
    samples: int = 1000,
    seed: int = 0,
    others: int = 0,
    points: ArrayLike | None = None,
    batch: int = 2000,
) -> BoundCheck:
    """Compare ḡ with the true g on fresh samples of z; each costs a forward pass of the network over the data.

    g is the network's own forward pass (in float64 where that runs) with z put in at the gate, and shares nothing with
    what built ḡ.

    Args:
        bound: from `quadratic_bound` on the same net and data, with the same `others` and `batch` if others > 0.
        net, data: as there.
        samples: number of z. A statistical bound is tested on z ~ N(μ, σ²), where it is claimed; an exact or rigorous
            one on four scales: that, a wide one around μ, one around 0, and (0, 1)-valued z (gates cut).
        seed: of z; pick another than the bound's.
        points: z [S, d] to test instead.

    Raises:
        InvalidInputError: `bound` has no layer or another width, or points of a wrong shape.
    """
    view = _verified(bound, net, data, others, seed, batch)
    if points is None:
        z = _points(bound, samples, seed)
    else:
        z = as_array("points", points, (None, view.d), "pass one row of gates per z")
    losses, rounding = own_losses(
        net, view.x, view.y, view.likelihood.name, view.layer, z, others=others, seed=view.seed, batch=batch
    )
    relative = 1e-10 + rounding
    return compare(bound.value, lambda _: losses, z, bound.guarantee.level, str(bound.guarantee), relative)


def verify_by_chain(bound: QuadraticBound, net: nn.Module, data: Any, samples: int, seed: int) -> BoundCheck:
    """As `verify_bound`, with g from the modules after the gate that ḡ was built from: for many more samples of z."""
    view = _verified(bound, net, data, 0, seed, 2000)
    view.keep_in_memory()
    level, relative = bound.guarantee.level, 1e-10 + view.rounding
    return compare(bound.value, view.mean_loss, _points(bound, samples, seed), level, str(bound.guarantee), relative)


def _verified(bound: QuadraticBound, net: nn.Module, data: Any, others: int, seed: int, batch: int) -> GatedLayer:
    """The layer that `bound` is about, once it is known to be one of this net."""
    if bound.layer is None or bound.trained_mu is None or bound.trained_sigma is None:
        reject("bound", "one without a layer", "a bound from quadratic_bound", "build it with quadratic_bound")
    _gate(net, bound.layer)
    view = _view(net, data, bound.layer, others, int(others and seed), batch)
    if view.d != bound.d:
        reject("bound", f"{bound.d} gates", f"{view.d}, the gates of {bound.layer!r}", "pass the net it was built from")
    return view


def _points(bound: QuadraticBound, samples: int, seed: int) -> Array:
    """z [samples, d] for `verify_bound`."""
    if samples < 1:
        reject("samples", samples, "an integer >= 1", "ask for at least one z")
    assert bound.trained_mu is not None
    assert bound.trained_sigma is not None
    generator = as_generator("seed", seed, "points of verify_bound")
    wide = bound.guarantee.level != "statistical"
    return sample_points(bound.trained_mu, bound.trained_sigma, samples, generator, wide)


def theory_gamma(net: nn.Module, layer: str, gamma: Gamma | None = None) -> float:
    """γ_theory = γ_i s_i/2 of one layer, in nats: the price of log(1+α) against the data-set mean loss.

    Args:
        net: gated network; layer: gate's name.
        gamma: training's γ_i, one number or one per layer; None takes `net.vib_config["gamma"]`.

    Raises:
        InvalidInputError: no γ given or recorded, γ ≤ 0, no entry for the layer, or a multiplier of 0.
    """
    gate = _gate(net, layer)
    if gamma is None:
        gamma = getattr(net, "vib_config", {}).get("gamma")
    if gamma is None:
        reject(
            "gamma", None, "the price that the network was trained at", "pass gamma=…, or train with vibtheory.train"
        )
    if isinstance(gamma, Mapping):
        if layer not in gamma:
            reject("gamma", sorted(gamma), f"an entry for layer {layer!r}", f"add {layer!r} to the mapping")
        gamma = gamma[layer]
    as_scalar("gamma", gamma)
    price = float(as_positive("gamma", gamma, remedy="pass a price γ > 0 in nats"))
    if gate.multiplier == 0:
        reject(f"multiplier of {layer!r}", 0, "a number > 0", "a gate whose information is free has no sparsity bound")
    return price * gate.multiplier / 2


def check_network(
    net: nn.Module,
    data: Any,
    gamma: Gamma | None = None,
    kind: str = "auto",
    layers: Sequence[str] | None = None,
    **options: Any,
) -> NetworkReport:
    """Decide the sparsity bounds T2 and T3 on every gated layer of a trained network.

    Each layer: ḡ by `quadratic_bound`, a certified local minimum of the surrogate from the trained gates, the verdict.
    The trained network's own ‖α‖₀ is shown beside and never judged: the theorem is about the surrogate's minima.

    Args:
        net: trained network. Without gates, one is inserted after each activation at μ = 1, log σ² = −9 (on a copy),
            and `gamma` is required.
        data: a `Dataset`; the training split is used.
        gamma: training's γ in nats, one number or one per layer; None takes the recorded one.
        kind: as in `quadratic_bound`.
        layers: names of the layers to check; None: all.
        **options: passed to `quadratic_bound` (options, or others, samples, seed, batch, ...).

    Raises:
        InvalidInputError: as `quadratic_bound`; no gates and no gamma.
    """
    check_choice("kind", kind, KINDS)
    net = with_gates(net, data, gamma)
    names = list(named_gates(net)) if layers is None else list(layers)
    for name in names:
        theory_gamma(net, name, gamma)  # every complaint before the work
    from vibtheory.theory.network_report import NetworkReport
    from vibtheory.theory.sparsity import check_sparsity_bound

    return NetworkReport(
        tuple(check_sparsity_bound(quadratic_bound(net, data, name, kind, gamma, **options)) for name in names)
    )


def with_gates(net: nn.Module, data: Any, gamma: Gamma | None) -> nn.Module:
    """`net`, or a copy with a gate after each activation where it has none; then γ is required."""
    if not named_gates(net):
        if gamma is None:
            reject("gamma", None, "a price γ > 0, as the network has no gates and so no recorded one",
                   "pass gamma=… (training's γ in nats, e.g. 1e-4)")  # fmt: skip
        from vibtheory.networks.insertion import insert_gates

        x, _, _ = _arrays(data)
        net = insert_gates(net, torch.as_tensor(x[:2]))
        if not named_gates(net):
            reject(
                "net", type(net).__name__, "a network with an activation to gate", "put vibtheory.Gate modules in it"
            )
    return net


def kinds_that_apply(net: nn.Module, data: Any, layer: str) -> dict[str, str]:
    """Why each kind of ḡ does not apply to `layer`, in words; empty where it does. Raises as `quadratic_bound`."""
    _gate(net, layer)
    view = _view(net, data, layer, 0, 0, 2)
    return {kind: unfit(view, kind) for kind in KINDS if kind != "auto"}


def _gate(net: nn.Module, layer: str) -> Gate:
    gates = named_gates(net)
    if not gates:
        reject("net", f"{type(net).__name__} without gates", "a gated network",
               "insert gates with vibtheory.insert_gates(model, example_input), or call check_network")  # fmt: skip
    if layer not in gates:
        reject("layer", repr(layer), "one of " + ", ".join(gates), "choose one of those names")
    return gates[layer]


def _arrays(data: Any) -> tuple[NDArray[Any], NDArray[Any], str]:
    """x_train, y_train, likelihood of a `Dataset`, checked as far as the network is not needed."""
    missing = [name for name in ("x_train", "y_train", "likelihood") if getattr(data, name, None) is None]
    if missing:
        reject("data", f"{type(data).__name__} without .{missing[0]}", "a vibtheory Dataset",
               "make one with vibtheory.datasets.load or vibtheory.datasets.from_arrays(…, likelihood=…)")  # fmt: skip
    check_choice("data.likelihood", data.likelihood, LIKELIHOODS)
    x, y = np.asarray(data.x_train), np.asarray(data.y_train)
    if len(x) != len(y) or len(x) == 0:
        reject("data.y_train", f"{len(y)} labels for {len(x)} inputs", "one label per input, at least one",
               "pass matching arrays")  # fmt: skip
    return x, y, str(data.likelihood)


def _view(net: nn.Module, data: Any, layer: str, others: int, seed: int, batch: int) -> GatedLayer:
    x, y, likelihood = _arrays(data)
    recorded = getattr(net, "vib_config", {}).get("likelihood", likelihood)
    if recorded != likelihood:
        reject("data.likelihood", repr(likelihood), f"{recorded!r}, which the network was trained with",
               "pass the data set that the network was trained on")  # fmt: skip
    if batch < 1:
        reject("batch", batch, "an integer >= 1", "pass the number of examples per forward pass")
    return GatedLayer(net, layer, x, y, likelihood, samples=others, seed=seed, batch=batch)
