"""Choose settings by hand, with controls for the fields of a frozen dataclass."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ipywidgets
import traitlets as t

from sparsekit.rules import make_rule
from sparsekit.rules.base import Rule
from sparsekit.tricks import Trick, make_trick
from sparsekit.utils.registry import names
from sparsekit.widgets import rendering
from sparsekit.widgets.base import StaticPreview
from sparsekit.widgets.controls import Controls, Field, options_of
from sparsekit.widgets.form_state import build, code_of, controls_of, form_state_of, values_of, with_value
from sparsekit.widgets.rendering import StaticImage

METHOD = "method"


class SettingsPicker(StaticPreview, t.HasTraits):
    """Choose a settings object with controls. `value` is always valid, and `observe(f, "value")` hears changes.

    Below the controls stands the Python that makes the same object. If its class refuses a combination, the error
    stands beside the control that moved, and `value` stays what it was.

    Args:
        settings: the first value, an instance of a frozen dataclass.
        methods: makers of other objects to choose from, by name.
        method: the name under which `settings` stands among them.
        label: of the list of methods.
        title: spoken name of the group.

    Raises:
        TypeError: if the settings are no dataclass.

    Example:
        >>> from sparsekit.schedules import Cosine
        >>> picker = SettingsPicker(Cosine(0.3, steps=100))
        >>> picker.choose("start", 0.5)
        >>> picker.value
        Cosine(start=0.5, end=0.0, steps=100)
    """

    value = t.Any()

    def __init__(
        self,
        settings: Any,
        *,
        methods: Mapping[str, Callable[[], Any]] | None = None,
        method: str = "",
        label: str = "Method",
        title: str = "Settings",
    ):
        self._state = form_state_of(settings)
        self._methods, self._method, self._label = dict(methods or {}), method, label
        self.controls = Controls(self._fields(), self._values(), title=title, flow="column")
        self.code = Controls(
            [Field(name="code", kind="text", format="code")], {"code": code_of(settings)}, title="Python"
        )
        super().__init__(value=settings)
        self.controls.observe(self._on_values, "values")
        self.view = ipywidgets.VBox([self.controls, self.code])

    def choose(self, path: str, value: Any) -> None:
        """Move a control from code, for example `choose("drop_fraction.value", 0.2)`.

        Raises:
            ValueError: if there is no such control, or a list does not offer the value.
        """
        if path not in self.controls.values:
            raise ValueError(f"control must be one of {', '.join(self.controls.values)}, got {path!r}")
        field = next(field for field in self._fields() if field.name == path)
        if field.kind == "choice" and value not in (options := [option for option, _ in field.options]):
            raise ValueError(f"{path} must be one of {', '.join(options)}, got {value!r}. Choose one of them")
        self.controls.set(**{path: value})

    @property
    def error(self) -> str:
        """What is wrong with the controls, or an empty text where `value` is what they say."""
        return next((field["error"] for field in self.controls.fields if field["error"]), "")

    def sentence(self) -> str:
        """Write the value as Python."""
        return code_of(self.value)

    def snapshot(self) -> StaticImage:
        """Write the controls and the value as text."""
        lines = [f"{name} = {value}" for name, value in self.controls.values.items()]
        return StaticImage(rendering.png(rendering.text([*lines, "", self.sentence()])), self.sentence())

    def _on_values(self, change: Any) -> None:
        paths = [name for name, value in change.new.items() if value != change.old.get(name)]
        for path in paths:
            self._set(path, change.new[path])

    def _set(self, path: str, value: Any) -> None:
        shape = self._shape()
        try:
            self._set_state(path, value)
            problem = self._make_value()
        except ValueError as error:  # a method that cannot be made at all
            problem = str(error)
        fields = [replace(field, error=problem if field.name == path else "") for field in self._fields()]
        if self._shape() == shape:
            self.controls.redraw(fields)  # setting the values would pull a slider back under the reader's hand
        else:
            self.controls.rebuild(fields, self._values())

    def _set_state(self, path: str, value: Any) -> None:
        if path == METHOD and self._methods:
            self._state, self._method = form_state_of(self._methods[value]()), value
        elif path in values_of(self._state):
            self._state = with_value(self._state, path, value)

    def _make_value(self) -> str:
        """Make the object the value, or return why it cannot be made."""
        try:
            settings = build(self._state)
        except (TypeError, ValueError) as error:
            return str(error)
        self.value = settings
        self.code.set(code=code_of(settings))
        return ""

    def _fields(self) -> list[Field]:
        options = options_of(self._methods)
        first = [Field(name=METHOD, kind="choice", label=self._label, options=options)] if options else []
        return first + controls_of(self._state)

    def _values(self) -> dict[str, Any]:
        return ({METHOD: self._method} if self._methods else {}) | values_of(self._state)

    def _shape(self) -> list[str]:
        return [
            self._state.cls.__name__,
            self._method,
            *(f"{field.name}{field.kind}{field.options}" for field in self._fields()),
        ]

    def _widget(self) -> ipywidgets.VBox:
        return self.view


class RulePicker(SettingsPicker):
    """Choose any registered rule and its settings. `value` is the rule.

    Args:
        total_steps: length of the training. Rules that end do so after three quarters of it.
        name: which rule to show first.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> picker = RulePicker(total_steps=1000)
        >>> picker.choose("every", 50)
        >>> picker
        DropGrow(every=50, stop=750)
    """

    def __init__(self, *, total_steps: int, name: str = "rigl"):
        def maker(rule: str) -> Callable[[], Rule]:
            return lambda: make_rule(rule, total_steps=total_steps)

        methods = {rule: maker(rule) for rule in names("rule")}
        settings = make_rule(name, total_steps=total_steps)
        super().__init__(settings, methods=methods, method=name, label="Rule", title="Rule and its settings")


class TrickPicker(SettingsPicker):
    """Choose any registered trick and its settings. `value` is the trick.

    Args:
        total_steps: length of the training. Tricks that end do so after their default share of it.
        name: which trick to show first.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> picker = TrickPicker(total_steps=1000)
        >>> picker.choose("unit", "mish")
        >>> picker
        GhostNeurons(stop=400, unit='mish')
    """

    def __init__(self, *, total_steps: int, name: str = "ghost-neurons"):
        def maker(trick: str) -> Callable[[], Trick]:
            return lambda: make_trick(trick).lasting(total_steps)

        methods = {trick: maker(trick) for trick in names("trick")}
        settings = make_trick(name).lasting(total_steps)
        super().__init__(settings, methods=methods, method=name, label="Trick", title="Trick and its settings")
