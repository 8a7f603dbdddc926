"""A network that works in place on its input: the data stay as they are, and results are its copying twin's."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vibtheory as vt
from vibtheory.compression.evaluation import evaluate

X = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
RECIPE = vt.Recipe(epochs=1, pretrain_epochs=1, batch_size=30, distill=0.5)


class Twin(nn.Module):
    """Normalises its input, in place or with a copy."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place, self.hidden, self.relu, self.last = in_place, nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_place:
            x.sub_(0.5)  # by name: a trace would turn `x -= .5` into a copy
            x.div_(2.0)
        else:
            x = (x - 0.5) / 2.0
        return self.last(self.relu(self.hidden(x)))


class Untraceable(Twin):
    """The same with a decision that depends on the data."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if bool(x.isfinite().all()) else x


def untraceable(in_place: bool) -> nn.Module:
    torch.manual_seed(1)
    return Untraceable(in_place)


def plain(in_place: bool) -> nn.Module:
    torch.manual_seed(1)
    return Twin(in_place)


def sequential(in_place: bool) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.LeakyReLU(0.3, inplace=in_place), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def weights(net: nn.Module) -> list[Any]:
    return [parameter.detach().tolist() for parameter in net.parameters()]


def gated(net: nn.Module) -> nn.Module:
    return vt.insert_gates(net, X.clone(), input_gate=False)


def last(net: nn.Module) -> str:
    return [name for name, module in net.named_modules() if isinstance(module, vt.Gate)][-1]


def bounded(net: nn.Module, data: Any) -> Any:
    net = gated(net)
    bound = vt.quadratic_bound(net, data, last(net), gamma=1e-3)
    return bound.b.tolist(), bound.c, vt.verify_bound(bound, net, data, samples=20)


def exported(net: nn.Module, data: Any, folder: Any) -> Any:
    vt.compression.export.export_onnx(net, torch.as_tensor(data.x_train), folder / "net.onnx")
    return (folder / "net.onnx").exists()


CALLS = {
    "insert_gates": lambda net, data, _: weights(vt.insert_gates(net, data.x_train)),
    "compress": lambda net, data, _: weights(vt.compress(gated(net), data.x_train)),
    "compress_to": lambda net, data, _: weights(
        vt.compress_to(net, data, r_w=70, epochs=1, fine_tune_epochs=1, trials=2, input_gate=False).net
    ),
    "export_onnx": exported,
    "train": lambda net, data, _: weights(vt.train(gated(net), data, RECIPE).net),
    "evaluate": lambda net, data, _: evaluate(gated(net), data.x_test, data.y_test, samples=2),
    "quadratic_bound": lambda net, data, _: bounded(net, data),
    "check_network": lambda net, data, _: vt.check_network(gated(net), data, gamma=1e-3),
    "check_trained": lambda net, data, _: vt.check_trained(gated(net), data, gamma=1e-3),
    "merge_redundant": lambda net, data, _: vt.merge_redundant(gated(net), data)[1],
    "layer_law": lambda net, data, _: vt.layer_law((net := gated(net)), data.x_test, last(net)),
    "information_of": lambda net, data, _: vt.information_of((net := gated(net)), data.x_test, layer=last(net)),
}
ONLY = {"merge_redundant": (sequential,)}  # takes chains
CASES = [(name, build) for name in CALLS for build in ONLY.get(name, (plain, sequential, untraceable))]


@pytest.mark.parametrize(("name", "build"), CASES)
@pytest.mark.filterwarnings("ignore:ONNX Preprocess")
def test_data_stay_as_they_are_and_results_are_the_twins(name, build, tmp_path):
    found = []
    for in_place in (True, False):
        data = vt.datasets.from_arrays(X.clone(), (X[:, 0] > 0).long(), X[:20].clone(), (X[:20, 0] > 0).long())
        found.append(re.sub(r"seconds=[\d.e-]+", "", str(CALLS[name](build(in_place), data, tmp_path))))
        assert torch.equal(torch.as_tensor(data.x_train), X)
        assert torch.equal(torch.as_tensor(data.x_test), X[:20])
    assert found[0] == found[1]


@pytest.mark.parametrize(("build", "others"), [(plain, 2), (sequential, 2), (untraceable, 0)])
def test_float64_data_which_no_cast_copies(build, others):
    x = X.double().numpy().copy()
    data = SimpleNamespace(x_train=x, y_train=(X[:, 0] > 0).long().numpy(), likelihood="multinomial")
    net = vt.insert_gates(build(True), X.clone())
    bound = vt.quadratic_bound(net, data, last(net), gamma=1e-3, others=others)
    vt.verify_bound(bound, net, data, samples=5, others=others)
    vt.check_network(net, data, gamma=1e-3)
    vt.check_trained(net, data, gamma=1e-3)
    assert (x == X.double().numpy()).all()
