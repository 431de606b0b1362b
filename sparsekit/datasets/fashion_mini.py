"""A small part of Fashion-MNIST that ships with the project, so that images of clothes need no download."""

from pathlib import Path

import numpy as np
import torch

from sparsekit.datasets.base import Dataset, Split
from sparsekit.datasets.folders import VARIABLE, find
from sparsekit.datasets.vision import FASHION
from sparsekit.utils.files import read_arrays
from sparsekit.utils.registry import register

FILE = "fashion_mini.npz"
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@register("data", "fashion-mini")
def fashion_mini(*, root: Path | None = None) -> Dataset:
    """Ten kinds of clothes in 28 x 28 grey images, 5,000 to train and 1,000 to test, all classes equally often.

    It holds the first 500 training and 100 test images of each class of Fashion-MNIST. The classes take turns, so that
    `take(100)` is balanced too. Accuracies are lower than published ones, where models learn from 60,000 images.
    Source: Xiao, Rasul and Vollgraf (2017), arXiv:1708.07747, MIT licence, made by `tools/make_fashion_mini.py`.

    Args:
        root: folder that holds `fashion_mini.npz`.

    Raises:
        FileNotFoundError: if the file is in no data folder.
        ValueError: if it is damaged, or another.
    """
    remedy = f"Work in a checkout of the project, or set {VARIABLE} to a copy of its data/ folder"
    arrays = read_arrays(path := find(FILE, root, remedy) / FILE)
    try:
        train, test = (_split(arrays[f"{part}_inputs"], arrays[f"{part}_labels"]) for part in ("train", "test"))
    except KeyError as error:
        raise ValueError(f"{path} must be that of the project, got one without {error}. Fetch it again") from error
    source = "5,000 + 1,000 images of Fashion-MNIST, Xiao et al. (2017), arXiv:1708.07747"
    return Dataset(name="fashion-mini", train=train, test=test, classes=CLASSES, normalize=FASHION, source=source)


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(inputs=torch.from_numpy(images).unsqueeze(1), labels=torch.from_numpy(labels).long())
