"""Data that come in batches of their own making: a `DataLoader`, a stream, or any function of the epoch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from sparsekit.utils.checks import check_integer, check_types, shown
from sparsekit.utils.seeds import generator, seeded_rng

Batches = Iterable[Any] | Callable[[int], Iterable[Any]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Loaders:
    """Batches that somebody else makes, for an experiment on data that do not lie in memory.

    Return one from a function that you register as `"data"`. An experiment then names the function, so that its run can
    be found again and sent to workers. In each epoch, what the loader draws comes from the experiment's seed and the
    number of the epoch. So a run that is resumed sees the batches that it would have seen, if the data set draws with
    torch and not with other libraries. With worker processes it may draw with `random` and NumPy as well.

    Args:
        name: of the data.
        train: batches of one epoch, as a `DataLoader` or a list, or a function that returns those of an epoch.
        test: batches that are measured after each epoch, likewise.
        num_classes: number of outputs of the network.
        shape: of one input, for networks that need it.
        steps: batches of an epoch, where `len(train)` does not tell. A longer stream is cut.
        adaptor: an `Adaptor`, which makes pairs of other batches, and class scores of other outputs.
        source: where the data come from.
        device: where batches go, which the training says.

    Raises:
        TypeError: if `train` or `test` is nothing to walk through, or can be walked through only once.
        ValueError: if nobody knows how many batches an epoch has, or workers would live for longer than an epoch.

    Example:
        >>> batch = torch.zeros(4, 6), torch.tensor([0, 1, 1, 0])
        >>> mine = Loaders(name="mine", train=[batch, batch], test=[batch], num_classes=2, shape=(6,))
        >>> mine.steps_of_epoch, [len(labels) for _, labels in mine.epoch(0, seed=0)]
        (2, [4, 4])
    """

    name: str
    train: Any = field(repr=False)
    test: Any = field(repr=False)
    num_classes: int
    shape: tuple[int, ...] = ()
    steps: int | None = None
    adaptor: Any = field(default=None, repr=False)
    source: str = ""
    device: Any = field(default="cpu", repr=False)

    def __post_init__(self):
        check_types(self)
        check_integer("num_classes", self.num_classes, least=1)
        for part in ("train", "test"):
            _check_batches(part, getattr(self, part))
        if self.steps is not None:
            check_integer("steps", self.steps, least=1)
        elif self._length() is None:
            raise ValueError(
                "steps must say how many batches an epoch has where train does not, got None. Write steps=1000, for "
                "example"
            )

    @property
    def steps_of_epoch(self) -> int:
        """Number of batches of an epoch."""
        steps = self._length() if self.steps is None else self.steps
        assert steps is not None
        return steps

    @property
    def batch_size(self) -> int | None:
        """Examples of a batch, or None where the loader does not tell."""
        return getattr(self.train, "batch_size", None)

    def epoch(self, number: int, *, seed: int) -> Iterator[Any]:
        """Yield the training batches of an epoch.

        Raises:
            ValueError: if there are fewer than an epoch has.
        """
        count = 0
        for batch in islice(_drawn(self.train, number, seed), self.steps_of_epoch):
            count += 1
            yield batch
        if count < self.steps_of_epoch:
            raise ValueError(
                f"an epoch must have {self.steps_of_epoch} batches, got {count} in epoch {number}. Give as many for "
                "steps, or a stream that begins anew"
            )

    def test_batches(self) -> Iterator[Any]:
        """Yield the test batches, with the same draws each time."""
        return _drawn(self.test, 0, 0)

    def to(self, device: torch.device | str) -> "Loaders":
        """Return loaders whose batches go to another device, each when its turn comes."""
        return replace(self, device=device)

    def _length(self) -> int | None:
        try:
            return len(self.train)
        except TypeError:  # a function, or a stream
            return None


def _drawn(batches: Batches, epoch: int, seed: int) -> Iterator[Any]:
    """Yield batches, where everything that torch draws for them comes from the seed and the epoch."""
    draws = generator(seed, "data", epoch)
    with seeded_rng(draws):
        source = batches(epoch) if callable(batches) else batches
    for owner in (source, getattr(source, "sampler", None), getattr(source, "batch_sampler", None)):
        if isinstance(its_generator := getattr(owner, "generator", None), torch.Generator):
            its_generator.manual_seed(draws.initial_seed())
    with seeded_rng(draws):
        walk = iter(source)
    while True:
        with seeded_rng(draws):  # left again before the batch is trained on
            batch = next(walk, walk)
        if batch is walk:
            return
        yield batch


def _check_batches(part: str, batches: Any) -> None:
    """Say what is wrong with something that should be batches."""
    if isinstance(batches, TorchDataset):
        raise TypeError(
            f"{part} must be batches, got {type(batches).__name__}, which gives examples. Write "
            f"DataLoader(..., batch_size=64, shuffle={part == 'train'})"
        )
    if hasattr(batches, "__next__"):
        raise TypeError(
            f"{part} must be batches that can be walked through again, got {type(batches).__name__}. Give a list or a "
            "DataLoader, or a function of the epoch that begins anew"
        )
    if not callable(batches) and not hasattr(batches, "__iter__"):
        raise TypeError(
            f"{part} must be batches, or a function that returns those of an epoch, got {shown(batches)}. Give a "
            "DataLoader"
        )
    if isinstance(batches, DataLoader) and batches.persistent_workers:
        raise ValueError(
            f"workers of {part} must end with each epoch, got persistent_workers=True, with which a resumed run would "
            "see other batches. Leave it out"
        )
