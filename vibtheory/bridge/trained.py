"""T8 on a trained network: the curvature in the gates of the objective that it was trained on, and the verdict.

E over the gates' noise makes F smooth (`vibtheory.bridge.gate_objective`), so that H exists where ReLU has its kinks.
The Gauss–Newton share JᵀCJ is what automatic differentiation sees of one layer of a piecewise
linear network. What else H has is found in one of four ways:

- affine: a gate that feeds an affine map to the output has no more.
- relu: affine maps, ReLU modules and max-pooling behind the gate. H − E JᵀCJ = E Σ_h δ(p_h) ∂loss/∂a_h v_h v_hᵀ over
  all ReLUs, a_h = max(p_h, 0) and v_h = ∂p_h/∂z, and over the differences p_h of the two largest entries of a window.
  δ is a kernel half as wide as the noise moves p_h, of third order; random signs take the sum over h, at two backward
  passes for each set and not one for every h.
- chain: all layers of a chain at once. Gate m multiplies what the gates before it change, so H has in the block of the
  earlier z and z_m also E Σ ∂loss/∂(z_m a_m) ∂a_m/∂z, found with random signs likewise.
- stein: any network, without bias and with more noise: Stein's identity, JᵀCJ at another noise z′ taken out and put in,

    H ≈ JᵀCJ(z′) + sym[(½(∇loss(μ+σε) − ∇loss(μ−σε)) − JᵀCJ(z′)σε) (ε/σ)ᵀ]        (mean over the data).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.affine import MEMORY, is_affine
from vibtheory.bridge.checking import Gamma, GatedNetwork, checked
from vibtheory.bridge.gate_objective import GateObjective
from vibtheory.bridge.kinds import BoundOptions
from vibtheory.errors import as_generator, as_whole
from vibtheory.networks.forward import gate_held_at
from vibtheory.theory.trained_objective import ALL_LAYERS, TrainedNetworkReport, TrainedReport, check_trained_objective

__all__ = ["check_trained"]

Array = NDArray[np.float64]
_JOINTLY = 1500  # open gates up to which all layers' joint Hessian is held
_WIDTH = 0.5  # of the kernel in place of δ(p), over the standard deviation that the gates give p
# The kernel φ(t)(a + b|t| + ct²): it integrates to 1, and on either side of 0, where the loss has slopes of its own,
# its first two moments are 0, so that what it errs by is of third order in its width.
_ABSOLUTE = math.sqrt(2 / math.pi)
_KERNEL = np.linalg.solve([[1, _ABSOLUTE, 1], [_ABSOLUTE, 1, 2 * _ABSOLUTE], [1, 2 * _ABSOLUTE, 3]], [1, 0, 0])
_KERNEL = _KERNEL / math.sqrt(2 * math.pi)
_SIGNS = 4  # sets of random signs of each draw
_FOUND = {
    "affine": "Gauss–Newton, exact as the output is affine in z",
    "relu": "Gauss–Newton and the kinks of the ReLUs",
    "chain": "Gauss–Newton, the kinks of the ReLUs and the products of gates",
    "stein": "Gauss–Newton and, by Stein's identity, all the rest",
}


@torch.inference_mode(False)  # gradients, whatever the caller switched off
def check_trained(
    net: nn.Module,
    data: Any,
    layer: str | None = None,
    *,
    gamma: Gamma | None = None,
    draws: int = 6,
    polish: int = 0,
    tolerance: float = 0.2,
    seed: int = 0,
    batch: int = 2000,
    memory: int = MEMORY,
) -> TrainedNetworkReport:
    """Decide on the network itself how many gates can be kept: #{α > 1} against the curvature of the trained objective.

    No surrogate stands between: the statement is about every local minimum of training's own objective, so a network
    that has not come to rest is told so and how far it is. Slopes are autograd's: where a network jumps (Hardshrink,
    rounding) or has a backward pass of another function (straight-through), they are not F's, nor is the curvature.
    Losses alone are asked whether they agree (Stein's identity), and where they do not the verdict is "not resolved".

    Args:
        net: gated network, trained; it is not changed. One without gates gets them, as in `check_network`.
        data: a `Dataset`; the training split is used. Where training changed its examples (`shift`), pass such ones.
        layer: name of one gate; None: every one, and all at once where they have at most 1,500 open gates together.
        gamma: training's γ in nats, one number or one per layer; None takes the recorded one.
        draws: S ≥ 3 draws of the noise of every example, each with its antithetic one.
        polish: iterations of L-BFGS in (μ, log σ²) of the gates asked about, on a copy with weights held, on as many
            other draws, of 60,000 in all at most (common random numbers). The report then has the point before, too.
        tolerance: as in `check_trained_objective`.
        seed: of the noise.
        batch: examples per pass, at most. memory: bytes that a pass may take.

    Returns:
        TrainedNetworkReport.

    Raises:
        InvalidInputError: as `check_network`; fewer than 3 draws; a layer with no open gate or more than 5,000.

    Source: docs/theory.md T8.
    """
    as_whole("draws", draws, 3)
    as_whole("polish", polish, 0)
    network = checked(net, data, None if layer is None else [layer], gamma, insert=True)
    objective = _Curvature(network, BoundOptions(batch=batch, memory=memory, seed=seed))
    before = objective.reports(draws, tolerance)
    if not polish:
        return TrainedNetworkReport(before)
    objective.descend(polish, draws)
    return TrainedNetworkReport(objective.reports(draws, tolerance), before)


def _bent(view: GatedLayer) -> list[str]:
    """The names of the ReLU and pooling modules behind a gate; none where something else there is not affine either."""
    names = {id(module): name for name, module in view.net.named_modules()}
    bent = [module for module in view.after.modules or () if not is_affine(module)]
    found = [names.get(id(module), "") for module in bent if type(module) is nn.ReLU or _is_plain(module)]
    return found if len(found) == len(bent) and all(found) else []


def _is_plain(module: nn.Module) -> bool:
    return type(module) is nn.MaxPool2d and (module.padding, module.dilation, module.ceil_mode) == (0, 1, False)


def _windows(p: Tensor, pool: nn.MaxPool2d) -> Tensor:
    """What `pool` takes the largest of: [n, channels, entries of a window, windows]."""
    cells = nn.functional.unfold(p.flatten(0, 1)[:, None], pool.kernel_size, stride=pool.stride)
    return cells.reshape(*p.shape[:2], *cells.shape[1:])


def _gap(cells: Tensor, pair: Tensor) -> Tensor:
    """The difference of two entries of each window, at `pair` [n, channels, 2, windows]."""
    chosen = cells.gather(2, pair)
    return chosen[:, :, 0] - chosen[:, :, 1]


def _applied(half: Tensor, vectors: Tensor) -> Tensor:
    """The Gauss–Newton matrix of each example, from CᵀJ [n, K, d], times its own vector [n, d]."""
    return (half.transpose(1, 2) @ (half @ vectors[:, :, None]))[:, :, 0]


class _Curvature(GateObjective):
    """F with its H, all layers at once included.

    Attributes:
        ways: by part, how H is found. relus: those in the network; pools: the place of the ReLU before, and the pool.
    """

    def __init__(self, network: GatedNetwork, options: BoundOptions) -> None:
        views = {name: network.seen_from(name, options) for name in network.prices}
        network.frozen.check_separate()
        super().__init__(network, views, options)
        kinks = {name: None if view.affine else _bent(view) for name, view in views.items()}
        known = self._find_kinks(sorted({each for one in kinks.values() for each in one or ()}))
        self.ways = {
            name: "affine" if kinks[name] is None else "relu" if kinks[name] and known else "stein" for name in views
        }
        for module in self.relus:
            module.inplace = False  # what enters it is looked at afterwards
        self.joint = len(views) > 1 and len(self.mu) <= _JOINTLY
        if self.joint:
            self.parts[ALL_LAYERS] = slice(0, len(self.mu))
            self.ways[ALL_LAYERS] = "chain" if self.cut and "stein" not in self.ways.values() else "stein"

    def _find_kinks(self, bent: list[str]) -> bool:
        """Sets relus and pools; whether these are all kinks of the modules named: a pool's after a ReLU in a chain."""
        inside = [self.net.get_submodule(name) for name in bent] if not self.cut else list(self.net.children())
        self.relus = [module for module in inside if bent and type(module) is nn.ReLU]
        self.pools: list[tuple[int, nn.MaxPool2d]] = []
        if not self.cut:
            return len(self.relus) == len(bent)
        for first, pool in pairwise(inside if bent else []):
            if type(pool) is nn.MaxPool2d:
                if type(first) is not nn.ReLU:
                    return False
                self.pools.append((self.relus.index(first), pool))
        return True

    @contextmanager
    def watching(self, modules: Iterable[nn.Module]) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Inside, what enters and leaves each of `modules` in a forward pass, in the order of the calls."""
        seen: list[tuple[Tensor, Tensor]] = []
        with ExitStack() as stack:
            for module in modules:
                hook = module.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
                stack.callback(hook.remove)
            yield seen

    def widths(self) -> list[Tensor]:
        """The kernel's width for each p_h of `relus`, then `pools`: a share of how far noise moves it (rms)."""
        squares: list[Tensor] = []
        with torch.no_grad():
            for x, _, weight, (noise,) in self.drawn("T8, widths") if self.relus else ():
                with self.watching(self.relus) as seen:
                    for sign in (1.0, -1.0):
                        self.output(*self.at(x, noise, self.mu, self.sigma, sign))
                half = len(seen) // 2
                ends = [[p.double() for p, _ in part] for part in (seen[:half], seen[half:])]
                for i, pool in self.pools:
                    cells = [_windows(end[i], pool) for end in ends]
                    pair = cells[0].topk(2, 2).indices
                    for end, own in zip(ends, cells, strict=True):
                        end.append(_gap(own, pair))
                found = [torch.tensordot(weight, ((a - b) / 2).square(), 1) for a, b in zip(*ends, strict=True)]
                squares = [a + b for a, b in zip(squares, found, strict=True)] if squares else found
        return [_WIDTH * each.sqrt() for each in squares]

    def factors(
        self, f: Tensor, z: dict[str, Tensor], y: Tensor, widths: list[Tensor], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]], list[tuple[slice, Tensor, Tensor]]]:
        """CᵀJ [n, K, D] with the loss's curvature CCᵀ in the output: its products are the Gauss–Newton matrices.

        And the losses' slopes in z [n, D]. And pairs a, b [n, D]: the expectation of the mean of sym(abᵀ) is the kinks'
        matrix. And, where all layers are asked about at once, by later layer its part and a [n, D], r [n, part]: E arᵀ
        is the block of H that stands off the diagonal as z multiplies what earlier gates change.
        """
        leaves = [z[name].requires_grad_(True) for name in self.asked]
        later = self.asked[1:] if self.ways.get(ALL_LAYERS) == "chain" else []
        with (
            self.watching(self.relus) as seen,
            self.watching(pool for _, pool in self.pools) as pooled,
            self.watching(self.held[name] for name in later) as scaled,
        ):
            output = self.output(f, z)
        columns = [torch.autograd.grad(each.sum(), leaves, retain_graph=True) for each in output.unbind(1)]
        jacobian = torch.stack([torch.cat(each, 1) for each in columns], 1)
        loss = self.likelihood.loss(output, y).sum()
        watched = seen + pooled + scaled
        slopes = list(torch.autograd.grad(loss, [a for _, a in watched], retain_graph=True)) if watched else []
        entering, weights = [p for p, _ in seen], []
        for place, (i, pool) in enumerate(self.pools, len(seen)):  # a pool of ReLUs bends in p₁ − p₂
            cells = _windows(entering[i], pool)
            first, pair = cells.topk(2, 2)
            entering.append(_gap(cells, pair))
            slopes[place] = slopes[place].flatten(2) * (first[:, :, 0] > 0)
        for p, width, slope in zip(entering, widths, slopes, strict=False):
            t = (p.detach().double() / width).abs()
            near = torch.exp(-0.5 * t**2) * (_KERNEL[0] + _KERNEL[1] * t + _KERNEL[2] * t**2) / width
            weights.append(slope * torch.where(width > 0, near, 0.0))  # what no noise moves has no kink
        pull = partial(torch.autograd.grad, retain_graph=True, allow_unused=True, materialize_grads=True)
        sizes = [w[0].numel() for w in weights] + [z[name].shape[1] for name in later]
        drawn = torch.as_tensor(rng.choice((-1.0, 1.0), (len(f), _SIGNS, sum(sizes))), device=self.device)
        pairs, products = [], []
        for each in drawn.unbind(1):
            signs = torch.split(each, sizes, 1)
            roots = [w.abs().sqrt() * r.reshape(w.shape) for w, r in zip(weights, signs, strict=False)]
            if roots:
                both = [
                    torch.cat(pull(entering, leaves, [c.to(p.dtype) for c, p in zip(own, entering, strict=True)]), 1)
                    for own in (roots, [root * w.sign() for root, w in zip(roots, weights, strict=True)])
                ]
                pairs.append((both[0], both[1]))
            ends = zip(later, scaled, slopes[len(weights) :], signs[len(weights) :], strict=True)
            for name, (entered, _), slope, r in ends:
                with gate_held_at(self.held[name], self._spread(name, r)):
                    moved = pull(entered, leaves, self.held[name](slope).to(entered.dtype))
                products.append((self.parts[name], torch.cat(moved, 1), r))
        output = output.detach()
        along = (self.likelihood.gradient(output, y)[:, None] @ jacobian)[:, 0]
        return self.likelihood.curvature_root(output).transpose(1, 2) @ jacobian, along, pairs, products

    def estimates(self, draws: int) -> tuple[Array, Array, dict[str, tuple[Array, Array]]]:
        """E∂g [S, D]; how far from it losses alone are [S, D]; by part H [S, d, d], its Gauss–Newton share [d, d]."""
        parts = {ALL_LAYERS: self.parts[ALL_LAYERS]} if self.joint else self.parts
        d = len(self.mu)
        slope, missed = torch.zeros(2, draws, d, dtype=torch.float64, device=self.device)
        sizes = {name: len(self.mu[part]) for name, part in parts.items()}
        gauss = {name: slope.new_zeros(draws, size, size) for name, size in sizes.items()}
        rest = {name: slope.new_zeros(draws, size, size) for name, size in sizes.items()}
        kinks = {name: slope.new_zeros(draws, size, size) for name, size in sizes.items()}
        spread = torch.as_tensor(self.sigma, device=self.device)
        stein, widths = "stein" in self.ways.values(), self.widths()
        for s in range(draws):
            signs = as_generator("seed", self.seed, f"T8, signs {s}")
            for x, y, weight, (apart, noise) in self.drawn(f"T8, draw {s}", 2):
                half, along, pairs, products = self.factors(*self.at(x, apart, self.mu, self.sigma), y, widths, signs)
                losses, ends = zip(
                    *(self.slopes(*self.at(x, noise, self.mu, self.sigma, sign), y) for sign in (1.0, -1.0)),
                    strict=True,
                )
                unit, other = (torch.cat([each[name] for name in self.asked], 1) for each in (noise, apart))
                mean = (ends[0] + ends[1]) / 2
                slope[s] += weight @ mean
                along -= _applied(half, spread * other)  # nearly the slopes at μ: taken out and put in, as for H
                rise = (losses[0] - losses[1]) / 2 - (along * spread * unit).sum(1)
                missed[s] += weight @ (along + rise[:, None] * unit / spread - mean)
                half *= weight.sqrt()[:, None, None]
                for part, a, r in products:
                    kinks[ALL_LAYERS][s][:, part].addmm_((a * weight[:, None]).T, r, alpha=2 / _SIGNS)
                for name, part in parts.items():
                    own = half[:, :, part].reshape(-1, sizes[name])
                    gauss[name][s].addmm_(own.T, own)
                    for a, b in pairs:
                        kinks[name][s].addmm_((a[:, part] * weight[:, None]).T, b[:, part], alpha=1 / len(pairs))
                    if stein:
                        moved = unit[:, part] * spread[part]
                        left = (ends[0] - ends[1])[:, part] / 2 * weight[:, None]
                        left -= _applied(half[:, :, part], moved)
                        rest[name][s].addmm_(left.T, unit[:, part] / spread[part])
        found = {}
        for name, part in self.parts.items():
            block, inside = (name, slice(None)) if name in parts else (ALL_LAYERS, part)
            first = gauss[block][:, inside, inside].cpu().numpy()
            second = (rest if self.ways[name] == "stein" else kinks)[block][:, inside, inside].cpu().numpy()
            found[name] = first + (second + second.transpose(0, 2, 1)) / 2, first.mean(0)
        return slope.cpu().numpy(), missed.cpu().numpy(), found

    def reports(self, draws: int, tolerance: float) -> tuple[TrainedReport, ...]:
        """T8 decided at the present point, part by part."""
        self.share()
        slope, missed, found = self.estimates(draws)
        return tuple(
            check_trained_objective(
                self.mu[part], self.sigma[part], self.gamma[part], slope[:, part], found[name][0],
                tolerance=tolerance, gauss_newton=found[name][1], missed=missed[:, part], layer=name,
                bend=partial(self.bend, part, draws),
                curvature=_FOUND[self.ways[name]],
            )
            for name, part in self.parts.items()
        )  # fmt: skip

    def bend(self, part: slice, draws: int, delta: Array) -> Array:
        """F(μ+δ) + F(μ−δ) − 2F(μ) in nats [S] for δ in the gates of `part`: forward passes alone, common noise."""
        points = [self.mu.copy() for _ in range(3)]
        points[0][part] += delta
        points[1][part] -= delta
        weights, found = (1.0, 1.0, -2.0), np.zeros(draws)
        with torch.no_grad():
            for s in range(draws):
                for x, y, weight, (noise,) in self.drawn(f"T8, bend {s}"):
                    for each, mu in zip(weights, points, strict=True):
                        losses = self.likelihood.loss(self.output(*self.at(x, noise, mu, self.sigma)), y)
                        found[s] += each * float(weight @ losses.double())
        log_variance = 2 * np.log(self.sigma)
        prices = [each * self.price(mu, log_variance) for each, mu in zip(weights, points, strict=True)]
        return found + sum(prices)
