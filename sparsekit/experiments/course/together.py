"""Small networks are trained together in memory, for the arena and for exercises that experiment.

Nothing is written to a disk, so a rule from a notebook's cell can take part without a name of its own.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from sparsekit import datasets
from sparsekit.experiments.experiment import Experiment, build_model, build_optimizer
from sparsekit.experiments.feed import total_steps
from sparsekit.experiments.population.feed import batches_of_all
from sparsekit.experiments.population.training import Member, Population


def initial_models(experiments: Sequence[Experiment], data: datasets.Dataset) -> list[nn.Module]:
    """Return the networks of experiments as they are before the first step."""
    return [build_model(one, input_shape=data.shape, num_classes=data.num_classes, data=data) for one in experiments]


def epochs_together(
    experiments: Sequence[Experiment],
    models: Sequence[nn.Module],
    data: datasets.Dataset,
    *,
    seeds_in: Callable[[int], Sequence[int]] | None = None,
) -> Iterator[int]:
    """Train networks in place, and yield the number of steps done after each epoch.

    Args:
        experiments: how each is trained. They differ in rule and seed only.
        models: the networks, one for each.
        data: what they learn.
        seeds_in: seeds of the batches in an epoch, one for each network, by default those of the experiments.

    Raises:
        FloatingPointError: if the loss of one is not finite.
    """
    first = experiments[0]
    pairs = list(zip(experiments, models, strict=True))
    population = Population.of([Member(model, build_optimizer(one, model), one.rule, one.seed) for one, model in pairs])
    rate, step = first.learning_rate_over(total_steps(first, data)), 0
    for epoch in range(first.epochs):
        seeds = seeds_in(epoch) if seeds_in else [one.seed for one in experiments]
        for inputs, labels in batches_of_all(data, first.batch_size, seeds=seeds, epoch=epoch):
            outcomes = population.step(inputs, labels, step, rate(step), label_smoothing=first.label_smoothing)
            _check_finite(outcomes)
            step += 1
        population.scatter()
        yield step


def accuracy_percent(outputs_of: Callable[[Tensor], Tensor], data: datasets.Dataset) -> float:
    """Return the percentage of the test examples that a network, or any function of inputs, gets right."""
    with torch.no_grad():
        hits = outputs_of(data.prepare(data.test.inputs)).argmax(1) == data.test.labels
    return 100 * float(hits.double().mean())


def _check_finite(outcomes: Sequence[object]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, FloatingPointError):
            raise outcome
