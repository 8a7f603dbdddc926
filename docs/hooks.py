"""Hooks of the documentation site: LaTeX becomes MathML, which browsers draw by themselves; figures/ lies within it."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from vibtheory.teaching.mathml import mathml

_MATH = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL)
# "mu, w, gamma: …" among a class's attributes, which the docstrings' reader takes for a name and its type.
_SEVERAL = re.compile(r"<b><code>(?:<[^>]*>)*(\w+,)(?:<[^>]*>)*</code></b>\s*\(<code>(.*?)</code>\)", re.DOTALL)
FIGURES = Path(__file__).resolve().parents[1] / "figures"


def on_files(files: Any, config: Any) -> Any:
    """Add the committed pictures, which pages name as they lie in the repository: ../figures/table1.png."""
    for path in sorted([*FIGURES.glob("*.png"), *FIGURES.glob("*.gif")]):
        files.append(File.generated(config, f"figures/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(text: str, **_: Any) -> str:
    """Lead pages of docs/ to the site's own copies of the pictures, each a link to itself at full size."""
    return re.sub(r"!\[([^]]*)\]\(\.\./(figures/[^)]+)\)", r"[![\1](\2)](\2)", text)


def on_page_content(text: str, **_: Any) -> str:
    """Replace every formula of a page; a formula that cannot be read stops the build."""
    return _SEVERAL.sub(_names, _MATH.sub(_formula, text))


def _names(found: re.Match[str]) -> str:
    others = re.sub(r"<[^>]+>|[()]", "", found.group(2)).replace("[", " [")
    return f"<b><code>{found.group(1)} {others}</code></b>"


def _formula(found: re.Match[str]) -> str:
    inline = found.group(2) is not None
    drawn = mathml(html.unescape(found.group(2) if inline else found.group(3)), inline=inline)
    return drawn if inline else f'<div class="formula" tabindex="0">{drawn}</div>'
