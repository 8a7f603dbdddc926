"""Pictures in a notebook, with alternative text and the same bytes at every run: still, moving, or under sliders.

A cell that ends in an `Explorer` stores two things: the widget, for a page with a kernel behind it, and a PNG of the
first setting; `vibtheory.teaching.notebooks` keeps only the PNG in committed files, which stays where no kernel runs
(GitHub, a reopened file). Where the environment sets VIBTHEORY_FRAMES a third one: every setting's picture drawn ahead,
under sliders of plain HTML, which is what moves in the gallery.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vibtheory.errors import MissingDependencyError, reject
from vibtheory.figures.style import encoded, thumbnail
from vibtheory.teaching.notebooks import module

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Explorer", "Picture", "Slider", "animate", "show"]

_DPI = 110
FRAMES = "VIBTHEORY_FRAMES"  # environment variable: an explorer also gives all its pictures


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
    return Picture(encoded(figure, dpi=_DPI), alt)


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


@dataclass(frozen=True)
class Slider:
    """One slider over listed values.

    Args:
        label: what is varied, with its unit.
        values: what the slider stops at, in order; at least two.
        start: index of the first setting.
        text: how a value is written beside the slider.

    Raises:
        InvalidInputError: fewer than two values, or `start` outside them.
    """

    label: str
    values: Sequence[Any]
    start: int = 0
    text: Callable[[Any], str] = "{:.3g}".format

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            reject("values", f"{len(self.values)} of them", "at least two", "pass what the slider stops at")
        if not 0 <= self.start < len(self.values):
            reject("start", self.start, f"an index in 0 … {len(self.values) - 1}", "pass the first setting's index")


class Explorer:
    """A picture and the sliders that redraw it.

    Args:
        draw: called with one keyword per slider; returns a figure.
        alt: what the picture shows, in words.
        sliders: by `draw`'s keyword.

    Attributes:
        setting: the values now shown, by keyword.
        picture: PNG bytes of that setting.

    Raises:
        InvalidInputError: no slider.
    """

    def __init__(self, draw: Callable[..., Figure], alt: str, **sliders: Slider) -> None:
        if not sliders:
            reject("sliders", "none", "at least one Slider", "pass e.g. beta=Slider('β', [1, 2, 3])")
        self._draw, self._alt, self._sliders = draw, alt, sliders
        self._index = {name: slider.start for name, slider in sliders.items()}
        self._drawn: dict[tuple[int, ...], bytes] = {}
        self._widget: Any = None

    @property
    def setting(self) -> dict[str, Any]:
        return {name: slider.values[self._index[name]] for name, slider in self._sliders.items()}

    @property
    def picture(self) -> bytes:
        key = tuple(self._index.values())
        if key not in self._drawn:
            self._drawn[key] = encoded(self._draw(**self.setting), dpi=_DPI)
        return self._drawn[key]

    def set(self, **indices: int) -> Explorer:
        """Move sliders to positions (indices into their values), as a hand would; returns self.

        Raises:
            InvalidInputError: an unknown slider, or an index outside its values.
        """
        for name, index in indices.items():
            if name not in self._sliders:
                reject("slider", repr(name), "one of " + ", ".join(self._sliders), "use one of those names")
            if not 0 <= index < len(self._sliders[name].values):
                reject(name, index, f"an index in 0 … {len(self._sliders[name].values) - 1}", "stay inside the values")
        self._index.update(indices)
        return self

    def html(self) -> str:
        """Sliders and every setting's picture as one piece of HTML; `gallery.js` moves it, without a kernel.

        The pictures are in the order of the settings, the last slider's fastest; 64 colours each.
        """
        start, places = dict(self._index), [range(len(slider.values)) for slider in self._sliders.values()]
        frames = [self.set(**dict(zip(self._sliders, at, strict=True)))._small() for at in itertools.product(*places)]
        hands = []
        for name, slider in self.set(**start)._sliders.items():
            words = [slider.text(value) for value in slider.values]
            hands.append(
                f"<label>{html.escape(slider.label)} <input type='range' min='0' max='{len(words) - 1}' "
                f"value='{start[name]}' aria-valuetext='{html.escape(words[start[name]], quote=True)}' "
                f"data-words='{html.escape(json.dumps(words), quote=True)}'> "
                f"<output>{html.escape(words[start[name]])}</output></label>"
            )
        return (
            f"<div class='explorer'>{''.join(hands)}<img alt='{html.escape(self._alt, quote=True)}' "
            f"src='data:image/png;base64,{self._small()}'>"
            f"<script type='application/json'>{json.dumps(frames)}</script></div>"
        )

    def _small(self) -> str:
        return thumbnail(io.BytesIO(self.picture), sys.maxsize, colors=64)

    def widget(self) -> Any:
        """The sliders and the picture as one ipywidget; made once.

        Raises:
            MissingDependencyError: ipywidgets is not installed.
        """
        if self._widget is None:
            ipywidgets = module("ipywidgets")
            image = ipywidgets.Image(value=self.picture, format="png", layout={"max_width": "100%"})
            image.add_class("vibtheory-picture")
            hands = [self._hand(ipywidgets, name, slider, image) for name, slider in self._sliders.items()]
            self._widget = ipywidgets.VBox([*hands, image])
        return self._widget

    def _hand(self, ipywidgets: Any, name: str, slider: Slider, image: Any) -> Any:
        hand = ipywidgets.SelectionSlider(
            options=[(slider.text(value), index) for index, value in enumerate(slider.values)],
            value=self._index[name],
            description=slider.label,
            continuous_update=False,
            style={"description_width": "initial"},
            layout={"width": "min(34em, 100%)"},
        )

        def moved(change: dict[str, Any]) -> None:
            self.set(**{name: int(change["new"])})
            image.value = self.picture

        hand.observe(moved, "value")
        return hand

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
        """IPython's display protocol: the widget where it can live, the picture everywhere."""
        bundle: dict[str, Any] = {"image/png": base64.b64encode(self.picture).decode("ascii"), "text/plain": self._alt}
        if os.environ.get(FRAMES):
            bundle["text/html"] = self.html()
        with contextlib.suppress(MissingDependencyError):  # then the picture alone, as on a page without a kernel
            bundle |= {k: v for k, v in self.widget()._repr_mimebundle_().items() if "widget" in k}
        return bundle, {"image/png": {"alt": self._alt}}
