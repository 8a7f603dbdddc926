"""What commands name by a word: networks, trained models, data sets, recipes. Bad names raise InvalidInputError."""

from __future__ import annotations

import importlib
import math
import struct
import sys
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vibtheory.cli.options import about
from vibtheory.errors import CheckpointError, as_whole, check_choice, reject, shown

if TYPE_CHECKING:
    from torch import nn

    from vibtheory.datasets import Dataset
    from vibtheory.training.recipe import Recipe

__all__ = ["NETWORKS", "arguments", "dataset", "network", "places", "recipe", "trained_model"]

NETWORKS = ("lenet_300_100", "lenet_5_caffe", "vgg16_cifar", "vgg19_cifar")
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def network(name: str, arguments: dict[str, Any] | None = None) -> nn.Module:
    """A network of ours by name, with `arguments`, or what `module:factory` returns."""
    if ":" in name:
        return _from_factory("NETWORK", name)
    check_choice("NETWORK", name, [*NETWORKS, "module:factory"])
    from vibtheory import networks

    try:
        built: nn.Module = getattr(networks, name)(**(arguments or {}))
    except TypeError as error:
        reject("--recipe", f"arguments {shown(arguments)} ({error})", f"those of {name}", "correct them in the file")
    return built


def arguments(recipe: str | None, network: str, data: str, option: str = "NETWORK") -> dict[str, Any]:
    """The arguments that the table file named by --recipe has for the network; {} where it has none.

    A network or data of the user's own (`module:factory`, .npz) may follow any recipe; `option` names the network. A
    part of the data set that the file names is refused: it would be dropped.
    """
    from vibtheory.studies.experiments import experiment, read_toml

    if recipe is None:
        return {}
    own = read_toml("--recipe", recipe) if Path(recipe).is_file() else None
    if own is not None and not {"network", "dataset", "arguments"} & set(own):
        return {}  # settings alone
    plan = experiment(recipe)
    remedy = f"name that one, or put the settings [recipe] of {recipe} alone into a file"
    if ":" not in network and network != plan.network:
        reject(option, network, f"{plan.network}, which {recipe} is for", remedy)
    if not data.endswith(".npz") and data != plan.dataset:
        reject("--data", data, f"{plan.dataset}, which {recipe} is for", remedy)
    parts = [f"{name} = {getattr(plan, name)}" for name in ("held_out", "examples") if getattr(plan, name)]
    if parts and not data.endswith(".npz"):
        reject("--recipe", f"{recipe} with {' and '.join(parts)}", "a recipe for the whole data set",
               f"run vibtheory table {plan.table} --network {recipe}, or put [recipe] alone into a file")  # fmt: skip
    return plan.arguments if network == plan.network else {}


def trained_model(name: str, state: Path | None = None) -> tuple[nn.Module, str | None]:
    """A trained network, and the name of the data set it was trained on where that is recorded.

    Args:
        name: folder of a saved run, or `module:factory`.
        state: for a factory: its weights as a safetensors file, or the folder of a run of that network. None: the
            factory returns the trained network.
    """
    from vibtheory.training.run import load

    if Path(name).is_dir():
        if state is not None:
            reject("--state", state, "none with a saved run", "leave it out: the folder holds the weights")
        try:
            with about("MODEL"):
                run = load(name)
        except CheckpointError as error:
            if "of your own" not in str(error):
                raise
            reject("MODEL", f"{name}, a run of a network of your own", "a run of one of ours, or what builds yours",
                   f"pass module:factory, and --state {name}")  # fmt: skip
        return run.net, run.data
    if ":" not in name:
        reject("MODEL", name, "the folder of a saved run, or module:factory", "train first, or correct the path")
    net = _from_factory("MODEL", name)
    if state is not None and state.is_dir():
        with about("--state"):
            run = load(state, net)
        return run.net, run.data
    if state is not None:
        _fill(net, state)
    return net.eval(), None


def places(net: nn.Module, where: list[str] | None) -> dict[str, Any]:
    """--where as `insert_gates` takes it: {} without one; its entries "NAME", "NAME=KIND", "NAME,option=value"."""
    from vibtheory.networks.gates import named_gates

    if not where:
        return {}
    if named_gates(net):
        reject("--where", ", ".join(where), "a model without gates", "leave it out: this model has its gates already")
    rules: dict[str, dict[str, Any]] = {}
    for entry in where:
        head, *options = entry.split(",")
        name, _, kind = head.partition("=")
        if not name or not all(option.partition("=")[2] for option in options):
            reject("--where", repr(entry), "NAME, NAME=KIND or NAME,option=value", 'write --where "rnn,axis=-1", say')
        rules[name] = {"kind": kind} if kind else {}
        for key, _, value in (option.partition("=") for option in options):
            try:
                rules[name][key] = int(value) if value.lstrip("-").isdigit() else float(value)
            except ValueError:  # a word
                rules[name][key] = value
    return {"where": rules}


