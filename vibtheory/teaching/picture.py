"""A figure as a picture in a notebook: PNG or GIF with alternative text, the same bytes at every run."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vibtheory.errors import reject
from vibtheory.figures import encoded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "animate", "show"]

DPI = 110


@dataclass(frozen=True)
class Picture:
    """What a notebook cell displays.

    Attributes:
        data: the encoded image.
        alt: what it shows, in words, for those who cannot see it.
        mime: "image/png" or "image/gif".
    """

    data: bytes = field(repr=False)
    alt: str
    mime: str = "image/png"

    def __str__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """IPython's display protocol."""
        encoded = base64.b64encode(self.data).decode("ascii")
        return {self.mime: encoded, "text/plain": self.alt}, {self.mime: {"alt": self.alt}}


def show(figure: Figure, alt: str) -> Picture:
    """`figure` as a `Picture`; make it the last line of a cell.

    Args:
        figure: a matplotlib figure; closed afterwards.
        alt: what it shows, in words.

    Raises:
        InvalidInputError: `alt` is empty.
    """
    if not alt.strip():
        reject("alt", repr(alt), "a description", "say in one sentence what the picture shows")
    return Picture(encoded(figure, dpi=DPI), alt)


def animate(draw: Callable[[Any], Figure], values: Iterable[Any], alt: str, *, seconds: float = 0.35) -> Picture:
    """One frame per value as an animated GIF that plays without a kernel; the last frame stays longer.

    Args:
        draw: value → figure, all of one size.
        values: what `draw` is called with, in order; at least one.
        alt: what the animation shows, in words.
        seconds: time per frame.

    Raises:
        InvalidInputError: no value, or seconds ≤ 0.
    """
    from PIL import Image

    if not seconds > 0:
        reject("seconds", seconds, "a number > 0", "pass the time per frame")
    frames = [Image.open(io.BytesIO(encoded(draw(value), dpi=80))).convert("RGB").quantize(48) for value in values]
    if not frames:
        reject("values", "none", "at least one value", "pass the recorded epochs")
    durations = [round(1000 * seconds)] * (len(frames) - 1) + [2500]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)
    return Picture(buffer.getvalue(), alt, "image/gif")
