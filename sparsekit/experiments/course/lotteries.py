"""Lotteries of the small digits network, in memory: what is left after several levels, and how well it trains."""

import statistics
from collections.abc import Sequence
from functools import cache

from torch import nn

from sparsekit.experiments.course.arena import digits
from sparsekit.experiments.course.together import accuracy_percent, epochs_together, initial_models
from sparsekit.experiments.recipes import digits_small
from sparsekit.layers import densify, shapes_of, sparse_layers, sparsify
from sparsekit.topology import Topology, random_topology
from sparsekit.topology.selection import keep_top_global
from sparsekit.topology.shuffling import shuffled

SEEDS = (0, 1, 2)
EPOCHS = 12  # of each level, as in notebook 05
WEIGHTS = 5856  # of the dense network


def counts_of_levels(levels: int, last: int) -> tuple[int, ...]:
    """Return how many connections each level keeps, if all remove the same share and the last one keeps `last`.

    Example:
        >>> counts_of_levels(2, 293)
        (1310, 293)
    """
    return tuple(round(WEIGHTS * (last / WEIGHTS) ** (level / levels)) for level in range(1, levels + 1))


@cache
def tickets_after(counts: tuple[int, ...]) -> tuple[Topology, ...]:
    """Return the connections that three seeds keep if every level keeps so many, those of largest magnitude."""
    if not counts:
        return tuple(random_topology(shapes_of(model), 1.0, seed=0) for model in _initial())
    models = _trained(_with_own_values(tickets_after(counts[:-1])))
    return tuple(keep_top_global(_magnitudes(model), counts[-1]) for model in models)


@cache
def accuracy_of_tickets(counts: tuple[int, ...]) -> float:
    """Return the mean percentage of the test digits that the tickets read, trained from their initial weights."""
    return _mean_accuracy(_trained(_with_own_values(tickets_after(counts))))


@cache
def accuracy_of_shuffled(counts: tuple[int, ...]) -> float:
    """Return the same for as many connections in each layer at random positions, with weights of a fitting size."""
    tickets = zip(SEEDS, _initial(), tickets_after(counts), strict=True)
    return _mean_accuracy(_trained([sparsify(model, shuffled(one, seed=seed)) for seed, model, one in tickets]))


def _initial() -> list[nn.Module]:
    experiments = [digits_small(rule="dense", seed=seed) for seed in SEEDS]
    return [densify(model) for model in initial_models(experiments, digits())]


def _with_own_values(topologies: Sequence[Topology]) -> list[nn.Module]:
    return [sparsify(model, one, init="dense") for model, one in zip(_initial(), topologies, strict=True)]


def _trained(models: Sequence[nn.Module]) -> list[nn.Module]:
    experiments = [digits_small(rule="static", epochs=EPOCHS, seed=seed) for seed in SEEDS]
    for _ in epochs_together(experiments, models, digits()):
        pass
    return [model.eval() for model in models]


def _magnitudes(model: nn.Module) -> dict:
    return {name: layer.dense_weight().detach().abs() for name, layer in sparse_layers(model).items()}


def _mean_accuracy(models: Sequence[nn.Module]) -> float:
    return statistics.fmean(accuracy_percent(model, digits()) for model in models)
