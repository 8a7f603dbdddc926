"""ONNX export: the file gives the same outputs in another runtime, and appears only when it does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from vibtheory.compression.cut import compress
from vibtheory.compression.export import export_onnx
from vibtheory.compression.fixed_modules import FixedScale
from vibtheory.errors import InvalidInputError, MissingDependencyError, VibTheoryError
from vibtheory.networks.gates import named_gates
from vibtheory.networks.insertion import insert_gates
from vibtheory.networks.lenet import lenet_5_caffe
from vibtheory.networks.vgg import _vgg


def small() -> nn.Module:
    torch.manual_seed(0)
    net = lenet_5_caffe()
    with torch.no_grad():
        net.conv1.log_var[::2] = 9.0  # type: ignore[union-attr, index, operator]
        net.flat.log_var[::3] = 9.0  # type: ignore[union-attr, index, operator]
        net.fc1.mu.fill_(-0.7)  # type: ignore[union-attr, operator]
    return compress(net)


def test_onnxruntime_gives_the_same_outputs_for_any_batch_size(tmp_path: Path) -> None:
    net = small()
    report = export_onnx(net, torch.rand(2, 1, 28, 28), tmp_path / "net.onnx")
    assert report.max_deviation < 1e-5
    assert report.bytes == (tmp_path / "net.onnx").stat().st_size
    assert "opset 17" in str(report)
    x = torch.rand(7, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"input": x.numpy()})
    assert np.abs(got - net(x).detach().numpy()).max() < 1e-5
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2)], ids=["VGG-16", "average pooling"])
@pytest.mark.parametrize("fold", [False, True], ids=["BatchNorm", "folded"])
def test_vgg_with_closed_channels(pool: nn.Module, fold: bool, tmp_path: Path) -> None:
    """The paper's VGG with few channels: statistics that are not the start's, channels closed in every layer."""
    torch.manual_seed(1)
    net = _vgg(((6, 2), (7, 2), (8, 3), (8, 3), (9, 3)), 10, 1, pool, gated=True)
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(2 * torch.randn(8, 3, 32, 32) + 0.5)
        for gate in named_gates(net).values():
            gate.mu.normal_(1.0, 0.2)
            gate.log_var[::3] = 9.0
    plain = compress(net.eval(), fold_batchnorm=fold)
    assert any(isinstance(m, nn.BatchNorm2d) for m in plain.modules()) != fold
    assert next(m for m in plain.modules() if isinstance(m, nn.Conv2d)).out_channels == 4
    report = export_onnx(plain, torch.rand(2, 3, 32, 32), tmp_path / "vgg.onnx")
    assert report.max_deviation < 1e-4
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    session = onnxruntime.InferenceSession(str(tmp_path / "vgg.onnx"), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"input": x.numpy()})
    with torch.no_grad():  # against the gated net itself
        torch.testing.assert_close(torch.from_numpy(got), net(x), rtol=1e-3, atol=1e-4)


def test_a_disagreement_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(VibTheoryError, match="differs from torch"):
        export_onnx(small(), torch.rand(2, 1, 28, 28), tmp_path / "net.onnx", tolerance=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_gates_and_missing_folders_are_refused(tmp_path: Path) -> None:
    x = torch.rand(2, 1, 28, 28)
    with pytest.raises(InvalidInputError, match="with gates"):
        export_onnx(lenet_5_caffe(), x, tmp_path / "net.onnx")
    with pytest.raises(InvalidInputError, match="folder"):
        export_onnx(small(), x, tmp_path / "missing" / "net.onnx")


def test_only_regular_files_are_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InvalidInputError, match="path: .*Remedy"):
            export_onnx(nn.Linear(2, 2), torch.zeros(2, 2), path)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]
    with pytest.raises(VibTheoryError, match="could not write"):
        export_onnx(nn.Linear(2, 2), torch.zeros(2, 2), "/proc/net.onnx")


@pytest.mark.parametrize(
    "given",
    [
        {"model": "net"},
        {"model": torch.relu},
        {"path": None},
        {"path": 3},
        {"path": "a\0"},
        {"tolerance": "x"},
        {"tolerance": np.nan},
    ],
)
def test_arguments_of_other_types(given: dict[str, Any], tmp_path: Path) -> None:
    usual = {"model": nn.Linear(2, 2), "path": tmp_path / "net.onnx"}
    (name,) = given
    with pytest.raises(InvalidInputError, match=f"^{name}: .*Remedy"):
        export_onnx(**{"example_input": torch.zeros(2, 2), **usual, **given})


def test_the_file_is_readable_for_all_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    export_onnx(nn.Linear(2, 2), torch.zeros(2, 2), path)
    assert path.stat().st_mode & 0o777 == 0o644
    assert len(path.read_bytes()) > 100
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


class Eigenvalues(nn.Module):
    """An operator that ONNX has not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.linalg.eigvalsh(x.T @ x).sum()


