"""Architectures that nobody here designed, through gates → training → compress → metrics → export → check.

    pip install --no-deps pytorchcv==0.0.74        # networks by others; they need nothing but torch
    python benchmarks/zoo.py [--only NAME ...] [--again] [--seconds 120] [--out FILE]

Each network runs in a process of its own, with a limit of processor time and of memory, and makes one row of
results/zoo.csv, written after each step; what is there already is not run again without --again.
`benchmarks/supported.py` makes docs/supported.md of it. Cells: "works", "refused: <our sentence>", "fails: <error>",
"wrong: <what>", "too slow".

- gates: `insert_gates`; with every gate at 1 the outputs are the original's, in evaluation and, with the same random
  state, in training, on fresh inputs, and BatchNorm's statistics move alike.
- trained: two epochs of `train` on random labels.
- compress: half of each gate closed, once those of least signal after training, once at random and with random means of
  both signs; the compressed network's outputs are the gated one's on fresh inputs, in float64, to 1e-5 of their size.
  `closed_percent` is the share of parameters whose gradient is exactly 0 because of closed gates (and not without
  them), by autograd; `left_percent` what the compressed network has of the original's parameters.
- metrics: parameters and multiply-adds by ours and by torch's own counter agree. export: an ONNX file that gives the
  same outputs.
- check: `check_network` of every gate (the first, middle and last of more than 6), half of each closed at random, on 8
  examples ends with a verdict; `checked` says by which kinds of bound.
- torch_pruning: that tool at ratio 0.5, which keeps no outputs: the share of parameters left, or its error.
"""

from __future__ import annotations

import argparse
import importlib
import math
import multiprocessing
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

RESULTS = Path(__file__).parent / "results" / "zoo.csv"
STEPS = ("gates", "trained", "compress", "metrics", "export", "torch_pruning", "check")
MEMORY = 12 * 2**30  # bytes

# ---------------------------------------------------------------------------------------------------------------------
# Networks in the ways in which tutorials and papers' code write them


class TextCNN(nn.Module):
    """Kim (2014): convolutions of several widths over word vectors, largest response of each."""

    def __init__(self, words: int = 200, width: int = 24, channels: int = 16, classes: int = 3) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.convs = nn.ModuleList([nn.Conv1d(width, channels, k) for k in (3, 4, 5)])
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(3 * channels, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens.long()).transpose(1, 2)
        return self.head(self.drop(torch.cat([F.relu(conv(x)).amax(dim=2) for conv in self.convs], 1)))


class BagOfWords(nn.Module):
    def __init__(self, words: int = 200, width: int = 32, classes: int = 4) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(words, width)
        self.fc1, self.fc2 = nn.Linear(width, 24), nn.Linear(24, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(self.embed(tokens.long()))))


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase], inputs: int = 6, width: int = 16, classes: int = 3) -> None:
        super().__init__()
        self.rnn = cell(inputs, width, batch_first=True)
        self.fc, self.head = nn.Linear(width, 12), nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.head(torch.relu(self.fc(out[:, -1])))


class Encoder(nn.Module):
    """A classifier of token sequences on torch's own encoder layers."""

    def __init__(self, words: int = 50, width: int = 16, classes: int = 3) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, 4, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embed(tokens.long())
        if mask is not None:
            x = x * mask[..., None]
        return self.head(self.encoder(x).mean(1))


class Seq2Seq(nn.Module):
    """torch's own encoder and decoder, on a sequence and its reverse."""

    def __init__(self, inputs: int = 8, width: int = 16, classes: int = 3) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.transformer = nn.Transformer(width, 2, 1, 1, 24, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.embed(x))
        return self.head(self.transformer(h, h.flip(1)).mean(1))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.proj(x.transpose(1, 2).reshape(n, t, d))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.ln1, self.ln2, self.attn, self.causal = nn.LayerNorm(width), nn.LayerNorm(width), None, causal
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x), self.causal)
        return x + self.mlp(self.ln2(x))


