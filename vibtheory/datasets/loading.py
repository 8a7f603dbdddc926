"""`load`: a data set by name, its files checked against their canonical checksums, decoded and scaled to [0, 1]."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vibtheory.datasets.catalogue import CATALOGUE, DataFile, Entry
from vibtheory.datasets.cifar import check_size, read_cifar
from vibtheory.datasets.dataset import Dataset
from vibtheory.datasets.fetching import fetch
from vibtheory.datasets.idx import read_idx
from vibtheory.datasets.store import check_file, locate
from vibtheory.errors import DataError, check_choice

__all__ = ["load"]

Bytes = NDArray[np.uint8]


def load(name: str, root: str | os.PathLike[str] | None = None, *, download: bool = False) -> Dataset:
    """A data set by name. Pixels are divided by 255: the background is exactly 0, so its gate can close.

    Args:
        name: mnist, fashion-mnist, cifar10 or cifar100.
        root: folder with the canonical files, or with the data set's folder of them. None: MNIST comes with the
            package; the others from $VIBTHEORY_DATA, then the user cache.
        download: fetch the canonical files into the user cache where they are missing and no root is given.

    Returns:
        Images float32 [N, 1, 28, 28] or [N, 3, 32, 32], labels int64 [N].

    Raises:
        InvalidInputError: an unknown name.
        DataError: files missing, truncated, of another version, or with a wrong checksum.
    """
    check_choice("name", name, CATALOGUE)
    entry = CATALOGUE[name]
    try:
        folder = locate(entry, root)
    except DataError:
        if not download or root is not None:
            raise
        folder = locate(entry, fetch(name).folder)
    splits = [_split(entry, folder, files, n) for files, n in zip((entry.train, entry.test), entry.counts, strict=True)]
    (x_train, y_train), (x_test, y_test) = splits
    return Dataset(x_train, y_train, x_test, y_test, name=name, classes=entry.classes)


def _split(
    entry: Entry, folder: Path, files: tuple[DataFile, ...], n: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    stamps = tuple(_stamp(folder / file.name) for file in files)
    images, labels = _decode(entry, folder, files, n, stamps)
    return images.astype(np.float32) / np.float32(255), labels.astype(np.int64)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Modification time and size: a changed file is read again."""
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None


@lru_cache(maxsize=4)  # bytes, not floats: 55 MB for MNIST, and a second load takes a fraction of a second
def _decode(
    entry: Entry, folder: Path, files: tuple[DataFile, ...], n: int, stamps: tuple[tuple[int, int] | None, ...]
) -> tuple[Bytes, Bytes]:
    for file in files:
        if entry.form == "cifar" and (folder / file.name).is_file():
            check_size(folder / file.name, n // len(files), entry.label_bytes)
        check_file(folder / file.name, file)
    if entry.form == "cifar":
        parts = [read_cifar(folder / f.name, n // len(files), entry.label_bytes, entry.classes) for f in files]
        return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])
    images, labels = read_idx(folder / files[0].name, axes=3), read_idx(folder / files[1].name, axes=1)
    if len(images) != n or len(labels) != n:
        raise DataError(f"{folder}: {len(images)} images and {len(labels)} labels, expected {n} of each")
    return images[:, None], labels  # [N, 1, height, width]
