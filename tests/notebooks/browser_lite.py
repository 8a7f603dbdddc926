"""In a real browser: JupyterLite opens a notebook of its own, without network; Python itself would come from there.

Not collected by default, since it needs a chromium. What the browser's Python would run is run by this one, from the
site's wheel, with torch, cvxpy and what else it will not find there hidden. Run it by

    make browser
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from vibtheory.teaching.lite import BROWSER_NOTEBOOKS, build_lite

ROOT = Path(__file__).parents[2]
CELLS = """
import os, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "cvxpy", "numba", "torch_pruning", "pooch", "seaborn", "pydantic", "joblib"}:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from IPython.core.interactiveshell import InteractiveShell
import nbformat, vibtheory
assert os.path.commonpath([vibtheory.__file__, sys.argv[2]]) == sys.argv[2]
shell = InteractiveShell.instance()
for cell in nbformat.read(sys.argv[1], as_version=4).cells:
    if cell.cell_type == "code" and not cell.source.startswith("%pip"):
        shell.run_cell(cell.source).raise_error()
"""


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    into = tmp_path_factory.mktemp("lite")
    return build_lite(ROOT / "notebooks", into).parent


def test_a_notebook_opens_and_is_read(lite, served, window, shots):
    page = window(viewport={"width": 1280, "height": 1000})
    address = served(lite)
    page.goto(f"{address}/notebooks/index.html?path=notebooks/04_intrinsic_sparsity.ipynb")
    page.get_by_role("heading", name="Intrinsic sparsity").first.wait_for()
    expect(page.locator(".jp-CodeCell", has_text="%pip install -q vibtheory")).to_have_count(1)
    page.locator(".jp-OutputArea-output img").first.wait_for()
    assert "vibtheory" in page.request.get(f"{address}/pypi/all.json").json()
    page.screenshot(path=shots / "lite.png")


@pytest.mark.parametrize("name", BROWSER_NOTEBOOKS)
def test_its_notebooks_run_on_what_a_browser_has(name, lite, tmp_path):
    (wheel,) = lite.glob("pypi/vibtheory*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(tmp_path)], check=True)
    subprocess.run(
        [sys.executable, "-c", CELLS, f"{name}.ipynb", str(tmp_path)], check=True, cwd=lite / "files/notebooks",
        env=os.environ | {"PYTHONPATH": str(tmp_path), "MPLBACKEND": "agg"},
    )  # fmt: skip