class ViT(nn.Module):
    def __init__(self, size: int = 32, patch: int = 8, width: int = 24, classes: int = 5) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + (size // patch) ** 2, width))
        self.blocks = nn.Sequential(*[Block(width, 4, False) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class TinyGPT(nn.Module):
    """The last position's next token; the head shares the embedding's weights."""

    def __init__(self, words: int = 40, width: int = 24, length: int = 12) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList([Block(width, 3, True) for _ in range(2)])
        self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens.long()) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x)[:, -1])


class TabularResNet(nn.Module):
    """Gorishniy et al. (2021)."""

    def __init__(self, inputs: int = 12, width: int = 24, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList([
            nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, 48), nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, width))
            for _ in range(2)
        ])  # fmt: skip
        self.head = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Mixer(nn.Module):
    """MLP-Mixer (Tolstikhin et al. 2021)."""

    def __init__(self, tokens: int = 16, width: int = 20, classes: int = 4) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.over_tokens = nn.Sequential(nn.Linear(tokens, 32), nn.GELU(), nn.Linear(32, tokens))
        self.over_channels = nn.Sequential(nn.Linear(width, 40), nn.GELU(), nn.Linear(40, width))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.over_tokens(self.ln1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.over_channels(self.ln2(x))
        return self.head(x.mean(1))


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dw, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.pw1, self.act, self.pw2 = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(0.1 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dw(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.pw2(self.act(self.pw1(y)))).permute(0, 3, 1, 2)


class GroupNormNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 16, 3, 2, 1, groups=4),
            nn.GroupNorm(4, 16), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
        )  # fmt: skip


class WithSwitches(nn.Module):
    """Branches on an optional argument and on the mode, a functional BatchNorm, stochastic depth."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(10, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.register_buffer("mean", torch.zeros(16))
        self.register_buffer("var", torch.ones(16))

    def forward(self, x: Tensor, temperature: float | None = None) -> Tensor:
        h = F.relu(F.batch_norm(self.a(x), self.mean, self.var, training=self.training))
        branch = F.relu(self.b(h))
        if self.training:
            branch = branch * (torch.rand(len(x), 1, device=x.device) > 0.2) / 0.8
        out = self.c(h + branch)
        return out if temperature is None else out / temperature


class Decoder(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Linear(8, 4 * 4 * 16), nn.ReLU(), nn.Unflatten(1, (16, 4, 4)), nn.ConvTranspose2d(16, 8, 4, 2, 1),
            nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Flatten(), nn.Linear(256, 3),
        )  # fmt: skip


class WeightNormed(nn.Sequential):
    def __init__(self) -> None:
        normed = nn.utils.parametrizations.weight_norm
        super().__init__(normed(nn.Linear(10, 20)), nn.Tanh(), normed(nn.Linear(20, 16)), nn.ReLU(), nn.Linear(16, 3))


class Siamese(nn.Module):
    """One tower for both halves of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 10), nn.ReLU())
        self.head = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.tower(x[:, :8]) - self.tower(x[:, 8:])).abs())


class UNetLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.down2 = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.mix = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        return self.head(self.mix(torch.cat([first, F.relu(self.up(self.down2(first)))], 1)))


