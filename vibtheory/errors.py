"""The error family, and the checks that every public function begins with.

Each message names the argument, what was got, what was expected, and the remedy. Invalid input raises one of these;
a numerical failure is a status on a result object instead (see `vibtheory.theory.minima`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CheckpointError",
    "DataError",
    "DivergedError",
    "InvalidInputError",
    "MissingDependencyError",
    "SolverError",
    "VibTheoryError",
    "as_array",
    "as_generator",
    "as_indices",
    "as_numbers",
    "as_path",
    "as_positive",
    "as_real",
    "as_scalar",
    "as_seed",
    "as_torch_seed",
    "as_whole",
    "check_choice",
    "check_type",
    "plain",
    "reject",
    "resolution",
    "shown",
]


class VibTheoryError(Exception):
    """Base of every error that vibtheory raises on purpose; the command line turns it into exit code 2."""


class InvalidInputError(VibTheoryError, ValueError):
    """An argument has the wrong shape, type, range or name."""


class DataError(VibTheoryError):
    """A data file is missing, truncated, of the wrong version, or fails its checksum."""


class CheckpointError(VibTheoryError):
    """A saved run is unreadable, incomplete, or belongs to another architecture."""


class DivergedError(VibTheoryError):
    """Training met a non-finite loss; the message names the step, the layer and the remedy."""


class SolverError(VibTheoryError):
    """An outside solver failed and so did its fallbacks; the message holds each status."""


class MissingDependencyError(VibTheoryError, ImportError):
    """An optional dependency is needed and not installed; the message names the extra that brings it."""


def reject(argument: str, got: object, expected: str, remedy: str) -> NoReturn:
    """Raise `InvalidInputError` in the format of all messages: argument, what it got, what was expected, remedy."""
    raise InvalidInputError(f"{argument}: got {got}, expected {expected}. Remedy: {remedy}")


def shown(value: object) -> str:
    """`repr(value)` for a message, cut at 200 characters; whole numbers too long for Python to print have one too."""
    try:
        return repr(value)[:200]
    except ValueError:
        return f"{type(value).__name__} with a whole number of thousands of digits"


def as_seed(argument: str, value: object) -> int:
    """`value` as a seed that every random generator here takes. Raises InvalidInputError about `argument` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**63:
        reject(argument, shown(value), "a whole number from 0 to 2**63 - 1", "use a seed such as 0")
    return int(value)


def as_whole(argument: str, value: object, least: int, most: int | None = None, remedy: str = "use the default") -> int:
    """`value` as a whole number from `least` to `most` (None: no end).

    Raises:
        InvalidInputError: about `argument`, with `remedy`: no whole number, or outside.
    """
    limit = 2**63 - 1 if most is None else most
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= limit:
        bare = most is None and not (isinstance(value, int) and value > limit)
        expected = f"an integer >= {least}" if bare else f"an integer between {least} and {limit}"
        reject(argument, shown(value), expected, remedy)
    return int(value)


def as_indices(argument: str, value: ArrayLike, length: int, remedy: str) -> NDArray[np.intp]:
    """`value` [k], numbers of entries of an axis of that `length` (or a boolean for each entry), as whole numbers [k].

    Raises:
        InvalidInputError: about `argument`, with `remedy`: neither, more than one axis, or outside.
    """
    index = as_array(argument, value, (None,), remedy)
    flags = plain(value).dtype.kind == "b"
    if flags and index.size == length:
        return np.flatnonzero(index)
    if flags or (index != np.floor(index)).any() or (index < 0).any() or (index >= length).any():
        reject(argument, shown(value), f"whole numbers from 0 to {length - 1}", remedy)
    return index.astype(np.intp)


