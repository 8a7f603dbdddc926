"""Where data files lie, and whether they are the canonical ones: root, $VIBTHEORY_DATA, the user cache, the package."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from vibtheory.datasets.catalogue import DataFile, Entry
from vibtheory.errors import DataError

__all__ = ["check_file", "locate"]

_PACKAGED = Path(__file__).parent  # holds mnist/
_PICKLED = ("data_batch_1", "cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar-100-python",
            "cifar-100-python.tar.gz")  # fmt: skip


def check_file(path: Path, file: DataFile) -> None:
    """Compare a file's checksum with the canonical ones.

    Raises:
        DataError: the file is missing, or its checksum is none of `file.digests`.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file. Remedy: `vibtheory data fetch`, or copy the canonical file there")
    found = []
    for algorithm in dict.fromkeys(digest.partition(":")[0] for digest in file.digests):
        with path.open("rb") as stream:
            found.append(f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}")
    if not set(found) & set(file.digests):
        raise DataError(
            f"{path}: checksum {', '.join(found)}, expected {' or '.join(file.digests)}. The file is damaged or not "
            "the canonical one. Remedy: delete it and run `vibtheory data fetch`, or copy the canonical file there"
        )


def locate(entry: Entry, root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds a data set's files: the first place that has one of them.

    Args:
        entry: which data set.
        root: look only there (in it, or in its subfolder `entry.folder`). None: the package for MNIST, else
            $VIBTHEORY_DATA, then the user cache.

    Raises:
        DataError: none of the places has it; the message lists them and the remedy.
    """
    if root is None and entry.name == "mnist":
        return _PACKAGED / entry.folder
    if root is not None:
        places = [Path(root)]
    else:
        places = [Path(folder) for folder in (os.environ.get("VIBTHEORY_DATA"), cache_folder()) if folder]
    folders = [folder for place in places for folder in (place / entry.folder, place)]
    for folder in folders:
        if any((folder / file.name).is_file() for file in entry.files):
            return folder
    pickled = [folder / name for folder in folders for name in _PICKLED if (folder / name).exists()]
    pickled += [folder / "train" for folder in folders if (folder / "train").is_file() and (folder / "meta").is_file()]
    wrong = f" {pickled[0]} is the pickled python version, which is never read." if pickled else ""
    packed = [place for place in places if entry.archive and (place / entry.archive.name).is_file()]
    unpack = f"unpack {packed[0] / entry.archive.name}" if packed and entry.archive else ""
    take = f"take {entry.archive.name} (the binary version)" if entry.archive else "take the canonical .gz files"
    raise DataError(
        f"{entry.name}: {entry.files[0].name} is in none of {', '.join(map(str, folders))}.{wrong} Remedy: "
        f"`vibtheory data fetch {entry.name}`, or {unpack or take} and pass root= or set VIBTHEORY_DATA"
    )


def cache_folder() -> Path:
    """The user's cache for downloaded data."""
    import pooch

    return Path(pooch.os_cache("vibtheory"))
