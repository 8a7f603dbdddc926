"""In a real browser: every page of the documentation site, from the disk, on a desktop and on a phone.

Not collected by default, since it needs a chromium. Run it, with the notebooks, by

    make browser

Screenshots of the theory page go to build/browser/.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import expect

ROOT = Path(__file__).parents[2]

# What MathML asks for: a base and its scripts; a browser draws anything else as one row, too small.
CHILDREN = {"msub": 2, "msup": 2, "msubsup": 3, "munder": 2, "mover": 2, "munderover": 3, "mfrac": 2, "mroot": 2}
MISSHAPEN = """children => [...document.querySelectorAll('math *')].filter(
    e => e.localName in children && e.childElementCount !== children[e.localName]).map(e => e.outerHTML)"""
FLAT = """[...document.querySelectorAll('mfrac')].filter(
    e => e.firstElementChild.getBoundingClientRect().bottom
         > e.lastElementChild.getBoundingClientRect().top + 1).map(e => e.outerHTML)"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as `make docs` builds it, from today's pages, in a folder of its own."""
    into = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(into)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=True,
    )  # fmt: skip
    return into


@pytest.fixture(params=[1200, 390], ids=["desktop", "phone"])
def page(request, window):
    """A window for one test, which fails afterwards if the console complained or anything but a file was asked for."""
    opened = window(viewport={"width": request.param, "height": 900})
    context = opened.context
    wrong: list[str] = []
    context.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url))
    context.on("requestfailed", lambda asked: None if "ABORTED" in str(asked.failure) else wrong.append(asked.url))
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    context.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    yield opened
    assert wrong == []


def _pages(site: Path) -> list[Path]:
    return [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]  # its links are a server's


def test_no_page_is_wider_than_the_window(site, page):
    pages = _pages(site)
    assert {"index.html", "theory.html", "gpu.html"} <= {path.name for path in pages}
    assert len(pages) >= len(list((ROOT / "docs").rglob("*.md")))
    for path in pages:
        page.goto(path.as_uri())
        assert page.locator(".md-content h1").count() == 1, path.name
        inside = page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
        assert inside <= page.viewport_size["width"], f"{path.name} is {inside} px wide"
        assert page.evaluate("[...document.images].filter(i => !i.naturalWidth).length") == 0, path.name


def test_formulas_are_drawn(site, page, shots):
    """docs/hooks.py made MathML of each; the browser lays it out, with nothing of LaTeX left to read."""
    page.goto((site / "theory.html").as_uri())
    page.screenshot(path=shots / f"docs_theory_{page.viewport_size['width']}.png", full_page=True)
    assert page.locator("math").count() > 150
    assert page.locator(".arithmatex").count() == 0
    assert not {"$", "\\"} & set(page.locator(".md-content").inner_text())
    assert (
        page.evaluate("[...document.querySelectorAll('math')].filter(m => m.getBoundingClientRect().width < 3)") == []
    )
    assert page.evaluate(MISSHAPEN, CHILDREN) == []
    assert page.locator("mfrac").count() > 15
    assert page.evaluate(FLAT) == []
    for path in _pages(site):
        if path.name != "theory.html":
            page.goto(path.as_uri())
            assert page.evaluate(MISSHAPEN, CHILDREN) == [], path.name


def test_the_menu_leads_to_the_how_to_pages(site, page):
    sections = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    (how_to,) = (entry["How to"] for entry in sections if "How to" in entry)
    titles = {title: file for entry in how_to for title, file in entry.items()}
    assert len(titles) >= 6
    page.goto((site / "index.html").as_uri())
    page.locator("label.md-header__button[for=__drawer]").click()
    menu = page.locator("nav.md-nav--primary")
    menu.locator("label.md-nav__link", has_text="How to").click()
    for title, file in titles.items():
        link = menu.get_by_role("link", name=title, exact=True)
        expect(link).to_be_in_viewport()
        assert link.get_attribute("href") == Path(file).with_suffix(".html").as_posix()
    menu.get_by_role("link", name="Use a GPU", exact=True).click()
    page.wait_for_url("**/howto/gpu.html")
    expect(page.locator(".md-content h1")).to_be_visible()


def test_no_page_of_the_api_is_a_wall(site, page):
    for path in sorted((site / "api").glob("*.html")):
        page.goto(path.as_uri())
        assert len(page.locator(".md-content").inner_text().split()) < 4500, path.name


def test_search_finds_a_word_where_the_site_is_served(site, served, window, shots):
    page = window(viewport={"width": 1200, "height": 900})
    page.goto(f"{served(site)}/index.html")
    expect(page.locator(".md-search-result__meta")).to_have_text("Type to start searching")  # it listens now
    page.get_by_role("textbox", name="Search").press_sequentially("Blahut")  # to keys, which fill() does not press
    page.locator(".md-search-result__item").first.wait_for()
    page.screenshot(path=shots / "docs_search.png")
    page.locator(".md-search-result__link").first.click()
    page.wait_for_url("**/api/bottleneck.html**")
    expect(page.locator(".md-content")).to_contain_text("Blahut")
