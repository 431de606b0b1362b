"""A list of fields becomes native sliders, lists, boxes and buttons, which have labels and work by keyboard.

The sliders of ipywidgets have no accessible name and round what they tell a screen reader. These are the browser's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import traitlets as t

from sparsekit.widgets import rendering
from sparsekit.widgets.base import FrontEndWidget, load_script
from sparsekit.widgets.rendering import StaticImage

Kind = Literal["range", "number", "check", "choice", "radio", "button", "text", "progress"]


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field describes one control.

    Args:
        name: under which its value stands in `Controls.values`.
        kind: which control.
        label: its visible and spoken name.
        low, high, step: ends and grid of a range or number. `high` is also the length of a progress bar.
        options: `(value, text)` pairs of a choice or radio.
        format: how a range writes its value, which is percent (0-100), share (0-1), steps, number, or halvings (the
            sparsity after so many). A text is `code`, `title` or `quiet`. Only a
            code is spoken when it changes.
        optional: may a number be left empty (None)?
        depth: indentation of a setting that belongs to the one above.
        help, error: the line beside it. An error replaces the help and is announced.
    """

    name: str
    kind: Kind
    label: str = ""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    options: tuple[tuple[str, str], ...] = ()
    format: str = "number"
    optional: bool = False
    main: bool = False
    disabled: bool = False
    hidden: bool = False
    depth: int = 0
    help: str = ""
    error: str = ""


def options_of(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the options of a list in which the text of every value is its name.

    Example:
        >>> options_of(["er", "erk"])
        (('er', 'er'), ('erk', 'erk'))
    """
    return tuple((name, name) for name in names)


class Controls(FrontEndWidget):
    """Several controls stand in a row or a column. `values` holds their values, and `on_press` hears the buttons.

    Args:
        fields: the controls, in order.
        values: the value of each that has one.
        title: spoken name of the group.
        flow: `"row"` or `"column"`.

    Example:
        >>> field = Field(name="sparsity", kind="range", label="Sparsity", low=0, high=99)
        >>> Controls([field], {"sparsity": 90}).values["sparsity"]
        90
    """

    _esm = load_script("shared", "controls")
    fields = t.List(t.Dict()).tag(sync=True)
    values = t.Dict().tag(sync=True)
    title = t.Unicode("").tag(sync=True)
    flow = t.Enum(["row", "column"], default_value="row").tag(sync=True)

    def __init__(self, fields: Sequence[Field], values: dict[str, Any], *, title: str = "", flow: str = "row"):
        self._fields = {field.name: field for field in fields}
        self._press_listeners: list[Callable[[str], None]] = []
        super().__init__(fields=self._field_dicts(), values=values, title=title, flow=flow)
        self.on_msg(self._on_message)

    def set(self, **values: Any) -> None:
        """Set some values, while the others stay as they are."""
        self.values = {**self.values, **values}

    def change(self, name: str, **changes: Any) -> None:
        """Change a field, for example its error, a button's label, or whether it is disabled."""
        self._fields[name] = replace(self._fields[name], **changes)
        self.fields = self._field_dicts()

    def redraw(self, fields: Sequence[Field]) -> None:
        """Replace fields whose values stay, for example with other errors, help or labels."""
        self._fields = {field.name: field for field in fields}
        self.fields = self._field_dicts()

    def rebuild(self, fields: Sequence[Field], values: dict[str, Any]) -> None:
        """Replace all controls and values in one message."""
        self._fields = {field.name: field for field in fields}
        with self.hold_sync():
            self.fields = self._field_dicts()
            self.values = values

    def on_press(self, listener: Callable[[str], None]) -> None:
        """Call the listener with a button's name whenever one is pressed."""
        self._press_listeners.append(listener)

    def press(self, name: str) -> None:
        """Press a button from code. One that is disabled does nothing.

        Raises:
            ValueError: if there is no such button.
        """
        field = self._fields.get(name)
        if field is None or field.kind != "button":
            buttons = [field.name for field in self._fields.values() if field.kind == "button"]
            raise ValueError(f"button must be one of {', '.join(buttons) or '(none)'}, got {name!r}")
        for listener in [] if field.disabled else self._press_listeners:
            listener(name)

    def sentence(self) -> str:
        """List labels and values."""
        return ", ".join(self._lines()) or self.title

    def snapshot(self) -> StaticImage:
        """Write labels and values as lines of text."""
        return StaticImage(rendering.png(rendering.text(self._lines() or [self.title])), self.sentence())

    def _lines(self) -> list[str]:
        visible = [field for field in self._fields.values() if field.name in self.values and not field.hidden]
        return [f"{field.label}: {self.values[field.name]}" for field in visible]

    def _field_dicts(self) -> list[dict]:
        return [asdict(field) for field in self._fields.values()]

    def _on_message(self, _widget, content, _buffers) -> None:
        if isinstance(content, dict) and content.get("press") in self._fields:
            self.press(content["press"])
