"""A safetensors file holds numbers only. Sparse weights are in compressed rows, with narrow integers for columns."""

import copy
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sparsekit.layers.exporting.plain import compressed_in_owners, compressed_of, narrow
from sparsekit.layers.products import dense_matrix
from sparsekit.utils.checks import shown
from sparsekit.utils.files import write_bytes

SHAPES = "sparsekit.shapes"  # the text with the shape of each sparse weight
IN_OWNERS = "sparsekit.in_owners"  # the text with the keys of those whose module keeps its own forward
POINTERS, COLUMNS, VALUES = "pointers", "columns", "values"


def write(model: nn.Module, plain: nn.Module, path: Path, example: Tensor | None) -> None:
    """Write the state of the plain network, with `weight.pointers`, `.columns` and `.values` for sparse weights."""
    state, shapes, in_owners = dict(plain.state_dict()), {}, compressed_in_owners(model, plain)
    for key, rows in {**compressed_of(model), **in_owners}.items():
        del state[key]
        shapes[key] = rows.shape
        state[f"{key}.{POINTERS}"] = narrow(rows.pointers, torch.int32)
        state[f"{key}.{COLUMNS}"] = narrow(rows.columns, torch.uint8, torch.int16, torch.int32)
        state[f"{key}.{VALUES}"] = rows.values
    # We copy, because layers may share a tensor, which the format does not allow.
    arrays = {key: x.detach().contiguous().clone() for key, x in state.items()}
    texts = {"format": "pt", SHAPES: json.dumps(shapes), IN_OWNERS: json.dumps(list(in_owners))}
    write_bytes(path, save(arrays, metadata=texts))


def read_safetensors(path: str | Path, *, dense: bool = True) -> dict[str, Tensor]:
    """Return the state that `export` has written, for `load_state_dict`.

    Args:
        path: the file.
        dense: with dense weights, for the plain network. Otherwise the state has `indices` and `packed_weight`, which a
            sparse network takes in either storage, with its topology.

    Raises:
        ValueError: if `export` has not written the file, or the state of a sparse network is asked for where modules
            keep their own forward, whose connections the file does not name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(net := nn.Linear(2, 2), net, path := Path(folder) / "net.safetensors", None)
        ...     list(read_safetensors(path))
        ['bias', 'weight']
    """
    with safe_open(path, framework="pt") as file:
        texts = file.metadata() or {}
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no mapping
    if SHAPES not in texts:
        raise ValueError(f"{path} must be a file that sparsekit.export wrote, got another. Use safetensors itself")
    if not dense and (kept := json.loads(texts.get(IN_OWNERS, "[]"))):
        raise ValueError(
            f"dense must be True where modules keep their own forward, got {shown(kept[0])} of one. Load the dense "
            "state into the plain network, and call from_pruned"
        )
    for key, shape in json.loads(texts[SHAPES]).items():
        pointers, columns, values = (state.pop(f"{key}.{part}") for part in (POINTERS, COLUMNS, VALUES))
        width = int(torch.tensor(shape[1:]).prod())
        if dense:
            state[key] = dense_matrix(pointers, columns, values, width).view(shape)
        else:
            rows = torch.arange(len(pointers) - 1).repeat_interleave(pointers.diff().long())
            prefix = key.removesuffix("weight")
            state[f"{prefix}indices"] = rows * width + columns
            state[f"{prefix}packed_weight"] = values
    return state


def read(path: Path, plain: nn.Module) -> nn.Module:
    """Return a network with the numbers of the file."""
    new = copy.deepcopy(plain)
    new.load_state_dict(read_safetensors(path))
    return new
