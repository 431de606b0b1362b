"""Checks of types and numbers that come from outside, each of which is refused with a sentence if it is wrong."""

import collections.abc
import dataclasses
import functools
import math
import numbers
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "a text", types.NoneType: "none"}
# What to do instead, by the type that a setting needs.
WAYS = {
    "int": "Round it",
    "float": "Write it without quotes, and take .item() of a tensor",
    "bool": "Write True or False",
    "str": "Put it in quotes",
    "tuple": "Write (one,) for a single one",
    "Mapping": "Write {'name': value}",
    "Literal": "Choose one of them",
    "Callable": "Write lambda ...: ..., or the name of a function",
    "DropScore": "Make one, as in Magnitude()",
    "GrowScore": "Make one, as in Gradient()",
    "Candidates": "Make one, as in AllMissing()",
    "Experiment": "Take one of the recipes",
    "Schedule": "Write Constant(...) to keep a number",
    "Rule": "Use rules.make_rule, or a recipe, which takes names",
    "Score": "Use scores.SNIP(), or a recipe, which takes names",
}


def check_types(owner: Any, *, any_number: tuple[str, ...] = ()) -> None:
    """Check that every field of a settings object is of its annotated type, and make numbers of numpy plain ones.

    True and false are no numbers here. You may give a list where a tuple is expected.

    Args:
        owner: a dataclass object, frozen or not.
        any_number: fields that may be infinite or NaN.

    Raises:
        TypeError: if a field is of another type.
        ValueError: if a number is not finite, or a text is none of the known ones.
    """
    for field, hint in _hints(type(owner)):
        value = getattr(owner, field.name)
        if value is field.default:
            continue
        plain = _plain(value, hint)
        _check(f"{type(owner).__name__}.{field.name}", value, plain, hint, finite=field.name not in any_number)
        if plain is not value:
            object.__setattr__(owner, field.name, plain)


def check_integer(what: str, value: Any, *, least: int | None = None) -> int:
    """Return a number as a plain int, for example one of numpy.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is below the least.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{what} must be an integer, got {shown(value)}. Round it")
    if least is not None and value < least:
        raise ValueError(f"{what} must be at least {least}, got {value}. Raise it")
    return int(value)


def number(what: str, value: Any) -> Any:
    """Return a number as a plain one, for example one of numpy, or raise TypeError if it is no number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{what} must be a number, got {shown(value)}. {WAYS['float']}")
    return _unboxed(value)


def check_finite_number(what: str, value: Any) -> Any:
    """Return a number as a plain one, for example one of numpy.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is infinite or NaN.
    """
    if not math.isfinite(number(what, value)):
        raise ValueError(f"{what} must be finite, got {value}. Look where it was computed")
    return _unboxed(value)


def must_be(what: str, value: Any, kind: type, way: str) -> None:
    """Raise TypeError unless a value is of a class. The `way` says what to do instead, as in "give the network"."""
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be a {kind.__name__}, got {shown(value)}. {way[:1].upper()}{way[1:]}")


def sides_of(shape: Any) -> tuple[int, ...]:
    """Return a weight's shape, `(outputs, inputs, *kernel)`, as plain numbers.

    Raises:
        TypeError: if it is no sequence of integers.
        ValueError: if it has fewer than two sides, or one that is not positive.
    """
    if not isinstance(shape, collections.abc.Sequence) or isinstance(shape, str):
        raise TypeError(f"a weight's shape must be (outputs, inputs, *kernel), got {shown(shape)}. Use weight.shape")
    sides = tuple(check_integer("a side of a weight's shape", side) for side in shape)
    if len(sides) < 2 or min(sides) < 1:
        raise ValueError(f"a weight's shape must have two or more positive sides, got {sides}. Use weight.shape")
    return sides


def suits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type, where integers are numbers, but true and false are not."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(
            isinstance(value, type(one)) and isinstance(value, bool) == isinstance(one, bool) and value == one
            for one in parts
        )
    if origin in (Union, types.UnionType):
        return any(suits(value, one) for one in parts)
    if origin is tuple and isinstance(value, tuple):
        each = parts[:1] * len(value) if parts[1:] == (...,) else parts
        return len(value) == len(each) and all(map(suits, value, each))
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return callable(value)
    classes = (int, float) if hint is float else origin or hint
    if hint is Any or not isinstance(classes, type | tuple):
        return True  # because there is nothing to check here
    return isinstance(value, classes) and (hint is bool or classes is object or not isinstance(value, bool))


def type_in_words(hint: Any, *, quoted: bool = False) -> str:
    """Return a type in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr if quoted else str, parts))
    if origin in (Union, types.UnionType):
        return " or ".join(type_in_words(one, quoted=quoted) for one in parts)
    if origin is tuple:
        each = list(dict.fromkeys(type_in_words(one, quoted=quoted) for one in parts if one is not ...))
        return f"a tuple, each {each[0]}" if len(each) == 1 else f"a tuple of {', '.join(each)}"
    return WORDS.get(hint, f"a {getattr(origin or hint, '__name__', hint)}")


def shown(value: Any) -> str:
    """Return a value as a message can show it, where a long one is named by its type."""
    if isinstance(value, type):
        return f"the class {value.__name__}, which must be called"
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else type(value).__name__


def _check(what: str, value: Any, plain: Any, hint: Any, *, finite: bool) -> None:
    if not suits(plain, hint):
        error = ValueError if isinstance(value, str) and _has_literals(hint) else TypeError
        way = _way(hint)
        raise error(f"{what} must be {type_in_words(hint, quoted=True)}, got {shown(value)}. {way}")
    several = plain if isinstance(plain, tuple) else (plain,)
    if finite and any(isinstance(one, float) and not math.isfinite(one) for one in several):
        raise ValueError(f"{what} must be finite, got {shown(value)}. Look where it was computed")


def _plain(value: Any, hint: Any) -> Any:
    """Return numbers of numpy as plain ones, and a list as a tuple where the type is one."""
    wants_tuple = any(tuple in (one, get_origin(one)) for one in (hint, *get_args(hint)))
    if isinstance(value, list | tuple) and wants_tuple:
        return tuple(map(_unboxed, value))
    return _unboxed(value)


def _unboxed(value: Any) -> Any:
    """Return a number of numpy as a plain one, without importing numpy, which takes long."""
    return value.item() if type(value).__module__ == "numpy" and not getattr(value, "ndim", 1) else value


def _has_literals(hint: Any) -> bool:
    return Literal in (get_origin(hint), *map(get_origin, get_args(hint)))


def _way(hint: Any) -> str:
    for one in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if way := WAYS.get(getattr(get_origin(one) or one, "__name__", "")):
            return way
    return "Make one and give it"


@functools.cache
def _hints(cls: type) -> tuple[tuple[dataclasses.Field, Any], ...]:
    """Return the fields of a dataclass with their types, but those written as strings, which type checkers read."""
    fields = [field for field in dataclasses.fields(cls) if not isinstance(field.type, str)]
    return tuple((f, get_args(f.type)[0] if get_origin(f.type) is Annotated else f.type) for f in fields)
