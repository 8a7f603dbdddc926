"""train, export, data, version; what starting the command line loads; unknown commands."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import onnxruntime
import pytest
import torch

import vibtheory
from vibtheory.compression.cut import compress
from vibtheory.compression.export_c import compiled
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import named_gates
from vibtheory.training.run import load

from .conftest import Call

ODD_MODELS = """
from torch import nn

class Fails(nn.Module):
    def forward(self, x):
        raise KeyError("inside")

class Two(nn.Module):
    def forward(self, x):
        return x, x

fails, two = Fails, Two
"""
TRAIN = ("train", "tiny_models:gated", "--data", "points.npz", "--out", "run", "--gamma", 1e-3, "--epochs", 2)


def test_train_saves_a_run_and_repeats_nothing(here: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    first = call(*TRAIN, "--seed", 4)
    assert first.code == 0, first.err
    run = load("run")
    assert (run.seed, run.recipe.gamma, run.recipe.epochs, len(run.rows)) == (4, 1e-3, 2, 2)
    monkeypatch.setattr("vibtheory.training.loop.Loop.step", None)  # a finished run takes no step
    again = call(*TRAIN, "--seed", 4)
    assert (again.code, again.out) == (0, first.out)


def test_a_stopped_run_goes_on(here: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from vibtheory.training import loop as training_loop

    real = training_loop.snapshot

    def stop(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "snapshot", stop)
        assert call(*TRAIN).code == 130
    assert call(*TRAIN).code == 0
    undisturbed = [*TRAIN]
    undisturbed[TRAIN.index("run")] = "other"
    assert call(*undisturbed).code == 0
    for name, tensor in load("other").net.state_dict().items():
        assert torch.equal(tensor, load("run").net.state_dict()[name]), name


@pytest.mark.parametrize("text", ["epochs = 1\nbatch_size = 7\n", "[recipe]\nepochs = 1\nbatch_size = 7\n"])
def test_a_recipe_file(here: Path, call: Call, text: str) -> None:
    Path("recipe.toml").write_text(text, encoding="utf-8")
    answer = call(*TRAIN[:6], "--recipe", "recipe.toml", "--gamma", 0.5)
    assert answer.code == 0, answer.err
    recipe = load("run").recipe
    assert (recipe.epochs, recipe.batch_size, recipe.gamma) == (1, 7, 0.5)


@pytest.mark.parametrize(("packaged", "hidden"), [("vgg_3_1", ["fc1", "fc2"]), ("vgg_3_2", ["fc1"])])
def test_a_copied_recipe_trains_the_same_network(
    here: Path, call: Call, monkeypatch: pytest.MonkeyPatch, packaged: str, hidden: list[str]
) -> None:
    """Hidden layers as Table 3 has them, 2 beside BC and 1 beside PF; the copy as docs/several_machines.md makes it."""

    def said(net: torch.nn.Module, *_: object, **__: object) -> None:
        raise InvalidInputError(f"fully connected: {[name for name in named_gates(net) if name.startswith('fc')]}")

    monkeypatch.setattr("vibtheory.training.single.train", said)
    monkeypatch.setattr("vibtheory.datasets.load", lambda *_: None)
    text = resources.files("vibtheory").joinpath(f"studies/recipes/{packaged}.toml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("prune_at")]
    Path("mine.toml").write_text("\n".join(lines), encoding="utf-8")
    for recipe in (packaged, "mine.toml"):
        answer = call("train", "vgg16_cifar", "--recipe", recipe, "--data", "cifar10", "--out", "run")
        assert f"fully connected: {hidden}" in answer.err, answer.err


def test_a_sweep_has_the_recipe_s_network(here: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(**settings: object) -> None:
        raise InvalidInputError(f"network {settings['network']}")

    monkeypatch.setattr("vibtheory.studies.sweep.sweep", said)
    answer = call(*SWEEP, 1, "--network", "vgg16_cifar", "--data", "cifar10", "--recipe", "vgg_3_2")
    assert "network {'builder': 'vgg16_cifar', 'arguments': {'classes': 10, 'hidden': 1}}" in answer.err


def test_a_network_of_ones_own_follows_any_recipe(here: Path, call: Call) -> None:
    table = "table = 1\nnetwork = 'vgg16_cifar'\ndataset = 'cifar10'\narguments = { hidden = 1 }\n"
    Path("recipe.toml").write_text(f"{table}[recipe]\nepochs = 1\nbatch_size = 7\n", encoding="utf-8")
    answer = call(*TRAIN[:6], "--recipe", "recipe.toml")
    assert answer.code == 0, answer.err
    assert load("run").recipe.batch_size == 7


def test_a_collapsed_run_is_code_3(here: Path, call: Call) -> None:
    Path("recipe.toml").write_text("gate_learning_rate = 1.0\n", encoding="utf-8")
    answer = call(*TRAIN[:6], "--recipe", "recipe.toml", "--gamma", 1e4, "--epochs", 40)
    assert answer.code == 3, answer.out
    assert load("run").status == "collapsed"


SWEEP = ("sweep", "--gammas", "1e-3", "--out", "new", "--seeds")
BAD = {
    "a seed below 0": ((*TRAIN[:5], "new", "--seed", -1), "--seed"),
    "a seed of no generator": ((*TRAIN[:5], "new", "--seed", 10**23), "--seed"),
    "sweep: a seed of no generator": ((*SWEEP, f"{10**23},"), "--seeds"),
    "sweep: a seed below 0": ((*SWEEP, "3,-1"), "--seeds"),
    "sweep: more seeds than memory": ((*SWEEP, 10**23), "--seeds"),
    "a recipe of 5000 letters": ((*TRAIN[:5], "new", "--recipe", "a" * 5000), "name too long (aaaa"),
    "a number too long to print": ((*TRAIN[:5], "new", "--recipe", "long.toml"), "long.toml"),
    "an absurd batch size": ((*TRAIN[:5], "new", "--recipe", "batch.toml"), "batch_size"),
    "an absurd start": ((*TRAIN[:5], "new", "--recipe", "start.toml"), "initial_log_variance"),
    "export: another shape": (("export", "run", "a.onnx", "--shape", "5"), "--shape"),
    "export: a shape beyond memory": (("export", "run", "a.onnx", "--shape", "99999999,99999999"), "--shape"),
    "export: a folder": (("export", "run", ".", "--shape", "4"), "path: got ."),
    "export: a file of 5000 letters": (("export", "run", "a" * 5000, "--shape", "4"), "name too long (aaaa"),
    "export: a model that fails": (("export", "odd_models:fails", "a.onnx", "--shape", "4"), "KeyError: 'inside'"),
    "export: a model with two outputs": (("export", "odd_models:two", "a.onnx", "--shape", "4"), "returns tuple"),
    "no such network": (("train", "lenet", "--out", "run"), "lenet_300_100"),
    "another run in the folder": ((*TRAIN[:6], "--gamma", 2), "another run"),
    "a negative price": ((*TRAIN[:5], "new", "--gamma", -1), "gamma"),
    "no such data": ((*TRAIN[:3], "points.csv", "--out", "new"), "--data: got 'points.csv', expected one of mnist"),
    "a price without gates": (
        ("train", "tiny_models:plain", "--data", "points.npz", "--out", "new", "--gamma", 1e-3),
        "--gamma: got 0.001, expected none for a network without gates",
    ),
    "no such recipe": ((*TRAIN[:5], "new", "--recipe", "gone.toml"), "gone.toml"),
    "a recipe that is not TOML": ((*TRAIN[:5], "new", "--recipe", "bad.toml"), "TOML"),
    "a recipe that is no section": ((*TRAIN[:5], "new", "--recipe", "flat.toml"), "[recipe]"),
    "an unknown setting": ((*TRAIN[:5], "new", "--recipe", "unknown.toml"), "gama"),
    "no such device": ((*TRAIN[:5], "new", "--device", "abacus"), "abacus"),
    "no examples": ((*TRAIN[:5], "new", "--examples", 0), "--examples: got 0, expected an integer between 1 and 40"),
    "a recipe of another network": (
        ("train", "lenet_300_100", "--out", "new", "--recipe", "vgg_3_2"),
        "NETWORK: got lenet_300_100, expected vgg16_cifar, which vgg_3_2 is for",
    ),
    "a recipe of other data": (
        ("train", "vgg16_cifar", "--out", "new", "--recipe", "vgg_3_2"),
        "--data: got mnist, expected cifar10, which vgg_3_2 is for",
    ),
    "arguments of another network": (
        ("train", "lenet_300_100", "--out", "new", "--recipe", "wide.toml"),
        "--recipe: got arguments {'wide': 2}",
    ),
    "a recipe for a part of the data": (
        ("train", "lenet_300_100", "--out", "new", "--recipe", "part.toml"),
        "--recipe: got part.toml with held_out = 100 and examples = 50",
    ),
    "sweep: a recipe for a part of the data": ((*SWEEP, 1, "--recipe", "part.toml"), "got part.toml with held_out"),
    "sweep: a recipe of another network": ((*SWEEP, 1, "--recipe", "vgg_3_2"), "--network: got lenet_300_100"),
    "methods: no such method": (("methods", "--quick", "--methods", "NOPE"), "--methods: got"),
    "methods: two budgets": (("methods", "--quick", "--budget", "gpu"), "--budget: got gpu together with --quick"),
    "methods: no such budget": (("methods", "--budget", "nope"), "--budget: got 'nope'"),
    "methods: a plan of runs elsewhere": (("methods", "--plan", "--runs", "there"), "--runs: got there, expected none"),
    "methods: a plan that measures nets": (("methods", "--plan", "--nets"), "--nets: got True, expected none with"),
    "methods: processes here and there": (
        ("methods", "--cluster", "tcp://127.0.0.1:1", "--jobs", 2),
        "--jobs: got 2, expected none with --cluster",
    ),
    "sweep: processes here and there": (
        (*SWEEP, 1, "--cluster", "tcp://127.0.0.1:1", "--jobs", 2),
        "--jobs: got 2, expected none with --cluster",
    ),
    "figure: a drawing is not trained": (("figure", "1", "--quick"), "--quick: got True, expected none with Figure 1"),
    "figure: a drawing has no runs": (("figure", "1", "--jobs", 2), "--jobs: got 2, expected none with Figure 1"),
    "figure: processes, not trained": (("figure", "2", "--jobs", 2), "--jobs: got 2, expected --quick or --full"),
    "figure: runs, not read": (("figure", "plane", "--runs", "there"), "--runs: got there, expected --quick or"),
    "export: no shape": (("export", "run", "a.onnx"), "--shape"),
    "export: a bad shape": (("export", "run", "a.onnx", "--shape", "4,-1"), "4,-1"),
    "export: no folder": (("export", "run", "gone/a.onnx", "--shape", "4"), "gone"),
    "sweep: no such data": ((*SWEEP, 1, "--data", "letters"), "--data: got 'letters'"),
    "train: a factory that is none": (("train", "a:b", "--out", "new"), "NETWORK: got a:b"),
    "export: a factory that is none": (("export", "a:b", "a.onnx"), "MODEL: got a:b"),
    "export: a folder without a run": (("export", "empty", "a.onnx"), "MODEL: no run.json in empty"),
    "export: weights of a folder without a run": (
        ("export", "odd_models:two", "a.onnx", "--state", "empty"),
        "--state: no",
    ),
    "check: a report in the place of a folder": (
        ("check", "tiny_models:plain", "--data", "points.npz", "--gamma", 1e-3, "--json", "empty"),
        "--json: could not write empty",
    ),
    "a recipe for no data": (("table", 1, "--network", "letters.toml", "--quick"), "recipe dataset: got 'letters'"),
    "data: no such name": (("data", "fetch", "letters"), "mnist"),
    "verify: no such name": (("data", "verify", "letters"), "mnist"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(here: Path, call: Call, case: str) -> None:
    arguments, words = BAD[case]
    Path("odd_models.py").write_text(ODD_MODELS, encoding="utf-8")
    Path("empty").mkdir()
    recipes = {"bad": "epochs =", "flat": "recipe = 3", "unknown": "gama = 1.0", "batch": f"batch_size = {10**21}",
               "start": "initial_log_variance = 1e308", "long": "batch_size = 0x" + "f" * 9000,
               "wide": "table = 1\nnetwork = 'lenet_300_100'\ndataset = 'mnist'\narguments = { wide = 2 }\n[recipe]\n",
               "letters": "table = 1\nnetwork = 'lenet_300_100'\ndataset = 'letters'\n[recipe]\n",
               "part": "table = 1\nnetwork = 'lenet_300_100'\ndataset = 'mnist'\n"
               "held_out = 100\nexamples = 50\n[recipe]\n",
               }  # fmt: skip
    for name, text in recipes.items():
        Path(f"{name}.toml").write_text(text, encoding="utf-8")
    assert call(*TRAIN).code == 0
    answer = call(*arguments)
    assert answer.code == 2, answer.out
    assert answer.err.startswith("error: ")
    assert len(answer.err.splitlines()) == 1
    assert words in answer.err
    assert not Path("a.onnx").exists()


@pytest.mark.parametrize(("option", "amp"), [([], None), (["--amp"], True), (["--no-amp"], False)])
@pytest.mark.parametrize(
    ("command", "callee"),
    [
        (TRAIN, "vibtheory.training.single.train"),
        (("table", "1", "--quick"), "vibtheory.studies.table_runs.run_experiment"),
        (("table", "1", "--quick", "--together"), "vibtheory.studies.table_runs.run_together"),
        (("methods", "--quick", "--methods", "VIBNet"), "vibtheory.studies.methods.run_together"),
    ],
)
def test_the_precision_asked_for_arrives(
    here: Path, call: Call, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], callee: str, option: list[str],
    amp: bool | None,
) -> None:  # fmt: skip
    def said(*_: object, amp: bool | None, **__: object) -> None:
        raise InvalidInputError(f"amp is {amp}")

    monkeypatch.setattr(callee, said)
    answer = call(*command, *option)
    assert f"amp is {amp}" in answer.err, answer.err


def test_export_writes_the_compressed_network(here: Path, call: Call) -> None:
    assert call(*TRAIN).code == 0
    answer = call("export", "run", "small.onnx", "--shape", "4")
    assert answer.code == 0, answer.err
    x = torch.linspace(-2, 2, 12).reshape(3, 4)
    (got,) = onnxruntime.InferenceSession("small.onnx").run(None, {"input": x.numpy()})
    wanted = compress(load("run").net)(x).detach()
    torch.testing.assert_close(torch.as_tensor(got), wanted, rtol=1e-5, atol=1e-5)
    answer = call("export", "run", "small.c", "--shape", "4")
    assert answer.code == 0, answer.err
    in_c = compiled("small.c")(x.numpy())
    torch.testing.assert_close(torch.from_numpy(in_c), wanted, rtol=1e-5, atol=1e-5)


def test_export_to_a_name_that_the_locale_lacks(here: Path, call: Call) -> None:
    assert call(*TRAIN).code == 0
    Path("γd").mkdir()
    command = [sys.executable, "-m", "vibtheory", "export", "run", "γd/ö.onnx", "--shape", "4"]
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **plain})
    assert done.returncode == 0, done.stderr
    assert [path.name for path in Path("γd").iterdir()] == ["ö.onnx"]


def test_data_list_and_verify(tmp_path: Path, call: Call) -> None:
    listed = call("data", "list", "--root", tmp_path)
    assert listed.code == 0
    assert all(name in listed.out for name in ("mnist", "fashion-mnist", "cifar10", "cifar100"))
    assert "verified" in call("data", "verify", "mnist").out
    missing = call("data", "verify", "cifar10", "--root", tmp_path)
    assert missing.code == 2
    assert "missing" in missing.out


def test_fetch_of_what_is_packaged_verifies_it(call: Call) -> None:
    answer = call("data", "fetch", "mnist")
    assert answer.code == 0
    assert "verified" in answer.out


def test_usage_errors_are_code_2(call: Call) -> None:
    assert call("foo").code == 2
    assert call("check").code == 2
    assert call("table", "one").code == 2


def test_version_by_script_and_by_module() -> None:
    root = Path(__file__).resolve().parents[2]
    script = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["vibtheory"]
    assert script == "vibtheory.cli:main"
    done = subprocess.run([sys.executable, "-m", "vibtheory", "version"], capture_output=True, text=True, check=True)
    assert f"vibtheory {vibtheory.__version__}" in done.stdout
    assert f"torch {torch.__version__}" in done.stdout


def test_starting_loads_nothing_heavy() -> None:
    heavy = ["torch", "cvxpy", "pandas", "matplotlib", "scipy", "pooch"]
    code = f"import sys, vibtheory.cli\nprint(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
