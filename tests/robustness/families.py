"""Twelve families of spoiled input, one for each kind of file that vibtheory reads (two in `record_families`).

A family is a function of a random generator and a folder of its own. It spoils one file, has it read, and returns what
came of it: "refused" (exit code 2 with one line, or a VibTheoryError with a remedy) or "right" (the answer of the
intact file, or a sensible one where the spoiling made another valid file). Anything else raises.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import os
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensor_bytes
from typer.testing import CliRunner

import vibtheory as vt
from tests.robustness.asking import Wrong, ask, call, told
from tests.robustness.damage import JUNK, PAYLOAD, damaged, deep, pickled_weights, replaced
from tests.robustness.record_families import Family, prepare_records, recorded, rows
from vibtheory.cli import app, inputs
from vibtheory.datasets import fetching
from vibtheory.datasets.catalogue import CATALOGUE
from vibtheory.datasets.cifar import read_cifar
from vibtheory.datasets.idx import read_idx
from vibtheory.studies.experiments import experiment

__all__ = ["FAMILIES", "fresh", "prepare"]

MODELS = """
from torch import nn
from vibtheory.networks.lenet import mlp

def gated():
    return mlp((4, 3, 2))

def plain():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
"""
TRAIN = ("train", "intact_models:gated", "--data", "points.npz", "--out", "run", "--epochs", "2", "--device", "cpu")
CHECK = ("check", "tiny", "--data", "points.npz", "--layer", "h1")
RESULTS = ("table", "network", "mode", "gamma", "seed", "stage", "error_last", "error_best", "r_w", "r_n", "flop",
           "architecture", "epochs", "status", "seconds")  # fmt: skip


def prepare(folder: Path) -> None:
    """What the families spoil: arrays, models, a saved run of ours, a stopped run's checkpoint, an answer."""
    os.chdir(folder)
    Path("intact_models.py").write_text(MODELS, encoding="utf-8")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(45, 4)) * [1.0, 3.0, 0.2, 1.0]
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    np.savez("points.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    torch.manual_seed(0)
    net = vt.networks.mlp((4, 3, 2))
    data = vt.datasets.from_arrays(x[:30], y[:30], x[30:], y[30:], name="points")
    vt.train(net, data, gamma=1e-3, epochs=2, device="cpu", progress=False).save("tiny")
    if CliRunner().invoke(app, TRAIN).exit_code != 0:
        raise Wrong("the intact run does not train")
    answer = CliRunner().invoke(app, CHECK)
    if answer.exit_code not in (0, 3):
        raise Wrong(f"the intact run is not checked: {answer.output}")
    Path("answer.txt").write_text(answer.output, encoding="utf-8")
    prepare_records(folder)


def idx(rng: np.random.Generator, _: Path) -> str:
    """MNIST-like files: the compressed bytes, the header, the declared sizes."""
    array = rng.integers(0, 256, size=(5, 3, 4), dtype=np.uint8)
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", *array.shape)
    kind, path = int(rng.integers(4)), Path("images.gz")
    if kind == 0:
        path.write_bytes(damaged(rng, gzip.compress(header + array.tobytes())))
    elif kind == 1:
        path.write_bytes(gzip.compress(damaged(rng, header + array.tobytes())))
    elif kind == 2:
        shape = [int(rng.choice([0, 5, 3, 2**10, 2**16, 2**30, 2**32 - 1])) for _ in range(3)]
        path.write_bytes(gzip.compress(header[:4] + struct.pack(">3I", *shape) + array.tobytes()))
    else:
        path.symlink_to(["images.gz", "gone", "/dev/null", "."][int(rng.integers(4))])
    found = call(lambda: read_idx(path, axes=3))
    if found is not None and found.size and kind in (0, 2) and not np.array_equal(found.ravel(), array.ravel()):
        raise Wrong("other pixels, although gzip's checksum holds")
    return "refused" if found is None else "right"


def cifar(rng: np.random.Generator, _: Path) -> str:
    """CIFAR-like records, read directly and through a root folder."""
    records = rng.integers(0, 256, size=(3, 3074), dtype=np.uint8)
    records[:, :2] = rng.integers(0, 100, size=(3, 2))
    kind, path = int(rng.integers(3)), Path("train.bin")
    if kind == 0:
        path.write_bytes(damaged(rng, records.tobytes()))
    elif kind == 1:
        records[int(rng.integers(3)), 1] = int(rng.integers(100, 256))
        path.write_bytes(records.tobytes())
    else:
        path.symlink_to(["train.bin", "gone", "/dev/zero", "."][int(rng.integers(4))])
    report = CliRunner().invoke(app, ["data", "verify", "cifar100", "--root", "."])
    if report.exit_code != (2 if kind == 2 else 0) and "damaged" not in report.output:
        raise Wrong(f"exit code {report.exit_code}: {report.output[:300]}")
    if call(lambda: vt.datasets.load("cifar100", ".")) is not None:
        raise Wrong("three records passed for CIFAR-100")
    found = call(lambda: read_cifar(path, 3, 2, 100))
    if found is not None and found[1].max() >= 100:
        raise Wrong("a label out of range")
    return "refused" if found is None else "right"


def archive(rng: np.random.Generator, folder: Path) -> str:
    """Tar archives: damaged, with members that climb out, link, or declare sizes that are not there."""
    entry, content = CATALOGUE["cifar100"], io.BytesIO()
    names = [f"{entry.folder}/{file.name}" for file in entry.files]
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name in [*names, "../escaped", "/tmp/vibtheory-escaped", f"{entry.folder}/../../escaped", names[0]]:
            info = tarfile.TarInfo(name)
            info.size = 4
            if rng.random() < 0.15:
                info.type = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE][int(rng.integers(3))]
                info.linkname, info.size = "../../escaped", 0
            tar.addfile(info, io.BytesIO(b"good") if info.size else None)
    raw = gzip.decompress(content.getvalue())
    kind = int(rng.integers(4))
    spoiled = [
        content.getvalue(),
        damaged(rng, content.getvalue()),
        gzip.compress(damaged(rng, raw)),
        damaged(rng, raw),
    ][kind]
    Path("a.tar.gz").write_bytes(spoiled)
    into = folder / "in" / "cache"
    into.mkdir(parents=True)
    done = call(lambda: fetching._extract(Path("a.tar.gz"), into, entry) or True)
    escaped = [path for path in (folder / "escaped", folder / "in" / "escaped", Path("/tmp/vibtheory-escaped"))
               if path.exists()]  # fmt: skip
    if escaped:
        raise Wrong(f"{escaped[0]} was written")
    return "right" if done else "refused"


