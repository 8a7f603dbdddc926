"""LaTeX as MathML, which browsers draw by themselves: for the gallery and for the documentation (docs/hooks.py)."""

from __future__ import annotations

import html
import re

from vibtheory.teaching.notebooks import module

__all__ = ["mathml"]

# What the converter takes for identifiers or binary operators; browsers would space or stretch it badly.
_BETTER = (
    (r"<mo[^>]*>(&#x0007C;|&#x02016;)</mo>", r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>'),
    (r"<mi>(&#x02AB0;|&#x02AAF;|:)</mi>", r'<mo stretchy="false" lspace="0.28em" rspace="0.28em">\1</mo>'),
    (r"<mi>(&#x0007C;|&#x02016;|&#x02032;)</mi>", r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>'),
    (r"<mo>([A-Za-z]{2,})</mo>", r'<mo lspace="0.17em" rspace="0.17em">\1</mo>'),
    (r"<mi>(log|exp)</mi>", r'<mo lspace="0.17em" rspace="0.1em">\1</mo>'),
    (r">\\([{}])</mo>", r">\1</mo>"),  # \Big\{ keeps its backslash
    (r"<mo>(&#x0002F;|/)</mo>", r'<mo lspace="0" rspace="0">\1</mo>'),
)


def mathml(latex: str, *, inline: bool) -> str:
    """The formula `latex` as a `<math>` element, in the line or on a line of its own; its alternative text is LaTeX.

    Raises:
        MissingDependencyError: latex2mathml is not installed.
    """
    found: str = module("latex2mathml.converter").convert(latex.strip(), display="inline" if inline else "block")
    for pattern, better in _BETTER:
        found = re.sub(pattern, better, found)
    return found.replace("<math ", f'<math alttext="{html.escape(latex.strip())}" ', 1)
