"""A folder for `from_pretrained`, which builds plain layers and would not know others."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn


def write(model: nn.Module, plain: nn.Module, path: Path, example: Tensor | None) -> None:
    """Write the folder as the plain network does it.

    Raises:
        TypeError: if the network has no `save_pretrained`.
    """
    save = getattr(plain, "save_pretrained", None)
    if save is None:
        raise TypeError(
            f"the format pretrained needs a network with save_pretrained, got {type(plain).__name__}. Choose another "
            "format, and name it by the end of the path"
        )
    save(path)


def read(path: Path, plain: nn.Module) -> nn.Module:
    """Return the network that `from_pretrained` makes of the folder."""
    new: Any = type(plain)
    return new.from_pretrained(path).eval()
