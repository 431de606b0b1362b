"""A widget's state is one line of text, which goes into a link, a message, or a cell of code."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import traitlets as t

from sparsekit.widgets import rendering
from sparsekit.widgets.base import FrontEndWidget, load_script
from sparsekit.widgets.rendering import StaticImage

Value = str | int | float


def write_state(values: Mapping[str, Value]) -> str:
    """Write settings as one line of text.

    Example:
        >>> write_state({"density": 0.01, "score": "at the start"})
        'density=0.01&score=at+the+start'
    """
    return urlencode(values)


def read_state(text: str, defaults: Mapping[str, Value]) -> dict[str, Any]:
    """Read what `write_state` wrote. A setting that the text leaves out keeps its default.

    Args:
        text: for example `"density=0.01"`.
        defaults: every setting by name, whose type says what a text becomes.

    Raises:
        ValueError: if the text names another setting, or a number cannot be read.

    Example:
        >>> read_state("density=0.01", {"density": 0.1, "score": "trained"})
        {'density': 0.01, 'score': 'trained'}
    """
    values = dict(defaults)
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in defaults:
            raise ValueError(
                f"state must name some of {', '.join(defaults)}, got {name!r}. Copy it from a widget again"
            )
        values[name] = _as_type_of(defaults[name], name, value)
    return values


def _as_type_of(default: Value, name: str, text: str) -> Value:
    try:
        return type(default)(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}. Copy the state from a widget again") from None


class CopyCode(FrontEndWidget):
    """A button copies the code of a widget that is made of several.

    Args:
        code: a cell, in which `{state}` stands for the state.
        values: the settings of the state.

    Example:
        >>> CopyCode('LivePanel(run, state="{state}")', {"every": 25})
        LivePanel(run, state="every=25")
    """

    _esm = load_script("shared", "copy_code", "copy_button")
    code = t.Unicode("").tag(sync=True)
    values = t.Dict().tag(sync=True)

    def __init__(self, code: str, values: Mapping[str, Value]):
        super().__init__(code=code, values=dict(values))

    def sentence(self) -> str:
        """Return the code."""
        return self.code.replace("{state}", write_state(self.values))

    def snapshot(self) -> StaticImage:
        """Write the code as text."""
        return StaticImage(rendering.png(rendering.text(self.sentence().splitlines() or [""])), self.sentence())
