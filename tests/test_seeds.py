"""Random numbers of the package are nobody else's: data from the same seed, by numpy or torch, stay independent."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve
from torch import nn

import vibtheory as vt
from vibtheory.errors import InvalidInputError, as_generator, as_torch_seed
from vibtheory.information import METHODS, GatedChannel, estimate, relevance
from vibtheory.networks import equivalence, insertion, interception, random_stream
from vibtheory.networks.streams import random_state_kept

PACKAGE = Path(vt.__file__).parent
CALL = re.compile(r"(?:as_generator|as_torch_seed|random_stream)\(")
N, SPREAD, TAU = 400, 3.0, 2.0
OFFSETS = (0, 1, N, 50_000, 200_000)


BARE = re.compile(r"(default_rng|manual_seed)\((self\.|\w+\.)?(\w*seed|\d*)\)(?!`)")


def test_no_stream_can_be_anyone_s() -> None:
    """A generator is made from a stream with a purpose, never from a seed as the user gave it."""
    lines = [line.strip() for path in sorted(PACKAGE.rglob("*.py")) for line in path.read_text().splitlines()]
    assert not [line for line in lines if BARE.search(line)]


def test_no_seed_reaches_a_device_whose_numbers_are_not_kept() -> None:
    """torch.manual_seed sets those of every device, or, before the first is used, of every one that ever will be."""
    sources = {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    for call in ("torch.manual_seed(", "manual_seed_all("):
        assert not [path for path, text in sources.items() if call in re.sub("#.*", "", text)]
    assert [path.name for path, text in sources.items() if "fork_rng" in text] == ["critics.py", "streams.py"]


OWN_STREAM = """
import random, sys
random.seed(1)
before = random.getstate()
import numpy as np, vibtheory as vt
x = np.random.default_rng(0).normal(size=(20, 3))
data = vt.datasets.from_arrays(x, np.arange(20) % 2, x, np.arange(20) % 2)
vt.check_network(vt.networks.mlp((3, 2, 2)), data, 0.1, progress=True)
assert "rich.style" in sys.modules
assert random.getstate() == before
"""


def test_python_s_own_stream_is_left_alone() -> None:
    """rich draws from it when it is first imported: by a process's first report or progress bar."""
    done = subprocess.run([sys.executable, "-c", OWN_STREAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    direct = re.compile(r"^\s*(from|import) rich\b", re.MULTILINE)
    assert [path.name for path in PACKAGE.rglob("*.py") if direct.search(path.read_text())] == ["terminal.py"]


class FakeCUDA:
    """Two devices, as torch.cuda sees them: their random state is the last seed, or what was drawn since."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.current = {0: "own", 1: "own"}, 0
        for name in ("get_rng_state", "set_rng_state", "manual_seed", "device"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def get_rng_state(self, device: torch.device) -> object:
        return self.state[device.index]

    def set_rng_state(self, state: str, device: torch.device) -> None:
        self.state[device.index] = state

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, device.index
        yield
        self.current = before

    def manual_seed(self, seed: int) -> None:
        self.state[self.current] = seed


def test_a_stream_of_one_device_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCUDA(monkeypatch)
    before = torch.get_rng_state()
    with random_stream(3, "anything", "cuda:1"):
        assert cuda.state == {0: "own", 1: as_torch_seed("seed", 3, "anything")}
        assert torch.initial_seed() == as_torch_seed("seed", 3, "anything")
    assert cuda.state == {0: "own", 1: "own"}
    assert torch.equal(torch.get_rng_state(), before)
    with random_stream(3, "anything", "meta"):  # has no numbers
        assert torch.initial_seed() == as_torch_seed("seed", 3, "anything")
    assert torch.equal(torch.get_rng_state(), before)
    with random_state_kept("cuda:0"):
        cuda.state[0] = "drawn"
        torch.rand(1)
    assert cuda.state == {0: "own", 1: "own"}
    assert torch.equal(torch.get_rng_state(), before)


def test_gates_are_put_into_a_net_on_a_gpu_without_drawing_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCUDA(monkeypatch)

    class Draws(nn.ReLU):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            cuda.state[1] = "drawn"
            return super().forward(x)

    net, x = nn.Sequential(nn.Linear(2, 3), Draws(), nn.Linear(3, 2)), torch.rand(4, 2)
    gated = vt.insert_gates(net, x)
    for module in (insertion, interception, equivalence):
        monkeypatch.setattr(module, "device_of_inputs", lambda _: torch.device("cuda:1"))
    cuda.state[1] = "own"
    assert insertion._changes(net, gated, (x,)) == ""
    assert cuda.state == {0: "own", 1: "own"}
    interception._record(net, (x,))
    assert cuda.state == {0: "own", 1: "own"}


def test_the_device_is_that_of_the_first_tensor() -> None:
    away = torch.zeros(1, device="meta")
    assert equivalence.device_of_inputs(({"options": 3, "x": [away]}, torch.zeros(1))) == away.device
    assert (
        equivalence.device_of_inputs((1, "x"))
        == equivalence.device_of_inputs((torch.zeros(1), away))
        == torch.device("cpu")
    )


@pytest.mark.parametrize(
    "call", ["default_rng(seed)", "manual_seed(self.seed)", "torch.manual_seed(0)", "default_rng()"]
)
def test_the_rule_sees_a_bare_seed(call: str) -> None:
    assert BARE.search(f"x = {call}")
    assert not BARE.search('manual_seed(as_torch_seed("seed", seed, "probes"))')


def _purposes() -> list[str]:
    lines = [line for path in PACKAGE.rglob("*.py") for line in path.read_text().splitlines() if CALL.search(line)]
    return sorted({name for line in lines for name in re.findall(r'"([^"]+)"', line)} - {"seed", "cpu", "cuda"})


def _largest_correlation(stream, own):
    """Of `own` [n] with n successive numbers of `stream` [m], over every offset."""
    own = (own - own.mean()) / own.std()
    return np.abs(fftconvolve(stream, own[::-1], mode="valid")).max() / len(own)


@pytest.mark.parametrize("seed", [0, 1, 12])
def test_streams_are_uncorrelated_with_the_user_s_at_every_offset(seed):
    limit = 6 / np.sqrt(N)  # 200,000 normal numbers stay below 4.5 standard deviations or so
    numpy_user = np.random.default_rng(seed).standard_normal(200_000 + N)
    torch_user = torch.randn(200_000 + N, generator=torch.Generator().manual_seed(seed)).double().numpy()
    purposes = [*_purposes(), "initial weights", "training", "evaluation"]
    assert {"infonce", "leave_one_out", "ksg", "binning", "GatedChannel.sample"} <= set(purposes)
    for purpose in purposes:
        own = as_generator("seed", seed, purpose).standard_normal(N)
        assert _largest_correlation(numpy_user, own) < limit, purpose
        with random_stream(seed, purpose):
            drawn = torch.randn(N).double().numpy()
        assert _largest_correlation(torch_user, drawn) < limit, purpose
        assert _largest_correlation(numpy_user, drawn) < limit, purpose
    assert len({as_torch_seed("seed", seed, purpose) for purpose in purposes}) == len(set(purposes))


def _data(kind: str, seed: int, offset: int) -> np.ndarray:
    if kind == "numpy":
        return SPREAD * np.random.default_rng(seed).standard_normal(offset + N)[offset:, None]
    values = torch.randn(offset + N, generator=torch.Generator().manual_seed(seed)).double().numpy()
    return SPREAD * values[offset:, None]


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("method", ["infonce", "leave_one_out", "ksg", "binning"])
def test_estimates_on_data_of_the_same_seed(method, kind):
    truth = 0.5 * np.log1p((SPREAD / TAU) ** 2)
    bare = {"halves": 0} if method == "ksg" else {}  # of the others' results only the value is used
    for seed in (0, 5):
        for offset in OFFSETS:
            channel = GatedChannel.regular(_data(kind, seed, offset), TAU)
            result = estimate(channel, method, seed=seed)
            others = [estimate(channel, method, seed=np.random.default_rng([91, k]), **bare).nats for k in range(12)]
            assert abs(result.nats - np.mean(others)) < 4.5 * np.std(others, ddof=1), (seed, offset)
            if result.stderr > 0:
                assert abs(result.nats - truth) < 4 * result.stderr, (seed, offset)
    assert method in METHODS


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_relevance_on_data_of_the_same_seed(kind):
    for seed in (0, 5):
        for offset in OFFSETS:
            f = _data(kind, seed, offset)
            channel, y = GatedChannel.regular(f, TAU), f[:, 0] > 0
            others = [relevance(channel, y, seed=np.random.default_rng([92, k])).nats for k in range(12)]
            assert abs(relevance(channel, y, seed=seed).nats - np.mean(others)) < 4.5 * np.std(others, ddof=1)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_noise_of_layers_on_data_of_the_same_seed(kind):
    """h = f + noise, and a gate upstream of a layer: the noise has no correlation with the data."""
    net = nn.Sequential()
    net.add_module("input", vt.Gate(1, mean=1.0, log_variance=-2.0))
    net.add_module("out", nn.Identity())
    for seed in (0, 5):
        for offset in OFFSETS:
            f = _data(kind, seed, offset)
            added = GatedChannel.regular(f, TAU).sample(seed) - f
            x = f.astype(np.float32)
            gate = vt.layer_law(net, x, "out", seed=seed).f / x
            for noise in (added, gate):
                assert abs(np.corrcoef(f[:, 0], noise[:, 0])[0, 1]) < 4 / np.sqrt(N)


def test_a_sketch_is_independent_of_its_matrix():
    matrix = np.random.default_rng(0).standard_normal((60, 40))
    assert vt.theory.numerical_rank(matrix, method="randomized", seed=0).rank == 40


def test_seeds_are_checked_and_generators_pass_through():
    generator = np.random.default_rng(0)
    assert as_generator("seed", generator, "anything") is generator
    for bad in ("a", 1.5, -1, True, None, 2**63):
        for call in (as_generator, as_torch_seed):
            with pytest.raises(InvalidInputError, match=r"noise: got .*whole number.*Remedy"):
                call("noise", bad, "anything")
