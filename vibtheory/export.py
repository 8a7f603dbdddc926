"""ONNX export of a (compressed) network, checked against onnxruntime before the file is put in place."""

from __future__ import annotations

import copy
import importlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from vibtheory.errors import MissingDependencyError, VibTheoryError, reject
from vibtheory.gates import named_gates

__all__ = ["ExportReport", "export_onnx"]


@dataclass(frozen=True)
class ExportReport:
    """What was written and how well onnxruntime agrees with torch.

    Attributes:
        path: the ONNX file.
        bytes: its size.
        opset: ONNX operator set.
        max_deviation: largest |onnxruntime − torch| over the checked outputs, in units of the output.
        examples: random examples compared.
    """

    path: Path
    bytes: int
    opset: int
    max_deviation: float
    examples: int

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.bytes / 1024:.1f} KiB, opset {self.opset}; "
            f"onnxruntime within {self.max_deviation:.1e} of torch on {self.examples} random examples"
        )


def export_onnx(
    model: nn.Module,
    example_input: Tensor,
    path: str | Path,
    *,
    opset: int = 17,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> ExportReport:
    """Write `model.eval()` as ONNX with a free batch size; the file appears only after the check has passed.

    Args:
        model: a network without gates, as `vibtheory.compress` returns; unchanged.
        example_input: one batch [N, ...], for the shape and type.
        path: the file to write; its folder must exist.
        opset: ONNX operator set.
        tolerance: largest accepted deviation relative to the largest output (at least 1).
        seed: of the random inputs that are compared.

    Raises:
        InvalidInputError: `model` still has gates, or the folder does not exist.
        MissingDependencyError: onnx or onnxruntime is not installed.
        VibTheoryError: onnxruntime disagrees with torch; nothing is written.
    """
    onnx, runtime = _library("onnx"), _library("onnxruntime")
    path = Path(path)
    if named_gates(model):
        reject("model", f"{type(model).__name__} with gates", "a network without gates", "export vt.compress(net)")
    if not path.parent.is_dir():
        reject("path", str(path), "a file in a folder that exists", f"create {path.parent}")
    plain = copy.deepcopy(model).eval().cpu()
    example = example_input.detach().cpu()
    generator = torch.Generator().manual_seed(seed)
    handle, name = tempfile.mkstemp(suffix=".onnx", dir=path.parent)
    os.close(handle)
    try:
        # The exporter without onnxscript: it traces, which is all that a feed-forward network needs.
        torch.onnx.export(
            plain,
            (example,),
            name,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            opset_version=opset,
            dynamo=False,
        )
        onnx.checker.check_model(onnx.load(name))
        session = runtime.InferenceSession(name, providers=["CPUExecutionProvider"])
        examples = len(example) + 3  # another batch size than the example's
        x = torch.randn((examples, *example.shape[1:]), generator=generator).to(example.dtype)
        with torch.no_grad():
            wanted = plain(x).numpy()
        (got,) = session.run(None, {"input": x.numpy()})
        deviation = float(np.abs(got - wanted).max())
        if not deviation <= tolerance * max(1.0, float(np.abs(wanted).max())):
            raise VibTheoryError(
                f"model: onnxruntime differs from torch by {deviation:.2g}, expected at most {tolerance:g} (relative). "
                "Remedy: try another opset"
            )
        size = Path(name).stat().st_size
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    return ExportReport(path, size, opset, deviation, examples)


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise MissingDependencyError(
            f'{name}: not installed, needed for ONNX export. Remedy: pip install "vibtheory[export]"'
        ) from missing
