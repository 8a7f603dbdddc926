"""A JupyterLite site: Python in the reader's browser, for the notebooks that need neither torch nor cvxpy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import vibtheory
from vibtheory.teaching import notebooks

__all__ = ["BROWSER_NOTEBOOKS", "browser_wheel", "build_lite"]

BROWSER_NOTEBOOKS = ("03_gates", "04_intrinsic_sparsity", "09_from_the_principle")
_REQUIRED = ("numpy", "scipy", "pandas", "matplotlib", "lazy-loader", "ipywidgets")
_INSTALL = "%pip install -q vibtheory"


def build_lite(folder: str | Path = "notebooks", out: str | Path = "site/lite") -> Path:
    """Write the site; its pages need a web server, and a kernel the reader's network, once (docs/course.md).

    Args:
        folder: holds the .ipynb files and `recorded/`; each notebook's copy first installs the site's own wheel.
        out: where the site goes.

    Returns:
        The site's first page.

    Raises:
        DataError: one of `BROWSER_NOTEBOOKS` is not in `folder`.
        MissingDependencyError: jupyterlite_core or nbformat is not installed.
    """
    notebooks.module("jupyterlite_core")
    target = Path(out).resolve()
    with tempfile.TemporaryDirectory() as work:
        contents = Path(work, "files")
        shutil.copytree(Path(folder, "recorded"), contents / "notebooks/recorded")
        for name in BROWSER_NOTEBOOKS:
            notebook = notebooks.read(Path(folder, f"{name}.ipynb"))
            notebook.cells.insert(1, notebooks.module("nbformat").v4.new_code_cell(_INSTALL, id="install"))
            notebook.metadata.kernelspec = {"display_name": "Python (Pyodide)", "language": "python", "name": "python"}
            notebooks.write(notebook, contents / "notebooks" / f"{name}.ipynb")
        subprocess.run(
            [sys.executable, "-m", "jupyterlite_core", "build", "--lite-dir", work, "--contents", str(contents),
             "--piplite-wheels", str(browser_wheel(work)), "--output-dir", str(target), "--apps", "notebooks",
             "--apps", "tree", "--no-unused-shared-packages", "--no-sourcemaps"],
            check=True, cwd=work, env=os.environ | {"JUPYTER_CONFIG_DIR": work}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return target / "index.html"


def browser_wheel(folder: str | Path) -> Path:
    """This package as a wheel without MNIST, which requires only what a browser has; returns its path in `folder`."""
    name, package = f"vibtheory-{vibtheory.__version__}", Path(vibtheory.__file__).parent
    kinds = {".py", ".pyi", ".css", ".js", ".csv", ".toml"}
    wheel = Path(folder, f"{name}-py3-none-any.whl")
    about = {
        "METADATA": f"Metadata-Version: 2.1\nName: vibtheory\nVersion: {vibtheory.__version__}\n"
        + "".join(f"Requires-Dist: {required}\n" for required in _REQUIRED),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: vibtheory\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*")):
            if path.suffix in kinds:
                archive.write(path, path.relative_to(package.parent))
        for part, text in about.items():
            archive.writestr(f"{name}.dist-info/{part}", text)
        record = f"{name}.dist-info/RECORD"
        archive.writestr(record, "".join(f"{written},,\n" for written in [*archive.namelist(), record]))
    return wheel
