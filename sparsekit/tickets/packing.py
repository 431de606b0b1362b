"""Into a file that holds numbers only, and back: what modules say of themselves beside tensors, and all kinds of them.

A file is in safetensors format: arrays of numbers with names, and words about them. What a module's `get_extra_state`
gives is written as JSON among the words; tensors in it are arrays with names of their own. Nothing is ever run.
"""

import base64
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

PAIRS = {torch.complex128: torch.float64, torch.complex32: torch.float16}  # kinds that the format does not know
PLAIN = (bool, int, float, str, type(None))
INSIDE = "extra state: "  # what the names of tensors inside of extra states begin with


def packed(tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return words and arrays that can be written to a file.

    Args:
        tensors: by name.
        extra: states by name that are no tensors.

    Raises:
        ValueError: if a state holds something else than numbers, words, bytes, tensors, and lists and dicts of those.

    Example:
        >>> words, arrays = packed({"a": torch.ones(1)}, {"b": {"seen": (3, torch.zeros(2))}})
        >>> unpacked(words, arrays)
        ({'a': tensor([1.])}, {'b': {'seen': (3, tensor([0., 0.]))}})
    """
    arrays = dict(tensors)
    told = {name: _told(name, value, arrays) for name, value in extra.items()}
    pairs = [name for name, tensor in arrays.items() if tensor.dtype in PAIRS]
    # Copies, because layers may share a tensor and the format knows none that are shared.
    arrays = {name: tensor.contiguous().clone() for name, tensor in arrays.items()}
    arrays |= {name: torch.view_as_real(arrays[name]).clone() for name in pairs}
    return {"extra": json.dumps(told), "pairs": json.dumps(pairs)}, arrays


def unpacked(words: Mapping[str, str], arrays: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what `packed` was given: tensors, and states that are none."""
    pairs = json.loads(words.get("pairs", "[]"))
    # A copy, because a file's memory need not begin where a complex number may.
    tensors = {**arrays, **{name: torch.view_as_complex(arrays[name].clone()) for name in pairs}}
    extra = {name: _heard(value, tensors) for name, value in json.loads(words.get("extra", "{}")).items()}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(INSIDE)}, extra


def _told(name: str, value: Any, arrays: dict[str, Tensor]) -> Any:
    if type(value) in PLAIN:
        return value
    if isinstance(value, Tensor):
        key = f"{INSIDE}{name} {len(arrays)}"
        arrays[key] = value
        return {"tensor": key}
    if type(value) is bytes:
        return {"bytes": base64.b64encode(value).decode()}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_told(name, one, arrays) for one in value]}
    if type(value) in (dict, OrderedDict):
        return {type(value).__name__: [[_told(name, part, arrays) for part in pair] for pair in value.items()]}
    raise ValueError(
        f"{name}: a ticket's file takes numbers, words, bytes, tensors, and lists and dicts of those, got "
        f"{type(value).__name__}; let get_extra_state return such"
    )


def _heard(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "bytes":
        return base64.b64decode(content)
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](_heard(one, tensors) for one in content)
    made = {"dict": dict, "OrderedDict": OrderedDict}[kind]
    return made((_heard(key, tensors), _heard(one, tensors)) for key, one in content)
