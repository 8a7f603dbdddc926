"""What is there, whether it is intact, and the checked download: behind `vibtheory data list|verify|fetch`."""

from __future__ import annotations

import os
import tarfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from vibtheory.datasets.catalogue import CATALOGUE, Entry
from vibtheory.datasets.store import cache_folder, check_file, locate
from vibtheory.errors import DataError, check_choice

__all__ = ["Availability", "available", "fetch", "verify"]


@dataclass(frozen=True)
class Availability:
    """Whether a data set can be loaded.

    Attributes:
        name, title, source: what it is, and its terms.
        folder: where its files lie; None if nowhere.
        status: "found" (not checked), "verified", "missing" or "damaged".
        detail: for "missing" and "damaged", what was found and the remedy.
    """

    name: str
    title: str
    source: str
    folder: Path | None
    status: str
    detail: str = ""

    def __str__(self) -> str:
        where = f" in {self.folder}" if self.folder else ""
        return f"{self.title} ({self.name}): {self.status}{where}" + (f". {self.detail}" if self.detail else "")


def available(root: str | os.PathLike[str] | None = None) -> tuple[Availability, ...]:
    """Every data set known here, and where it was found (`root`: look only there); nothing is read or downloaded."""
    return tuple(_look(entry, root) for entry in CATALOGUE.values())


def _look(entry: Entry, root: str | os.PathLike[str] | None) -> Availability:
    try:
        folder = locate(entry, root)
    except DataError as error:
        return Availability(entry.name, entry.title, entry.source, None, "missing", str(error))
    return Availability(entry.name, entry.title, entry.source, folder, "found")


def verify(name: str, root: str | os.PathLike[str] | None = None) -> Availability:
    """Check every file of a data set against its canonical checksum; `root`: look only there.

    Raises:
        InvalidInputError: an unknown name. (Missing or damaged files are a status.)
    """
    check_choice("name", name, CATALOGUE)
    entry = CATALOGUE[name]
    found = _look(entry, root)
    if found.folder is None:
        return found
    try:
        for file in entry.files:
            check_file(found.folder / file.name, file)
    except DataError as error:
        return replace(found, status="damaged", detail=str(error))
    return replace(found, status="verified")


def fetch(name: str) -> Availability:
    """Download a data set's canonical files into the user cache, checksums verified; what is intact is kept.

    Raises:
        InvalidInputError: an unknown name.
        DataError: the download failed or its checksum is wrong.
    """
    check_choice("name", name, CATALOGUE)
    entry = CATALOGUE[name]
    if entry.files_url is None and entry.archive is None:
        return verify(name)  # comes with the package
    target = cache_folder() / entry.folder
    if entry.archive is not None and entry.archive_url is not None:
        if verify(name, target).status in ("missing", "damaged"):
            packed = _download(entry.archive_url, entry.archive.digests[0], target.parent, entry.archive.name)
            _extract(packed, target.parent, entry)
    else:
        for file in entry.files:
            _download(f"{entry.files_url}{file.name}", file.digests[0], target, file.name)
    return verify(name, target)


def _download(url: str, digest: str, folder: Path, name: str) -> Path:
    import pooch

    try:
        return Path(pooch.retrieve(url, known_hash=digest, fname=name, path=folder))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        remedy = f"try again, or put the file into {folder} by hand"
        raise DataError(f"{url}: download failed ({error}). Remedy: {remedy}") from error


def _extract(archive: Path, into: Path, entry: Entry) -> None:
    """Unpack the data set's own files and nothing else."""
    wanted = {f"{entry.folder}/{file.name}" for file in entry.files}
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.name in wanted and member.isfile()]
            missing = wanted - {member.name for member in members}
            if missing:
                raise DataError(f"{archive}: lacks {sorted(missing)}. Remedy: delete it and fetch again")
            tar.extractall(into, members=members, filter="data")
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:  # OSError: gzip's, or a full disk
        detail = " ".join(str(error).split())  # tarfile's messages have several lines
        raise DataError(
            f"{archive}: not a readable archive, or no space for it ({type(error).__name__}: {detail}). "
            "Remedy: delete it and fetch again; if the disk is full or the folder read-only, mend that first"
        ) from error
