"""The values that every data set consists of: `Split`, `Normalize`, `Dataset`."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

BRIGHTEST = 255  # of a uint8 pixel. Published means and deviations are those of pixels scaled to 0-1
PADDING = -100  # the label of a token that does not count, which is the one that torch's cross entropy ignores


@dataclass(frozen=True, eq=False, kw_only=True)
class Split:
    """Examples and their labels, whole in memory.

    Args:
        inputs: one example per row. Images stay uint8 (a quarter of the memory), other data are floats.
        labels: the class of each example, 0 to `num_classes - 1`. Text has one for each token, `PADDING` where none
            counts.

    Raises:
        ValueError: if there is no example, or not one label for each.

    Example:
        >>> split = Split(inputs=torch.eye(3), labels=torch.tensor([0, 1, 0]))
        >>> len(split), split.take(2).labels.tolist()
        (3, [0, 1])
    """

    inputs: Shaped[Tensor, "n ..."]
    labels: Int64[Tensor, "labels ..."]  # as many as n: checked below, with an error that helps

    def __post_init__(self):
        of_tokens = self.labels.dim() > 1 and self.labels.shape == self.inputs.shape
        if not of_tokens and (self.labels.dim() != 1 or len(self.inputs) != len(self.labels)):
            raise ValueError(
                f"a split must have one label per example, got inputs {tuple(self.inputs.shape)} and "
                f"labels {tuple(self.labels.shape)}. Give labels of shape ({len(self.inputs)},)"
            )
        if len(self.labels) == 0:
            raise ValueError("a split must hold at least one example, got 0. Choose a larger share or count")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, count: int) -> "Split":
        """Return the first `count` examples, without copying them.

        Raises:
            ValueError: if there are not that many.
        """
        if not 1 <= count <= len(self):
            raise ValueError(f"count must lie in 1 to {len(self)}, the split's size, got {count}. Ask for fewer")
        return Split(inputs=self.inputs[:count], labels=self.labels[:count])

    def at(self, indices: Int64[Tensor, " chosen"]) -> "Split":
        """Return the examples at these positions, in this order."""
        return Split(inputs=self.inputs[indices], labels=self.labels[indices])

    def to(self, device: torch.device | str) -> "Split":
        """Return the split on another device, from which batches then come in the same order."""
        return Split(inputs=self.inputs.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, kw_only=True)
class Normalize:
    """Turn stored inputs into floats with mean 0 and deviation 1 per channel: `(x - mean) / std`.

    uint8 pixels count as 0 to 1 (divided by 255) first. The defaults leave floats as they are.

    Args:
        mean: one number per channel (the first dimension of an input), or one for all.
        std: likewise, above 0.

    Raises:
        ValueError: if the lengths differ or a deviation is not positive.

    Example:
        >>> Normalize(mean=(0.5,), std=(0.5,))(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).tolist()
        [[[[-1.0, 1.0]]]]
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self):
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(
                f"mean and std must have one number per channel each, got {len(self.mean)} and {len(self.std)}. "
                "Give as many of one as of the other"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}. Leave constant channels at std 1")

    def __call__(self, inputs: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        # To scale the two constants instead of every pixel saves a pass over the batch.
        unit = BRIGHTEST if inputs.dtype == torch.uint8 else 1
        shape = (-1, *[1] * (inputs.dim() - 2))
        dtype = inputs.dtype if inputs.is_floating_point() else torch.float32
        mean = torch.tensor(self.mean, dtype=dtype, device=inputs.device).view(shape)
        std = torch.tensor(self.std, dtype=dtype, device=inputs.device).view(shape)
        return (inputs - unit * mean) / (unit * std)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """A classification problem: two splits, the names of the classes, and how inputs become floats.

    Args:
        name: the name by which `load` finds it, or any name for data of your own.
        train: what models learn from. For model selection set a part of it aside with `hold_out`, never `test`.
        test: what the final accuracy is measured on.
        classes: the name of each class, whose position is the label.
        normalize: applied by `prepare`, in training and evaluation alike. None leaves tokens integers.
        tokenizer: what made tokens of text, in `sparsekit.datasets.tokens`, for data sets of text.
        source: the citation, and in which respect this copy differs from it.

    Raises:
        ValueError: if a label is out of range, the splits' inputs differ in shape, or the constants do not fit.

    Example:
        >>> split = Split(inputs=torch.eye(2), labels=torch.tensor([0, 1]))
        >>> mine = Dataset(name="mine", train=split, test=split, classes=("no", "yes"), source="made up")
        >>> mine.num_classes, mine.shape, mine.prepare(split.inputs).dtype
        (2, (2,), torch.float32)
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    normalize: Normalize | None = field(default_factory=Normalize)
    tokenizer: Any = field(default=None, repr=False)
    source: str

    def __post_init__(self):
        for split in (self.train, self.test):
            _check_labels(split.labels, self.num_classes)
        if self.train.inputs.shape[1:] != self.test.inputs.shape[1:]:
            raise ValueError(
                f"both splits must hold inputs of one shape, got {self.shape} to train and "
                f"{tuple(self.test.inputs.shape[1:])} to test. Cut or pad one of them"
            )
        if self.normalize is not None and len(self.normalize.mean) not in (1, *self.shape[:1]):
            raise ValueError(
                f"normalize must have 1 number, or one per channel of inputs {self.shape}, got "
                f"{len(self.normalize.mean)}. Give constants made for these data"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input: `(features,)`, `(channels, height, width)` or `(tokens,)`."""
        return tuple(self.train.inputs.shape[1:])

    def prepare(self, inputs: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "b ..."]:
        """Return what the model sees: floats, normalised, or tokens. Call it on every batch, also in evaluation."""
        return inputs if self.normalize is None else self.normalize(inputs)

    def to(self, device: torch.device | str) -> "Dataset":
        """Return the data set with both splits on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))


def _check_labels(labels: Int64[Tensor, "n ..."], num_classes: int) -> None:
    if labels.dim() > 1:
        labels = labels[labels != PADDING]
    if not len(labels):
        raise ValueError(f"a split must have a label that counts, got only {PADDING}. Check the labels")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"labels must lie in 0 to {num_classes - 1}, one per class name, got {low} to {high}. "
            "Renumber them or name the missing classes"
        )
