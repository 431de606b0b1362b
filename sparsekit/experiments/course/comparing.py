"""Compare what a reader's answer returns with what we expect, and say where the two differ first."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

MAX_LENGTH = 80  # characters of a value in a message
MAX_NUMBERS = 8  # of an array that we write out


def difference(result: Any, expected: Any, tolerance: float = 1e-5) -> str | None:
    """Return where two values differ (an empty text for the whole), or None where they agree.

    What cannot be compared differs.

    Example:
        >>> difference({"a": [1.0, 2.0]}, {"a": [1.0, 3.0]}), difference(0.1 + 0.2, 0.3)
        (', which differs first at ["a"][1]', None)
    """
    try:
        path = _differing_path(result, expected, tolerance)
    except Exception:  # an answer may be anything, even an object that refuses comparison
        return ""
    return f", which differs first at {path}" if path else path


def brief(value: Any) -> str:
    """Write a value on one line, with arrays as their shape unless they are small.

    Example:
        >>> brief(np.zeros((4, 5))), brief([1, 2])
        ('ndarray of shape (4, 5)', '[1, 2]')
    """
    if isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) > MAX_NUMBERS:
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an answer may be anything, even an object that cannot be written
        text = f"an object of {type(value).__name__}"
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 1] + "…"


def _differing_path(result: Any, expected: Any, tolerance: float) -> str | None:
    if isinstance(expected, Mapping):
        fits = isinstance(result, Mapping) and set(result) == set(expected)
        return _differing_item(result, expected, list(expected), tolerance) if fits else ""
    if isinstance(expected, list | tuple):
        fits = isinstance(result, list | tuple) and len(result) == len(expected)
        return _differing_item(result, expected, list(range(len(expected))), tolerance) if fits else ""
    if isinstance(expected, Tensor | np.ndarray | np.number | int | float):
        return _differing_index(_numbers(result), _numbers(expected), tolerance)
    return None if bool(result == expected) else ""


def _differing_item(result: Any, expected: Any, keys: list, tolerance: float) -> str | None:
    for key in keys:
        inner = _differing_path(result[key], expected[key], tolerance)
        if inner is not None:
            return f'["{key}"]{inner}' if isinstance(key, str) else f"[{key}]{inner}"
    return None


def _differing_index(first: Float[np.ndarray, "..."], second: Float[np.ndarray, "..."], tolerance: float) -> str | None:
    if first.shape != second.shape:
        return ""
    is_close = np.asarray(np.isclose(first, second, rtol=tolerance, atol=tolerance, equal_nan=True))
    if is_close.all():
        return None
    return f"[{', '.join(str(number) for number in np.argwhere(~is_close)[0])}]" if is_close.ndim else ""


def _numbers(value: Any) -> Float[np.ndarray, "..."]:
    if isinstance(value, str):
        raise TypeError(f"numbers must not come as text, got {value!r}")  # because numpy would read "3" as 3
    return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value).astype(np.float64)
