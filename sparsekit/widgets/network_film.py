"""Record a small network while it trains, in any loop: its connections just before each rewiring, with their values."""

import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch import nn

from sparsekit import datasets
from sparsekit.datasets import Dataset
from sparsekit.experiments.draws import drawing
from sparsekit.experiments.experiment import Experiment, build_model, build_optimizer
from sparsekit.experiments.feed import batches_of, check_fits, total_steps
from sparsekit.train.loop import training
from sparsekit.utils.checks import check_integer, must_be
from sparsekit.utils.seeds import generator, seeded_rng
from sparsekit.widgets.network_frames import Frame, frame_of, shapes_of_chain, with_accuracy

Item = TypeVar("Item")
MOST_FRAMES = 240  # more than anybody scrubs through, and 2 MB for the largest network
LEAST_IMAGE = 36  # inputs: fewer, even if their number is a square, are rather measurements than pixels


class NetworkFilm:
    """A film of a network's training has a frame just before each rewiring, so that grown connections have learnt.

    Where nothing is rewired, there is a frame every so many steps. A film begins with the network as it is now. Let it
    `record` your loop, whatever the loop is, and then show it with `NetworkView`.

    Args:
        model: linear layers with a ReLU between them, sparse or not, with 6,000 connections at most.
        data: what it is tested on.
        every: steps between frames where there is no rewiring.
        examples: number of test examples on which accuracies are measured.

    Raises:
        TypeError: if a part is something else.
        ValueError: if the network is no such chain or too large, or the data do not fit its inputs and outputs.

    Example:
        >>> import sparsekit as sk
        >>> data = sk.datasets.load("digits")
        >>> model = sk.models.build("mlp", input_shape=data.shape, num_classes=10, hidden=(8,))
        >>> film = NetworkFilm(model, data)
        >>> len(film), film.frames[0].count
        (1, 592)
    """

    def __init__(self, model: nn.Module, data: Dataset, *, every: int = 25, examples: int = 1000):
        must_be("data", data, Dataset, "Give sk.datasets.load('digits')")
        check_integer("every", every, least=1)
        check_integer("examples", examples, least=1)
        self.model, self.data, self.every = model, data, every
        self.shapes = shapes_of_chain(model)
        _check_fits_data(self.shapes, data)
        test = data.test.take(min(examples, len(data.test)))
        self.inputs = np.ascontiguousarray(data.prepare(test.inputs).flatten(1).float().numpy())
        self.labels = test.labels.numpy()
        self.step = self.rewirings = 0
        self.kept_frames: list[Frame] = []
        self._least_steps = 1
        self.latest = frame_of(model)
        self._keep(self.latest)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def frames(self) -> list[Frame]:
        """All frames, of which the last one is the network as it was last seen, with all its digits."""
        last = self.latest
        return [*(frame for frame in self.kept_frames if frame.step < last.step), self.measured(last)]

    @property
    def image(self) -> tuple[int, int] | None:
        """Height and width of an input that is an image of one channel, or None."""
        shape = self.data.shape
        if len(shape) == 3 and shape[0] == 1:
            return shape[1], shape[2]
        side = math.isqrt(shape[0])
        is_square = len(shape) == 1 and side * side == shape[0] >= LEAST_IMAGE
        return (side, side) if is_square else None

    def record(self, steps: Iterable[Item]) -> Iterator[Item]:
        """Hand on what a loop gives for each step, and look at the network after it.

        Args:
            steps: any training that yields once a step, such as `sk.training(...)` or `widgets.live_training(...)`.
        """
        try:
            for item in steps:
                self._look()
                yield item
        finally:
            self._finish()

    def encode(self) -> bytes:
        """Return the film as the browser reads it, one frame after the other. The last one has float32 numbers."""
        return b"".join(frame.encode() for frame in self.frames)

    def measured(self, frame: Frame) -> Frame:
        """Return a frame with its accuracy on the film's test examples."""
        return with_accuracy(self.shapes, frame, self.inputs, self.labels)

    def _look(self) -> None:
        self.step += 1
        now = frame_of(self.model, step=self.step, rewiring=self.rewirings)
        if not np.array_equal(now.positions, self.latest.positions):
            self._keep(self.latest)
            self.rewirings += 1
            now = frame_of(self.model, step=self.step, rewiring=self.rewirings)
        elif now.step - self.kept_frames[-1].step >= self.every:
            self._keep(now)
        self.latest = now

    def _keep(self, frame: Frame) -> None:
        """Keep a frame, unless it is too close to the one before. A long film loses every second frame."""
        frames = self.kept_frames
        if frames and frame.step - frames[-1].step < self._least_steps:
            return
        frames.append(self.measured(frame.rounded()))
        if len(frames) > MOST_FRAMES:
            del frames[1::2]
            self.every *= 2
            self._least_steps = math.ceil(frames[-1].step / len(frames))

    def _finish(self) -> None:
        """See the network as it is in the end, even if a loop was left early."""
        self.latest = frame_of(self.model, step=self.step, rewiring=self.rewirings)


def film_of(experiment: Experiment, *, root: str | Path | None = None, every: int = 25) -> NetworkFilm:
    """Train an experiment and return its film. The network ends as in `sk.run`, but no folder is made.

    Args:
        experiment: of a network that a `NetworkFilm` can hold, without tricks.
        root: the data folder, as in `datasets.load`.
        every: steps between frames where there is no rewiring.

    Raises:
        TypeError: if it is no experiment.
        ValueError: if it has tricks or an `init_from`, or its network is too large to be drawn.
    """
    must_be("experiment", experiment, Experiment, "Call recipes.digits_small()")
    if experiment.tricks or experiment.init_from is not None:
        raise ValueError(
            f"a film needs an experiment without tricks and init_from, got {experiment.recipe} with some. "
            "Use sk.run, and record a loop of your own by NetworkFilm(...).record"
        )
    with seeded_rng(generator(experiment.seed, "before training")):
        data = datasets.load(experiment.data, root=root, **experiment.data_settings)
        check_fits(experiment, data)
        model = build_model(experiment, input_shape=data.shape, num_classes=data.num_classes, data=data)
    film = NetworkFilm(model, data, every=every)
    with drawing(experiment, model, generator(experiment.seed, "torch")):
        for _ in film.record(_steps_of(experiment, model, data)):
            pass
    model.eval()
    return film


def _steps_of(experiment: Experiment, model: nn.Module, data: Dataset) -> Iterator:
    seed, epochs = experiment.seed, range(experiment.epochs)
    model.train()
    return training(
        model,
        build_optimizer(experiment, model),
        itertools.chain.from_iterable(batches_of(experiment, data, seed=seed, epoch=epoch) for epoch in epochs),
        nn.CrossEntropyLoss(label_smoothing=experiment.label_smoothing),
        experiment.rule,
        seed=seed,
        learning_rate=experiment.learning_rate_over(total_steps(experiment, data)),
        micro_batches=experiment.micro_batches,
        autocast=experiment.autocast_type,
    )


def _check_fits_data(shapes: tuple[tuple[int, int], ...], data: Dataset) -> None:
    needed = (math.prod(data.shape), data.num_classes)
    if (shapes[0][1], shapes[-1][0]) != needed:
        raise ValueError(
            f"the network must take {needed[0]} inputs and tell {needed[1]} classes apart, as {data.name} needs, "
            f"got {shapes[0][1]} and {shapes[-1][0]}. Give the data that it was trained on"
        )
