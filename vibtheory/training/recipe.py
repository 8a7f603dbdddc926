"""A training recipe as data: what `train` does, when, and at which price of information."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from vibtheory.errors import check_choice, reject, shown

__all__ = ["AUGMENTATIONS", "Recipe"]

AUGMENTATIONS = ("none", "flip", "crop+flip")
_LARGEST = 1e38  # of any number: float32 ends soon after
_WHOLE = {  # smallest and largest value; lists of epochs are made of the first two
    "epochs": (0, 10**6), "pretrain_epochs": (0, 10**6), "warmup_epochs": (0, 2**31 - 1), "prune_every": (0, 2**31 - 1),
    "prune_from": (0, 2**31 - 1), "shift": (0, 64), "batch_size": (1, 2**31 - 1),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, besides network and data. Fractions are of `epochs`.

    Attributes:
        gamma: price γ_i ≥ 0 of information, per nat of ½Σlog(1+α): one number, or one per layer name
            ("One convention for the price"; a convolution's gate multiplies it by its feature map's size).
        layer_weights: factor on `gamma` per layer name, so that one number still sweeps the price; None: 1 everywhere.
        epochs: epochs with noisy gates.
        pretrain_epochs: epochs before them with the gates at their means and no price.
        batch_size: examples per step.
        learning_rate: Adam's, for weights.
        gate_learning_rate: Adam's, for μ and log σ².
        weight_decay: L2 penalty on weights. Gates are never decayed unless `gate_weight_decay` says so.
        gate_weight_decay: L2 penalty on μ and log σ².
        schedule: "step" (times `decay` at each of `milestones`), "cosine" (to 0) or "constant".
        milestones: fractions at which the step schedule drops.
        decay: factor of each drop.
        warmup_epochs: the price rises linearly from 0 over so many epochs.
        relax_at: fraction from which the price is multiplied by `relax_factor`; None: never. With `prune_every` the
            structure is then settled, and the surviving units may become more precise.
        relax_factor: see `relax_at`.
        prune_every: close dead units for good every so many epochs and cut them out of the computation; 0: never.
        prune_from: first epoch (counted from 1) after which that may happen.
        distill: weight in [0, 1] of a teacher's predictions against the labels. The teacher is the net after
            `pretrain_epochs`, or the one that `train` is given.
        temperature: softening of those predictions.
        shift: augmentation: each training image is moved by up to so many pixels each way, filled with 0; 0: none.
        initial_log_variance: log σ² at which the gates start; None leaves them as they are.
        augment: images only, drawn anew for each batch on the device (`training.augmentation.Batches`): "none", "flip"
            or "crop+flip" (4 pixels of padding). It also turns on the image path: bytes on the device, channels last.
            None: the data as they are, with `shift` if so wished.
        initial_spread: standard deviation at which the gates start around μ = 1 and log σ² = `initial_log_variance`
            (−9 where that is None); 0: all alike.
        pretrain_schedule: learning rate of the pretraining epochs: "constant" or "cosine" (to 0).

    Raises:
        InvalidInputError: a value outside its range.
    """

    gamma: float | Mapping[str, float] = 1e-4
    layer_weights: Mapping[str, float] | None = None
    epochs: int = 60
    pretrain_epochs: int = 0
    batch_size: int = 100
    learning_rate: float = 1e-3
    gate_learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    gate_weight_decay: float = 0.0
    schedule: str = "step"
    milestones: tuple[float, ...] = (0.5, 0.8)
    decay: float = 0.1
    warmup_epochs: int = 0
    relax_at: float | None = None
    relax_factor: float = 0.1
    prune_every: int = 0
    prune_from: int = 1
    distill: float = 0.0
    temperature: float = 2.0
    shift: int = 0
    initial_log_variance: float | None = None
    augment: str | None = None
    initial_spread: float = 0.0
    pretrain_schedule: str = "constant"

    def __post_init__(self) -> None:
        prices = self.gamma.values() if isinstance(self.gamma, Mapping) else [self.gamma]
        if not all(_is_number(price) and price >= 0 for price in prices):
            want = f"prices from 0 to {_LARGEST:g}"
            reject("gamma", shown(self.gamma), want, "use a number such as 1e-4, or one per layer name")
        if self.layer_weights is not None:
            if isinstance(self.gamma, Mapping):
                reject("layer_weights", self.layer_weights, "None with a gamma per layer", "give one of the two")
            factors = self.layer_weights.values() if isinstance(self.layer_weights, Mapping) else [None]
            if not all(_is_number(weight) and weight >= 0 for weight in factors):
                got, want = shown(self.layer_weights), f"factors from 0 to {_LARGEST:g}"
                reject("layer_weights", got, want, "use 1 for the plain price")
        for name, (least, most) in _WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                reject(name, shown(value), f"an integer from {least} to {most}", f"set {name} to a whole number")
        for name in ("learning_rate", "gate_learning_rate", "decay", "relax_factor", "temperature"):
            value = getattr(self, name)
            if not _is_number(value) or value <= 0:
                reject(name, shown(value), f"a number > 0, at most {_LARGEST:g}", f"set {name} to a positive number")
        for name, limit in (("weight_decay", _LARGEST), ("gate_weight_decay", _LARGEST), ("initial_spread", 10.0)):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= limit:
                reject(name, shown(value), f"a number from 0 to {limit:g}", f"set {name} to 0 for none")
        check_choice("schedule", self.schedule, ("step", "cosine", "constant"))
        check_choice("pretrain_schedule", self.pretrain_schedule, ("constant", "cosine"))
        if self.augment is not None:
            check_choice("augment", self.augment, AUGMENTATIONS)
            if self.shift:
                reject("shift", self.shift, "0 with augment", 'use augment = "crop+flip" or shift, not both')
        if isinstance(self.milestones, str) or not isinstance(self.milestones, Sequence) or None in self.milestones:
            reject("milestones", shown(self.milestones), "a sequence of fractions in [0, 1]", "use () for none")
        object.__setattr__(self, "milestones", tuple(self.milestones))
        start = self.initial_log_variance
        if start is not None and not (_is_number(start) and abs(start) <= 80):  # float32 holds e^±80
            reject("initial_log_variance", shown(start), "a number from -80 to 80, or None", "use -9")
        for name, values in (
            ("milestones", self.milestones),
            ("relax_at", (self.relax_at,)),
            ("distill", (self.distill,)),
        ):
            if not all(v is None or (_is_number(v) and 0 <= v <= 1) for v in values):
                reject(name, shown(getattr(self, name)), "fractions in [0, 1]", f"give {name} as a share")
        if self.decay > 1 and len(self.milestones) * math.log10(self.decay) > 38:
            got = f"{self.decay:g} at each of {len(self.milestones)} milestones"
            reject("decay", got, f"less than {_LARGEST:g} in all", "use a factor below 1")

    def learning_rate_factor(self, epoch: int, pretraining: bool = False) -> float:
        """Factor on both learning rates in `epoch` (from 0 in each phase)."""
        if pretraining:
            cosine = 0.5 * (1 + math.cos(math.pi * epoch / max(self.pretrain_epochs, 1)))
            return cosine if self.pretrain_schedule == "cosine" else 1.0
        progress = epoch / max(self.epochs, 1)
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "step":
            return float(self.decay ** sum(progress >= milestone for milestone in self.milestones))
        return 1.0

    @property
    def layer_gamma(self) -> float | dict[str, float]:
        """γ_i at full price: one number, or one per layer name."""
        if isinstance(self.gamma, Mapping):
            return dict(self.gamma)
        if self.layer_weights is not None:
            return {layer: self.gamma * weight for layer, weight in self.layer_weights.items()}
        return self.gamma

    def price(self, epoch: int) -> float | dict[str, float]:
        """γ_i in `epoch` (from 0): warmed up, relaxed, or as it stands."""
        factor = min(1.0, (epoch + 1) / self.warmup_epochs) if self.warmup_epochs else 1.0
        if self.relax_at is not None and epoch >= self.relax_at * self.epochs:
            factor *= self.relax_factor
        gamma = self.layer_gamma
        return {k: factor * g for k, g in gamma.items()} if isinstance(gamma, dict) else factor * gamma

    def prunes_after(self, epoch: int) -> bool:
        """Whether dead units are closed for good at the end of `epoch` (from 0)."""
        done = epoch + 1
        return bool(self.prune_every) and done >= self.prune_from and done % self.prune_every == 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types.

        Settings newer than the first saved runs are left out at their defaults: a recipe keeps the fingerprint by which
        such a run is found and continued.
        """
        newer = {"augment": None, "initial_spread": 0.0, "pretrain_schedule": "constant"}
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {key: value for key, value in plain.items() if key not in newer or value != newer[key]}
        plain["milestones"] = list(self.milestones)
        plain["gamma"] = dict(self.gamma) if isinstance(self.gamma, Mapping) else self.gamma
        plain["layer_weights"] = None if self.layer_weights is None else dict(self.layer_weights)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`: `plain` settings by name; unknown ones are refused. Raises InvalidInputError."""
        if not isinstance(plain, Mapping):
            reject("recipe", shown(plain), "settings by name", "write a section [recipe]")
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(plain) - set(known))
        if unknown:
            reject("recipe", f"unknown {', '.join(unknown)}", f"keys among {', '.join(known)}", "correct the spelling")
        return cls(**plain)


def _is_number(value: object) -> bool:
    """Whether `value` is a number that float32 can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value) and abs(value) <= _LARGEST
    except OverflowError:  # a whole number beyond every float
        return False
