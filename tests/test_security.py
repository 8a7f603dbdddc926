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
FORBIDDEN = {
    "eval", "exec", "__import__", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell", "joblib.load", "joblib.dump", "tempfile.mktemp", "pandas.read_pickle",
    "torch.save", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load", "yaml.load",
    "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all",
}  # fmt: skip
HOSTS = {name.rpartition(".")[0] for name in FORBIDDEN} - {""} | {"builtins", "shutil", "torch.serialization"}
USUAL = {"np": "numpy", "pd": "pandas"}
PICKLE_AT = {"numpy.load": 2, "numpy.save": 2}  # where allow_pickle stands without its name
Names = dict[str, set[str]]


def _dangers(source: str) -> set[str]:
    """Names of what must not be there, from the syntax tree (comments and strings do not count).

    A name is followed to where it was imported from. A function only mentioned counts as called without options.
    """
    tree = ast.parse(source)
    names = _imported(tree)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in _targets(node).values():
                found |= _dangers_of_import(target)
        elif isinstance(node, ast.Call):
            found |= set(_dangers_of_keywords(node))
            for name in _origins(node.func, names):
                found |= set(_dangers_of_use(name, node))
            for name in _origins(node, names):  # what getattr or import_module brought
                found |= _dangers_of_import(name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in called:
            for name in _origins(node, names):
                found |= set(_dangers_of_use(name, ast.Call(node, [], [])))
    return found


def _targets(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Origin of each name as it stands in an import: {"t": "torch"}, {"load": "torch.load"}, {"*": "os.*"}."""
    if isinstance(node, ast.Import):
        return {alias.asname or alias.name: alias.name for alias in node.names}
    return {alias.asname or alias.name: f"{node.module or ''}.{alias.name}".lstrip(".") for alias in node.names}


def _imported(tree: ast.Module) -> Names:
    """Origins of each local name, from imports anywhere in the file and from `a = imported.b`."""
    names: Names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for local, target in _targets(node).items():
                if "." in local:  # import a.b: binds a
                    local = target = local.partition(".")[0]
                names.setdefault(local, set()).add(target)
    assigned: Names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name | ast.Attribute | ast.Call):
            origins = {origin for origin in _origins(node.value, names) if not origin.startswith("?")}
            if isinstance(node.value, ast.Call) or ast.unparse(node.value).partition(".")[0] in names:
                for target in node.targets:
                    assigned.setdefault(ast.unparse(target), set()).update(origins)
    return {name: names.get(name, set()) | assigned.get(name, set()) for name in names.keys() | assigned.keys()}


def _origins(node: ast.expr, names: Names) -> set[str]:
    """Dotted names that an expression may stand for; "?" where it cannot be told."""
    if isinstance(node, ast.Name):
        found = names.get(node.id) or {USUAL.get(node.id, node.id)}
    elif isinstance(node, ast.Attribute):
        found = {f"{base}.{node.attr}" for base in _origins(node.value, names)}
    elif isinstance(node, ast.Call):
        function, texts = _origins(node.func, names), [ast.literal_eval(a) for a in node.args if _is_text(a)]
        if function & {"getattr", "builtins.getattr"} and texts:
            found = {f"{base}.{texts[0]}" for base in _origins(node.args[0], names)}
        elif function & {"importlib.import_module", "__import__"} and texts:
            found = {texts[0]}
        else:
            found = {"?"}
    else:
        found = {"?"}
    return {name.removeprefix("builtins.") for name in found}


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _dangers_of_import(name: str) -> set[str]:
    name = name.removeprefix("builtins.")
    host, _, last = name.rpartition(".")
    forbidden = PICKLERS & set(name.split(".")) or name in FORBIDDEN or (last == "*" and host in HOSTS)
    return {name} if forbidden else set()


def _dangers_of_use(name: str, node: ast.Call) -> Iterator[str]:
    last = name.rpartition(".")[2]
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in FORBIDDEN or last == "to_pickle":
        yield name
    if name in ("torch.load", "torch.serialization.load") and not _is(keywords.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    unpacks = name == "shutil.unpack_archive" or ("." in name and last in ("extractall", "extract"))
    if unpacks and not _is(keywords.get("filter"), "data"):
        yield f"{last} without filter='data'"
    place = PICKLE_AT.get(name)
    if place is not None and len(node.args) > place and not _is(node.args[place], False):
        yield "allow_pickle"


def _dangers_of_keywords(node: ast.Call) -> Iterator[str]:
    for keyword in node.keywords:
        pairs = [(keyword.arg, keyword.value)]
        if keyword.arg is None and isinstance(keyword.value, ast.Dict):  # f(**{"shell": True})
            pairs = [(key.value, value) for key, value in zip(keyword.value.keys, keyword.value.values, strict=True)
                     if isinstance(key, ast.Constant)]  # fmt: skip
        for name, value in pairs:
            if name in ("allow_pickle", "shell") and not _is(value, False):
                yield str(name)
            if name == "verify" and isinstance(value, ast.Constant) and not value.value:
                yield "verify=False"


def _is(node: ast.expr | None, value: bool | str) -> bool:
    """Whether the argument is there and literally this value (1 is not True)."""
    return isinstance(node, ast.Constant) and type(node.value) is type(value) and node.value == value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_dangerous_in_the_sources(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    found = {danger for danger in _dangers(path.read_text(encoding="utf-8")) if (name, danger) not in ALLOWED}
    # Tests may write a pickle with torch.save to show that it is refused.
    assert found - ({"torch.save"} if name.startswith("tests/") else set()) == set()


def test_nothing_dangerous_in_the_notebooks() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        lines = [line for source in code for line in [*"".join(source).splitlines(), ""]]
        assert not _dangers("\n".join(line for line in lines if not line.startswith(("%", "!")))), path.name


BAD_LINES = {
    "import pickle": "pickle",
    "from pickle import loads": "pickle",
    "from joblib.externals import cloudpickle": "cloudpickle",
    "import dill.session": "dill.session",
    "import importlib\nimportlib.import_module('pickle')": "pickle",
    "eval('1')": "eval",
    "exec(text)": "exec",
    "import builtins\nbuiltins.eval('1')": "eval",
    "from builtins import exec as run\nrun(text)": "exec",
    "map(eval, lines)": "eval",
    "torch.load(f)": "torch.load",
    "torch.load(f, weights_only=False)": "torch.load",
    "torch.load(f, weights_only=1)": "torch.load",
    "torch.load(f, **options)": "torch.load",
    "from torch import load\nload(f)": "torch.load",
    "from torch import load as read\nread(f, weights_only=trust)": "torch.load",
    "import torch as t\nt.load(f)": "torch.load",
    "import torch\nt = torch\nt.load(f)": "torch.load",
    "import torch\nread = torch.load\nread(f)": "torch.load",
    "import torch\ngetattr(torch, 'load')(f)": "torch.load",
    "from torch.serialization import load\nload(f)": "torch.load",
    "torch.jit.load(f)": "torch.jit.load",
    "from torch.jit import load\nload(f)": "torch.jit.load",
    "from torch import jit as j\nj.load(f)": "torch.jit.load",
    "import joblib as j\nj.load(f)": "joblib.load",
    "from joblib import load\nload(f)": "joblib.load",
    "from joblib import *": "joblib.*",
    "from pandas import read_pickle": "pandas.read_pickle",
    "pd.read_pickle(f)": "pandas.read_pickle",
    "frame.to_pickle(f)": "to_pickle",
    "np.load(f, allow_pickle=True)": "allow_pickle",
    "np.load(f, allow_pickle=1)": "allow_pickle",
    "np.load(f, allow_pickle=trusted)": "allow_pickle",
    "np.load(f, None, True)": "allow_pickle",
    "np.load(f, **{'allow_pickle': True})": "allow_pickle",
    "np.save(f, x, allow_pickle=True)": "allow_pickle",
    "yaml.load(f)": "yaml.load",
    "yaml.load_all(f)": "yaml.load_all",
    "from yaml import load_all\nload_all(f)": "yaml.load_all",
    "subprocess.run('ls', shell=True)": "shell",
    "subprocess.run('ls', shell=1)": "shell",
    "subprocess.run('ls', **{'shell': True})": "shell",
    "subprocess.getoutput('ls')": "subprocess.getoutput",
    "from subprocess import getoutput as ask\nask('ls')": "subprocess.getoutput",
    "os.system('ls')": "os.system",
    "from os import system": "os.system",
    "from os import system as run\nrun('ls')": "os.system",
    "from os import *": "os.*",
    "from torch import *": "torch.*",
    "tar.extractall(f)": "extractall",
    "tar.extractall(f, filter='fully_trusted')": "extractall",
    "archive.extractall(p)": "extractall",
    "open_it(f).extract('a', p)": "extract",
    "shutil.unpack_archive(f, p)": "unpack_archive",
    "from shutil import unpack_archive as unpack\nunpack(f, p)": "unpack_archive",
    "requests.get(url, verify=False)": "verify",
    "requests.get(url, verify=0)": "verify",
}  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES)
def test_each_danger_would_be_seen(line: str) -> None:
    (found,) = _dangers(line)
    assert BAD_LINES[line] in found


HARMLESS = (
    "net.eval()",
    "frame.eval('a + b')",
    "torch.load(f, weights_only=True)",
    "from torch import load\nload(f, weights_only=True)",
    "np.load(f)",
    "np.load(f, allow_pickle=False)",
    "np.load(f, None, False)",
    "from numpy import load\nload(f)",
    "from json import load\nload(f)",
    "from vibtheory.datasets import load\nload('mnist')",
    "datasets.load('mnist')",
    "import yaml\nyaml.safe_load(f)",
    "import platform\nplatform.system()",
    "from platform import system\nsystem()",
    "subprocess.run(['ls'], shell=False)",
    "from joblib import Parallel, delayed",
    "archive.extractall(p, filter='data')",
    "shutil.unpack_archive(f, p, filter='data')",
    "def extract(x): return x\nextract(1)",
    "fetching._extract(archive, into, entry)",
    "torch.jit.script(net)",
    "requests.get(url, verify=True)",
    "# pickle, eval\nx = 'import pickle; eval(1)'",
    "def f(pickle): return pickle",
)


@pytest.mark.parametrize("line", HARMLESS)
def test_the_harmless_is_let_through(line: str) -> None:
    assert _dangers(line) == set()


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
