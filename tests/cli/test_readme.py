"""README: its Python runs, its files are there; the commands of README and of every page of docs/ parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from .conftest import Call

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
INDEX = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
TEXT = README + "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").rglob("*.md")))
COMMANDS = sorted({
    line.partition(" #")[0].strip()
    for line in re.findall(r"(?:^|`|-m )(vibtheory [a-z][^`\n]*)", TEXT.replace("\\\n", ""), re.MULTILINE)
    if "…" not in line
})  # fmt: skip


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    size = re.search(r"r_W (\d+\.\d+) %", printed)
    assert size is not None
    assert float(size[1]) < 20  # the quick start compresses


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_parse(command: str, call: Call) -> None:
    answer = call(*shlex.split(command)[1:], "--help")  # an unknown option or command fails before the help
    assert answer.code == 0, answer.err
    assert len(COMMANDS) > 30


def test_the_options_would_be_missed(call: Call) -> None:
    assert call("check", "runs/a", "--no-such-option", "--help").code == 2


def test_the_files_it_names_are_there() -> None:
    rows = re.search(r"## Layout.*?\n\n(.*?)\n\n", INDEX, re.DOTALL)
    assert rows is not None
    for line in rows.group(1).splitlines()[2:]:
        cell = line.split("|")[1]
        folder = ""
        for name in re.findall(r"`([^`]+)`", cell):
            folder = name.rpartition("/")[0] if "/" in name else folder
            path = name if "/" in name else f"{folder}/{name}"
            assert (ROOT / path).exists() or path in ("notebooks/", "figures/"), name


def test_its_pictures_and_links_are_there() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(linked) > 7
    assert [place for place in linked if not (ROOT / place).exists()] == []


def test_it_fits_one_screen() -> None:
    assert len(README.splitlines()) < 65
