"""On what grounds a quadratic bounds a network's loss: exact, rigorous or statistical (docs/theory.md T5)."""

from __future__ import annotations

from dataclasses import dataclass

from vibtheory.errors import check_choice

__all__ = ["Guarantee"]

KINDS = ("given", "exact", "bohning", "lipschitz", "fitted", "tangent")
LEVELS = ("exact", "rigorous", "statistical")


@dataclass(frozen=True)
class Guarantee:
    """On what grounds ḡ bounds the loss; carried into every report and figure (docs/theory.md T5).

    Attributes:
        kind: how ḡ was built: given | exact | bohning | lipschitz | fitted | tangent.
        level: exact (ḡ is the loss), rigorous (ḡ ≥ loss everywhere, proved) or statistical (with a stated level).
        detail: one sentence for a reader, e.g. the Clopper–Pearson limit of the violation rate.

    Raises:
        InvalidInputError: an unknown kind or level.
    """

    kind: str
    level: str
    detail: str = ""

    def __post_init__(self) -> None:
        check_choice("guarantee.kind", self.kind, KINDS)
        check_choice("guarantee.level", self.level, LEVELS)

    def __str__(self) -> str:
        return f"{self.kind} ({self.level})" + (f": {self.detail}" if self.detail else "")
