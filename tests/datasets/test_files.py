"""The packaged MNIST, tiny files in the two formats, damaged files, and the download with its source replaced."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vibtheory import datasets
from vibtheory.datasets import catalogue, fetching, store
from vibtheory.datasets.catalogue import CATALOGUE, DataFile
from vibtheory.datasets.cifar import read_cifar
from vibtheory.datasets.idx import read_idx
from vibtheory.errors import DataError, InvalidInputError

RNG = np.random.default_rng(0)


def test_packaged_mnist() -> None:
    data = datasets.load("mnist")
    assert (data.x_train.shape, data.x_test.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert (data.x_train.min(), data.x_train.max(), data.x_train.dtype) == (0, 1, np.float32)
    np.testing.assert_array_equal(np.bincount(data.y_test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert list(data.y_train[:10]) == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.x_train.mean() == pytest.approx(0.1306604762738429, rel=1e-5)  # the well-known training mean
    assert datasets.verify("mnist").status == "verified"


def _idx(path: Path, array: np.ndarray, magic: bytes | None = None, shape: tuple[int, ...] | None = None) -> Path:
    shape = array.shape if shape is None else shape
    header = bytes([0, 0, 8, array.ndim]) if magic is None else magic
    path.write_bytes(gzip.compress(header + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()))
    return path


IMAGES = RNG.integers(0, 256, size=(4, 3, 5), dtype=np.uint8)


def test_idx_reads_what_was_written(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_idx(_idx(tmp_path / "a.gz", IMAGES), axes=3), IMAGES)


DAMAGED = {
    "magic number": lambda p: _idx(p, IMAGES, magic=bytes([0, 0, 13, 3])),
    "magic number 0x0000080": lambda p: _idx(p, IMAGES[0, 0]),  # labels for images
    "empty file": lambda p: p.write_bytes(gzip.compress(b"")),
    "header ends": lambda p: p.write_bytes(gzip.compress(bytes([0, 0, 8, 3, 0, 0]))),
    "only 60 are there": lambda p: _idx(p, IMAGES, shape=(5, 3, 5)),
    "more bytes follow": lambda p: _idx(p, IMAGES, shape=(3, 3, 5)),
    "more than 1073741824 bytes": lambda p: _idx(p, IMAGES, shape=(2**32 - 1,) * 3),
    "not a complete gzip": lambda p: p.write_bytes(_idx(p, IMAGES).read_bytes()[:-12]),
    "gzip": lambda p: p.write_bytes(b"plain"),
    "no such file": lambda p: None,
}


@pytest.mark.parametrize("message", DAMAGED)
def test_damaged_idx(message: str, tmp_path: Path) -> None:
    DAMAGED[message](tmp_path / "f.gz")
    with pytest.raises(DataError, match=message) as caught:
        read_idx(tmp_path / "f.gz", axes=3)
    assert "f.gz" in str(caught.value)
    assert "Remedy" in str(caught.value)


def _digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10, CIFAR-100 and Fashion-MNIST in the canonical formats with few examples; the catalogue follows them."""
    for name, label_bytes, classes in (("cifar10", 1, 10), ("cifar100", 2, 100)):
        entry, made = CATALOGUE[name], {}
        folder = tmp_path / "data" / entry.folder
        folder.mkdir(parents=True)
        for file in entry.files:
            records = RNG.integers(0, 256, size=(4, label_bytes + 3072), dtype=np.uint8)
            records[:, :label_bytes] %= classes if label_bytes == 1 else np.array([20, 100], dtype=np.uint8)
            (folder / file.name).write_bytes(records.tobytes())
            made[file.name] = replace(file, digests=(_digest(folder / file.name),))
        archive = tmp_path / f"{name}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, arcname=entry.folder)
        monkeypatch.setitem(
            catalogue.CATALOGUE,
            name,
            replace(
                entry,
                train=tuple(made[f.name] for f in entry.train),
                test=tuple(made[f.name] for f in entry.test),
                counts=(4 * len(entry.train), 4),
                archive=DataFile(f"{name}.tar.gz", (_digest(archive),)),
                archive_url=archive.as_uri(),
            ),
        )
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(fetching, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("VIBTHEORY_DATA", raising=False)
    return tmp_path / "data"


@pytest.mark.parametrize(("name", "label_bytes"), [("cifar10", 1), ("cifar100", 2)])
def test_cifar_from_root_and_environment(
    name: str, label_bytes: int, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = CATALOGUE[name]
    raw = np.fromfile(tiny / entry.folder / entry.test[0].name, dtype=np.uint8).reshape(4, -1)
    for data in (datasets.load(name, tiny), datasets.load(name, tiny / entry.folder)):
        np.testing.assert_array_equal(data.y_test, raw[:, label_bytes - 1])  # CIFAR-100: the fine label
        assert data.x_test[2, 1, 3, 5] == np.float32(raw[2, label_bytes + 1024 + 3 * 32 + 5]) / np.float32(255)
        assert data.x_train.shape == (4 * len(entry.train), 3, 32, 32)
    monkeypatch.setenv("VIBTHEORY_DATA", str(tiny))
    assert datasets.verify(name).status == "verified"


def test_wrong_checksum_names_file_found_and_remedy(tiny: Path) -> None:
    path = tiny / "cifar-10-batches-bin" / "data_batch_3.bin"
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"data_batch_3.bin: checksum sha256:.*expected sha256:.*Remedy"):
        datasets.load("cifar10", tiny)
    assert datasets.verify("cifar10", tiny).status == "damaged"
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_3.bin: no such file.*Remedy"):
        datasets.load("cifar10", tiny)


def test_cifar_sizes_and_labels_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "b.bin"
    path.write_bytes(bytes(2 * 3073 - 1))
    with pytest.raises(DataError, match="6145 bytes, expected 6146"):
        read_cifar(path, 2, 1, 10)
    path.write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(DataError, match="label 10, expected below 10"):
        read_cifar(path, 1, 1, 10)


def test_pickled_versions_are_refused(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    (folder / "cifar-10-batches-py").mkdir(parents=True)
    with pytest.raises(DataError, match=r"never read.*Remedy.*cifar10.tar.gz \(the binary version\)"):
        datasets.load("cifar10", folder)


def test_missing_data_names_places_and_remedy(tiny: Path) -> None:
    with pytest.raises(DataError, match=r"cifar10.*cache.*Remedy: `vibtheory data fetch cifar10`.*VIBTHEORY_DATA"):
        datasets.load("cifar10")
    statuses = {row.name: row.status for row in datasets.available()}
    assert statuses == {"mnist": "found", "fashion-mnist": "missing", "cifar10": "missing", "cifar100": "missing"}
    assert "missing" in str(datasets.verify("cifar10"))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_extraction_takes_only_named_files(name: str, tiny: Path, tmp_path: Path) -> None:
    entry = CATALOGUE[name]
    evil = tmp_path / "evil.tar.gz"
    (tmp_path / "x").write_bytes(b"x")
    with tarfile.open(evil, "w:gz") as tar:
        tar.add(tiny / entry.folder, arcname=entry.folder)
        tar.add(tmp_path / "x", arcname="../escaped")
        tar.add(tmp_path / "x", arcname=f"{entry.folder}/extra")
    fetching._extract(evil, tmp_path / "out", entry)
    got = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert got == {file.name for file in entry.files}
    assert not (tmp_path / "escaped").exists()
    with tarfile.open(evil, "w:gz") as tar:
        tar.add(tmp_path / "x", arcname="x")
    with pytest.raises(DataError, match=r"lacks.*Remedy"):
        fetching._extract(evil, tmp_path / "out2", entry)
    evil.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"not a readable archive.*Remedy"):
        fetching._extract(evil, tmp_path / "out3", entry)


def test_fetch_goes_through_the_cache(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(url: str, digest: str, folder: Path, name: str) -> Path:
        calls.append(url)
        return tmp_path / name

    monkeypatch.setattr(fetching, "_download", download)
    assert datasets.load("cifar10", download=True).x_test.shape == (4, 3, 32, 32)
    assert datasets.fetch("cifar10").status == "verified"
    assert calls == [CATALOGUE["cifar10"].archive_url]  # the second fetch finds everything intact
    assert datasets.fetch("mnist").status == "verified"


def test_failed_download_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"download failed.*Remedy"):
        fetching._download("nosuch://nowhere/file", "md5:" + 32 * "0", tmp_path, "file")


@pytest.mark.parametrize("call", [datasets.load, datasets.verify, datasets.fetch])
def test_unknown_name(call: object) -> None:
    with pytest.raises(InvalidInputError, match=r"mnist, fashion-mnist, cifar10, cifar100.*Remedy"):
        call("imagenet")  # type: ignore[operator]
