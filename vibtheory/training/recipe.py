"""A training recipe as data: what `train` does, when, and at which price of information."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from vibtheory.errors import reject
from vibtheory.storage.schema import LARGEST, Declared, Fraction, Positive, Price, check

__all__ = ["AUGMENTATIONS", "Recipe", "recipe_of"]

Augmentation = Literal["none", "flip", "crop+flip"]
AUGMENTATIONS: tuple[str, ...] = get_args(Augmentation)
Epochs = Annotated[int, Field(ge=0, le=10**6)]  # lists are made of so many
Count = Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True)
class Recipe(Declared):
    """Everything that decides a training run, besides network and data. Fractions are of `epochs`.

    Attributes:
        gamma: price γ_i ≥ 0 of information, per nat of ½Σlog(1+α) (of the penalty, for another law of the gates): one
            number, or one per layer name (docs/theory.md, "The price"; a convolution's gate multiplies it by its
            feature map's size).
        layer_weights: factor on `gamma` per layer name, so that one number still sweeps the price; None: 1 everywhere.
        epochs: epochs with noisy gates.
        pretrain_epochs: epochs before them with the gates at their means and no price.
        batch_size: examples per step.
        learning_rate: for weights; Adam's, unless `weight_optimizer` is "sgd".
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
            `pretrain_epochs`, or the one that `train` is given. Classification only.
        temperature: softening of those predictions.
        shift: augmentation: each training image is moved by up to so many pixels each way, filled with 0; 0: none.
        initial_log_variance: log σ² at which the gates of VIB and BC-GNJ start; None leaves them as they are.
        augment: images only, drawn anew for each batch on the device (`training.examples.Batches`): "none", "flip"
            or "crop+flip" (4 pixels of padding). It also turns on the image path: bytes on the device, channels last.
            None: the data as they are, with `shift` if so wished.
        initial_spread: standard deviation at which the gates start around μ = 1 and log σ² = `initial_log_variance`
            (−9 where that is None); 0: all alike.
        pretrain_schedule: learning rate of the pretraining epochs: "constant" or "cosine" (to 0).
        label_smoothing: so much of each label's weight is spread evenly over all classes in what is minimised; the
            history's cross-entropy is that of the labels as they are. Classification only.
        prune_at: gated epochs (counted from 1) after which dead units are closed and cut out, besides `prune_every`:
            each cut costs a compiled or captured step a new start, and most units close early.
        weight_optimizer: "adam", or "sgd": gradient descent with Nesterov's momentum of 0.9. Gates are Adam's always.

    Raises:
        InvalidInputError: a value outside its range.
    """

    gamma: Price | Mapping[str, Price] = 1e-4
    layer_weights: Mapping[str, Price] | None = None
    epochs: Epochs = 60
    pretrain_epochs: Epochs = 0
    batch_size: Annotated[int, Field(ge=1, lt=2**31)] = 100
    learning_rate: Positive = 1e-3
    gate_learning_rate: Positive = 1e-2
    weight_decay: Price = 1e-4
    gate_weight_decay: Price = 0.0
    schedule: Literal["step", "cosine", "constant"] = "step"
    milestones: Sequence[Fraction] = (0.5, 0.8)
    decay: Positive = 0.1
    warmup_epochs: Count = 0
    relax_at: Fraction | None = None
    relax_factor: Positive = 0.1
    prune_every: Count = 0
    prune_from: Count = 1
    distill: Fraction = 0.0
    temperature: Positive = 2.0
    shift: Annotated[int, Field(ge=0, le=64)] = 0
    initial_log_variance: Annotated[float, Field(ge=-80, le=80)] | None = None  # float32 holds e^±80
    augment: Augmentation | None = None
    initial_spread: Annotated[float, Field(ge=0, le=10)] = 0.0
    pretrain_schedule: Literal["constant", "cosine"] = "constant"
    label_smoothing: Fraction = 0.0
    prune_at: Sequence[Annotated[int, Field(ge=1, lt=2**31)]] = ()
    weight_optimizer: Literal["adam", "sgd"] = "adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "milestones", tuple(self.milestones))
        object.__setattr__(self, "prune_at", tuple(self.prune_at))
        if self.layer_weights is not None and isinstance(self.gamma, Mapping):
            reject("layer_weights", self.layer_weights, "None with a gamma per layer", "give one of the two")
        if self.augment is not None and self.shift:
            reject("shift", self.shift, "0 with augment", 'use augment = "crop+flip" or shift, not both')
        if self.decay > 1 and len(self.milestones) * math.log10(self.decay) > 38:
            got = f"{self.decay:g} at each of {len(self.milestones)} milestones"
            reject("decay", got, f"less than {LARGEST:g} in all", "use a factor below 1")

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
        regular = bool(self.prune_every) and done >= self.prune_from and done % self.prune_every == 0
        return regular or done in self.prune_at

    @property
    def prunes(self) -> bool:
        """Whether units are ever closed for good."""
        return bool(self.prune_every or self.prune_at)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types.

        Settings newer than the first saved runs are left out at their defaults: a recipe keeps the fingerprint by which
        such a run is found and continued.
        """
        newer = ("augment", "initial_spread", "pretrain_schedule", "label_smoothing", "prune_at", "weight_optimizer")
        plain = {field.name: getattr(self, field.name) for field in fields(self)
                 if field.name not in newer or getattr(self, field.name) != field.default}  # fmt: skip
        plain |= {name: list(plain[name]) for name in ("milestones", "prune_at") if name in plain}
        plain["gamma"] = dict(self.gamma) if isinstance(self.gamma, Mapping) else self.gamma
        plain["layer_weights"] = None if self.layer_weights is None else dict(self.layer_weights)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`: `plain` settings by name; unknown ones are refused. Raises InvalidInputError."""
        check(cls, plain, "recipe")
        return cls(**plain)


def recipe_of(recipe: object, changes: Mapping[str, Any]) -> Recipe:
    """`recipe` (None: `Recipe()`) with `changes` of its fields. Raises InvalidInputError: no Recipe, or see there."""
    if recipe is None:
        return Recipe.from_dict(changes)
    if not isinstance(recipe, Recipe):
        reject("recipe", f"a {type(recipe).__name__}", "a vibtheory.Recipe, or None",
               "make one: Recipe(gamma=…), or Recipe.from_dict of a mapping")  # fmt: skip
    return Recipe.from_dict({**recipe.to_dict(), **changes}) if changes else recipe
