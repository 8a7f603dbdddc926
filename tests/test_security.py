"""What SECURITY.md promises: nothing is unpickled or evaluated, archives are filtered, no network unless asked."""

from __future__ import annotations

import ast
import io
import json
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from typer.testing import CliRunner

import vibtheory as vt
from vibtheory.cli import app
from vibtheory.datasets import fetching
from vibtheory.datasets.catalogue import CATALOGUE
from vibtheory.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for part in ("vibtheory", "benchmarks", "tests", "docs") for path in (ROOT / part).rglob("*.py"))
# README's own examples are run by exec; nothing else may.
ALLOWED = {("tests/cli/test_readme.py", "exec")}
PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "jsonpickle"}
BARE = {"eval", "exec", "__import__"}
ATTRIBUTES = {
    "os.system", "os.popen", "joblib.load", "joblib.dump", "tempfile.mktemp", "pd.read_pickle", "pandas.read_pickle",
    "torch.save", "torch.hub.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
}  # fmt: skip


def _dangers(source: str) -> Iterator[str]:
    """Names of what must not be there, from the syntax tree (comments and strings do not count)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in PICKLERS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PICKLERS:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from _dangers_of_call(node)


def _dangers_of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    last = name.rpartition(".")[2]
    if name in BARE | ATTRIBUTES or last == "to_pickle":
        yield name
    if name == "torch.load" and keywords.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if last in ("extractall", "extract") and "tar" in name and keywords.get("filter") != "'data'":
        yield f"{last} without filter='data'"
    if keywords.get("allow_pickle") == "True":
        yield "allow_pickle=True"
    if keywords.get("shell") == "True":
        yield "shell=True"
    if keywords.get("verify") == "False":
        yield "verify=False"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_dangerous_in_the_sources(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    found = {danger for danger in _dangers(path.read_text(encoding="utf-8")) if (name, danger) not in ALLOWED}
    # Tests may write a pickle with torch.save to show that it is refused.
    assert found - ({"torch.save"} if name.startswith("tests/") else set()) == set()


def test_nothing_dangerous_in_the_notebooks() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            lines = [line for line in cell["source"] if not line.startswith(("%", "!"))]
            if cell["cell_type"] == "code":
                assert not set(_dangers("".join(lines))), path.name


BAD_LINES = {
    "import pickle": "pickle",
    "from pickle import loads": "pickle",
    "import dill.session": "dill.session",
    "eval('1')": "eval",
    "exec(text)": "exec",
    "torch.load(f)": "torch.load",
    "torch.load(f, weights_only=False)": "torch.load",
    "np.load(f, allow_pickle=True)": "allow_pickle",
    "np.save(f, x, allow_pickle=True)": "allow_pickle",
    "yaml.load(f)": "yaml.load",
    "subprocess.run('ls', shell=True)": "shell",
    "os.system('ls')": "os.system",
    "tar.extractall(f)": "extractall",
    "tar.extractall(f, filter='fully_trusted')": "extractall",
    "frame.to_pickle(f)": "to_pickle",
    "requests.get(url, verify=False)": "verify",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_each_danger_would_be_seen(line: str) -> None:
    (found,) = _dangers(line)
    assert BAD_LINES[line] in found


@pytest.mark.parametrize("line", ["net.eval()", "torch.load(f, weights_only=True)", "np.load(f)"])
def test_the_harmless_is_let_through(line: str) -> None:
    assert not list(_dangers(line))


def _hostile(kind: str) -> tarfile.TarInfo:
    """One member named like CIFAR-10's first batch, or beside it, that would write outside the folder."""
    entry = CATALOGUE["cifar10"]
    inside = f"{entry.folder}/{entry.files[0].name}"
    info = tarfile.TarInfo({"traversal": f"{entry.folder}/../../escaped", "absolute": "/tmp/escaped"}.get(kind, inside))
    if kind in ("symlink", "hardlink"):
        info.type = tarfile.SYMTYPE if kind == "symlink" else tarfile.LNKTYPE
        info.linkname = "../../escaped"
    if kind == "device":
        info.type = tarfile.CHRTYPE
    if kind == "setuid":
        info.mode = 0o6777
    info.size = 4 if info.isfile() else 0
    return info


