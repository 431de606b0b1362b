"""Batches of a population, each member's in the order that its own seed gives them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sparsekit import datasets
from sparsekit.datasets.batches import order_of
from sparsekit.experiments.population.blocks import side_by_side


def batches_of_all(
    data: datasets.Dataset, batch_size: int, *, seeds: Sequence[int], epoch: int, skip: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs side by side and labels `(B, members)` of an epoch, beginning with batch number `skip`.

    A member's part is what `batches_of` gives for its seed.
    """
    whole = data.train.inputs
    # Floats are prepared once. Images are bytes, and as floats they would take four times as much memory.
    prepared, prepare = (data.prepare(whole), lambda x: x) if whole.is_floating_point() else (whole, data.prepare)
    orders = torch.stack([order_of(data.train, seed=seed, epoch=epoch) for seed in seeds], dim=1)
    for examples in orders.split(batch_size)[skip:]:
        inputs = prepare(prepared.index_select(0, examples.flatten()))
        yield side_by_side(inputs, len(seeds)), data.train.labels[examples]
