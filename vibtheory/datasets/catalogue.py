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

# Accepted: the published files (MD5 from the project's README), and the same streams without the gzip name field, as
# Debian packages them (SHA-256).
_FASHION_MNIST = Entry(
    name="fashion-mnist",
    title="Fashion-MNIST",
    form="idx",
    folder="fashion-mnist",
    train=(
        _file(
            "train-images-idx3-ubyte.gz",
            "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "sha256:b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
        ),
        _file(
            "train-labels-idx1-ubyte.gz",
            "md5:25c81989df183df01b3e8a0aad5dffbe",
            "sha256:0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
        ),
    ),
    test=(
        _file(
            "t10k-images-idx3-ubyte.gz",
            "md5:bef4ecab320f06d8554ea6380940ec79",
            "sha256:cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
        ),
        _file(
            "t10k-labels-idx1-ubyte.gz",
            "md5:bb300cfdad3c16e7a12a480ee83cd310",
            "sha256:8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
        ),
    ),
    counts=(60000, 10000),
    classes=10,
    source="Zalando Research (Xiao, Rasul, Vollgraf); MIT",
    files_url="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)

_CIFAR_10 = Entry(
    name="cifar10",
    title="CIFAR-10",
    form="cifar",
    folder="cifar-10-batches-bin",
    train=(
        _file("data_batch_1.bin", "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        _file("data_batch_2.bin", "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        _file("data_batch_3.bin", "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        _file("data_batch_4.bin", "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        _file("data_batch_5.bin", "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ),
    test=(_file("test_batch.bin", "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),),
    counts=(50000, 10000),
    classes=10,
    source="Alex Krizhevsky; no licence stated, cite: Learning multiple layers of features from tiny images, 2009",
    archive=_file("cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"),
    archive_url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
)

_CIFAR_100 = Entry(
    name="cifar100",
    title="CIFAR-100",
    form="cifar",
    folder="cifar-100-binary",
    train=(_file("train.bin", "sha256:f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"),),
    test=(_file("test.bin", "sha256:d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"),),
    counts=(50000, 10000),
    classes=100,
    source="Alex Krizhevsky; no licence stated, cite: Learning multiple layers of features from tiny images, 2009",
    archive=_file("cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8"),
    archive_url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    label_bytes=2,
)

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in (_MNIST, _FASHION_MNIST, _CIFAR_10, _CIFAR_100)}
