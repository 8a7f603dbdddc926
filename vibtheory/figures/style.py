"""One plotting style for every figure: colour-blind-safe, readable at column width, no global state.

Use it as a context, so that a caller's own matplotlib settings survive:

    with style():
        figure, axes = plt.subplots()
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLORS", "save", "style"]

# Okabe & Ito (2008): distinguishable under the common colour-vision deficiencies, and in print.
COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "black": "#000000",
    "grey": "#7F7F7F",
}


@contextmanager
def style() -> Iterator[None]:
    """matplotlib settings for the duration of a `with` block; restored on leaving it."""
    import matplotlib as mpl
    from cycler import cycler

    settings: Any = {
        "figure.dpi": 120,
        "savefig.dpi": 200,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "lines.linewidth": 1.6,
        "pdf.fonttype": 42,  # text stays text in the PDF
        "axes.prop_cycle": cycler(color=[COLORS[k] for k in ("blue", "red", "green", "purple", "orange", "sky")]),
    }
    with mpl.rc_context(settings):
        yield


def save(figure: Figure, path: Path, formats: tuple[str, ...] = ("png", "pdf")) -> list[Path]:
    """Write `figure` to `path` with each suffix in `formats`, atomically and without timestamps; returns the paths.

    Args:
        figure: a matplotlib figure.
        path: target without suffix; its folder is made if missing.
        formats: file suffixes that matplotlib knows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix in formats:
        target = path.with_suffix(f".{suffix}")
        partial = path.with_name(f".{path.name}.partial.{suffix}")
        metadata = {"CreationDate": None} if suffix == "pdf" else {"Software": None} if suffix == "png" else None
        with style():
            figure.savefig(partial, metadata=metadata)
        partial.replace(target)
        written.append(target)
    return written
