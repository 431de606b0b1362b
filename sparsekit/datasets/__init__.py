"""Data sets that fit in memory, their splits, and batches that are a pure function of seed and epoch.

`load("digits")` gives a `Dataset`, and `batches(data.train, 64, seed=0, epoch=0)` walks through it. Then
`data.prepare(inputs)` turns stored inputs into the floats that a model sees, in training and in evaluation alike. To
add a data set, write one file in this folder: a function registered with kind `"data"` that takes `root=None` and its
own settings.
"""

from pathlib import Path
from typing import Any

from sparsekit.datasets.augment import CropFlip
from sparsekit.datasets.base import Dataset, Normalize, Split
from sparsekit.datasets.batches import batches, batches_in_order, count_batches, stream
from sparsekit.datasets.splits import few_per_class, hold_out
from sparsekit.utils.registry import discover, get

__all__ = [
    "CropFlip",
    "Dataset",
    "Normalize",
    "Split",
    "batches",
    "batches_in_order",
    "count_batches",
    "few_per_class",
    "hold_out",
    "load",
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
        ValueError: if there is no such data set, or its files are damaged.
        FileNotFoundError: if its files lie in none of these folders.

    Example:
        >>> digits = load("digits")
        >>> len(digits.train), len(digits.test), digits.shape, digits.num_classes
        (1197, 600, (64,), 10)
    """
    return get("data", name)(root=None if root is None else Path(root), **settings)


discover(__name__)
