"""C export: the compiled file gives torch's outputs, and appears only when it does."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vibtheory.compression.cut import compress
from vibtheory.compression.export_c import compiled, export_c
from vibtheory.compression.fixed_modules import FixedScale, Select
from vibtheory.errors import InvalidInputError, MissingDependencyError, VibTheoryError
from vibtheory.networks.gates import named_gates
from vibtheory.networks.lenet import lenet_5_caffe, lenet_300_100
from vibtheory.networks.vgg import _vgg

CHAINS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "more outputs than are summed at once": (nn.Sequential(nn.Linear(5, 301), nn.Tanh(), nn.Linear(301, 1)), (5,)),
    "no bias, one input": (nn.Sequential(nn.Linear(1, 17, bias=False), nn.Sigmoid(), nn.Linear(17, 2)), (1,)),
    "an activation first": (nn.Sequential(nn.SiLU(), nn.Linear(3, 3)), (3,)),
    "a scale first": (nn.Sequential(FixedScale(torch.tensor([2.0, -1.0, 0.5])), nn.Linear(3, 3)), (3,)),
    "channels chosen from a map": (
        nn.Sequential(Select(torch.tensor([3, 0, 2])), nn.Conv2d(3, 2, 3), nn.Flatten()), (4, 5, 6)
    ),
    "nothing but Flatten": (nn.Sequential(nn.Flatten()), (2, 3)),
    "convolution of the input, odd sizes": (
        nn.Sequential(nn.Conv2d(2, 5, (3, 2), stride=(1, 2)), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 5 * 5, 3)),
        (2, 7, 11),
    ),
    "padding, strides, rows longer than a vector": (
        nn.Sequential(nn.Conv2d(3, 9, 3, stride=2, padding=(1, 0), bias=False), nn.Dropout2d(), nn.AvgPool2d(3, 2),
                      nn.Conv2d(9, 4, 1), nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d((2, 1), (1, 2)),
                      nn.Flatten()),
        (3, 20, 41),
    ),
    "a stride longer than a vector's half": (
        nn.Sequential(nn.Conv2d(1, 5, 1, stride=(7, 9), padding=2), nn.Conv2d(5, 3, (1, 4), stride=5), nn.Flatten()),
        (1, 20, 76),
    ),
    "BatchNorm of units, nested": (
        nn.Sequential(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), nn.BatchNorm1d(6, affine=False)), (4,)
    ),
}  # fmt: skip


def closed(net: nn.Sequential) -> nn.Module:
    """Every third unit closed, the others' means anywhere; BatchNorm's statistics not the start's."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
        for gate in named_gates(net).values():
            gate.mu.normal_(1.0, 0.3)
            gate.log_var[::3] = 9.0
    return compress(net.eval())


def agrees(net: nn.Module, shape: tuple[int, ...], folder: Path) -> None:
    report = export_c(net, torch.rand(2, *shape), folder / "net.c")
    assert report.bytes == (folder / "net.c").stat().st_size
    x = torch.randn(7, *shape, generator=torch.Generator().manual_seed(1))
    wanted = net.eval()(x).detach().numpy()
    run = compiled(folder / "net.c")
    np.testing.assert_allclose(run(x.numpy()), wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    for start in range(1, 7):  # nothing is left from the example before, nor depends on how many are taken at once
        assert np.array_equal(run(x.numpy())[start:], run(x.numpy()[start:]))


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name: str, tmp_path: Path) -> None:
    net, shape = CHAINS[name]
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    agrees(net, shape, tmp_path)


# narrower vectors than this machine may have (known to x86's compilers only), and other numbers of examples at once
MACHINES = ["-DEXAMPLES=1", "-DEXAMPLES=9", "-DHERE="]
MACHINES += ["-mno-avx512f", "-mno-avx", "-mno-avx -DEXAMPLES=3"] if platform.machine() in ("x86_64", "AMD64") else []


