"""Heads and neurons of small transformers priced out and cut: a ViT on CIFAR-10, a language model over characters.

    python benchmarks/transformers.py vit        # needs CIFAR-10: a folder in $VIBTHEORY_DATA, or a download
    python benchmarks/transformers.py language   # the characters of this package's source

Each trains a transformer from scratch, then `vt.compress_to` prices its attention heads and neurons to a share of its
weights, cuts and fine-tunes. Rows go to results/transformers.csv; about ten minutes on one core. The networks are
small and stopped early: what is compared is one network before and after, not with the best of its kind. The language
model sees a context of 24 characters and predicts the next; its error is that of the most likely character.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vibtheory as vt

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "transformers.csv"
CONTEXT = 24


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(h.transpose(1, 2).reshape(n, t, d))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, causal)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches of 8×8 pixels, the mean over patches."""

    def __init__(self, width: int = 64, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.patches, self.place = nn.Conv2d(3, width, 8, 8), nn.Parameter(0.02 * torch.randn(16, width))
        self.blocks = nn.Sequential(*(Block(width, heads, causal=False) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.place
        return self.head(self.norm(self.blocks(x)).mean(dim=1))


class Language(nn.Module):
    """The next character from those before it."""

    def __init__(self, characters: int, width: int = 48, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.tokens, self.place = nn.Embedding(characters, width), nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        self.blocks = nn.Sequential(*(Block(width, heads, causal=True) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, characters)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.blocks(self.tokens(tokens.long()) + self.place)  # a data set holds float32
        return self.head(self.norm(x[:, -1]))


def images(seed: int) -> tuple[nn.Module, vt.datasets.Dataset]:
    data = vt.datasets.load("cifar10").subset(16_000, 4000, seed=seed)
    return ViT(), data


def characters(seed: int) -> tuple[nn.Module, vt.datasets.Dataset]:
    files = sorted((HERE.parent / "vibtheory").rglob("*.py"))
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    kinds, tokens = np.unique(list(text), return_inverse=True)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, CONTEXT + 1)
    last = int(0.9 * len(windows))  # the end of the text is the test
    rng = np.random.default_rng(seed)
    train, test = rng.choice(last - CONTEXT, 30_000, replace=False), rng.choice(np.arange(last, len(windows)), 4000)
    x, y = windows[:, :-1], windows[:, -1]
    data = vt.datasets.from_arrays(x[train], y[train], x[test], y[test], classes=len(kinds), name="source")
    return Language(len(kinds)), data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("vit", "language"))
    parser.add_argument("--r-w", type=float, default=60.0, help="percent of the weights that may stay")
    parser.add_argument("--pretrain", type=int, default=15, help="epochs of the dense network")
    parser.add_argument("--epochs", type=int, default=5, help="of each price tried, and of fine-tuning")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument(
        "--head", type=float, default=12.0, help="price of a head, in neurons (it weighs 32 and 24 of them)"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    model, data = (images if options.task == "vit" else characters)(options.seed)
    began = time.process_time()
    common = {"seed": options.seed, "device": "cpu"}
    vt.train(model, data, epochs=options.pretrain, gamma=0.0, batch_size=50, learning_rate=2e-3, schedule="cosine",
             **common)  # fmt: skip
    # Few steps: gates that move fast. A head is priced at less than it weighs: no layer may lose all of them.
    recipe = vt.Recipe(batch_size=50, schedule="cosine", gate_learning_rate=0.02, initial_log_variance=-4.0)
    positions = CONTEXT if options.task == "language" else 16
    where = {"heads": {"multiplier": options.head * positions}, "mlp": {"multiplier": 1.0 * positions}}
    found = vt.compress_to(model, data, r_w=options.r_w, epochs=options.epochs, fine_tune_epochs=options.epochs,
                           trials=options.trials, recipe=recipe, where=where, **common)  # fmt: skip
    print(found)
    gates = vt.gates.named_gates(vt.insert_gates(model, torch.as_tensor(data.x_train[:2]), where=where))
    row = {"task": options.task, "seed": options.seed, **found.row(), "seconds": round(time.process_time() - began)}
    row |= {f"perplexity_{when}": math.exp(row[f"loss_{when}"]) for when in ("before", "cut", "after")}
    for kind in ("heads", "neurons"):
        left = [(k, gate.features) for (name, gate), k in zip(gates.items(), found.size.kept, strict=True)
                if ("attn" in name) == (kind == "heads")]  # fmt: skip
        row[kind] = " ".join(f"{k}/{of}" for k, of in left)
    table = pd.concat([pd.read_csv(RESULTS), pd.DataFrame([row])]) if RESULTS.exists() else pd.DataFrame([row])
    table = table.drop_duplicates(["task", "seed", "limit"], keep="last").sort_values(["task", "seed"])
    table.to_csv(RESULTS, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
