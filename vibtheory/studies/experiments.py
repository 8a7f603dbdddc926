"""What a table trains: a recipe file, read and checked."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from vibtheory.errors import as_seed, check_choice, reject
from vibtheory.studies.tables import DECAYED
from vibtheory.training.recipe import Recipe

__all__ = ["Experiment", "experiment"]

MODES = ("quick", "full", "curve")


@dataclass(frozen=True)
class Experiment:
    """One recipe file: which network on which data, how trained, and how often in each mode.

    Attributes:
        name: the file's name without suffix.
        table: the poster's table that it belongs to.
        network: a function of `vibtheory.networks` (or `vibtheory.networks.vgg`).
        dataset: a name for `vibtheory.datasets.load`.
        recipe: the record's recipe.
        finetune: the recipe after compression, on the small plain net; None: no fine-tuning.
        modes: for each of "quick", "full", "curve": its γs, its seeds, and changes to the recipe and to fine-tuning.
        row: which of the table's comparisons it belongs to, such as "3.1"; "": the table has only one.
        arguments: of `network`.
        teacher: how the regular net (the same shape without gates) is trained whose predictions fine-tuning follows
            with weight `finetune.distill`; None: no teacher. All runs have the same one.
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

    def jobs(self, mode: str) -> list[tuple[Recipe, int]]:
        """(recipe, seed) of every run of a mode, γ by γ. Raises InvalidInputError for an unknown mode."""
        check_choice("mode", mode, self.modes)
        plan = self.modes[mode]
        changed = {**self.recipe.to_dict(), **plan.get("recipe", {})}
        if not isinstance(self.recipe.gamma, int | float):
            reject("recipe gamma", self.recipe.gamma, "one number", "put the layers' factors into layer_weights")
        gammas = plan.get("gammas", [self.recipe.gamma])
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
        """What its rows are called: the network, or the recipe where several share one (Tables 3, 4; decayed gates)."""
        return self.name if self.row or self.name.endswith(DECAYED) else self.network

    def with_decayed_gates(self) -> Experiment:
        """The same with the weights' L2 penalty on μ and log σ² too, as in the authors' runs; under another name."""
        recipe = replace(self.recipe, gate_weight_decay=self.recipe.weight_decay)
        return replace(self, name=f"{self.name}{DECAYED}", recipe=recipe)


def experiment(name: str | Path) -> Experiment:
    """Read a packaged recipe by name ("lenet_300_100", "lenet_5_caffe") or a TOML file by path.

    Raises:
        InvalidInputError: no such recipe, not TOML, a key missing or unknown.
    """
    folder = resources.files("vibtheory").joinpath("studies/recipes")
    packaged = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    if str(name) in packaged:
        text = folder.joinpath(f"{name}.toml").read_text(encoding="utf-8")
    elif Path(name).is_file():
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reject("recipe", f"{name} ({error})", "a readable TOML file in UTF-8", "check the file")
    else:
        reject("recipe", str(name), f"one of {', '.join(packaged)}, or a TOML file", "correct the name or the path")
    try:
        plain = tomllib.loads(text)
        repr(plain)  # a ValueError where a whole number is too long to print
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError; so are numbers too long to read
        reject("recipe", f"{name}: {error}", "valid TOML", "correct that line")
    return _experiment(Path(name).stem, plain)


def _experiment(name: str, plain: dict[str, Any]) -> Experiment:
    required = {"table", "network", "dataset", "recipe"}
    optional = {"row", "arguments", "finetune", "teacher", *MODES}
    missing, unknown = required - set(plain), set(plain) - required - optional
    if missing or unknown:
        got = f"{name}: missing {sorted(missing) or 'nothing'}, unknown {sorted(unknown) or 'nothing'}"
        reject("recipe", got, f"the keys {sorted(required)} and any of {sorted(optional)}", "correct the file")
    kinds: tuple[tuple[str, type, str], ...] = (
        ("table", int, "a number"), ("network", str, "a name"), ("dataset", str, "a name"),
    )  # fmt: skip
    for key, kind, what in kinds:
        if not isinstance(plain[key], kind) or isinstance(plain[key], bool):
            reject(f"recipe {key}", repr(plain[key])[:200], what, "correct the file")
    modes = {mode: plain[mode] for mode in MODES if mode in plain}
    for section in ("recipe", "finetune", "teacher", *modes):
        if not isinstance(plain.get(section, {}), dict):
            reject("recipe", f"{section} = {plain[section]!r:.200}", f"a section [{section}]", "correct the file")
    for mode, plan in modes.items():
        parts: tuple[tuple[str, type], ...] = (("gammas", list), ("recipe", dict), ("finetune", dict))
        for key, part in parts:
            if not isinstance(plan.get(key, part()), part):
                reject(f"recipe [{mode}] {key}", repr(plan[key])[:200], f"a {part.__name__}", "correct that section")
        strange = set(plan) - {"gammas", "seeds", "recipe", "finetune"}
        seeds = plan.get("seeds")
        if strange or not isinstance(seeds, list) or not seeds:
            reject(
                f"recipe [{mode}]", plan, "seeds = [0, …], and any of gammas, recipe, finetune", "correct that section"
            )
        for seed in seeds:
            as_seed(f"recipe [{mode}] seeds", seed)
    if not isinstance(plain.get("arguments", {}), dict):
        reject("recipe arguments", plain["arguments"], "a table such as { classes = 10 }", "correct the file")
    finetune = Recipe.from_dict({"gamma": 0.0, **plain["finetune"]}) if "finetune" in plain else None
    teacher = Recipe.from_dict({"gamma": 0.0, **plain["teacher"]}) if "teacher" in plain else None
    if bool(finetune and finetune.distill) != (teacher is not None):
        got = f"{name}: {'only' if teacher else 'no'} [teacher]{'' if teacher else ' with distill in [finetune]'}"
        reject("recipe", got, "[teacher] and distill in [finetune], or neither", "complete the file")
    facts = (plain["table"], plain["network"], plain["dataset"], Recipe.from_dict(plain["recipe"]))
    more = (str(plain.get("row", "")), dict(plain.get("arguments", {})), teacher)
    return Experiment(name, *facts, finetune, modes, *more)
