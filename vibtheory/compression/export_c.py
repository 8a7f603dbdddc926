"""A compressed chain as one C file without any library: nothing runs but its arithmetic, on a board too.

What is left of a LeNet takes a microsecond, less than it takes to enter a runtime: only so does its latency follow its
multiply-adds (benchmarks/latency.py).
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from vibtheory.compression.export import ExportReport, checked_target, compared
from vibtheory.compression.fixed_modules import FixedScale, Select
from vibtheory.errors import (
    MissingDependencyError,
    VibTheoryError,
    as_numbers,
    as_path,
    as_scalar,
    as_torch_seed,
    reject,
)
from vibtheory.networks.forward import as_example, copy_of
from vibtheory.networks.gates import named_gates
from vibtheory.networks.sequential import computes_as
from vibtheory.storage import write_bytes, write_text

__all__ = ["compiled", "export_c"]

_MOST, _LANES, _COLUMNS, _MAPS = 128, 16, 8, 4  # outputs in one call; the most, and as, in plain.c
_SIZES = re.compile(r"void (\w+)\(.*x \[n\]\[(\d+)\] -> y \[n\]\[(\d+)\]")
_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "v < 0 ? 0 : v",  # NaN stays NaN
    nn.Tanh: "tanhf(v)",
    nn.Sigmoid: "1 / (1 + expf(-v))",
    nn.SiLU: "v / (1 + expf(-v))",
}
_PASSED = (nn.Identity, nn.Dropout, nn.Dropout2d)
_KNOWN: tuple[type[nn.Module], ...] = (
    nn.Sequential, nn.Flatten, *_PASSED, nn.Linear, nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.BatchNorm1d,
    nn.BatchNorm2d, FixedScale, Select, *_ACTIVATIONS,
)  # fmt: skip


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
    It needs a C11 compiler with GNU's vector types (gcc, clang), and some five seconds for a million weights.

    Args:
        model: a Sequential without gates, as `vibtheory.compress` returns for chains; unchanged, and computed in
            float32. Linear layers, plain convolutions, BatchNorm, max and average pooling, Flatten, ReLU, Tanh,
            Sigmoid, SiLU; none of them a subclass that computes something else, and no hooks.
        example_input: one batch [N, ...], for the shape.
        path: the file to write, a C identifier, not a library's function, with the ending .c; its folder must exist.
        tolerance: largest accepted deviation relative to the largest output, beyond torch's own rounding.
        seed: of the random inputs that are compared.

    Raises:
        InvalidInputError: a module that is not in the list, gates, another path.
        MissingDependencyError: no C compiler: neither $CC nor cc, gcc or clang on the path.
        VibTheoryError: the compiled file differs from the model, or cannot be written; the old file, if any, stays.
    """
    _check(model)
    path, tolerance = checked_target(model, path), as_scalar("tolerance", tolerance)
    name = path.stem
    if path.suffix != ".c" or not (name.isidentifier() and name.isascii()) or name == "main":
        reject("path", str(path), "a C identifier with the ending .c", "name it such as net.c: its function is net")
    if hasattr(ctypes.CDLL(None), name):  # a program that links the file would call it in the library's place
        reject("path", str(path), f"another name than a library's function {name}", "name it such as net.c")
    plain = copy_of(model).eval().cpu().float()
    assert isinstance(plain, nn.Sequential)
    example, *more = as_example(example_input, plain)
    if more:
        reject("example_input", f"{1 + len(more)} inputs", "one batch [N, ...]", "pass one tensor")
    generator = torch.Generator().manual_seed(as_torch_seed("seed", seed, "inputs that test an export"))
    x = torch.randn((len(example) + 3, *example.shape[1:]), generator=generator, dtype=torch.float32, device="cpu")
    content = _Writer(plain, x.clone()).content(name)
    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder) / path.name, content)
        deviation, excess = compared(plain, compiled(Path(folder) / path.name), x, tolerance)
    if excess:
        raise VibTheoryError(f"model: the compiled C file {excess}. Remedy: report it with the model")
    write_bytes(path, content.encode())
    return ExportReport(path, len(content), None, deviation, len(x))


