"""Gates on attention heads and neurons, `where=`, and heads cut out; truth is the user's own forward pass.

A gate multiplies what a column of the following weight hears, so the user's own model with those columns multiplied by
the gates' means is what the gated model must compute, and the compressed one too.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import vibtheory as vt
from vibtheory.compression import metrics
from vibtheory.compression.cut import compress
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.insertion import insert_gates

D, H = 12, 3
WRITINGS = ("packed", "by head", "rotated", "einsum", "convolution", "biased", "torch", "addmm", "matmul")


class Product(nn.Module):
    """A linear layer with its weight transposed, as in GPT-2 ("addmm"), or as formulas write it."""

    def __init__(self, inputs: int, outputs: int, writing: str) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs) / 3), nn.Parameter(torch.randn(outputs))
        self.nf, self.writing = outputs, writing

    def forward(self, x: Tensor) -> Tensor:
        if self.writing == "matmul":
            return x @ self.weight + self.bias
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], self.nf)


class Attention(nn.Module):
    """Self-attention with H heads in the ways in which public code writes it."""

    def __init__(self, writing: str) -> None:
        super().__init__()
        self.writing, self.heads, self.dim, self.dropout = writing, H, D // H, nn.Dropout(0.1)
        self.register_buffer("mask", torch.ones(9, 9).tril() == 0)
        if writing == "torch":
            self.attention = nn.MultiheadAttention(D, H, dropout=0.1, batch_first=True)
            return
        if writing in ("biased", "einsum"):
            self.q, self.k, self.v = (nn.Linear(D, D, bias=False) for _ in range(3))
        elif writing in ("addmm", "matmul"):
            self.qkv, self.proj = Product(D, 3 * D, writing), Product(D, D, writing)
            return
        else:
            self.qkv = nn.Conv1d(D, 3 * D, 1) if writing == "convolution" else nn.Linear(D, 3 * D)
        self.proj = nn.Conv1d(D, D, 1) if writing == "convolution" else nn.Linear(D, D)
        if writing == "biased":
            self.table = nn.Parameter(torch.randn(9, H))

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        if self.writing == "torch":
            return self.attention(x, x, x, attn_mask=torch.ones(t, t).triu(1).bool())[0]
        if self.writing == "convolution":
            q, k, v = self.qkv(x.mT).reshape(b, 3, self.heads, self.dim, t).unbind(1)
            return self.proj(F.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT.reshape(b, c, t)).mT
        if self.writing == "einsum":
            q, k, v = (layer(x).view(b, t, H, -1) for layer in (self.q, self.k, self.v))
            weights = torch.einsum("bthd,bshd->bhts", q, k).div(self.dim**0.5).softmax(-1)
            return self.proj(torch.einsum("bhts,bshd->bthd", weights, v).flatten(2))
        if self.writing == "biased":
            q, k, v = (
                layer(x).view(b, t, self.heads, self.dim).permute(0, 2, 1, 3) for layer in (self.q, self.k, self.v)
            )
        elif self.writing == "packed":
            q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        elif self.writing == "by head":  # as in LeViT and TinyViT: each head's own query, key and value
            q, k, v = (y.transpose(1, 2) for y in self.qkv(x).view(b, t, H, -1).split([self.dim] * 3, dim=3))
        else:
            q, k, v = (y.unflatten(2, (H, c // H)).transpose(1, 2) for y in self.qkv(x).split(c, dim=2))
        if self.writing == "rotated":
            q, k = (y * 0.8 + torch.cat([-y[..., self.dim // 2 :], y[..., : self.dim // 2]], -1) * 0.6 for y in (q, k))
            h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = (q @ k.transpose(-2, -1)) / math.sqrt(self.dim)
            if self.writing == "biased":
                scores = scores + self.table[:t].T[None, :, None]
            h = self.dropout(F.softmax(scores.masked_fill(self.mask[:t, :t], -math.inf), dim=-1)) @ v
        return self.proj(h.transpose(1, 2).contiguous().view(b, t, c))


class Language(nn.Module):
    """Tokens → block of attention and neurons → next token; tied weights."""

    def __init__(self, writing: str) -> None:
        super().__init__()
        self.tokens, self.norms = nn.Embedding(11, D), nn.ModuleList(nn.LayerNorm(D) for _ in range(2))
        self.attn = Attention(writing)
        self.mlp = nn.Sequential(nn.Linear(D, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, D))
        self.head = nn.Linear(D, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        x = x + self.attn(self.norms[0](x))
        return self.head((x + self.mlp(self.norms[1](x)))[:, -1])


def tokens(n: int = 4, t: int = 6, seed: int = 0) -> Tensor:
    return torch.randint(0, 11, (n, t), generator=torch.Generator().manual_seed(seed))


def half_closed(model: nn.Module, example: Any, where: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """A gated copy with means of both signs and the first unit of each gate closed, and these means."""
    gated = insert_gates(model, example, where=where).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for gate in named_gates(gated).values():
            gate.mu.copy_(torch.rand(gate.features, generator=generator) + 0.5).mul_(
                torch.tensor([1.0, -1.0]).repeat(9)[: gate.features]
            )
            gate.close(torch.arange(gate.features // 3))
    return gated, {name: gate.mean().detach().double() for name, gate in named_gates(gated).items()}


def by_hand(model: nn.Module, columns: dict[str, Tensor]) -> nn.Module:
    """`model` in float64 with the columns of the named layers multiplied."""
    model = copy.deepcopy(model).double().eval()
    for name, scale in columns.items():
        layer = model.get_submodule(name)
        inputs = layer.weight.data.movedim(0 if isinstance(layer, Product) else 1, -1)
        inputs *= scale.repeat_interleave(inputs.shape[-1] // len(scale))
    return model


@pytest.mark.parametrize("writing", WRITINGS)
def test_heads_and_neurons_leave_and_outputs_stay(writing: str) -> None:
    torch.manual_seed(0)
    model = Language(writing)
    gated, means = half_closed(model, tokens(), ["mlp", "heads"])
    heads, neurons = means.values()
    assert [len(heads), len(neurons)] == [H, 16]
    projection = "attn.attention.out_proj" if writing == "torch" else "attn.proj"
    truth = by_hand(model, {projection: heads, "mlp.3": neurons})
    small = compress(gated, tokens())
    left = sum(p.numel() for p in small.parameters() if p.ndim > 1)
    assert left == (
        11 * D + (H - 1) * 4 * D * (D // H) + 2 * D * (16 - 16 // 3) + (9 * (H - 1) if writing == "biased" else 0)
    )
    for t in (6, 4):  # other lengths and numbers of rows than those cut on
        other = tokens(3, t, seed=2)
        wanted = truth(other)
        for net in (gated.double(), small.double()):
            assert float((net(other) - wanted).detach().abs().max()) <= 1e-6 * float(wanted.detach().abs().max())


class Gathering(Attention):
    """Its biases are gathered once for evaluation and let go in train(), as LeViT, TinyViT and EfficientViT have it."""

    def __init__(self, writing: str) -> None:
        super().__init__(writing)
        self.kept: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> Gathering:
        if mode:
            self.kept = {}
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = (layer(x).view(b, t, self.heads, self.dim).transpose(1, 2) for layer in (self.q, self.k, self.v))
        table = self.table.T[None, :, None]
        biases = table if self.training else self.kept.setdefault("table", table)
        h = (q @ k.mT + biases[..., :t]).softmax(-1) @ v
        return self.proj(h.transpose(1, 2).reshape(b, t, c))


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("where", [["mlp"], ["mlp", "heads"]])
def test_what_a_model_keeps_for_evaluation_does_not_hold_a_cut_back(where: list[str], used: bool) -> None:
    """Everything stayed where nothing was kept yet, and heads were refused."""
    torch.manual_seed(0)
    model = Language("biased")
    model.attn = Gathering("biased")
    gated, means = half_closed(model, tokens(), where)
    if used:
        gated(tokens())
    small = compress(gated, tokens())
    assert small.attn.table.shape == (9, H - ("heads" in where))
    assert small.mlp[0].weight.shape == (16 - 16 // 3, D)
    truth = by_hand(model, dict(zip(("mlp.3", "attn.proj"), reversed(means.values()), strict=False)))
    for net in (small, small.train().eval()):
        torch.testing.assert_close(net(tokens(3, 4)).double(), truth(tokens(3, 4)), rtol=1e-4, atol=1e-5)


def test_metrics_count_what_is_left() -> None:
    torch.manual_seed(0)
    gated, _ = half_closed(Language("torch"), tokens(), ["mlp", "heads"])
    size = metrics.compression(gated, example_input=tokens())
    assert size.kept == (H - 1, 16 - 16 // 3)
    assert size.weights == 11 * D + 4 * D * (H - 1) * D // H + 2 * D * size.kept[1]
    per_token = 4 * D * (H - 1) * D // H + 2 * D * size.kept[1]
    assert size.flop == 6 * per_token + 2 * 36 * (H - 1) * D // H + 11 * D  # scores and their product with the values


@pytest.mark.parametrize("batch_first", [True, False])
def test_torchs_own_layers_take_gates_in_every_mode_and_argument(batch_first: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(D, H, 16, batch_first=batch_first, norm_first=batch_first)
    x = torch.randn(5, 4, D)
    gated, means = half_closed(layer, x, ("heads", "mlp"))
    assert list(means) == ["self_attn.gate", "linear1_gate"]
    truth = by_hand(layer, {"self_attn.out_proj": means["self_attn.gate"], "linear2": means["linear1_gate"]})
    small = compress(gated, x)
    n, t = (5, 4) if batch_first else (4, 5)
    causal, padding = torch.ones(t, t).triu(1).bool(), torch.zeros(n, t, dtype=torch.bool)
    padding[0, -1] = True
    by_head = torch.zeros(n * H, t, t).masked_fill(torch.rand(n * H, t, t) < 0.3, -9.0)
    for options in ({}, {"src_mask": causal}, {"src_mask": by_head.double(), "src_key_padding_mask": padding.double()}):
        with torch.no_grad():  # where torch would take its fused path
            wanted = truth(x.double(), **options)
            for net in (gated.double(), small.double()):
                assert torch.allclose(net(x.double(), **options), wanted, rtol=1e-5, atol=1e-6)
    own = insert_gates(layer, x, where="heads").self_attn
    query, memory = x[:, :2], torch.randn(5, 4, D)
    given = (query, memory, memory) if batch_first else (x, x, x)
    for average in (True, False):
        for a, b in zip(layer.eval().self_attn(*given, average_attn_weights=average),
                        own.eval()(*given, average_attn_weights=average), strict=True):  # fmt: skip
            assert torch.allclose(a, b * (1 if a.ndim == b.ndim else 0), atol=1e-6)


def test_where_names_places_axes_and_prices() -> None:
    torch.manual_seed(0)
    model = Language("rotated")
    rules = {"mlp.*": {"multiplier": 2.0, "threshold": 3.0}, "attn": "heads", "tokens": {"axis": -1}}
    gates = named_gates(insert_gates(model, tokens(), where=rules))
    found = {name: (gate.features, gate.axis, gate.multiplier, gate.threshold) for name, gate in gates.items()}
    assert found == {
        "attn_gate": (H, 1, 6.0 * D / H, 1.0),  # one per head: positions times the head's width share it
        "mlp_0_gate": (16, -1, 2.0, 3.0),
        "tokens_gate": (D, -1, 6.0, 1.0),
    }
    assert list(named_gates(insert_gates(model, tokens(), where="*lp"))) == ["mlp_0_gate"]
    convolutional = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 2)
    )
    x = torch.randn(2, 2, 3, 3)
    for where, features in (("channels", [4]), ("mlp", [5]), ("0", [4]), ({"1": {"axis": 3}}, [3])):
        gated = insert_gates(convolutional, x, where=where)
        assert isinstance(gated, nn.Sequential)
        assert [gate.features for gate in named_gates(gated).values()] == features
        assert torch.allclose(gated.eval()(x), convolutional(x))
    recurrent = nn.Sequential(nn.GRU(D, 7, batch_first=True))
    (gate,) = named_gates(insert_gates(recurrent, torch.randn(2, 5, D), where={"0": {"axis": -1}})).values()
    assert (gate.features, gate.multiplier) == (7, 5.0)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("heads", "where: got heads, expected something that this model has: 1 .mlp."),
        ({"0": "head"}, "where: got '0': 'head', expected one of mlp, channels, heads"),
        ({"0": {"axes": 1}}, "where.options.: got axes, expected of multiplier, threshold, axis"),
        ([3], "expected names of modules"),
        (3, "where: got 3, expected names of modules"),
        ([], "where: got .., expected names of modules"),
        ({"mlp": {"axis": "x"}}, "where.axis.: got 'x', expected an axis"),
        ({"mlp": {"axis": 1.5}}, "where.axis.: got 1.5, expected an axis"),
        ({"mlp": {"mean": "x"}}, "where.mean.: got str .*Remedy: pass one finite number"),
        ({"mlp": {"threshold": "x"}}, "where.threshold.: got str"),
    ],
)
def test_where_is_refused_in_a_sentence(where: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        insert_gates(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), torch.randn(2, 2), where=where)


class Mixed(nn.Module):
    """Attention whose heads are mixed before they are heads."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.norm, self.proj = nn.Linear(D, 3 * D), nn.LayerNorm(3 * D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.norm(self.qkv(x)).view(len(x), -1, 3, H, D // H).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_heads_that_cannot_be_told_apart_are_refused() -> None:
    torch.manual_seed(0)
    gated, _ = half_closed(Mixed(), torch.randn(2, 5, D), "heads")
    with pytest.raises(InvalidInputError, match="closed heads at attention_gate, in attention .* does not show which"):
        compress(gated, torch.randn(2, 5, D))


