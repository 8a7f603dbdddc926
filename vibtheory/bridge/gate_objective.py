"""The objective that a gated network was trained on, as a function of its gates alone, and its least value there.

    F(μ, σ) = (1/N) Σ_n E loss_n(μ + σ⊙ε_n) + Σ γ_j log(1 + μ_j²/σ_j²)

with noise of its own for every example and every gate that is not closed for good, as in training; weights are held,
BatchNorm stays at its recorded statistics and dropout is off.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.affine import entries
from vibtheory.bridge.checking import GatedNetwork
from vibtheory.bridge.kinds import BoundOptions
from vibtheory.compression.chain import compress_chain, is_chain
from vibtheory.compression.liveness import alive
from vibtheory.errors import InvalidInputError, as_generator, reject
from vibtheory.networks.forward import gate_held_at
from vibtheory.networks.gates import Gate, vib_gates
from vibtheory.networks.sequential import flat_names, ordered_modules

__all__ = ["GateObjective"]

Array = NDArray[np.float64]
_LARGEST = 5000  # open gates of one layer
_ROUND = 40  # iterations of L-BFGS between changes of units
_FLAT = 1e-9  # relative fall of F in a round at which nothing is left to gain
_ENOUGH = 60_000  # draws of noise over all examples beyond which polishing needs no more of each
_PILOT = 4  # draws that decide how many each example gets
_MORE = 3  # times as many as examples, over those that have more than one


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
    layers = ordered_modules(net)
    names = flat_names(path for path, _ in layers)
    for path, module in layers:
        modules += [small[name] for name in (names[path],) if name in small]
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


class GateObjective:
    """F of the layers in `network.prices` as a function of (μ, σ) [D] of their open gates, one after the other.

    Attributes:
        parts: by layer the places in [D]. mu, sigma, gamma [D]: the network's own.
        head, net: what comes before the first gate that is asked about, and what follows; no head where that is not
            known. held: the gates in them, and fed: for each of its units the open one whose z it takes, last a 0.
        cut: whether head and net are chains without what is closed for good.
        index, weight: the examples that a draw of the noise goes over, and what each counts.
    """

    def __init__(self, network: GatedNetwork, views: dict[str, GatedLayer], options: BoundOptions) -> None:
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
        self.asked = list(views)
        self.head, self.held, self.fed = nn.Sequential(), self.gates, {}
        for name, on in self.open.items():
            self.fed[name] = torch.full((self.gates[name].features,), len(on), device=self.device)
            self.fed[name][on] = torch.arange(len(on), device=self.device)
        self.cut = self._split()
        one = torch.as_tensor(self.x[:1]).to(self.device, self.dtype, copy=True)
        whole = nn.Sequential(self.head, self.net)
        numbers = entries(whole, one) + start * (2 * whole(one).numel() + 24)  # with the slopes of each output in z
        self.rows = max(1, min(options.batch, options.memory // (8 * numbers)))
        self.mu, self.sigma = self._gathered("mu"), self._gathered("sigma")
        self.others = {
            name: tuple(v.detach()[self.open[name]].double() for v in (gate.mu, gate.sigma))
            for name, gate in self.gates.items()
        }
        self.gamma = np.concatenate([np.full(len(self.open[name]), network.prices[name]) for name in views])
        self._equally()

    def _split(self) -> bool:
        """Sets head, net, held and fed to those of the smaller network; False where that has another output."""
        probe = torch.as_tensor(self.x[:2]).to(self.device, self.dtype, copy=True)
        rng = as_generator("seed", self.seed, "T8, probe")
        z = {name: torch.as_tensor(rng.uniform(1, 2, (2, len(on)))).to(self.device) for name, on in self.open.items()}
        found = _cut(self.net, probe)
        if found is None:
            return False
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
            return False
        start = min(modules.index(self.held[name]) for name in self.asked)
        self.head, self.net = nn.Sequential(*modules[:start]), nn.Sequential(*modules[start:])
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
            found: Tensor = part(x.clone())  # a first layer may work in place, and x is used again
        return found

    def _spread(self, name: str, given: Tensor) -> Tensor:
        """From a layer's open gates [n, open gates] to all units of the gate in the network, 0 where closed."""
        if len(self.fed[name]) == given.shape[1]:
            return given
        return torch.cat([given, given.new_zeros(len(given), 1)], 1)[:, self.fed[name]]

    def output(self, f: Tensor, z: dict[str, Tensor]) -> Tensor:
        """The network's output [n, K] with every gate at its z [n, open gates]; closed ones pass nothing."""
        found = self._run(self.net, f, z).reshape(len(f), -1)
        return found + 0 * torch.cat([*z.values()], 1).sum(1, keepdim=True).to(found.dtype)  # slopes 0 without a path

    def slopes(self, f: Tensor, z: dict[str, Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [n] and their gradients in the asked gates' z [n, D]."""
        leaves = [z[name].requires_grad_(True) for name in self.asked]
        losses = self.likelihood.loss(self.output(f, z), y)
        return losses.detach(), torch.cat(torch.autograd.grad(losses.sum(), leaves), 1)

    def descend(self, iterations: int, draws: int) -> None:
        """L-BFGS on the mean over fixed noise, from the present point; in rounds, as the right units move with σ."""
        sides, last = self.sides(min(draws, -(-_ENOUGH // len(self.index)))), np.inf
        while iterations > 0:
            # a kept gate's F curves alike in μ/σ₀ and log σ², a closed one's in μ/σ and log σ²
            kept, unit = np.abs(self.mu) > self.sigma, self.sigma.copy()
            start = np.concatenate([self.mu / unit, 2 * np.log(unit)])
            found = scipy.optimize.minimize(
                self.value, start, (kept, unit, sides), jac=True, method="L-BFGS-B",
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
        """What `value` goes over: `draws` of noise and its antithetic one; computed once where it fits in memory."""
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

    def value(
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
