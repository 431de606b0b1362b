"""All widgets share their script, their style, and what a notebook shows where no widget can live."""

import base64
import sys
from abc import abstractmethod
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets

from sparsekit.widgets.rendering import StaticImage

STATIC = Path(__file__).parent / "static"


@cache
def load_script(*names: str) -> str:
    """Return the front-end modules of these names as one module.

    The browser imports nothing and fetches nothing, because the small functions that several widgets share
    (`shared.js`) travel in front of each widget's own.
    """
    return "\n".join((STATIC / f"{name}.js").read_text(encoding="utf-8") for name in names)


@cache
def load_style() -> str:
    """Return the style sheet of all widgets."""
    return (STATIC / "style.css").read_text(encoding="utf-8")


class StaticPreview:
    """This mixin gives a notebook the living widget, a static image and a sentence, of which it shows the best.

    A committed notebook on GitHub shows the image. A terminal, a screen reader and nbval read the sentence, which
    therefore holds no addresses and no times.
    """

    @abstractmethod
    def sentence(self) -> str:
        """Say in words what the widget shows now."""

    @abstractmethod
    def snapshot(self) -> StaticImage:
        """Return what the widget shows now as a static image, the bytes of a PNG with the sentence as its `alt`."""

    def close(self) -> None:
        """Take the widget and all its parts out of the notebook and out of memory."""
        if not sys.is_finalizing():  # ipywidgets closes what is left when Python ends, and could only print errors then
            close_with_children(self._widget())

    def _widget(self) -> Any:
        """Return the widget that the browser displays."""
        return self

    def _widget_bundle(self, **kwargs) -> dict:
        bundle = self._widget()._repr_mimebundle_(**kwargs) or {}
        return dict(bundle[0] if isinstance(bundle, tuple) else bundle)  # anywidget adds metadata, ipywidgets does not

    def _repr_mimebundle_(self, **kwargs) -> dict:
        image = self.snapshot()
        preview = {"image/png": base64.b64encode(image).decode(), "text/plain": image.alt}
        return {**self._widget_bundle(**kwargs), **preview}

    def __repr__(self) -> str:
        return self.sentence()


def close_with_children(widget: ipywidgets.Widget) -> None:
    """Close a widget and those that it holds, such as its children and its layout."""
    values = widget.trait_values().values()
    ipywidgets.Widget.close(widget)
    for value in values:
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, ipywidgets.Widget):
                close_with_children(part)


def complete_all() -> None:
    """Complete every widget of this kernel, before their states go into pages."""
    for widget in list(ipywidgets.widgets.widget._instances.values()):
        if isinstance(widget, FrontEndWidget):
            widget.complete()


class FrontEndWidget(StaticPreview, anywidget.AnyWidget):  # type: ignore[override]
    """A front-end widget has a script of its own, which a subclass names in `_esm`."""

    _css = load_style()

    def complete(self) -> None:
        """Add what the front end must hold where no kernel answers it, as on a page. Most widgets hold all at once."""

    def _widget_bundle(self, **kwargs) -> dict:
        bundle = {} if self.comm is None else anywidget.AnyWidget._repr_mimebundle_(self, **kwargs) or {}
        return dict(bundle[0] if isinstance(bundle, tuple) else bundle)