def test_states_with_gates_of_former_names_load() -> None:
    class Former(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.act, self.out = nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2)

        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            return self.out(self.act(self.layer(x))) * scale

    gated = insert_gates(Former(), torch.randn(2, 3))
    names = {"layer_gate": "act.gate", "act.weight": "act.activation.weight"}
    state = {
        k: torch.rand(v.shape) < 0.5 if v.dtype == torch.bool else torch.rand(v.shape)
        for k, v in gated.state_dict().items()
    }
    former = {
        next((k.replace(new, old) for new, old in names.items() if k.startswith(new)), k): v for k, v in state.items()
    }
    assert "act.gate.mu" in former
    assert "act.activation.weight" in former
    gated.load_state_dict(former)
    assert all(torch.equal(state[name], value) for name, value in gated.state_dict().items())
    assert isinstance(gated.layer_gate, Gate)


def test_tokens_from_arrays_to_an_exported_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).integers(0, 11, (80, 5))
    data = vt.datasets.from_arrays(x[:60], x[:60, -1], x[60:], x[60:, -1], classes=11)  # float32, as data sets are
    model = Language("packed")
    where = ["mlp", "heads"]
    for example in (torch.as_tensor(x[:4]), torch.as_tensor(data.x_train[:4])):
        gated = insert_gates(model, example, where=where)
        run = vt.train(gated, data, gamma=1e-3, epochs=1, batch_size=20, seed=0, device="cpu")
        run.save(tmp_path / "run")
        back = vt.load(tmp_path / "run", insert_gates(model, example, where=where)).net
        small = compress(back, example)
        wanted = gated(torch.as_tensor(x[60:]))
        for given in (torch.as_tensor(x[60:]), torch.as_tensor(data.x_test)):
            assert torch.allclose(small(given), wanted, rtol=1e-4, atol=1e-5)
        wrong = 100 * float((wanted.argmax(1).numpy() != x[60:, -1]).mean())
        assert metrics.error(small, x[60:], x[60:, -1]) == pytest.approx(wrong)
        assert metrics.error(model, data.x_test, data.y_test) == metrics.error(model, x[60:], data.y_test)
        assert vt.compression.export_onnx(small, example, tmp_path / "small.onnx").max_deviation < 1e-4


