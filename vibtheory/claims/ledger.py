"""`decide`: every claim of the paper, decided; `Ledger`: what came of it, as text, JSON, table or page."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vibtheory.claims.claim import FAILS, HOLDS, HOLDS_CORRECTED, NOT_RUN, Claim, Finding, Statement, Tally
from vibtheory.claims.instances import Effort, NotRecorded, Recorded
from vibtheory.claims.page import page
from vibtheory.claims.registry import STATEMENTS
from vibtheory.errors import VibTheoryError, check_choice, reject
from vibtheory.storage.report import Report

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Ledger", "decide"]

_JSON_VERSION = 2
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
        counts = ", ".join(f"{n} {verdict}" for verdict, n in self.counts.items())
        return "\n".join([f"{len(self)} claims ({self.mode}, seed {self.seed}): {counts}", *map(str, self.claims)])

    def __rich__(self) -> Table:
        """A row per claim, for `rich.print`: what was tried of the statement that the verdict stands on."""
        from rich.table import Table
        from rich.text import Text

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
        """One page that needs nothing else: figures inside, no script, no address outside."""
        about = f"Mode {self.mode}, seed {self.seed}, {self.seconds:.0f} s of processor time"
        tables = ", ".join(f"{name} ({table.rows} rows, {table.sha256[:8]})" for name, table in self.recorded.items())
        return page(self.claims, self.figures, about, tables or "none")


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
    if seed < 0:
        reject("seed", seed, "an integer >= 0", "omit it")
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
