"""Full disks, unwritable folders, no home, no terminal, other encodings, two runs at once: clear, nothing lost."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.robustness.families import CHECK, TRAIN
from vibtheory.cli import app, main
from vibtheory.training import loop as training_loop
from vibtheory.training.run import load


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with arrays and models, and without the trained run's checkpoint."""
    for name in ("points.npz", "intact_models.py"):
        (tmp_path / name).write_bytes((prepared / name).read_bytes())
    (tmp_path / "tiny").mkdir()
    for file in (prepared / "tiny").iterdir():
        (tmp_path / "tiny" / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _ask(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stderr.strip()


def _one_line(code: int, said: str, *words: str) -> None:
    assert code == 2, said
    assert len(said.splitlines()) == 1
    assert said.startswith("error: ")
    assert "emedy" in said
    for word in words:
        assert word in said


def _in_child(function: Callable[[], Any]) -> Any:
    """What `function` returns in a process of its own."""
    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)

    def work() -> None:
        there.send(function())
        os._exit(0)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    there.close()  # a child that dies ends the wait
    answer = here.recv()
    child.join()
    return answer


def _same_bits(one: str, other: str) -> bool:
    a, b = load(one).net.state_dict(), load(other).net.state_dict()
    return all(torch.equal(a[name], tensor) for name, tensor in b.items())


def test_disk_full_while_training_loses_nothing(place: Path) -> None:
    """The disk takes files of 2 kB and no more; once there is space, the same command ends as if nothing had been."""

    def full() -> tuple[int, str]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        return _ask(*TRAIN)

    _one_line(*_in_child(full), "could not write")
    assert not [path for path in Path("run").rglob("*") if path.is_file() and path.name.startswith(".check")]
    assert _ask(*TRAIN)[0] == 0
    assert _ask(*(word if word != "run" else "other" for word in TRAIN))[0] == 0
    assert _same_bits("run", "other")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_report_that_cannot_be_written_keeps_the_old_one(
    code: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("r.json").write_text("old", encoding="utf-8")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    _one_line(*_ask(*CHECK, "--json", "r.json"), os.strerror(code))
    assert Path("r.json").read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in place.iterdir()) == ["intact_models.py", "points.npz", "r.json", "tiny"]


@pytest.mark.parametrize("folder", ["/dev/null/run", "/proc/vibtheory", "points.npz"])
def test_a_folder_that_cannot_be_made(folder: str, place: Path) -> None:
    before = Path("points.npz").read_bytes()
    _one_line(*_ask(*(word if word != "run" else folder for word in TRAIN)), "could not use", folder)
    assert Path("points.npz").read_bytes() == before


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOSPC, "No space left on device", "/tmp/x")])
def test_what_the_machine_refuses_anywhere_is_one_line(
    error: Exception, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("vibtheory.bridge.checking.check_network", fail)
    _one_line(*_ask(*CHECK))
    assert "Traceback" in _ask("--debug", *CHECK)[1]


def test_another_error_of_the_system_is_a_defect(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("vibtheory.bridge.checking.check_network", fail)
    assert _ask(*CHECK)[0] == 70


def test_no_gpu(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _one_line(*_ask(*TRAIN[:-1], "cuda"), "cuda", "use auto or cpu")


def test_no_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "VIBTHEORY_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert _ask("data", "list")[0] == 0
    monkeypatch.setenv("HOME", "/nonexistent")
    assert _ask("data", "verify", "cifar10")[0] == 2
    assert _ask(*TRAIN)[0] == 0


def _python(arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    keep = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    root = Path(__file__).resolve().parents[2]
    command = f'exec "{sys.executable}" -m vibtheory {arguments}'
    return subprocess.run(["sh", "-c", command], env={**keep, **environment}, cwd=root, capture_output=True,
                          encoding="utf-8", errors="replace", check=False)  # fmt: skip


def _on_terminal(encoding: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code and output of the console script in this process, on a strict terminal of that encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vibtheory", *arguments])
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        with pytest.raises(SystemExit) as ended:
            main()
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in streams)  # type: ignore[attr-defined]
    return int(ended.value.code or 0), out, err


def test_encodings_without_greek() -> None:
    """`table 1` prints γ: in Latin-1 it is escaped (to ASCII, click writes UTF-8 anyway), and nothing fails."""
    assert "VIBNet" in _on_terminal("ascii", "table", "1")[1]
    code, said, trouble = _on_terminal("iso8859-1", "table", "1")
    assert code == 0, trouble
    assert "VIBNet" in said
    assert "\\u03b3" in said
    refused = _python("data verify γ", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", ["version >&-", "version >&- 2>&-", "data list <&- >&- 2>&-"])
def test_closed_streams(arguments: str) -> None:
    done = _python(arguments)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_full_disk_behind_standard_output() -> None:
    done = _python("data list > /dev/full")
    assert done.returncode == 2
    assert done.stderr.startswith("error: No space left on device")
    assert "Traceback" not in done.stderr


def test_the_second_of_two_runs_in_one_folder_refuses(place: Path) -> None:
    """The first one stands still in its first epoch until the second has been refused."""
    here, there = multiprocessing.get_context("fork").Pipe()

    def first_run() -> None:
        quick = training_loop.measured

        def at_leave(*arguments: Any, **options: Any) -> Any:
            training_loop.measured = quick  # type: ignore[attr-defined]
            there.send("in the folder")
            there.recv()
            return quick(*arguments, **options)

        training_loop.measured = at_leave  # type: ignore[attr-defined]
        os._exit(_ask(*TRAIN)[0])

    first = multiprocessing.get_context("fork").Process(target=first_run)
    first.start()
    there.close()  # a first run that dies ends the wait below
    assert here.recv() == "in the folder"
    _one_line(*_ask(*TRAIN), "in use by another run")
    here.send("go on")
    first.join()
    assert first.exitcode == 0  # undisturbed by the second
    assert _ask(*(word if word != "run" else "other" for word in TRAIN))[0] == 0
    assert _same_bits("run", "other")
