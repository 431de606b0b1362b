"""ONNX is a program for many runtimes. Its layers are plain, so zeros take part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsekit.layers.exporting.plain import check_installed, is_installed, several
from sparsekit.utils.files import write_bytes


def write(model: nn.Module, plain: nn.Module, path: Path, example: Tensor | None) -> None:
    """Write a program that takes batches of any size.

    Raises:
        ImportError: if torch's exporter lacks its packages.
    """
    check_installed("the format onnx", "onnx", "onnxscript")
    assert example is not None
    batch: Any = torch.export.Dim("batch")
    inputs = (several(example).cpu(),)
    program = torch.onnx.export(plain, inputs, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    assert program is not None
    write_bytes(path, program.model_proto.SerializeToString())


def read(path: Path, plain: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Return the program as ONNX Runtime runs it, or None where that is not installed."""
    if not is_installed("onnxruntime"):
        return None
    import onnxruntime  # pyright: ignore[reportMissingImports]  # of the extra `export`

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: torch.from_numpy(session.run(None, {name: inputs.cpu().numpy()})[0])
