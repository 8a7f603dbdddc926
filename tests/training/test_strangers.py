"""What users bring that training does not take: one sentence about it before the first step, never a raw error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import vibtheory as vt
from vibtheory.errors import InvalidInputError

RNG = np.random.default_rng([3, 9])
X, Y = RNG.normal(size=(40, 8)).astype(np.float32), np.arange(40) % 3
DATA = vt.datasets.from_arrays(X, Y, X[:10], Y[:10])
WORDS = RNG.integers(0, 9, (40, 4))
TEXT = vt.datasets.from_arrays(WORDS, Y, WORDS[:10], Y[:10])
IMAGES = RNG.normal(size=(40, 1, 4, 4))


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), vt.Gate(6), nn.Linear(6, 3))


class Returns(nn.Module):
    """A tuple, or a dict."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.net, self.kind = small(), kind

    def forward(self, x: Tensor) -> object:
        return (self.net(x),) if self.kind is tuple else {"logits": self.net(x)}


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.net(a + b)


class Text(nn.Module):
    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.embed, self.net, self.whole = nn.Embedding(9, 8), small(), whole

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.embed(x.long() if self.whole else x).mean(1))


LOADER = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=20)
BAD = {
    "a tuple": (lambda: Returns(tuple), DATA, r"net: got outputs of type tuple, expected one tensor.*Remedy: wrap"),
    "a dict": (lambda: Returns(dict), DATA, r"net: got outputs of type dict, expected one tensor.*Remedy: wrap"),
    "two inputs": (TwoInputs, DATA, r"net: got a forward pass that does not take one tensor.*'b'.*Remedy: wrap"),
    "float64": (lambda: small().double(), DATA, r"net: got weights of torch.float64.*Remedy: call net.float\(\)"),
    "bfloat16": (lambda: small().bfloat16(), DATA, r"net: got weights of torch.bfloat16.*Remedy: call net.float\(\)"),
    "tokens": (lambda: Text(False), TEXT, r"data: got inputs \[4\].*Remedy: begin its forward with x = x.long\(\)"),
    "a loader": (small, LOADER, r"data: got a DataLoader, expected a Dataset.*Remedy: make one: vibtheory.datasets"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_in_a_sentence(case):
    build, data, message = BAD[case]
    with pytest.raises(InvalidInputError, match=message):
        vt.train(build(), data, device="cpu", epochs=1, batch_size=20)
    with pytest.raises(InvalidInputError, match=message):
        vt.train_many(build, data, [(1e-3, 0)], device="cpu", epochs=1, batch_size=20)


def test_evaluation_takes_tokens():
    torch.manual_seed(0)
    text = Text(False)
    with torch.no_grad():
        wrong = text(torch.from_numpy(WORDS)).argmax(1).numpy() != Y
    assert vt.metrics.error(text, WORDS, Y) == pytest.approx(100 * wrong.mean())


def test_evaluation_of_a_tuple_is_refused():
    with pytest.raises(InvalidInputError, match=r"net: got outputs of type tuple.*Remedy: wrap"):
        vt.metrics.evaluate(Returns(tuple), X, Y)


def test_targets_like_images_are_refused():
    with pytest.raises(InvalidInputError, match=r"y_train: got shape \[40, 1, 4, 4\].*end the network in Flatten\(\)"):
        vt.datasets.from_arrays(IMAGES, IMAGES, IMAGES[:5], IMAGES[:5], likelihood="gaussian")


def test_the_remedies_work():
    torch.manual_seed(0)
    text = Text(True)
    run = vt.train(text, TEXT, device="cpu", epochs=40, batch_size=20, gamma=0.0, learning_rate=1e-2)
    with torch.no_grad():  # the user's own forward pass, on whole numbers
        wrong = text(torch.from_numpy(WORDS)).argmax(1).numpy() != Y
    assert run.status == "completed"
    assert wrong.mean() < 0.5  # 0.67 by guessing
    flat = IMAGES.reshape(40, -1)
    numbers = vt.datasets.from_arrays(IMAGES, flat, IMAGES[:5], flat[:5], likelihood="gaussian")
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), vt.Gate(4), nn.Conv2d(4, 1, 1), nn.Flatten())
    assert vt.train(net, numbers, device="cpu", epochs=1, batch_size=20).status == "completed"
    scripted = torch.jit.script(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)))
    assert vt.train(scripted, DATA, device="cpu", epochs=1, batch_size=20).status == "completed"