def compiled(path: str | Path) -> Callable[[ArrayLike], NDArray[np.float32]]:
    """The file of `export_c` at `path`, whatever it is called now, as a function here: x [n, ...] → [n, outputs].

    It runs on one thread, in float32, and raises InvalidInputError for what is no batch of real numbers of that size.

    Raises:
        InvalidInputError: no such file, or one that `export_c` did not write.
        MissingDependencyError: no C compiler.
        VibTheoryError: the compiler refuses the file, or what it makes cannot be loaded here.
    """
    path = as_path("path", path, "pass that of a C file of export_c")
    said = _SIZES.search(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    if said is None:
        reject("path", str(path), "a C file of export_c", "write it with export_c")
    name, inputs, outputs = said[1], int(said[2]), int(said[3])
    own = shlex.split(os.environ.get("CC", ""))
    found = [own] if own else [[name] for name in ("cc", "gcc", "clang") if shutil.which(name)]
    if not found or not shutil.which(found[0][0]):
        looked = f"CC={own[0]}" if own else "cc, gcc, clang"
        raise MissingDependencyError(f"{looked}: no such C compiler. Remedy: install gcc or clang, or correct CC")
    with tempfile.TemporaryDirectory() as folder:  # the library stays loaded when its file is gone
        library = str(Path(folder) / "net.so")
        how = ["-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
        try:
            words = [*found[0], *how, "-x", "c", os.path.abspath(path), "-o", library, "-lm"]  # whatever its name says
            subprocess.run(words, capture_output=True, check=True)
            function = ctypes.CDLL(library)[name]
        except (OSError, AttributeError, subprocess.CalledProcessError) as error:
            text = getattr(error, "stderr", None) or str(error).encode()
            detail = " ".join(text.decode(errors="replace").replace(os.path.abspath(path), path.name).split())[:300]
            raise VibTheoryError(
                f"{path.name}: {found[0][0]} makes nothing of it that runs here ({detail}). Remedy: try another name "
                "for the file, or gcc or clang for this machine"
            ) from error
    function.restype, function.argtypes = None, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)

    def call(x: ArrayLike) -> NDArray[np.float32]:
        given = x if type(x) is np.ndarray else as_numbers("x", x, "pass a batch, with an axis of examples")
        if given.ndim < 2 or given.dtype.kind not in "fiub" or math.prod(given.shape[1:]) != inputs:
            got = f"shape {list(given.shape)}, {given.dtype}"
            reject("x", got, f"real numbers [n, ...], {inputs} an example", "pass a batch, with an axis of examples")
        given, y = np.ascontiguousarray(given, dtype=np.float32), np.empty((len(given), outputs), np.float32)
        function(given.ctypes.data, y.ctypes.data, len(given))
        return y

    return call


def _check(model: object) -> None:
    """Raise InvalidInputError unless `model` is a chain of known modules that do what their classes do."""
    if not isinstance(model, nn.Sequential):
        reject("model", type(model).__name__, "a torch.nn.Sequential", "use export_onnx")
    if named_gates(model):
        return  # said elsewhere
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(value, UninitializedBuffer | UninitializedParameter) or value.is_meta or value.is_complex():
            reject("model", f"{name} without values, or complex", "real weights", "run the model once, or load them")
    for module in _walk(model):
        if not isinstance(module, _KNOWN):
            known = ", ".join(kind.__name__ for kind in _KNOWN)
            reject("model", " ".join(str(module).split()), f"a chain of {known}", "use export_onnx")
        changed = not computes_as(module, _KNOWN)
        if changed or module._forward_hooks or module._forward_pre_hooks:
            got = f"{type(module).__name__} with {'a forward pass of its own' if changed else 'hooks'}"
            reject("model", got, "what torch's layer computes", "use export_onnx, or remove the hooks")
        if getattr(module, "return_indices", False):
            reject("model", f"{type(module).__name__} with return_indices", "one output", "leave return_indices out")


class _Writer:
    """The C text of a chain: constants, then one call after the other between two buffers."""

    def __init__(self, plain: nn.Sequential, x: Tensor) -> None:
        self._constants: list[str] = []
        self._calls: list[str] = []
        self._now, self._sizes = "x", [math.prod(x.shape[1:])]
        self._past = 0  # so many numbers behind its input's end a convolution may read, and not use
        self._maps = False  # has it layers of maps? Then one example at a time stays in the caches
        with torch.no_grad():
            for module in _walk(plain):
                if isinstance(module, nn.Sequential):
                    continue
                shape, x = list(x.shape[1:]), module(x)
                self._add(module, shape, list(x.shape[1:]))
                self._sizes.append(x[0].numel())
        if x.ndim != 2 or not x.numel():
            reject("model", f"outputs {list(x.shape)}", "outputs [N, K], K > 0", "add nn.Flatten() at its end")

    def content(self, name: str) -> str:
        """The whole file."""
        room = max(self._sizes) + self._past
        head = resources.files("vibtheory.compression").joinpath("plain.c").read_text()
        words = {"PROVENANCE": "written by vibtheory.compression.export_c", "NAME": name,
                 "INPUTS": str(self._sizes[0]), "OUTPUTS": str(self._sizes[-1])}  # fmt: skip
        head = re.sub("|".join(words), lambda word: words[word[0]], head)
        body = "\n".join(f"  {line}" for line in self._calls)
        together = "1" if self._maps else "EXAMPLES"
        several = f"several(x + i * {self._sizes[0]}, y + i * {self._sizes[-1]}, first, second, "
        most = f"  for (; i + EXAMPLES <= n; i += EXAMPLES) {several}EXAMPLES);\n"
        return (
            f"{head}\n{''.join(self._constants)}\n#define ROOM {room}\n"
            f"static HERE ALIGNED float first[{together} * ROOM], second[{together} * ROOM];\n\n"
            "INLINE void several(const float *x, float *y, float *a, float *b, int n) {\n"
            f"  (void)a, (void)b;\n{body}\n"
            f"  EACH __builtin_memcpy(y + e * {self._sizes[-1]}, {self._each()}, {4 * self._sizes[-1]});\n}}\n\n"
            f"void {name}(const float *x, float *y, long n) {{\n  long i = 0;\n{'' if self._maps else most}"
            f"  for (; i < n; i++) {several}1);\n}}\n"
        )

    def _add(self, module: nn.Module, shape: list[int], after: list[int]) -> None:
        positions = math.prod(shape[1:])
        whole = isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
        if whole or isinstance(module, _PASSED):
            return  # units stand before positions anyway
        self._maps |= len(shape) > 1
        if isinstance(module, nn.Linear) and len(shape) == 1:
            self._linear(module)
        elif isinstance(module, nn.Conv2d) and len(shape) == 3 and module.groups == 1 and set(module.dilation) == {1}:
            self._convolution(module, shape, after)
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and len(shape) == 3 and _whole(module):
            sizes = (*_pair(module.kernel_size), *_pair(module.stride), int(isinstance(module, nn.MaxPool2d)))
            self._call("pool", *shape, *sizes)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is not None:
            assert module.running_mean is not None
            weight = torch.ones(shape[0]) if module.weight is None else module.weight
            by = weight / (module.running_var + module.eps).sqrt()
            plus = -by * module.running_mean + (0 if module.bias is None else module.bias)
            self._scaled(by, plus, shape[0], positions)
        elif isinstance(module, FixedScale) and module.axis == 1 and after == shape:
            self._scaled(module.weight.expand(shape[0]), torch.zeros(shape[0]), shape[0], positions)
        elif isinstance(module, Select) and module.axis == 1:
            self._call("choose", self._constant(module.index), len(module.index), positions)
        elif type(module) in _ACTIVATIONS:
            self._own()
            formula = _ACTIVATIONS[type(module)]
            loop = f"for (float *p = {self._each()}, *end = p + {math.prod(shape)}; p < end; p++)"
            self._calls.append(f"EACH {loop} {{ float v = *p; *p = {formula}; }}")
        else:
            expected = "ungrouped convolutions, pooling without padding, linear layers of [N, d], units on axis 1"
            reject("model", f"{' '.join(str(module).split())} of {shape}", expected, "use export_onnx")

    def _linear(self, module: nn.Linear) -> None:
        source, apart = self._now, self._sizes[0] if self._now == "x" else "ROOM"
        target = self._next()
        weight, bias = _filled(module.weight, _LANES), _filled(_bias(module), _LANES)
        for start in range(0, len(weight), _MOST):
            part = weight[start : start + _MOST]
            constants = self._constant(part.T), self._constant(bias[start : start + _MOST])
            sizes = module.in_features, min(_MOST, module.out_features - start), len(part), "n", apart, "ROOM"
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
        self._past = max(self._past, _COLUMNS * module.stride[1])
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
        arguments = self._each(), self._constant(by), self._constant(plus), units, positions
        self._calls.append(f"EACH scale({', '.join(map(str, arguments))});")

    def _call(self, name: str, *arguments: Any) -> None:
        source = self._each()
        self._next()
        self._calls.append(f"EACH {name}({source}, {self._each()}, {', '.join(map(str, arguments))});")

    def _next(self) -> str:
        self._now = "b" if self._now == "a" else "a"
        return self._now

    def _own(self) -> None:
        """What is changed in place is not the caller's."""
        if self._now == "x":
            self._calls.append(f"EACH __builtin_memcpy(a + e * ROOM, {self._each()}, {4 * self._sizes[0]});")
            self._now = "a"

    def _each(self) -> str:
        """Where example e's numbers are now."""
        return f"{self._now} + e * {self._sizes[0] if self._now == 'x' else 'ROOM'}"

    def _constant(self, values: Tensor) -> str:
        if not bool(values.isfinite().all()):
            reject("model", "weights that are not finite", "finite weights", "train it again, or load others")
        name, flat = f"c{len(self._constants)}", values.detach().flatten().tolist()
        kind = "float" if values.is_floating_point() else "int"
        self._constants.append(f"static const ALIGNED {kind} {name}[] = {{{','.join(f'{v:.9g}' for v in flat)}}};\n")
        return name


def _walk(net: nn.Sequential) -> Iterator[nn.Module]:
    """`net`, and what it holds, in order, Sequentials opened up; a module as often as it is used."""
    yield net
    for module in net:
        if isinstance(module, nn.Sequential):
            yield from _walk(module)
        else:
            yield module


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _whole(pool: nn.MaxPool2d | nn.AvgPool2d) -> bool:
    """Whether each window lies in the map, without gaps in it."""
    if set(_pair(pool.padding)) != {0} or pool.ceil_mode:
        return False
    if isinstance(pool, nn.AvgPool2d):
        return not pool.divisor_override
    return set(_pair(pool.dilation)) == {1}


def _bias(module: nn.Linear | nn.Conv2d) -> Tensor:
    return torch.zeros(len(module.weight)) if module.bias is None else module.bias


def _filled(values: Tensor, multiple: int) -> Tensor:
    """With zeros behind, so that their number is a multiple."""
    missing = -len(values) % multiple
    return torch.cat([values.detach(), torch.zeros((missing, *values.shape[1:]))])
