"""The same recipe for many (γ, seed) pairs as one batched program: parameters stacked, the forward pass mapped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import DivergedError, as_seed, reject
from vibtheory.networks.gates import log1p_alpha, named_gates, vib_gates
from vibtheory.networks.likelihood import check_fit, likelihood_loss
from vibtheory.networks.streams import INITIAL_WEIGHTS, TRAINING, random_stream
from vibtheory.storage import locked
from vibtheory.training.checkpoint import State, data_fingerprint, load_random_state, random_state, restore, snapshot
from vibtheory.training.examples import Examples, batches_of, check_dataset, needs_two
from vibtheory.training.hardware import choose_device
from vibtheory.training.optimizer import adam, initialise_gates, load_optimizer, optimizer_tensors
from vibtheory.training.recipe import Recipe
from vibtheory.training.run import Run, finished, measured
from vibtheory.training.shrinking import check_shrinkable, close_dead

__all__ = ["train_many"]


def train_many(
    build: Callable[[], nn.Module],
    data: Dataset,
    pairs: Sequence[tuple[float, int]],
    recipe: Recipe | None = None,
    *,
    device: str = "auto",
    share_noise: bool = False,
    evaluate_every: int = 1,
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Sequence[nn.Module], int], None] | None = None,
    **changes: Any,
) -> list[Run]:
    """Train one network per (γ, seed) pair, all in step.

    Measured 1.1 to 1.6 times as fast as one after the other on two CPU cores (benchmarks/train_many.py); not on a GPU.
    Each seed decides its network's initial weights (`networks.random_stream(seed, networks.INITIAL_WEIGHTS)`). The
    batches are the same for all networks of a step (common random numbers, drawn from the first pair's seed); gate
    noise is independent unless `share_noise`.

    Args:
        build: makes one network, e.g. `vibtheory.networks.lenet_300_100`; called once per pair.
        data: the data set.
        pairs: (γ, seed), K ≥ 1 of them; γ replaces `recipe.gamma`, `recipe.layer_weights` still apply.
        recipe: what to do; None: `Recipe()`. Keyword arguments replace its fields. Distilling is not offered here.
            `prune_every` closes units for good but cuts nothing out, since the networks must keep one shape.
        device: as in `train`.
        share_noise: the same gate noise for all: with one pair this is `train(seed=…)` of that net, step by step.
        evaluate_every: epochs between evaluations.
        checkpoint: folder for resuming; the same call continues a stopped batch. None: no checkpoint.
        on_epoch: as in `train`, with all nets.

    Returns:
        One Run per pair, in order.

    Raises:
        CheckpointError: the checkpoint is unreadable or belongs to other runs.
        InvalidInputError: no pairs, a recipe with `distill` or a γ per layer, data that do not fit the nets, a layer
            name in layer_weights that is none, gates of another law than VIB's.
        DivergedError: a non-finite loss; names the pairs.
    """
    check_dataset(data)
    recipe = Recipe.from_dict({**(recipe or Recipe()).to_dict(), **changes})
    if not pairs:
        reject("pairs", "none", "at least one (gamma, seed)", "list the runs to train")
    if recipe.distill or isinstance(recipe.gamma, dict):
        reject("recipe", "distill or a gamma per layer", "neither", "use train, or layer_weights")
    if recipe.augment is not None or recipe.initial_spread:
        reject("recipe", "augment or initial_spread", "neither", "use train, or shift and initial_log_variance")
    if evaluate_every < 1:
        reject("evaluate_every", evaluate_every, "an integer >= 1", "use 1 for every epoch")
    for _, seed in pairs:
        as_seed("pairs", seed)
    recipes = [Recipe.from_dict({**recipe.to_dict(), "gamma": gamma}) for gamma, _ in pairs]
    place = choose_device(device)
    folder = None if checkpoint is None else Path(checkpoint)
    with (
        locked(folder) if folder else nullcontext(),
        random_stream(pairs[0][1], TRAINING, place),
    ):
        nets = []
        for _, seed in pairs:
            with random_stream(seed, INITIAL_WEIGHTS, place):
                nets.append(build().to(place))
        batch = _Batch(nets, data, recipes, [seed for _, seed in pairs], place, share_noise, evaluate_every)
        return batch.run(folder, on_epoch)


class _Batch:
    """K networks in step."""

    def __init__(
        self,
        nets: list[nn.Module],
        data: Dataset,
        recipes: list[Recipe],
        seeds: list[int],
        device: torch.device,
        share_noise: bool,
        evaluate_every: int,
    ) -> None:
        self.nets, self.data, self.recipes, self.seeds = nets, data, recipes, seeds
        self.recipe, self.device, self.evaluate_every = recipes[0], device, evaluate_every
        self.randomness = "same" if share_noise else "different"
        self.gates = list(vib_gates(nets[0]))
        weights = self.recipe.layer_weights
        if weights is not None and set(weights) != set(self.gates):
            reject("layer_weights", sorted(weights), f"exactly the gated layers {self.gates}", "name each layer once")
        for net in nets:
            initialise_gates(named_gates(net), self.recipe)
        self.examples = Examples(data.x_train, self.recipe, device)
        self.y, x_test, y_test = (torch.from_numpy(a).to(device) for a in (data.y_train, data.x_test, data.y_test))
        self.test = x_test, y_test
        check_fit(nets[0], self.examples.given, self.y, data.likelihood)
        self.pairs = needs_two(nets[0], self.examples.given[:1], len(self.examples), self.recipe.batch_size)
        if self.recipe.prune_every and self.gates:
            check_shrinkable(nets[0])
        for net in nets:
            net.train()  # stacking wants them all in one mode
        self.parameters, self.buffers = stack_module_state(nets)  # each [K, ...]
        own = [self.parameters[f"{name}.{key}"] for name in self.gates for key in ("mu", "log_var")]
        self.optimizer = adam(self.parameters.values(), own, self.recipe)
        self.rows: list[list[dict[str, Any]]] = [[] for _ in nets]

    def run(
        self, folder: Path | None = None, on_epoch: Callable[[Sequence[nn.Module], int], None] | None = None
    ) -> list[Run]:
        recipe = self.recipe
        identity = self.identity() if folder else {}
        if folder and restore(folder, identity, self.load_state):
            self._unstack()
        elif on_epoch:
            self._show(on_epoch)
        for done in range(len(self.rows[0]), recipe.pretrain_epochs + recipe.epochs):
            pretraining = done < recipe.pretrain_epochs
            self._epoch(done if pretraining else done - recipe.pretrain_epochs, pretraining)
            if on_epoch:
                self._unstack()
                self._show(on_epoch)
            if folder:
                snapshot(folder, identity, self.state())
        runs = zip(self.nets, self.recipes, self.seeds, self.rows, strict=True)
        return [finished(net, recipe, seed, rows, self.data) for net, recipe, seed, rows in runs]

    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be continued."""
        return {
            "format": 1,
            "recipes": [recipe.to_dict() for recipe in self.recipes],
            "seeds": self.seeds,
            "data": data_fingerprint(self.data),
            "noise": self.randomness,
            "shapes": {name: list(tensor.shape) for name, tensor in self.parameters.items()},
        }

    def state(self) -> State:
        """Where the batch stands; to be written, or copied, before the next step."""
        tensors = {f"parameter.{name}": tensor for name, tensor in self.parameters.items()}
        tensors |= {f"buffer.{name}": tensor for name, tensor in self.buffers.items()}
        tensors |= optimizer_tensors(self.optimizer, self.parameters) | random_state(self.device)
        return State(tensors, {"histories": self.rows})

    def load_state(self, state: State) -> None:
        """Go on where `state` was taken. Raises ValueError, KeyError or RuntimeError if it is of another batch."""
        rows = [list(rows) for rows in state.progress["histories"]]
        with torch.no_grad():
            for kind, stacked in (("parameter", self.parameters), ("buffer", self.buffers)):
                for name, tensor in stacked.items():
                    tensor.copy_(state.tensors[f"{kind}.{name}"])
        load_optimizer(self.optimizer, self.parameters, state.tensors)
        load_random_state(state.tensors, self.device)
        self.rows = rows

    def _show(self, on_epoch: Callable[[Sequence[nn.Module], int], None]) -> None:
        for net in self.nets:
            net.eval()
        on_epoch(self.nets, len(self.rows[0]))

    def _epoch(self, epoch: int, pretraining: bool) -> None:
        started, recipe = time.perf_counter(), self.recipe
        factor = recipe.learning_rate_factor(epoch, pretraining)
        rates = (recipe.learning_rate, recipe.gate_learning_rate)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        self.nets[0].train()
        for gate in named_gates(self.nets[0]).values():
            gate.train(not pretraining)
        for name in self.gates:
            for key in ("mu", "log_var"):
                self.parameters[f"{name}.{key}"].requires_grad_(not pretraining)
        prices = None if pretraining else self._prices(epoch)
        self.examples.begin_epoch()
        order = torch.randperm(len(self.examples)).to(self.device)
        batches = batches_of(order, recipe.batch_size, self.pairs)
        losses = torch.stack([self._step(batch, prices) for batch in batches]).mean(dim=0)  # [K]
        self._check_finite(losses, epoch)
        last = epoch + 1 == (recipe.pretrain_epochs if pretraining else recipe.epochs)
        due = last or (len(self.rows[0]) + 1) % self.evaluate_every == 0
        prune = not pretraining and recipe.prunes_after(epoch)
        if due or prune:
            self._unstack()
        if prune:
            for net in self.nets:
                close_dead(net)
            self._restack_active()
        seconds = time.perf_counter() - started
        for k, rows in enumerate(self.rows):
            row: dict[str, Any] = {
                "epoch": len(rows) + 1,
                "phase": "pretrain" if pretraining else "train",
                "cross_entropy": float(losses[k]),
                "learning_rate": recipe.learning_rate * factor,
                "seconds": seconds / len(self.rows),
            }
            rows.append(row | (measured(self.nets[k], self.test, self.data.likelihood) if due else {}))

    def _prices(self, epoch: int) -> dict[str, Tensor]:
        """γ_i s_i of each gate, [K]."""
        multipliers = {name: gate.multiplier for name, gate in named_gates(self.nets[0]).items()}
        table: dict[str, list[float]] = {name: [] for name in self.gates}
        for recipe in self.recipes:
            price = recipe.price(epoch)
            for name in self.gates:
                table[name].append((price[name] if isinstance(price, dict) else price) * multipliers[name])
        return {name: torch.tensor(values, device=self.device) for name, values in table.items()}

    def _step(self, batch: Tensor, prices: dict[str, Tensor] | None) -> Tensor:
        """One update of all K; returns their mean losses [K] in nats."""
        x, y = self.examples.take(batch), self.y[batch]

        def loss_of(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            outputs = functional_call(self.nets[0], (parameters, buffers), (x,))
            return likelihood_loss(outputs, y, self.data.likelihood)

        losses: Tensor = torch.func.vmap(loss_of, randomness=self.randomness)(self.parameters, self.buffers)
        total = losses.sum()  # the K networks share no parameter, so the sum's gradient is each one's own
        for name, price in (prices or {}).items():
            mu, log_var = self.parameters[f"{name}.mu"], self.parameters[f"{name}.log_var"]
            information = 0.5 * (log1p_alpha(mu, log_var) * self.buffers[f"{name}.active"]).sum(dim=1)  # [K]
            total = total + (price * information).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return losses.detach()

    def _unstack(self) -> None:
        """Copy the stacked state into the K networks."""
        with torch.no_grad():
            for k, net in enumerate(self.nets):
                for name, tensor in (*net.named_parameters(), *net.named_buffers()):
                    tensor.copy_({**self.parameters, **self.buffers}[name][k])

    def _restack_active(self) -> None:
        for name in self.gates:
            active = [net.get_buffer(f"{name}.active") for net in self.nets]
            self.buffers[f"{name}.active"] = torch.stack(active)

    def _check_finite(self, losses: Tensor, epoch: int) -> None:
        bad = (~losses.isfinite()).nonzero().flatten().tolist()
        if bad:
            pairs = ", ".join(f"(gamma {self.recipes[k].gamma}, seed {self.seeds[k]})" for k in bad)
            raise DivergedError(
                f"loss: not finite in epoch {epoch + 1} for {pairs}. "
                "Remedy: lower learning_rate, or leave those pairs out"
            )
