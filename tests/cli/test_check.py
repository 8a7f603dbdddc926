"""`vibtheory check`: each exit code, the files it writes, models of ours and of others, bad input."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import vibtheory as vt
from vibtheory.cli.exit_codes import DEFECT, INTERRUPTED
from vibtheory.datasets import from_arrays
from vibtheory.errors import CheckpointError
from vibtheory.networks.lenet import mlp
from vibtheory.training.single import train

from .conftest import Call, points


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved run of the tiny network on the data of points.npz."""
    data = from_arrays(**points(), name="points")
    torch.manual_seed(3)
    return train(mlp((4, 5, 2)), data, gamma=2e-3, epochs=2, seed=1).save(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture
def run(here: Path, trained: Path) -> Path:
    """A copy of it beside points.npz."""
    return Path(shutil.copytree(trained, here / "run"))


def test_a_saved_run_holds_and_is_written_down(run: Path, call: Call) -> None:
    answer = call("check", run, "--data", "points.npz", "--json", "r.json", "--csv", "r.csv", "--figure", "deep/r.svg")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("holds: 2 gated layers")
    written = json.loads(Path("r.json").read_text(encoding="utf-8"))
    assert [layer["layer"] for layer in written["layers"]] == ["input", "h1"]
    frame = pd.read_csv("r.csv")
    assert list(frame["verdict"]) == ["holds", "holds"]
    assert (frame["nonzeros"] <= frame["rank"]).all()
    assert Path("deep/r.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_the_trained_objective_itself(run: Path, call: Call) -> None:
    options = ("--trained", "--draws", 3, "--json", "t.json", "--csv", "t.csv", "--figure", "t.png")
    answer = call("check", run, "--data", "points.npz", "--layer", "h1", *options)
    assert answer.code == 3, answer.err  # two epochs: not at a minimum
    assert answer.out.startswith("not at a minimum: 1 parts")
    assert json.loads(Path("t.json").read_text(encoding="utf-8"))["reports"][0]["layer"] == "h1"
    assert list(pd.read_csv("t.csv")["verdict"]) == ["not at a minimum"]
    assert call("check", run, "--data", "points.npz", "--trained", "--layer", "h1", "--layer", "input").code == 2


def test_one_layer_of_a_kind_in_detail(run: Path, call: Call) -> None:
    answer = call("check", run, "--data", "points.npz", "--layer", "h1", "--kind", "bohning", "--details")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("h1: holds")
    assert "T3 (sharp)" in answer.out


def test_all_kinds_side_by_side(run: Path, call: Call) -> None:
    options = ("--kind", "all", "--points", 300, "--csv", "all.csv", "--json", "all.json", "--figure", "all.png")
    answer = call("check", run, "--data", "points.npz", "--layer", "h1", *options)
    assert answer.code == 0, answer.err
    frame = pd.read_csv("all.csv")
    assert list(frame["kind"]) == ["exact", "bohning", "lipschitz", "fitted", "tangent"]
    assert frame.loc[1, ["points", "violations"]].tolist() == [300, 0]
    assert "does not apply" in frame.loc[0, "reason"]
    assert len(json.loads(Path("all.json").read_text(encoding="utf-8"))["rows"]) == 5
    assert Path("all.png").read_bytes().startswith(b"\x89PNG")
    answer = call("check", run, "--data", "points.npz", "--layer", "h1", "--kind", "all", "--points", 9, "--details")
    assert "T3 (sharp)" in answer.out


def test_a_plain_model_with_its_state(here: Path, call: Call) -> None:
    torch.manual_seed(5)
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    save_file(net.state_dict(), here / "state.safetensors")
    arguments = ("check", "tiny_models:plain", "--state", "state.safetensors", "--data", "points.npz")
    answer = call(*arguments, "--gamma", 1e-3, "--json", "a.json")
    assert answer.code == 0, answer.err
    with torch.no_grad():
        net[0].weight.zero_()
    save_file(net.state_dict(), here / "state.safetensors")
    assert call(*arguments, "--gamma", 1e-3, "--json", "b.json").code == 0
    one, two = (json.loads((here / name).read_text(encoding="utf-8")) for name in ("a.json", "b.json"))
    assert one["layers"][0]["spectrum"] != two["layers"][0]["spectrum"]  # the weights came from the file
    assert "predicts no better than a constant" in two["remarks"][0]


def test_a_factory_with_the_folder_of_its_run(run: Path, call: Call) -> None:
    answer = call("check", "tiny_models:gated", "--state", run, "--data", "points.npz")  # γ from the run
    assert answer.code == 0, answer.err


def test_a_run_of_ones_own_network_alone(here: Path, call: Call) -> None:
    x, y = torch.randn(8, 4), torch.arange(8) % 2
    data = from_arrays(x, y, x, y, classes=2)
    plain = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    train(vt.insert_gates(plain, x), data, vt.Recipe(gamma=1e-3, epochs=1, batch_size=4)).save(here / "own")
    answer = call("check", here / "own", "--data", "points.npz")
    assert answer.code == 2
    assert "a run of a network of your own" in answer.err
    assert f"Remedy: pass module:factory, and --state {here / 'own'}" in answer.err
    with pytest.raises(CheckpointError, match=r"network of your own.*Remedy: build it.* net=…"):
        vt.load(here / "own")


def test_a_model_without_gates_gets_them_for_t8_too(here: Path, call: Call) -> None:
    line = ("check", "tiny_models:plain", "--data", "points.npz", "--gamma", 1e-3, "--trained", "--draws", 3)
    torch.manual_seed(0)
    answer = call(*line)
    assert answer.code == 3, answer.err
    assert answer.out.startswith("not at a minimum")
    torch.manual_seed(0)
    assert call(*line, "--where", "mlp").out == answer.out


def test_a_file_called_as_a_known_data_set_is_not_taken_for_it(here: Path, call: Call) -> None:
    """A run on one's own mnist.npz was checked on MNIST."""
    shutil.copy("points.npz", "mnist.npz")
    assert call("train", "tiny_models:gated", "--data", "mnist.npz", "--epochs", 1, "--out", "own").code == 0
    alone = call("check", "tiny_models:gated", "--state", "own")
    given = call("check", "tiny_models:gated", "--state", "own", "--data", "points.npz")
    assert (alone.code, alone.out) == (given.code, given.out), alone.err


def test_regression_data_use_the_exact_bound(here: Path, call: Call) -> None:
    answer = call("check", "tiny_models:gated", "--data", "targets.npz", "--gamma", 1e-2, "--layer", "h1")
    assert answer.code == 0, answer.err
    assert "exact" in answer.out


class _Report:
    def __init__(self, verdict: str) -> None:
        self.verdict = verdict

    def __str__(self) -> str:
        return self.verdict


@pytest.mark.parametrize(("verdict", "code"), [("holds", 0), ("violated", 1), ("not applicable", 3)])
def test_exit_code_of_each_verdict(
    run: Path, call: Call, monkeypatch: pytest.MonkeyPatch, verdict: str, code: int
) -> None:
    monkeypatch.setattr("vibtheory.bridge.checking.check_network", lambda *a, **k: _Report(verdict))
    answer = call("check", run, "--data", "points.npz")
    assert (answer.code, answer.out.strip()) == (code, verdict)


def test_an_array_whose_header_ends_in_a_bracket_is_refused(run: Path, call: Call) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3,".ljust(117) + b"\n"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile("broken.npz", "w") as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", member + bytes(24))
    answer = call("check", run, "--data", "broken.npz")
    assert answer.code == 2
    assert "broken.npz" in answer.err
    assert "numpy.savez" in answer.err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [(RuntimeError("boom"), DEFECT, "boom"), (KeyboardInterrupt(), INTERRUPTED, "interrupted")],
)
def test_a_defect_or_an_interrupt_is_no_verdict(
    run: Path, call: Call, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("vibtheory.bridge.checking.check_network", fail)
    answer = call("check", run, "--data", "points.npz")
    assert answer.code == code
    assert words in answer.err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA: tried to allocate 9 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
    ids=str,
)
def test_out_of_memory_is_one_line_and_code_2(
    run: Path, call: Call, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("vibtheory.bridge.checking.check_network", fail)
    answer = call("check", run, "--data", "points.npz")
    assert answer.code == 2
    assert answer.err.startswith("error: out of memory. Remedy")
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [("--data", "pipe.npz"), ("--data", "points.npz", "--state", "pipe.npz")],
    ids=["data", "state"],
)
def test_a_named_pipe_is_refused_and_not_waited_for(here: Path, arguments: tuple[str, ...], call: Call) -> None:
    os.mkfifo("pipe.npz")
    answer = call("check", "tiny_models:gated", *arguments)
    assert answer.code == 2, answer.err
    assert "not a regular file" in answer.err


