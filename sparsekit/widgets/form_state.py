"""Settings while a reader changes them: any frozen dataclass as a list of controls, and back.

A draft is a dataclass's fields with values that need not fit together yet. It is made from type hints and from the
`help` and `range` in each field's metadata (`settings.setting`), so a new rule or score gets its controls by itself.
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
MOST_SLIDER_STEPS = 1_000  # with more whole numbers than that a slider cannot hit the one you want
Range = tuple[float, float] | None


@dataclass(frozen=True)
class Draft:
    """A dataclass that is not made yet: its class and its fields' values, nested ones as drafts.

    Args:
        cls: the class to make.
        values: by field name; a `Draft`, or a plain value that may still be refused.
        within: the range that nested numbers inherit when their own field names none.
    """

    cls: type
    values: dict[str, Any]
    within: Range = None


@dataclass(frozen=True)
class Slot:
    """What a field accepts: its type without `None`, whether `None` is allowed, help and range."""

    name: str
    type: Any
    optional: bool
    help: str
    range: Range


def draft_of(settings: Any, within: Range = None) -> Draft:
    """Return a settings object as a draft.

    Raises:
        TypeError: if it is not an instance of a dataclass.

    Example:
        >>> from sparsekit.schedules import Constant
        >>> draft_of(Constant(0.3)).values
        {'value': 0.3}
    """
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"settings must be an instance of a dataclass, got {settings!r}; make one with its defaults")
    slots = slots_of(type(settings), within)
    return Draft(type(settings), {slot.name: _drafted(getattr(settings, slot.name), slot) for slot in slots}, within)


def build(draft: Draft) -> Any:
    """Make the settings object.

    Raises:
        ValueError: if a value does not fit its field, or the values do not fit each other.
    """
    slots = {slot.name: slot for slot in slots_of(draft.cls, draft.within)}
    return draft.cls(**{name: _built(value, slots[name]) for name, value in draft.values.items()})


def slots_of(cls: type, within: Range = None) -> list[Slot]:
    """Return what each field of a dataclass accepts."""
    hints = typing.get_type_hints(cls)
    return [_slot(field, hints[field.name], within) for field in dataclasses.fields(cls) if field.init]


def controls_of(draft: Draft, prefix: str = "", depth: int = 0) -> list[Field]:
    """Return the controls of a draft in order, nested settings below the field that holds them."""
    controls = []
    for slot in slots_of(draft.cls, draft.within):
        value = draft.values[slot.name]
        controls.append(_control(slot, prefix, depth))
        if isinstance(value, Draft):
            controls += controls_of(value, f"{prefix}{slot.name}.", depth + 1)
    return controls


def values_of(draft: Draft, prefix: str = "") -> dict[str, Any]:
    """Return the value that each control shows."""
    values: dict[str, Any] = {}
    for slot in slots_of(draft.cls, draft.within):
        value = draft.values[slot.name]
        values[prefix + slot.name] = _shown(slot, value)
        if isinstance(value, Draft):
            values |= values_of(value, f"{prefix}{slot.name}.")
    return values


def changed(draft: Draft, path: str, value: Any) -> Draft:
    """Return the draft with one control's value replaced; choosing another method brings its own settings."""
    name, _, rest = path.partition(".")
    slot = next(slot for slot in slots_of(draft.cls, draft.within) if slot.name == name)
    old = draft.values[name]
    new = changed(old, rest, value) if rest else _taken(slot, old, value)
    return replace(draft, values={**draft.values, name: new})


def code_of(settings: Any) -> str:
    """Write a settings object as Python, without what is as it would be anyway.

    Example:
        >>> from sparsekit.schedules import Cosine
        >>> code_of(Cosine(0.3))
        'Cosine(start=0.3)'
    """
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return repr(settings)
    given = [
        f"{field.name}={code_of(getattr(settings, field.name))}"
        for field in dataclasses.fields(settings)
        if field.init and getattr(settings, field.name) != _default(field)
    ]
    return f"{type(settings).__name__}({', '.join(given)})"


def methods_for(wanted: Any) -> dict[str, type]:
    """Return the registered dataclasses that may stand in a field of this type, by name.

    Example:
        >>> from sparsekit.schedules import Schedule
        >>> "cosine" in methods_for(Schedule)
        True
    """
    return _methods_for(wanted, num_registered()) if isinstance(wanted, type) else {}


