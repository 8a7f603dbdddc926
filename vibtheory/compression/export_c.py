"""A compressed chain as one C file without any library: nothing runs but its arithmetic, on a board too.

What is left of a LeNet takes a microsecond, less than it takes to enter a runtime: only so does its latency follow its
multiply-adds (benchmarks/latency.py).
"""

from __future__ import annotations

import copy
import ctypes
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.compression.export import ExportReport, checked_target
from vibtheory.compression.fixed_modules import FixedScale, Select
from vibtheory.errors import MissingDependencyError, VibTheoryError, as_torch_seed, reject
from vibtheory.networks.forward import as_example
from vibtheory.storage import write_bytes

__all__ = ["compiled", "export_c"]

_MANY, _GROUPS, _MAPS = 16, 8, 4  # as in plain.c
_PASSED = (nn.Identity, nn.Dropout, nn.Dropout2d)
_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "v > 0 ? v : 0",
    nn.Tanh: "tanhf(v)",
    nn.Sigmoid: "1 / (1 + expf(-v))",
    nn.SiLU: "v / (1 + expf(-v))",
}


def export_c(
    model: nn.Module,
    example_input: Tensor,
    path: str | Path,
    *,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> ExportReport:
    """Write `model.eval()` as a C file; it appears only after, compiled, it has given the model's outputs.

    The file holds the weights and one function, `void NAME(const float *x, float *y, long n)`, NAME being the file's.
    It needs a C11 compiler with GNU's vector types (gcc, clang).

    Args:
        model: a Sequential without gates, as `vibtheory.compress` returns for chains; unchanged. Linear layers, plain
            convolutions, BatchNorm, max and average pooling, Flatten, ReLU, Tanh, Sigmoid, SiLU.
        example_input: one batch [N, ...], for the shape.
        path: the file to write, a C identifier with the ending .c; its folder must exist.
        tolerance: largest accepted deviation relative to the largest output (at least 1).
        seed: of the random inputs that are compared.

    Raises:
        InvalidInputError: a module that is not in the list, gates, another path.
        MissingDependencyError: no C compiler: neither $CC nor cc, gcc or clang on the path.
        VibTheoryError: the compiled file differs from the model, or cannot be written; the old file, if any, stays.
    """
    path = checked_target(model, path)
    if path.suffix != ".c" or not (path.stem.isidentifier() and path.stem.isascii()):
        reject("path", str(path), "a C identifier with the ending .c", "name it such as net.c: its function is net")
    plain = copy.deepcopy(model).eval().cpu().float()
    example, *more = as_example(example_input, plain)
    if more:
        reject("example_input", f"{1 + len(more)} inputs", "one batch [N, ...]", "pass one tensor")
    generator = torch.Generator().manual_seed(as_torch_seed("seed", seed, "inputs that test an export"))
    x = torch.randn((len(example) + 3, *example.shape[1:]), generator=generator)
    content = _Writer(plain, x).content(path.stem)
    with torch.no_grad():
        wanted = plain(x).numpy()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / path.name).write_text(content, encoding="utf-8")
        got = compiled(Path(folder) / path.name, wanted.shape[1])(x.numpy())
    deviation = float(np.abs(got - wanted).max())
    if not deviation <= tolerance * max(1.0, float(np.abs(wanted).max())):
        raise VibTheoryError(
            f"model: the compiled C file differs from torch by {deviation:.2g}, expected at most {tolerance:g} "
            "(relative). Remedy: report it with the model"
        )
    write_bytes(path, content.encode())
    return ExportReport(path, len(content), None, deviation, len(x))