def as_generator(argument: str, seed: int | np.random.Generator, purpose: str) -> np.random.Generator:
    """The random stream of `seed` for one `purpose`; a Generator passes through.

    Nobody else's: independent of data drawn from `default_rng(seed)`, and of the same seed's other purposes.

    Raises:
        InvalidInputError: about `argument`, neither a seed nor a Generator.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(_stream(argument, seed, purpose))


def as_torch_seed(argument: str, seed: int, purpose: str) -> int:
    """As `as_generator`, for torch: what `manual_seed` is given, a whole number below 2**63."""
    return int(_stream(argument, seed, purpose).generate_state(1, np.uint64)[0] >> 1)


def _stream(argument: str, seed: int, purpose: str) -> np.random.SeedSequence:
    # the spawn key's place, as numpy does it for independent children: no whole number or list of them collides
    return np.random.SeedSequence(as_seed(argument, seed), spawn_key=(crc32(f"vibtheory: {purpose}".encode()),))


def as_array(
    argument: str,
    value: ArrayLike,
    shape: Sequence[int | None] | None = None,
    remedy: str = "pass a finite real array of that shape",
) -> NDArray[np.float64]:
    """`value` as a finite float64 array; `shape` has one entry per axis, None where any length will do.

    The message of the error names `argument`, what was got and expected, and the `remedy`.

    Raises:
        InvalidInputError: no numbers (text and dates are none), complex or masked ones, the wrong number of axes, a
            wrong length, NaN or infinity.
    """
    array = as_numbers(argument, value, remedy)
    if shape is not None:
        wanted = "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
        fits = array.ndim == len(shape) and all(
            want is None or have == want for have, want in zip(array.shape, shape, strict=True)
        )
        if not fits:
            reject(argument, f"shape {list(array.shape)}", f"shape {wanted}", remedy)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        reject(argument, f"{bad} of {array.size} entries NaN or infinite", "finite entries", remedy)
    return array


def as_numbers(argument: str, value: ArrayLike, remedy: str = "pass real numbers") -> NDArray[np.float64]:
    """`value` [any shape] as a float64 array, NaN and infinity as they are.

    Raises:
        InvalidInputError: about `argument`, with `remedy`: no numbers (nor are text and dates), complex or masked ones.
    """
    return np.asarray(as_real(argument, value, remedy), dtype=np.float64)


def as_real(argument: str, value: ArrayLike, remedy: str = "pass real numbers") -> NDArray[Any]:
    """`value` [any shape] as an array of its own type (Python's objects as float64), NaN and infinity as they are.

    Raises:
        InvalidInputError: as `as_numbers`.
    """
    if hasattr(value, "toarray"):
        reject(argument, f"a sparse {type(value).__name__}", "a dense array", f"pass {argument}.toarray()")
    if np.ma.is_masked(value):
        reject(argument, "a masked array", "one without masked entries", f"pass {argument}.compressed() or .filled(…)")
    try:
        raw = plain(value)
        if raw.dtype.kind not in "biufO":  # NumPy would read text and dates as numbers, and drop imaginary parts
            raise TypeError("complex numbers" if raw.dtype.kind == "c" else f"{raw.dtype.name} is no number")
        return raw if raw.dtype.kind != "O" else np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reject(argument, f"{type(value).__name__} ({error})", "a real numeric array", remedy)


def resolution(value: ArrayLike) -> float:
    """eps of the precision that `value` [any shape] was passed in; float64's for whole numbers."""
    kind = plain(value).dtype
    return float(np.finfo(kind if kind.kind == "f" else np.float64).eps)


def plain(value: Any) -> NDArray[Any]:
    """`value`, a tensor perhaps, with gradient perhaps, as an array of its own type."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def as_scalar(argument: str, value: Any, remedy: str = "pass one finite number") -> float:
    """`value` as a finite float. Raises InvalidInputError, with `argument` and `remedy`, otherwise."""
    return float(as_array(argument, value, (), remedy))


def as_positive(
    argument: str,
    value: ArrayLike,
    shape: Sequence[int | None] | None = None,
    remedy: str = "pass numbers greater than 0",
) -> NDArray[np.float64]:
    """As `as_array`, and every entry > 0. Raises InvalidInputError otherwise."""
    array = as_array(argument, value, shape, remedy)
    if (array <= 0).any():
        reject(argument, f"smallest entry {array.min():g}", "entries > 0", remedy)
    return array


def as_path(argument: str, value: object, remedy: str) -> Path:
    """`value` as a path. Raises InvalidInputError about `argument` where it is none, with the `remedy`."""
    if not isinstance(value, str | os.PathLike) or "\0" in str(value):
        reject(argument, shown(value), "a path", remedy)
    return Path(value)


def check_choice(argument: str, value: object, choices: Iterable[str]) -> None:
    """Raise InvalidInputError about `argument`, listing `choices`, unless `value` is one of them."""
    allowed = list(choices)
    if not isinstance(value, str) or value not in allowed:
        reject(argument, shown(value), "one of " + ", ".join(allowed), "choose one of those names")


def check_type(argument: str, value: object, kind: type, remedy: str) -> None:
    """Raise InvalidInputError about `argument`, with the `remedy`, unless `value` is an object of the class `kind`."""
    if not isinstance(value, kind):
        reject(argument, type(value).__name__, f"a {kind.__name__}", remedy)