@functools.cache  # asked for a thousand times where a picker shows another rule
def _methods_for(wanted: type, _num_registered: int) -> dict[str, type]:
    # One name may stand for things of several kinds: a drop score and a score before training, say.
    found = [(name, get(kind, name)) for kind in kinds() for name in names(kind)]
    return {name: thing for name, thing in sorted(found, key=lambda pair: pair[0]) if _makes(thing, wanted)}


def _makes(thing: Any, wanted: type) -> bool:
    return isinstance(thing, type) and issubclass(thing, wanted) and dataclasses.is_dataclass(thing)


def _slot(field: dataclasses.Field, hint: Any, within: Range) -> Slot:
    parts = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    plain = [part for part in parts if part is not type(None)]
    wanted = plain[0] if len(plain) == 1 else hint
    own = field.metadata.get("range")
    inherits = own is None and (wanted is float or methods_for(wanted))
    return Slot(
        field.name,
        wanted,
        len(parts) > len(plain),
        field.metadata.get("help", ""),
        within if inherits else own,
    )


def _drafted(value: Any, slot: Slot) -> Any:
    return draft_of(value, slot.range) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _built(value: Any, slot: Slot) -> Any:
    if isinstance(value, Draft):
        return build(value)
    if value is None and not slot.optional and slot.type in (int, float):
        raise ValueError(f"{slot.name} must be a number, got nothing; type one")
    if slot.type is int and isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"{slot.name} must be a whole number, got {value:g}; leave the fraction out")
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
    whole = slot.type is int
    low, high = (None if end is None or math.isinf(end) else end for end in slot.range or (None, None))
    if low is None or high is None or slot.optional or (whole and high - low > MOST_SLIDER_STEPS):
        return replace(field, kind="number", low=low, high=high, step=1 if whole else None, optional=slot.optional)
    return replace(field, kind="range", low=low, high=high, step=1 if whole else (high - low) / 100)


def _options(slot: Slot) -> list[str]:
    none = [NONE] if slot.optional else []
    if typing.get_origin(slot.type) is Literal:
        return none + [str(value) for value in typing.get_args(slot.type)]
    methods = list(methods_for(slot.type))
    return none + methods if methods else []


def _shown(slot: Slot, value: Any) -> Any:
    if isinstance(value, Draft):
        return next((name for name, cls in methods_for(slot.type).items() if cls is value.cls), value.cls.__name__)
    if _options(slot):
        return NONE if value is None else str(value)
    return value if value is None or isinstance(value, bool | int | float) else repr(value)


def _taken(slot: Slot, old: Any, value: Any) -> Any:
    """Turn what a control says into what the field gets."""
    if value == _shown(slot, old):  # what no control can show is written as code there, and is not read back
        return old
    if value == NONE and slot.optional:
        return None
    if typing.get_origin(slot.type) is Literal:
        return next(allowed for allowed in typing.get_args(slot.type) if str(allowed) == value)
    methods = methods_for(slot.type)
    return _fresh(methods[value], old, slot.range) if methods else value


def _fresh(cls: type, old: Any, within: Range) -> Draft:
    """Draft another method, keeping the settings that it shares with the old one."""
    slots = slots_of(cls, within)
    defaults = {field.name: _default(field) for field in dataclasses.fields(cls)}
    values = {slot.name: _first_value(slot, old, defaults[slot.name]) for slot in slots}
    return Draft(cls, values, within)


def _first_value(slot: Slot, old: Any, default: Any) -> Any:
    before = old.values if isinstance(old, Draft) else {}
    if slot.name in before:
        return before[slot.name]
    if default is not dataclasses.MISSING:
        return _drafted(default, slot)
    if methods_for(slot.type):  # a schedule around another one, such as Warmup, takes in the one that was there
        return old if isinstance(old, Draft) else _fresh(next(iter(methods_for(slot.type).values())), None, slot.range)
    numbers = [value for value in before.values() if isinstance(value, float)]
    if slot.type is float:
        return numbers[0] if numbers else (slot.range or (0.0, 1.0))[1] / 2
    return {int: int((slot.range or (100, 100))[0]), bool: False, str: ""}.get(slot.type, ())


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
