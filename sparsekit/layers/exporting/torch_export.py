"""`torch.export` writes a program that torch runs without the code of the network."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsekit.layers.exporting.plain import several
from sparsekit.utils.files import write_bytes


def write(model: nn.Module, plain: nn.Module, path: Path, example: Tensor | None) -> None:
    """Write a program that takes batches of any size."""
    assert example is not None
    batch: Any = torch.export.Dim("batch")
    program = torch.export.export(plain, (several(example).cpu(),), dynamic_shapes=({0: batch},))
    torch.export.save(program, file := BytesIO())
    write_bytes(path, file.getvalue())


def read(path: Path, plain: nn.Module) -> Callable[[Tensor], Any]:
    """Return the program."""
    return torch.export.load(BytesIO(path.read_bytes())).module()