# Whatever a caller's own module may end in, sys.exit included.
_MODEL_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, NameError, OSError,
    RuntimeError, StopIteration, SyntaxError, SystemExit, TypeError, ValueError,
)  # fmt: skip


def _from_factory(argument: str, name: str) -> nn.Module:
    from torch import nn

    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the caller's folder, as with `python -m`
    remedy = "name a function without arguments that returns a torch module, as module:function"
    try:
        net = getattr(importlib.import_module(module_name), attribute)()
    except _MODEL_ERRORS as error:  # `--debug` shows where in the caller's code
        reject(argument, f"{name} ({type(error).__name__}: {error})", "an importable module:factory", remedy)
    if not isinstance(net, nn.Module):
        reject(argument, f"{name}, which returned {type(net).__name__}", "a torch module", remedy)
    return net


def _fill(net: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        _check_regular(path)
        tensors = load_file(path)
        strange = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
        if strange:
            raise ValueError(f"NaN or infinite entries in {', '.join(strange)}")
        net.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, KeyError) as error:
        detail = " ".join(str(error).split())
        raise CheckpointError(
            f"--state: {path} does not fit the model ({detail}), expected its state dict in safetensors. "
            "Remedy: save it with safetensors.torch.save_file(model.state_dict(), path); pickles are not read"
        ) from error


def dataset(name: str, root: Path | None = None, examples: int | None = None, seed: int = 0) -> Dataset:
    """A data set by name, or one's own arrays from an `.npz` file; `examples`: a random part of its training split.

    The file holds x_train, y_train, x_test, y_test; real-valued targets mean regression.
    """
    from vibtheory import datasets
    from vibtheory.datasets.catalogue import CATALOGUE

    if name.endswith(".npz"):
        data = _own_arrays(Path(name))
    else:
        check_choice("--data", name, [*CATALOGUE, "an .npz file"])
        data = datasets.load(name, root)
    if examples is None:
        return data
    most = len(data.x_train)
    return data.subset(as_whole("--examples", examples, 1, most, "leave it out for all of them"), seed=seed)


def _own_arrays(path: Path) -> Dataset:
    import numpy as np

    from vibtheory import datasets
    from vibtheory.datasets.catalogue import CATALOGUE

    try:
        _check_regular(path)
        _check_declared(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in _ARRAYS}
    except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError, MemoryError,
            SyntaxError, OverflowError, tokenize.TokenError, struct.error, zlib.error,
            zipfile.BadZipFile) as error:  # fmt: skip
        reject("--data", f"{path} ({error})", f"a file with the arrays {', '.join(_ARRAYS)}",
               "write it with numpy.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)")  # fmt: skip
    regression = np.issubdtype(arrays["y_train"].dtype, np.floating)
    name = path.name if path.stem in CATALOGUE else path.stem  # a run that records "mnist" is checked on MNIST
    return datasets.from_arrays(
        *(arrays[key] for key in _ARRAYS), likelihood="gaussian" if regression else "multinomial", name=name
    )


def _check_regular(path: Path) -> None:
    """Raise ValueError for what is no file on a disk: opening a named pipe would wait for ever."""
    if path.exists() and not path.is_file():  # a missing file is for `open` to report
        raise ValueError("not a regular file")


def _check_declared(path: Path) -> None:
    """Raise ValueError where a member's header declares more than its bytes can hold, before memory is reserved."""
    from numpy.lib import format as npy

    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    with zipfile.ZipFile(path) as archive:
        for name in _ARRAYS:
            info = archive.getinfo(f"{name}.npy")
            with archive.open(info) as member:
                version = npy.read_magic(member)
                if version not in readers:
                    raise ValueError(f"{name}: npy version {version}")
                shape, _, dtype = readers[version](member)
            declared = math.prod(shape) * dtype.itemsize
            most = min(info.file_size, 1100 * info.compress_size + 1000)  # deflate shrinks 1032 : 1 at most
            if declared > most:
                raise ValueError(f"{name}: shape {shape} of {dtype} needs {declared} bytes, at most {most} are there")


def recipe(name: str | None) -> Recipe:
    """A packaged recipe by name, or a TOML file: its [recipe] section, or the whole file; None: the default recipe."""
    from vibtheory.studies.experiments import experiment, read_toml
    from vibtheory.training.recipe import Recipe

    if name is None:
        return Recipe()
    if not Path(name).is_file():
        return experiment(name).recipe
    plain = read_toml("--recipe", name)
    section = plain.get("recipe", plain)
    if not isinstance(section, dict):
        reject("--recipe", f"recipe = {shown(section)}", "a section [recipe]", f"put the settings of {name} under it")
    return Recipe.from_dict(section)