def compiled(path: str | Path, outputs: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The file of `export_c` at `path` as a function here: x [n, ...] → [n, outputs], on one thread.

    Raises MissingDependencyError without a C compiler, and VibTheoryError where it refuses the file.
    """
    path = Path(path)
    names = (os.environ.get("CC"), "cc", "gcc", "clang")
    compiler = next((found for name in names if name and (found := shutil.which(name))), None)
    if compiler is None:
        raise MissingDependencyError("cc: no C compiler found, needed to check a C file. Remedy: install gcc or clang")
    with tempfile.TemporaryDirectory() as folder:  # the library stays loaded when its file is gone
        library = str(Path(folder) / "net.so")
        how = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
        words = [compiler, *how, str(path), "-o", library, "-lm"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise VibTheoryError(
                f"{path}: {compiler} refuses it: {done.stderr[:300]}. Remedy: try another name for it, gcc or clang"
            )
        function = ctypes.CDLL(library)[path.stem]
    function.restype, function.argtypes = None, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)

    def call(x: NDArray[np.float32]) -> NDArray[np.float32]:
        x, y = np.ascontiguousarray(x, dtype=np.float32), np.empty((len(x), outputs), np.float32)
        function(x.ctypes.data, y.ctypes.data, len(x))
        return y

    return call


class _Writer:
    """The C text of a chain: constants, then one call after the other between two buffers."""

    def __init__(self, plain: nn.Module, x: Tensor) -> None:
        if not isinstance(plain, nn.Sequential):
            reject("model", type(plain).__name__, "a torch.nn.Sequential", "use export_onnx")
        self._constants: list[str] = []
        self._calls: list[str] = []
        self._now, self._sizes = "x", [math.prod(x.shape[1:])]
        self._past = 0  # so many numbers behind its input's end a convolution may read, and not use
        with torch.no_grad():
            for module in _leaves(plain):
                shape, x = list(x.shape[1:]), module(x)
                self._add(module, shape, list(x.shape[1:]))
                self._sizes.append(x[0].numel())
        if x.ndim != 2:
            reject("model", f"outputs {list(x.shape)}", "outputs [N, K]", "add nn.Flatten() at its end")

    def content(self, name: str) -> str:
        """The whole file."""
        room = max(self._sizes) + self._past
        head = resources.files("vibtheory.compression").joinpath("plain.c").read_text()
        ends = {"NAME": name, "INPUTS": str(self._sizes[0]), "OUTPUTS": str(self._sizes[-1])}
        for word, value in {"PROVENANCE": "written by vibtheory.compression.export_c", **ends}.items():
            head = head.replace(word, value)
        body = "\n".join(f"  {line}" for line in self._calls)
        return (
            f"{head}\n{''.join(self._constants)}\nstatic HERE ALIGNED float first[{room}], second[{room}];\n\n"
            f"INLINE void one(const float *x, float *y, float *a, float *b) {{\n{body}\n"
            f"  __builtin_memcpy(y, {self._now}, {4 * self._sizes[-1]});\n}}\n\n"
            f"void {name}(const float *x, float *y, long n) {{\n  float *a = first, *b = second;\n"
            f"  for (long i = 0; i < n; i++) one(x + i * {self._sizes[0]}, y + i * {self._sizes[-1]}, a, b);\n}}\n"
        )

    def _add(self, module: nn.Module, shape: list[int], after: list[int]) -> None:
        positions = math.prod(shape[1:])
        whole = isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
        if whole or isinstance(module, _PASSED):
            return  # units stand before positions anyway
        if isinstance(module, nn.Linear) and len(shape) == 1:
            self._linear(module)
        elif isinstance(module, nn.Conv2d) and module.groups == 1 and set(module.dilation) == {1}:
            self._convolution(module, shape, after)
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and _whole(module):
            sizes = (*_pair(module.kernel_size), *_pair(module.stride), int(isinstance(module, nn.MaxPool2d)))
            self._call("pool", *shape, *sizes)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is not None:
            assert module.running_mean is not None
            weight = torch.ones(shape[0]) if module.weight is None else module.weight
            by = weight / (module.running_var + module.eps).sqrt()
            plus = -by * module.running_mean + (0 if module.bias is None else module.bias)
            self._scaled(by, plus, shape[0], positions)
        elif isinstance(module, FixedScale) and module.axis == 1:
            self._scaled(module.weight, torch.zeros(shape[0]), shape[0], positions)
        elif isinstance(module, Select) and module.axis == 1:
            self._call("choose", self._constant(module.index), len(module.index), positions)
        elif type(module) in _ACTIVATIONS:
            self._own()
            formula = _ACTIVATIONS[type(module)]
            here = f"{self._now}[i]"
            loop = f"for (int i = 0; i < {math.prod(shape)}; i++)"
            self._calls.append(f"{loop} {{ float v = {here}; {here} = {formula}; }}")
        else:
            known = "ungrouped convolutions, linear layers, BatchNorm, pooling without padding, " + ", ".join(
                kind.__name__ for kind in _ACTIVATIONS)  # fmt: skip
            reject("model", str(module), f"a chain of {known}", "use export_onnx")

    def _linear(self, module: nn.Linear) -> None:
        source, target = self._now, self._next()
        weight, bias = _filled(module.weight, _MANY), _filled(_bias(module), _MANY)
        most = _MANY * _GROUPS
        for start in range(0, len(weight), most):
            part = weight[start : start + most]
            constants = self._constant(part.T), self._constant(bias[start : start + most])
            kept = min(most, module.out_features - start)
            sizes = module.in_features, kept, len(part) // _MANY
            self._calls.append(f"linear({source}, {target} + {start}, {', '.join(map(str, (*constants, *sizes)))});")

    def _convolution(self, module: nn.Conv2d, shape: list[int], after: list[int]) -> None:
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            reject("model", str(module), "padding by zeros, in numbers", "use export_onnx")
        above, left = module.padding
        if above or left:
            self._call("pad", *shape, above, left)
            shape = [shape[0], shape[1] + 2 * above, shape[2] + 2 * left]
            self._sizes.append(math.prod(shape))
        elif self._now == "x":
            self._call("pad", *shape, 0, 0)  # into a buffer that may be read a little past its end
        self._past = max(self._past, _MANY // 2 * module.stride[1])
        source, target = self._now, self._next()
        weight, bias = _filled(module.weight, _MAPS), _filled(_bias(module), _MAPS)
        for start in range(0, len(weight), _MAPS):
            constants = (self._constant(weight[start : start + _MAPS].permute(1, 2, 3, 0)),
                         self._constant(bias[start : start + _MAPS]))  # fmt: skip
            kept = min(_MAPS, module.out_channels - start)
            sizes = *shape, kept, *module.kernel_size, *module.stride
            place = f"{target} + {start * math.prod(after[1:])}"
            self._calls.append(f"convolution({source}, {place}, {', '.join(map(str, (*constants, *sizes)))});")

    def _scaled(self, by: Tensor, plus: Tensor, units: int, positions: int) -> None:
        self._own()
        self._calls.append(f"scale({self._now}, {self._constant(by)}, {self._constant(plus)}, {units}, {positions});")

    def _call(self, name: str, *arguments: Any) -> None:
        source, target = self._now, self._next()
        self._calls.append(f"{name}({source}, {target}, {', '.join(map(str, arguments))});")

    def _next(self) -> str:
        self._now = "b" if self._now == "a" else "a"
        return self._now

    def _own(self) -> None:
        """What is changed in place is not the caller's."""
        if self._now == "x":
            self._calls.append(f"__builtin_memcpy(a, x, {4 * self._sizes[0]});")
            self._now = "a"

    def _constant(self, values: Tensor) -> str:
        name, flat = f"c{len(self._constants)}", values.detach().flatten().tolist()
        kind = "float" if values.is_floating_point() else "int"
        self._constants.append(f"static const ALIGNED {kind} {name}[] = {{{','.join(f'{v:.9g}' for v in flat)}}};\n")
        return name


def _leaves(net: nn.Sequential) -> list[nn.Module]:
    return [leaf for module in net for leaf in (_leaves(module) if isinstance(module, nn.Sequential) else [module])]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _whole(pool: nn.MaxPool2d | nn.AvgPool2d) -> bool:
    """Whether each window lies in the map, without gaps in it."""
    plain = set(_pair(pool.padding)) == {0} and not pool.ceil_mode
    return plain and (set(_pair(pool.dilation)) == {1} if isinstance(pool, nn.MaxPool2d) else not pool.divisor_override)


def _bias(module: nn.Linear | nn.Conv2d) -> Tensor:
    return torch.zeros(len(module.weight)) if module.bias is None else module.bias


def _filled(values: Tensor, multiple: int) -> Tensor:
    """With zeros behind, so that their number is a multiple."""
    missing = -len(values) % multiple
    return torch.cat([values.detach(), torch.zeros((missing, *values.shape[1:]))])
