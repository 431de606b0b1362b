"""Training batches of an experiment, in the order that its seed gives them."""

from collections.abc import Iterator
from itertools import count

from torch import Tensor

from sparsekit import datasets
from sparsekit.experiments.experiment import Experiment
from sparsekit.utils.checks import check_integer
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


def check_fits(experiment: Experiment, data: datasets.Dataset) -> None:
    """Check what only the data can tell, before anything is written.

    Raises:
        ValueError: if the rule or the first step lies after the end, or batches or images do not suit the settings.
    """
    steps = total_steps(experiment, data)
    if (stop := getattr(experiment.rule, "stop", None)) is not None and stop > steps:
        raise ValueError(
            f"the rule must end within the training, got stop={stop} and {steps} steps. Make the recipe anew with "
            "these epochs instead of replacing them, or replace the rule as well"
        )
    if experiment.first_step >= steps:
        raise ValueError(
            f"first_step must lie before the end, got {experiment.first_step} and {steps} steps. Choose an earlier one"
        )
    smallest = len(data.train) % experiment.batch_size or experiment.batch_size
    if experiment.micro_batches > smallest:
        raise ValueError(
            f"micro_batches must not exceed the smallest batch, {smallest} of {len(data.train)} examples, "
            f"got {experiment.micro_batches}. Lower it or choose another batch_size"
        )
    if experiment.augment and len(data.shape) != 3:
        raise ValueError(
            f"augment needs images (channels, height, width), got inputs {data.shape} from {experiment.data}. "
            "Set augment=False, or data_settings={'flat': False} for digits"
        )


def check_steps(**steps: int | None) -> None:
    """Raise TypeError or ValueError unless numbers of steps are integers of at least 1, or None."""
    for name, number in steps.items():
        if number is not None and check_integer(name, number) < 1:
            raise ValueError(f"{name} must be at least 1 or None, got {number}. Leave it out")
