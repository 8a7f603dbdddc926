"""Training: it learns, keeps its books apart, reproduces bit for bit, and refuses what does not fit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory import networks
from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.errors import DivergedError, InvalidInputError
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.insertion import insert_gates
from vibtheory.training.hardware import choose_device
from vibtheory.training.loop import Loop, Settings
from vibtheory.training.recipe import Recipe
from vibtheory.training.run import Run
from vibtheory.training.single import train


def _classes() -> Dataset:
    """Three classes by the largest of three scaled inputs; the other five inputs are noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(scale=3.0, size=(900, 8))
    y = x[:, :3].argmax(axis=1)
    return from_arrays(x[:600], y[:600], x[600:], y[600:], name="largest")


def _regression() -> Dataset:
    rng = np.random.default_rng(1)
    x = rng.normal(scale=2.0, size=(700, 4))
    y = x @ rng.normal(size=(4, 2)) + 1.5
    return from_arrays(x[:500], y[:500], x[500:], y[500:], likelihood="gaussian")


DATA = _classes()
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 60}


def _net(*sizes: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return networks.mlp(sizes or (8, 12, 3))


def _train(**changes: Any) -> Run:
    return train(_net(), DATA, device="cpu", **{**QUICK, **changes})


def _same(a: Run, b: Run) -> bool:
    first, second = a.net.state_dict(), b.net.state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)


def test_learns_a_classification_problem_and_closes_the_noise_inputs() -> None:
    run = _train(gamma=3e-3, epochs=20, batch_size=30, learning_rate=2e-2, gate_learning_rate=0.1, pretrain_epochs=2)
    assert run.status == "completed"
    assert run.rows[-1]["error"] < 8
    assert run.rows[-1]["cross_entropy"] < 0.4 * run.rows[0]["cross_entropy"]
    kept = named_gates(run.net)["input"].keep
    assert kept[:3].all()
    assert int(kept[3:].sum()) <= 1
    assert run.rows[-1]["r_w"] < 60
    assert not run.net.training
    assert run.net.vib_config == {"gamma": 3e-3, "likelihood": "multinomial"}