@pytest.mark.parametrize("options", MACHINES)
def test_other_vectors_and_numbers_of_examples(options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"cc {options}")
    for name in ("more outputs than are summed at once", "padding, strides, rows longer than a vector"):
        net, shape = CHAINS[name]
        agrees(net, shape, tmp_path)


@pytest.mark.parametrize("name", CHAINS)
def test_nothing_is_read_or_written_beyond(name: str, tmp_path: Path) -> None:
    """A program of its own, with sanitizers, whose arrays are as long as the function says."""
    net, shape = CHAINS[name]
    x = torch.rand(6, *shape)
    outputs = net.eval()(x.clone()).shape[1]
    export_c(net, x, tmp_path / "net.c")
    (tmp_path / "main.c").write_text(
        "#include <stdlib.h>\nvoid net(const float *x, float *y, long n);\nint main(void) {\n"
        f"  float *x = calloc({x.numel()}, 4), *y = malloc({6 * outputs * 4});\n"
        "  net(x, y, 6);\n  free(x);\n  free(y);\n}\n"
    )
    watched = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    for vectors in ([], ["-march=native"]):
        words = ["cc", *watched, *vectors, "net.c", "main.c", "-o", "program", "-lm"]
        subprocess.run(words, cwd=tmp_path, check=True)
        subprocess.run([tmp_path / "program"], check=True)


@pytest.mark.parametrize("make", [lenet_300_100, lenet_5_caffe])
def test_compressed_lenets(make: type[nn.Sequential], tmp_path: Path) -> None:
    agrees(closed(make()), (1, 28, 28), tmp_path)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2)], ids=["VGG-16", "average pooling"])
def test_a_compressed_vgg(pool: nn.Module, tmp_path: Path) -> None:
    agrees(closed(_vgg(((6, 2), (7, 2), (8, 3), (8, 3), (9, 3)), 10, 1, pool, gated=True)), (3, 32, 32), tmp_path)


def test_the_file_needs_nothing_but_a_compiler_and_says_how(tmp_path: Path) -> None:
    """A program of its own, with the command that stands in the file, warnings as errors."""
    net = closed(lenet_300_100())
    assert str(export_c(net, torch.rand(2, 1, 28, 28), tmp_path / "small.c")).startswith(f"{tmp_path}/small.c: ")
    (tmp_path / "main.c").write_text(
        "#include <stdio.h>\nvoid small(const float *x, float *y, long n);\nint main(void) {\n"
        "  float x[784], y[10];\n  for (int i = 0; i < 784; i++) x[i] = (i % 7) / 7.0f;\n  small(x, y, 1);\n"
        '  for (int i = 0; i < 10; i++) printf("%.9g\\n", y[i]);\n}\n'
    )
    words = ["cc", "-O3", "-ffp-contract=fast", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    subprocess.run([*words, "small.c", "main.c", "-o", "program", "-lm"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True).stdout
    x = (torch.arange(784) % 7 / 7).reshape(1, 1, 28, 28)
    np.testing.assert_allclose([float(line) for line in said.split()], net(x)[0].detach(), rtol=1e-5, atol=1e-6)
    assert "written by vibtheory" in (tmp_path / "small.c").read_text()


class Clipped(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).clamp(-20, 20)


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 2))
    net[0].register_forward_hook(lambda module, inputs, output: output.clamp(-20, 20))
    return net


def not_finite() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        net[0].weight[0, 0] = torch.inf
    return net


