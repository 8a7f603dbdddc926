"""A hook of the documentation site: LaTeX between dollar signs becomes MathML, which browsers draw by themselves."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

_MATH = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL)

# What the converter takes for identifiers or binary operators; browsers would space or stretch it badly.
_BETTER = (
    (r"<mo[^>]*>(&#x0007C;|&#x02016;)</mo>", r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>'),
    (r"<mi>(&#x02AB0;|&#x02AAF;|:)</mi>", r'<mo stretchy="false" lspace="0.28em" rspace="0.28em">\1</mo>'),
    (r"<mi>(&#x0007C;|&#x02016;|&#x02032;)</mi>", r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>'),
    (r"<mo>([A-Za-z]{2,})</mo>", r'<mo lspace="0.17em" rspace="0.17em">\1</mo>'),
    (r"<mi>(log|exp)</mi>", r'<mo lspace="0.17em" rspace="0.1em">\1</mo>'),
    (r"<mo>(&#x0002F;|/)</mo>", r'<mo lspace="0" rspace="0">\1</mo>'),
)


def on_page_content(text: str, **_: Any) -> str:
    """Replace every formula of a page; a formula that cannot be read stops the build."""
    return _MATH.sub(_formula, text)


def _formula(found: re.Match[str]) -> str:
    inline = found.group(2) is not None
    latex = html.unescape(found.group(2) if inline else found.group(3)).strip()
    mathml = convert(latex, display="inline" if inline else "block")
    for pattern, better in _BETTER:
        mathml = re.sub(pattern, better, mathml)
    return mathml if inline else f'<div class="formula" tabindex="0">{mathml}</div>'
