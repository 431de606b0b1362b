"""A widget's state is one line of text, which goes into a link, a message, or a cell of code."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import traitlets as t

from sparsekit.widgets import rendering
from sparsekit.widgets.base import FrontEndWidget, load_script
from sparsekit.widgets.call_source import call_with_state
from sparsekit.widgets.rendering import StaticImage

Value = str | int | float | bool | None | list[float]
BETWEEN = "_"  # numbers of a list, because links leave it as it is


def write_state(values: Mapping[str, Value]) -> str:
    """Write settings as one line of text. A setting that is None is left out.

    Example:
        >>> write_state({"density": 0.01, "score": "at the start", "weights": [1.0, 0.5]})
        'density=0.01&score=at+the+start&weights=1.0_0.5'
    """
    return urlencode({name: _as_text(value) for name, value in values.items() if value is not None})


def read_state(text: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Read what `write_state` wrote. A setting that the text leaves out keeps its default.

    Args:
        text: for example `"density=0.01"`.
        defaults: every setting by name, whose type says what a text becomes. What is None may become any number.

    Raises:
        ValueError: if the text names another setting, or a number cannot be read.

    Example:
        >>> read_state("density=0.01", {"density": 0.1, "score": "trained"})
        {'density': 0.01, 'score': 'trained'}
    """
    values = dict(defaults)
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in defaults:
            known = ", ".join(defaults) or "(nothing)"
            raise ValueError(f"state must name some of {known}, got {name!r}. Copy it from a widget again")
        values[name] = _as_type_of(defaults[name], name, value)
    return values


def _as_text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return BETWEEN.join(map(str, value)) if isinstance(value, list) else str(value)


def _as_type_of(default: Any, name: str, text: str) -> Any:
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        return _as_bool(name, text)
    if isinstance(default, list):
        return [_as_number(name, part) for part in text.split(BETWEEN)]
    number = _as_number(name, text)
    if isinstance(default, int) and not number.is_integer():
        raise ValueError(f"{name} must be an integer, got {text!r}. Copy the state from a widget again")
    return int(number) if not isinstance(default, float) and number.is_integer() else number


def _as_number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}. Copy the state from a widget again") from None


def _as_bool(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{name} must be true or false, got {text!r}. Copy the state from a widget again")
    return text == "true"


class SharedWidget(FrontEndWidget):
    """A widget with a button *Copy as code*, which copies the call that made it, with its state of now.

    A subclass names in `shares` the traits that make its state, and takes `state=` as an argument. The browser puts
    the state together by the same names.

    Example:
        >>> class Dial(SharedWidget):
        ...     density = t.Float(0.1).tag(sync=True)
        ...     shares = ("density",)
        ...
        ...     def __init__(self, state=""):
        ...         super().__init__(**read_state(state, {"density": 0.1}))
        >>> Dial(state="density=0.5").as_code()
        'Dial(state="density=0.5")'
    """

    shares: tuple[str, ...] = ()
    code = t.Unicode().tag(sync=True)
    shared_traits = t.List(t.Unicode()).tag(sync=True)

    @t.default("code")
    def _call_of_now(self) -> str:
        return call_with_state(type(self))

    @t.default("shared_traits")
    def _shares_of_class(self) -> list[str]:
        return list(self.shares)

    @property
    def shared(self) -> dict[str, Value]:
        """The state of now, setting by setting."""
        values: dict[str, Value] = {}
        for name in self.shares:
            value = getattr(self, name)
            values |= value if isinstance(value, dict) else {name: value}
        return values

    def as_code(self) -> str:
        """Return the cell that rebuilds this state, as the button *Copy as code* copies it."""
        return self.code.replace("{state}", write_state(self.shared))


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
