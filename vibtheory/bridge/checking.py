"""Trained network + data → ḡ, layer by layer, and the whole check: the only place where torch meets the theory.

Here and nowhere else training's price is converted: T1–T6 price log(1+α) against the data-set mean loss, training
prices ½ log(1+α) with γ_i times the layer's multiplier s_i, so γ_theory = γ_i s_i/2 ("One convention for
the price").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.affine import MEMORY
from vibtheory.bridge.frozen import FrozenNetwork
from vibtheory.bridge.kinds import KINDS, LEVEL, PROVED, BoundOptions, build, resolve, unfit
from vibtheory.bridge.output_loss import LIKELIHOODS, OutputLoss
from vibtheory.bridge.verification import BoundCheck, compare, own_losses, sample_points
from vibtheory.errors import as_array, as_generator, as_positive, as_whole, check_choice, check_type, reject
from vibtheory.networks.gates import Gate, vib_gates
from vibtheory.networks.likelihood import check_numbers
from vibtheory.theory.quadratic import Guarantee, QuadraticBound

if TYPE_CHECKING:
    from vibtheory.theory.network_report import NetworkReport

__all__ = ["BoundCheck", "check_network", "quadratic_bound", "theory_gamma", "verify_bound"]

Array = NDArray[np.float64]
Gamma = float | Mapping[str, float]


@dataclass(frozen=True, eq=False)
class GatedNetwork:
    """A gated network and data that fit each other: `checked` has seen them, nothing inside checks again.

    Attributes:
        net: the network. x, y: training inputs [N, ...] and labels or targets. likelihood: of y.
        prices: γ_theory > 0 in nats of each layer that is asked about; 0 where no price is needed.
    """

    net: nn.Module
    x: NDArray[Any]
    y: NDArray[Any]
    likelihood: str
    prices: Mapping[str, float]

    @cached_property
    def frozen(self) -> FrozenNetwork:
        """What the views of its layers share."""
        return FrozenNetwork(self.net, self.x)

    def seen_from(self, layer: str, options: BoundOptions, others: int = 0) -> GatedLayer:
        """The network as a function of one layer's gates, with `others` samples of the gates before."""
        return GatedLayer(
            self.frozen, layer, self.x, self.y, self.likelihood,
            samples=others, seed=options.seed, batch=options.batch, memory=options.memory,
        )  # fmt: skip

    def on(self, data: Any) -> GatedNetwork:
        """The same network with a part of its data."""
        return replace(self, x=np.asarray(data.x_train), y=np.asarray(data.y_train))

    def reasons(self, layer: str) -> dict[str, str]:
        """Why each kind of ḡ does not apply to `layer`, in words; empty where it does."""
        view = self.seen_from(layer, BoundOptions(batch=2))
        return {kind: unfit(view, kind) for kind in KINDS if kind != "auto"}


def checked(
    net: nn.Module, data: Any, layers: Sequence[str] | None = None, gamma: Gamma | None = None, *,
    priced: bool = True, insert: bool = False,
) -> GatedNetwork:  # fmt: skip
    """Network, data, layers (None: all) and γ (None: the recorded one) in one, or the complaint about them.

    With `insert` a network without gates gets one after each activation, on a copy; then γ is required.

    Raises:
        InvalidInputError: no gates, no such layer, no γ (where `priced`), NaN among the weights, data without arrays
            that fit each other, or of another likelihood than the network was trained with.
    """
    check_type("net", net, nn.Module, "pass a torch network")
    check_numbers("net", net)
    missing = [name for name in ("x_train", "y_train", "likelihood") if getattr(data, name, None) is None]
    if missing:
        reject("data", f"{type(data).__name__} without .{missing[0]}", "a vibtheory Dataset",
               "make one with vibtheory.datasets.load or vibtheory.datasets.from_arrays(…, likelihood=…)")  # fmt: skip
    check_choice("data.likelihood", data.likelihood, LIKELIHOODS)
    recorded = getattr(net, "vib_config", {}).get("likelihood", data.likelihood)
    if recorded != data.likelihood:
        reject("data.likelihood", repr(data.likelihood), f"{recorded!r}, which the network was trained with",
               "pass the data set that the network was trained on")  # fmt: skip
    x, y = np.asarray(data.x_train), np.asarray(data.y_train)
    if len(x) != len(y) or len(x) == 0:
        reject("data.y_train", f"{len(y)} labels for {len(x)} inputs", "one label per input, at least one",
               "pass matching arrays")  # fmt: skip
    if insert and not vib_gates(net):
        if gamma is None:
            reject("gamma", None, "a price γ > 0, as the network has no gates and so no recorded one",
                   "pass gamma=… (training's γ in nats, e.g. 1e-4)")  # fmt: skip
        from vibtheory.networks.insertion import insert_gates

        net = insert_gates(net, torch.as_tensor(x[:2]))
    names = list(vib_gates(net)) if layers is None else list(layers)
    prices = {name: theory_gamma(net, name, gamma) if priced else float(not _gate(net, name)) for name in names}
    return GatedNetwork(net, x, y, str(data.likelihood), prices)


