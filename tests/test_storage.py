"""Atomic writing, checksums and locks."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch

from vibtheory.errors import CheckpointError, VibTheoryError
from vibtheory.storage import files as storage
from vibtheory.storage import (
    locked,
    read_sealed,
    read_state,
    write_bytes,
    write_sealed,
    write_state,
    write_text,
)

OLD = {"a": torch.arange(6.0).view(2, 3).t(), "b": torch.tensor([True, False])}
NEW = {"a": torch.full((3, 2), 7.5), "b": torch.tensor([False, False])}


def test_round_trip_and_checksum_in_the_name(tmp_path: Path) -> None:
    write_state(tmp_path, "run", OLD, {"answer": 42, "pi": 3.141592653589793})
    (weights,) = tmp_path.glob("*.safetensors")
    assert weights.name == f"run-{hashlib.sha256(weights.read_bytes()).hexdigest()[:16]}.safetensors"
    found = read_state(tmp_path, "run")
    assert found is not None
    tensors, plain = found
    assert plain == {"answer": 42, "pi": 3.141592653589793, "tensors": weights.name}
    assert all(torch.equal(tensors[key], OLD[key]) for key in OLD)
    assert read_state(tmp_path, "other") is None


def test_a_reader_whom_a_writer_overtakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice another state is written between the description and its tensors: the last one is read."""
    write_state(tmp_path, "run", OLD, {"n": 0})
    real, later = storage.read_sealed, [(NEW, 1), (OLD, 2)]

    def overtaken(path: Path) -> dict[str, object]:
        found = real(path)
        if later:
            tensors, n = later.pop(0)
            write_state(tmp_path, "run", tensors, {"n": n})
        return found

    monkeypatch.setattr(storage, "read_sealed", overtaken)
    found = read_state(tmp_path, "run")
    assert found is not None
    assert found[1]["n"] == 2
    assert all(torch.equal(found[0][key], OLD[key]) for key in OLD)


def test_old_weights_are_removed_after_the_new_ones_count(tmp_path: Path) -> None:
    write_state(tmp_path, "run", OLD, {})
    write_state(tmp_path, "other", OLD, {})
    write_state(tmp_path, "run", NEW, {})
    assert len(list(tmp_path.glob("run-*.safetensors"))) == 1
    assert len(list(tmp_path.glob("other-*.safetensors"))) == 1
    assert not list(tmp_path.glob(".run*"))  # no temporary files


