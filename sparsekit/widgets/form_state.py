"""Turn any frozen dataclass into a list of controls, and the controls back into a dataclass.

A form state holds a dataclass's fields with values that need not fit together yet. We make it from type hints and
from the `help` and `range` in each field's metadata (`settings.setting`). A new rule or score therefore needs no code
for its controls.
"""

import dataclasses
import functools
import math
import types
import typing
from dataclasses import dataclass, replace
from typing import Any, Literal, Union

from sparsekit.utils.registry import get, kinds, names, num_registered
from sparsekit.widgets.controls import Field

NONE = "none"
MAX_SLIDER_STEPS = 1_000  # with more integers than that a slider cannot hit the one you want
Range = tuple[float, float] | None


@dataclass(frozen=True)
class FormState:
    """A form state holds the class and the field values of a dataclass that is not made yet, with nested ones too.

    Args:
        cls: the class to make.
        values: by field name, a `FormState` or a plain value that may still be refused.
        within: the range that nested numbers inherit when their own field names none.
    """

    cls: type
    values: dict[str, Any]
    within: Range = None


@dataclass(frozen=True)
class Slot:
    """A slot says what a field accepts, as its type without `None`, whether `None` is allowed, help and range."""

    name: str
    type: Any
    optional: bool
    help: str
    range: Range


def form_state_of(settings: Any, within: Range = None) -> FormState:
    """Return a settings object as a form state.

    Raises:
        TypeError: if it is not an instance of a dataclass.

    Example:
        >>> from sparsekit.schedules import Constant
        >>> form_state_of(Constant(0.3)).values
        {'value': 0.3}
    """
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"settings must be an instance of a dataclass, got {settings!r}. Make one with its defaults")
    slots = slots_of(type(settings), within)
    values = {slot.name: _nested(getattr(settings, slot.name), slot) for slot in slots}
    return FormState(type(settings), values, within)


def build(state: FormState) -> Any:
    """Make the settings object.

    Raises:
        ValueError: if a value does not fit its field, or the values do not fit each other.
    """
    slots = {slot.name: slot for slot in slots_of(state.cls, state.within)}
    return state.cls(**{name: _built(value, slots[name]) for name, value in state.values.items()})


def slots_of(cls: type, within: Range = None) -> list[Slot]:
    """Return what each field of a dataclass accepts."""
    hints = typing.get_type_hints(cls)
    return [_slot(field, hints[field.name], within) for field in dataclasses.fields(cls) if field.init]


def controls_of(state: FormState, prefix: str = "", depth: int = 0) -> list[Field]:
    """Return the controls of a form state in order, with nested settings below the field that holds them."""
    controls = []
    for slot in slots_of(state.cls, state.within):
        value = state.values[slot.name]
        controls.append(_control(slot, prefix, depth))
        if isinstance(value, FormState):
            controls += controls_of(value, f"{prefix}{slot.name}.", depth + 1)
    return controls


def values_of(state: FormState, prefix: str = "") -> dict[str, Any]:
    """Return the value that each control shows."""
    values: dict[str, Any] = {}
    for slot in slots_of(state.cls, state.within):
        value = state.values[slot.name]
        values[prefix + slot.name] = _control_value(slot, value)
        if isinstance(value, FormState):
            values |= values_of(value, f"{prefix}{slot.name}.")
    return values


def with_value(state: FormState, path: str, value: Any) -> FormState:
    """Return the form state with one control's value replaced. Another method brings its own settings."""
    name, _, rest = path.partition(".")
    slot = next(slot for slot in slots_of(state.cls, state.within) if slot.name == name)
    old = state.values[name]
    new = with_value(old, rest, value) if rest else _field_value(slot, old, value)
    return replace(state, values={**state.values, name: new})


def code_of(settings: Any) -> str:
    """Write a settings object as Python, without the fields that have their defaults.

    Example:
        >>> from sparsekit.schedules import Cosine
        >>> code_of(Cosine(0.3))
        'Cosine(start=0.3)'
    """
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return repr(settings)
    arguments = [
        f"{field.name}={code_of(getattr(settings, field.name))}"
        for field in dataclasses.fields(settings)
        if field.init and getattr(settings, field.name) != _default(field)
    ]
    return f"{type(settings).__name__}({', '.join(arguments)})"


def methods_for(field_type: Any) -> dict[str, type]:
    """Return the registered dataclasses that may stand in a field of this type, by name.

    Example:
        >>> from sparsekit.schedules import Schedule
        >>> "cosine" in methods_for(Schedule)
        True
    """
    return _methods_for(field_type, num_registered()) if isinstance(field_type, type) else {}


