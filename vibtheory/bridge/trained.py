"""T8 on a trained network: the objective that it was trained on, its gradient and curvature in the gates.

    F(μ, σ) = (1/N) Σ_n E loss_n(μ + σ⊙ε_n) + Σ γ_j log(1 + μ_j²/σ_j²)

with noise of its own for every example and every gate that is not closed for good, as in training; weights are held,
BatchNorm stays at its recorded statistics and dropout is off. E over the gates' noise makes F smooth, so that H exists
where ReLU has its kinks. The Gauss–Newton share JᵀCJ is what automatic differentiation sees of one layer of a piecewise
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

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.affine import MEMORY, entries, is_affine
from vibtheory.bridge.checking import Gamma, GatedNetwork, checked
from vibtheory.bridge.kinds import BoundOptions
from vibtheory.compression.chain import compress_chain, is_chain
from vibtheory.compression.liveness import alive
from vibtheory.errors import InvalidInputError, as_generator, as_whole, reject
from vibtheory.networks.forward import gate_held_at
from vibtheory.networks.gates import Gate, vib_gates
from vibtheory.networks.sequential import ordered_modules
from vibtheory.theory.trained_objective import ALL_LAYERS, TrainedNetworkReport, TrainedReport, check_trained_objective

__all__ = ["check_trained"]

Array = NDArray[np.float64]
_JOINTLY = 1500  # open gates up to which all layers' joint Hessian is held
_LARGEST = 5000  # open gates of one layer
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
_ROUND = 40  # iterations of L-BFGS between changes of units
_FLAT = 1e-9  # relative fall of F in a round at which nothing is left to gain
_ENOUGH = 60_000  # draws of noise over all examples beyond which polishing needs no more of each
_PILOT = 4  # draws that decide how many each example gets
_MORE = 3  # times as many as examples, over those that have more than one


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
    that has not come to rest is told so and how far it is.

    Args:
        net: gated network, trained; it is not changed.
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
    network = checked(net, data, None if layer is None else [layer], gamma)
    objective = _Objective(network, BoundOptions(batch=batch, memory=memory, seed=seed))
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


def _cut(net: nn.Module, x: Tensor) -> tuple[list[nn.Module], dict[str, Gate], dict[str, Tensor]] | None:
    """A chain without what is closed for good: its modules, its gates by layer, and which units they are of.

    None where `net` is no chain that can be cut.
    """
    if not isinstance(net, nn.Sequential) or not is_chain(net, x, 1):
        return None
    whole = copy.deepcopy(net)
    for gate in vib_gates(whole).values():  # what compression folds into the weights is then 1
        gate.threshold, gate.mu.data, gate.log_var.data = 0.0, torch.ones_like(gate.mu), torch.zeros_like(gate.mu)
    try:
        small, left = dict(compress_chain(whole).named_children()), alive(whole)
    except InvalidInputError:
        return None
    modules, gates = [], {}
    for path, module in ordered_modules(net):
        modules += [small[name] for name in (path.replace(".", "_"),) if name in small]
        if isinstance(module, Gate):
            gates[path] = Gate(int(left[path].sum())).to(module.mu.device).eval()
            modules.append(gates[path])
    return modules, gates, left


class _Drawn(NamedTuple):
    """A batch: inputs, labels, weights in the mean over the data [n], and sets of ε by layer [n, open gates]."""

    x: Tensor
    y: Tensor
    weight: Tensor
    noises: list[dict[str, Tensor]]


class _Side(NamedTuple):
    """A batch at one sign of its noise: what enters `net`, labels, weights [n], the noise of the gates in `net`."""

    sign: float
    f: Tensor
    y: Tensor
    weight: Tensor
    noise: dict[str, Tensor]


class _Objective:
    """F of the layers in `network.prices` as a function of (μ, σ) [D] of their open gates, one after the other.

    Attributes:
        parts: by layer (and for all of them) the places in [D]. ways: by part, how H is found. relus: in the network.
        head, net: what comes before the first gate that is asked about, and what follows; no head where that is not
            known. held: the gates in them, and fed: for each of its units the open one whose z it takes, last a 0.
    """

    def __init__(self, network: GatedNetwork, options: BoundOptions) -> None:
        views = {name: network.seen_from(name, options) for name in network.prices}
        first = next(iter(views.values()))
        self.net, self.likelihood, self.seed = first.net, first.likelihood, options.seed
        self.memory = options.memory
        self.x, self.y, self.dtype, self.device = network.x, network.y, first.dtype, first.device
        self.gates = vib_gates(self.net)
        self.open = {name: gate.active.nonzero()[:, 0] for name, gate in self.gates.items()}
        self.parts: dict[str, slice] = {}
        start = 0
        for name in views:
            size = len(self.open[name])
            if not 0 < size <= _LARGEST:
                reject("layer", f"{name!r} with {size} open gates", f"1 to {_LARGEST}", "choose another layer")
            self.parts[name] = slice(start, start + size)
            start += size
        kinks = {name: None if view.affine else _bent(view) for name, view in views.items()}
        self.asked = list(views)
        known = self._split(sorted({each for one in kinks.values() for each in one or ()}))
        self.ways = {
            name: "affine" if kinks[name] is None else "relu" if kinks[name] and known else "stein" for name in views
        }
        for module in self.relus:
            module.inplace = False  # what enters it is looked at afterwards
        one = torch.as_tensor(self.x[:1]).to(self.device, self.dtype)
        whole = nn.Sequential(self.head, self.net)
        numbers = entries(whole, one) + start * (2 * whole(one).numel() + 4 * _SIGNS + 8)
        self.rows = max(1, min(options.batch, options.memory // (8 * numbers)))
        self.joint = len(views) > 1 and start <= _JOINTLY
        if self.joint:
            self.parts[ALL_LAYERS] = slice(0, start)
            self.ways[ALL_LAYERS] = "stein" if "stein" in self.ways.values() or self.held is self.gates else "chain"
        self.mu, self.sigma = self._gathered("mu"), self._gathered("sigma")
        self.others = {
            name: tuple(v.detach()[self.open[name]].double() for v in (gate.mu, gate.sigma))
            for name, gate in self.gates.items()
        }
        self.gamma = np.concatenate([np.full(len(self.open[name]), network.prices[name]) for name in views])
        self._equally()

    def _split(self, bent: list[str]) -> bool:
        """Sets head, net, held, fed, relus and pools, on the smaller network where that has the same output.

        Whether the kinks of `bent` are known: a pool's where it follows a ReLU in a chain.
        """
        probe = torch.as_tensor(self.x[:2]).to(self.device, self.dtype)
        rng = as_generator("seed", self.seed, "T8, probe")
        z = {name: torch.as_tensor(rng.uniform(1, 2, (2, len(on)))).to(self.device) for name, on in self.open.items()}
        self.head, self.held, self.fed = nn.Sequential(), self.gates, {}
        for name, on in self.open.items():
            self.fed[name] = torch.full((self.gates[name].features,), len(on), device=self.device)
            self.fed[name][on] = torch.arange(len(on), device=self.device)
        own = [self.net.get_submodule(name) for name in bent]
        self.relus, self.pools = [each for each in own if type(each) is nn.ReLU], list[tuple[int, nn.MaxPool2d]]()
        known = len(self.relus) == len(own)
        found = _cut(self.net, probe)
        if found is None:
            return known
        with torch.no_grad():
            whole = self.output(probe, z)
            before = self.net, self.held, self.fed
            modules, self.held, left = found
            self.fed = {name: places[left[name].to(self.device)] for name, places in self.fed.items()}
            self.net = nn.Sequential(*modules)
            near = 1e-3 * math.sqrt(torch.finfo(self.dtype).eps)
            same = torch.allclose(self.output(probe, z), whole, near, near * float(whole.abs().max()))
        if not same:  # a closed unit may leave a constant that a later gate scales
            self.net, self.held, self.fed = before
            return known
        start = min(modules.index(self.held[name]) for name in self.asked)
        self.head, self.net = nn.Sequential(*modules[:start]), nn.Sequential(*modules[start:])
        if not bent:
            return True
        self.relus = [module for module in self.net if isinstance(module, nn.ReLU)]
        pairs = list(zip(self.net, list(self.net)[1:], strict=False))
        after = [(first, pool) for first, pool in pairs if isinstance(pool, nn.MaxPool2d)]
        if not all(isinstance(first, nn.ReLU) for first, _ in after):
            return False
        self.pools = [(self.relus.index(cast(nn.ReLU, first)), pool) for first, pool in after]
        return True

    def _gathered(self, name: str) -> Array:
        values = [getattr(self.gates[layer], name)[self.open[layer]].detach().double().cpu() for layer in self.asked]
        return torch.cat(values).numpy()

    def price(self, mu: Array, log_variance: Array) -> float:
        """Σγ_j log(1+α_j) in nats, safe for any log σ²."""
        with np.errstate(divide="ignore"):
            return float(self.gamma @ np.logaddexp(0.0, 2 * np.log(np.abs(mu)) - log_variance))

    def drawn(self, purpose: str, noises: int = 1, draws: int = 1) -> Iterator[_Drawn]:
        """All `index` `draws` times, in batches, with `noises` sets of ε each."""
        rng = as_generator("seed", self.seed, purpose)
        sizes = [len(places) for places in self.open.values()]
        for start in range(0, draws * len(self.index), self.rows):
            own = np.arange(start, min(start + self.rows, draws * len(self.index))) % len(self.index)
            x, y = self.x[self.index[own]], self.y[self.index[own]]
            noise = torch.as_tensor(rng.standard_normal((len(x), noises, sum(sizes)))).to(self.device)
            yield _Drawn(
                torch.as_tensor(x).to(self.device, self.dtype), torch.as_tensor(y).to(self.device),
                torch.as_tensor(self.weight[own] / draws).to(self.device),
                [dict(zip(self.open, torch.split(part, sizes, 1), strict=True)) for part in noise.unbind(1)],
            )  # fmt: skip

    def _equally(self) -> None:
        self.index, self.weight = np.arange(len(self.x)), np.full(len(self.x), 1 / len(self.x))

    def share(self) -> None:
        """More draws for the examples whose losses move more, fewer weights for each of them: the mean stays F's.

        Of a trained network's losses a few thousandths of the examples make up most, and most of the sampling error.
        """
        self._equally()
        n = len(self.x)
        pull = torch.zeros(n, dtype=torch.float64, device=self.device)
        spread, start = torch.as_tensor(self.sigma, device=self.device), 0
        for x, y, _, (noise,) in self.drawn("T8, shares", 1, _PILOT):
            for sign in (1.0, -1.0):
                slope = self.slopes(*self.at(x, noise, self.mu, self.sigma, sign), y)[1]
                pull.index_add_(0, torch.arange(start, start + len(x)) % n, (slope * spread).square().sum(1))
            start += len(x)
        share = pull.sqrt().cpu().numpy()
        times = np.maximum(np.ceil(_MORE * n * share / max(share.sum(), np.finfo(float).tiny)), 1).astype(np.int64)
        self.index, self.weight = np.repeat(np.arange(n), times), np.repeat(1 / (n * times), times)

    def z(self, noise: dict[str, Tensor], mu: Array, sigma: Array, sign: float = 1.0) -> dict[str, Tensor]:
        """μ ± σ⊙ε by layer; the layers that are not asked about are where the network has them."""
        found = {}
        for name in noise:
            if name in self.asked:
                own = self.parts[name]
                mean, spread = (torch.as_tensor(v[own], device=self.device) for v in (mu, sigma))
            else:
                mean, spread = self.others[name]
            found[name] = torch.addcmul(mean, spread, noise[name], value=sign)
        return found

    def at(
        self, x: Tensor, noise: dict[str, Tensor], mu: Array, sigma: Array, sign: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What enters `net`, and z."""
        z = self.z(noise, mu, sigma, sign)
        with torch.no_grad():
            return self._run(self.head, x, z), z

    def _run(self, part: nn.Module, x: Tensor, z: dict[str, Tensor]) -> Tensor:
        with ExitStack() as stack:
            for name, given in z.items():
                stack.enter_context(gate_held_at(self.held[name], self._spread(name, given)))
            found: Tensor = part(x)
        return found

    def _spread(self, name: str, given: Tensor) -> Tensor:
        """From a layer's open gates [n, open gates] to all units of the gate in the network, 0 where closed."""
        if len(self.fed[name]) == given.shape[1]:
            return given
        return torch.cat([given, given.new_zeros(len(given), 1)], 1)[:, self.fed[name]]

    def output(self, f: Tensor, z: dict[str, Tensor]) -> Tensor:
        """The network's output [n, K] with every gate at its z [n, open gates]; closed ones pass nothing."""
        return self._run(self.net, f, z).reshape(len(f), -1)

    def slopes(self, f: Tensor, z: dict[str, Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [n] and their gradients in the asked gates' z [n, D]."""
        leaves = [z[name].requires_grad_(True) for name in self.asked]
        losses = self.likelihood.loss(self.output(f, z), y)
        return losses.detach(), torch.cat(torch.autograd.grad(losses.sum(), leaves), 1)

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
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]], list[tuple[slice, Tensor, Tensor]]]:
        """CᵀJ [n, K, D] with the loss's curvature CCᵀ in the output: its products are the Gauss–Newton matrices.

        And pairs a, b [n, D]: the expectation of the mean of sym(abᵀ) is the kinks' matrix. And, where all layers are
        asked about at once, by later layer its part and a [n, D], r [n, part]: E arᵀ is the block of H that stands off
        the diagonal as z multiplies what earlier gates change.
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
        return self.likelihood.curvature_root(output.detach()).transpose(1, 2) @ jacobian, pairs, products

    def estimates(self, draws: int) -> tuple[Array, dict[str, tuple[Array, Array]]]:
        """E∂g [S, D], and by part H [S, d, d] with its Gauss–Newton share [d, d]."""
        parts = {ALL_LAYERS: self.parts[ALL_LAYERS]} if self.joint else self.parts
        d = len(self.mu)
        slope = torch.zeros(draws, d, dtype=torch.float64, device=self.device)
        sizes = {name: len(self.mu[part]) for name, part in parts.items()}
        gauss = {name: slope.new_zeros(draws, size, size) for name, size in sizes.items()}
        rest = {name: slope.new_zeros(draws, size, size) for name, size in sizes.items()}
        kinks = {name: slope.new_zeros(draws, size, size) for name, size in sizes.items()}
        spread = torch.as_tensor(self.sigma, device=self.device)
        stein, widths = "stein" in self.ways.values(), self.widths()
        for s in range(draws):
            signs = as_generator("seed", self.seed, f"T8, signs {s}")
            for x, y, weight, (apart, noise) in self.drawn(f"T8, draw {s}", 2):
                half, pairs, products = self.factors(*self.at(x, apart, self.mu, self.sigma), y, widths, signs)
                ends = [self.slopes(*self.at(x, noise, self.mu, self.sigma, sign), y)[1] for sign in (1.0, -1.0)]
                slope[s] += weight @ (ends[0] + ends[1]) / 2
                half *= weight.sqrt()[:, None, None]
                for part, a, r in products:
                    kinks[ALL_LAYERS][s][:, part].addmm_((a * weight[:, None]).T, r, alpha=2 / _SIGNS)
                unit = torch.cat([noise[name] for name in self.asked], 1)
                for name, part in parts.items():
                    own = half[:, :, part].reshape(-1, sizes[name])
                    gauss[name][s].addmm_(own.T, own)
                    for a, b in pairs:
                        kinks[name][s].addmm_((a[:, part] * weight[:, None]).T, b[:, part], alpha=1 / len(pairs))
                    if stein:
                        moved = unit[:, part] * spread[part]
                        left = (ends[0] - ends[1])[:, part] / 2 * weight[:, None]
                        left -= (half[:, :, part].transpose(1, 2) @ (half[:, :, part] @ moved[:, :, None]))[:, :, 0]
                        rest[name][s].addmm_(left.T, unit[:, part] / spread[part])
        found = {}
        for name, part in self.parts.items():
            block, inside = (name, slice(None)) if name in parts else (ALL_LAYERS, part)
            first = gauss[block][:, inside, inside].cpu().numpy()
            second = (rest if self.ways[name] == "stein" else kinks)[block][:, inside, inside].cpu().numpy()
            found[name] = first + (second + second.transpose(0, 2, 1)) / 2, first.mean(0)
        return slope.cpu().numpy(), found

    def reports(self, draws: int, tolerance: float) -> tuple[TrainedReport, ...]:
        """T8 decided at the present point, part by part."""
        self.share()
        slope, found = self.estimates(draws)
        return tuple(
            check_trained_objective(
                self.mu[part], self.sigma[part], self.gamma[part], slope[:, part], found[name][0],
                tolerance=tolerance, gauss_newton=found[name][1], layer=name,
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

    def descend(self, iterations: int, draws: int) -> None:
        """L-BFGS on the mean over fixed noise, from the present point; in rounds, as the right units move with σ."""
        sides, last = self.sides(min(draws, -(-_ENOUGH // len(self.index)))), np.inf
        while iterations > 0:
            # a kept gate's F curves alike in μ/σ₀ and log σ², a closed one's in μ/σ and log σ²
            kept, unit = np.abs(self.mu) > self.sigma, self.sigma.copy()
            start = np.concatenate([self.mu / unit, 2 * np.log(unit)])
            found = scipy.optimize.minimize(
                self._value, start, (kept, unit, sides), jac=True, method="L-BFGS-B",
                bounds=[(None, None)] * len(unit) + [(-60.0, 20.0)] * len(unit),
                options={"maxiter": min(iterations, _ROUND), "ftol": 0.0, "gtol": 0.0, "maxcor": 30},
            )  # fmt: skip
            self.mu, self.sigma = self._point(found.x, kept, unit)
            iterations -= int(found.nit)
            if last - found.fun <= _FLAT * abs(found.fun):
                return
            last = float(found.fun)

    def _point(self, point: Array, kept: NDArray[np.bool_], unit: Array) -> tuple[Array, Array]:
        sigma = np.exp(point[len(unit) :] / 2)
        return point[: len(unit)] * np.where(kept, unit, sigma), sigma

    def sides(self, draws: int) -> Callable[[], Iterable[_Side]]:
        """What `_value` goes over: `draws` of noise and its antithetic one; computed once where it fits in memory."""
        first = next(self._sides(1))
        own = first.f.nbytes + sum(e.nbytes for e in first.noise.values())  # as a rule both signs have the same
        size = draws * len(self.index) / len(first.f) * own
        if size > self.memory:
            return partial(self._sides, draws)
        found = list(self._sides(draws))
        return lambda: found

    def _sides(self, draws: int) -> Iterator[_Side]:
        inside = set(self.head)
        for x, y, weight, (noise,) in self.drawn("T8, polish", 1, draws):
            behind = {name: noise[name] for name in noise if self.held[name] not in inside}
            shared = self.at(x, noise, self.mu, self.sigma)[0] if len(behind) == len(noise) else None
            for sign in (1.0, -1.0):
                f = self.at(x, noise, self.mu, self.sigma, sign)[0] if shared is None else shared
                yield _Side(sign, f, y, weight, behind)

    def _value(
        self, point: Array, kept: NDArray[np.bool_], unit: Array, sides: Callable[[], Iterable[_Side]]
    ) -> tuple[float, Array]:
        """F in nats and its gradient [2D] in `descend`'s coordinates, over fixed noise and its antithetic one."""
        mu, sigma = self._point(point, kept, unit)
        total, slopes = 0.0, torch.zeros(2, len(mu), dtype=torch.float64, device=self.device)
        for sign, f, y, weight, noise in sides():
            losses, slope = self.slopes(f, self.z(noise, mu, sigma, sign), y)
            total += float(weight @ losses.double()) / 2
            slopes[0] += weight @ slope / 2
            moved = torch.cat([slope[:, self.parts[name]] * noise[name] for name in self.asked], 1)
            slopes[1] += sign * (weight @ moved) / 2
        alpha = (mu / sigma) ** 2
        along, across = slopes.cpu().numpy()
        in_mu = along + self.gamma * 2 * mu / (sigma**2 * (1 + alpha))
        in_log = sigma / 2 * across - self.gamma * alpha / (1 + alpha)
        value = total + self.price(mu, 2 * np.log(sigma))
        return value, np.concatenate([in_mu * np.where(kept, unit, sigma), in_log + np.where(kept, 0, mu / 2 * in_mu)])