@torch.inference_mode(False)  # gradients, whatever the caller switched off
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
        layer: the gate's name; `vibtheory.networks.gates.named_gates(net)` lists them.
        kind: exact | bohning | lipschitz | fitted | tangent, or "auto": the strongest of exact, bohning, lipschitz that
            applies, else tangent.
        gamma: training's γ_i > 0 in nats, one number or one per layer; None takes the one recorded by `train`.
        options: how; None: `BoundOptions()`. Keyword arguments named like its fields replace them
            (`anchor=z0, seed=3`).

    Returns:
        The bound, with γ_theory = γ_i s_i/2, its `guarantee`, layer and the trained (μ⊙keep, σ).

    Raises:
        InvalidInputError: no such layer (those that exist are listed), no γ, data that do not fit, or a kind that does
            not apply to this layer.
        SolverError: the semidefinite program of `fitted` failed.
    """
    check_choice("kind", kind, KINDS)
    options = BoundOptions.of(options, changes)
    return bound_with_level(checked(net, data, [layer], gamma), layer, kind, options)[0]


def bound_with_level(
    network: GatedNetwork, layer: str, kind: str, options: BoundOptions
) -> tuple[QuadraticBound, BoundCheck | None]:
    """`quadratic_bound`, and for a statistical kind the numbers behind its level: fresh z, violations, their limit."""
    view = network.seen_from(layer, options, options.others)
    kind = resolve(view, kind)
    network.frozen.check_separate()
    centre, spread = options.around(view)
    result = build(view, kind, centre, spread, options)
    level: BoundCheck | None = None
    if LEVEL[kind] == "statistical":
        if result.held is not None and options.level_samples is None:
            z, losses = result.held
            words = "z ~ N(μ, σ²), one of which set its height,"
        else:
            generator = as_generator("seed", options.seed, "points that test its level")
            z = centre + spread * generator.standard_normal((options.level_samples or 1000, view.d))
            losses, words = view.mean_loss(z), "fresh z ~ N(μ, σ²)"
        level = compare(result.value(z), losses, "statistical", "")
        detail = (
            f"{level.violations} of {level.samples} {words} violate it, rate ≤ {level.rate_limit:.3g} at "
            f"95 % (Clopper–Pearson), worst violation {max(level.worst, 0.0):.3g} nats; {result.note}"
        )
    else:
        detail = PROVED[kind] + (f"; {result.note}" if result.note else "")
    if options.others:
        detail += f"; gates before {layer} averaged over {options.others} samples (seed {options.seed})"
    bound = QuadraticBound.from_gram(
        result.gram, result.b, result.c, network.prices[layer], guarantee=Guarantee(kind, LEVEL[kind], detail),
        layer=layer, trained_mu=view.anchor, trained_sigma=view.sigma,
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
    memory: int = MEMORY,
) -> BoundCheck:
    """Compare ḡ with the true g on fresh samples of z; each costs a forward pass of the network over the data.

    g is the network's own forward pass (in float64 where that runs) with z put in at the gate, and shares nothing with
    what built ḡ.

    Args:
        bound: from `quadratic_bound` on the same net and data, with the same `others`, `batch` and `memory` if
            others > 0.
        net, data: as there.
        samples: number of z. A statistical bound is tested on z ~ N(μ, σ²), where it is claimed; an exact or rigorous
            one on four scales: that, a wide one around μ, one around 0, and (0, 1)-valued z (gates cut).
        seed: of z; pick another than the bound's.
        points: z [S, d] to test instead.

    Raises:
        InvalidInputError: `bound` has no layer or another width, or points of a wrong shape.
    """
    options = BoundOptions(others=others, seed=int(others and seed), batch=batch, memory=memory)
    view = _verified(bound, net, data, options)
    if points is None:
        z = _points(bound, samples, seed)
    else:
        z = as_array("points", points, (None, view.d), "pass one row of gates per z")
    losses, rounding = own_losses(
        net, view.x, view.y, view.likelihood.name, view.layer, z,
        others=others, seed=view.seed, batch=view.batch, rows=view.rows,
    )  # fmt: skip
    return compare(bound.value(z), losses, bound.guarantee.level, str(bound.guarantee), 1e-10 + rounding)


def verify_by_chain(bound: QuadraticBound, net: nn.Module, data: Any, samples: int, seed: int) -> BoundCheck:
    """As `verify_bound`, with g from the modules after the gate that ḡ was built from: for many more samples of z."""
    view = _verified(bound, net, data, BoundOptions())
    view.keep_in_memory()
    z, guarantee = _points(bound, samples, seed), bound.guarantee
    return compare(bound.value(z), view.mean_loss(z), guarantee.level, str(guarantee), 1e-10 + view.rounding)


def _verified(bound: QuadraticBound, net: nn.Module, data: Any, options: BoundOptions) -> GatedLayer:
    """The layer that `bound` is about, once it is known to be one of this net."""
    if bound.layer is None or bound.trained_mu is None or bound.trained_sigma is None:
        reject("bound", "one without a layer", "a bound from quadratic_bound", "build it with quadratic_bound")
    view = checked(net, data, [bound.layer], priced=False).seen_from(bound.layer, options, options.others)
    if view.d != bound.d:
        reject("bound", f"{bound.d} gates", f"{view.d}, the gates of {bound.layer!r}", "pass the net it was built from")
    return view


def _points(bound: QuadraticBound, samples: int, seed: int) -> Array:
    """z [samples, d] for `verify_bound`."""
    as_whole("samples", samples, 1, remedy="ask for at least one z")
    assert bound.trained_mu is not None
    assert bound.trained_sigma is not None
    generator = as_generator("seed", seed, "points of verify_bound")
    wide = bound.guarantee.level != "statistical"
    return sample_points(bound.trained_mu, bound.trained_sigma, samples, generator, wide)


def theory_gamma(net: nn.Module, layer: str, gamma: Gamma | None = None) -> float:
    """γ_theory = γ_i s_i/2 of one layer, in nats: the price of log(1+α) against the data-set mean loss.

    Args:
        net: gated network; layer: gate's name.
        gamma: training's γ_i, one number or one per layer; None takes `net.vib_config["gamma"]` (its last epoch's).

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
    price = float(as_positive("gamma", gamma, (), "pass a price γ > 0 in nats"))
    if gate.multiplier == 0:
        reject(f"multiplier of {layer!r}", 0, "a number > 0", "a gate whose information is free has no sparsity bound")
    return price * gate.multiplier / 2


