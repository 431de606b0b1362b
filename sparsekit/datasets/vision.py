"""Data sets that torchvision reads, kept in memory as uint8: CIFAR-10, CIFAR-100, Fashion-MNIST."""

import pickle
from pathlib import Path
from typing import Any

import torch

from sparsekit.datasets.base import Dataset, Normalize, Split
from sparsekit.datasets.folders import VARIABLE, download_folder, find
from sparsekit.utils.registry import register

# Mean and deviation of all training pixels per channel. Those of CIFAR are the ones in the released code of
# Guided Stochastic Exploration (arXiv:2401.06898). The std .2023 .1994 .2010 of many repositories, ToST's among them,
# is the mean of the deviations within single images. That is another quantity, a fifth too small.
CIFAR10 = Normalize(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
CIFAR100 = Normalize(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))
FASHION = Normalize(mean=(0.2860,), std=(0.3530,))  # computed from the 60,000 training images of the release

# What torchvision raises for other checksums than the release's, and, where it compares none, for what it cannot read.
DAMAGED = (RuntimeError, AssertionError, ValueError, LookupError, TypeError, EOFError, pickle.UnpicklingError)

KRIZHEVSKY = "Krizhevsky (2009), technical report, Toronto"


@register("data", "cifar10")
def cifar10(*, root: Path | None = None, download: bool = False) -> Dataset:
    """Ten kinds of objects in 32 x 32 colour photographs, 50,000 to train and 10,000 to test.

    Source: Krizhevsky (2009), "Learning multiple layers of features from tiny images", technical report, Toronto.

    Args:
        root: folder that holds `cifar-10-batches-py/`.
        download: fetch it if it is missing.

    Raises:
        FileNotFoundError: if it is missing and `download` is false.
        ValueError: if the files are damaged.
    """
    return _read("cifar10", "CIFAR10", "cifar-10-batches-py", root, download, CIFAR10, KRIZHEVSKY)


@register("data", "cifar100")
def cifar100(*, root: Path | None = None, download: bool = False) -> Dataset:
    """A hundred kinds of objects in 32 x 32 colour photographs, 50,000 to train and 10,000 to test.

    Source: Krizhevsky (2009), "Learning multiple layers of features from tiny images", technical report, Toronto.

    Args:
        root: folder that holds `cifar-100-python/`.
        download: fetch it if it is missing.

    Raises:
        FileNotFoundError: if it is missing and `download` is false.
        ValueError: if the files are damaged.
    """
    return _read("cifar100", "CIFAR100", "cifar-100-python", root, download, CIFAR100, KRIZHEVSKY)


@register("data", "fashion-mnist")
def fashion_mnist(*, root: Path | None = None, download: bool = False) -> Dataset:
    """Ten kinds of clothes in 28 x 28 grey images, 60,000 to train and 10,000 to test.

    Source: Xiao, Rasul and Vollgraf (2017), arXiv:1708.07747.

    Args:
        root: folder that holds `FashionMNIST/raw/` with the four unpacked `-ubyte` files.
        download: fetch it if it is missing.

    Raises:
        FileNotFoundError: if it is missing and `download` is false.
        ValueError: if the files are damaged.
    """
    source = "Xiao et al. (2017), arXiv:1708.07747"
    return _read("fashion-mnist", "FashionMNIST", "FashionMNIST", root, download, FASHION, source)


def _read(
    name: str, kind: str, folder: str, root: Path | None, download: bool, normalize: Normalize, source: str
) -> Dataset:
    """Return a data set that torchvision's class `kind` reads in a folder of this name."""
    from torchvision import datasets  # slow to import, and only these data sets need it

    remedy = f'Call load("{name}", download=True) to fetch it, or set {VARIABLE} to the folder that holds it'
    parent = download_folder(root) if download else find(folder, root, remedy)
    try:
        train, test = (getattr(datasets, kind)(parent, train=part, download=download) for part in (True, False))
    except DAMAGED as error:
        raise ValueError(
            f"the files of {name} must be those of the release, got others in {parent / folder} ({error!r}). "
            f'Remove that folder and call load("{name}", download=True)'
        ) from error
    classes, train, test = tuple(train.classes), _split(train), _split(test)
    return Dataset(name=name, train=train, test=test, classes=classes, normalize=normalize, source=source)


def _split(stored: Any) -> Split:
    pixels = torch.as_tensor(stored.data)
    # Grey images come as (n, h, w), colour ones as (n, h, w, c), but models want (n, c, h, w).
    inputs = pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return Split(inputs=inputs, labels=torch.as_tensor(stored.targets, dtype=torch.int64))
