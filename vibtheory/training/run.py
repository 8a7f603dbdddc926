"""A finished (or stopped) training run: its network, recipe and history; saved as safetensors + JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vibtheory.compression.evaluation import evaluate
from vibtheory.compression.metrics import size_row
from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import CheckpointError, as_path
from vibtheory.networks.gates import gate_information, named_gates
from vibtheory.networks.registry import build, description
from vibtheory.networks.streams import random_state_kept
from vibtheory.storage import locked, read_state, write_state
from vibtheory.training.checkpoint import net_fingerprint
from vibtheory.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "load"]

_MODULES = f"modules (torch {torch.__version__})"  # another torch may print them otherwise


@dataclass(frozen=True, eq=False)
class Run:
    """What `train` returns.

    Attributes:
        net: the trained network, in evaluation mode.
        recipe: how it was trained.
        seed: of every random number.
        status: "completed", or "collapsed" where a layer lost all its units and training stopped early.
        message: the same in words, with the remedy.
        rows: history, one dictionary per epoch; `history` is the same as a table.
        data: name of the data set.
    """

    net: nn.Module
    recipe: Recipe
    seed: int
    status: str
    message: str
    rows: list[dict[str, Any]]
    data: str

    @property
    def history(self) -> pd.DataFrame:
        """A row per epoch: phase, cross_entropy and information (the gates' penalty) in nats; error, r_w in percent.

        cross_entropy: mean over the training examples, each in its own step of the epoch, with noise at the gates.
        """
        import pandas as pd

        return pd.DataFrame(self.rows)

    def __str__(self) -> str:
        last = self.rows[-1] if self.rows else {}
        found = {key: last.get(key) for key in ("error", "cross_entropy", "information", "r_w")}
        facts = [f"{key} {value:.4g}" for key, value in found.items() if value is not None]  # regression has no error
        return (
            f"Run on {self.data}, seed {self.seed}: {self.message}; after {len(self.rows)} epochs: {', '.join(facts)}"
        )

    def save(self, folder: str | Path) -> Path:
        """Write weights and description into `folder`, atomically; returns it. Read back with `vibtheory.load`.

        The weights are the net's `state_dict`: buffers with `persistent=False` are not in it.

        Raises:
            InvalidInputError: `folder` is no path, or the `state_dict` has more than tensors (`get_extra_state`).
            VibTheoryError: the folder cannot be written, or another run holds it.
        """
        folder = as_path("folder", folder, "pass that of a folder, such as runs/a")
        with locked(folder):
            write_state(folder, "run", self.net.state_dict(), describe(self))
        return folder


def finished(net: nn.Module, recipe: Recipe, seed: int, rows: list[dict[str, Any]], data: Dataset) -> Run:
    """The Run of a net that has been trained, or has collapsed, with `rows` as its history.

    The net notes the price of its last epoch.
    """
    last = rows[-1] if rows else {}
    dead = [name for name in named_gates(net) if last.get(f"kept_{name}") == 0 and last.get("phase") != "pretrain"]
    status, message = "completed", "completed"
    if dead:
        status = "collapsed"
        message = f"collapsed: no unit of {', '.join(dead)} survived; use a smaller gamma, or warmup_epochs"
    _note(net, recipe, rows, data.likelihood)
    return Run(net.eval(), recipe, seed, status, message, rows, data.name)


def measured(net: nn.Module, test: tuple[Tensor, Tensor] | None, likelihood: str) -> dict[str, Any]:
    """What a row of the history says of `net`: information and kept units, and on `test` (x, y) loss, error and r_W."""
    information = gate_information(net)
    row: dict[str, Any] = {"information": sum(information.values())}
    row |= {f"information_{name}": value for name, value in information.items()}
    row |= {f"kept_{name}": int(gate.keep.sum()) for name, gate in named_gates(net).items()}
    if test is not None:
        result = evaluate(net, *test, likelihood=likelihood)
        row |= {"test_loss": result.loss, "error": result.error, **size_row(net, test[0].shape[1:])}
    return row


def _note(net: nn.Module, recipe: Recipe, rows: list[dict[str, Any]], likelihood: str) -> None:
    """Note the likelihood, and the price of the last epoch with gates (warmed up or relaxed); the full one if none."""
    gated = sum(row.get("phase") != "pretrain" for row in rows)
    gamma = recipe.price(gated - 1) if gated else recipe.layer_gamma
    object.__setattr__(net, "vib_config", {"gamma": gamma, "likelihood": likelihood})


def describe(run: Run) -> dict[str, Any]:
    """Plain JSON types: everything about `run` but its tensors."""
    return {
        "format": 1,
        "network": description(run.net),
        _MODULES: net_fingerprint(run.net, state=False),
        "recipe": run.recipe.to_dict(),
        "seed": run.seed,
        "status": run.status,
        "message": run.message,
        "data": run.data,
        "likelihood": getattr(run.net, "vib_config", {}).get("likelihood"),
        "history": run.rows,
    }


def load(folder: str | Path, net: nn.Module | None = None) -> Run:
    """The run that `Run.save` wrote into `folder`.

    Args:
        folder: as given to `save`.
        net: a network of the same architecture, needed where it is not one of `vibtheory.networks`; filled in place.

    Raises:
        InvalidInputError: `folder` is no path.
        CheckpointError: no run in `folder`, an unreadable one, or one of another architecture.
    """
    found = read_state(as_path("folder", folder, "pass what Run.save was given"), "run")
    if found is None:
        raise CheckpointError(
            f"folder: no run.json in {folder}, expected what Run.save wrote. Remedy: train first, or correct the path"
        )
    tensors, plain = found
    try:
        _check_types(plain)
        if net is None:
            net = _rebuilt(plain["network"], tensors)
        net.load_state_dict(tensors)
        if plain.get(_MODULES) not in (None, net_fingerprint(net, state=False)):
            raise ValueError("its layers, or its gates' options, are not those that were trained")
        recipe = Recipe.from_dict(plain["recipe"])
        run = Run(net.eval(), recipe, plain["seed"], plain["status"], plain["message"], plain["history"], plain["data"])
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        detail = " ".join(str(error).split())[:300]  # which gates are missing, too
        raise CheckpointError(
            f"folder: {folder} does not hold a run of this network ({detail}), expected its own architecture. "
            "Remedy: pass net=… built as it was for training, or choose the right folder"
        ) from error
    _note(net, recipe, run.rows, plain["likelihood"])
    return run


def _check_types(plain: dict[str, Any]) -> None:
    """Raise TypeError where the description's entries have other types than `describe` writes."""
    for key, kind in (("seed", int), ("status", str), ("message", str), ("data", str), ("history", list)):
        if not isinstance(plain[key], kind):
            raise TypeError(f"{key} is {plain[key]!r:.80}")
    for row in plain["history"]:
        if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
            raise TypeError(f"a row of the history is {row!r:.80}")
        for key in ("error", "cross_entropy", "information", "r_w"):
            if not isinstance(row.get(key, 0.0), int | float):
                raise TypeError(f"{key} in the history is {row[key]!r:.80}")
    if plain["likelihood"] not in ("multinomial", "gaussian", None):
        raise TypeError(f"likelihood is {plain['likelihood']!r:.80}")


def _rebuilt(network: Any, tensors: dict[str, Tensor]) -> nn.Module:
    """The described network; memory is reserved for it only once its shapes are those of the tensors at hand."""
    arguments = network.get("arguments") if isinstance(network, dict) else None
    lists = [value for value in arguments.values() if isinstance(value, list)] if isinstance(arguments, dict) else []
    if any(len(value) > len(tensors) for value in lists):
        raise ValueError(f"it describes more layers than its {len(tensors)} tensors")
    with torch.device("meta"):  # shapes only
        shapes = {name: tensor.shape for name, tensor in build(network).state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise ValueError("its tensors have other names or shapes than the network that it describes")
    with random_state_kept():  # its fresh weights are overwritten
        return build(network)
