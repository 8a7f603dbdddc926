"""`compress_to`: a trained model of the user's own, made smaller until it meets a budget, in one call.

The price γ decides what is left, and no formula says how much; so γ is found by bisection of its logarithm. Every trial
starts from the model as it was given.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vibtheory.compression.cut import compress
from vibtheory.compression.evaluation import Evaluation, evaluate
from vibtheory.compression.metrics import compression
from vibtheory.compression.sizes import Compression
from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import CheckpointError, as_scalar, as_whole, reject
from vibtheory.networks.forward import copy_of, device_of, with_hooks
from vibtheory.networks.gates import named_gates
from vibtheory.networks.insertion import insert_gates
from vibtheory.networks.likelihood import check_net
from vibtheory.storage import write_sealed
from vibtheory.storage.report import Report
from vibtheory.storage.run_store import read_record
from vibtheory.training.checkpoint import described, net_fingerprint
from vibtheory.training.examples import check_dataset
from vibtheory.training.recipe import Recipe, recipe_of
from vibtheory.training.run import Run
from vibtheory.training.single import folder_of, train

__all__ = ["CompressedModel", "Trial", "compress_to"]

_PRICES = (1e-7, 1.0)
_WORDS = {"r_w": "r_W", "flop": "multiply-adds", "error": "held-out error"}


@dataclass(frozen=True)
class Trial:
    """One price: what it left of the network, and what that costs.

    Attributes:
        gamma: nats per nat of ½Σlog(1+α).
        r_w, flop: percent of the model's weights and multiply-adds; 0 for a collapsed run.
        error, loss: on the held-out examples, percent (None for regression) and nats; gates at their masked means.
        status: "completed" or "collapsed".
    """

    gamma: float
    r_w: float
    flop: float
    error: float | None
    loss: float
    status: str


@dataclass(frozen=True, eq=False)
class CompressedModel(Report):
    """What `compress_to` returns.

    Attributes:
        net: the small plain model, fine-tuned, in evaluation mode.
        budget: which quantity was limited: "r_w", "flop" or "error". limit: to what, percent.
        met: whether a price was found at which it is.
        gamma: the price chosen.
        size: weights, units and multiply-adds against the model's own.
        before, cut, after: on the test set: the model as given, the small one as it was cut, and fine-tuned.
        trials: every price tried, in order.
    """

    net: nn.Module
    budget: str
    limit: float
    met: bool
    gamma: float
    size: Compression
    before: Evaluation
    cut: Evaluation
    after: Evaluation
    trials: tuple[Trial, ...]

    @property
    def status(self) -> str:
        """The outcome in words, with the remedy where the budget was not met."""
        asked = f"{_WORDS[self.budget]} ≤ {self.limit:g} %"
        if self.met:
            return f"{asked}: met"
        if all(trial.r_w == 100 for trial in self.trials):
            return (
                f"{asked}: not met, as no gate closed at any of {len(self.trials)} prices; "
                "train for more steps (epochs=, or a recipe with a smaller batch_size)"
            )
        closed = sum(trial.status == "collapsed" for trial in self.trials)
        why = f", {closed} of which closed a whole layer" if closed else ""
        return (
            f"{asked}: not met by any of {len(self.trials)} prices{why}; allow more, or train longer (epochs=, trials=)"
        )

    def row(self) -> dict[str, Any]:
        """One flat row: the budget, the size in percent, test losses in nats and errors in percent."""
        found: dict[str, Any] = {"budget": self.budget, "limit": self.limit, "met": self.met, "gamma": self.gamma,
                                 "r_w": self.size.r_w, "flop_ratio": self.size.flop_ratio}  # fmt: skip
        for name in ("before", "cut", "after"):
            found |= {f"error_{name}": getattr(self, name).error, f"loss_{name}": getattr(self, name).loss}
        return found

    def _content(self) -> dict[str, Any]:
        return self.row() | {"size": self.size, "trials": self.trials, "status": self.status}

    def __str__(self) -> str:
        return "\n".join([
            self.status,
            f"  γ = {self.gamma:.3g}; {self.size}",
            f"  test set, as given:   {self.before}",
            f"  cut out:              {self.cut}",
            f"  fine-tuned:           {self.after}",
        ])  # fmt: skip


@torch.inference_mode(False)  # gradients, whatever the caller switched off
def compress_to(
    model: nn.Module,
    data: Dataset,
    *,
    r_w: float | None = None,
    flop: float | None = None,
    error: float | None = None,
    epochs: int = 10,
    fine_tune_epochs: int = 3,
    trials: int = 7,
    held_out: int | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    progress: bool = False,
    **gates: Any,
) -> CompressedModel:
    """A smaller model that meets one budget: gates into a copy, the price found, cut, verified, fine-tuned.

    Args:
        model: trained, any that `insert_gates` takes; unchanged. One with gates already keeps them.
        data: as for `train`.
        r_w, flop: at most so many percent of the model's weights or multiply-adds are left: of the prices that meet it
            the lowest is chosen.
        error: at most so many percent of the held-out examples are wrong (before fine-tuning): the highest price.
        epochs, fine_tune_epochs: of each trial with gates, and of the small model in the end (rate down to 0).
        trials: prices tried, by bisection of log γ between 1e-7 and 1: 7 leave a factor of 1.13.
        held_out: training examples that only judge the trials; None: a tenth, at most 5,000. The last training has all.
        recipe: how to train; its gamma, epochs and pretraining do not count; with `distill` the model as given is the
            teacher. None: `Recipe` with a cosine schedule.
        seed, device, progress: as in `train`.
        checkpoint: folder; the same call goes on from there after a stop, and one with more trials from its trials.
        gates: options of `insert_gates`.

    Raises:
        InvalidInputError: not exactly one budget, one out of range, or as `insert_gates`, `train` and `compress`.
        CheckpointError: the checkpoint is of another model, other gates, another budget or held-out part, or as
            `train`. DivergedError: as `train`.
    """
    check_net("model", model)
    check_dataset(data)
    given = {name: value for name, value in (("r_w", r_w), ("flop", flop), ("error", error)) if value is not None}
    if len(given) != 1:
        reject("budget", ", ".join(given) or "none", "exactly one of r_w, flop, error", "pass r_w=10.0, say")
    budget, limit = next(iter(given.items()))
    if not 0 < as_scalar(budget, limit) < 100:
        reject(budget, limit, "a number between 0 and 100", "pass percent: of the model's own size, or of examples")
    if budget == "error" and data.likelihood != "multinomial":
        reject("error", "a budget for regression", "r_w or flop", "limit the size, and read the loss")
    count = as_whole("trials", trials, 1)
    as_whole("epochs", epochs, 0)
    as_whole("fine_tune_epochs", fine_tune_epochs, 0, remedy="use 0 for none")
    n = len(data.x_train)
    held = min(max(n // 10, 1), 5000) if held_out is None else held_out
    judged = data.split(as_whole("held_out", held, 1, n - 1, "leave some of two training examples or more"), seed)
    example = torch.as_tensor(data.x_train[:2])
    common: dict[str, Any] = {"seed": seed, "device": device, "progress": progress, "evaluate_every": max(epochs, 1)}
    plan = recipe_of(Recipe(schedule="cosine") if recipe is None else recipe, {}).to_dict() | {"pretrain_epochs": 0}
    folder = folder_of(checkpoint)

    def gated() -> nn.Module:
        inserted = not named_gates(model)
        return insert_gates(model, _with(model, example), **gates) if inserted else with_hooks(copy_of(model), model)

    if folder is not None:
        _check_same_call(folder, model, {
            "gates": zlib.crc32(described(gated()).encode()), "budget": [budget, float(limit)],
            "held_out": len(judged.x_test),
        })  # fmt: skip

    def run(net: nn.Module, part: Dataset, name: str, **changes: Any) -> Run:
        place = None if folder is None else folder / name
        return train(net, part, Recipe.from_dict(plan | changes), checkpoint=place, teacher=model, **common)

    def test(net: nn.Module) -> Evaluation:
        return evaluate(net, data.x_test, data.y_test, likelihood=data.likelihood)

    low, high = (math.log10(price) for price in _PRICES)
    tried: list[Trial] = []
    best: tuple[tuple[bool, float], Trial, nn.Module] | None = None
    for number in range(count):
        middle = 0.5 * (low + high)
        done = run(gated(), judged, f"trial{number}", gamma=10**middle, epochs=epochs)
        trial = _judged(done, judged, example, 10**middle)
        tried.append(trial)
        rank = _rank(trial, budget, limit)
        if trial.status == "completed" and (best is None or rank > best[0]):
            best = (rank, trial, done.net)
        cheaper = trial.status == "collapsed" or rank[0] == (budget != "error")
        low, high = (low, middle) if cheaper else (middle, high)
    if best is None:
        reject(budget, limit, "one that leaves units in every layer", f"allow more: all {count} trials collapsed")
    (met, _), chosen, net = best
    small = compress(net, _with(net, example))
    cut = test(small)
    if fine_tune_epochs:
        name = f"fine_tune-{net_fingerprint(small, state=True):08x}"  # another choice starts afresh
        small = run(small, data, name, gamma=0.0, epochs=fine_tune_epochs, prune_every=0).net
    return CompressedModel(
        net=small,
        budget=budget,
        limit=float(limit),
        met=met,
        gamma=chosen.gamma,
        size=compression(net, example_input=_with(net, example)),
        before=test(model),
        cut=cut,
        after=test(small),
        trials=tuple(tried),
    )


def _check_same_call(folder: Path, model: nn.Module, call: dict[str, Any]) -> None:
    """Note what decides the trials' result; raise CheckpointError where the folder's is another.

    What an older folder does not say is not compared.
    """
    file = folder / "model.json"
    sums = {
        name: zlib.crc32(tensor.detach().cpu().double().numpy().tobytes())
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, Tensor)
    }
    call = {"checksums": sums, **call}
    if not file.exists():
        write_sealed(file, call)
        return
    found = read_record(file, dict, "what decides the trials of a call", "delete the folder")
    words = {"checksums": "other weights than the model's", "gates": "other gates", "budget": "another budget",
             "held_out": "another held_out"}  # fmt: skip
    differing = [words[key] for key, value in call.items() if found.get(key, value) != value]
    if differing:
        raise CheckpointError(
            f"checkpoint: {folder} goes on from {', '.join(differing)}, expected the first call's. "
            "Remedy: repeat that call, or choose another folder"
        )


def _with(net: nn.Module, example: Tensor) -> Tensor:
    """The example where the network is."""
    return example.to(device_of(net))


def _judged(run: Run, data: Dataset, example: Tensor, gamma: float) -> Trial:
    result = evaluate(run.net, data.x_test, data.y_test, likelihood=data.likelihood)
    if run.status != "completed":
        return Trial(gamma, 0.0, 0.0, result.error, result.loss, run.status)
    size = compression(run.net, example_input=_with(run.net, example))
    return Trial(gamma, size.r_w, size.flop_ratio, result.error, result.loss, run.status)


def _rank(trial: Trial, budget: str, limit: float) -> tuple[bool, float]:
    """Whether the budget is met, and how good the trial is among those of its kind; larger is better."""
    value = float(getattr(trial, budget))
    if value > limit:
        return False, -value
    return True, trial.gamma if budget == "error" else -trial.gamma
