"""These functions encode the state of a network for a file that holds nothing but arrays and texts, and decode it.

A file is in safetensors format, with arrays of numbers by name, and texts about them. The extra states that a module's
`get_extra_state` returns become JSON among the texts. Tensors in them become arrays with names of their own. Nothing in
a file is ever run.
"""

import base64
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

PAIRS = {torch.complex128: torch.float64, torch.complex32: torch.float16}  # types that the format lacks
PLAIN = (bool, int, float, str, type(None))
INSIDE = "extra state: "  # the names of tensors inside extra states begin with this


def encode(tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return texts and arrays that can be written to a file.

    Args:
        tensors: by name.
        extra: states that are no tensors, by name.

    Raises:
        ValueError: if a state holds something else than numbers, texts, bytes, tensors, and lists and dicts of those.

    Example:
        >>> texts, arrays = encode({"a": torch.ones(1)}, {"b": {"pair": (3, torch.zeros(2))}})
        >>> decode(texts, arrays)
        ({'a': tensor([1.])}, {'b': {'pair': (3, tensor([0., 0.]))}})
    """
    arrays = dict(tensors)
    state = {name: _encode_value(name, value, arrays) for name, value in extra.items()}
    pairs = [name for name, tensor in arrays.items() if tensor.dtype in PAIRS]
    # We copy, because layers may share a tensor, which the format does not allow.
    arrays = {name: tensor.contiguous().clone() for name, tensor in arrays.items()}
    arrays |= {name: torch.view_as_real(arrays[name]).clone() for name in pairs}
    return {"extra": json.dumps(state), "pairs": json.dumps(pairs)}, arrays


def decode(texts: Mapping[str, str], arrays: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the extra states that `encode` got."""
    pairs = json.loads(texts.get("pairs", "[]"))
    # We copy, because a file's bytes need not be aligned for complex numbers.
    tensors = {**arrays, **{name: torch.view_as_complex(arrays[name].clone()) for name in pairs}}
    extra = {name: _decode_value(value, tensors) for name, value in json.loads(texts.get("extra", "{}")).items()}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(INSIDE)}, extra


def _encode_value(name: str, value: Any, arrays: dict[str, Tensor]) -> Any:
    if type(value) in PLAIN:
        return value
    if isinstance(value, Tensor):
        key = f"{INSIDE}{name} {len(arrays)}"
        arrays[key] = value
        return {"tensor": key}
    if type(value) is bytes:
        return {"bytes": base64.b64encode(value).decode()}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_encode_value(name, one, arrays) for one in value]}
    if type(value) in (dict, OrderedDict):
        return {type(value).__name__: [[_encode_value(name, part, arrays) for part in pair] for pair in value.items()]}
    raise ValueError(
        f"{name}: a ticket's file takes numbers, texts, bytes, tensors, and lists and dicts of those, got "
        f"{type(value).__name__}. Let get_extra_state return such"
    )


def _decode_value(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "bytes":
        return base64.b64decode(content)
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](_decode_value(one, tensors) for one in content)
    build = {"dict": dict, "OrderedDict": OrderedDict}[kind]
    return build((_decode_value(key, tensors), _decode_value(one, tensors)) for key, one in content)
