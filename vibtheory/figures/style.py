"""One plotting style for every figure: colour-blind-safe, readable at column width, no global state.

Use it as a decorator of what draws, or as a context, so that a caller's own matplotlib settings survive:

    @style()
    def plot_...(...) -> Figure:
        figure, axes = plt.subplots()
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from vibtheory.errors import reject
from vibtheory.storage.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["COLORS", "encoded", "facets", "needs", "save", "style", "thumbnail", "wrapped"]

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
_METADATA: Any = {"pdf": {"CreationDate": None}, "png": {"Software": None}, "svg": {"Date": None}}  # no timestamps


@contextmanager
def style() -> Iterator[None]:
    """matplotlib settings for the duration of a `with` block or of a decorated function; restored afterwards."""
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
    written = [path.with_suffix(f".{form}") for form in formats]
    for form, target in zip(formats, written, strict=True):
        write_bytes(target, _content(figure, form, dpi=200))
    return written


def encoded(figure: Figure, form: str = "png", dpi: float | Literal["figure"] = "figure") -> bytes:
    """`figure` as bytes of that `form` (png, pdf or svg), `dpi` dots per inch, without timestamps; it is closed."""
    import matplotlib.pyplot as plt

    content = _content(figure, form, dpi)
    plt.close(figure)
    return content


def _content(figure: Figure, form: str, dpi: float | Literal["figure"]) -> bytes:
    buffer = BytesIO()
    with style():
        figure.savefig(buffer, format=form, dpi=dpi, metadata=_METADATA.get(form))
    return buffer.getvalue()


def facets(table: DataFrame, column: str, **layout: Any) -> tuple[Figure, list[tuple[Axes, Any, DataFrame]]]:
    """One panel, side by side, for each value of `column` in the order of the table.

    Args:
        table: at least one row.
        column: whose values tell the panels apart.
        layout: of `plt.subplots`; `figsize` by panel, unless it is said to be `of_all`.

    Returns:
        The figure, and of each panel its axes, the value and its rows.
    """
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(table[column]))
    width, height = layout.pop("figsize")
    width = width if layout.pop("of_all", False) else width * len(names)
    figure, panels = plt.subplots(1, len(names), figsize=(width, height), squeeze=False, **layout)
    return figure, [(axes, name, table[table[column] == name]) for axes, name in zip(panels[0], names, strict=True)]


def needs(table: DataFrame, columns: Sequence[str], remedy: str) -> None:
    """Raise InvalidInputError, with the remedy, unless `table` has a row and all `columns`."""
    missing = [name for name in columns if name not in table.columns]
    if missing or table.empty:
        got = f"no column {', '.join(missing)}" if missing else "0 rows"
        reject("table", got, f"rows with {', '.join(columns)}", remedy)


def wrapped(name: object, most: int) -> str:
    """The whole of `name` in lines of at most `most` characters: any part may tell the modules of a network apart."""
    return fill(str(name), most, break_on_hyphens=False)


def thumbnail(picture: Path | BytesIO, width: int, colors: int = 128) -> str:
    """A picture's file in at most `width` pixels and so many `colors`, as base64 of a PNG."""
    from PIL import Image

    image = Image.open(picture).convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.quantize(colors).save(buffer, "PNG", optimize=True)
    return b64encode(buffer.getvalue()).decode("ascii")
