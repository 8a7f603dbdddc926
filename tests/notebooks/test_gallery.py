"""The static site: one page per notebook, everything inside the files, no address outside them."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import nbformat
import pytest

from vibtheory.errors import DataError
from vibtheory.teaching.__main__ import main
from vibtheory.teaching.gallery import build_gallery
from vibtheory.teaching.lite import browser_wheel

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build_gallery(NOTEBOOKS, tmp_path_factory.mktemp("site"))


def test_every_notebook_has_a_page_and_a_card(site):
    index = site.index.read_text(encoding="utf-8")
    names = [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    assert [page.stem for page in site.pages] == names
    for name in names:
        assert f'href="{name}.html"' in index
    assert index.count('src="data:image/png;base64,') == len(names)
    assert "open" in str(site)


def test_nothing_comes_from_elsewhere_and_the_reader_chooses_the_light(site):
    for page in (site.index, *site.pages):
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text
        assert "<link" not in text
        assert not re.search(r'(src|href)="(?!data:|[0-9a-z_]+\.html|\.\./[a-z_/]+\.html|#)', text)
        assert "prefers-color-scheme: dark" in text
        assert 'name="viewport"' in text


def test_links_lead_to_pages_of_the_documentation(site):
    targets = {t for page in site.pages for t in re.findall(r'href="\.\./([^"#]+)', page.read_text(encoding="utf-8"))}
    docs = NOTEBOOKS.parent / "docs"
    assert {"index.html", "theory.html"} <= targets <= {
        str(page.relative_to(docs).with_suffix(".html")) for page in docs.rglob("*.md")
    }


def test_pictures_keep_their_alternative_text_and_no_solution_is_shown(site):
    text = (site.index.parent / "04_intrinsic_sparsity.html").read_text(encoding="utf-8")
    assert "put your answer in the place of None" in text
    assert "opening.max()" not in text
    images = re.findall(r"<img[^>]*>", text)
    assert images
    assert all(re.search(r'alt="[^"]{30,}"', image) for image in images)


def test_code_above_pictures_is_folded_and_contents_lead_to_headings(site):
    text = (site.index.parent / "04_intrinsic_sparsity.html").read_text(encoding="utf-8")
    cells = text.split('<div class="cell ')[1:]
    pictures = [cell for cell in cells if "<img" in cell]
    assert pictures
    assert all("<summary>Code</summary>" in cell for cell in pictures)
    assert text.count("<summary>Code</summary>") == len(pictures)
    anchors = re.findall(r'<h2 id="([a-z0-9-]+)">', text)
    assert len(anchors) == len(set(anchors)) == text.count("<h2") >= 4
    assert re.findall(r'<li><a href="#([^"]+)">', text)[: len(anchors)] == anchors


def test_formulas_are_typeset(site):
    text = (site.index.parent / "09_from_the_principle.html").read_text(encoding="utf-8")
    source = (NOTEBOOKS / "09_from_the_principle.ipynb").read_text(encoding="utf-8")
    assert text.count("<math") > 60
    assert text.count('display="block"') >= source.count("$$") / 2
    assert len(re.findall(r'<math alttext="[^"]+"', text)) == text.count("<math")
    prose = re.sub(r'<pre.*?</pre>| alttext="[^"]*"', "", text, flags=re.DOTALL)
    assert not {"$", "\\"} & set(re.sub(r"<style.*?</style>", "", prose, flags=re.DOTALL))
    assert "FORMULA" not in text


def test_what_cannot_be_shown_is_said(tmp_path, capsys):
    with pytest.raises(DataError, match="no notebooks"):
        build_gallery(tmp_path, tmp_path / "site")
    bare = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# T\n\nS")])
    nbformat.write(bare, tmp_path / "bare.ipynb")
    with pytest.raises(DataError, match="has no picture"):
        build_gallery(tmp_path, tmp_path / "site")
    assert main(["gallery", "--notebooks", str(tmp_path / "none")]) == 2
    assert "Remedy" in capsys.readouterr().err


def test_command_line(tmp_path, capsys):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(NOTEBOOKS / "04_intrinsic_sparsity.ipynb", folder)
    assert main(["gallery", "--notebooks", str(folder), "--out", str(tmp_path / "site")]) == 0
    assert "1 notebooks" in capsys.readouterr().out
    assert (tmp_path / "site" / "index.html").exists()


def test_the_browsers_wheel_asks_for_nothing_that_a_browser_lacks(tmp_path):
    with zipfile.ZipFile(browser_wheel(tmp_path)) as wheel:
        (metadata,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
        assert re.findall("Requires-Dist: (.*)", wheel.read(metadata).decode()) == [
            "numpy", "scipy", "pandas", "matplotlib", "lazy-loader", "ipywidgets"]  # fmt: skip
        assert not [name for name in wheel.namelist() if "mnist/" in name and not name.endswith(".py")]
        assert {"vibtheory/__init__.pyi", "vibtheory/teaching/gallery.js"} <= set(wheel.namelist())
