"""Settings of methods: fields that explain themselves, and their way to JSON and back."""

import dataclasses
import math
import os
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from sparsekit.utils.checks import check_types, number
from sparsekit.utils.registry import get, kinds, names


def setting(default: Any, help: str, *, range: tuple[float, float] | None = None) -> Any:
    """Return a dataclass field with a sentence of help and the range in which values make sense.

    Pickers in notebooks and the command line are made from both.
    """
    return dataclasses.field(default=default, metadata={"help": help, "range": range})


class CheckedSettings:
    """A base for dataclasses of settings: each field is checked against its type when an object is made."""

    def __post_init__(self):
        check_types(self)


def check_range(owner: Any, **ranges: tuple[float, float]) -> None:
    """Raise ValueError unless the named attributes of a settings object lie in their ranges, ends included.

    An infinite end is not included, because numbers must be finite.
    """
    for name, (low, high) in ranges.items():
        value = getattr(owner, name)
        if not low <= number(f"{type(owner).__name__}.{name}", value) <= high or math.isinf(value):
            raise ValueError(f"{type(owner).__name__}.{name} must lie in [{low}, {high}], got {value}. See its help")


@lru_cache(maxsize=1024)  # a rule asks for the same share layer by layer, and member by member of a population
def exact_fraction(share: float) -> Fraction:
    """Return the fraction that a float stands for: 29/100 for 0.29, 3/28 for 12 / 112.

    Floats are rounded, so `0.29 * 100` is a little less than 29, and rounded down it would be one too few. This finds
    the fraction with a denominator of up to a million that is within the rounding of a few operations. Where there is
    none, it is the decimal as it is written.

    Raises:
        ValueError: if the share is not finite.

    Example:
        >>> [exact_fraction(share) for share in (0.29, 1 / 3, 1 - 0.95)]
        [Fraction(29, 100), Fraction(1, 3), Fraction(1, 20)]
    """
    if not math.isfinite(share):
        raise ValueError(f"a share must be finite, got {share}. Look where it was computed")
    decimal = Fraction(str(share))
    simple = decimal.limit_denominator(1_000_000)
    return simple if abs(simple - decimal) <= max(2**-52, 4 * math.ulp(share)) else decimal


# What libraries read as they are loaded. Each starts as many threads as these say, which may end the process.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def check_threads(threads: int, what: str = "threads") -> int:
    """Return a number of threads if this machine has a processor for each.

    Raises:
        ValueError: if it is below 1 or above the number of processors.

    Example:
        >>> check_threads(1)
        1
    """
    most = os.cpu_count() or 1
    if not 1 <= threads <= most:
        raise ValueError(
            f"{what} must lie between 1 and {most}, the processors of this machine, got {threads}. Ask for "
            "fewer, since more would wait for each other, and thousands end the process"
        )
    return threads


def check_thread_variables() -> None:
    """Raise ValueError if an environment variable asks for more threads than this machine has processors."""
    for name in THREAD_VARIABLES:
        for part in os.environ.get(name, "").split(","):  # OpenMP takes a number for each nesting level
            if part.strip().isdecimal():
                check_threads(int(part), name)


def to_plain(value: Any) -> Any:
    """Return a value as JSON can hold it, where registered dataclasses become their kind, name and fields.

    Raises:
        TypeError: for a dataclass that is not registered, or any other object JSON does not know.

    Example:
        >>> from sparsekit.schedules import Constant
        >>> to_plain({"drop_fraction": Constant(0.3)})
        {'drop_fraction': {'kind': 'schedule', 'name': 'constant', 'value': 0.3}}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind, name = _registered_as(type(value))
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": kind, "name": name, **fields}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"settings must be numbers, texts, lists or registered dataclasses, got {type(value).__name__}")


def changed_settings(value: Any) -> Any:
    """Return `to_plain(value)` without the settings that have their default, however deep: what a choice consists of.

    So a new setting with a default changes the answer for no choice made before it was there.

    Example:
        >>> from sparsekit.schedules import Linear
        >>> changed_settings(Linear(1.0))
        {'kind': 'schedule', 'name': 'linear', 'start': 1.0}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind, name = _registered_as(type(value))
        settings = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        defaults = {f.name: default_of(f) for f in dataclasses.fields(value)}
        changed = {key: changed_settings(item) for key, item in settings.items() if item != defaults[key]}
        return {"kind": kind, "name": name, **changed}
    if isinstance(value, Mapping):
        return {str(key): changed_settings(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [changed_settings(item) for item in value]
    return to_plain(value)


def default_of(field: dataclasses.Field) -> Any:
    """Return a dataclass field's default value, or `dataclasses.MISSING`."""
    # By its class, because a class that came here from another process has a copy of MISSING.
    factory: Any = field.default_factory
    return field.default if isinstance(factory, type(dataclasses.MISSING)) else factory()


def from_plain(value: Any) -> Any:
    """Return the value of which `to_plain` made a plain one, with tuples in place of lists.

    Raises:
        ValueError: if a kind or name is not known here.
    """
    if isinstance(value, Mapping) and {"kind", "name"} <= set(value):
        fields = {key: from_plain(item) for key, item in value.items() if key not in ("kind", "name")}
        return get(value["kind"], value["name"])(**fields)
    if isinstance(value, Mapping):
        return {key: from_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(from_plain(item) for item in value)
    return value


def _registered_as(cls: type) -> tuple[str, str]:
    for kind in kinds():
        for name in names(kind):
            if get(kind, name) is cls:
                return kind, name
    raise TypeError(f"{cls.__name__} must be registered to be written as JSON. Decorate it with @register(kind, name)")
