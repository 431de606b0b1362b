"""Hold one image for each setting of some controls, so that the browser changes them without the kernel."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ipywidgets
import traitlets as t

from sparsekit.widgets.base import FrontEndWidget, load_script
from sparsekit.widgets.controls import Controls, Field
from sparsekit.widgets.rendering import StaticImage

MAX_FRAMES = 32  # drawing so many takes a few seconds


class Frames(FrontEndWidget):
    """The browser shows the image that belongs to the values of some controls, which it follows by itself.

    Args:
        controls: whose values choose the image.
        images: what to show for each setting, by the values as `key_of` writes them.
        width: of the images in CSS pixels.
    """

    _esm = load_script("shared", "frames")
    keys_of_frames = t.List(t.Unicode()).tag(sync=True)
    frames = t.List(t.Bytes()).tag(sync=True)
    sentences = t.List(t.Unicode()).tag(sync=True)
    values = t.Dict().tag(sync=True)
    width = t.Int().tag(sync=True)

    def __init__(self, controls: Controls, images: Mapping[str, StaticImage], width: int):
        super().__init__(
            keys_of_frames=list(images),
            frames=[bytes(image) for image in images.values()],
            sentences=[image.alt for image in images.values()],
            values=controls.values,
            width=width,
        )
        self._images, self._shown = dict(images), images[key_of(controls.values)]
        self.link = ipywidgets.jslink((controls, "values"), (self, "values"))
        controls.observe(self._follow, "values")

    def _follow(self, change: Any) -> None:
        self.values = change.new
        self.snapshot()

    @property
    def value(self) -> bytes:
        """The image that is shown."""
        return bytes(self.snapshot())

    def sentence(self) -> str:
        """Say what the image shows."""
        return self.snapshot().alt

    def snapshot(self) -> StaticImage:
        """Return the image that is shown."""
        self._shown = self._images.get(key_of(self.values), self._shown)  # the last one stays where there is none
        return self._shown


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


def frames_of(
    draw: Callable[[dict[str, Any]], StaticImage], settings: Iterable[dict[str, Any]]
) -> dict[str, StaticImage]:
    """Draw an image for each setting. A setting that the function refuses gets none."""
    images = {}
    for one in settings:
        try:
            images[key_of(one)] = draw(one)
        except ValueError:
            continue
    return images


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
