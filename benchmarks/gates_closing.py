"""The README's animation: every gate of LeNet-300-100 while it trains, from all open to the few that stay.

    python benchmarks/gates_closing.py

Trains 40 epochs on 20,000 images of the packaged MNIST (a few minutes on one core) and writes figures/gates_closing.gif
and, for print, the last epoch as figures/gates_closing.png.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm
from PIL import Image
from torch import nn

import vibtheory as vt
from vibtheory.figures.style import save, style
from vibtheory.storage import write_bytes

FIGURES = Path(__file__).resolve().parents[1] / "figures"
EPOCHS, MILLISECONDS, LAST = 40, 150, 2500
LAYERS = {"input": ((28, 28), "784 pixels"), "h1": ((20, 15), "300 units of $h_1$"), "h2": ((10, 10), "100 of $h_2$")}


def snapshot(net: nn.Module) -> dict[str, np.ndarray]:
    """α of each gate by layer; 0 where it is closed."""
    gates = vt.gates.named_gates(net)
    return {name: np.where(gate.keep.numpy(), gate.alpha.detach().numpy(), 0.0) for name, gate in gates.items()}


@style()
def frame(alphas: dict[str, np.ndarray], epoch: int, r_w: float) -> plt.Figure:
    """One epoch: a cell per gate, dark blue where much information passes, white where the gate is closed."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.75), width_ratios=(28, 17, 14))
    shades = plt.get_cmap("cividis_r").with_extremes(under="white", bad="white")
    for panel, (name, (shape, words)) in zip(axes, LAYERS.items(), strict=True):
        alpha = alphas[name].reshape(shape)
        picture = panel.imshow(np.where(alpha > 0, alpha, np.nan), cmap=shades, norm=LogNorm(1, 1e3))
        panel.set(xticks=[], yticks=[], title=f"{int((alpha > 0).sum())} of {words}")
        panel.grid(False)
        for side in panel.spines.values():
            side.set_visible(True)
    figure.colorbar(picture, ax=axes, label=r"$\alpha=\mu^2/\sigma^2$ (white: closed)", extend="max")
    figure.suptitle(f"epoch {epoch}: {r_w:.1f} % of the weights are left", fontsize=11)
    return figure


def main() -> None:
    mpl.use("Agg")
    data = vt.datasets.load("mnist").subset(20_000, 2000, seed=0)
    frames: list[Image.Image] = []
    states: list[tuple[dict[str, np.ndarray], int, float]] = []

    def on_epoch(net: nn.Module, done: int) -> None:
        states.append((snapshot(net), done, vt.metrics.compression(net).r_w))

    torch.manual_seed(0)
    net = vt.networks.lenet_300_100()
    run = vt.train(net, data, gamma=6e-4, epochs=EPOCHS, gate_learning_rate=0.02, seed=0, evaluate_every=EPOCHS,
                   on_epoch=on_epoch, prune_every=1)  # fmt: skip
    for state in states:
        drawn = frame(*state)
        content = io.BytesIO()
        drawn.savefig(content, format="png", dpi=110)
        frames.append(Image.open(content).convert("P", palette=Image.Palette.ADAPTIVE, colors=64))
        plt.close(drawn)
    content = io.BytesIO()
    times = [MILLISECONDS] * (len(frames) - 1) + [LAST]
    frames[0].save(
        content, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True
    )
    write_bytes(FIGURES / "gates_closing.gif", content.getvalue())
    save(frame(*states[-1]), FIGURES / "gates_closing", ("png",))
    print(f"{run}\n{len(content.getvalue()) / 1024:.0f} KiB, {len(frames)} frames")


if __name__ == "__main__":
    main()
