"""`doctor`: what this machine offers to vibtheory, and what is missing, each with its remedy. Nothing is downloaded."""

from __future__ import annotations

import locale
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from vibtheory.storage.report import Report

__all__ = ["Health", "Inspection", "doctor"]


@dataclass(frozen=True)
class Inspection:
    """One thing that was looked at.

    Attributes:
        topic: "versions", "devices", "data", "folders" or "terminal".
        name: what was looked at.
        status: "ok", "missing" (something optional is not there) or "broken" (vibtheory cannot work like this).
        detail: what was found.
        remedy: what to do about it; empty where all is well.
    """

    topic: str
    name: str
    status: str
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        mark = {"ok": "ok", "missing": "--", "broken": "!!"}[self.status]
        return f"{mark} {self.name}: {self.detail}" + (f". Remedy: {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class Health(Report):
    """What `doctor` found; its frame has one row per finding.

    Attributes:
        findings: in the order of the report.
        status: "ready", "ready, something optional is missing", or "broken".
    """

    findings: tuple[Inspection, ...]

    @property
    def status(self) -> str:
        """The worst of the findings, in words."""
        found = {finding.status for finding in self.findings}
        if "broken" in found:
            return "broken"
        return "ready, something optional is missing" if "missing" in found else "ready"

    def __str__(self) -> str:
        lines, topic = [], ""
        for finding in self.findings:
            if finding.topic != topic:
                topic = finding.topic
                lines.append(f"{topic}")
            lines.append(f"  {finding}")
        return "\n".join([*lines, f"vibtheory is {self.status}"])

    def _table(self) -> list[dict[str, Any]]:
        return [asdict(finding) for finding in self.findings]

    def _content(self) -> dict[str, Any]:
        return {"status": self.status, "findings": self.findings}


def doctor(folder: str | os.PathLike[str] = ".") -> Health:
    """Look at versions, devices, data sets, folders and the terminal. Nothing is downloaded; no file stays behind.

    Args:
        folder: where runs and figures are to be written.

    Returns:
        The findings; `str()` is the report that `vibtheory doctor` prints.
    """
    topics = (_versions(), _devices(), _data(), _folders(Path(folder)), _terminal())
    return Health(tuple(finding for topic in topics for finding in topic))


def _versions() -> Iterator[Inspection]:
    from packaging.requirements import Requirement

    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Inspection("versions", "python", "ok", python)
    try:
        wanted = [Requirement(text) for text in metadata.requires("vibtheory") or []]
        yield Inspection("versions", "vibtheory", "ok", metadata.version("vibtheory"))
    except metadata.PackageNotFoundError:
        yield Inspection("versions", "vibtheory", "broken", "not installed", "pip install -e . in the source folder")
        return
    for requirement in wanted:
        extra = str(requirement.marker).partition('"')[2].rstrip('"') if requirement.marker else ""
        if extra in ("dev", "docs"):  # for those who change vibtheory
            continue
        where, without = (f'"vibtheory[{extra}]"', "missing") if extra else ("vibtheory", "broken")
        name = requirement.name + (f" (extra {extra})" if extra else "")
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Inspection("versions", name, without, "not installed", f"pip install {where}")
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        remedy = "" if fits else f'pip install "{requirement.name}{requirement.specifier}"'
        yield Inspection("versions", name, "ok" if fits else without, version, remedy)


def _devices() -> Iterator[Inspection]:
    try:
        import torch
    except ImportError as error:
        remedy = "pip install --force-reinstall torch"
        yield Inspection("devices", "torch", "broken", f"does not load ({error})", remedy)
        return
    threads = torch.get_num_threads()
    same = "the same seed gives the same bits for the same number of threads"
    yield Inspection("devices", "cpu", "ok", f"{os.cpu_count()} cores; torch uses {threads} threads ({same})")
    if not torch.cuda.is_available():
        remedy = "none is needed for MNIST; for CIFAR install a CUDA build of torch on a machine with a GPU"
        yield Inspection("devices", "cuda", "missing", f"no GPU that torch {torch.__version__} can use", remedy)
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        yield Inspection("devices", f"cuda:{index}", "ok", f"{properties.name}, {memory:.0f} GiB")


def _data() -> Iterator[Inspection]:
    from vibtheory.datasets import available, verify

    for entry in available():
        if entry.name == "mnist":
            entry = verify("mnist")  # comes with the package, so it has to be intact
        status = {"missing": "missing", "damaged": "broken"}.get(entry.status, "ok")
        detail = f"{entry.status} in {entry.folder}" if entry.folder else entry.status
        remedy = {"missing": f"vibtheory data fetch {entry.name}", "broken": "install vibtheory again"}.get(status, "")
        yield Inspection("data", entry.name, status, detail, remedy)


def _folders(folder: Path) -> Iterator[Inspection]:
    from vibtheory.datasets.store import cache_folder

    remedy = "make it writable, or choose another folder"
    yield _writable("runs and figures", folder, "broken", remedy)
    yield _writable("downloads", cache_folder(), "missing", "set XDG_CACHE_HOME to a writable folder")
    yield _writable("temporary files", Path(tempfile.gettempdir()), "broken", "set TMPDIR to a writable folder")


def _writable(name: str, folder: Path, otherwise: str, remedy: str) -> Inspection:
    """Whether a file can be made in `folder`, or in the nearest folder above that is there."""
    there = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return Inspection("folders", name, otherwise, f"{folder} cannot be written ({error.strerror or error})", remedy)
    free = shutil.disk_usage(there).free / 2**30
    if free < 0.5:
        return Inspection("folders", name, "missing", f"{folder}, {free:.2f} GiB free", "free some space")
    return Inspection("folders", name, "ok", f"{folder}, writable, {free:.0f} GiB free")


def _terminal() -> Iterator[Inspection]:
    encoding = (getattr(sys.stdout, "encoding", None) or locale.getpreferredencoding(False)).lower()
    unicode = encoding.replace("-", "") in ("utf8", "utf16", "utf32")
    remedy = "" if unicode else "set PYTHONUTF8=1 to see γ and α instead of escapes"
    yield Inspection("terminal", "encoding", "ok" if unicode else "missing", encoding, remedy)
