"""A figure as a file's content, so that the file can be written in one atomic step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["drawn"]


def drawn(plot: Callable[[], Figure], form: str) -> bytes:
    """The figure that `plot()` returns, as png, pdf or svg; no window is opened."""
    import matplotlib

    matplotlib.use("Agg")

    from vibtheory.figures import encoded

    return encoded(plot(), form, dpi=200)