@pytest.mark.filterwarnings("ignore:.*nested.tensor:UserWarning")
def test_fused_attention_that_computes_something_else_is_named() -> None:
    torch.manual_seed(0)
    model = nn.Transformer(D, H, 1, 1, 8, batch_first=True)
    x, y = torch.randn(2, 5, D), torch.randn(2, 3, D)

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Transformer(D, 2, 1, 1, 8, batch_first=True)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            padding = torch.arange(x.shape[1]).expand(x.shape[:2]) > 2
            return self.model(x, y, src_key_padding_mask=padding)

    assert len(named_gates(insert_gates(model, (x, y), where="heads"))) == 3
    with pytest.raises(InvalidInputError, match=r"in evaluation mode \(by torch's fused attention"):
        insert_gates(Padded(), (x, y), where="heads")


@dataclass
class Outputs:
    first: Tensor
    second: Tensor


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor, again: bool = False) -> Outputs:
        def middle(x: Tensor) -> Tensor:
            return F.silu(self.a(x))

        return Outputs(self.b(checkpoint(middle, x, use_reentrant=False) if again else middle(x)), x)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_dataclasses_scripts_and_second_passes() -> None:
    torch.manual_seed(0)
    model, x = Checkpointed(), torch.randn(4, 3)
    gated, means = half_closed(model, x, None)
    small = compress(gated, x)
    assert small.a.out_features == 4
    assert torch.allclose(small(x).first, by_hand(model, {"b": means["a_gate"]})(x.double()).first.float(), atol=1e-6)
    with pytest.raises(InvalidInputError, match="got activation checkpointing around 'a', whose second pass"):
        gated(x, again=True).first.sum().backward()
    with pytest.raises(InvalidInputError, match="model: got a scripted model"):
        insert_gates(torch.jit.script(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))), x)
    with pytest.raises(InvalidInputError, match="example_input: got an input the model does not take"):
        insert_gates(Language("packed"), tokens() + 20)
