"""The idx format of MNIST: two zero bytes, a type code, the number of axes, their lengths (big-endian), the data.

Format: Yann LeCun's MNIST page. Only unsigned bytes (type 0x08) occur in the files read here.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import DataError

__all__ = ["read_idx"]

_AGAIN = "Remedy: fetch the canonical file again"
_UNSIGNED_BYTE = 0x08
_MOST_BYTES = 1 << 30  # a header that declares more than 1 GiB is damaged or hostile


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """One gzip-compressed idx file of unsigned bytes.

    Args:
        path: the `.gz` file.
        axes: how many axes it must have: 3 for images [N, height, width], 1 for labels [N].

    Returns:
        uint8 array of the declared shape.

    Raises:
        DataError: missing, not gzip, wrong magic number, an implausible declared size, truncated, or trailing bytes.
            Sizes are checked before anything is allocated.
    """
    try:
        with gzip.open(path) as stream:
            shape = _read_shape(path, stream, axes)
            size = math.prod(shape)
            data = _read(stream, size + 1)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Remedy: `vibtheory data fetch`, or pass root=") from None
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: not a complete gzip file ({error}). Remedy: fetch it again") from error
    if len(data) != size:
        found = "more bytes follow" if len(data) > size else f"only {len(data)} are there"
        raise DataError(f"{path}: the header declares {size} bytes for shape {list(shape)}, {found}. {_AGAIN}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _read(stream: gzip.GzipFile, most: int) -> bytes:
    """At most so many bytes, reserved as they come, not as the header declares them."""
    parts, left = [], most
    while left and (part := stream.read(min(left, 1 << 24))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _read_shape(path: Path, stream: gzip.GzipFile, axes: int) -> tuple[int, ...]:
    header = stream.read(4 + 4 * axes)
    expected = bytes([0, 0, _UNSIGNED_BYTE, axes])
    if header[:4] != expected:
        raise DataError(
            f"{path}: magic number 0x{header[:4].hex() or '(empty file)'}, expected 0x{expected.hex()} "
            f"(idx, unsigned bytes, {axes} axes). {_AGAIN}; images and labels are not exchanged?"
        )
    if len(header) < 4 + 4 * axes:
        raise DataError(f"{path}: the header ends after {len(header)} of {4 + 4 * axes} bytes. {_AGAIN}")
    shape = struct.unpack(f">{axes}I", header[4:])
    if math.prod(shape) > _MOST_BYTES:
        raise DataError(f"{path}: the header declares shape {list(shape)}, more than {_MOST_BYTES} bytes. {_AGAIN}")
    return shape