class Shuffle(nn.Module):
    """Grouped convolutions with a channel shuffle between, and pixel shuffle at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 16, 1, groups=2), nn.Conv2d(16, 16, 3, padding=1, groups=2)
        self.up, self.head = nn.PixelShuffle(2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        n, c, *size = h.shape
        h = h.reshape(n, 2, c // 2, *size).transpose(1, 2).reshape(n, c, *size)
        return self.head(F.relu(self.up(F.relu(self.b(h)))).mean((2, 3)))


# ---------------------------------------------------------------------------------------------------------------------


def images(size: int, channels: int = 3) -> Callable[[int], Tensor]:
    return lambda n: torch.rand(n, channels, size, size)


def numbers(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randn(n, *shape)


def tokens(length: int, words: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randint(words, (n, length))


Entry = tuple[Callable[[], nn.Module], Callable[[int], Tensor]]


def _cv(module: str, name: str, size: int = 64, **options: Any) -> Entry:
    """A network of pytorchcv; on images below 224 pixels its last pooling averages whatever is left."""

    def build() -> nn.Module:
        builder = getattr(importlib.import_module(f"pytorchcv.models.{module}"), name)
        made: nn.Module = builder(**({"num_classes": 10} | options))
        if size == 64 and hasattr(made.features, "final_pool"):
            made.features.final_pool = nn.AdaptiveAvgPool2d(1)
        return made

    return build, images(size)


ZOO: dict[str, Entry] = {
    "TextCNN": (TextCNN, tokens(12, 200)),
    "bag of words": (BagOfWords, tokens(9, 200)),
    "LSTM": (lambda: Recurrent(nn.LSTM), numbers(7, 6)),
    "GRU": (lambda: Recurrent(nn.GRU), numbers(7, 6)),
    "nn.Transformer": (Seq2Seq, numbers(6, 8)),
    "nn.TransformerEncoder": (Encoder, tokens(8, 50)),
    "ViT": (ViT, images(32)),
    "GPT, tied head": (TinyGPT, tokens(12, 40)),
    "tabular ResNet": (TabularResNet, numbers(12)),
    "MLP-Mixer": (Mixer, images(32)),
    "ConvNeXt": (lambda: nn.Sequential(nn.Conv2d(3, 12, 4, 4), ConvNeXtBlock(12), ConvNeXtBlock(12),
                                       nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)), images(32)),
    "GroupNorm": (GroupNormNet, images(16)),
    "switches": (WithSwitches, numbers(10)),
    "decoder": (Decoder, numbers(8)),
    "weight norm": (WeightNormed, numbers(10)),
    "siamese": (Siamese, numbers(16)),
    "U-Net": (UNetLike, images(16)),
    "shuffle": (Shuffle, images(8, 4)),
    "NIN": _cv("nin_cifar", "nin_cifar10", 32),
    "ResNet-20": _cv("resnet_cifar", "resnet20_cifar10", 32),
    "PreResNet-20": _cv("preresnet_cifar", "preresnet20_cifar10", 32),
    "ResNeXt-20": _cv("resnext_cifar", "resnext20_16x4d_cifar10", 32),
    "SE-ResNet-20": _cv("seresnet_cifar", "seresnet20_cifar10", 32),
    "SE-PreResNet-20": _cv("sepreresnet_cifar", "sepreresnet20_cifar10", 32),
    "DIA-ResNet-20": _cv("diaresnet_cifar", "diaresnet20_cifar10", 32),
    "DenseNet-40": _cv("densenet_cifar", "densenet40_k12_bc_cifar10", 32),
    "X-DenseNet-40": _cv("xdensenet_cifar", "xdensenet40_2_k24_bc_cifar10", 32),
    "RiR": _cv("rir_cifar", "rir_cifar10", 32),
    "RoR-3-56": _cv("ror_cifar", "ror3_56_cifar10", 32),
    "ResDropNet-20": _cv("resdropresnet_cifar", "resdropresnet20_cifar10", 32),
    "ShakeShake-20": _cv("shakeshakeresnet_cifar", "shakeshakeresnet20_2x16d_cifar10", 32),
    "AlexNet": _cv("alexnet", "alexnet", 224),
    "SqueezeNet": _cv("squeezenet", "squeezenet_v1_1", 224),
    "SqueezeNext": _cv("squeezenext", "sqnxt23_w1"),
    "ResNet-10": _cv("resnet", "resnet10"),
    "MobileNet 1/4": _cv("mobilenet", "mobilenet_wd4"),
    "MobileNetV2 1/4": _cv("mobilenetv2", "mobilenetv2_wd4"),
    "MobileNetV3 small": _cv("mobilenetv3", "mobilenetv3_small_w7d20"),
    "ShuffleNet 1/4": _cv("shufflenet", "shufflenet_g1_wd4"),
    "ShuffleNetV2 1/2": _cv("shufflenetv2", "shufflenetv2_wd2"),
    "MNASNet small": _cv("mnasnet", "mnasnet_small"),
    "GhostNet": _cv("ghostnet", "ghostnet"),
    "EfficientNet-B0": _cv("efficientnet", "efficientnet_b0"),
    "RegNetX-002": _cv("regnet", "regnetx002"),
    "FBNet": _cv("fbnet", "fbnet_cb"),
    "HarDNet-39": _cv("hardnet", "hardnet39ds"),
    "IGCV3 1/4": _cv("igcv3", "igcv3_wd4"),
    "PeleeNet": _cv("peleenet", "peleenet"),
    "VoVNet-27": _cv("vovnet", "vovnet27s"),
    "DarkNet tiny": _cv("darknet", "darknet_tiny", 224),
    "MixNet-S": _cv("mixnet", "mixnet_s"),
    "PyramidNet-110": _cv("pyramidnet_cifar", "pyramidnet110_a48_cifar10", 32),
}  # fmt: skip


def deviation(one: Any, other: Any) -> float:
    """Largest difference of two outputs relative to their own size."""
    one, other = (torch.cat([part.flatten().double() for part in _tensors(x)]) for x in (one, other))
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-300))


def _tensors(x: Any) -> list[Tensor]:
    if isinstance(x, Tensor):
        return [x]
    parts = x.values() if isinstance(x, dict) else x
    return [tensor for part in parts for tensor in _tensors(part)]


def examine(name: str, after_step: Callable[[dict[str, Any]], None], only_check: bool = False) -> None:
    """One row: every step of one network; handed over after each, so that a slow one hides none before it."""
    import vibtheory as vt
    from vibtheory.errors import VibTheoryError

    torch.manual_seed(7)
    build, draw = ZOO[name]
    net = build().eval()
    n = 8 if draw(1).numel() > 1000 else 32
    x, fresh = draw(n), draw(4)
    row: dict[str, Any] = {"name": name, "parameters": sum(p.numel() for p in net.parameters())}
    gated = small = None

    def step(what: str, action: Callable[[], str]) -> None:
        started = time.process_time()
        try:
            row[what] = action()
        except VibTheoryError as error:
            row[what] = f"refused: {error}"
        except Exception as error:
            row[what] = f"fails: {type(error).__name__}: {str(error)[:150]}"
        row[f"{what}_s"] = round(time.process_time() - started, 1)
        after_step(row)

    def gates() -> str:
        nonlocal gated
        gated = vt.insert_gates(net, x[:2])
        for gate in vt.gates.named_gates(gated).values():
            gate.log_var.data.fill_(-200.0)  # no noise: what differs is the network
        row["gates_inserted"] = len(vt.gates.named_gates(gated))
        with torch.no_grad():
            off = deviation(gated.eval()(fresh), net(fresh))
            if off > 1e-5:
                return f"wrong: outputs off by {off:.2g}"
            own, theirs = gated.train(), build()
            theirs.load_state_dict(net.state_dict())
            theirs.train()
            for one in vt.gates.named_gates(own).values():
                one.eval()  # it would draw random numbers of its own
            outputs = []
            for model in (own, theirs):
                torch.manual_seed(11)
                outputs.append(model(x))
            off = deviation(*outputs)
            statistics = dict(theirs.named_buffers())
            moved = [k for k, v in own.named_buffers() if k in statistics and v.is_floating_point()
                     and not torch.allclose(v, statistics[k], rtol=1e-4, atol=1e-6)]  # fmt: skip
            own.eval()
        for gate in vt.gates.named_gates(gated).values():
            gate.log_var.data.fill_(-9.0)
        if off > 1e-4:
            return f"wrong: outputs in training off by {off:.2g}"
        return f"wrong: statistics differ: {moved[:3]}" if moved else "works"

    def trained() -> str:
        classes = net(x[:2]).shape[1]
        y = torch.arange(n) % classes
        data = vt.datasets.from_arrays(x.numpy(), y.numpy(), fresh.numpy(), y[:4].numpy(), classes=classes)
        run = vt.train(gated, data, epochs=2, gamma=1e-5, batch_size=max(4, n // 4), pretrain_epochs=0, device="cpu")
        return "works" if math.isfinite(run.rows[-1]["cross_entropy"]) else "wrong: loss not finite"

    def compress() -> str:
        nonlocal small
        generator, worst = torch.Generator().manual_seed(5), 0.0
        for kind in ("least signal", "random"):
            for gate in vt.gates.named_gates(gated).values():
                d = gate.features
                order = torch.argsort(gate.alpha.detach())
                if kind == "random":
                    sign = 2 * torch.randint(0, 2, (d,), generator=generator) - 1
                    gate.mu.data = sign * (0.5 + torch.rand(d, generator=generator))
                    order = torch.randperm(d, generator=generator)
                gate.log_var.data.fill_(-9.0)
                gate.mu.data[gate.mu.data.abs() < 0.1] = 0.5
                gate.mu.data[order[: d // 2]] = 0.0
            gated.eval()
            small = vt.compress(gated, x[:2])
            row["left_percent"] = round(100 * sum(p.numel() for p in small.parameters()) / row["parameters"], 1)
            wide = fresh.double() if fresh.is_floating_point() else fresh
            with torch.no_grad():
                worst = max(worst, deviation(small.double()(wide), gated.double()(wide)))
            small.float(), gated.float()
        row["deviation"], row["stayed"] = worst, "; ".join(sorted({w.partition(": ")[2] for w in
                                                                   small.cut_report.stayed.values()}))  # fmt: skip
        row["closed_percent"] = round(100 * silenced(gated, fresh) / row["parameters"], 1)
        return "works" if worst < 1e-5 else f"wrong: outputs off by {worst:.2g}"

    def metrics() -> str:
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        found = vt.metrics.compression(gated, example_input=x[:1])
        counted = []
        for model in (net, small):
            # what stands in fused kernels torch does not count
            plain = torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH)
            with torch.no_grad(), plain[0], plain[1], FlopCounterMode(display=False) as counter:
                model(x[:1])
            counted.append(counter.get_total_flops() / 2)
        row["flop"], row["flop_torch"] = found.flop, counted[1]
        off = abs(found.flop - counted[1]) / counted[1]
        return "works" if off < 0.01 else f"wrong: {found.flop} multiply-adds, {counted[1]:.0f} by torch's counter"

    def check() -> str:
        classes, few = net(x[:2]).shape[1], x[:8].numpy()
        y = (torch.arange(8) % classes).numpy()
        data = vt.datasets.from_arrays(few, y, few, y, classes=classes)
        asked = vt.insert_gates(net, x[:2]).eval()
        generator, gates = torch.Generator().manual_seed(5), vt.gates.named_gates(asked)
        for gate in gates.values():
            gate.mu.data = torch.rand(gate.features, generator=generator) + 0.5
            gate.mu.data[torch.randperm(gate.features, generator=generator)[: gate.features // 2]] = 0.0
        names = list(gates)
        layers = names if len(names) <= 6 else [names[k] for k in (0, len(names) // 2, -1)]
        report = vt.check_network(asked, data, gamma=1e-3, layers=layers)
        row["checked"] = " ".join(each.guarantee.kind for each in report)
        return "works" if report.verdict != "violated" else "wrong: violated"

    def export() -> str:
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "net.onnx")
            vt.compression.export_onnx(small, x[:2], file)
            session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
            given = session.get_inputs()[0].name
            out = session.run(None, {given: x[:2].numpy()})[0]
        with torch.no_grad():
            off = deviation(torch.as_tensor(out), small(x[:2]))
        return "works" if off < 1e-3 else f"wrong: off by {off:.2g}"

    def torch_pruning() -> str:
        import torch_pruning as tp

        net, example = build().eval(), x[:2]
        last = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
        tp.pruner.MagnitudePruner(net, example, tp.importance.MagnitudeImportance(), pruning_ratio=0.5,
                                  ignored_layers=[last]).step()  # fmt: skip
        net(example)
        return f"{100 * sum(p.numel() for p in net.parameters()) / row['parameters']:.1f}"

    if only_check:
        step("check", check)
        return
    step("gates", gates)
    if gated is not None:
        for what, action in (("trained", trained), ("compress", compress), ("metrics", metrics)):
            step(what, action)
        if small is not None:
            step("export", export)
        step("torch_pruning", torch_pruning)
        step("check", check)


def silenced(gated: nn.Module, x: Tensor) -> int:
    """How many parameters outside the gates have a gradient of exactly 0, and none where all gates are open."""
    import vibtheory as vt

    zero = []
    means = {gate: gate.mu.data for gate in vt.gates.named_gates(gated).values()}
    own = {id(p) for gate in means for p in gate.parameters()}
    parameters = [p for p in gated.parameters() if id(p) not in own and p.requires_grad]
    for opened in (False, True):
        for gate, mu in means.items():
            gate.mu.data = torch.where(mu == 0, 0.7, mu) if opened else mu
        out = torch.cat([part.flatten() for part in _tensors(gated(x))])
        weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
        found = torch.autograd.grad((out * weights).sum(), parameters, allow_unused=True)
        zero.append([torch.ones_like(p, dtype=torch.bool) if g is None else g == 0
                     for p, g in zip(parameters, found, strict=True)])  # fmt: skip
    for gate, mu in means.items():
        gate.mu.data = mu
    return sum(int((closed & ~always).sum()) for closed, always in zip(*zero, strict=True))


def _child(name: str, connection: Any, seconds: int, only_check: bool) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    examine(name, connection.send, only_check)


def _limited(name: str, seconds: int, only_check: bool) -> dict[str, Any]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "vibtheory.compression", "vibtheory.training"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(name, theirs, seconds, only_check))
    process.start()
    theirs.close()
    row: dict[str, Any] = {"name": name}
    try:
        while True:
            row = ours.recv()
    except EOFError:
        process.join()
        if process.exitcode:
            step = "check" if only_check else next((step for step in STEPS if step not in row), "check")
            slow = process.exitcode == -signal.SIGXCPU
            row[step] = "too slow" if slow else f"fails: the process ended with {process.exitcode}"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", default=list(ZOO))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--only-check", action="store_true", help="that column of rows that are there")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    rows = pd.read_csv(given.out).to_dict("records") if given.out.exists() else []
    table = pd.DataFrame(rows)
    for name in given.only:
        if not given.again and not given.only_check and name in {row["name"] for row in rows}:
            continue
        row = _limited(name, given.seconds, given.only_check)
        if given.only_check:
            row = next((old for old in rows if old["name"] == name), {}) | {"checked": None} | row
        rows = [row if old["name"] == name else old for old in rows]
        rows += [] if any(row is kept for kept in rows) else [row]
        table = pd.DataFrame(rows)
        order = [key for key in ("name", "parameters", "gates_inserted", *STEPS) if key in table]
        table = table[order + [key for key in table if key not in order]]
        given.out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(given.out, index=False)
        print(f"{name:24s}", *(f"{s}: {str(row.get(s, '-'))[:60]:.60s};" for s in STEPS), flush=True)
    for what in STEPS:
        found = (
            table[what].fillna("-").astype(str).str.partition(":")[0].value_counts().to_dict() if what in table else {}
        )
        print(what, found)
    if "left_percent" in table:  # not with --only-check in a new file
        enough = 100 - table["left_percent"] >= table["closed_percent"] / 2
        print(f"{len(table)} rows; at least half of what closed gates weigh is gone in {enough.mean():.0%}")


if __name__ == "__main__":
    main()