def test_learns_a_regression_problem() -> None:
    data = _regression()
    run = train(_net(4, 2), data, device="cpu", gamma=1e-4, epochs=30, batch_size=25, learning_rate=3e-2)
    variance = 0.5 * ((data.y_test - data.y_test.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert run.rows[-1]["test_loss"] < 0.02 * variance
    assert run.rows[-1]["error"] is None
    assert run.net.vib_config["likelihood"] == "gaussian"


def test_history_columns() -> None:
    run = _train(pretrain_epochs=1, evaluate_every=2, epochs=4, gamma={"input": 1e-3, "h1": 2e-3})
    history = run.history
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert history["phase"].tolist() == ["pretrain"] + ["train"] * 4
    columns = {"cross_entropy", "information", "information_input", "information_h1", "kept_input", "kept_h1",
               "error", "test_loss", "r_w", "r_n", "flop", "architecture", "learning_rate", "seconds"}  # fmt: skip
    assert columns <= set(history.columns)
    # the last epoch of each phase is always evaluated
    assert history["error"].notna().tolist() == [True, True, False, True, True]
    assert history["information"].iloc[-1] == pytest.approx(
        history["information_input"].iloc[-1] + history["information_h1"].iloc[-1]
    )
    np.testing.assert_allclose(history["learning_rate"], [1e-3, 1e-3, 1e-3, 1e-4, 1e-4], rtol=1e-9)
    assert "seed 0: completed; after 5 epochs: error" in str(run)


def test_cross_entropy_is_logged_without_the_information() -> None:
    """At learning rates too small to move anything, the first epoch's loss is that of the initial net."""
    quiet = {"learning_rate": 1e-12, "gate_learning_rate": 1e-12, "epochs": 1, "initial_log_variance": -60.0}
    net = _net()
    with torch.no_grad():
        logits = net.eval()(torch.from_numpy(DATA.x_train))
        expected = float(functional.cross_entropy(logits, torch.from_numpy(DATA.y_train)))
    rows = [_train(gamma=gamma, **quiet).rows[0] for gamma in (0.0, 50.0)]
    for row in rows:
        assert row["cross_entropy"] == pytest.approx(expected, rel=1e-5)
        # 20 gates of α = e^60: ½·60 nats each
        assert row["information"] == pytest.approx(20 * 30, rel=1e-5)


@pytest.mark.parametrize("examples", [60, 61, 119, 120])
def test_cross_entropy_is_the_mean_over_examples_whatever_the_last_batch(examples: int) -> None:
    data, net = DATA.subset(examples, seed=3), networks.mlp((8, 12, 3), gated=False)
    with torch.no_grad():
        logits = net.double()(torch.from_numpy(data.x_train).double())
    expected = float(functional.cross_entropy(logits, torch.from_numpy(data.y_train)))
    quiet = {"learning_rate": 1e-12, "weight_decay": 0.0, "epochs": 1, "batch_size": 60}
    run = train(net.float(), data, device="cpu", **quiet)
    assert run.rows[0]["cross_entropy"] == pytest.approx(expected, rel=1e-6)


def test_one_step_is_adam_on_the_objective() -> None:
    """One batch, σ = 0: torch's own Adam on a hand-written loss; weight decay on weights only."""
    recipe = {"epochs": 1, "batch_size": 600, "gamma": 0.07, "weight_decay": 0.3, "initial_log_variance": -30.0}
    run = _train(**recipe)
    net = _net()
    w = {name: p.detach().double().requires_grad_() for name, p in net.named_parameters()}
    with torch.no_grad():
        for name in ("input", "h1"):
            w[f"{name}.log_var"].fill_(-30.0)
    x, y = torch.from_numpy(DATA.x_train).double(), torch.from_numpy(DATA.y_train)
    h = torch.relu((x * w["input.mu"]) @ w["linear1.weight"].T + w["linear1.bias"]) * w["h1.mu"]
    loss = functional.cross_entropy(h @ w["linear2.weight"].T + w["linear2.bias"], y)
    for name in ("input", "h1"):
        alpha = w[f"{name}.mu"] ** 2 / w[f"{name}.log_var"].exp()
        loss = loss + 0.07 * 0.5 * torch.log1p(alpha).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    gates = [p for name, p in w.items() if name.split(".")[0] in ("input", "h1")]
    rest = [p for name, p in w.items() if name.split(".")[0] not in ("input", "h1")]
    torch.optim.Adam([{"params": gates, "lr": 1e-2}, {"params": rest, "lr": 1e-3, "weight_decay": 0.3}]).step()
    for name, p in run.net.named_parameters():
        if name.endswith("mu") or "linear" in name:  # log σ² also feels the noise, of size e^{-15}
            torch.testing.assert_close(p.detach().double(), w[name].detach(), rtol=1e-4, atol=2e-5)


def test_weight_decay_spares_the_gates_unless_asked() -> None:
    still = {"gamma": 0.0, "weight_decay": 0.5, "epochs": 1, "batch_size": 600, "initial_log_variance": -4.0}
    data = replace(DATA, x_train=np.zeros_like(DATA.x_train))  # no gradient reaches input gate or linear1.weight
    plain, decayed = (
        train(_net(), data, device="cpu", gate_weight_decay=decay, **still).net.get_submodule("input")
        for decay in (0.0, 0.5)
    )
    assert torch.equal(plain.mu, torch.ones(8))
    assert torch.equal(plain.log_var, torch.full((8,), -4.0))
    np.testing.assert_allclose(decayed.mu.detach().numpy(), 0.99, rtol=1e-5)  # one Adam step of 1e-2
    assert (train(_net(), data, device="cpu", **still).net.get_parameter("linear1.weight") != _net()[2].weight).all()


def test_same_seed_same_bits_and_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    nets = [_train_from(seed) for seed in (4, 4, 5)]
    torch.manual_seed(77)
    net = networks.mlp((8, 12, 3))
    torch.manual_seed(77)
    train(net, DATA, device="cpu", **QUICK)
    assert torch.equal(torch.rand(3), expected)
    assert _same(nets[0], nets[1])
    assert not _same(nets[0], nets[2])
    drop = ("seconds",)
    clean = [[{k: v for k, v in row.items() if k not in drop} for row in run.rows] for run in nets]
    assert clean[0] == clean[1]


def _train_from(seed: int) -> Run:
    return train(_net(), DATA, device="cpu", seed=seed, **QUICK)


def test_pretraining_holds_the_gates_still() -> None:
    run = _train(epochs=0, pretrain_epochs=2, gamma=10.0)
    for gate in named_gates(run.net).values():
        assert torch.equal(gate.mu, torch.ones(gate.features))
        assert torch.equal(gate.log_var, torch.full((gate.features,), -9.0))
    assert run.rows[-1]["cross_entropy"] < run.rows[0]["cross_entropy"]


def test_ungated_net_trains_plainly() -> None:
    torch.manual_seed(0)
    run = train(networks.mlp((8, 12, 3), gated=False), DATA, device="cpu", epochs=8, batch_size=20, learning_rate=1e-2)
    assert run.status == "completed"
    assert run.rows[-1]["error"] < 30
    assert "r_w" not in run.rows[-1]
    assert run.rows[-1]["information"] == 0


def test_dead_layer_ends_the_run_with_a_remedy() -> None:
    gamma = {"input": 0.0, "h1": 1e4}
    run = _train(gamma=gamma, epochs=400, gate_learning_rate=0.05, batch_size=300, prune_every=1,
                 evaluate_every=1000)  # fmt: skip
    assert run.status == "collapsed"
    assert [("error" in row) for row in run.rows] == [False] * (len(run.rows) - 1) + [True]
    assert "no unit of h1 survived; use a smaller gamma" in run.message
    assert len(run.rows) < 100
    assert run.rows[-1]["status"] == "collapsed"
    assert {row["status"] for row in run.rows[:-1]} == {"completed"}
    assert run.net.get_submodule("h1").features == 12


def test_diverging_names_step_and_layer() -> None:
    net = _net()
    with torch.no_grad():
        net[2].weight[0, 0] = math.inf
    with pytest.raises(DivergedError, match=r"epoch 1 at step 1; first non-finite layer: .*Remedy"):
        train(net, DATA, device="cpu", **QUICK)
    with pytest.raises(DivergedError, match=r"not finite in epoch [12] at (step \d+|the last step).*layer: "):
        train(_net(4, 2), _regression(), device="cpu", epochs=2, learning_rate=1e36)


def test_interrupted_net_comes_back_at_full_size() -> None:
    calls = 0

    def interrupt(module: nn.Module, *_: object) -> None:
        nonlocal calls
        calls += module.training
        if calls > 25:
            raise KeyboardInterrupt

    net = _net()
    net[1].close(torch.tensor([4, 6]))
    net.append(nn.Identity())
    net[-1].register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(net, DATA, device="cpu", epochs=9, batch_size=60, prune_every=1)
    assert net[2].weight.shape == (12, 8)
    assert net[2].in_features == 8


@pytest.mark.parametrize("law", ["vib", "l0"])
def test_what_is_frozen_of_a_gate_stays(law: str) -> None:
    """The first gate but for its last parameter, and the second one's last: frozen before as after, and not moved."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    net = insert_gates(plain, torch.zeros(2, 8), law=law)
    first, second = (list(gate.parameters()) for gate in named_gates(net).values())
    for parameter in (*first[:-1], second[-1]):
        parameter.requires_grad_(False)
    given = [(p.requires_grad, p.detach().clone()) for p in net.parameters()]
    train(net, DATA, device="cpu", pretrain_epochs=1, gamma=1e-3, **QUICK)
    for parameter, (learns, value) in zip(net.parameters(), given, strict=True):
        assert parameter.requires_grad == learns
        assert torch.equal(parameter.detach(), value) == (not learns)


def test_gates_learn_again_after_pretraining_alone_or_stopped_in_it() -> None:
    def stop(_: nn.Module, done: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    net = _net()
    train(net, DATA, device="cpu", pretrain_epochs=1, epochs=0)
    assert all(p.requires_grad for p in net.parameters())
    with pytest.raises(KeyboardInterrupt):
        train(net, DATA, device="cpu", pretrain_epochs=2, on_epoch=stop)
    assert all(p.requires_grad for p in net.parameters())


def test_distilling_follows_the_teacher_instead_of_the_labels() -> None:
    """Labels of the second phase are noise at distill=1: the student still predicts what the teacher did."""
    options: dict[str, Any] = {"pretrain_epochs": 5, "batch_size": 40, "learning_rate": 1e-2, "gamma": 1e-5}
    teacher = train(_net(), DATA, device="cpu", epochs=0, **options)
    student = train(_net(), DATA, device="cpu", epochs=6, distill=1.0, temperature=3.0, **options)
    x = torch.from_numpy(DATA.x_train)
    with torch.no_grad():
        a, b = teacher.net(x).log_softmax(dim=1), student.net(x).log_softmax(dim=1)
    distilled = float(functional.kl_div(b, a, log_target=True, reduction="batchmean"))
    plain = train(_net(), DATA, device="cpu", epochs=6, **options)
    with torch.no_grad():
        c = plain.net(x).log_softmax(dim=1)
    assert distilled < 0.5 * float(functional.kl_div(c, a, log_target=True, reduction="batchmean"))


def test_a_given_teacher_is_followed_from_the_first_epoch() -> None:
    """At distill=1 the labels play no part: wrong ones give the same bits, another teacher gives others."""
    options: dict[str, Any] = {"epochs": 2, "batch_size": 40, "distill": 1.0, "gamma": 1e-4, "device": "cpu"}
    teacher, other = train(_net(), DATA, device="cpu", epochs=3, gamma=0.0).net, _net()
    wrong = from_arrays(DATA.x_train, 2 - DATA.y_train, DATA.x_test, DATA.y_test)
    first = train(_net(), DATA, teacher=teacher, **options)
    assert _same(first, train(_net(), wrong, teacher=teacher, **options))
    assert not _same(first, train(_net(), DATA, teacher=other, **options))
    teacher.train()[1].eval()
    before = [module.training for module in teacher.modules()]
    train(_net(), DATA, teacher=teacher, **options)
    assert [module.training for module in teacher.modules()] == before
    for wrong_net in (_net(8, 1), _net(8, 4), _net(7, 3), nn.Linear(3, 3), nn.Sequential(_net(), nn.Flatten(0))):
        with pytest.raises(InvalidInputError, match=r"teacher: got .*Remedy"):
            train(_net(), DATA, teacher=wrong_net, **options)
    with pytest.raises(InvalidInputError, match=r"distill: got 1.0, expected 0 without a teacher.*Remedy"):
        train(_net(), DATA, **options)


def test_automatic_mixed_precision_on_the_cpu() -> None:
    full, mixed = _train(epochs=3, amp=False), _train(epochs=3, amp=True)
    assert not _same(full, mixed)
    assert mixed.rows[-1]["cross_entropy"] == pytest.approx(full.rows[-1]["cross_entropy"], rel=0.1)
    assert all(p.dtype == torch.float32 for p in mixed.net.parameters())


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def _normed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), Gate(6), nn.Linear(6, 3))


@pytest.mark.parametrize("examples", [60, 61, 62])
def test_a_batchnorm_gets_no_batch_of_a_single_example(examples: int) -> None:
    """60 examples in batches of 20, and one or two over: the single one joins the batch before, two are a batch."""
    net, sizes = _normed(), []
    net[1].register_forward_hook(lambda norm, inputs, _: sizes.append(len(inputs[0])) if norm.training else None)
    run = train(net, DATA.subset(examples), device="cpu", epochs=1, batch_size=20, gamma=1e-3)
    assert run.status == "completed"
    assert sizes == {60: [20, 20, 20], 61: [20, 20, 21], 62: [20, 20, 20, 2]}[examples]


def test_one_example_is_a_data_set() -> None:
    """Its own gradient: −log q moves only through the row of logits that this example has."""
    x, net = np.ones((1, 8), dtype=np.float32), nn.Linear(8, 3)
    run = train(net, from_arrays(x, [2], x, [1]), device="cpu", epochs=30, learning_rate=0.1)
    assert run.rows[-1]["cross_entropy"] < 0.05
    assert run.rows[-1]["error"] == 100.0  # the test example's label is another one


class _Square(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h * h


IMAGES = from_arrays(np.ones((4, 1, 6, 6)), [0, 1, 2, 0], np.ones((2, 1, 6, 6)), [0, 1])
NOT_SILENT = nn.Sequential(nn.Linear(8, 4), Gate(4), nn.Sigmoid(), nn.Linear(4, 3))
BAD: dict[str, Any] = {
    "a seed below 0": lambda: train(_net(8, 3), DATA, device="cpu", seed=-1, **QUICK),
    "a seed of no generator": lambda: train(_net(8, 3), DATA, device="cpu", seed=2**63, **QUICK),
    "a seed that is none": lambda: train(_net(8, 3), DATA, device="cpu", seed=True, **QUICK),
    "input width": lambda: train(_net(7, 3), DATA, device="cpu", **QUICK),
    "image for a wrong net": lambda: train(networks.lenet_5_caffe(), IMAGES, device="cpu", **QUICK),
    "too few outputs": lambda: train(_net(8, 2), DATA, device="cpu", **QUICK),
    "target width": lambda: train(_net(4, 3), _regression(), device="cpu", **QUICK),
    "a price without gates": lambda: train(nn.Linear(8, 3), DATA, device="cpu", gamma=1e-3, epochs=1),
    "layer of gamma": lambda: _train(gamma={"input": 1e-3, "h9": 1e-3}),
    "missing layer of gamma": lambda: _train(gamma={"input": 1e-3}),
    "layer weights": lambda: _train(layer_weights={"input": 1.0}),
    **{
        f"{name}={value!r}": lambda name=name, value=value: _train(**{name: value})
        for name, values in {
            "evaluate_every": (0, 1.5, "2", True),
            "checkpoint_seconds": (math.nan, math.inf, -5, "x"),
            "amp": ("no", 1),
            "progress": ("no",),
            "on_epoch": (3,),
            "teacher": (3, nn.Linear),
            "checkpoint": (5,),
            "accelerate": (None, "fast"),
            "seed": (1.0,),
            "recipe": ({"gamma": 1.0}, {}, "table1"),
        }.items()
        for value in values
    },
    "labels of the test set": lambda: _wrong(y_test=DATA.y_test + 1),
    **{
        what: lambda changes=changes: _wrong(**changes)
        for what, changes in {
            "lists": {"x_train": DATA.x_train.tolist()},
            "tensors": {"y_test": torch.as_tensor(DATA.y_test)},
            "a view backwards": {"x_train": DATA.x_train[::-1]},
            "more labels than inputs": {"x_train": DATA.x_train[:400]},
            "more inputs than labels": {"y_train": DATA.y_train[:400]},
            "fewer test labels": {"y_test": DATA.y_test[:5]},
            "NaN in the training inputs": {"x_train": np.where(DATA.x_train > 5, np.float32(np.nan), DATA.x_train)},
            "infinity in the test inputs": {"x_test": np.where(DATA.x_test > 5, np.float32(np.inf), DATA.x_test)},
            "no training examples": {"x_train": DATA.x_train[:0], "y_train": DATA.y_train[:0]},
            "no test examples": {"x_test": DATA.x_test[:0], "y_test": DATA.y_test[:0]},
            "labels of float32": {"y_train": DATA.y_train.astype(np.float32)},
            "whole inputs": {"x_train": DATA.x_train.astype(np.int64)},
            "test inputs of another width": {"x_test": DATA.x_test[:, :7]},
            "an unknown likelihood": {"likelihood": "poisson"},
        }.items()
    },
    "outputs [N, 2, 3] for 6 targets": lambda: train(
        nn.Sequential(_net(4, 6), nn.Unflatten(1, (2, 3))), _six_targets(), device="cpu", on_epoch=_begun, **QUICK
    ),
    "a number for a net": lambda: train(3, DATA),
    "no net": lambda: train(None, DATA),
    "a function for a net": lambda: train(_net, DATA),
    "no device": lambda: train(_net(), DATA, device=None, **QUICK),
    "unknown keyword": lambda: _train(gama=1.0),
    "no such device": lambda: train(_net(), DATA, device="gpu", **QUICK),
    "device of another kind": lambda: train(_net(), DATA, device="meta", **QUICK),
    "absent device": lambda: train(_net(), DATA, device="cuda:99", **QUICK),
    "single examples for a BatchNorm": lambda: train(_normed(), DATA, device="cpu", epochs=1, batch_size=1),
    "a single example for a BatchNorm": lambda: train(_normed(), DATA.subset(1), device="cpu", epochs=1),
    "shift without images": lambda: _train(shift=1),
    "prune what is no chain": lambda: train(nn.Sequential(_Square(), _net()), DATA, device="cpu", prune_every=1),
    "prune before a sigmoid": lambda: train(NOT_SILENT, DATA, device="cpu", prune_every=1),
}


def _wrong(**changes: Any) -> Run:
    """Refused before the first epoch begins."""
    return train(_net(), replace(DATA, **changes), device="cpu", on_epoch=_begun, **QUICK)


def _begun(*_: Any) -> None:
    pytest.fail("refused too late")


def _six_targets() -> Dataset:
    x = np.random.default_rng(0).normal(size=(20, 4))
    return from_arrays(x, np.tile(x, 2)[:, :6], x, np.tile(x, 2)[:, :6], likelihood="gaussian")


def test_a_data_set_made_directly_trains_as_one_that_is_converted() -> None:
    made = Dataset(DATA.x_train, DATA.y_train, DATA.x_test, DATA.y_test, "largest", classes=3)
    assert _same(train(_net(), made, device="cpu", **QUICK), _train())


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    with pytest.raises(InvalidInputError, match="Remedy"):
        BAD[case]()


@pytest.mark.parametrize("setting", ["label_smoothing", "distill"])
def test_what_softens_labels_is_refused_where_there_are_none(setting: str) -> None:
    """Real targets have no softmax: the divergence between two would be minimised in silence."""
    with pytest.raises(InvalidInputError, match=rf"^{setting}: got 0.5, expected 0 for regression.*Remedy"):
        train(_net(4, 2), _regression(), device="cpu", pretrain_epochs=1, **{setting: 0.5}, **QUICK)


def test_a_recipe_object_and_its_changes() -> None:
    recipe = Recipe(gamma=1e-3, epochs=5, batch_size=200)
    run = train(_net(), DATA, recipe, device="cpu", epochs=1)
    assert run.recipe == replace(recipe, epochs=1)
    assert len(run.rows) == 1


def test_smoothed_labels_are_torch_s() -> None:
    torch.manual_seed(0)
    x, y = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32), np.arange(12) % 3
    net = networks.mlp([5, 4, 3], gated=False)
    truth = functional.cross_entropy(net(torch.as_tensor(x)), torch.as_tensor(y), label_smoothing=0.3)
    expected = torch.autograd.grad(truth, list(net.parameters()))
    loop = Loop(net, from_arrays(x, y, x, y), Recipe(label_smoothing=0.3), Settings(device=torch.device("cpu")))
    loop.set_learning_rates(1.0)
    loop.enter_phase(False, 0.0)
    loop.take_step(torch.arange(12))
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
