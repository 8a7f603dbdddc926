"""The ledger as one HTML page that stands alone: light and dark, phone and paper, figures inside, no script."""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from vibtheory.claims.claim import FAILS, HOLDS, HOLDS_CORRECTED, NOT_RUN, Claim, words

__all__ = ["page"]

_CLASS = {HOLDS: "holds", FAILS: "fails", HOLDS_CORRECTED: "corrected", NOT_RUN: "notrun"}
_MARK = {HOLDS: "✓", FAILS: "✗", HOLDS_CORRECTED: "≈", NOT_RUN: "–"}
_WIDTH = 900  # pixels of an inlined figure

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #57606a; --line: #d0d7de; --back: #ffffff; --card: #f6f8fa;
  --holds: #116329; --fails: #a40e26; --corrected: #7a4d00; --notrun: #57606a; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --line: #3d444d; --back: #0d1117;
  --card: #161b22; --holds: #56d364; --fails: #ff7b72; --corrected: #e3b341; --notrun: #9198a1; }
  img { background: #ffffff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.1rem; margin: 0; }
p { margin: .3rem 0; } .soft, dt { color: var(--soft); } code { font-size: .875em; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .5rem; border-bottom: 1px solid var(--line); }
td:first-child, td:last-child { white-space: nowrap; }
a { color: inherit; }
article { border: 1px solid var(--line); border-left-width: .4rem; border-radius: .3rem; background: var(--card);
  padding: .8rem 1rem; margin: 1rem 0; }
.holds { --now: var(--holds); } .fails { --now: var(--fails); } .corrected { --now: var(--corrected); }
.notrun { --now: var(--notrun); }
article { border-left-color: var(--now); } .verdict { color: var(--now); font-weight: 600; }
dl { margin: .5rem 0; font-size: .9rem; } dt { margin-top: .3rem; } dd { margin: 0 0 0 1rem; }
img { max-width: 100%; height: auto; } summary { cursor: pointer; color: var(--soft); }
@media (max-width: 32rem) { td, th { display: block; border: 0; padding: .1rem 0; white-space: normal; }
  thead { display: none; } tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0; } }
@media print { body { max-width: none; padding: 0; } article { break-inside: avoid; background: none; }
  details > *, details:not([open])::details-content { display: block; content-visibility: visible; } }
"""


def page(claims: Sequence[Claim], figures: Path, about: str, recorded: str) -> str:
    """A ledger's page: a table of verdicts, then each claim with its evidence, its figure once, and its command.

    Args:
        claims: decided ones. figures: the folder of their figures.
        about: mode, seed and cost of the run, in words. recorded: the tables it read, in words.
    """
    counts = ", ".join(f"{number} {verdict}" for verdict, number in Counter(c.verdict for c in claims).items())
    head = (
        f"<h1>vibtheory: the paper’s claims, decided</h1><p>{len(claims)} claims: {html.escape(counts)}.</p>"
        f'<p class="soft">{html.escape(about)}. Recorded '
        f"tables read: {html.escape(recorded)}. A verdict is computed from counts. “Holds with a correction” means "
        "that a counter-example to the statement as made was found, and that the corrected statement never broke.</p>"
    )
    rows = "".join(
        f'<tr class="{_CLASS[claim.verdict]}"><td><a href="#{_anchor(claim)}">{html.escape(claim.number)}</a></td>'
        f'<td>{html.escape(claim.statement)}</td><td class="verdict">{_verdict(claim)}</td></tr>'
        for claim in claims
    )
    table = (
        f"<table><thead><tr><th>Claim</th><th>Statement</th><th>Verdict</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    shown: set[str] = set()
    body = "".join(_article(claim, figures, shown) for claim in claims)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>vibtheory: claims</title>'
        f"<style>{_STYLE}</style></head>\n<body><header>{head}</header>\n<main>{table}\n{body}</main></body></html>\n"
    )


def _article(claim: Claim, figures: Path, shown: set[str]) -> str:
    correction = ""
    if claim.correction:
        label = "Corrected" if claim.verdict == HOLDS_CORRECTED else "Known correction"
        correction = f"<p><strong>{label}:</strong> {html.escape(claim.correction)}</p>"
    evidence = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(words(value))}</dd>" for name, value in claim.evidence.items()
    )
    picture = ""
    if claim.figure and claim.figure not in shown:
        shown.add(claim.figure)
        picture = _picture(figures / claim.figure)
    return (
        f'<article id="{_anchor(claim)}" class="{_CLASS[claim.verdict]}"><h2>{html.escape(claim.number)} · '
        f'<span class="verdict">{_verdict(claim)}</span></h2><p>{html.escape(claim.statement)}</p>{correction}'
        f"<dl>{evidence}</dl>{picture}"
        f'<p class="soft">{html.escape(claim.source)} · <code>{html.escape(claim.command)}</code> · '
        f"{claim.seconds:.1f} s</p></article>\n"
    )


def _verdict(claim: Claim) -> str:
    return f"{_MARK[claim.verdict]} {claim.verdict}"


def _anchor(claim: Claim) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in claim.number.lower())


def _picture(path: Path) -> str:
    """The figure, to be folded away; in words where its file is no picture."""
    from PIL import Image

    name = html.escape(path.name)
    try:
        source = _scaled(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what PIL raises on damage
        return f'<p class="soft">{name} cannot be shown: {html.escape(str(error))}. Remedy: draw it again.</p>'
    return f'<details open><summary>{name}</summary><img alt="{name}" src="data:image/png;base64,{source}"></details>'


def _scaled(path: Path) -> str:
    """The figure in at most `_WIDTH` pixels and 128 colours, base64."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    if image.width > _WIDTH:
        image = image.resize((_WIDTH, round(image.height * _WIDTH / image.width)), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.quantize(128).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
