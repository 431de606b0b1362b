"""`export` writes a trained network for other programs, reads it back, and compares it with the network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparsekit.layers.exporting import npz, onnx, pretrained, safetensors, torch_csr, torch_export
from sparsekit.layers.exporting.npz import read_npz
from sparsekit.layers.exporting.plain import plain_of
from sparsekit.layers.exporting.safetensors import read_safetensors
from sparsekit.utils.checks import must_be, shown

__all__ = ["FORMATS", "Exported", "export", "read_npz", "read_safetensors"]

AGREES = 1e-4  # of the largest output. Other programs add in another order, in float32


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and how well it agrees with the network.

    Args:
        path: the file, or the folder of `pretrained`.
        format: one of the names of `FORMATS`.
        bytes: size of all that was written.
        error: largest difference of an output, over the largest one. Without an example it is that of all weights.
            None if nothing here can run what was written, as ONNX Runtime would.
    """

    path: Path
    format: str
    bytes: int
    error: float | None


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format can be written and read back.

    Args:
        suffix: of its files, by which it is recognised, or none for a folder.
        write: `(model, plain, path, example)`, where `plain` is the network with plain layers.
        read: `(path, plain)`, which returns what was written as a function of the inputs, or None if nothing here can
            run it.
        needs_example: whether the network must be run to be written.
    """

    suffix: str
    write: Callable[[nn.Module, nn.Module, Path, Tensor | None], None]
    read: Callable[[Path, nn.Module], Callable[[Tensor], Any] | None]
    needs_example: bool = False


FORMATS: dict[str, Format] = {
    "onnx": Format(suffix=".onnx", write=onnx.write, read=onnx.read, needs_example=True),
    "torch-export": Format(suffix=".pt2", write=torch_export.write, read=torch_export.read, needs_example=True),
    "safetensors": Format(suffix=".safetensors", write=safetensors.write, read=safetensors.read),
    "npz": Format(suffix=".npz", write=npz.write, read=npz.read),
    "torch-csr": Format(suffix=".pt", write=torch_csr.write, read=torch_csr.read),
    "pretrained": Format(suffix="", write=pretrained.write, read=pretrained.read),
}
"""What `export` can write, by the name that it takes."""


def export(model: nn.Module, path: str | Path, *, format: str | None = None, example: Tensor | None = None) -> Exported:
    """Write a network for other programs, read it back, and refuse what does not agree with the network.

    - `onnx` (`.onnx`) and `torch-export` (`.pt2`) are programs with plain layers, for batches of any size.
    - `safetensors` (`.safetensors`), `npz` (`.npz`) and `torch-csr` (`.pt`) hold the connections in compressed rows,
      and everything else as it is. `npz` is for SciPy, `torch-csr` for `load_state_dict(..., assign=True)` of the plain
      network, and `read_safetensors` gives a state for either.
    - `pretrained` is a folder, for models of Hugging Face.

    Args:
        model: sparse, condensed or plain. It stays as it is, and what is written is in evaluation mode.
        path: where to write. An existing file is replaced.
        format: one of `FORMATS`, or None to go by the end of the path's name.
        example: a batch of inputs. `onnx` and `torch-export` need one.

    Raises:
        TypeError: if the model or the example is something else.
        ValueError: if there is no such format, an example is missing, or what was written does not agree.
        ImportError: if a package is missing. The message says which to install.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export(nn.Linear(2, 2), Path(folder) / "net.safetensors").error
        0.0
    """
    must_be("model", model, nn.Module, "Give the model that sparsify returned")
    if example is not None:
        must_be("example", example, Tensor, "Give a batch of inputs")
    path, chosen = Path(path), format or _format_of(Path(path))
    if chosen not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {shown(chosen)}. Choose one of them")
    one = FORMATS[chosen]
    if one.needs_example and example is None:
        raise ValueError(f"{chosen} must see the network run, got no inputs. Give example=inputs")
    plain = plain_of(model)
    one.write(model, plain, path, example)
    error = _error(one, path, plain, example)
    if error is not None and not error <= AGREES:
        raise ValueError(
            f"what was written must agree with the network, got outputs that differ by {error:.1e} of the largest in "
            f"{path}. Choose another format, and do not use this one"
        )
    return Exported(path=path, format=chosen, bytes=_bytes(path), error=error)


def _format_of(path: Path) -> str:
    suffixes = {one.suffix: name for name, one in FORMATS.items()}
    if path.suffix not in suffixes:
        known = ", ".join(suffix for suffix in suffixes if suffix)
        raise ValueError(
            f"the path must end with one of {known}, or be a folder, got {path.name!r}. Rename it, or give "
            f"format=... as well"
        )
    return suffixes[path.suffix]


@torch.no_grad()
def _error(one: Format, path: Path, plain: nn.Module, example: Tensor | None) -> float | None:
    run = one.read(path, plain)
    if run is None:
        return None
    if example is None:
        assert isinstance(run, nn.Module)
        pairs = [(x, plain.state_dict()[key]) for key, x in run.state_dict().items() if x.is_floating_point()]
    else:
        pairs = [(_first(run(example.cpu())), _first(plain(example.cpu())))]
    return max((_difference(found, expected) for found, expected in pairs), default=0.0)


def _first(outputs: Any) -> Tensor:
    """Return the first tensor of what a network gives."""
    if isinstance(outputs, Mapping):
        return next(iter(outputs.values()))
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def _difference(found: Tensor, expected: Tensor) -> float:
    found, expected = (x.detach().to_dense() if x.layout != torch.strided else x.detach() for x in (found, expected))
    largest = expected.abs().max() if expected.numel() else torch.tensor(0.0)
    return float((found - expected).abs().max() / largest) if largest > 0 else float(found.abs().sum())


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
