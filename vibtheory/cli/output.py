"""A figure as a file's content, so that the file can be written in one atomic step."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["drawn"]


def drawn(plot: Callable[[], Figure], form: str) -> bytes:
    """The figure that `plot()` returns, as png, pdf or svg; no window is opened."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, content = plot(), BytesIO()
    figure.savefig(content, format=form)
    plt.close(figure)
    return content.getvalue()
