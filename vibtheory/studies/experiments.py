"""What a table trains: a recipe file, read and checked."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vibtheory.datasets.catalogue import CATALOGUE
from vibtheory.errors import check_choice, reject
from vibtheory.storage.schema import Seed, check
from vibtheory.studies.tables import DECAYED, RECIPES
from vibtheory.training.recipe import Recipe

__all__ = ["Experiment", "experiment", "read_toml"]

MODES = ("quick", "full", "curve")


@dataclass(frozen=True)
class Experiment:
    """One recipe file: which network on which data, how trained, and how often in each mode.

    Attributes:
        name: the file's name without suffix (with it, where a packaged recipe has that name).
        table: the paper's table that it belongs to.
        network: a function of `vibtheory.networks` (or `vibtheory.networks.vgg`).
        dataset: a name for `vibtheory.datasets.load`.
        recipe: the record's recipe.
        finetune: the recipe after compression, on the small plain net; None: no fine-tuning.
        modes: for each of "quick", "full", "curve": its γs, its seeds, and changes to the recipe and to fine-tuning.
        row: which of the table's comparisons it belongs to, such as "3.1"; "": the table has only one.
        arguments: of `network`.
        teacher: how the regular net (the same shape without gates) is trained whose predictions fine-tuning follows
            with weight `finetune.distill`; None: no teacher. All runs have the same one.
        held_out: so many training examples are the test set (`Dataset.split`), for choices; 0: the true test set.
        examples: train on a random part of so many; 0: all.
        ranking, share: units cut by rank after training, "filters" (the law "pf") or one of `compression.ranking`'s,
            and which share of them; "": none.
    """

    name: str
    table: int
    network: str
    dataset: str
    recipe: Recipe
    finetune: Recipe | None
    modes: dict[str, dict[str, Any]]
    row: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    teacher: Recipe | None = None
    held_out: int = 0
    examples: int = 0
    ranking: str = ""
    share: float = 0.0

    def jobs(self, mode: str) -> list[tuple[Recipe, int]]:
        """(recipe, seed) of every run of a mode, γ by γ. Raises InvalidInputError for an unknown mode."""
        check_choice("mode", mode, self.modes)
        plan = self.modes[mode]
        changed = {**self.recipe.to_dict(), **plan.get("recipe", {})}
        if not isinstance(changed["gamma"], int | float):
            reject("recipe gamma", changed["gamma"], "one number", "put the layers' factors into layer_weights")
        gammas = plan.get("gammas", [changed["gamma"]])
        return [(Recipe.from_dict({**changed, "gamma": gamma}), seed) for gamma in gammas for seed in plan["seeds"]]

    def tuning(self, mode: str) -> Recipe | None:
        """Fine-tuning in a mode; None where its epochs are 0."""
        changes = self.modes[mode].get("finetune")
        if self.finetune is None or not changes:
            return self.finetune
        tuning = Recipe.from_dict({**self.finetune.to_dict(), **changes})
        return tuning if tuning.epochs else None

    @property
    def label(self) -> str:
        """What its rows are called: the recipe, or a network that no packaged recipe trains."""
        packaged = {name for names in RECIPES.values() for name in names}
        return self.name if self.row or self.name.endswith(DECAYED) or self.network in packaged else self.network

    def with_decayed_gates(self) -> Experiment:
        """The same with the weights' L2 penalty on μ and log σ² too, as in the authors' runs; under another name."""
        recipe = replace(self.recipe, gate_weight_decay=self.recipe.weight_decay)
        return replace(self, name=f"{self.name}{DECAYED}", recipe=recipe)


@dataclass(frozen=True)
class _File:
    """What a recipe file holds."""

    table: int
    network: str
    dataset: str
    recipe: dict[str, Any]
    row: str = ""
    held_out: Annotated[int, Field(ge=0)] = 0
    examples: Annotated[int, Field(ge=0)] = 0
    arguments: dict[str, Any] = field(default_factory=dict)
    finetune: dict[str, Any] | None = None
    teacher: dict[str, Any] | None = None
    quick: dict[str, Any] | None = None
    full: dict[str, Any] | None = None
    curve: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Mode:
    """What a section [quick], [full] or [curve] holds."""

    seeds: Annotated[list[Seed], Field(min_length=1)]
    gammas: list[Any] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=dict)
    finetune: dict[str, Any] = field(default_factory=dict)


def experiment(name: str | Path, argument: str = "recipe") -> Experiment:
    """Read a packaged recipe by name ("lenet_300_100", "lenet_5_caffe") or a TOML file by path.

    Args:
        name: of either.
        argument: what the error calls a name that stands for nothing.

    Raises:
        InvalidInputError: no such recipe, not TOML, a key missing or unknown.
    """
    folder = resources.files("vibtheory").joinpath("studies/recipes")
    packaged = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    if str(name) in packaged:
        plain = tomllib.loads(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    elif Path(name).is_file():
        plain = read_toml(argument, name)
    else:
        reject(argument, str(name), f"one of {', '.join(packaged)}, or a TOML file", "correct the name or the path")
    check(_File, plain, "recipe", within="recipe")
    check_choice("recipe dataset", plain["dataset"], CATALOGUE)
    modes = {mode: plain.pop(mode) for mode in MODES if mode in plain}
    for mode, section in modes.items():
        check(_Mode, section, f"recipe [{mode}]", within=f"recipe [{mode}]")
    recipes = {"recipe": Recipe.from_dict(plain["recipe"])}
    recipes |= {key: Recipe.from_dict({"gamma": 0.0, **plain[key]}) for key in ("finetune", "teacher") if key in plain}
    own = Path(name).name if str(name) not in packaged and Path(name).stem in packaged else Path(name).stem
    plan = Experiment(own, modes=modes, **{"finetune": None, **plain, **recipes})
    if bool(plan.finetune and plan.finetune.distill) != (plan.teacher is not None):
        got = f"{name}: {'only [teacher]' if plan.teacher else 'no [teacher] with distill in [finetune]'}"
        reject("recipe", got, "[teacher] and distill in [finetune], or neither", "complete the file")
    return plan


def read_toml(argument: str, path: str | Path) -> dict[str, Any]:
    """The content of the TOML file `path`; raises InvalidInputError about `argument` where it cannot be read."""
    try:
        plain = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        repr(plain)  # a ValueError where a whole number is too long to print
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        reject(argument, f"{path} ({error})", "a readable TOML file in UTF-8", "correct the file")
    return plain
