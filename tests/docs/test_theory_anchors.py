"""Every citation of docs/theory.md, in code, tests, benchmarks and notebooks, leads to a heading that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/theory.md").read_text(encoding="utf-8")
HEADINGS = dict(re.findall(r"^#+ (.*?) \{#([\w-]+)\}$", TEXT, re.MULTILINE))
LABELS = {title.split(".")[0].lower() for title in HEADINGS} | {title.lower() for title in HEADINGS}
SOURCES = [
    path
    for folder, kind in (("vibtheory", "*.py"), ("tests", "*.py"), ("benchmarks", "*.py"), ("notebooks", "*.ipynb"))
    for path in sorted((ROOT / folder).rglob(kind))
    if "mutants" not in path.parts and path != Path(__file__).resolve()
]
LABEL = r"(?:[TP]\d\w?|[MF])\b"
AFTER_THE_PAGE = re.compile(rf"docs/theory\.md,? ({LABEL}(?:(?:, | and | to ){LABEL})*)(?:,? \"([^\"]+)\")?")
TITLE_ALONE = re.compile(r"docs/theory\.md, \"([^\"]+)\"")
IN_PARENTHESES = re.compile(r"\((T\d\w?)(?:[,;)]| and )")


def cited(text: str) -> set[str]:
    """Labels and titles that a text cites, in lower case."""
    found = set(IN_PARENTHESES.findall(text))
    for labels, title in AFTER_THE_PAGE.findall(text.replace('\\"', '"')):
        found |= set(re.findall(LABEL, labels)) | ({title} if title else set())
    found |= set(TITLE_ALONE.findall(text.replace('\\"', '"')))
    return {label.lower() for label in found}


def test_the_whole_specification_has_headings() -> None:
    wanted = {"p1", "p2", "p3", *(f"t{k}" for k in range(1, 10)), "t3c", "t4a", "t4b", "prop 1", "prop 2", "m", "f"}
    assert wanted <= LABELS
    assert len(set(HEADINGS.values())) == len(HEADINGS)


def test_links_within_the_page_have_targets() -> None:
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) <= set(HEADINGS.values())


def test_every_citation_meets_a_heading() -> None:
    wrong = {str(p.relative_to(ROOT)): bad for p in SOURCES if (bad := cited(p.read_text(encoding="utf-8")) - LABELS)}
    assert not wrong
    assert sum(len(cited(path.read_text(encoding="utf-8"))) for path in SOURCES) > 100


def test_no_docstring_cites_what_is_not_in_the_repository() -> None:
    pattern = re.compile(r"\bTHEORY(\.md)?\b|\bDESIGN\.md\b|\bthe specification\b")
    package = [path for path in SOURCES if path.is_relative_to(ROOT / "vibtheory")]
    assert not [str(path) for path in package if pattern.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("see docs/theory.md, T9.", {"t9"}),
        ("(docs/theory.md T2, T3 and P1)", {"t2", "t3", "p1"}),
        ('docs/theory.md T7, "Path"', {"t7", "path"}),
        ('docs/theory.md, "The price"', {"the price"}),
        ("decided exactly (T4c)", {"t4c"}),
    ],
)
def test_the_rules_see_a_citation(text: str, labels: set[str]) -> None:
    assert cited(text) == labels
