"""A hook of the documentation site: LaTeX between dollar signs becomes MathML, which browsers draw by themselves."""

from __future__ import annotations

import html
import re
from typing import Any

from vibtheory.teaching.mathml import mathml

_MATH = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL)


def on_page_content(text: str, **_: Any) -> str:
    """Replace every formula of a page; a formula that cannot be read stops the build."""
    return _MATH.sub(_formula, text)


def _formula(found: re.Match[str]) -> str:
    inline = found.group(2) is not None
    drawn = mathml(html.unescape(found.group(2) if inline else found.group(3)), inline=inline)
    return drawn if inline else f'<div class="formula" tabindex="0">{drawn}</div>'
