"""A data set of one file: see tests/test_one_file.py."""

from pathlib import Path

import torch

from sparsekit.datasets.base import Dataset, Split
from sparsekit.utils.registry import register


@register("data", "brand-new-data")
def brand_new_data(*, root: Path | None = None) -> Dataset:
    """Points in twelve dimensions, each in one of three classes.

    Source: made up.
    """
    inputs = torch.randn(180, 12, generator=torch.Generator().manual_seed(0))
    whole = Split(inputs=inputs, labels=inputs[:, :3].argmax(1))
    order = torch.arange(180)
    return Dataset(
        name="brand-new-data",
        train=whole.at(order[:120]),
        test=whole.at(order[120:]),
        classes=("one", "two", "three"),
        source="made up",
    )