@pytest.mark.parametrize("call", ["os.fsync", "os.chmod", "os.replace", "storage.write_text"])
@pytest.mark.parametrize("which", [1, 2])
def test_killed_anywhere_leaves_the_old_pair(
    call: str, which: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies before the n-th call: before, between and after the two files."""
    write_state(tmp_path, "run", OLD, {"state": "old"})

    def die() -> None:
        place, name = (os, call[3:]) if call.startswith("os.") else (storage, call[8:])
        real, count = getattr(place, name), 0

        def counted(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            return os._exit(9) if count == which else real(*args, **kwargs)

        setattr(place, name, counted)
        write_state(tmp_path, "run", NEW, {"state": "new"})
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join(30)
    survived = process.exitcode == 0
    assert survived == (call == "storage.write_text" and which == 2)  # it is called once
    found = read_state(tmp_path, "run")
    assert found is not None
    wanted = NEW if survived else OLD
    assert found[1]["state"] == ("new" if survived else "old")
    assert torch.equal(found[0]["a"], wanted["a"])
    write_state(tmp_path, "run", NEW, {"state": "next"})
    again = read_state(tmp_path, "run")
    assert again is not None
    assert again[1]["state"] == "next"
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_writing_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "σ² ≥ 0")
    write_text(path, "μ")
    assert path.read_bytes() == "μ".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VibTheoryError, match=r"No space left.*Remedy"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    with pytest.raises(VibTheoryError, match=r"could not write.*Remedy"):
        write_bytes(path / "below a file", b"new")


def test_a_link_stays_one_and_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "here.csv").symlink_to("there/table.csv")  # to a file that is still to come, in a folder that is too
    for text in ("old", "new"):
        write_text(tmp_path / "here.csv", text)
        assert (tmp_path / "here.csv").is_symlink()
        assert (tmp_path / "there" / "table.csv").read_text() == text
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "there"):
        with pytest.raises(VibTheoryError, match=rf"could not write .*{name} \(Not a regular file\).*Remedy"):
            write_text(tmp_path / name, "x")
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here.csv", "pipe", "there"]


def test_lock_leaves_another_programs_lock_file(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("theirs", encoding="utf-8")
    with locked(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text(encoding="utf-8") == "theirs"


def test_lock_is_exclusive_and_released(tmp_path: Path) -> None:
    with locked(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
        with pytest.raises(VibTheoryError, match=r"in use.*Remedy"), locked(tmp_path / "new"):
            pass
    with pytest.raises(KeyError), locked(tmp_path / "new"):
        raise KeyError
    with locked(tmp_path / "new"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(VibTheoryError, match=r"could not use.*Remedy"), locked(tmp_path / "file"):
        pass


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"tensors": 3}',
        '{"tensors": "../run.safetensors"}',
        '{"tensors": "run-0.safetensors"}',
    ],
)
def test_unreadable_descriptions(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    (tmp_path / "run-0.safetensors").write_bytes(b"not what the name says")
    with pytest.raises(CheckpointError, match="Remedy"):
        read_state(tmp_path, "run")


def test_a_changed_digit_in_the_description_is_found(tmp_path: Path) -> None:
    write_state(tmp_path, "run", {"w": torch.ones(2)}, {"seed": 17})
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace("17", "18"))
    with pytest.raises(CheckpointError, match="checksum"):
        read_state(tmp_path, "run")


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".run-0123456789abcdef.safetensors.ab_c0123").write_bytes(b"half")
    (tmp_path / ".run.json.xyz_0123").write_bytes(b"half")
    write_state(tmp_path, "run", {"w": torch.ones(2)}, {})
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_leftovers_of_any_file_are_removed_a_day_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sooner their writer may live, in a folder that several commands write to."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: os._exit(9))
        child = multiprocessing.get_context("fork").Process(target=write_text, args=(tmp_path / "rows.json", "half"))
        child.start()
        child.join()
    (left,) = tmp_path.iterdir()
    (tmp_path / ".env.template").touch()
    os.utime(tmp_path / ".env.template", (0, 0))
    with locked(tmp_path):
        assert left.exists()
    os.utime(left, (time.time() - 90_000,) * 2)
    with locked(tmp_path):
        assert not left.exists()
    assert (tmp_path / ".env.template").exists()


def test_the_users_own_files_stay(tmp_path: Path) -> None:
    names = {"run-best.safetensors", "run-0123456789abcdef0.safetensors", ".run.json.swp", ".run-notes", "rerun-1.json"}
    for name in names:
        (tmp_path / name).write_bytes(b"mine")
    for tensors in (OLD, NEW):
        write_state(tmp_path, "run", tensors, {})
    assert {p.name for p in tmp_path.iterdir() if p.read_bytes() == b"mine"} == names
    assert len(list(tmp_path.iterdir())) == len(names) + 2


def test_right_checksum_but_no_safetensors(tmp_path: Path) -> None:
    content = b"something else"
    name = f"run-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    (tmp_path / name).write_bytes(content)
    plain = {"tensors": name}
    checksum = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    (tmp_path / "run.json").write_text(json.dumps({**plain, "checksum": checksum}))
    with pytest.raises(CheckpointError, match=r"SafetensorError.*Remedy"):
        read_state(tmp_path, "run")


def test_sealed_round_trip(tmp_path: Path) -> None:
    plain = {"σ": [1, 0.1, float("inf"), None, True], "b": {"c": "d"}}
    write_sealed(tmp_path / "a.json", plain)
    assert read_sealed(tmp_path / "a.json") == plain


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Expecting value"),
        (b"\xff", "utf-8"),
        (b"[]", "no checksum"),
        (b"null", "no checksum"),
        (b'{"seed": 17}', "no checksum"),
        (b'{"seed": 17, "checksum": 3}', "does not match"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_was_not_sealed_is_a_value_error(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_sealed(tmp_path / "a.json")


def test_a_changed_digit_breaks_the_seal(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, {"nats": 1.25})
    path.write_text(path.read_text().replace("1.25", "1.26"))
    with pytest.raises(ValueError, match="does not match its own checksum"):
        read_sealed(path)


def test_tied_tensors_are_stored_once_and_come_back_tied(tmp_path: Path) -> None:
    weight = torch.arange(400.0).view(20, 20)
    write_state(tmp_path, "run", {"a": weight, "b": weight, "part": weight[:2]}, {})
    (file,) = tmp_path.glob("*.safetensors")
    assert file.stat().st_size < 2 * weight.nbytes
    found = read_state(tmp_path, "run")
    assert found is not None
    tensors, plain = found
    assert tensors["a"] is tensors["b"]
    assert torch.equal(tensors["part"], weight[:2])
    assert set(plain) == {"tensors"}
