"""Training batches of an experiment, in the order that its seed gives them."""

from collections.abc import Iterator
from itertools import count

from torch import Tensor

from sparsekit import datasets
from sparsekit.experiments.experiment import Experiment
from sparsekit.utils.seeds import derive


def total_steps(experiment: Experiment, data: datasets.Dataset) -> int:
    """Return how many steps the whole training has."""
    return datasets.count_batches(len(data.train), experiment.batch_size) * experiment.epochs


def batches_of(
    experiment: Experiment, data: datasets.Dataset, *, seed: int, epoch: int, skip: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch as the network takes them, beginning with number `skip`."""
    augment = datasets.CropFlip() if experiment.augment else None
    for inputs, labels in datasets.batches(
        data.train, experiment.batch_size, seed=seed, epoch=epoch, augment=augment, skip=skip
    ):
        yield data.prepare(inputs), labels


def endless_batches(experiment: Experiment, data: datasets.Dataset) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield training batches without end, in an order of their own, for what is learnt before the first step."""
    seed = derive(experiment.seed, "tricks")
    for epoch in count():
        yield from batches_of(experiment, data, seed=seed, epoch=epoch)
