"""Hold one drawing for each setting of some controls, so that the browser changes them without the kernel."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import traitlets as t

from sparsekit.widgets import rendering
from sparsekit.widgets.base import FrontEndWidget, load_script
from sparsekit.widgets.controls import Controls, Field
from sparsekit.widgets.rendering import StaticImage

MAX_FRAMES = 32  # drawing so many takes a few seconds


@dataclass(frozen=True)
class Drawing:
    """A figure as an SVG that follows the theme of its page, and what it says in words."""

    svg: str
    words: str


class Frames(FrontEndWidget):
    """The browser shows the drawing that belongs to the values of some controls, which it follows by itself.

    A setting without a drawing shows the last one, greyed, until `show` brings its own.

    Args:
        controls: whose values choose the drawing.
        drawings: what to show for each setting, by the values as `key_of` writes them.
    """

    _esm = load_script("shared", "frames")
    keys_of_frames = t.List(t.Unicode()).tag(sync=True)
    frames = t.List(t.Unicode()).tag(sync=True)
    sentences = t.List(t.Unicode()).tag(sync=True)
    values = t.Dict().tag(sync=True)
    words = t.Dict(help="what the drawing says, as the browser shows it").tag(sync=True)

    def __init__(self, controls: Controls, drawings: Mapping[str, Drawing]):
        self._drawings, self._shown = dict(drawings), drawings[key_of(controls.values)]
        super().__init__(**_traits_of(drawings), values=controls.values, words={"words": self._shown.words})
        self.link = ipywidgets.jslink((controls, "values"), (self, "values"))
        controls.observe(self._follow, "values")

    def _follow(self, change: Any) -> None:
        self.values = change.new
        self._shown = self._drawings.get(key_of(change.new), self._shown)  # the last one stays where there is none

    def show(self, values: dict[str, Any], drawing: Drawing) -> None:
        """Show a drawing that was made just now, in place of all others."""
        self._drawings, self._shown = {key_of(values): drawing}, drawing
        with self.hold_sync():
            for name, value in _traits_of(self._drawings).items():
                setattr(self, name, value)
            self.words = {"words": drawing.words}

    @property
    def value(self) -> str:
        """The drawing that is shown, as SVG."""
        return self._shown.svg

    def sentence(self) -> str:
        """Say what the drawing shows."""
        return self._shown.words

    def snapshot(self) -> StaticImage:
        """Write the sentence as text. The figure explorer has the figure itself."""
        return StaticImage(rendering.png(rendering.text([self.sentence()])), self.sentence())


def _traits_of(drawings: Mapping[str, Drawing]) -> dict[str, list[str]]:
    several = drawings.values()
    return {
        "keys_of_frames": list(drawings),
        "frames": [one.svg for one in several],
        "sentences": [one.words for one in several],
    }


def key_of(values: Mapping[str, Any]) -> str:
    """Write the values of controls in the order of their names, as the browser does.

    Example:
        >>> key_of({"power": 2.0, "colour": "red"})
        '[["colour","red"],["power",2]]'
    """
    plain = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in values.items()
    }
    return json.dumps(sorted(plain.items()), separators=(",", ":"), ensure_ascii=False)


def settings_of(fields: Sequence[Field]) -> list[dict[str, Any]] | None:
    """Return every setting that some controls can have, or None if there are too many or they are not countable."""
    choices = [_choices(field) for field in fields]
    if any(choice is None for choice in choices):
        return None
    names = [field.name for field in fields]
    settings = [dict(zip(names, values, strict=True)) for values in itertools.product(*(one or () for one in choices))]
    return settings if len(settings) <= MAX_FRAMES else None


def frames_of(draw: Callable[[dict[str, Any]], Drawing], settings: Iterable[dict[str, Any]]) -> dict[str, Drawing]:
    """Make a drawing for each setting. A setting that the function refuses gets none."""
    drawings = {}
    for one in settings:
        try:
            drawings[key_of(one)] = draw(one)
        except ValueError:
            continue
    return drawings


def _choices(field: Field) -> list[Any] | None:
    if field.kind in ("choice", "radio"):
        return [value for value, _ in field.options]
    if field.kind == "check":
        return [False, True]
    if field.kind != "range" or field.low is None or field.high is None:
        return None
    step = field.step or 1
    count = int((field.high - field.low) / step + 1e-9) + 1
    return [round(field.low + number * step, 10) for number in range(min(count, MAX_FRAMES + 1))]
