"""What the data sets are: their canonical files, checksums and sources. Data only, no code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CATALOGUE", "DataFile", "Entry"]


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
        name: file name.
        digests: accepted checksums, "algorithm:hex". More than one where the same content circulates in two wrappings.
    """

    name: str
    digests: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One data set.

    Attributes:
        name, title: how it is asked for, and called.
        form: "idx" (four gzip files) or "cifar" (records of `label_bytes` + 3072 bytes).
        folder: name of its folder inside a root.
        train, test: files of each split, in order (idx: images, then labels).
        counts: examples in each split.
        classes: number of classes.
        source: where it is published, with the terms.
        files_url: folder from which single files are downloaded, or None.
        archive, archive_url: a tar archive that holds `folder`, and its address.
        label_bytes: label bytes per CIFAR record; the last one is the label used (CIFAR-100: coarse, then fine).
    """

    name: str
    title: str
    form: Literal["idx", "cifar"]
    folder: str
    train: tuple[DataFile, ...]
    test: tuple[DataFile, ...]
    counts: tuple[int, int]
    classes: int
    source: str
    files_url: str | None = None
    archive: DataFile | None = None
    archive_url: str | None = None
    label_bytes: int = 1

    @property
    def files(self) -> tuple[DataFile, ...]:
        """All files, training split first."""
        return self.train + self.test


def _file(name: str, *digests: str) -> DataFile:
    return DataFile(name, digests)


_MNIST = Entry(
    name="mnist",
    title="MNIST",
    form="idx",
    folder="mnist",
    train=(
        _file("train-images-idx3-ubyte.gz", "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        _file("train-labels-idx1-ubyte.gz", "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ),
    test=(
        _file("t10k-images-idx3-ubyte.gz", "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        _file("t10k-labels-idx1-ubyte.gz", "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    counts=(60000, 10000),
    classes=10,
    source="Yann LeCun, Corinna Cortes, Christopher J. C. Burges; CC BY-SA 3.0; inside this package",
)

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in (_MNIST,)}
