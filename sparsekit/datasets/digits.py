"""Handwritten digits, 8 x 8 pixels: the default, since it needs no file and trains in under a second."""

from pathlib import Path

import torch

from sparsekit.datasets.base import Dataset, Split
from sparsekit.datasets.splits import hold_out
from sparsekit.utils.registry import register

DARKEST = 16  # each value counts the set pixels of a 4 x 4 block of the scan
TEST_COUNT = 600  # of 1,797, which leaves 1,197 to train on, about two thirds
SPLIT_SEED = 0


@register("data", "digits")
def digits(*, root: Path | None = None, flat: bool = True) -> Dataset:
    """Ten handwritten digits, 1,197 to train and 600 to test, from the 1,797 that come with scikit-learn.

    Values lie in 0 to 1. The split is stratified by class and always the same.
    Source: Alpaydin and Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI machine learning repository,
    test part, through `sklearn.datasets.load_digits`.

    Args:
        root: not needed, since the data come with scikit-learn.
        flat: inputs of shape `(64,)`, or else `(1, 8, 8)` for convolutions.

    Example:
        >>> digits(flat=False).shape
        (1, 8, 8)
    """
    from sklearn.datasets import load_digits  # costs a second, and only this data set needs it

    pixels, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy(pixels).float() / DARKEST
    whole = Split(inputs=inputs if flat else inputs.view(-1, 1, 8, 8), labels=torch.from_numpy(labels).long())
    train, test = hold_out(whole, TEST_COUNT / len(whole), seed=SPLIT_SEED)
    return Dataset(
        name="digits",
        train=train,
        test=test,
        classes=tuple("0123456789"),
        source="Alpaydin and Kaynak (1998), UCI machine learning repository, through scikit-learn",
    )
