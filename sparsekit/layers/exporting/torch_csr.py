"""torch's own CSR matrices take the place of sparse linear weights in the state of the plain network."""

import copy
import warnings
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsekit.layers.exporting.plain import compressed_of, narrow
from sparsekit.utils.files import write_bytes


def write(model: nn.Module, plain: nn.Module, path: Path, example: Tensor | None) -> None:
    """Write a state for `load_state_dict(..., assign=True)`, in which linear layers alone are sparse.

    Convolutions and modules that keep their own forward stay dense, because torch computes them with no other weights.
    """
    state = dict(plain.state_dict())
    for key, rows in compressed_of(model).items():
        if len(rows.shape) == 2:
            pointers, columns = narrow(rows.pointers, torch.int32), narrow(rows.columns, torch.int32)
            state[key] = torch.sparse_csr_tensor(pointers, columns, rows.values, size=rows.shape, check_invariants=True)
    torch.save(state, file := BytesIO())
    write_bytes(path, file.getvalue())


def read(path: Path, plain: nn.Module) -> nn.Module:
    """Return a network that computes with the matrices of the file."""
    new = copy.deepcopy(plain)
    with warnings.catch_warnings():
        # Torch 2.15 says that checking the matrices may take a while. We want them checked.
        warnings.filterwarnings("ignore", "Validating sparse tensor invariants")
        new.load_state_dict(torch.load(path, weights_only=True), assign=True)
    return new
