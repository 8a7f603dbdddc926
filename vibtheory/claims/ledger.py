"""`decide`: every claim of the paper, decided; `Ledger`: what came of it, as text, JSON, table or page."""

from __future__ import annotations

import html
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vibtheory.claims.claim import FAILS, HOLDS, HOLDS_CORRECTED, NOT_RUN, Claim, Finding, Statement, Tally, words
from vibtheory.claims.instances import Effort, NotRecorded, Recorded
from vibtheory.claims.registry import STATEMENTS
from vibtheory.errors import VibTheoryError, as_seed, check_choice, check_type, reject
from vibtheory.figures.style import thumbnail
from vibtheory.storage.report import Report

if TYPE_CHECKING:
    from vibtheory.storage.terminal import Table

__all__ = ["Ledger", "decide"]

_JSON_VERSION = 2
_CLASS = {HOLDS: "holds", FAILS: "fails", HOLDS_CORRECTED: "corrected", NOT_RUN: "notrun"}
_MARK = {HOLDS: "✓", FAILS: "✗", HOLDS_CORRECTED: "≈", NOT_RUN: "–"}
_WIDTH = 900  # pixels of an inlined figure
_SHEET = Path(__file__).with_name("page.css")
_STYLE = {HOLDS: "green", FAILS: "bold red", HOLDS_CORRECTED: "yellow", NOT_RUN: "dim"}


@dataclass(frozen=True)
class Ledger(Report):
    """All decided claims. `str()` is a summary; `.to_frame()` has a row per claim; `.to_json()`, `.to_html()`.
    `rich.print` shows a table.

    Attributes:
        claims: in the order of the registry.
        mode: "quick" or "full". seed: of everything random.
        recorded: the recorded tables that were read, by file name.
        figures: folder of the figures.
        seconds: processor time.
    """

    claims: tuple[Claim, ...]
    mode: str
    seed: int
    recorded: dict[str, Recorded]
    figures: Path
    seconds: float

    @property
    def verdict(self) -> Literal["holds", "fails"]:
        """ "fails" if any claim does; "not run" does not count as a failure."""
        return "fails" if any(claim.verdict == FAILS for claim in self.claims) else "holds"

    @property
    def counts(self) -> dict[str, int]:
        """Claims by verdict."""
        return dict(Counter(claim.verdict for claim in self.claims))

    @property
    def errors(self) -> dict[str, str]:
        """Claims that could not be decided because something is wrong, such as a damaged table: number → message."""
        return {claim.number: claim.evidence["error"] for claim in self.claims if "error" in claim.evidence}

    def __iter__(self) -> Iterator[Claim]:
        return iter(self.claims)

    def __len__(self) -> int:
        return len(self.claims)

    def __getitem__(self, number: str) -> Claim:
        """The claim of that number; InvalidInputError lists those that were decided."""
        known = {claim.number: claim for claim in self.claims}
        check_choice("number", number, known)
        return known[number]

    def __str__(self) -> str:
        head = f"{len(self)} claims ({self.mode}, seed {self.seed}): {self._counted()}"
        return "\n".join([head, *map(str, self.claims)])

    def _counted(self) -> str:
        return ", ".join(f"{number} {verdict}" for verdict, number in self.counts.items())

    def __rich__(self) -> Table:
        """A row per claim, for `rich.print`: what was tried of the statement that the verdict stands on."""
        from vibtheory.storage.terminal import Table, Text

        table = Table("Claim", "Statement", "Verdict", "Tried", "Seconds")
        for claim in self:
            corrected = claim.verdict == HOLDS_CORRECTED
            tried = str(claim.evidence["corrected" if corrected else "tried"]).split("; first")[0]
            text = f"{claim.statement} [{claim.correction}]" if corrected else claim.statement
            verdict = Text(claim.verdict, _STYLE[claim.verdict])
            table.add_row(Text(claim.number), Text(text), verdict, Text(tried), f"{claim.seconds:.1f}")
        return table

    def _table(self) -> list[dict[str, Any]]:
        return [claim.row() for claim in self.claims]

    def _content(self) -> dict[str, Any]:
        return {
            "version": _JSON_VERSION, "verdict": self.verdict, "counts": self.counts, "mode": self.mode,
            "seed": self.seed, "recorded": self.recorded, "seconds": round(self.seconds, 1), "claims": self.claims,
        }  # fmt: skip

    def to_html(self) -> str:
        """One page that stands alone: light and dark, phone and paper, figures inside, no script.

        A table of verdicts, then each claim with its evidence, its figure once, and its command.
        """
        about = f"Mode {self.mode}, seed {self.seed}, {self.seconds:.0f} s of processor time"
        tables = ", ".join(f"{name} ({table.rows} rows, {table.sha256[:8]})" for name, table in self.recorded.items())
        head = (
            f"<h1>vibtheory: the paper’s claims, decided</h1><p>{len(self)} claims: {html.escape(self._counted())}.</p>"
            f'<p class="soft">{html.escape(about)}. Recorded tables read: {html.escape(tables or "none")}. A verdict '
            "is computed from counts. “Holds with a correction” means that a counter-example to the statement as made "
            "was found, and that the corrected statement never broke.</p>"
        )
        rows = "".join(
            f'<tr class="{_CLASS[claim.verdict]}"><td><a href="#{_anchor(claim)}">{html.escape(claim.number)}</a></td>'
            f'<td>{html.escape(claim.statement)}</td><td class="verdict">{_verdict(claim)}</td></tr>'
            for claim in self
        )
        titles = "<tr><th>Claim</th><th>Statement</th><th>Verdict</th></tr>"
        table = f"<table><thead>{titles}</thead><tbody>{rows}</tbody></table>"
        shown: set[str] = set()
        body = "".join(_article(claim, self.figures, shown) for claim in self)
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><title>vibtheory: claims</title>'
            f"<style>{_SHEET.read_text(encoding='utf-8')}</style></head>\n"
            f"<body><header>{head}</header>\n<main>{table}\n{body}</main></body></html>\n"
        )


