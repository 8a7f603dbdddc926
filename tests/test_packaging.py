"""One list of dependencies in three files; the wheel holds the data; nothing machine-specific is locked."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vibtheory

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = {  # names that differ on conda
    "torch": ["pytorch"],
    "dask": ["dask", "distributed"],
    "mkdocstrings": ["mkdocstrings", "mkdocstrings-python"],
}


def _declared() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for text in [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]]


def _locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_lock_is_exact_and_portable() -> None:
    lines = [x for x in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if not x.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.]*", line), line
    assert len(_locked()) == len(lines)
    assert _locked()["torch"] == "2.13.0"


def test_every_dependency_is_locked_within_its_range() -> None:
    locked = _locked()
    for requirement in _declared():
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), str(requirement)


def test_lock_holds_everything_that_the_installed_packages_need() -> None:
    locked, seen, todo = _locked(), set(), [(r, r.extras) for r in _declared()]
    while todo:
        requirement, extras = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(extras)) in seen:
            continue
        seen.add((name, frozenset(extras)))
        assert name in locked or name.startswith(("nvidia-", "triton", "cuda-")), (
            name
        )  # the CPU build needs none of these
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if any(needed.marker is None or needed.marker.evaluate({"extra": extra}) for extra in ["", *extras]):
                todo.append((needed, needed.extras))
    assert len(seen) > 30


def test_environment_yml_is_the_same_list() -> None:
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    conda = set(re.findall(r"^ +- ([a-z][a-z0-9-]*(?:>=[0-9.]+)?)$", text, flags=re.MULTILINE))
    wanted = {f"python{PROJECT['requires-python']}", "pip", "conda-forge"}
    for requirement in _declared():
        wanted |= {f"{name}{requirement.specifier}" for name in CONDA.get(requirement.name, [requirement.name])}
    assert conda == wanted


def test_wheel_holds_data_and_types(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "vibtheory", source / "vibtheory", ignore=ignore)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source / name)
    code = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for part in (
        "py.typed",
        "studies/published/table1.csv",
        "studies/published/table4.csv",
        "datasets/mnist/train-images-idx3-ubyte.gz",
    ):
        assert f"vibtheory/{part}" in names
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "vibtheory").rglob("*.py")}
    assert modules <= names


def test_one_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert vibtheory.__version__ == PROJECT["version"]
    assert f"\nversion: {PROJECT['version']}\n" in citation
