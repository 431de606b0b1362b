"""An npz file is for NumPy and SciPy, whose `csr_array` takes compressed rows as they are."""

import copy
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from sparsekit.layers.exporting.plain import compressed_in_owners, compressed_of, narrow
from sparsekit.utils.files import write_bytes

PARTS = ("data", "indices", "indptr")


def write(model: nn.Module, plain: nn.Module, path: Path, example: Tensor | None) -> None:
    """Write the state of the plain network, with `weight.data`, `.indices` and `.indptr` for sparse weights.

    SciPy computes with int32 and int64 only, so columns are no narrower. A convolution's weight is flattened to a
    matrix, and `weight.shape` is the shape that it has.
    """
    arrays: dict[str, Any] = {key: _numbers(x) for key, x in plain.state_dict().items()}
    for key, rows in {**compressed_of(model), **compressed_in_owners(model, plain)}.items():
        del arrays[key]
        parts = (rows.values, narrow(rows.columns, torch.int32), narrow(rows.pointers, torch.int32))
        arrays |= {f"{key}.{part}": _numbers(x) for part, x in zip(PARTS, parts, strict=True)}
        arrays[f"{key}.shape"] = np.array(rows.shape)
    np.savez(file := BytesIO(), **arrays)
    write_bytes(path, file.getvalue())


def read_npz(path: str | Path) -> dict[str, Any]:
    """Return what `export` has written, sparse weights as SciPy's `csr_array` and everything else as NumPy's arrays.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(net := nn.Linear(2, 2), net, path := Path(folder) / "net.npz", None)
        ...     list(read_npz(path))
        ['weight', 'bias']
    """
    with np.load(path) as file:
        arrays = dict(file)
    for key in [name.removesuffix(".indptr") for name in arrays if name.endswith(".indptr")]:
        parts = tuple(arrays.pop(f"{key}.{part}") for part in PARTS)
        height, *sides = arrays.pop(f"{key}.shape").tolist()
        arrays[key] = csr_array(parts, shape=(height, int(np.prod(sides))))
    return arrays


def read(path: Path, plain: nn.Module) -> nn.Module:
    """Return a network with the numbers of the file."""
    new = copy.deepcopy(plain)
    arrays = {key: x.toarray() if isinstance(x, csr_array) else x for key, x in read_npz(path).items()}
    shapes = {key: x.shape for key, x in plain.state_dict().items()}
    new.load_state_dict({key: torch.from_numpy(np.asarray(x)).view(shapes[key]) for key, x in arrays.items()})
    return new


def _numbers(x: Tensor) -> np.ndarray:
    """Return a tensor as an array, in float32 where NumPy lacks the type."""
    x = x.detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
