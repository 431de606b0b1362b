"""Data sets, which mostly fit in memory, their splits, and batches that are a pure function of seed and epoch.

`load("digits")` gives a `Dataset`, and `batches(data.train, 64, seed=0, epoch=0)` walks through it. Then
`data.prepare(inputs)` turns stored inputs into the floats that a model sees, in training and in evaluation alike. To
add a data set, write one file in this folder: a function registered with kind `"data"` that takes `root=None` and its
own settings. What does not fit in memory comes in batches, as `Loaders`.
"""

from pathlib import Path
from typing import Any

from sparsekit.datasets.augment import CropFlip
from sparsekit.datasets.base import Dataset, Normalize, Split
from sparsekit.datasets.batches import batches, batches_in_order, count_batches, stream
from sparsekit.datasets.loaders import Loaders
from sparsekit.datasets.splits import few_per_class, hold_out
from sparsekit.utils.checks import shown
from sparsekit.utils.registry import discover, get

__all__ = [
    "CropFlip",
    "Dataset",
    "Loaders",
    "Normalize",
    "Split",
    "batches",
    "batches_in_order",
    "count_batches",
    "few_per_class",
    "hold_out",
    "load",
    "load_any",
    "stream",
]


def load(name: str, *, root: str | Path | None = None, **settings: Any) -> Dataset:
    """Return a data set by its registered name.

    `digits` and `mnist1d` need no files, and `fashion-mini` lies in the checkout's `data/`. `cifar10`, `cifar100` and
    `fashion-mnist` are read from the data folder, and fetched only if you give `download=True`. `tiny-imagenet` and
    `imagenet` are read from folders of images, and never fetched.

    Args:
        name: one of `registry.names("data")`.
        root: the data folder, by default the environment variable `SPARSEKIT_DATA`, or else the checkout's `data/`.
        settings: what this data set offers, for example `flat=False` for digits.

    Raises:
        ValueError: if there is no such data set, its files are damaged, or it does not lie in memory.
        FileNotFoundError: if its files lie in none of these folders.

    Example:
        >>> digits = load("digits")
        >>> len(digits.train), len(digits.test), digits.shape, digits.num_classes
        (1197, 600, (64,), 10)
    """
    data = load_any(name, root=root, **settings)
    if isinstance(data, Loaders):
        raise ValueError(
            f"this needs data that lie in memory, got {name}, which comes as Loaders. Train it with run, or register a "
            "Dataset of some of it"
        )
    return data


def load_any(name: str, *, root: str | Path | None = None, **settings: Any) -> Dataset | Loaders:
    """Return a data set by its registered name, in memory or not. The arguments are those of `load`.

    Raises:
        ValueError: if there is no such data set, or its files are damaged.
        TypeError: if what is registered returns something else.
        FileNotFoundError: if its files lie in none of the data folders.

    Example:
        >>> type(load_any("digits")).__name__
        'Dataset'
    """
    data = get("data", name)(root=None if root is None else Path(root), **settings)
    if not isinstance(data, Dataset | Loaders):
        raise TypeError(
            f"the data set {name} must be a Dataset or Loaders, got {shown(data)}. Write return Loaders(name={name!r}, "
            "train=..., test=..., num_classes=...)"
        )
    return data


discover(__name__)