@pytest.mark.parametrize("kind", ["traversal", "absolute", "symlink", "hardlink", "device", "setuid"])
def test_hostile_archive_members_never_leave_the_folder(kind: str, tmp_path: Path) -> None:
    entry, into = CATALOGUE["cifar10"], tmp_path / "cache"
    into.mkdir()
    (tmp_path / "escaped").write_bytes(b"mine")
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        first = _hostile(kind)
        tar.addfile(first, io.BytesIO(b"evil") if first.isfile() else None)
        for file in entry.files:
            name = f"{entry.folder}/{file.name}"
            if name != first.name:
                info = tarfile.TarInfo(name)
                info.size = 4
                tar.addfile(info, io.BytesIO(b"good"))
    if kind in ("symlink", "hardlink", "device"):  # the batch itself is no file: refused as missing
        with pytest.raises(DataError, match=r"lacks.*Remedy"):
            fetching._extract(archive, into, entry)
    else:
        fetching._extract(archive, into, entry)
    assert (tmp_path / "escaped").read_bytes() == b"mine"
    written = [path for path in into.rglob("*") if not path.is_dir()]
    assert {path.parent for path in written} <= {into / entry.folder}
    assert all(path.stat().st_mode & 0o7022 == 0 and not path.is_symlink() for path in written)


class _Asked(OSError):
    """The network was asked."""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """No name is looked up and no address connected to; whatever was tried is in the list."""
    tried: list[str] = []
    connect = socket.socket.connect

    def refuse(*arguments: Any, **_: Any) -> NoReturn:
        tried.append(str(arguments))
        raise _Asked("the network is cut off in this test")

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            refuse(address)
        connect(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.setattr(socket.socket, "connect_ex", local_only)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VIBTHEORY_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tried


def test_no_network_without_being_asked(offline: list[str], tmp_path: Path) -> None:
    data = vt.datasets.load("mnist").subset(60, 40)
    for name in ("fashion-mnist", "cifar10", "cifar100"):
        with pytest.raises(DataError, match="fetch"):
            vt.datasets.load(name)
        assert vt.datasets.verify(name).status == "missing"
    net = vt.networks.mlp((784, 6, 10))
    run = vt.train(net, data, gamma=1e-3, epochs=1, batch_size=30, device="cpu", checkpoint=tmp_path / "c")
    run.save("run")
    vt.load("run")
    vt.compress(net)
    assert vt.check_network(net, data, layers=["h1"]).verdict in ("holds", "not applicable")
    vt.check_sparsity_bound(vt.QuadraticBound(np.eye(2), [-3.0, -1.0], c=2.0, gamma=0.3))
    vt.tables.published(2)
    for arguments in (["version"], ["data", "list"], ["data", "verify", "mnist"], ["table", "1"], ["train", "--help"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0, arguments
    assert offline == []


def test_asking_for_a_download_would_be_seen(offline: list[str]) -> None:
    with pytest.raises(DataError, match=r"download failed.*Remedy"):
        vt.datasets.fetch("fashion-mnist")
    with pytest.raises(DataError, match=r"download failed.*Remedy"):
        vt.datasets.load("cifar10", download=True)
    assert len(offline) >= 2


def test_a_download_with_another_checksum_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pooch

    def wrong_file(url: str, output: str, _: object) -> None:
        Path(output).write_bytes(b"not the canonical file")

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda *_, **__: wrong_file)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"download failed.*Remedy"):
        vt.datasets.fetch("fashion-mnist")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_policy_is_short() -> None:
    lines = [line for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= 14