def decide(
    mode: Literal["quick", "full"] = "quick",
    only: Sequence[str] | None = None,
    *,
    seed: int = 0,
    figures: str | Path = "figures",
    progress: Callable[[Claim], None] | None = None,
    statements: Sequence[Statement] = STATEMENTS,
) -> Ledger:
    """Decide the paper's claims by computation.

    Args:
        mode: "quick": small fresh instances, minutes on two cores; "full": ten times larger, and recorded runs beside.
            The rows of tables, Figure 2 and width are read from recorded tables in both.
        only: numbers of claims, such as ("T2", "P1"); None: all.
        seed: of everything random; each claim has a stream of its own.
        figures: folder of the recorded tables and figures.
        progress: called with each claim as soon as it is decided.
        statements: what to decide; other statements than the paper's can be put to the same deciders.

    A claim whose recorded table is missing, or cannot be read, is "not run" and says why; the others go on.

    Raises:
        InvalidInputError: an unknown mode or number, a negative seed.
    """
    check_choice("mode", mode, ("quick", "full"))
    seed = as_seed("seed", seed)
    if only is not None:
        check_type("only", only, Sequence, 'pass numbers of claims, such as ("T2", "P1")')
    if not isinstance(figures, str | Path):
        reject("figures", type(figures).__name__, "the path of a folder", "pass the folder of the recorded tables")
    known = [statement.number for statement in statements]
    for number in only or ():
        check_choice("only", number, known)
    effort = Effort(mode, seed, Path(figures))
    claims = []
    begin = time.process_time()
    for statement in statements:
        if only is None or statement.number in only:
            claims.append(_decided(statement, effort))
            if progress is not None:
                progress(claims[-1])
    return Ledger(tuple(claims), mode, seed, effort.recorded, effort.figures, time.process_time() - begin)


def _decided(statement: Statement, effort: Effort) -> Claim:
    begin = time.process_time()
    before = len(effort.undecided)
    try:
        finding = statement.decide(effort)
    except NotRecorded as missing:
        finding = Finding(Tally(), evidence={"why": str(missing)})
    except VibTheoryError as error:
        finding = Finding(Tally(), evidence={"error": str(error)})
    if len(effort.undecided) > before:
        left = {"left out: enumeration could not decide": len(effort.undecided) - before}
        finding = replace(finding, evidence={**finding.evidence, **left})
    if not finding.bare.checked and not finding.evidence.keys() & {"why", "error"}:
        finding = replace(finding, evidence={**finding.evidence, "why": "no instance could be tried"})
    tried = {"tried": _words(finding.bare)}
    if finding.corrected is not None:
        tried["corrected"] = _words(finding.corrected)
    options = ("" if effort.mode == "quick" else " --full") + (f" --seed {effort.seed}" if effort.seed else "")
    return Claim(
        number=statement.number,
        statement=statement.text,
        correction=statement.correction,
        source=statement.source,
        verdict=finding.verdict,
        evidence={**tried, **finding.evidence},
        figure=finding.figure if (effort.figures / finding.figure).is_file() else "",
        command=statement.command or f'vibtheory claims --only "{statement.number}"{options}',
        seed=effort.seed,
        seconds=time.process_time() - begin,
    )


def _words(tally: Tally) -> str:
    text = str(tally)
    return text if len(text) < 400 else text[:397] + "..."


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
