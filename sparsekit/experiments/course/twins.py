"""Twins have one beginning and train apart from some epoch on, so we see when a network has chosen its basin."""

import statistics
from functools import cache
from typing import NamedTuple

from sparsekit import datasets
from sparsekit.analysis import barrier, evaluate_path, linear_path
from sparsekit.experiments.course.together import epochs_together, initial_models
from sparsekit.experiments.recipes import mnist1d_mlp

SEEDS = (0, 1, 2)
EPOCHS, DENSITY = 12, 0.1
OTHER = 100  # is added to the seed of the second twin's batches


class Twins(NamedTuple):
    """What twins have become, in percent of the test examples, each the mean of three pairs.

    Args:
        barrier: how high the error between the two rises above the line.
        accuracy: of the twins.
        gap: between the accuracies of the two.
    """

    barrier: float
    accuracy: float
    gap: float


@cache
def twins_parting_after(epoch: int) -> Twins:
    """Train three pairs of twins on MNIST-1D, whose batches are the same up to an epoch.

    Source: the experiment is that of Frankle et al. (2020), arXiv:1912.05671, on a small network.
    """
    data = datasets.load("mnist1d")
    pairs = [seed for seed in SEEDS for _ in range(2)]
    settings = {"rule": "static", "density": DENSITY, "epochs": EPOCHS, "model_settings": {"hidden": (64, 64)}}
    experiments = [mnist1d_mlp(seed=seed, **settings) for seed in pairs]
    models = initial_models(experiments, data)

    def seeds_in(now: int) -> list[int]:
        return [seed + (OTHER if number % 2 and now >= epoch else 0) for number, seed in enumerate(pairs)]

    for _ in epochs_together(experiments, models, data, seeds_in=seeds_in):
        pass
    test = [(data.prepare(data.test.inputs), data.test.labels)]
    lines = [
        evaluate_path(linear_path(a.eval(), b.eval()), test) for a, b in zip(models[::2], models[1::2], strict=True)
    ]
    ends = [100 * line["accuracy"].iloc[[0, -1]] for line in lines]
    return Twins(
        barrier=100 * statistics.fmean(barrier(line, of="error") for line in lines),
        accuracy=statistics.fmean(float(end.mean()) for end in ends),
        gap=statistics.fmean(abs(float(end.iloc[0] - end.iloc[1])) for end in ends),
    )
