"""Docstrings are complete by rules that a machine can check, and every Python example in README and docs runs.

Rules, for every public name: what `vibtheory` and its subpackages export, and `__all__` of each module that a page of
docs/api/ shows.

1. a docstring whose summary is one sentence on the first line;
2. functions and public methods name each parameter in it (one typed as a class of ours explains itself); dataclasses
   each field;
3. arrays and tensors come with a shape, "[N, d]", or say that they broadcast;
4. what can raise one of our errors says so (a section "Raises:", or a sentence with "raise");
5. theory and information name their source, there or at the head of the module: a number, or authors and year;
   information its unit, nats.
"""

from __future__ import annotations

import ast
import json
import pkgutil
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from markdown.extensions.toc import slugify
from torch import nn

from vibtheory.claims.instances import Effort

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vibtheory"
SUBPACKAGES = ("datasets", "figures", "information", "theory")
PAGES = sorted((ROOT / "docs").rglob("*.md"))
CHECKS = {"reject", "as_array", "as_positive", "as_scalar", "check_choice"}
ARRAY = re.compile(r"ArrayLike|NDArray|Tensor|\bArray\b")
SHAPE = re.compile(
    r"\[[^\]]*\]|scalar|broadcast|shape|vector|matrix|diagonal|batch|arrays?\b|eigenvalues", re.IGNORECASE
)
SOURCE = re.compile(r"\bT\d[a-c]?\b|\bP[123]\b|\bProp\b|docs/theory.md|paper|\b(19|20)\d\d\b")
OURS = re.compile(
    r"GatedChannel|QuadraticBound|SparsityPath|Report\b|Minimum|DataFrame|nn\.Module|Dataset|Solution|Figure"
)
Node = ast.FunctionDef | ast.ClassDef


def _shown() -> set[str]:
    """Modules that the site's pages show: the lines "::: vibtheory.networks.gates"."""
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    return {line.split()[1] for line in lines if line.startswith("::: ")}


