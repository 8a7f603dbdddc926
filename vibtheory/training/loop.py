"""One training run, epoch by epoch: the state that a checkpoint keeps, and what a step, an epoch and a measurement are.

`vibtheory.train` is the way in; it checks the arguments and seeds.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import DivergedError, as_scalar, as_whole, reject, shown
from vibtheory.networks.forward import device_of
from vibtheory.networks.gates import add_information_gradient, named_gates, objective, unit_prices, vib_gates
from vibtheory.networks.likelihood import check_fit, check_net, likelihood_loss, outputs_of
from vibtheory.networks.remembering import let_graphs_go
from vibtheory.training.checkpoint import (
    State,
    data_fingerprint,
    load_random_state,
    net_fingerprint,
    random_state,
    restore,
    snapshot,
    test_fingerprint,
)
from vibtheory.training.distributed import parallel, world
from vibtheory.training.examples import Examples, batches_of, needs_two
from vibtheory.training.hardware import GraphedStep, InTurns, compiled_blocks
from vibtheory.training.optimizer import Optimizer, initialise_gates, load_optimizer, optimizer_tensors
from vibtheory.training.progress import live_bar
from vibtheory.training.recipe import Recipe
from vibtheory.training.run import Run, finished, measured
from vibtheory.training.shrinking import Shrinker, check_shrinkable, close_dead

__all__ = ["Loop", "Settings"]

Price = float | dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a run is carried out, as in `train`, where the recipe says what is learned.

    Attributes:
        seed: recorded, and part of a checkpoint's identity.
        device, amp, evaluate_every, accelerate, progress, checkpoint_seconds, on_epoch: as in `train`.
        folder: of the checkpoint; None: no checkpoint.
        teacher: whose predictions are followed from the first epoch; None: the net itself once it is pretrained.

    Raises:
        InvalidInputError: a setting of the wrong type or out of range.
    """

    device: torch.device
    seed: int = 0
    amp: bool | None = None
    evaluate_every: int = 1
    accelerate: str = "none"
    progress: bool = False
    folder: Path | None = None
    checkpoint_seconds: float = 0.0
    on_epoch: Callable[[nn.Module, int], None] | None = None
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        as_whole("evaluate_every", self.evaluate_every, 1, remedy="use 1 for every epoch")
        seconds = as_scalar("checkpoint_seconds", self.checkpoint_seconds, "use 0 for every epoch")
        if seconds < 0:
            reject("checkpoint_seconds", seconds, "a finite number >= 0", "use 0 for every epoch")
        object.__setattr__(self, "checkpoint_seconds", seconds)
        if self.amp is not None and not isinstance(self.amp, bool):
            reject("amp", shown(self.amp), "True, False or None", "leave it out: bfloat16 on a GPU only")
        if not isinstance(self.progress, bool):
            reject("progress", shown(self.progress), "True or False", "use True for a live bar")
        if self.on_epoch is not None and not callable(self.on_epoch):
            reject("on_epoch", shown(self.on_epoch), "a function of the net and the epochs done, or None", "pass one")
        if self.teacher is not None:
            check_net("teacher", self.teacher)


