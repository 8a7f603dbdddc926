"""A figure as files, each written in one atomic step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw"]


def draw(plot: Callable[[], Figure], path: Path, forms: tuple[str, ...] = ("png", "pdf")) -> list[Path]:
    """The figure that `plot()` returns, at `path` with each suffix of `forms`; no window is opened."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from vibtheory.figures import save

    figure = plot()
    written = save(figure, path, forms)
    plt.close(figure)
    return written
