"""Choose settings by hand: controls made from a frozen dataclass, one for each of its fields."""

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
from sparsekit.widgets.controls import Controls, Field, options_of
from sparsekit.widgets.form_state import build, changed, code_of, controls_of, draft_of, values_of
from sparsekit.widgets.rendering import Picture
from sparsekit.widgets.view import StaticPreview

METHOD = "method"


class SettingsPicker(StaticPreview, t.HasTraits):
    """Controls for a settings object; `value` is always a valid one, and `observe(f, "value")` hears changes.

    Below the controls stands the Python that makes the same object. A combination that its class refuses is answered
    next to the control that was moved; `value` then stays what it was.

    Args:
        settings: the first value, an instance of a frozen dataclass.
        methods: other objects to choose from, by name; each is made when it is chosen.
        method: the name under which `settings` stands among them.
        label: what the list of methods is called.
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
        self._draft = draft_of(settings)
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
        if field.kind == "choice" and value not in (offered := [option for option, _ in field.options]):
            raise ValueError(f"{path} must be one of {', '.join(offered)}, got {value!r}; choose one of them")
        self.controls.set(**{path: value})

    @property
    def error(self) -> str:
        """What is wrong with the controls as they stand; empty where `value` is what they say."""
        return next((field["error"] for field in self.controls.fields if field["error"]), "")

    def sentence(self) -> str:
        """Write the value as Python."""
        return code_of(self.value)

    def snapshot(self) -> Picture:
        """Write the controls and the value as text."""
        lines = [f"{name} = {value}" for name, value in self.controls.values.items()]
        return Picture(rendering.png(rendering.text([*lines, "", self.sentence()])), self.sentence())

    def _on_values(self, change: Any) -> None:
        moved = [name for name, value in change.new.items() if value != change.old.get(name)]
        for path in moved:
            self._move(path, change.new[path])

    def _move(self, path: str, value: Any) -> None:
        shape = self._shape()
        try:
            self._take(path, value)
            problem = self._try()
        except ValueError as refused:  # a method that cannot be made at all
            problem = str(refused)
        fields = [replace(field, error=problem if field.name == path else "") for field in self._fields()]
        if self._shape() == shape:
            self.controls.redraw(fields)  # values stay: setting them would pull a slider back under the reader's hand
        else:
            self.controls.rebuild(fields, self._values())

    def _take(self, path: str, value: Any) -> None:
        if path == METHOD and self._methods:
            self._draft, self._method = draft_of(self._methods[value]()), value
        elif path in values_of(self._draft):
            self._draft = changed(self._draft, path, value)

    def _try(self) -> str:
        """Make the object; say why not, or make it the value."""
        try:
            settings = build(self._draft)
        except (TypeError, ValueError) as refused:
            return str(refused)
        self.value = settings
        self.code.set(code=code_of(settings))
        return ""

    def _fields(self) -> list[Field]:
        options = options_of(self._methods)
        first = [Field(name=METHOD, kind="choice", label=self._label, options=options)] if options else []
        return first + controls_of(self._draft)

    def _values(self) -> dict[str, Any]:
        return ({METHOD: self._method} if self._methods else {}) | values_of(self._draft)

    def _shape(self) -> list[str]:
        return [
            self._draft.cls.__name__,
            self._method,
            *(f"{f.name}{f.kind}{f.options}" for f in self._fields()),
        ]

    def _widget(self) -> ipywidgets.VBox:
        return self.view


class RulePicker(SettingsPicker):
    """Every registered rule with its settings; `value` is the rule.

    Args:
        total_steps: length of the training; rules that end do so after three quarters of it.
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
    """Every registered trick with its settings; `value` is the trick.

    Args:
        total_steps: length of the training; tricks that end do so after their usual share of it.
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
