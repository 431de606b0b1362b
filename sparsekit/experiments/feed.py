"""Training batches of an experiment, in the order that its seed gives them."""

import zlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from sparsekit import datasets
from sparsekit.evaluation.adaptor import Adaptor
from sparsekit.experiments.experiment import Experiment
from sparsekit.utils.checks import check_integer
from sparsekit.utils.seeds import derive

Data = datasets.Dataset | datasets.Loaders
Pair = tuple[Any, Any]

FEW = 4096  # numbers of a tensor that are compared whole. Of larger ones the first and the last example are enough


def data_of(experiment: Experiment, root: str | Path | None) -> Data:
    """Return the data of an experiment."""
    return datasets.load_any(experiment.data, root=root, **experiment.data_settings)


def is_text(data: Data) -> TypeGuard[datasets.Dataset]:
    """Whether the labels of the data are the next tokens of a text."""
    return isinstance(data, datasets.Dataset) and data.tokenizer is not None and data.test.labels.dim() > 1


def steps_of_epoch(experiment: Experiment, data: Data) -> int:
    """Return how many steps an epoch has."""
    if isinstance(data, datasets.Loaders):
        return data.steps_of_epoch
    return datasets.count_batches(len(data.train), experiment.batch_size)


def total_steps(experiment: Experiment, data: Data) -> int:
    """Return how many steps the whole training has."""
    return steps_of_epoch(experiment, data) * experiment.epochs


def outputs_of(data: Data) -> Adaptor | None:
    """Return what makes class scores of the network's outputs, or None where they are class scores."""
    if not isinstance(data, datasets.Loaders) or data.adaptor is None:
        return None
    return Adaptor(outputs=Adaptor.of(data.adaptor).outputs)


def batches_of(experiment: Experiment, data: Data, *, seed: int, epoch: int, skip: int = 0) -> Iterator[Pair]:
    """Yield the batches of an epoch as the network takes them, beginning with number `skip`."""
    if isinstance(data, datasets.Loaders):
        yield from loaded_batches(data, seed=seed, epoch=epoch, prints=[], skip=skip)
        return
    augment = datasets.CropFlip() if experiment.augment else None
    for inputs, labels in datasets.batches(
        data.train, experiment.batch_size, seed=seed, epoch=epoch, augment=augment, skip=skip
    ):
        yield data.prepare(inputs), labels


def loaded_batches(
    data: datasets.Loaders, *, seed: int, epoch: int, prints: list[int], skip: int = 0
) -> Iterator[Pair]:
    """Yield the batches of loaders from number `skip` on. Those before are loaded too, because later ones follow them.

    Args:
        data: who loads.
        seed: of the run.
        epoch: which pass over the data, from 0.
        prints: gets a number for each batch, also for those that are skipped. It tells this batch and all before it
            from other ones.
        skip: number of batches already done in this epoch.
    """
    pairs = Adaptor.of(data.adaptor).pairs(data.epoch(epoch, seed=seed))
    for number, pair in enumerate(pairs):
        prints.append(_print_of(pair, prints[-1] if prints else 0))
        if number >= skip:
            yield _moved(pair, data.device)


def test_batches_of(data: Data, size: int) -> Iterator[Pair]:
    """Yield the test examples as the network takes them, so many at once where they lie in memory."""
    if isinstance(data, datasets.Loaders):
        return (_moved(pair, data.device) for pair in Adaptor.of(data.adaptor).pairs(data.test_batches()))
    return ((data.prepare(inputs), labels) for inputs, labels in datasets.batches_in_order(data.test, size))


def _moved(pair: Pair, device: Any) -> Pair:
    return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, pair)


def _print_of(pair: Pair, before: int) -> int:
    """Return a number that tells a batch, and those before it, from others."""
    for leaf in tree_flatten(pair)[0]:
        if isinstance(leaf, Tensor):
            part = leaf if leaf.numel() <= FEW else leaf[[0, -1]]
            before = zlib.crc32(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes(), before)
    return before


def endless_batches(experiment: Experiment, data: Data) -> Iterator[Pair]:
    """Yield training batches without end, in an order of their own, for what is learnt before the first step."""
    seed = derive(experiment.seed, "tricks")
    for epoch in count():
        yield from batches_of(experiment, data, seed=seed, epoch=epoch)


def check_fits(experiment: Experiment, data: Data) -> None:
    """Check what only the data can tell, before anything is written.

    Raises:
        ValueError: if the rule or the first step lies after the end, or batches or images do not suit the settings.
        TypeError: if loaders have something else than an adaptor.
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
    if isinstance(data, datasets.Loaders):
        _check_fits_loaders(experiment, data)
    else:
        _check_fits_split(experiment, data)


def _check_fits_loaders(experiment: Experiment, data: datasets.Loaders) -> None:
    Adaptor.of(data.adaptor)
    if data.batch_size not in (None, experiment.batch_size):
        raise ValueError(
            f"batch_size must be that of the loader, {data.batch_size}, got {experiment.batch_size}. Change one of them"
        )
    if experiment.augment:
        raise ValueError(
            f"augment needs images that lie in memory, got {data.name}, which comes as Loaders. Change the images in "
            "their data set, and set augment=False"
        )
    if experiment.score is not None:
        raise ValueError(
            f"a score needs data that lie in memory, got {data.name}, which comes as Loaders. Leave it out, or give "
            "the score batches yourself, as scores.prune does"
        )


def _check_fits_split(experiment: Experiment, data: datasets.Dataset) -> None:
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
