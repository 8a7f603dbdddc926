"""The *binary version* of CIFAR-10 and CIFAR-100: records of label bytes, then 3×32×32 pixel bytes (red, green, blue).

Format: Alex Krizhevsky's CIFAR page. CIFAR-100 has a coarse and a fine label byte; the fine one is used. The
"python version" is pickled and never read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import DataError

__all__ = ["check_size", "read_cifar"]

_PIXELS = 3 * 32 * 32
Bytes = NDArray[np.uint8]


def read_cifar(path: Path, examples: int, label_bytes: int, classes: int) -> tuple[Bytes, Bytes]:
    """One binary batch file.

    Args:
        path: the `.bin` file.
        examples: how many records it must hold.
        label_bytes: label bytes per record; the last one is returned.
        classes: labels must be below this.

    Returns:
        uint8 images [n, 3, 32, 32] and labels [n].

    Raises:
        DataError: the size is not that of `examples` records (checked before reading), or a label is out of range.
    """
    try:
        check_size(path, examples, label_bytes)
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: not readable ({error}). Remedy: take the canonical binary version again") from error
    records = np.frombuffer(content, dtype=np.uint8).reshape(examples, label_bytes + _PIXELS)
    labels = records[:, label_bytes - 1].copy()
    if int(labels.max()) >= classes:
        raise DataError(
            f"{path}: label {labels.max()}, expected below {classes}. Remedy: check that it is the right file"
        )
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), labels


def check_size(path: Path, examples: int, label_bytes: int) -> None:
    """Raise DataError unless the file has the size of so many records: says more than a wrong checksum."""
    size, expected = path.stat().st_size, examples * (label_bytes + _PIXELS)
    if size != expected:
        short = "; a download that stopped half-way?" if size < expected else ""
        raise DataError(
            f"{path}: {size} bytes, expected {expected} for {examples} records of {label_bytes} + {_PIXELS} bytes"
            f"{short}. Remedy: delete it and take the canonical binary version again"
        )
