"""In a real browser: JupyterLab opens notebooks 01 and 04, runs all cells, a slider moves, the picture changes; in
notebook 09 an exercise answers.

Not collected by default, since it needs a chromium. Run it with

    make browser

Screenshots go to build/browser/.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page, expect

from vibtheory.teaching.gallery import build_gallery

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(window, request, shots):
    """A window for one test; what it showed last stays as a screenshot, which is what a failure is told by."""
    opened = window(viewport={"width": 1280, "height": 1000})
    yield opened
    opened.screenshot(path=shots / f"{re.sub(r'[^A-Za-z0-9_]+', '_', request.node.name)}_last.png")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab server on a free port, on a copy of the notebooks (saving must not touch the checkout)."""
    work = tmp_path_factory.mktemp("lab")
    for name in ("notebooks", "figures"):
        shutil.copytree(ROOT / name, work / name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    with open(home / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
             f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={work}", "--ServerApp.open_browser=False"],
            env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (home / "log").read_text()
                time.sleep(1)
        yield port, token
    finally:
        server.terminate()
        server.wait(30)


def _open(page: Page, lab: tuple[int, str], name: str) -> None:
    """The notebook in JupyterLab, its kernel at rest."""
    port, token = lab
    page.goto(f"http://127.0.0.1:{port}/lab/tree/notebooks/{name}.ipynb?token={token}&reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    # The status bar names the kernel once it lives; the notebook's own indicator says idle before there is one, and
    # running cells then asks which kernel to take.
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()


def _picture(page: Page) -> str:
    """The address of the first live picture: a new one for new bytes."""
    return str(page.locator("img.vibtheory-picture").first.get_attribute("src"))


@pytest.mark.parametrize("name", ["01_information_bottleneck", "04_intrinsic_sparsity"])
def test_runs_in_jupyterlab_and_the_slider_moves_the_picture(name, page, lab, shots):
    _open(page, lab, name)
    page.locator(".lm-MenuBar-item", has_text="Run").first.click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    page.wait_for_selector("img.vibtheory-picture", state="attached")
    # Done when the last cell, the headline table, has a fresh output and the kernel rests.
    page.wait_for_function(
        """() => { const status = document.querySelector('.jp-Notebook-ExecutionIndicator');
                   return status && status.dataset.status === 'idle'
                       && ![...document.querySelectorAll('.jp-InputPrompt')].some(
                              prompt => prompt.textContent.includes('[*]')); }"""
    )
    page.locator("img.vibtheory-picture").first.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('img.vibtheory-picture').naturalWidth > 100")
    before = _picture(page)
    page.screenshot(path=shots / f"{name}_before.png")
    page.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "src => document.querySelector('img.vibtheory-picture').getAttribute('src') !== src", arg=before
    )
    page.screenshot(path=shots / f"{name}_after.png")
    assert _picture(page) != before
    headline = page.locator(".jp-Notebook .jp-OutputArea-output").filter(has_text="expected").last
    headline.scroll_into_view_if_needed()
    page.screenshot(path=shots / f"{name}_headline.png")
    errors = page.locator('[data-mime-type="application/vnd.jupyter.error"], .jp-OutputArea-output.jp-mod-error')
    expect(errors).to_have_count(0)


def test_an_exercise_hints_when_wrong_and_praises_when_right(page, lab, shots):
    _open(page, lab, "09_from_the_principle")
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+Enter")  # the imports
    exercise = page.locator(".jp-CodeCell").filter(has_text='check("09.2"')
    for answer, words in (("0.35", "not yet, too small. Hint: ½ log(1 + α) is in nats"), ("0.5", "09.2: right.")):
        exercise.locator(".cm-content").click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(f'answer = {answer}\ncheck("09.2", answer)')
        page.keyboard.press("Control+Enter")
        exercise.locator(".jp-OutputArea-output", has_text=words).wait_for()
        page.screenshot(path=shots / f"exercise_{answer}.png")


@pytest.mark.parametrize(("device", "width"), [("phone", 390), ("desktop", 1280)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_gallery_without_network(device, width, scheme, window, tmp_path, shots):
    gallery = build_gallery(ROOT / "notebooks", tmp_path)
    page = window(viewport={"width": width, "height": 900}, color_scheme=scheme)
    wanted: list[str] = []
    page.on("request", lambda request: wanted.append(request.url))
    for path in (gallery.index, *gallery.pages):
        page.goto(path.as_uri())
        inside = page.evaluate("document.documentElement.scrollWidth")
        assert inside <= width, f"{path.name} is {inside} px wide on a {device}"
        broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).length")
        assert broken == 0
        page.screenshot(path=shots / f"gallery_{path.stem}_{device}_{scheme}.png", full_page=path == gallery.index)
    assert [url for url in wanted if re.match("https?:", url)] == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 26)"
    )


def test_a_slider_of_the_gallery_moves_from_a_file(page, tmp_path, shots):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    source = """
import matplotlib.pyplot as plt
from vibtheory.teaching import Explorer, Slider
def draw(height, width):
    figure, axes = plt.subplots(figsize=(3, 2))
    axes.bar([0], [height], width=width)
    axes.set(xlim=(-5, 5), ylim=(0, 10))
    return figure
Explorer(draw, "a bar", height=Slider("height", [1, 5, 9]), width=Slider("width", [1.0, 3.0]))
"""
    cells = [nbformat.v4.new_markdown_cell("# T\n\nS"), nbformat.v4.new_code_cell(source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "00_bar.ipynb")
    gallery = build_gallery(folder, tmp_path / "site", frames=True)
    page.goto(gallery.pages[0].as_uri())
    picture, hand = page.locator(".explorer img"), page.locator(".explorer input").first
    before = picture.get_attribute("src")
    hand.focus()
    page.keyboard.press("ArrowRight")
    expect(picture).not_to_have_attribute("src", before)
    expect(hand).to_have_attribute("aria-valuetext", "5")
    expect(page.locator(".explorer output")).to_have_text(["5", "1"])
    page.screenshot(path=shots / "gallery_slider.png")
    page.keyboard.press("ArrowLeft")
    expect(picture).to_have_attribute("src", before)
    page.wait_for_function("document.querySelector('.explorer img').naturalWidth > 100")
