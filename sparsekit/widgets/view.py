"""What all widgets share: their script, their looks, and what a notebook shows where no widget can live."""

import base64
from abc import abstractmethod
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets

from sparsekit.widgets.rendering import Picture

STATIC = Path(__file__).parent / "static"


@cache
def script(*names: str) -> str:
    """Return the front-end modules of these names as one module.

    Nothing is imported in the browser and nothing fetched: the small functions that several widgets share
    (`shared.js`) travel in front of each widget's own.
    """
    return "\n".join((STATIC / f"{name}.js").read_text(encoding="utf-8") for name in names)


@cache
def style() -> str:
    """Return the style sheet of all widgets."""
    return (STATIC / "style.css").read_text(encoding="utf-8")


class StaticPreview:
    """Mixin: a notebook gets the living widget, a still picture and one sentence; whoever shows it takes the best.

    A committed notebook on GitHub shows the picture; a terminal, a screen reader and nbval read the sentence, which
    therefore holds no addresses and no times.
    """

    @abstractmethod
    def sentence(self) -> str:
        """Say in one sentence what is shown now."""

    @abstractmethod
    def snapshot(self) -> Picture:
        """Return what is shown now as a still picture: bytes of a PNG, with the sentence as its `alt`."""

    def close(self) -> None:
        """Take the widget and all it is made of out of the notebook and out of memory."""
        close_tree(self._widget())

    def _widget(self) -> Any:
        """Return the widget of which the browser makes a view."""
        return self

    def _live_bundle(self, **kwargs) -> dict:
        bundle = self._widget()._repr_mimebundle_(**kwargs) or {}
        return dict(bundle[0] if isinstance(bundle, tuple) else bundle)  # anywidget adds metadata, ipywidgets does not

    def _repr_mimebundle_(self, **kwargs) -> dict:
        picture = self.snapshot()
        still = {"image/png": base64.b64encode(picture).decode(), "text/plain": picture.alt}
        return {**self._live_bundle(**kwargs), **still}

    def __repr__(self) -> str:
        return self.sentence()


def close_tree(widget: ipywidgets.Widget) -> None:
    """Close a widget and those that it holds: its children, its layout and their like."""
    values = widget.trait_values().values()
    ipywidgets.Widget.close(widget)
    for value in values:
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, ipywidgets.Widget):
                close_tree(part)


class FrontEnd(StaticPreview, anywidget.AnyWidget):  # type: ignore[override]
    """A widget with a front-end of its own. A subclass names its script in `_esm`."""

    _css = style()

    def _live_bundle(self, **kwargs) -> dict:
        bundle = {} if self.comm is None else anywidget.AnyWidget._repr_mimebundle_(self, **kwargs) or {}
        return dict(bundle[0] if isinstance(bundle, tuple) else bundle)