@functools.cache  # because a picker calls this a thousand times when it shows another rule
def _methods_for(field_type: type, _num_registered: int) -> dict[str, type]:
    # One name may stand for entries of several kinds, for example a drop score and a score before training.
    entries = [(name, get(kind, name)) for kind in kinds() for name in names(kind)]
    return {name: entry for name, entry in sorted(entries, key=lambda pair: pair[0]) if _makes(entry, field_type)}


def _makes(entry: Any, field_type: type) -> bool:
    return isinstance(entry, type) and issubclass(entry, field_type) and dataclasses.is_dataclass(entry)


def _slot(field: dataclasses.Field, hint: Any, within: Range) -> Slot:
    parts = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    plain = [part for part in parts if part is not type(None)]
    field_type = plain[0] if len(plain) == 1 else hint
    field_range = field.metadata.get("range")
    inherits = field_range is None and (field_type is float or methods_for(field_type))
    return Slot(
        field.name,
        field_type,
        len(parts) > len(plain),
        field.metadata.get("help", ""),
        within if inherits else field_range,
    )


def _nested(value: Any, slot: Slot) -> Any:
    is_settings = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return form_state_of(value, slot.range) if is_settings else value


def _built(value: Any, slot: Slot) -> Any:
    if isinstance(value, FormState):
        return build(value)
    if value is None and not slot.optional and slot.type in (int, float):
        raise ValueError(f"{slot.name} must be a number, got nothing. Type one")
    if slot.type is int and isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"{slot.name} must be an integer, got {value:g}. Leave the fraction out")
        return int(value)
    return float(value) if slot.type is float and isinstance(value, int) else value


def _control(slot: Slot, prefix: str, depth: int) -> Field:
    field = Field(name=prefix + slot.name, kind="text", label=prefix + slot.name, depth=depth, help=slot.help)
    options = _options(slot)
    if slot.type is bool and not slot.optional:
        return replace(field, kind="check")
    if options:
        return replace(field, kind="choice", options=tuple((option, option) for option in options))
    if slot.type in (int, float):
        return _number(slot, field)
    return field


def _number(slot: Slot, field: Field) -> Field:
    is_integer = slot.type is int
    low, high = (None if end is None or math.isinf(end) else end for end in slot.range or (None, None))
    if low is None or high is None or slot.optional or (is_integer and high - low > MAX_SLIDER_STEPS):
        return replace(field, kind="number", low=low, high=high, step=1 if is_integer else None, optional=slot.optional)
    return replace(field, kind="range", low=low, high=high, step=1 if is_integer else (high - low) / 100)


def _options(slot: Slot) -> list[str]:
    none = [NONE] if slot.optional else []
    if typing.get_origin(slot.type) is Literal:
        return none + [str(value) for value in typing.get_args(slot.type)]
    methods = list(methods_for(slot.type))
    return none + methods if methods else []


def _control_value(slot: Slot, value: Any) -> Any:
    """Turn a field's value into what its control shows."""
    if isinstance(value, FormState):
        return next((name for name, cls in methods_for(slot.type).items() if cls is value.cls), value.cls.__name__)
    if _options(slot):
        return NONE if value is None else str(value)
    return value if value is None or isinstance(value, bool | int | float) else repr(value)


def _field_value(slot: Slot, old: Any, value: Any) -> Any:
    """Turn a control's value into what the field gets."""
    if value == _control_value(slot, old):  # what no control can show stands there as code, which we do not read back
        return old
    if value == NONE and slot.optional:
        return None
    if typing.get_origin(slot.type) is Literal:
        return next(allowed for allowed in typing.get_args(slot.type) if str(allowed) == value)
    methods = methods_for(slot.type)
    return _another_method(methods[value], old, slot.range) if methods else value


def _another_method(cls: type, old: Any, within: Range) -> FormState:
    """Return the form state of another method, with the settings that it shares with the old one."""
    slots = slots_of(cls, within)
    defaults = {field.name: _default(field) for field in dataclasses.fields(cls)}
    values = {slot.name: _initial_value(slot, old, defaults[slot.name]) for slot in slots}
    return FormState(cls, values, within)


def _initial_value(slot: Slot, old: Any, default: Any) -> Any:
    old_values = old.values if isinstance(old, FormState) else {}
    if slot.name in old_values:
        return old_values[slot.name]
    if default is not dataclasses.MISSING:
        return _nested(default, slot)
    if methods := methods_for(slot.type):  # a schedule around another one, such as Warmup, takes in the old one
        return old if isinstance(old, FormState) else _another_method(next(iter(methods.values())), None, slot.range)
    numbers = [value for value in old_values.values() if isinstance(value, float)]
    if slot.type is float:
        return numbers[0] if numbers else (slot.range or (0.0, 1.0))[1] / 2
    return {int: int((slot.range or (100, 100))[0]), bool: False, str: ""}.get(slot.type, ())


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
