"""All notebooks as one static HTML site: an index of thumbnails, light and dark, readable on a phone, no network."""

from __future__ import annotations

import base64
import copy
import html
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vibtheory.errors import DataError
from vibtheory.figures.style import thumbnail
from vibtheory.storage.files import write_text
from vibtheory.teaching import notebooks
from vibtheory.teaching.mathml import mathml

__all__ = ["Gallery", "build_gallery"]

_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.DOTALL)
_CELL = re.compile(r'<div class="cell [^"]*code_cell.*?(?=<div class="cell |\Z)', re.DOTALL)
_STYLE, _SCRIPT = (Path(__file__).with_name(name) for name in ("gallery.css", "gallery.js"))
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


@dataclass(frozen=True)
class Gallery:
    """What `build_gallery` wrote.

    Attributes:
        index: the site's first page.
        pages: one per notebook.
        bytes: size of all pages together.
    """

    index: Path
    pages: tuple[Path, ...]
    bytes: int

    def __str__(self) -> str:
        return f"{len(self.pages)} notebooks, {self.bytes / 1e6:.1f} MB: open {self.index}"


def build_gallery(
    folder: str | Path = "notebooks", out: str | Path = "site/gallery", *, frames: bool = False
) -> Gallery:
    """Render every notebook of `folder` as it is committed.

    Args:
        folder: holds the .ipynb files.
        out: where the site goes, a folder of the documentation's site; pages of the same name are replaced.
        frames: execute the notebooks (minutes) and draw every setting of every slider ahead, so that they move.

    Raises:
        DataError: no notebook, or one without a picture.
        MissingDependencyError: nbconvert or latex2mathml is not installed.
    """
    paths = sorted(Path(folder).glob("*.ipynb"))
    if not paths:
        raise DataError(f"no notebooks in {folder}. Remedy: pass the folder that holds the .ipynb files")
    target = Path(out)
    cards, pages, size = [], [], 0
    exporter = notebooks.module("nbconvert").HTMLExporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True
    )
    for number, path in enumerate(paths):
        notebook = notebooks.read(path)
        if frames:
            notebook = notebooks.run(notebook, path, frames=True)
        title, sentence = notebooks.summary(notebook)
        page = target / f"{path.stem}.html"
        before = paths[number - 1] if number else None
        after = paths[number + 1] if number + 1 < len(paths) else None
        size += _write(page, title, _navigation(before, after) + _body(exporter, notebook) + _navigation(before, after))
        pages.append(page)
        cards.append(
            f'<a class="card" href="{page.name}"><img src="data:image/png;base64,{_thumbnail(notebook, path)}" alt="">'
            f"<h2>{html.escape(path.stem[:2])} · {html.escape(title)}</h2><p>{_inline(sentence)}</p></a>"
        )
    still = "" if frames else " Pictures with sliders show their first setting here (<code>make gallery</code>: all)."
    beside = '<a href="../course.html">the course</a>, <a href="../figures.html">all figures</a>'
    head = (
        "<header><h1>vibtheory: notebooks</h1><p>From the information-bottleneck principle to a certified "
        f"sparse network: {beside}.{still}</p></header>"
    )
    index = target / "index.html"
    size += _write(index, "vibtheory: notebooks", f'{head}<main class="cards">{"".join(cards)}</main>')
    return Gallery(index, tuple(pages), size)


def _body(exporter: Any, notebook: Any) -> str:
    """The cells as HTML; a formula waits as a word while Markdown is read, which would take its stars for emphasis."""
    formulas: list[str] = []

    def wait(found: re.Match[str]) -> str:
        inline = found.group(2) is not None
        formulas.append(mathml(found.group(2) if inline else found.group(1), inline=inline))
        return f"FORMULA{len(formulas) - 1}."

    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _MATH.sub(wait, cell.source)
    body, _ = exporter.from_notebook_node(notebook)
    headings: dict[str, str] = {}  # by an anchor of ASCII letters, whatever the heading's

    def anchored(found: re.Match[str]) -> str:
        anchor = re.sub("[^a-z0-9]+", "-", re.sub(r"FORMULA\d+\.", "", found.group(1)).lower()).strip("-")
        headings[anchor] = found.group(1)
        return f'<h2 id="{anchor}">{found.group(1)}</h2>'

    body = re.sub(r"<h2[^>]*>(.*?)(?:<a class=.anchor-link.*?</a>)?</h2>", anchored, body)
    contents = "".join(f'<li><a href="#{anchor}">{heading}</a></li>' for anchor, heading in headings.items())
    body = f"<details><summary>Contents</summary><ul>{contents}</ul></details>{_CELL.sub(_folded, body)}"
    body = re.sub(r"FORMULA(\d+)\.", lambda found: formulas[int(found.group(1))], body)
    body = re.sub(r'href="\.\./docs/([^"#]+)\.md', r'href="../\1.html', body)  # the docs lie above
    return f"<main>{body}</main>"


def _folded(found: re.Match[str]) -> str:
    """A cell; above a picture the code waits to be opened."""
    code = r"\g<0>" if "<img" not in found.group() else r"<details><summary>Code</summary>\g<0></details>"
    return re.sub(r'<div class="\s*highlight.*?</pre></div>', code, found.group(), count=1, flags=re.DOTALL)


def _thumbnail(notebook: Any, path: Path) -> str:
    """The last picture of the cell tagged "thumbnail", else of the first cell that has one; scaled, base64."""
    cells = [cell for cell in notebook.cells if "thumbnail" in cell.metadata.get("tags", [])] + list(notebook.cells)
    for cell in cells:
        for output in cell.get("outputs", []):
            picture = output.get("data", {}).get("image/png")
            if picture:
                return thumbnail(io.BytesIO(base64.b64decode(picture)), 560)
    raise DataError(f"{path} has no picture. Remedy: execute it: python -m vibtheory.teaching run {path}")


def _navigation(before: Path | None, after: Path | None) -> str:
    links = ['<a href="index.html">all notebooks</a>', '<a href="../index.html">documentation</a>']
    if before is not None:
        links.insert(0, f'<a href="{before.stem}.html">← {before.stem[:2]}</a>')
    if after is not None:
        links.append(f'<a href="{after.stem}.html">{after.stem[:2]} →</a>')
    return f"<nav>{' · '.join(links)}</nav>"


def _inline(text: str) -> str:
    """Markdown's emphasis and code in one sentence, as HTML."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def _write(path: Path, title: str, body: str) -> int:
    if re.search("class=.explorer", body):
        body += f"<script>{_SCRIPT.read_text(encoding='utf-8')}</script>"
    text = _PAGE.format(title=html.escape(title), style=_STYLE.read_text(encoding="utf-8"), body=body)
    write_text(path, text)
    return len(text.encode("utf-8"))
