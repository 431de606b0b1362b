"""Results as JSON and back, so that nothing a student's process sends can run in a teacher's."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsekit.experiments.course.comparing import brief

MOST_NUMBERS = 200_000  # of an array. The expected ones are far smaller
DEEPEST = 20  # lists in lists


def encode(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON has it. What we do not know becomes a text that equals nothing.

    Example:
        >>> decode(encode([1, (2.5, torch.ones(2))]))
        [1, (2.5, tensor([1., 1.]))]
    """
    if depth > DEEPEST:
        return {"other": "a value nested too deeply"}
    if value is None or type(value) in (bool, str, int):
        return value
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, float | np.floating):
        return {"float": repr(float(value))}  # as text, because JSON has no infinity
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, Tensor | np.ndarray):
        return _encode_array(value)
    if isinstance(value, list | tuple):
        return {type(value).__name__ if type(value) is list else "tuple": [encode(one, depth + 1) for one in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, depth + 1), encode(one, depth + 1)] for key, one in value.items()]}
    return {"other": brief(value)}


def decode(code: Any) -> Any:
    """Return the value that `encode` was given.

    Raises:
        ValueError: if it was not `encode` that wrote this.
    """
    if not isinstance(code, dict):
        return code
    if len(code) != 1:
        raise ValueError(f"a value must have one kind, got {brief(code)}. Ask the process again")
    ((kind, inner),) = code.items()
    match kind:
        case "float":
            return float(inner)
        case "list":
            return [decode(one) for one in inner]
        case "tuple":
            return tuple(decode(one) for one in inner)
        case "dict":
            return {decode(key): decode(one) for key, one in inner}
        case "tensor" | "ndarray":
            array = torch.tensor(inner["numbers"], dtype=torch.float64).view(inner["shape"])
            return array.to(getattr(torch, inner["dtype"])) if kind == "tensor" else array.numpy()
        case "other":
            return Other(inner)
    raise ValueError(f"a value must be of a kind that we know, got {kind!r}. Ask the process again")


class Other:
    """A value of a kind that no exercise expects. It is written as it was, and equals nothing."""

    def __init__(self, text: str):
        self.text = str(text)

    def __repr__(self) -> str:
        return self.text


def _encode_array(value: Tensor | np.ndarray) -> dict:
    size = math.prod(value.shape)
    if size > MOST_NUMBERS:
        return {"other": brief(value)}
    tensor = value.detach().cpu().to_dense() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    numbers = tensor.to(torch.float64).flatten().tolist()
    dtype = str(tensor.dtype).removeprefix("torch.")
    kind = "tensor" if isinstance(value, Tensor) else "ndarray"
    return {kind: {"numbers": numbers, "shape": list(tensor.shape), "dtype": dtype}}