def run_damaged(rng: np.random.Generator, _: Path) -> str:
    """A saved run's two files: damaged bytes, exchanged, gone, replaced by links and folders."""
    weights, description = next(Path("tiny").glob("*.safetensors")), Path("tiny/run.json")
    path = [weights, description][int(rng.integers(2))]
    kind = int(rng.integers(8))
    if kind < 5:
        path.write_bytes(damaged(rng, path.read_bytes()))
    elif kind == 5:
        path.unlink()
        path.symlink_to(["gone", path.name, "/dev/null", "."][int(rng.integers(4))])
    elif kind == 6:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes([deep().encode(), pickled_weights(), description.read_bytes()][int(rng.integers(3))])
    return told(ask(*CHECK), Path("answer.txt").read_text(encoding="utf-8"))


def _seal(folder: Path, name: str, tensors: bytes, plain: dict[str, Any]) -> None:
    """Write a pair whose checksums hold, whatever it says: damage by design, not by accident."""
    for file in folder.glob(f"{name}-*.safetensors"):
        file.unlink()
    weights = f"{name}-{hashlib.sha256(tensors).hexdigest()[:16]}.safetensors"
    (folder / weights).write_bytes(tensors)
    plain = {key: value for key, value in plain.items() if key != "checksum"}
    if "tensors" in plain:
        plain["tensors"] = weights
    text = json.dumps(plain, sort_keys=True)
    plain["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / f"{name}.json").write_text(json.dumps(plain), encoding="utf-8")


def _other_tensors(rng: np.random.Generator, content: bytes) -> bytes:
    """The same names with one tensor non-finite, of another shape or type, gone, or with a header that lies."""
    tensors = parse_tensors(content)
    name = sorted(tensors)[int(rng.integers(len(tensors)))]
    kind = int(rng.integers(6))
    if kind == 0:
        tensors[name] = torch.full_like(tensors[name].float(), [math.nan, math.inf, 1e38][int(rng.integers(3))])
    elif kind == 1:
        tensors[name] = torch.ones(int(rng.integers(0, 9)), int(rng.integers(1, 5)))
    elif kind == 2:
        dtype = [torch.float64, torch.int8, torch.complex64, torch.bool, torch.bfloat16][int(rng.integers(5))]
        tensors[name] = tensors[name].to(dtype)
    elif kind == 3:
        del tensors[name]
    elif kind == 4:
        tensors["unheard of"] = torch.ones(2)
    else:
        header = {name: {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
        text = json.dumps(header).encode()
        return struct.pack("<Q", int(rng.choice([len(text), 2**40, 2**63 - 1]))) + text + bytes(64)
    return tensor_bytes(tensors)


def run_hostile(rng: np.random.Generator, _: Path) -> str:
    """A saved run that was changed on purpose: its checksums hold, its content does not."""
    content = next(Path("tiny").glob("*.safetensors")).read_bytes()
    plain = json.loads(Path("tiny/run.json").read_text(encoding="utf-8"))
    if rng.random() < 0.5:
        content = _other_tensors(rng, content)
    else:
        part = [None, "network", "recipe"][int(rng.integers(3))]
        plain = replaced(rng, plain) if part is None else {**plain, part: replaced(rng, plain[part])}
        if rng.random() < 0.2:
            plain["network"] = {
                "builder": "mlp",
                "arguments": {"sizes": [[4, 10**6, 10**6, 2], [4] * 10**5][int(rng.integers(2))]},
            }
    _seal(Path("tiny"), "run", content, plain)
    run = call(lambda: vt.load("tiny"))
    if run is not None:
        _ = (str(run), len(run.history), float(run.history["error"].iloc[-1]))  # what a report would read
    return told(ask(*CHECK))


def checkpoint(rng: np.random.Generator, _: Path) -> str:
    """A stopped run's checkpoint: damaged, or changed on purpose; training goes on from it or says why not."""
    folder = Path("run/checkpoint")
    path = [next(folder.glob("*.safetensors")), folder / "checkpoint.json"][int(rng.integers(2))]
    kind = int(rng.integers(4))
    if kind < 2:
        path.write_bytes(damaged(rng, path.read_bytes()))
    else:
        content = next(folder.glob("*.safetensors")).read_bytes()
        plain = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
        plain["history"] = plain["history"][: int(rng.integers(3))]
        if kind == 2:
            plain = {**replaced(rng, plain), "history": replaced(rng, plain["history"] or [{}])}
        else:
            content = _other_tensors(rng, content)
        _seal(folder, "checkpoint", content, plain)
    return told(ask(*TRAIN))


def recipe(rng: np.random.Generator, _: Path) -> str:
    """TOML: damaged text, and values of every wrong type in every place; read both ways."""
    root = Path(vt.__file__).parent / "studies" / "recipes"
    text = (root / ["lenet_300_100.toml", "lenet_5_caffe.toml"][int(rng.integers(2))]).read_bytes()
    kind = int(rng.integers(4))
    if kind == 0:
        text = damaged(rng, text)
    elif kind == 1:
        lines = text.split(b"\n")
        settings = [i for i, line in enumerate(lines) if b"=" in line and not line.startswith(b"#")]
        i = settings[int(rng.integers(len(settings)))]
        values = [b"nan", b"-1", b'"x"', b"true", b"[]", b"{}", b"[nan]", b"1" + b"0" * 400, b"1" * 5000, b"1979-05-27",
                  b"{ a = 1 }", b"-inf", b'[["a"]]', b"9" * 19, b""]  # fmt: skip
        lines[i] = lines[i].split(b"=")[0] + b"= " + values[int(rng.integers(len(values)))]
        text = b"\n".join(lines)
    elif kind == 2:
        names = [b"recipe", b"finetune", b"quick", b"full", b"curve", b"table", b"network", b"dataset", b"unheard"]
        name = names[int(rng.integers(len(names)))]
        text = name + b" = " + [b"3", b'"x"', b"[]", b"[[]]", b"true"][int(rng.integers(5))] + b"\n" + text
    else:
        text = [b"a = " + deep().encode(), b"\x00", b"[recipe]\ngamma = {h1 = 'x'}", b"[recipe]\nlayer_weights = 3",
                b"[recipe]\nmilestones = 3", b"[[recipe]]",
                b"recipe.gamma.h1 = 1e400"][int(rng.integers(7))]  # fmt: skip
    Path("r.toml").write_bytes(text)
    one = call(lambda: inputs.recipe("r.toml"))
    plan = call(lambda: experiment("r.toml"))
    if plan is not None:
        for mode in plan.modes:
            jobs = call(lambda mode=mode: plan.jobs(mode))  # type: ignore[misc]
            if jobs is not None and not all(isinstance(seed, int) for _, seed in jobs):
                raise Wrong("a seed that is no whole number")
        if not (isinstance(plan.network, str) and isinstance(plan.dataset, str) and isinstance(plan.table, int)):
            raise Wrong("an experiment with fields of the wrong type")
    return "refused" if one is None and plan is None else "right"


def results(rng: np.random.Generator, _: Path) -> str:
    """The CSV of earlier table runs, beside which new rows are printed."""
    row = [1, "lenet_300_100", "full", 1e-4, 0, "pruned", 1.6, 1.5, 3.5, 17.0, 9000, "97-71-33", 60, "completed", 3.5]
    frame = pd.DataFrame([row, [*row[:4], 1, *row[5:]]], columns=list(RESULTS))
    if rng.random() < 0.6:
        column = RESULTS[int(rng.integers(len(RESULTS)))]
        if rng.random() < 0.3:
            frame = frame.drop(columns=column)
        else:
            frame[column] = pd.Series([JUNK[int(rng.integers(len(JUNK)))] for _ in range(2)], dtype=object)
        content = frame.to_csv(index=False).encode("utf-8", "replace")
    else:
        content = damaged(rng, frame.to_csv(index=False).encode())
    Path("figures").mkdir()
    Path("figures/table1.csv").write_bytes(content)
    return told(ask("table", "1"))


def weights(rng: np.random.Generator, _: Path) -> str:
    """State dicts for one's own model, and names of models that are none."""
    content = tensor_bytes(
        {"0.weight": torch.ones(3, 4), "0.bias": torch.ones(3), "2.weight": torch.ones(2, 3), "2.bias": torch.ones(2)}
    )
    kind = int(rng.integers(4))
    model, state = "intact_models:plain", Path("w.safetensors")
    if kind == 0:
        state.write_bytes(damaged(rng, content))
    elif kind == 1:
        state.write_bytes(_other_tensors(rng, content))
    elif kind == 2:
        state = Path(["w.pt", "gone", ".", "tiny", "loop"][int(rng.integers(5))])
        if state.name == "loop":
            state.symlink_to("loop")
        if state.suffix:
            state.write_bytes([PAYLOAD, pickled_weights()][int(rng.integers(2))])
    else:
        state.write_bytes(content)
        name = f"model_{rng.integers(10**9)}"
        bodies = ["import nothing_like_it", "def build(:", "build = 3", "def build(): return 3", "raise OSError(5)",
                  "def build(): return {}['x']", "def build(): return 1 / 0", "def build(a): pass", "\x00",
                  "def build(): assert False", "def build(): raise StopIteration",
                  "import sys; sys.exit(0)"]  # fmt: skip
        Path(f"{name}.py").write_text(bodies[int(rng.integers(len(bodies)))], encoding="utf-8")
        names = [
            f"{name}:build",
            ":",
            "a:b:c",
            "os:getcwd",
            "..:x",
            ".:x",
            "μ :λ",
            f"{name}:",
            "intact_models:gone",
            "x\x00:y",
        ]
        model = names[0] if rng.random() < 0.6 else names[int(rng.integers(len(names)))]
    return told(ask("check", model, "--state", state, "--data", "points.npz", "--gamma", "1e-3"))


def arrays(rng: np.random.Generator, _: Path) -> str:
    """One's own data as .npz: damaged, pickled, non-finite, of wrong shapes and types, with sizes that lie."""
    with np.load("points.npz") as file:
        own = dict(file)
    kind, path = int(rng.integers(5)), Path("mine.npz")
    name = sorted(own)[int(rng.integers(4))]
    if kind == 0:
        path.write_bytes(damaged(rng, Path("points.npz").read_bytes()))
    elif kind == 1:
        others = [
            np.full(own[name].shape, np.nan), np.zeros(0), np.zeros((3, 0)), np.array("text"), own[name][:2],
            1e39 * (1.0 + own[name]), own[name][..., None, None], own[name] * 1j, np.array([{"a": 1}], dtype=object),
            own[name] + 10**9, np.array(["2020-01-01"], dtype="datetime64[D]"), own[name] == 0,
            np.zeros(30, dtype="V8"), np.float64(3),
        ]  # fmt: skip
        own[name] = others[int(rng.integers(len(others)))]
        np.savez(path, **own)
    elif kind == 2:
        del own[name]
        np.savez(path, **own)
    else:  # a lie in a header, a payload in a member, a path that climbs
        with zipfile.ZipFile(path, "w", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED][int(rng.integers(2))]) as out:
            for key, array in own.items():
                content = io.BytesIO()
                np.save(content, array)
                member = content.getvalue()
                if key == name:
                    shape = str(
                        ["(10**12,)", "(1000000000, 4)", "(-1,)", "(30, 4, 99999999)", "(3000000000,)"][
                            int(rng.integers(5))
                        ]
                    )
                    text = "{'descr': '<f8', 'fortran_order': False, 'shape': " + shape + ", }"
                    lie = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n" + bytes(64)
                    member = [lie, PAYLOAD, damaged(rng, member), deep().encode()][int(rng.integers(4))]
                out.writestr(f"{key}.npy", member)
            out.writestr("../../escaped.npy", b"")
    return told(ask("check", "tiny", "--data", path, "--layer", "h1"))


FAMILIES: dict[str, Family] = {
    function.__name__: function
    for function in (
        idx, cifar, archive, run_damaged, run_hostile, checkpoint, recipe, results, weights, arrays, recorded, rows,
    )
}  # fmt: skip


def fresh(template: Path, folder: Path) -> Path:
    """A copy of what `prepare` made, as the working directory."""
    shutil.copytree(template, folder)
    os.chdir(folder)
    return folder
