"""Atomic files and folder locks: a reader sees the old content or the new, never a half, whatever kills the writer."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vibtheory.errors import CheckpointError, VibTheoryError, reject

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["locked", "read_sealed", "read_state", "write_bytes", "write_sealed", "write_state", "write_text"]

_UNFINISHED = ".vibtheory"  # ends the names of files being written, and nobody else's
_DEAD_AFTER = 86400.0  # seconds since such a file was last written to: its writer was killed


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`: temporary file in the same folder, flush to disk, rename. A link stays one.

    Raises:
        VibTheoryError: the folder cannot be made or written (read-only, disk full), or `path` is a device, a pipe or a
            folder; `path` keeps its old content.
    """
    temporary = None
    try:
        if path.exists() and not path.is_file():  # renaming would put a file in the place of /dev/null
            raise OSError(0, "Not a regular file")
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(_UNFINISHED, f".{target.name}.", target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes 0600
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise VibTheoryError(
            f"path: could not write {path} ({error.strerror or error}), expected a writable folder with free space. "
            "Remedy: free space or choose another folder; the old content is untouched"
        ) from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def write_sealed(path: Path, plain: Mapping[str, Any], indent: int | None = None) -> None:
    """Write `plain` (JSON types) with a checksum of itself, so that `read_sealed` finds any change."""
    write_text(path, json.dumps({**plain, "checksum": _checksum(plain)}, indent=indent) + "\n")


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON, no object, without a checksum, or not what was written.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(plain, dict) or "checksum" not in plain:
            raise ValueError(f"{path.name} has no checksum")
        if plain.pop("checksum") != _checksum(plain):
            raise ValueError(f"{path.name} does not match its own checksum")
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error
    return plain


@contextmanager
def locked(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold `folder` for one writer, after waiting for the one before at most `wait` seconds.

    What writers killed half-way left in it is deleted a day later.

    Raises:
        VibTheoryError: another run holds it now, or the folder cannot be made.
    """
    from filelock import FileLock, Timeout  # comes with torch

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".vibtheory.lock", timeout=wait)  # it is emptied: a name that is nobody else's
        lock.acquire()
    except Timeout as error:
        raise VibTheoryError(
            f"folder: {folder} is in use by another run, expected a folder of its own. "
            "Remedy: wait until that run ends, or choose another folder"
        ) from error
    except OSError as error:
        raise VibTheoryError(
            f"folder: could not use {folder} ({error.strerror or error}), expected a writable folder. "
            "Remedy: choose another folder"
        ) from error
    try:
        for file in folder.glob(f".*{_UNFINISHED}"):
            with suppress(OSError):  # another command was faster
                if time.time() - file.stat().st_mtime > _DEAD_AFTER:
                    file.unlink()
        yield
    finally:
        lock.release()


def write_state(folder: Path, name: str, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write tensors (safetensors) and a description (JSON) as one atomic step.

    The tensors' file is named after its own SHA-256; `{name}.json` names it and is the commit point: a kill between
    the two writes leaves the old pair valid, and a flipped bit is found on reading. Of tied tensors one is stored.
    Earlier states of this name are deleted from `folder`; files of any other name stay.

    Raises:
        InvalidInputError: one of `tensors` is none, as a module's `get_extra_state` may give.
    """
    import torch
    from safetensors.torch import save

    stored: dict[str, Tensor] = {}
    first: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    tied: dict[str, str] = {}
    for key, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            reject("net", f"a {type(value).__name__} in its state ({key})", "tensors alone, as nothing is pickled",
                   "keep it in a buffer, or return a tensor from get_extra_state")  # fmt: skip
        where = (value.data_ptr(), value.shape, value.stride())
        if value.numel() and where in first:
            tied[key] = first[where]
            continue
        first[where] = key
        # A view of a part of another tensor is copied: safetensors refuses shared memory.
        stored[key] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    content = save(stored)
    weights = f"{name}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    write_bytes(folder / weights, content)
    write_sealed(
        folder / f"{name}.json", {**description, **({"tied": tied} if tied else {}), "tensors": weights}, indent=1
    )
    # What earlier states, and writers killed half-way, left behind; the folder's lock is ours. Other names are not.
    own = rf"{re.escape(name)}-[0-9a-f]{{16}}\.safetensors"
    stale = re.compile(
        rf"{own}|\.({own}|{re.escape(name)}\.json)\.[a-z0-9_]{{8}}({re.escape(_UNFINISHED)})?"
    )  # mkstemp's
    for file in folder.iterdir():
        if file.name != weights and stale.fullmatch(file.name):
            file.unlink(missing_ok=True)


def _checksum(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _version(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def read_state(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The pair that `write_state` wrote last, or None where there is none.

    Raises:
        CheckpointError: one of the two is unreadable, or they do not belong together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / f"{name}.json"
    if not path.exists():
        return None
    before = _version(path)
    remedy = "Remedy: restore the folder from a copy, or delete it and run again"
    try:
        description = read_sealed(path)
        weights = description["tensors"]
        if not isinstance(weights, str) or Path(weights).name != weights:
            raise ValueError(f"tensors is {weights!r}, not a file name")
        content = (folder / weights).read_bytes()
        if weights != f"{name}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors":
            raise ValueError(f"{weights} does not match the checksum in its name")
        tensors = load(content)
        tensors |= {key: tensors[other] for key, other in description.pop("tied", {}).items()}
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        if path.exists() and _version(path) != before:
            return read_state(folder, name)  # a writer has replaced the pair in the meantime
        raise CheckpointError(
            f"folder: {path} is not a readable checkpoint ({type(error).__name__}: {error}), "
            f"expected what Run.save or train(checkpoint=...) wrote. {remedy}"
        ) from error
    return tensors, description
