"""The ledger: verdicts from counts, all claims there, its outputs, its exit codes."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import vibtheory as vt
from vibtheory.claims import STATEMENTS, Claim, Effort, Finding, Ledger, Statement, Tally, decide, instances
from vibtheory.claims.instances import NotRecorded
from vibtheory.cli import app
from vibtheory.errors import DataError, InvalidInputError, SolverError
from vibtheory.theory.enumeration import enumerate_local_minima
from vibtheory.theory.minima import LocalMinimum
from vibtheory.theory.quadratic import QuadraticBound

GOOD, BAD, NONE = Tally(10), Tally(10, 3, "this one"), Tally()
PLANTED = (
    Statement("Good", "it holds", "a test", lambda effort: Finding(GOOD, evidence={"n": np.int64(3), "x": np.inf})),
    Statement("Bad", "it <does> not", "a test", lambda effort: Finding(BAD)),
    Statement("Ugly", "nearly", "a test", lambda effort: Finding(BAD, GOOD), "with care"),
    Statement("Later", "no table", "a test", lambda effort: Finding(NONE), command="make later"),
)


@pytest.mark.parametrize(
    ("bare", "corrected", "verdict"),
    [
        (GOOD, None, "holds"),
        (BAD, None, "fails"),
        (NONE, None, "not run"),
        (BAD, GOOD, "holds with a correction"),
        (BAD, BAD, "fails"),
        (GOOD, BAD, "fails"),  # a "correction" that breaks is no comfort
        (GOOD, GOOD, "holds"),  # no counter-example: nothing was corrected
        (BAD, NONE, "not run"),
        (NONE, GOOD, "not run"),
    ],
)
def test_the_verdict_follows_from_the_counts(bare: Tally, corrected: Tally | None, verdict: str) -> None:
    assert Finding(bare, corrected).verdict == verdict


def test_tallies() -> None:
    outcomes = [(True, "a"), (False, "b"), (False, "c")]
    tally = Tally.of(outcomes)
    assert tally == Tally(3, 2, "b")
    assert str(tally) == "2 of 3 broken; first: b"  # no rate: nothing says that these are independent
    drawn = Tally.of(outcomes, independent=True)
    assert str(drawn) == "2 of 3 broken (rate <= 0.98 at 95 %); first: b"
    assert drawn + NONE == drawn
    assert NONE + tally == tally
    assert drawn + tally == Tally(6, 4, "b")
    assert (drawn + drawn).independent
    assert Tally(59).rate_limit == pytest.approx(1 - 0.05 ** (1 / 59))  # the rule of three, exactly
    assert (NONE.rate_limit, str(NONE)) == (1.0, "not tried")


def test_every_claim_of_the_paper_is_there() -> None:
    numbers = [statement.number for statement in STATEMENTS]
    assert len(set(numbers)) == len(numbers)
    wanted = ["P1", "P2", "P3", "Prop 1", "Prop 2", "Flat", "T1", "T2", "T2 tight", "T2 trained",
              "T2 coordinates", "T3", "T3 sharp", "T3c", "T4a", "T4b", "T6", "T6 radius",
              "T7 jumps", "Size and I", "Width", "Width survivors",
              "Larger base", "Smallest rerun 1", "Smallest rerun 2",
              "Figure 2 left", "Figure 2 right", "Figure 2 regular",
              "Table 1", "Table 2", *(f"Table {row}" for row in ("3.1", "3.2", "3.3", "4.1", "4.2")),
              *(f"T5 {kind}" for kind in ("exact", "bohning", "lipschitz", "fitted", "tangent")),
              *(f"T7 {part}" for part in ("budget", "closed", "existence", "convexity", "real loss", "path")),
              "T7 layers", "T8"]  # fmt: skip
    assert set(wanted) <= set(numbers)
    for statement in STATEMENTS:
        assert statement.text
        assert statement.source.startswith(("paper", "docs/theory.md"))


def test_nothing_fails_on_few_instances(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every decider once, on a fiftieth of the instances and a net of two epochs; recorded tables are not there."""
    monkeypatch.setattr(Effort, "size", lambda self, quick, full: max(2, quick // 50))
    seen: list[Claim] = []
    ledger = decide("quick", figures=tmp_path, progress=seen.append)
    assert {claim.number: claim.evidence for claim in ledger if claim.verdict == "fails"} == {}
    assert ledger.verdict == "holds"
    assert seen == list(ledger)
    corrected = {claim.number for claim in ledger if claim.verdict == "holds with a correction"}
    assert corrected >= {"P2 zeros", "Prop 1", "Prop 1 converse", "Flat", "T6 iterates", "Metrics", "State of the art"}
    not_run = {claim.number for claim in ledger if claim.verdict == "not run"}
    assert not_run == {
        claim.number
        for claim in ledger
        if claim.number.startswith(("Width", "Larger base", "Smallest rerun", "Figure 2", "Size and I", "Table "))
    }
    assert all(claim.evidence["why"] for claim in ledger if claim.verdict == "not run")


def test_a_claim_alone_gives_the_same_instances(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Effort, "size", lambda self, quick, full: max(2, quick // 50))
    alone = decide(only=["T2"], figures=tmp_path)["T2"]
    beside = decide(only=["T1", "T2", "T4a"], figures=tmp_path)["T2"]
    other = decide(only=["T2"], seed=1, figures=tmp_path)["T2"]
    assert alone.evidence == beside.evidence
    assert other.evidence != alone.evidence
    assert other.command.endswith("--seed 1")
    assert "--seed" not in alone.command


@pytest.mark.parametrize(
    ("change", "name"), [({"mode": "slow"}, "mode"), ({"only": ["T99"]}, "only"), ({"seed": -1}, "seed")]
)
def test_bad_input(change: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidInputError, match=name):
        decide(**change)  # type: ignore[arg-type]


def test_an_instance_that_enumeration_cannot_decide_is_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def undecided_at_first(bound: QuadraticBound) -> list[LocalMinimum]:
        calls.append(bound)
        if len(calls) <= 2:
            raise SolverError("no decision")
        return enumerate_local_minima(bound)

    monkeypatch.setattr(instances, "enumerate_local_minima", undecided_at_first)
    monkeypatch.setattr(Effort, "size", lambda *_: 6)
    ledger = decide(only=["T6 enumeration", "T7 closed", "T7 existence", "T7 convexity"], figures=tmp_path)
    left = [claim.evidence.get("left out: enumeration could not decide", 0) for claim in ledger]
    assert sorted(left) == [0, 0, 0, 2]
    assert ledger.verdict == "holds"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return decide(statements=PLANTED, figures=tmp_path)


def test_what_the_ledger_says(ledger: Ledger) -> None:
    assert ledger.verdict == "fails"
    assert ledger.counts == {"holds": 1, "fails": 1, "holds with a correction": 1, "not run": 1}
    assert len(ledger) == 4
    assert ledger["Later"].command == "make later"
    assert ledger["Good"].command == 'vibtheory claims --only "Good"'
    with pytest.raises(InvalidInputError, match="number"):
        ledger["Best"]
    for words in ("Bad: fails", "this one", "corrected: with care", "4 claims (quick, seed 0)"):
        assert words in str(ledger)
    assert list(ledger.to_frame()["verdict"]) == ["holds", "fails", "holds with a correction", "not run"]
    assert vt.claims.decide is decide


def test_json_is_standard_and_complete(ledger: Ledger) -> None:
    read = json.loads(ledger.to_json(), parse_constant=lambda constant: pytest.fail(constant))
    assert read["verdict"] == "fails"
    assert read["recorded"] == {}
    assert read["claims"][0]["evidence"]["x"] is None
    assert read["claims"][0]["evidence"]["n"] == 3
    assert set(read["claims"][0]) == {field.name for field in fields(Claim)}


def test_the_page_stands_alone(ledger: Ledger, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(12, 2))
    drawing.subplots().plot([0, 1])
    drawing.savefig(tmp_path / "a.png")
    shown = replace(ledger, claims=tuple(replace(claim, figure="a.png") for claim in ledger.claims))
    page = shown.to_html()
    assert page.count("data:image/png;base64,") == 1  # once, however many claims it belongs to
    for outside in ("<script", "http:", "https:", "//cdn", "url(", "@import", "<link"):
        assert outside not in page
    assert "it &lt;does&gt; not" in page
    assert "<does>" not in page
    for needed in ("prefers-color-scheme: dark", "@media print", "width=device-width", 'lang="en"'):
        assert needed in page
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert anchors == set(re.findall(r'<article id="([^"]+)"', page))
    assert len(anchors) == 4


@pytest.mark.parametrize(("numbers", "code"), [(("Good", "Ugly", "Later"), 0), (("Good", "Bad"), 1)])
def test_the_exit_code(numbers: tuple[str, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [statement for statement in PLANTED if statement.number in numbers]

    def planted(mode: str, only: object, **options: object) -> Ledger:
        return decide(mode, None, statements=chosen, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(vt.claims, "decide", planted)
    for extra, name in ((), "claims"), (("--details",), "claims"), (("--only", "x"), "claims_only"):
        done = CliRunner().invoke(app, ["claims", "--out", str(tmp_path), "--figures", str(tmp_path), *extra])
        assert done.exit_code == code, done.output
        assert "Good" in done.output
        assert json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))["version"] == 2
        assert (tmp_path / f"{name}.html").read_text(encoding="utf-8").endswith("</html>\n")


def test_the_command_refuses_and_reads(tmp_path: Path) -> None:
    both = CliRunner().invoke(app, ["claims", "--quick", "--full"])
    assert both.exit_code == 2
    done = CliRunner().invoke(app, ["claims", "--only", "Metrics", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "holds with a correction" in done.output


def test_the_table_on_a_terminal(ledger: Ledger) -> None:
    from rich.console import Console

    console = Console(record=True, width=140, file=io.StringIO())
    console.print(ledger)
    text = console.export_text()
    assert "nearly [with care]" in text
    assert "3 of 10 broken" in text


def test_one_damaged_table_spoils_its_own_claim_only(tmp_path: Path) -> None:
    (tmp_path / "table1.csv").write_bytes(b"\xff\xfe\x00")
    options = ["claims", "--only", "Table 1", "--only", "Table 2", "--only", "Metrics", "--figures", str(tmp_path)]
    done = CliRunner().invoke(app, [*options, "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert re.search(r"error: Table 1: .*table1\.csv.*Remedy", done.output)
    read = {claim["number"]: claim for claim in json.loads((tmp_path / "claims_only.json").read_text())["claims"]}
    verdicts = {number: claim["verdict"] for number, claim in read.items()}
    assert verdicts == {"Metrics": "holds with a correction", "Table 1": "not run", "Table 2": "not run"}
    assert "no table2.csv is recorded" in read["Table 2"]["evidence"]["why"]


@pytest.mark.parametrize(
    ("column", "cell"), [("flop", "x"), ("error_last", ""), ("r_w", ""), ("seed", "one"), ("mode", ""), ("stage", "")]
)
def test_one_bad_cell_is_an_error_and_no_verdict(column: str, cell: str, tmp_path: Path) -> None:
    shutil.copy("figures/table1.csv", tmp_path)
    lines = [line.split(",") for line in (tmp_path / "table1.csv").read_text(encoding="utf-8").splitlines()]
    lines[2][lines[0].index(column)] = cell
    (tmp_path / "table1.csv").write_text("\n".join(map(",".join, lines)) + "\n", encoding="utf-8")
    ledger = decide(only=["Table 1", "Metrics"], figures=tmp_path)
    assert column in ledger.errors["Table 1"]
    assert (ledger["Table 1"].verdict, ledger["Metrics"].verdict) == ("not run", "holds with a correction")


def test_a_figure_that_is_no_picture_is_left_out(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    page = replace(ledger, claims=tuple(replace(claim, figure="a.png") for claim in ledger.claims)).to_html()
    assert "a.png cannot be shown" in page
    assert "data:image" not in page


def test_a_folder_that_cannot_be_written_is_found_before_deciding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(vt.claims, "decide", lambda *_, **__: pytest.fail("decided first"))
    done = CliRunner().invoke(app, ["claims", "--out", str(tmp_path / "file" / "in")])
    assert done.exit_code == 2, done.output
    assert "Remedy" in done.output


def test_a_claim_that_tries_nothing_says_so(tmp_path: Path) -> None:
    none = Statement("None", "nothing", "a test", lambda effort: Finding(NONE))
    claim = decide(statements=[none], figures=tmp_path)["None"]
    assert (claim.verdict, claim.evidence["why"]) == ("not run", "no instance could be tried")


def test_recorded_tables(tmp_path: Path) -> None:
    quick, full = Effort("quick", 0, tmp_path), Effort("full", 0, tmp_path)
    with pytest.raises(NotRecorded, match=r"no a\.csv is recorded"):
        full.table("a.csv", ["x"])
    assert full.rows("a.csv", ["x"]) == []
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    assert full.rows("a.csv", ["x"]) == [{"x": 1, "y": 2}, {"x": 3, "y": 4}]
    assert quick.rows("a.csv", ["x"]) == []
    assert full.recorded["a.csv"].rows == 2
    assert full.recorded["a.csv"].sha256 == hashlib.sha256(b"x,y\n1,2\n3,4\n").hexdigest()
    for text, columns, words in (
        ("x,y\n", ["x"], "no row"),
        ("x\n1\n", ["x", "z"], "no z"),
        ("", ["x"], "No columns"),
        ("x\na\n", ["x"], "other entries in x"),
    ):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(DataError, match=rf"a\.csv.*{words}.*Remedy"):
            quick.table("a.csv", columns)
