"""ONNX export of a (compressed) network, checked against onnxruntime before the file is put in place."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.errors import (
    MissingDependencyError,
    VibTheoryError,
    as_path,
    as_scalar,
    as_torch_seed,
    check_type,
    reject,
)
from vibtheory.networks.forward import as_example, copy_of, embeddings, in_float64, precision_of, run_on
from vibtheory.networks.gates import named_gates
from vibtheory.storage import write_bytes

__all__ = ["ExportReport", "checked_target", "compared", "export_onnx"]


@dataclass(frozen=True)
class ExportReport:
    """What was written and how well it agrees with torch, run by onnxruntime or compiled.

    Attributes:
        path: the ONNX or C file.
        bytes: its size.
        opset: ONNX operator set; None: a C file.
        max_deviation: largest deviation from torch on these examples, in units of the output.
        examples: random examples compared.
        batch: the number of examples that the file takes, where the model writes it into its arithmetic (`len(x)`);
            None: any.
    """

    path: Path
    bytes: int
    opset: int | None
    max_deviation: float
    examples: int
    batch: int | None = None

    def __str__(self) -> str:
        form, runs = ("C11", "compiled") if self.opset is None else (f"opset {self.opset}", "onnxruntime")
        return (
            f"{self.path}: {self.bytes / 1024:.1f} KiB, {form}; "
            f"{runs} within {self.max_deviation:.1e} of torch on {self.examples} random examples"
            + ("" if self.batch is None else f"; for batches of {self.batch} only")
        )


def checked_target(model: nn.Module, path: str | Path) -> Path:
    """`path`, where a file can be written of a model without gates. Raises InvalidInputError otherwise."""
    check_type("model", model, nn.Module, "pass the network itself")
    path = as_path("path", path, "pass that of a file, such as net.onnx")
    if named_gates(model):
        reject("model", f"{type(model).__name__} with gates", "a network without gates", "export vt.compress(net)")
    if not path.parent.is_dir():
        reject("path", str(path), "a file in a folder that exists", f"create {path.parent}")
    if path.exists() and not path.is_file():
        reject("path", str(path), "a file, new or old", "name the file to write, such as net.onnx")
    return path


def export_onnx(
    model: nn.Module,
    example_input: Tensor,
    path: str | Path,
    *,
    opset: int = 17,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> ExportReport:
    """Write `model.eval()` as ONNX; the file appears only after the check has passed.

    The batch size is free, unless the model works only at the example's once traced (the report says so).

    Args:
        model: a network without gates, as `vibtheory.compress` returns; unchanged.
        example_input: one batch [N, ...], for the shape and type.
        path: the file to write; its folder must exist.
        opset: ONNX operator set.
        tolerance: largest accepted deviation relative to the largest output, beyond torch's own rounding.
        seed: of the random inputs that are compared.

    Raises:
        InvalidInputError: `model` has gates or returns no tensor, the folder does not exist, or `path` is no file.
        MissingDependencyError: onnx or onnxruntime is not installed.
        VibTheoryError: the model cannot be written as ONNX, onnxruntime disagrees with torch, or the file cannot be
            written; in each case the old file, if any, stays.
    """
    onnx, runtime = _library("onnx"), _library("onnxruntime")
    path, tolerance = checked_target(model, path), as_scalar("tolerance", tolerance)
    plain = copy_of(model).eval().cpu()
    example, *more = as_example(example_input, plain)
    if more:
        reject("example_input", f"{1 + len(more)} inputs", "one batch [N, ...]", "wrap the model so that it splits one")
    example = example.detach().cpu()
    output = run_on(plain, (example.clone(),))
    if not isinstance(output, Tensor):
        reject("model", f"{type(model).__name__} that returns a {type(output).__name__}", "one tensor",
               "wrap the model so that it returns the output to export")  # fmt: skip
    generator = torch.Generator().manual_seed(as_torch_seed("seed", seed, "inputs that test an export"))
    for free in (True, False):
        examples = len(example) + 3 if free else len(example)  # another batch size than the example's
        shape = (examples, *example.shape[1:])
        if embeddings(plain) and not bool((example % 1).any()):  # tokens: the example's own, each place on its own
            x = example.gather(0, torch.randint(len(example), shape, generator=generator))
        else:
            x = torch.randn(shape, generator=generator).to(example.dtype)
        try:
            content = _traced(plain, example, opset, free)
            onnx.checker.check_model(onnx.load_model_from_string(content))
            quiet = runtime.SessionOptions()
            quiet.log_severity_level = 4  # what fails here is said below, or tried again
            session = runtime.InferenceSession(content, quiet, providers=["CPUExecutionProvider"])
            deviation, excess = compared(plain, partial(_run, session), x, tolerance)
            break
        except MemoryError:
            raise
        except Exception as error:  # each of the three libraries has errors of its own, derived from nothing in common
            if free:
                continue
            detail = " ".join(str(error).split())[:300]
            raise VibTheoryError(
                f"model: {type(model).__name__} cannot be written as ONNX ({type(error).__name__}: {detail}), expected "
                f"operators of opset {opset}. Remedy: try another opset, a copy in float32, or rewrite that part"
            ) from error
    if excess:
        raise VibTheoryError(f"model: onnxruntime {excess}. Remedy: try another opset, or rewrite that part")
    write_bytes(path, content)
    return ExportReport(path, len(content), opset, deviation, examples, None if free else examples)


def compared(
    plain: nn.Module, run: Callable[[Tensor], NDArray[Any]], x: Tensor, tolerance: float
) -> tuple[float, str | None]:
    """The largest deviation of `run` from `plain` on x; and how far it is too much there, or on inputs far from 0.

    Those show what is saturated or balanced at first: an activation's tail, a divisor. What rounding does to `plain`
    itself, seen in float64, and ten times that, is no deviation.

    Args:
        plain: the model. run: the same from a file. x: inputs [N, ...]. tolerance: relative to the largest output.

    Raises:
        ValueError: the shapes differ.
    """
    exact, real, found = in_float64(plain, x), x.is_floating_point(), []
    kind = precision_of(exact) if real else x.dtype
    for inputs in (x, 10 * x, 100 * x) if real and not embeddings(plain) else (x,):
        with torch.no_grad():  # a first layer may work in place
            wanted = plain(inputs.clone()).double().numpy()
            truth = exact(inputs.to(kind, copy=True)).double().numpy()
        got = run(inputs)
        if got.shape != wanted.shape:
            raise ValueError(f"outputs {list(got.shape)} for {list(wanted.shape)}")
        overflown = np.isfinite(truth) & ~np.isfinite(wanted)  # in the model's own precision
        gap = np.where(overflown, 0, _gap(got, wanted))
        # float64 may be the one that fails
        rounding = np.where(np.isfinite(truth) & ~overflown, _gap(truth, wanted), 0)
        largest = np.abs(wanted, where=np.isfinite(wanted), out=np.zeros_like(wanted)).max()
        found.append(float(gap.max()))
        if not found[-1] <= tolerance * largest + 10 * rounding.max():
            return found[0], f"differs from torch by {found[-1]:.2g}, expected at most {tolerance:g} (relative)"
    return found[0], None


def _run(session: Any, x: Tensor) -> NDArray[Any]:
    (output,) = session.run(None, {"input": x.numpy()})
    return np.asarray(output)


def _gap(got: NDArray[Any], wanted: NDArray[Any]) -> NDArray[Any]:
    """|got - wanted|, 0 where both are the same infinity, or no number."""
    with np.errstate(invalid="ignore"):
        return np.where((got == wanted) | (np.isnan(got) & np.isnan(wanted)), 0, np.abs(got - wanted))


def _traced(plain: nn.Module, example: Tensor, opset: int, free: bool) -> bytes:
    """The file's content, by the exporter without onnxscript: tracing is all that a feed-forward network needs."""
    content = BytesIO()
    # its log, which it turns on itself, prints whole graphs on stdout where it fails: the error says what failed
    with warnings.catch_warnings(), patch.object(torch._C, "_jit_onnx_log", lambda *_: None, create=True):
        warnings.simplefilter("ignore", DeprecationWarning)  # of the exporter itself
        torch.onnx.export(
            nn.Sequential(plain).eval(),  # one input: the exporter would give other arguments their defaults as tensors
            (example,),
            content,  # type: ignore[arg-type]  # its annotation is of the other exporter
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}} if free else None,
            opset_version=opset,
            dynamo=False,
        )
    return content.getvalue()


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise MissingDependencyError(
            f'{name}: not installed, needed for ONNX export. Remedy: pip install "vibtheory[export]"'
        ) from missing
