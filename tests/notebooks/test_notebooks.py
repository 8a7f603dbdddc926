"""Every committed notebook: run again on smaller data with its solutions, compared with what is committed, and tidy."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

import pytest

import vibtheory as vt
from tests.notebooks import comparing, executing
from vibtheory.teaching import notebooks
from vibtheory.teaching.exercises import EXERCISES

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Numbers that prose says and no cell: MNIST's and the networks' sizes, and what was set or read off elsewhere.
_GIVEN = {
    "*": "784 300 100 60000 1.443 95",  # a nat in bits, and per cent
    "03": "20000 80",  # the record's recipe, Table 1's
    "05": "10000 4000",  # of check_trained.csv
    "06": "200 550 770 4096",  # epochs, the printed axis, the plane's inputs
    "09": "0.00055 1818",  # Table 1's price, and one over it, as the solution says
}
_PROSE = re.compile(r"\$\$.*?\$\$|`[^`]*`|\]\([^)]*\)|^#[^\n]*$|^\*\*\d+\.\*\*|[Nn]otebooks? \d\d.*?(?=[ ,.:;)])", re.M | re.S)
_NUMBER = re.compile(r"(?<![\w.{^_])\d[\d,_]*(?:\.\d+)?(?:e-?\d+)?(?![\w])")


def _numbers(text):
    return [number.rstrip(",_").replace(",", "").replace("_", "") for number in _NUMBER.findall(text)]


def test_all_notebooks_are_there():
    assert [path.name[:2] for path in PATHS] == [f"{number:02d}" for number in range(11)]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_runs_again_and_says_the_same(path):
    committed = executing.smaller(notebooks.read(path), path.stem)
    fresh = executing.run(committed, path)
    assert comparing.differences(committed, fresh) == []
    assert "expected" in comparing.printed(fresh.cells[-1])  # the headline table


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_is_small_stripped_and_has_exercises(path):
    notebook = notebooks.read(path)
    assert path.stat().st_size < 1_000_000
    text = path.read_text(encoding="utf-8")
    assert "widget-view" not in text
    assert "headline(" in notebook.cells[-1].source
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            if any(kind.startswith("image/") for kind in output.get("data", {})):
                assert len(output["data"]["text/plain"]) > 30, "a picture without alternative text"
    title, sentence = notebooks.summary(notebook)
    assert title
    assert 40 < len(sentence) < 260
    asked = [cell.source for cell in notebook.cells if "check(\"" in cell.source]
    numbers = [name for name in EXERCISES if name.startswith(path.stem[:2])]
    assert len(numbers) >= 2
    for name, source in zip(numbers, asked, strict=True):
        assert re.fullmatch(rf'answer = None  # .+\ncheck\("{name}", answer\)', source)
    solutions = notebooks.solutions(path)
    assert list(solutions) == numbers
    for name, code in solutions.items():
        assert f'assert check("{name}", ' in code
    assert "<details>" not in text


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_each_number_in_prose_stands_in_a_cell_or_is_printed_by_one(path):
    """Of its section, to as many digits as the prose says; years and single digits aside. Runs are held to the cells."""
    notebook = notebooks.read(path)
    given = [_GIVEN["*"], _GIVEN.get(path.stem[:2], ""), *(vt.tables.published(table).to_string() for table in (1, 2))]
    cells = [(place, cell) for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    starts = [place for place, cell in enumerate(notebook.cells) if re.search("^## ", cell.source, re.M)]
    starts[-2:] = []  # the exercises and the summary speak of all
    for at, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            continue
        before, after = [place for place in starts if place <= at], [place for place in starts if place > at]
        own = before[-1] if before and after else 0, after[0] if before and after else len(notebook.cells)
        known = [*given, *([] if after else notebooks.solutions(path).values())]
        known += [f"{c.source} {comparing.printed(c)}" for place, c in cells if own[0] <= place < own[1] or c is cells[-1][1]]
        values = [float(number) for number in _numbers(re.sub(r"(?<!e)-", " ", " ".join(known)))]
        values += [math.log(float(number)) for number in re.findall(r"log (\d+)", cell.source)]
        for said in _numbers(_PROSE.sub(" ", cell.source)):
            digits = len(said.partition(".")[2])
            if not re.fullmatch(r"(19|20)\d\d|\d|0\d", said):
                assert any(abs(round(value, digits) - float(said)) < 1e-9 for value in values), said


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_only_the_headline_varies(path):
    """Every other cell's numbers are compared, with a range where the machine decides; the headline has its own."""
    assert [cell for cell in notebooks.read(path).cells[:-1] if "varies" in cell.metadata.get("tags", [])] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_before_each_slider_stands_a_question(path):
    cells = notebooks.read(path).cells
    for before, cell in pairwise(cells):
        if re.search(r"^Explorer\(", cell.source, re.MULTILINE):
            assert "**Predict first:**" in before.source


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_is_thin(path):
    """Reusable logic lives in the package: a notebook defines few functions, and no class but 08's own model and 10's gate."""
    own = {"08_your_own_model": {"SmallResidual"}, "10_from_scratch": {"Gate"}}.get(path.stem, set())
    for cell in notebooks.read(path).cells:
        if cell.cell_type == "code":
            classes = re.findall(r"^class (\w+)", cell.source, re.MULTILINE)
            assert set(classes) <= own
            assert cell.source.count("\ndef ") + cell.source.startswith("def ") <= 2


def test_recorded_tables_name_their_command():
    for path in sorted((ROOT / "notebooks/recorded").glob("*.csv")):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first == f"# python -m vibtheory.teaching record {path.stem}"
        assert path.stat().st_size < 300_000
