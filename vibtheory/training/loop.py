"""One training run, epoch by epoch: the state that a checkpoint keeps, and what a step, an epoch and a measurement are.

`vibtheory.train` is the way in; it checks the arguments and seeds.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.compression.evaluation import evaluate
from vibtheory.compression.metrics import size_row
from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import DivergedError, reject
from vibtheory.networks.gates import gate_information, named_gates, objective
from vibtheory.networks.likelihood import check_fit, likelihood_loss
from vibtheory.training.acceleration import GraphedStep, joint_information, unit_prices
from vibtheory.training.augmentation import Batches, Shifts
from vibtheory.training.checkpoint import data_fingerprint, restore, snapshot
from vibtheory.training.distributed import parallel, world
from vibtheory.training.progress import Progress
from vibtheory.training.recipe import Recipe
from vibtheory.training.run import Run
from vibtheory.training.shrinking import Shrinker, check_shrinkable, close_dead

__all__ = ["Loop"]


class Loop:
    """The state of one run: network, optimizer, history, and where it stands."""

    def __init__(
        self,
        net: nn.Module,
        data: Dataset,
        recipe: Recipe,
        device: torch.device,
        amp: bool,
        evaluate_every: int = 1,
        accelerate: str = "none",
    ) -> None:
        self.net, self.data, self.recipe, self.device, self.amp = net, data, recipe, device, amp
        self.evaluate_every, self.accelerate, self.world = evaluate_every, accelerate, world()
        self.world.check_batches(len(data.x_train), recipe.batch_size)
        self.gates = named_gates(net)
        self.batches = None if recipe.augment is None else Batches(data.x_train, recipe.augment, device)
        self.x = torch.from_numpy(data.x_train)
        if self.batches:  # the images are on the device as bytes already
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        else:
            self.x = self.x.to(device)
        self.y = torch.from_numpy(data.y_train).to(device)
        self.x_test, self.y_test = (torch.from_numpy(array).to(device) for array in (data.x_test, data.y_test))
        self.kept_inputs: Tensor | None = None  # indices of the flattened inputs that are left; None: all
        self.inputs = self.x  # this epoch's training inputs: shifted if so wished, without the closed ones
        check_fit(net, self.x[:2].to(device), self.y, data.likelihood)
        if recipe.prune_every and self.gates:
            check_shrinkable(net)
            if self.world.size > 1:
                reject("prune_every", recipe.prune_every, "0 with several processes", "set prune_every = 0 there")
        self.shifts = Shifts(self.x, recipe.shift) if recipe.shift else None
        if recipe.initial_log_variance is not None:
            for gate in self.gates.values():
                nn.init.constant_(gate.log_var, recipe.initial_log_variance)
        if recipe.initial_spread:
            start = -9.0 if recipe.initial_log_variance is None else recipe.initial_log_variance
            for gate in self.gates.values():
                nn.init.normal_(gate.mu, 1.0, recipe.initial_spread)
                nn.init.normal_(gate.log_var, start, recipe.initial_spread)
        own = {id(p) for gate in self.gates.values() for p in gate.parameters()}
        weights = [p for p in net.parameters() if id(p) not in own]
        gate_parameters = [p for gate in self.gates.values() for p in gate.parameters()]
        self.optimizer = torch.optim.Adam(
            [
                {"params": weights, "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay},
                {"params": gate_parameters, "lr": recipe.gate_learning_rate, "weight_decay": recipe.gate_weight_decay},
            ],
            fused=True,
            capturable="graph" in accelerate,
        )
        self.model: Callable[[Tensor], Tensor] = net  # what a step calls: wrapped for several processes, or compiled
        self.phase: tuple[bool, Any] | None = None  # (pretraining, price) that `model` and `graphed` were made for
        self.prices: Tensor | None = None  # of every unit, where all gates are priced at once
        self.graphed: GraphedStep | None = None
        self.teacher: Tensor | None = None  # logits [N, K] to follow, where the recipe distils
        self.rows: list[dict[str, Any]] = []
        self.fingerprint: list[Any] = []  # of the data, for checkpoints
        self.shrinker: Shrinker | None = None
        self.on_epoch: Callable[[nn.Module, int], None] | None = None

    def run(self, seed: int, folder: Path | None, progress: bool, checkpoint_seconds: float = 0.0) -> Run:
        recipe, total = self.recipe, self.recipe.pretrain_epochs + self.recipe.epochs
        status, message = "completed", "completed"
        if folder:
            self.fingerprint = data_fingerprint(self.data)
        if folder and restore(folder, self, seed) and self.rows:
            status = self.rows[-1]["status"]
        self.world.check_same_progress(len(self.rows))
        written = time.monotonic()
        with self._expanded_at_the_end(), Progress(progress, total, len(self.rows)) as bar:
            if not self.rows:
                self._report()
            while len(self.rows) < total and status == "completed":
                done = len(self.rows)
                pretraining = done < recipe.pretrain_epochs
                row = self._epoch(done if pretraining else done - recipe.pretrain_epochs, pretraining)
                if not pretraining and self.gates and min(row[f"kept_{name}"] for name in self.gates) == 0:
                    status = "collapsed"
                self.rows.append({**row, "status": status})
                if recipe.distill and self.teacher is None and done + 1 == recipe.pretrain_epochs:
                    self.teacher = self.predictions(self.net)
                self._report()
                over = len(self.rows) == total or status != "completed"
                due = over or time.monotonic() - written >= checkpoint_seconds
                if folder and due and self.world.rank == 0:
                    snapshot(folder, self, seed)
                    written = time.monotonic()
                bar.advance(row)
        if status == "collapsed":
            dead = [name for name in self.gates if self.rows[-1][f"kept_{name}"] == 0]
            message = f"collapsed: no unit of {', '.join(dead)} survived; use a smaller gamma, or warmup_epochs"
        self.net.eval()
        config = {"gamma": recipe.layer_gamma, "likelihood": self.data.likelihood}
        object.__setattr__(self.net, "vib_config", config)
        return Run(self.net, recipe, seed, status, message, self.rows, self.data.name)

    def _report(self) -> None:
        """Show the net at full size to whoever asked for it."""
        if self.on_epoch:
            with self.full_size():
                self.net.eval()
                self.on_epoch(self.net, len(self.rows))

    def _epoch(self, epoch: int, pretraining: bool) -> dict[str, Any]:
        """One pass over the training data; returns its row of the history."""
        started = time.perf_counter()
        recipe = self.recipe
        factor = recipe.learning_rate_factor(epoch, pretraining)
        for group, base in zip(
            self.optimizer.param_groups, (recipe.learning_rate, recipe.gate_learning_rate), strict=True
        ):
            self._set_learning_rate(group, base * factor)
        price = 0.0 if pretraining else recipe.price(epoch)
        self.net.train()
        for gate in self.gates.values():
            gate.train(not pretraining)
            gate.requires_grad_(not pretraining)
        self._enter_phase(pretraining, price)
        if self.shifts:
            self.inputs = self._without_closed(self.shifts.draw())
        order = torch.randperm(len(self.x)).to(self.device)
        take_step = self.graphed or (lambda batch: self._step(batch, price))
        losses = self.world.mean(torch.stack([take_step(batch) for batch in torch.split(order, recipe.batch_size)]))
        self._check_finite(losses, epoch)
        row: dict[str, Any] = {
            "epoch": len(self.rows) + 1,
            "phase": "pretrain" if pretraining else "train",
            "cross_entropy": float(losses.mean()),
            "learning_rate": recipe.learning_rate * factor,
        }
        if self.batches:
            row |= self._speed(time.perf_counter() - started)
        if not pretraining and recipe.prunes_after(epoch):
            self._prune()
        row |= self._measure(pretraining, epoch)
        row["seconds"] = time.perf_counter() - started
        return row

    def _enter_phase(self, pretraining: bool, price: float | dict[str, float]) -> None:
        """Make anew what holds for one price and one set of learning parameters only."""
        if self.phase == (pretraining, price):
            return
        if self.phase is None or self.phase[0] != pretraining:
            self.model = parallel(self.net, self.device, self.world)
            if "compile" in self.accelerate:
                self.model = torch.compile(self.model)
        self.phase = (pretraining, price)
        self.prices = unit_prices(self.gates, price) if self.batches and self.gates and price else None
        self.graphed = GraphedStep(lambda batch: self._step(batch, price)) if "graph" in self.accelerate else None

    def _set_learning_rate(self, group: dict[str, Any], rate: float) -> None:
        if "graph" not in self.accelerate:
            group["lr"] = rate
        elif isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)  # the graph reads this very tensor
        else:
            group["lr"] = torch.tensor(rate, device=self.device)

    def _step(self, batch: Tensor, price: float | dict[str, float]) -> Tensor:
        """One update on this process' share of a batch; returns its mean loss in nats, without the information."""
        n, mine = len(batch), self.world.share(len(batch))
        if self.world.size > 1:
            for gate in self.gates.values():
                gate.union = (n, mine.start)
        if self.batches:
            inputs = self._without_closed(self.batches.take(batch[mine], self.batches.draw(n)[:, mine]))
        else:
            inputs = self.inputs[batch[mine]]
        batch = batch[mine]
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
            outputs = self.model(inputs)
        outputs = outputs.float()
        loss = likelihood_loss(outputs, self.y[batch], self.data.likelihood)
        fit = loss
        if self.teacher is not None and self.recipe.distill:
            t = self.recipe.temperature
            target = (self.teacher[batch] / t).log_softmax(dim=1)
            student = (outputs / t).log_softmax(dim=1)
            divergence = functional.kl_div(student, target, reduction="batchmean", log_target=True)
            fit = (1 - self.recipe.distill) * loss + self.recipe.distill * t * t * divergence
        if self.world.size > 1:  # the mean over processes is then the mean over the union batch
            weight = len(batch) * self.world.size / n
            loss, fit = weight * loss, weight * fit
        if self.prices is not None:
            total = fit + joint_information(self.gates, self.prices)
        else:
            total = objective(fit, self.gates, price) if price else fit
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def _speed(self, seconds: float) -> dict[str, float]:
        """Images per second of this epoch's training, and the memory that was needed at most so far."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux
        return {"images_per_second": len(self.x) / seconds, "peak_memory_mib": peak / 2**20}

    def _without_closed(self, x: Tensor) -> Tensor:
        """What the net takes now: `x` itself, or its open inputs once closed ones are cut out."""
        return x if self.kept_inputs is None else x.flatten(1).index_select(1, self.kept_inputs)

    def _prune(self) -> None:
        """Close dead units for good and cut them out of the computation."""
        if self.shrinker:
            self.shrinker.expand()
        close_dead(self.net)
        self.shrink()

    def shrink(self) -> None:
        """Cut out what is closed for good."""
        self.shrinker = self.shrinker or Shrinker(self.net, self.optimizer)
        self.shrinker.shrink()
        self.kept_inputs = self.shrinker.kept_inputs()
        self.phase = None
        if not self.batches:
            self.inputs = self._without_closed(self.x)

    @contextmanager
    def full_size(self) -> Iterator[None]:
        """The net in its full architecture for the duration of a `with` block."""
        if self.shrinker:
            self.shrinker.expand()
        try:
            yield
        finally:
            if self.shrinker:
                self.shrinker.shrink()

    @contextmanager
    def _expanded_at_the_end(self) -> Iterator[None]:
        """Give the caller's net back at full size, even after Ctrl-C: the same call can then go on with it."""
        try:
            yield
        finally:
            if self.shrinker:
                self.shrinker.expand()
                self.shrinker = None

    def _measure(self, pretraining: bool, epoch: int) -> dict[str, Any]:
        """Information and kept units by layer (always), error and r_W (when due)."""
        information = gate_information(self.net)
        row: dict[str, Any] = {"information": sum(information.values())}
        row |= {f"information_{name}": value for name, value in information.items()}
        row |= {f"kept_{name}": int(gate.keep.sum()) for name, gate in self.gates.items()}
        last = epoch + 1 == (self.recipe.pretrain_epochs if pretraining else self.recipe.epochs)
        if last or (len(self.rows) + 1) % self.evaluate_every == 0:
            with self.full_size():
                result = evaluate(self.net, self.x_test, self.y_test, likelihood=self.data.likelihood)
                row |= {"test_loss": result.loss, "error": result.error, **size_row(self.net)}
        return row

    def predictions(self, net: nn.Module) -> Tensor:
        """Outputs [N, K] of `net` on the training inputs; it is left in evaluation mode."""
        net.eval()
        with torch.no_grad():
            return torch.cat([net(batch.to(self.device)).float() for batch in torch.split(self.x, 2000)])

    def _check_finite(self, losses: Tensor, epoch: int) -> None:
        bad = (~losses.isfinite()).nonzero().flatten()
        broken = [name for name, p in self.net.named_parameters() if not bool(p.detach().isfinite().all())]
        if len(bad) or broken:
            step = f"step {int(bad[0]) + 1}" if len(bad) else "the last step"
            raise DivergedError(
                f"loss: not finite in epoch {epoch + 1} at {step}; first non-finite layer: "
                f"{broken[0].rpartition('.')[0] if broken else 'the outputs'}. "
                "Remedy: lower learning_rate or gamma, or resume from the last checkpoint with other settings"
            )