@torch.inference_mode(False)  # gradients, whatever the caller switched off
def check_network(
    net: nn.Module,
    data: Any,
    gamma: Gamma | None = None,
    kind: str = "auto",
    layers: Sequence[str] | None = None,
    options: BoundOptions | None = None,
    *,
    progress: bool = False,
    **changes: Any,
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
        options, **changes: as in `quadratic_bound` (`memory=` bounds what it holds at once).
        progress: a live bar on stderr, layer by layer.

    Raises:
        InvalidInputError: as `quadratic_bound`; no gates and no gamma.
    """
    from vibtheory.storage.terminal import Console, track
    from vibtheory.theory.network_report import NetworkReport
    from vibtheory.theory.sparsity import check_sparsity_bound

    check_choice("kind", kind, KINDS)
    options = BoundOptions.of(options, changes)
    network = checked(net, data, layers, gamma, insert=True)
    shown = track(network.prices, "checking", console=Console(stderr=True), disable=not progress)
    reports = [check_sparsity_bound(bound_with_level(network, name, kind, options)[0]) for name in shown]
    return NetworkReport(tuple(reports), remarks(network))


def remarks(network: GatedNetwork) -> tuple[str, ...]:
    """What a reader of the verdict should know of the network: outputs that the likelihood misreads, no training."""
    outputs, found = network.frozen.outputs(), []
    labels = torch.as_tensor(network.y, device=outputs.device)
    loss = float(OutputLoss(network.likelihood).loss(outputs, labels).mean())
    y = network.y.reshape(len(network.y), -1)
    if network.likelihood == "multinomial":
        shares = np.bincount(network.y) / len(y)
        constant = 0.0 - float((shares[shares > 0] * np.log(shares[shares > 0])).sum())
        if outputs.shape[1] > 1 and bool((outputs >= 0).all()) and torch.allclose(
            outputs.sum(1), torch.ones_like(outputs[:, 0]), atol=1e-6
        ):  # fmt: skip
            found.append(
                "every output is a probability, as after a softmax, and the likelihood applies softmax again: the loss "
                "that ḡ bounds is not the network's cross-entropy. Remedy: leave the last softmax out"
            )
    else:
        constant = 0.5 * float(y.var(axis=0).sum())
    if loss > 0.97 * constant:
        words = "no better" if loss >= constant else "hardly better"
        found.append(
            f"the network predicts {words} than a constant: mean loss {loss:.3g} nats on these data, the best "
            f"constant's is {constant:.3g}. Remedy: check a trained network, with its weights loaded"
        )
    return tuple(found)


def _gate(net: nn.Module, layer: str) -> Gate:
    gates = vib_gates(net)
    if not gates:
        reject("net", f"{type(net).__name__} without gates", "a gated network",
               "insert gates with vibtheory.insert_gates(model, example_input), or call check_network")  # fmt: skip
    if layer not in gates:
        reject("layer", repr(layer), "one of " + ", ".join(gates), "choose one of those names")
    return gates[layer]