def _public_names() -> dict[Path, set[str]]:
    """Public names by the file that defines them."""
    found: dict[Path, set[str]] = {}
    for folder in (PACKAGE, *(PACKAGE / part for part in SUBPACKAGES)):
        stub = folder / "__init__.pyi"
        names = stub if stub.exists() else folder / "__init__.py"
        for node in ast.walk(ast.parse(names.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                home = folder if node.level else ROOT
                path = home / (node.module.replace(".", "/") + ".py")
                if path.is_file():
                    found.setdefault(path, set()).update(alias.name for alias in node.names)
    for name in _shown():
        path = ROOT / (name.replace(".", "/") + ".py")
        found.setdefault(path, set()).update(_exported(ast.parse(path.read_text(encoding="utf-8"))))
    return found


def _exported(tree: ast.Module) -> set[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def _public(tree: ast.Module, names: set[str]) -> Iterator[tuple[str, Node, str]]:
    """(name, definition, docstring of the class around it) of public functions, classes and their public methods."""
    for node in tree.body:
        if isinstance(node, Node) and node.name in names:
            yield node.name, node, ""
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith(("_", "extra_repr")):
                        yield f"{node.name}.{inner.name}", inner, ast.get_docstring(node) or ""


def _complaints(name: str, node: Node, around: str, module: str, area: str) -> Iterator[str]:
    text = ast.get_docstring(node) or ""
    if not text:
        yield f"{name}: no docstring"
        return
    if not re.search(r"[.:?!)…]$|\.$", text.split("\n\n")[0].strip()):
        yield f"{name}: its summary is no sentence"
    known = f"{text}\n{around}"
    if isinstance(node, ast.FunctionDef):
        yield from _of_function(name, node, text, known)
    elif any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                word = field.target.id
                if not word.startswith("_") and not re.search(rf"\b{word}\b", text):
                    yield f"{name}: no word about {word}"
    if area in ("theory", "information") and not SOURCE.search(f"{known}\n{module}"):
        yield f"{name}: no source"
    if area == "information" and "nats" not in f"{known}\n{module}":
        yield f"{name}: no unit"


def _of_function(name: str, node: ast.FunctionDef, text: str, known: str) -> Iterator[str]:
    elsewhere = re.search(r"\b([Aa]s|[Ss]ee|Args and|behind) (in )?`", text)  # "as `snr`": described there
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    for argument in arguments:
        word = argument.arg
        kind = ast.unparse(argument.annotation) if argument.annotation else ""
        explained = word in ("self", "cls", "indent") or elsewhere or OURS.search(kind)
        if not explained and not re.search(rf"\b{word}\b", known):
            yield f"{name}: no word about {word}"
    types = " ".join(ast.unparse(a.annotation) for a in [*arguments] if a.annotation)
    returns = ast.unparse(node.returns) if node.returns else ""
    if ARRAY.search(f"{types} {returns}") and not elsewhere and not SHAPE.search(known):
        yield f"{name}: arrays without a shape"
    if _raises(node) and not re.search(r"[Rr]aise|refuse", known):
        yield f"{name}: raises without saying so"


def _raises(node: ast.FunctionDef) -> bool:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and ast.unparse(inner.func) in CHECKS:
            return True
        if isinstance(inner, ast.Raise) and inner.exc is not None and "Error" in ast.unparse(inner.exc):
            return True
    return False


def _module_complaints(source: str, area: str, names: set[str]) -> list[str]:
    tree = ast.parse(source)
    module = ast.get_docstring(tree) or ""
    found = [] if module else ["no module docstring"]
    for name, node, around in _public(tree, names):
        found += _complaints(name, node, around, module, area)
    return found


PUBLIC = _public_names()


@pytest.mark.parametrize("path", sorted(PUBLIC), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_are_complete(path: Path) -> None:
    area = path.parent.name if path.parent != PACKAGE else ""
    assert _module_complaints(path.read_text(encoding="utf-8"), area, PUBLIC[path]) == []


def test_the_public_names_are_many() -> None:
    assert sum(map(len, PUBLIC.values())) > 120


BAD = {
    "no docstring": "def f(x):\n    return x",
    "its summary is no sentence": 'def f():\n    """about"""',
    "no word about x": 'def f(x):\n    """Do it."""',
    "arrays without a shape": 'def f(x: Tensor):\n    """Double x."""',
    "raises without saying so": 'def f():\n    """Do it."""\n    reject("a", 1, "b", "c")',
    "no source": 'def f():\n    """Information in nats."""',
    "no unit": 'def f():\n    """Information (P2)."""',
    "no word about width": 'def f():\n    """T1, nats."""\n@dataclass\nclass C:\n    """T1, nats."""\n    width: int',
}


@pytest.mark.parametrize("complaint", BAD)
def test_each_gap_would_be_seen(complaint: str) -> None:
    source = '"""About."""\n' + BAD[complaint]
    assert any(complaint in line for line in _module_complaints(source, "information", {"f", "C"}))


def test_every_public_name_is_documented_on_the_site() -> None:
    """Each name in vibtheory.__all__ that is no module lives in a module that an API page shows."""
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    homes = {f"vibtheory.{node.module}" for node in stub.body if isinstance(node, ast.ImportFrom) and node.module}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {home for home in homes if home.removeprefix("vibtheory.") not in folders} <= _shown()


def test_the_rules_reach_everything_on_the_api_pages() -> None:
    """A page shows what its module's __all__ names (mkdocs.yml: filters: public), so each module needs one."""
    for name in _shown():
        path = ROOT / (name.replace(".", "/") + ".py")
        assert _exported(ast.parse(path.read_text(encoding="utf-8"))), name
        assert path in PUBLIC
    objects = {f"{path.stem}.{name}" for path, names in PUBLIC.items() for name in names}
    assert {"ledger.decide", "instances.Recorded", "vgg.vgg16_cifar", "export.export_onnx", "channels.LayerLaw",
            "verification.compare"} <= objects  # fmt: skip


def _blocks(page: Path) -> str:
    """A page's Python, block after block, as one program."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page)], ids=lambda page: page.stem)
def test_the_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Effort, "size", lambda self, quick, full: max(2, quick // 10))  # a tenth of the quick instances
    program = tmp_path / "example.py"
    program.write_text(_blocks(page), encoding="utf-8")
    names = runpy.run_path(str(program))
    if page.stem == "own_model":
        _compressed_as_the_page_says(names)


def _compressed_as_the_page_says(names: dict[str, Any]) -> None:
    """Sizes and errors of the page's small models, counted from their own weights and outputs."""
    before, cut, small = map(_linears, (names["model"], names["cut"], names["small"].net))
    assert (len(before[0].weight), len(cut[0].weight)) == (12, 4)
    x, y = (torch.as_tensor(part) for part in (names["data"].x_test, names["data"].y_test))
    assert (names["cut"](x).argmax(1) == y).double().mean() > 0.95
    assert names["small"].met
    weights = [sum(linear.weight.numel() for linear in linears) for linears in (before, small)]
    assert 0 < weights[1] <= 0.5 * weights[0]
    assert (names["small"].net.cpu()(x).argmax(1) == y).double().mean() > 0.95


def _linears(net: nn.Module) -> list[nn.Linear]:
    return [module for module in net.modules() if isinstance(module, nn.Linear)]


def test_docstrings_hold_no_examples_that_nobody_runs() -> None:
    """Examples live in README and docs, where they are run; a docstring with one would need a doctest."""
    for path in PACKAGE.rglob("*.py"):
        assert ">>> " not in path.read_text(encoding="utf-8"), path


def _prose() -> Iterator[tuple[Path, str]]:
    """README, every page of docs/, and the words of every notebook."""
    for page in [ROOT / "README.md", *PAGES]:
        yield page, page.read_text(encoding="utf-8")
    for page in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
        yield page, "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def _anchors(page: Path) -> set[str]:
    """What a link into a page may name: its headings, {#id} or the words as the site writes them."""
    headings = re.findall(r"^#+ (.*?)(?: \{#([\w-]+)\})?$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {name or slugify(title.replace("`", ""), "-") for title, name in headings}


def test_links_between_pages_lead_somewhere() -> None:
    links = 0
    for page, text in _prose():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([\w-]*)\)", text):
            to = page.parent / target if target else page
            assert to.exists(), f"{page.name}: {target}"
            if anchor:
                links += 1
                assert anchor in _anchors(to), f"{page.name}: {target}#{anchor}"
    assert links > 50


def test_names_of_the_package_in_prose_are_there() -> None:
    """`vt.merge_redundant` and its like in README, docs and notebooks; only blocks of code are run."""
    for page, text in _prose():
        for name in set(re.findall(r"(?:\bvt|`vibtheory)\.([a-z_]\w*(?:\.\w+)*)", text)):
            try:
                pkgutil.resolve_name(f"vibtheory.{name}")
            except (AttributeError, ImportError):
                raise AssertionError(f"{page.name}: {name}") from None


def test_every_committed_picture_is_on_the_page_of_figures_with_its_command() -> None:
    page = (ROOT / "docs/figures.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\]]+\]\(\.\./figures/([^)]+)\)\n\n[A-Z0-9α].+\n`(python|vibtheory) ([^ `]+)[^`]*`", page)
    kept = {path.name for kind in ("png", "gif") for path in (ROOT / "figures").glob(f"*.{kind}")}
    assert sorted(name for name, *_ in shown) == sorted(kept), "docs/figures.md: a picture, its sentence and command"
    for name, program, word in shown:
        assert (ROOT / (word if program == "python" else f"vibtheory/cli/{word}.py")).exists(), name


def test_the_course_has_every_notebook_and_says_how_long_it_takes() -> None:
    """The page's rule: a minute for a hundred words and for each cell of code, eight for an exercise."""
    page = (ROOT / "docs/course.md").read_text(encoding="utf-8")
    rows = re.findall(r"gallery/(\w+)\.html\">\d\d [^<]+</a> \|[^|]+\| (\d+) \|", page)
    notebooks = {path.stem: path for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert sorted(name for name, _ in rows) == sorted(notebooks)
    for name, minutes in rows:
        cells = json.loads(notebooks[name].read_text(encoding="utf-8"))["cells"]
        texts = {kind: ["".join(c["source"]) for c in cells if c["cell_type"] == kind] for kind in ("markdown", "code")}
        exercises = sum(text.startswith("answer") or "\ncheck(" in text for text in texts["code"])
        rule = len(" ".join(texts["markdown"]).split()) / 100 + len(texts["code"]) + 8 * exercises
        assert abs(int(minutes) - rule) < 10, f"{name}: {rule:.0f} minutes by the page's rule"


def test_the_estimators_page_has_every_estimator() -> None:
    from vibtheory.information import METHODS, SAMPLE_METHODS

    page = (ROOT / "docs/api/estimators.md").read_text(encoding="utf-8").split("**Samples only**")
    for part, methods in zip(page, (METHODS, SAMPLE_METHODS), strict=True):
        rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
        assert {name for row in rows for name in re.findall("`(\\w+)`", row)} == set(methods)


def test_the_site_needs_nothing_from_elsewhere() -> None:
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in configuration
    assert "http" not in configuration
    css = (ROOT / "docs/assets/site.css").read_text(encoding="utf-8")
    assert "url(" not in css
    assert "@import" not in css
