"""The ledger as one HTML page that stands alone: light and dark, phone and paper, figures inside, no script."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vibtheory.claims.claim import FAILS, HOLDS, HOLDS_CORRECTED, NOT_RUN, Claim, words
from vibtheory.figures.style import thumbnail

__all__ = ["page"]

_CLASS = {HOLDS: "holds", FAILS: "fails", HOLDS_CORRECTED: "corrected", NOT_RUN: "notrun"}
_MARK = {HOLDS: "✓", FAILS: "✗", HOLDS_CORRECTED: "≈", NOT_RUN: "–"}
_WIDTH = 900  # pixels of an inlined figure

_STYLE = Path(__file__).with_name("page.css")


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
        f"<style>{_STYLE.read_text(encoding='utf-8')}</style></head>\n<body><header>{head}</header>\n<main>{table}\n{body}</main></body></html>\n"
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
        source = thumbnail(path, _WIDTH)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what PIL raises on damage
        return f'<p class="soft">{name} cannot be shown: {html.escape(str(error))}. Remedy: draw it again.</p>'
    return f'<details open><summary>{name}</summary><img alt="{name}" src="data:image/png;base64,{source}"></details>'