class Twice(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(super().forward(x))


@pytest.mark.parametrize(
    ("net", "shape", "says"),
    [
        (nn.Linear(2, 2), (2,), "Sequential"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.Flatten()), (2, 5, 5), "groups=2"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2), nn.Flatten()), (1, 7, 7), "dilation"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding="same"), nn.Flatten()), (1, 7, 7), "padding"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), nn.Flatten()), (1, 7, 7), "padding"),
        (nn.Sequential(nn.MaxPool2d(2, padding=1), nn.Flatten()), (1, 6, 6), "padding"),
        (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.Flatten()), (1, 5, 5), "ceil_mode"),
        (nn.Sequential(nn.Linear(4, 4)), (3, 4), "Linear"),
        (nn.Sequential(nn.Softmax(1)), (4,), "Softmax"),
        (nn.Sequential(nn.Conv2d(1, 1, 3)), (1, 7, 7), "outputs"),
        (nn.Sequential(nn.Flatten(2)), (2, 2, 2), "Flatten"),
        (nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), (3,), "BatchNorm1d"),
        (nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)), (8, 8), "MaxPool2d"),
        (nn.Sequential(FixedScale(torch.ones(3)), nn.Flatten()), (1, 2, 2), "FixedScale"),  # would broadcast
        (nn.Sequential(Select(torch.tensor([], dtype=torch.int64))), (3,), "outputs"),
        (nn.Sequential(nn.Embedding(5, 3)), (3,), "Embedding"),
        (nn.Sequential(Clipped(3, 2)), (3,), "forward pass of its own"),
        (nn.Sequential(Twice(nn.Linear(3, 3))), (3,), "Twice with a forward pass of its own"),
        (hooked(), (3,), "hooks"),
        (nn.Sequential(nn.MaxPool2d(2, return_indices=True)), (1, 4, 4), "return_indices"),
        (nn.Sequential(nn.LazyLinear(3)), (3,), "without values"),
        (not_finite(), (3,), "not finite"),
        (None, (3,), "NoneType"),
        (lenet_300_100(), (1, 28, 28), "gates"),
    ],
)
def test_what_c_cannot_say_is_refused_by_name(
    net: nn.Module, shape: tuple[int, ...], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match=says):
        export_c(net, torch.rand(2, *shape), tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


def test_one_number_scales_all_units_and_small_outputs_are_compared_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 3), FixedScale(torch.tensor([1e-5])))
    agrees(net, (7,), tmp_path)
    with torch.no_grad():
        wanted = net(1e20 * torch.ones(1, 7))
    got = compiled(tmp_path / "net.c")(1e20 * np.ones((1, 7)))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_wrong_small_outputs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that takes the sine for the hyperbolic tangent is found out at outputs of 1e-6 too."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), FixedScale(torch.tensor([1e-6])))
    monkeypatch.setenv("CC", "cc -Dtanhf=sinf")
    with pytest.raises(VibTheoryError, match="differs from torch"):
        export_c(net, torch.rand(5, 4), tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


def test_nan_and_infinities_pass_as_in_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 4))
    export_c(net, torch.rand(2, 1, 10, 10), tmp_path / "net.c")
    x = torch.rand(60, 1, 10, 10)
    x.view(60, -1)[torch.arange(60), torch.randint(100, (60,))] = torch.tensor([torch.nan, torch.inf, -torch.inf] * 20)
    got, wanted = compiled(tmp_path / "net.c")(x), net(x).detach().numpy()
    assert np.isnan(wanted).any()
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_model_that_changes_its_input(tmp_path: Path) -> None:
    agrees(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), (3,), tmp_path)
    x = torch.rand(2, 3)
    given = x.clone()
    export_c(nn.Sequential(nn.SiLU(inplace=True), nn.Linear(3, 2)), x, tmp_path / "net.c")
    assert torch.equal(x, given)


