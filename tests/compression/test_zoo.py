"""Twelve networks of benchmarks/zoo.py, in the ways in which others write them: smaller, with the same outputs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vibtheory.compression import compress, metrics
from vibtheory.networks.gates import named_gates
from vibtheory.networks.insertion import insert_gates

ROOT = Path(__file__).parents[2]


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


zoo = _load("zoo")
NAMES = ["TextCNN", "GRU", "nn.TransformerEncoder", "ViT", "GPT, tied head", "tabular ResNet", "MLP-Mixer", "ConvNeXt",
         "switches", "decoder", "siamese", "U-Net"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_half_of_each_gate_closed(name: str) -> None:
    torch.manual_seed(7)
    build, draw = zoo.ZOO[name]
    net, x, fresh = build().eval(), draw(2), draw(4)
    gated = insert_gates(net, x).eval()
    generator = torch.Generator().manual_seed(5)
    for gate in named_gates(gated).values():
        sign = 2 * torch.randint(0, 2, (gate.features,), generator=generator) - 1
        gate.mu.data = sign * (0.5 + torch.rand(gate.features, generator=generator))
        gate.mu.data[torch.randperm(gate.features, generator=generator)[: gate.features // 2]] = 0
    gated.double()
    small = compress(gated, x)
    with torch.no_grad():
        wide = fresh.double() if fresh.is_floating_point() else fresh
        assert zoo.deviation(small(wide), gated(wide)) < 1e-9
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            small(wide[:1])
    if name in NAMES[1::4]:  # it cuts once more
        assert metrics.compression(gated, example_input=wide[:1]).flop == counter.get_total_flops() // 2
    before, after = (sum(p.numel() for p in part.parameters()) for part in (net, small))
    assert before - after >= zoo.silenced(gated, wide) / 2 > 0


def test_the_page_of_what_is_supported_is_current() -> None:
    table = pd.read_csv(ROOT / "benchmarks" / "results" / "zoo.csv")
    assert _load("supported").page(table) == (ROOT / "docs" / "supported.md").read_text(encoding="utf-8")
