"""What is claimed, and what deciding it yields: a statement, a tally of tries, and the verdict that follows from it.

A verdict is computed from counts and from nothing else. "holds with a correction" needs both: a counter-example to the
bare statement, found by computation, and a corrected statement that was put to the test and never broke.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vibtheory.storage.report import Report

if TYPE_CHECKING:
    from vibtheory.claims.instances import Effort

__all__ = [
    "FAILS", "HOLDS", "HOLDS_CORRECTED", "NOT_RUN", "Claim", "Finding", "Outcome", "Statement", "Tally", "Verdict",
]  # fmt: skip

Verdict = Literal["holds", "fails", "holds with a correction", "not run"]
HOLDS: Verdict = "holds"
FAILS: Verdict = "fails"
HOLDS_CORRECTED: Verdict = "holds with a correction"
NOT_RUN: Verdict = "not run"

Outcome = tuple[bool, str]  # whether the statement held on an instance, and the instance in words


@dataclass(frozen=True)
class Tally:
    """How often a statement was tried, and how often it broke.

    Attributes:
        checked: instances on which it was decided.
        broken: those that refute it.
        example: the first that does, in words; "" if none.
        independent: each outcome is of a random instance of its own: only then is a rate worth stating.
    """

    checked: int = 0
    broken: int = 0
    example: str = ""
    independent: bool = False

    @classmethod
    def of(cls, outcomes: Iterable[Outcome], *, independent: bool = False) -> Tally:
        """Count outcomes (whether the statement held there, the instance in words)."""
        checked = broken = 0
        example = ""
        for held, words in outcomes:
            checked += 1
            if not held:
                broken += 1
                example = example or words
        return cls(checked, broken, example, independent)

    def __add__(self, other: Tally) -> Tally:
        """Both together: independent if both are, or the other is empty."""
        independent = (self.independent or not self.checked) and (other.independent or not other.checked)
        return Tally(
            self.checked + other.checked, self.broken + other.broken, self.example or other.example, independent
        )

    @property
    def rate_limit(self) -> float:
        """One-sided 95 % Clopper–Pearson upper limit of the share of such instances that break it; 1 if none tried."""
        from vibtheory.bridge.verification import clopper_pearson_upper

        return clopper_pearson_upper(self.broken, self.checked) if self.checked else 1.0

    def __str__(self) -> str:
        if not self.checked:
            return "not tried"
        text = f"{self.broken} of {self.checked} broken"
        if self.independent:
            text += f" (rate <= {self.rate_limit:.2g} at 95 %)"
        return text + (f"; first: {self.example}" if self.example else "")


@dataclass(frozen=True)
class Finding:
    """What a decider found.

    Attributes:
        bare: the statement as it is made.
        corrected: the corrected statement, where one is known; None otherwise.
        evidence: named numbers and words.
        figure: a figure's file name in the folder of figures, "" if none.
    """

    bare: Tally
    corrected: Tally | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    figure: str = ""

    @property
    def verdict(self) -> Verdict:
        """From the counts: see the module's docstring."""
        if not self.bare.checked or (self.corrected is not None and not self.corrected.checked):
            return NOT_RUN
        if self.corrected is not None and self.corrected.broken:
            return FAILS
        if not self.bare.broken:
            return HOLDS
        return FAILS if self.corrected is None else HOLDS_CORRECTED


@dataclass(frozen=True)
class Statement:
    """One claim, before it is decided.

    Attributes:
        number: its name, such as "T2" or "Table 1".
        text: what is claimed.
        source: paper or docs/theory.md, with the place.
        decide: from an `Effort` to a `Finding`.
        correction: the corrected statement in words, "" where none is known.
        command: what computes it afresh or records its runs; "" stands for `vibtheory claims --only NUMBER`.
    """

    number: str
    text: str
    source: str
    decide: Callable[[Effort], Finding]
    correction: str = ""
    command: str = ""


@dataclass(frozen=True)
class Claim(Report):
    """One claim, decided.

    Attributes:
        number, statement, correction, source: what is claimed, and by whom.
        verdict: holds | fails | holds with a correction | not run.
        evidence: numbers and words; "tried" says how often, "corrected" likewise for the corrected statement; "why"
            where it was not run; "error" where deciding it ended in one.
        figure: a figure's file name, "" if none.
        command: what reproduces it.
        seed: of the random instances.
        seconds: processor time that deciding took.
    """

    number: str
    statement: str
    correction: str
    source: str
    verdict: Verdict
    evidence: Mapping[str, Any]
    figure: str
    command: str
    seed: int
    seconds: float

    def __str__(self) -> str:
        lines = [f"{self.number}: {self.verdict}. {self.statement}"]
        if self.verdict == HOLDS_CORRECTED:
            lines.append(f"  corrected: {self.correction}")
        lines += [f"  {name}: {words(value)}" for name, value in self.evidence.items()]
        lines.append(f"  {self.command} ({self.seconds:.1f} s)")
        return "\n".join(lines)

    def row(self) -> dict[str, Any]:
        """All of it, the evidence in words."""
        return {**self._content(), "evidence": words(self.evidence)}

    def _content(self) -> dict[str, Any]:
        return {**super()._content(), "evidence": dict(self.evidence), "seconds": round(self.seconds, 2)}


def words(value: Any) -> str:
    """A piece of evidence as text: numbers to five digits, [low, high] as an interval."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{float(value):.5g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(words, value)) + "]"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {words(inner)}" for name, inner in value.items())
    return str(value)
