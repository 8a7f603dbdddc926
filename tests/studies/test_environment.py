"""`doctor`: what is there, what is missing with its remedy, and the exit code of the command."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from vibtheory.cli import app
from vibtheory.studies import environment as health
from vibtheory.studies.environment import Health, Inspection, doctor


def _by_name(found: Health) -> dict[str, Inspection]:
    return {finding.name: finding for finding in found.findings}


def test_this_machine_is_ready(tmp_path: Path) -> None:
    found = doctor(tmp_path)
    assert found.status != "broken", str(found)
    names = _by_name(found)
    assert names["torch"].detail == metadata.version("torch")
    assert names["mnist"].status == "ok"
    assert "verified" in names["mnist"].detail
    assert names["runs and figures"].status == "ok"
    assert {finding.topic for finding in found.findings} == {"versions", "devices", "data", "folders", "terminal"}
    assert all(finding.remedy for finding in found.findings if finding.status != "ok")
    assert not list(tmp_path.iterdir())
    assert str(found).endswith(found.status)
    assert json.loads(found.to_json())["status"] == found.status


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        name, total_memory = "Abacus 9", 3 << 30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties)
    found = list(health._devices())
    assert [finding.name for finding in found] == ["cpu", "cuda:0", "cuda:1"]
    assert found[2].detail == "Abacus 9, 3 GiB"


def test_no_gpu_is_no_illness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _, cuda = health._devices()
    assert cuda.status == "missing"
    assert "none is needed for MNIST" in cuda.remedy


def test_torch_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (torch_,) = health._devices()
    assert torch_.status == "broken"
    assert "pip install" in torch_.remedy


def _versions(monkeypatch: pytest.MonkeyPatch, requires: list[str], installed: dict[str, str]) -> dict[str, Inspection]:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "requires", lambda name: requires)
    monkeypatch.setattr(metadata, "version", version)
    return {finding.name: finding for finding in health._versions()}


def test_missing_and_old_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = ["abacus>=2.0", "gone", 'chalk>=1; extra == "export"', 'slate; extra == "dev"', "rope>=1"]
    found = _versions(monkeypatch, requires, {"vibtheory": "0.1", "abacus": "1.9", "rope": "1.0"})
    assert (found["abacus"].status, found["gone"].status) == ("broken", "broken")
    assert found["abacus"].remedy == 'pip install "abacus>=2.0"'
    assert found["chalk (extra export)"].status == "missing"
    assert found["chalk (extra export)"].remedy == 'pip install "vibtheory[export]"'
    assert found["rope"].status == "ok"
    assert not any(name.startswith("slate") for name in found)


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _versions(monkeypatch, [], {})
    assert found["vibtheory"].status == "broken"


def test_damaged_mnist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vibtheory.datasets import store

    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"half")
    monkeypatch.setattr(store, "_PACKAGED", tmp_path)
    mnist = next(finding for finding in health._data() if finding.name == "mnist")
    assert (mnist.status, mnist.remedy) == ("broken", "install vibtheory again")


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert health._writable("runs", tmp_path / "new" / "deep", "broken", "r").status == "ok"
    refused = health._writable("runs", tmp_path / "file", "broken", "choose another")
    assert (refused.status, refused.remedy) == ("broken", "choose another")
    monkeypatch.setattr(health.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1 << 20}))
    assert health._writable("runs", tmp_path, "broken", "r").remedy == "free some space"


def test_terminal_without_greek(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", type("Stream", (), {"encoding": "iso8859-1"}))
    (encoding,) = health._terminal()
    assert encoding.status == "missing"
    assert "PYTHONUTF8" in encoding.remedy


def test_status_is_the_worst() -> None:
    ok, missing, broken = (Inspection("data", "x", status, "y", "r") for status in ("ok", "missing", "broken"))
    assert Health((ok,)).status == "ready"
    assert Health((ok, missing)).status == "ready, something optional is missing"
    assert Health((missing, broken, ok)).status == "broken"


@pytest.mark.parametrize(("folder", "code"), [(".", 0), ("/proc/nowhere", 2)])
def test_the_command(folder: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(app, ["doctor", "--folder", folder])
    assert answer.exit_code == code, answer.output
    assert ("!!" in answer.output) == (code == 2)
    as_json = CliRunner().invoke(app, ["doctor", "--folder", folder, "--json"])
    assert (json.loads(as_json.output)["status"] == "broken") == (code == 2)