LONG = "a" * 5000
BAD = {
    "a seed below 0": (("run", "--data", "points.npz", "--seed", -1), "--seed"),
    "a seed of no generator": (("run", "--data", "points.npz", "--seed", 10**23), "--seed"),
    "more points than memory": (("run", "--data", "points.npz", "--kind", "all", "--points", 10**23), "--points"),
    "more samples than memory": (("run", "--data", "points.npz", "--kind", "fitted", "--samples", 10**23), "--samples"),
    "no samples": (("run", "--data", "points.npz", "--kind", "fitted", "--samples", 0), "--samples"),
    "a model of 5000 letters": ((LONG, "--data", "points.npz"), "name too long (aaaa"),
    "a state of 5000 letters": (("tiny_models:plain", "--state", LONG), "name too long (aaaa"),
    "no such model": (("nowhere",), "MODEL"),
    "an empty folder": (("empty",), "run.json"),
    "no such module": (("no_such_module:build",), "no_such_module"),
    "no such factory": (("tiny_models:none",), "none"),
    "a factory with arguments": (("tiny_models:needs_more",), "width"),
    "not a module": (("tiny_models:number",), "int"),
    "no state file": (("tiny_models:plain", "--state", "gone.safetensors"), "gone.safetensors"),
    "a pickle": (("tiny_models:plain", "--state", "state.pt"), "pickles are not read"),
    "another state": (("tiny_models:plain", "--state", "other.safetensors"), "does not fit"),
    "a run and a state": (("run", "--state", "other.safetensors"), "leave it out"),
    "no data": (("tiny_models:gated",), "--data"),
    "data of another name": (("run", "--data", "letters"), "mnist"),
    "data of another shape": (("run", "--data", "wide.npz"), "x"),
    "not an archive": (("run", "--data", "broken.npz"), "broken.npz"),
    "an archive without labels": (("run", "--data", "half.npz"), "y_train"),
    "a pickled array": (("run", "--data", "objects.npz"), "objects.npz"),
    "no examples": (("run", "--data", "points.npz", "--examples", 0), "--examples: got 0, expected an integer between"),
    "too many examples": (("run", "--data", "points.npz", "--examples", 41), "40"),
    "no such layer": (("run", "--data", "points.npz", "--layer", "h7"), "input, h1"),
    "no point to verify on": (("run", "--data", "points.npz", "--kind", "all", "--points", 0), "points"),
    "no such kind": (("run", "--data", "points.npz", "--kind", "best"), "auto"),
    "a kind that does not apply": (("run", "--data", "points.npz", "--kind", "exact"), "exact"),
    "no price": (("tiny_models:plain", "--data", "points.npz"), "gamma"),
    "a price of 0": (("tiny_models:plain", "--data", "points.npz", "--gamma", 0), "gamma"),
    "a kind of bound for no bound": (("run", "--trained", "--kind", "fitted"), "--kind: got fitted, expected none"),
    "points for no bound": (("run", "--trained", "--points", 9), "--points: got 9"),
    "samples for no bound": (("run", "--trained", "--samples", 9), "--samples: got 9"),
    "details of no bound": (("run", "--trained", "--details"), "--details: got True"),
    "draws of a bound": (("run", "--draws", 6), "--draws: got 6, expected --trained"),
    "a polished bound": (("run", "--polish", 6), "--polish: got 6, expected --trained"),
    "points for one kind": (("run", "--points", 9), "--points: got 9, expected --kind all"),
    "samples for all kinds": (("run", "--kind", "all", "--samples", 9), "--samples: got 9, expected none with --kind"),
    "a figure of no known form": (("run", "--data", "points.npz", "--figure", "r.doc"), "--figure"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_code_2(run: Path, call: Call, case: str) -> None:
    arguments, words = BAD[case]
    (run.parent / "empty").mkdir()
    torch.save({}, "state.pt")
    save_file({"weight": torch.ones(3)}, "other.safetensors")
    Path("broken.npz").write_bytes(b"PK\x03\x04 and then nothing")
    points = dict(np.load("points.npz"))
    np.savez("half.npz", x_train=points["x_train"])
    np.savez("wide.npz", **{**points, "x_train": np.ones((40, 7)), "x_test": np.ones((20, 7))})
    np.savez("objects.npz", **{**points, "y_train": np.array([None] * 40)})
    answer = call("check", *arguments)
    assert answer.code == 2, answer.err
    assert answer.err.startswith("error: ")
    assert len(answer.err.splitlines()) == 1
    assert words in answer.err


def test_debug_shows_the_trace(here: Path, call: Call) -> None:
    answer = call("--debug", "check", "nowhere")
    assert answer.code == 2
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("error: MODEL")
