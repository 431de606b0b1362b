"""Walk through a split in batches in an order set by seed and epoch alone, so that resuming needs no saved state."""

from collections.abc import Iterator
from itertools import count

import torch
from jaxtyping import Int64
from torch import Tensor

from sparsekit.datasets.augment import Augment
from sparsekit.datasets.base import Dataset, Split
from sparsekit.utils.seeds import generator

Batch = tuple[Tensor, Tensor]


def batches(
    split: Split,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    augment: Augment | None = None,
    drop_last: bool = False,
    skip: int = 0,
) -> Iterator[Batch]:
    """Yield `(inputs, labels)` in the shuffled order of one epoch. Give the inputs to `Dataset.prepare`.

    The order comes from `generator(seed, "data", epoch)` and each batch's augmentation from
    `generator(seed, "augment", epoch, batch)`. So a run that is resumed with `skip` in the middle of an epoch sees, bit
    for bit, what it would have seen.

    Args:
        split: what to walk through. The batches lie on its device.
        batch_size: examples per batch. The last one holds the rest.
        seed: of the run.
        epoch: which pass over the data, from 0.
        augment: changes the stored inputs of each batch, for example `CropFlip()`.
        drop_last: leave out a last batch that is not full. Use it in training only, as an accuracy needs all of them.
        skip: number of batches already done in this epoch.

    Raises:
        ValueError: if the batch size is below 1, nothing would be yielded, or `skip` is out of range.

    Example:
        >>> split = Split(inputs=torch.arange(5.0), labels=torch.zeros(5, dtype=torch.int64))
        >>> whole = [inputs.tolist() for inputs, _ in batches(split, 2, seed=0, epoch=0)]
        >>> rest = [inputs.tolist() for inputs, _ in batches(split, 2, seed=0, epoch=0, skip=1)]
        >>> [len(batch) for batch in whole], rest == whole[1:]
        ([2, 2, 1], True)
    """
    num = count_batches(len(split), batch_size, drop_last=drop_last)
    if not 0 <= skip <= num:
        raise ValueError(f"skip must lie in 0 to {num}, the batches of an epoch, got {skip}. Start the next epoch")
    order = order_of(split, seed=seed, epoch=epoch)
    return _walk(split, order.split(batch_size), range(skip, num), augment, (seed, epoch))


def order_of(split: Split, *, seed: int, epoch: int) -> Int64[Tensor, " n"]:
    """Return the shuffled order of the examples in one epoch, on the split's device."""
    return torch.randperm(len(split), generator=generator(seed, "data", epoch)).to(split.labels.device)


def stream(dataset: Dataset, batch_size: int, *, seed: int, augment: Augment | None = None) -> Iterator[Batch]:
    """Yield prepared training batches for ever, epoch after epoch, in the order of `batches`.

    Raises:
        ValueError: if the batch size is below 1.

    Example:
        >>> from sparsekit.datasets import load
        >>> inputs, labels = next(stream(load("digits"), 32, seed=0))
        >>> inputs.shape, inputs.dtype
        (torch.Size([32, 64]), torch.float32)
    """
    count_batches(len(dataset.train), batch_size)
    walks = (batches(dataset.train, batch_size, seed=seed, epoch=epoch, augment=augment) for epoch in count())
    return ((dataset.prepare(inputs), labels) for walk in walks for inputs, labels in walk)


def batches_in_order(split: Split, batch_size: int) -> Iterator[Batch]:
    """Yield every example once, in stored order: for evaluation.

    Raises:
        ValueError: if the batch size is below 1.
    """
    count_batches(len(split), batch_size)
    return zip(split.inputs.split(batch_size), split.labels.split(batch_size), strict=True)


def count_batches(num_examples: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Return how many batches an epoch has. The steps of a schedule are this times the epochs.

    Raises:
        ValueError: if the batch size is below 1, or there would be no batch.

    Example:
        >>> count_batches(1197, 64), count_batches(1197, 64, drop_last=True)
        (19, 18)
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}. Try 64 for small data")
    count = num_examples // batch_size if drop_last else -(-num_examples // batch_size)
    if count == 0:
        raise ValueError(
            f"an epoch must have at least one batch, got {num_examples} examples for batches of {batch_size} with "
            f"drop_last={drop_last}. Use a smaller batch_size or drop_last=False"
        )
    return count


def _walk(
    split: Split, chunks: tuple[Tensor, ...], indices: range, augment: Augment | None, stream: tuple[int, int]
) -> Iterator[Batch]:
    # It is apart from `batches`, so that wrong arguments raise at the call and not at the first step of the loop.
    seed, epoch = stream
    for index in indices:
        inputs, labels = split.inputs[chunks[index]], split.labels[chunks[index]]
        if augment is not None:
            inputs = augment(inputs, generator(seed, "augment", epoch, index))
        yield inputs, labels