def test_a_copied_file_and_inputs_of_another_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file itself says what its function is called and takes: no read or write beyond."""
    net = nn.Sequential(nn.Linear(3, 5))
    export_c(net, torch.rand(2, 3), tmp_path / "INPUTS.c")
    shutil.copy(tmp_path / "INPUTS.c", tmp_path / "other.c")
    run, x = compiled(tmp_path / "other.c"), torch.rand(4, 3)
    np.testing.assert_allclose(run(x), net(x).detach(), rtol=1e-5, atol=1e-6)
    os.mkdir(tmp_path / "für C")
    for name in ("net.txt", "no ending", "-o.c", "für C/net.c"):
        shutil.copy(tmp_path / "other.c", tmp_path / name)
        monkeypatch.chdir(tmp_path)
        np.testing.assert_array_equal(compiled(name)(x), run(x))
    for same in (x.tolist(), x.double(), x.clone().requires_grad_(), x.T.contiguous().T, x.numpy()[::-1][::-1]):
        np.testing.assert_array_equal(run(same), run(x))
    for n in (0, 1, 3):
        np.testing.assert_array_equal(run(x[:n]), run(x)[:n])
    np.testing.assert_array_equal(run(np.eye(3, dtype=np.int8)), run(np.eye(3)))
    masked = np.ma.masked_less(np.ones((2, 3)), 2)
    for wrong in (np.ones((4, 2)), np.ones(3), np.ones((2, 3), complex), "abc", np.ones((2, 3), object), masked,
                  [[1, 2], [3]], x.bfloat16()):  # fmt: skip
        with pytest.raises(InvalidInputError, match="x: got"):
            run(wrong)
    (tmp_path / "text.c").write_text("int main(void) { return 0; }")
    for path in (tmp_path / "text.c", tmp_path, tmp_path / "missing.c"):
        with pytest.raises(InvalidInputError, match="a C file of export_c"):
            compiled(path)


@pytest.mark.parametrize("script", ["exit 0", "exit 3", 'for last; do :; done; shift 9; echo no > "$2"; exit 0'])
def test_a_compiler_that_makes_nothing_of_it(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_text(f"#!/bin/sh\n{script}\n")
    os.chmod(tmp_path / "mine", 0o755)
    monkeypatch.setenv("CC", f"{tmp_path / 'mine'} -O2")
    with pytest.raises(VibTheoryError, match="makes nothing of it that runs here") as raised:
        export_c(nn.Sequential(nn.Linear(3, 2)), torch.rand(2, 3), tmp_path / "net.c")
    assert len(str(raised.value).splitlines()) == 1
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(MissingDependencyError, match="no-such-compiler"):
        export_c(nn.Sequential(nn.Linear(3, 2)), torch.rand(2, 3), tmp_path / "net.c")


def test_a_file_that_differs_does_not_replace_the_old_one(tmp_path: Path) -> None:
    path, net, x = tmp_path / "net.c", nn.Sequential(nn.Linear(3, 2)), torch.rand(2, 3)
    path.write_text("old")
    with pytest.raises(VibTheoryError, match="differs from torch"):
        export_c(net, x, path, tolerance=-1.0)
    with pytest.raises(InvalidInputError, match="identifier"):
        export_c(net, x, tmp_path / "my-net.c")
    with pytest.raises(VibTheoryError, match="another name"):
        export_c(net, x, tmp_path / "linear.c")  # one of the file's own functions
    for name in ("memcpy", "gamma", "write"):
        with pytest.raises(InvalidInputError, match=f"function {name}"):
            export_c(net, x, tmp_path / f"{name}.c")
    assert path.read_text() == "old"


def test_without_space_for_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = tempfile.mkstemp

    def full(suffix: str, prefix: str, dir: Path) -> tuple[int, str]:
        if dir != tmp_path:  # where it compiles
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return make(suffix, prefix, dir)

    monkeypatch.setattr(tempfile, "mkstemp", full)
    with pytest.raises(VibTheoryError, match=r"could not write .*No space left.*Remedy"):
        export_c(nn.Sequential(nn.Linear(3, 2)), torch.rand(2, 3), tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(MissingDependencyError, match="install gcc or clang"):
        export_c(nn.Sequential(nn.Linear(3, 2)), torch.rand(2, 3), tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


def test_cc_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("cc")
    (tmp_path / "mine").write_text(f'#!/bin/sh\ntouch "{tmp_path}/asked"\nexec {real} "$@"\n')
    os.chmod(tmp_path / "mine", 0o755)
    monkeypatch.setenv("CC", str(tmp_path / "mine"))
    export_c(nn.Sequential(nn.Linear(3, 2)), torch.rand(2, 3), tmp_path / "net.c")
    assert (tmp_path / "asked").exists()