class Loop:
    """A run in progress: network, optimizer, history, and where it stands.

    Args:
        net: on the settings' device.
        data: the data set.
        recipe: what to do.
        settings: how.

    Raises:
        InvalidInputError: data, net and recipe do not fit each other.
    """

    def __init__(self, net: nn.Module, data: Dataset, recipe: Recipe, settings: Settings) -> None:
        self.net, self.data, self.recipe, self.settings = net, data, recipe, settings
        self.device, self.world, self.gates = settings.device, world(), named_gates(net)
        self.amp = self.device.type == "cuda" if settings.amp is None else settings.amp
        self.world.check_batches(len(data.x_train), recipe.batch_size)
        self.examples = Examples(data.x_train, recipe, self.device)
        if recipe.augment:
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.y, x_test, y_test = (torch.from_numpy(a).to(self.device) for a in (data.y_train, data.x_test, data.y_test))
        self.test = x_test, y_test
        first = self.examples.given[:2].to(self.device)
        width = check_fit(net, first, torch.cat([self.y, y_test]), data.likelihood)
        self.pairs = needs_two(net, first[:1], len(data.x_train), recipe.batch_size)
        if recipe.prunes and self.gates:
            check_shrinkable(net)
            if self.world.size > 1:
                reject("prune_every", recipe.prune_every or recipe.prune_at, "none with several processes",
                       "leave prune_every and prune_at out there")  # fmt: skip
        initialise_gates(self.gates, recipe)
        self._vib = vib_gates(net) if all(gate.law == "vib" for gate in self.gates.values()) else {}
        own = [p for gate in self.gates.values() for p in gate.learned()]
        self.optimizer = Optimizer(net.parameters(), own, recipe, capturable="graph" in settings.accelerate)
        self._parameters = list(net.parameters())
        self._learns = [(p, p.requires_grad) for gate in self.gates.values() for p in gate.parameters()]  # as given
        resting = {id(p) for p, _ in self._learns} if recipe.pretrain_epochs else set()
        if recipe.pretrain_epochs + recipe.epochs and all(
            id(p) in resting or not p.requires_grad for p in self._parameters
        ):
            reject("net", "parameters that are all frozen", "some that learn, in pretraining besides those of gates",
                   "call net.requires_grad_(True), or leave pretraining out")  # fmt: skip
        self.rows: list[dict[str, Any]] = []
        self.shrinker: Shrinker | None = None
        self.teacher: Tensor | None = None  # logits [N, K] to follow, where the recipe distils
        if recipe.distill and settings.teacher is not None:
            self.teacher = self._followed(settings.teacher, first, width)
        # What holds for one price and one set of learning parameters only; see `enter_phase`.
        self._phase: tuple[bool, Price] | None = None
        self._model: Callable[[Tensor], Tensor] = net  # what a step calls: wrapped for several processes, or compiled
        self._prices: Tensor | None = None  # of every unit, where all gates are priced at once
        self.take_step: Callable[[Tensor], Tensor] = lambda batch: self.step(batch, 0.0)

    @property
    def status(self) -> str:
        """completed (so far), or collapsed."""
        return str(self.rows[-1]["status"]) if self.rows else "completed"

    def turns(self) -> InTurns[Run]:
        """Train to the end, from the checkpoint where there is one, pausing after each step."""
        recipe, settings = self.recipe, self.settings
        total = recipe.pretrain_epochs + recipe.epochs
        folder, identity = settings.folder, self.identity() if settings.folder else {}
        if folder:
            restore(folder, identity, self.load_state)
        self.world.check_same_progress(len(self.rows))
        written = time.monotonic()
        with self._given_back_at_the_end(), live_bar(settings.progress, total, len(self.rows)) as advance:
            if not self.rows:
                self._report()
            while len(self.rows) < total and self.status == "completed":
                yield from self._epoch(len(self.rows))
                self._report()
                over = len(self.rows) == total or self.status != "completed"
                due = over or time.monotonic() - written >= settings.checkpoint_seconds
                if due:
                    written = self._write(identity)
                if not over and (yield True) and not due:
                    written = self._write(identity)
                advance(self.rows[-1])
        return finished(self.net, recipe, settings.seed, self.rows, self.data)

    def _write(self, identity: dict[str, Any]) -> float:
        """The checkpoint, where one is wanted; returns when."""
        if self.settings.folder and self.world.rank == 0:
            snapshot(self.settings.folder, identity, self.state())
        return time.monotonic()

    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be continued."""
        teacher = self.settings.teacher if self.recipe.distill else None
        return {
            "format": 1,
            "recipe": self.recipe.to_dict(),
            "seed": self.settings.seed,
            "data": data_fingerprint(self.data),
            "amp": self.amp,
            "shapes": {name: list(tensor.shape) for name, tensor in self.net.named_parameters()},
            "test": test_fingerprint(self.data),
            "frozen": [name for name, parameter in self.net.named_parameters() if not parameter.requires_grad],
            # a module's words may be others under another torch, which must not keep a run from going on
            f"network (torch {torch.__version__})": net_fingerprint(self.net, state=False),
            "teacher": None if teacher is None else net_fingerprint(teacher, state=True),
        }

    def state(self) -> State:
        """Where the run stands, at full size; to be written, or copied, before the next step."""
        with self._full_size():
            kept = self.net.state_dict()
            tensors = {f"net.{name}": tensor for name, tensor in kept.items()}
            buffers = self.net.named_buffers(remove_duplicate=False)
            tensors |= {f"buffer.{name}": tensor for name, tensor in buffers if name not in kept}
            tensors |= optimizer_tensors(self.optimizer, dict(self.net.named_parameters()))
            tensors |= random_state(self.device)
            if self.teacher is not None:
                tensors["teacher"] = self.teacher
        return State(tensors, {"history": list(self.rows), "shrunken": self.shrinker is not None})

    def load_state(self, state: State) -> None:
        """Go on where `state` was taken. Raises ValueError, KeyError or RuntimeError if it is of another run."""
        tensors, rows = state.tensors, state.progress["history"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("its history is no list of rows")
        for row in rows:
            kept = (row.get(f"kept_{name}") for name in self.gates)
            if row.get("status") not in ("completed", "collapsed") or not all(isinstance(k, int) for k in kept):
                raise ValueError(f"a row of its history is {row!r:.80}")
        shrunken = bool(state.progress["shrunken"])
        self.net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        for name, value in tensors.items():
            if name.startswith("buffer."):  # persistent=False: torch leaves it out of its own
                path, _, key = name.removeprefix("buffer.").rpartition(".")
                setattr(self.net.get_submodule(path), key, value.to(self.device))
        load_optimizer(self.optimizer, dict(self.net.named_parameters()), tensors)
        load_random_state(tensors, self.device)
        self.teacher = tensors["teacher"].to(self.device) if "teacher" in tensors else None
        self.rows = list(rows)
        if shrunken:
            self._shrink()

    def _report(self) -> None:
        """Show the net at full size to whoever asked for it."""
        if self.settings.on_epoch:
            with self._full_size():
                self.net.eval()
                self.settings.on_epoch(self.net, len(self.rows))

    def _epoch(self, done: int) -> Generator[bool, bool | None, None]:
        """One pass over the training data, pausing after each step, and its row of the history."""
        started, recipe = time.perf_counter(), self.recipe
        pretraining = done < recipe.pretrain_epochs
        epoch = done if pretraining else done - recipe.pretrain_epochs
        factor = recipe.learning_rate_factor(epoch, pretraining)
        self.set_learning_rates(factor)
        self.net.train()
        for gate in self.gates.values():
            gate.train(not pretraining)
        for parameter, learns in self._learns:
            parameter.requires_grad_(learns and not pretraining)
        self.enter_phase(pretraining, 0.0 if pretraining else recipe.price(epoch))
        if self.world.size > 1:  # dropout draws for a process' own rows, and the last batch's shares differ
            load_random_state(self.world.of_first(random_state(self.device)), self.device)
        self.examples.begin_epoch()
        order = torch.randperm(len(self.examples)).to(self.device)
        batches, steps = batches_of(order, recipe.batch_size, self.pairs), []
        for batch in batches:
            steps.append(self.take_step(batch))
            yield False
        let_graphs_go(self.net)
        losses = self.world.mean(torch.stack(steps))
        # each batch counts by its examples: 1 exactly where all are equally long
        shares = losses.new_tensor([len(batch) * len(batches) / len(order) for batch in batches])
        self._check_finite(losses, epoch)
        self.world.check_same_buffers(self.net)
        row: dict[str, Any] = {
            "epoch": done + 1,
            "phase": "pretrain" if pretraining else "train",
            "cross_entropy": float((losses * shares).mean()),
            "learning_rate": recipe.learning_rate * factor,
        }
        if recipe.augment:
            row |= self._speed(time.perf_counter() - started)
        if not pretraining and recipe.prunes_after(epoch):
            if self.shrinker:
                self.shrinker.expand()
            close_dead(self.net)
            self._shrink()
        last = epoch + 1 == (recipe.pretrain_epochs if pretraining else recipe.epochs)
        dead = not pretraining and not all(bool(gate.keep.any()) for gate in self.gates.values())
        due = last or dead or (done + 1) % self.settings.evaluate_every == 0
        with self._full_size() if due else nullcontext():
            row |= measured(self.net, self.test if due else None, self.data.likelihood)
        row["seconds"] = time.perf_counter() - started
        self.rows.append({**row, "status": "collapsed" if dead else "completed"})
        if recipe.distill and self.teacher is None and done + 1 == recipe.pretrain_epochs:
            self.teacher = self._predictions(self.net)

    def enter_phase(self, pretraining: bool, price: Price) -> None:
        """Make anew what holds for one price and one set of learning parameters only."""
        if self._phase == (pretraining, price):
            return
        if self._phase is None or self._phase[0] != pretraining:
            self._model = parallel(self.net, self.device, self.world)
            if "blocks" in self.settings.accelerate:
                self._model = compiled_blocks(self.net)
            elif "compile" in self.settings.accelerate:
                self._model = torch.compile(self._model)
        self._phase = (pretraining, price)
        self._prices = unit_prices(self._vib, price) if self._vib and price else None

        def step(batch: Tensor) -> Tensor:
            return self.step(batch, price)

        self.take_step = GraphedStep(step) if "graph" in self.settings.accelerate else step

    def set_learning_rates(self, factor: float) -> None:
        """The recipe's two learning rates, times `factor`."""
        rates = self.recipe.learning_rate, self.recipe.gate_learning_rate
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if "graph" not in self.settings.accelerate:
                group["lr"] = rate * factor
            elif isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)  # the graph reads this very tensor
            else:
                group["lr"] = torch.tensor(rate * factor, dtype=torch.float32, device=self.device)

    def step(self, batch: Tensor, price: Price) -> Tensor:
        """One update on this process' share of a batch; returns its mean loss in nats, without the information."""
        n, mine = len(batch), self.world.share(len(batch))
        if self.world.size > 1:
            for gate in self.gates.values():
                gate.union = (n, mine.start)
        inputs, batch = self.examples.take(batch, mine), batch[mine]
        with torch.autocast(self.device.type, dtype=torch.bfloat16) if self.amp else nullcontext():
            outputs = self._model(inputs)
        outputs = outputs.float()
        fit = loss = likelihood_loss(outputs, self.y[batch], self.data.likelihood)
        if smoothing := self.recipe.label_smoothing:
            fit = (1 - smoothing) * loss - smoothing * outputs.log_softmax(dim=1).mean()
        if self.teacher is not None and self.recipe.distill:
            t = self.recipe.temperature
            target = (self.teacher[batch] / t).log_softmax(dim=1)
            student = (outputs / t).log_softmax(dim=1)
            divergence = functional.kl_div(student, target, reduction="batchmean", log_target=True)
            fit = (1 - self.recipe.distill) * fit + self.recipe.distill * t * t * divergence
        if self.world.size > 1:  # the mean over processes is then the mean over the union batch
            weight = len(batch) * self.world.size / n
            loss, fit = weight * loss, weight * fit
        if self._prices is None and price:
            fit = objective(fit, self.gates, price)
        for parameter in self._parameters:
            parameter.grad = None
        fit.backward()  # type: ignore[no-untyped-call]
        if self._prices is not None:
            add_information_gradient(self._vib, self._prices)
        self.optimizer.step()
        return loss.detach()

    def _speed(self, seconds: float) -> dict[str, float]:
        """Images per second of this epoch's training, and the memory that was needed at most so far."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux
        return {"images_per_second": len(self.examples) / seconds, "peak_memory_mib": peak / 2**20}

    def _shrink(self) -> None:
        """Cut out what is closed for good."""
        self.shrinker = self.shrinker or Shrinker(self.net, self.optimizer, 8 if self.device.type == "cuda" else 1)
        self.shrinker.shrink()
        self.examples.leave_out_all_but(self.shrinker.kept_inputs())
        self._phase = None

    @contextmanager
    def _full_size(self) -> Iterator[None]:
        """The net in its full architecture for the duration of a `with` block."""
        if self.shrinker:
            self.shrinker.expand()
        try:
            yield
        finally:
            if self.shrinker:
                self.shrinker.shrink()

    @contextmanager
    def _given_back_at_the_end(self) -> Iterator[None]:
        """Give the caller's net back at full size, even after Ctrl-C: the same call can then go on with it.

        What of its gates was frozen is so again, and no more.
        """
        try:
            yield
        finally:
            for parameter, learns in self._learns:
                parameter.requires_grad_(learns)
            if self.shrinker:
                self.shrinker.expand()
                self.shrinker = None

    def _followed(self, teacher: nn.Module, first: Tensor, width: int) -> Tensor:
        """The teacher's predictions; it keeps its modes and device. InvalidInputError unless they are [N, width]."""
        modes = [(module, module.training) for module in teacher.modules()]
        try:
            try:
                with torch.no_grad():
                    found = list(outputs_of(teacher.eval(), first.to(device_of(teacher))).shape)
            except (RuntimeError, ValueError, IndexError) as error:
                refused = f"a net that does not take inputs {list(first.shape[1:])} ({str(error).splitlines()[0]})"
                reject("teacher", refused, f"{width} outputs for each", "pass a net for the same data and labels")
            if found != [len(first), width]:
                reject("teacher", f"outputs {found} for {len(first)} inputs", f"{[len(first), width]}, as the net's",
                       "pass a net for the same data and labels")  # fmt: skip
            return self._predictions(teacher)
        finally:
            for module, training in modes:
                module.training = training

    def _predictions(self, net: nn.Module) -> Tensor:
        """Outputs [N, K] of `net` on the training inputs; it is left in evaluation mode."""
        net.eval()
        place = device_of(net)
        with torch.no_grad():
            parts = torch.split(self.examples.given, 2000)
            return torch.cat([outputs_of(net, batch.to(place)).float().to(self.device) for batch in parts])

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