class Pairs(nn.Module):
    """A batch of 2 only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 2) * 3.0


class Nothing(nn.Module):
    """No numbers to compare."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :0] * 3.0


@pytest.mark.parametrize("net", [Eigenvalues(), Nothing()], ids=lambda net: type(net).__name__)
def test_models_beyond_onnx_are_refused(net: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(VibTheoryError, match=f"model: {type(net).__name__} cannot be written as ONNX .*Remedy"):
        export_onnx(net, torch.rand(2, 2), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_onnx(nn.Linear(2, 2), torch.rand(2, 2), tmp_path / "net.onnx")  # from here on torch's log is on
    with pytest.raises(VibTheoryError):
        export_onnx(Eigenvalues(), torch.rand(2, 2), tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")


def test_a_batch_size_that_the_model_writes_down_is_said(tmp_path: Path) -> None:
    report = export_onnx(Pairs(), torch.rand(2, 2), tmp_path / "net.onnx")
    assert (report.batch, report.examples) == (2, 2)
    assert str(report).endswith("for batches of 2 only")


class Signed(nn.Module):
    """With an option that has a default, as timm's transformers have `is_causal`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, flip: bool = False) -> torch.Tensor:
        hidden = self.act(self.first(x))
        return self.last(-hidden if flip else hidden)


def test_options_keep_their_defaults(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3)
    gated = insert_gates(Signed(), x)
    with torch.no_grad():
        next(iter(named_gates(gated).values())).mu[:2] = 0.0
    net = compress(gated, x)
    export_onnx(net, x, tmp_path / "net.onnx")
    (got,) = onnxruntime.InferenceSession(str(tmp_path / "net.onnx")).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(got, gated.eval()(x).detach().numpy(), rtol=1e-5, atol=1e-6)


class Groups(nn.Module):
    """Its batch size becomes a number when it is traced: at another one the outputs have another shape."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(len(x), -1, 2).mean(1)


def test_a_batch_size_that_changes_the_shape_is_said(tmp_path: Path) -> None:
    x = torch.rand(1, 6, generator=torch.Generator().manual_seed(0))
    assert export_onnx(Groups(), x, tmp_path / "net.onnx").batch == 1
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], x.view(3, 2).mean(0)[None], rtol=1e-6)


def test_out_of_memory_is_no_fault_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(MemoryError):
        export_onnx(nn.Linear(2, 2), torch.zeros(2, 2), tmp_path / "net.onnx")


def small_outputs() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.Softplus(3.0, 2.0), FixedScale(torch.full((1,), 1e-6)))


def nearly_constant() -> nn.Module:
    pool = nn.AvgPool2d(2, 1, divisor_override=3)
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), pool, FixedScale(torch.full((1,), 1e-4)), nn.Sigmoid(), nn.Flatten()
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(6, 4), nn.LogSigmoid(), nn.Linear(4, 2)),  # its tail is not in the file
        lambda: nn.Sequential(nn.Linear(6, 64), nn.Softplus(1.0, 2.0), nn.Linear(64, 2)),  # nor a threshold
        small_outputs,
        nearly_constant,  # nor a divisor
    ],
)
def test_what_ordinary_inputs_hardly_show(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(VibTheoryError, match="onnxruntime differs from torch by .*Remedy"):
        export_onnx(make(), torch.rand(2, 6), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


class Attention(nn.Module):
    """Without normalisation: far inputs make logits whose rounding decides."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.queries(x) @ x.transpose(1, 2), -1) @ x


def test_rounding_is_no_deviation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert export_onnx(Attention(), torch.randn(2, 6, 8), tmp_path / "a.onnx").max_deviation < 1e-5
    net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 8)).half()
    assert export_onnx(net, torch.randn(2, 64).half(), tmp_path / "b.onnx").max_deviation < 1e-2


class Two(nn.Linear):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        return super().forward(x), x


def test_several_outputs_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="got Two that returns a tuple, expected one tensor"):
        export_onnx(Two(2, 2), torch.zeros(2, 2), tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_library_names_the_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"vibtheory\[export\]"):
        export_onnx(nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "net.onnx")


class Masked(nn.Module):
    """float64's smallest number becomes -inf in the float32 of its softmax: nothing but NaN there."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return (h + torch.finfo(h.dtype).min).float().softmax(-1) + h


def test_float64_may_be_what_fails(tmp_path: Path) -> None:
    net, x = Masked().eval(), torch.randn(4, 3)
    assert net.double()(x.double()).isnan().all()
    assert export_onnx(net.float(), x, tmp_path / "net.onnx").max_deviation < 1e-5
