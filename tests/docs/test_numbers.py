"""Tables of README and docs/ say what the committed CSV files say, digit by digit."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def recorded(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / name)


RESULTS, README, OWN, GPU = map(text, ("docs/results.md", "README.md", "docs/howto/own_model.md", "docs/howto/gpu.md"))
RECIPES = text("docs/recipes.md")


def spread(rows: pd.Series, digits: int) -> str:
    return f"{rows.mean():.{digits}f} ± {rows.std():.{digits}f}"


@pytest.mark.parametrize("table", [1, 2])
def test_lenets(table: int) -> None:
    rows = recorded(f"figures/table{table}.csv").query("mode == 'full'")
    flop = f"{spread(rows['flop'].iloc[::2] / 1e6, 4)} | " if table == 2 else ""
    for stage, part in rows.groupby("stage"):
        line = f"| {spread(part['r_w'], 2)} | {spread(part['r_n'], 2)} | {flop}{spread(part['error_last'], 2)} |"
        assert line in RESULTS, stage
        if stage == "finetuned":
            assert f"**{part['r_w'].mean():.2f}** | " in README
            assert f"**{part['r_n'].mean():.2f}** | " in README
            assert f"**{part['error_last'].mean():.2f}** |" in README


@pytest.mark.parametrize("row", [row for table in (3, 4) for row in recorded(f"figures/table{table}.csv").itertuples()],
                         ids=lambda row: f"{row.row} {row.stage}")  # fmt: skip
def test_vggs(row: object) -> None:
    sizes = [f"{row.r_w:.2f}", f"{row.r_n:.2f}", f"{row.flop / 1e6:.1f}"]
    lines = [line.replace("*", "") for line in RESULTS.splitlines()]
    assert any(line.endswith(f"| {' | '.join(sizes)} | {row.error_last:.2f} |") for line in lines)
    if row.stage == "finetuned":
        (line,) = [line for line in README.splitlines() if f"**{sizes[0]}** |" in line]
        assert all(f"**{number}** |" in line for number in [*sizes, f"{row.error_last:.2f}"])


@pytest.mark.parametrize("table", [1, 2])
def test_the_compared_methods(table: int) -> None:
    rows = recorded(f"figures/methods_table{table}_reduced.csv").query("phase == 'test' and stage == 'finetuned'")
    whole = 25 * 576 * 20 + 25 * 64 * 20 * 50 + 800 * 500 + 500 * 10  # multiply-adds of LeNet-5-Caffe
    for method, part in rows.groupby("method"):
        flop = f"{100 * part['flop'].mean() / whole:.0f} | " if table == 2 else ""
        assert f"{method} | {spread(part['r_w'], 1)} | {flop}{spread(part['error_last'], 2)} |" in RECIPES, method


def test_the_trained_objective() -> None:
    table = recorded("figures/check_trained.csv").set_index(["network", "layer", "polished"])
    for network, layer in {key[:2] for key in table.index}:
        before, after = table.loc[(network, layer, False)], table.loc[(network, layer, True)]
        least = " → ".join(f"{at.least:.2f} ± {at.least_stderr:.2f}" for at in (before, after))
        counts = f"{layer} | {before.kept} → {after.kept} | {after.above_one} of {before.kept}"
        assert f"{counts} | {least} | {before.verdict} → {after.verdict} |" in RESULTS, network


def test_figure_2() -> None:
    for name in ("figure2_panels", "figure2"):
        rows = recorded(f"figures/{name}.csv").query("method == 'gaussian' and tau == 0.01 and gamma in (0.0, 0.0001)")
        for _, part in rows.groupby("gated"):
            nats = part.groupby("epoch")["nats"].mean()
            assert f"| {nats.iloc[0]:.0f} | {nats.max():.0f}, {nats.idxmax()} | {nats.iloc[-1]:.0f} |" in RESULTS, name


def test_small_tables() -> None:
    for row in recorded("benchmarks/results/transformers.csv").itertuples():
        numbers = (row.perplexity_before, row.perplexity_cut, row.perplexity_after)
        if row.task == "vit":
            numbers = (row.error_before, row.error_cut, row.error_after)
        digits = 1 if row.task == "vit" else 2
        assert f"| {' | '.join(f'{number:.{digits}f}' for number in numbers)} | {row.heads} | {row.neurons} |" in OWN
    for _, pair in recorded("benchmarks/results/gate_decay.csv").groupby(["price", "decay"]):
        for column, digits in (("r_w", 2), ("error", 2)):
            assert f"| {', '.join(f'{number:.{digits}f}' for number in sorted(pair[column]))} |" in GPU


def test_microseconds_for_one_image() -> None:
    one = recorded("benchmarks/results/latency.csv").query("batch == 1").set_index("network")
    large, small = one.loc["LeNet-5-Caffe"], one.loc["LeNet-300-100"]
    said = " ".join(OWN.split())
    assert (
        f"LeNet-5 takes {large.small_us:.0f} µs for one image in torch, {large.small_onnx_us:.0f} in onnxruntime"
        in said
    )
    assert f"and {large.small_c_us:.0f} as a C file" in said
    assert f"LeNet-300-100 {small.small_us:.0f}, {small.small_onnx_us:.0f} and {small.small_c_us:.1f} (" in said
