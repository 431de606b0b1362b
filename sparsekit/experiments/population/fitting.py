"""Which experiments can be members of one population, and why others cannot."""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from sparsekit.experiments.draws import may_draw
from sparsekit.experiments.experiment import Experiment
from sparsekit.rules.initial import initial_density, why_dense
from sparsekit.rules.parts import HasForwardMasks, HasGradientPenalty, HasGrowInit, ResetsOptimizer, part_of
from sparsekit.rules.switched import Switched
from sparsekit.train.rule_step import probe_batches, updates_every_step
from sparsekit.utils.devices import trains_alone
from sparsekit.utils.settings import to_plain

NETWORKS = ("mlp", "small-cnn")  # whose layers follow one another, so that a wide one needs no code of its own
# What all members must have in common.
COMMON = ("data", "data_settings", "model", "model_settings", "batch_size", "epochs", "test_last")
COMMON += ("optimizer", "optimizer_settings", "learning_rate", "label_smoothing")
# Of denser networks a product of dense matrices is faster than a walk over the connections. Where exactly depends on
# the machine, so this is a cautious guess.
DENSEST = 0.3
MOST_MEMBERS = 24  # enough to share what a step costs, and few enough to see progress
PARTS = {
    HasForwardMasks: "uses fewer connections than it trains",
    HasGradientPenalty: "adds something to the gradients",
    HasGrowInit: "has initial values of its own for grown connections",
    ResetsOptimizer: "may let the optimizer begin anew",
}


def why_alone(experiment: Experiment) -> str | None:
    """Return why `run_all` trains an experiment by itself, as a sentence without its end, or None if it need not.

    Example:
        >>> from sparsekit.experiments.recipes import mnist1d_mlp
        >>> why_alone(mnist1d_mlp(rule="rigl")), why_alone(mnist1d_mlp(rule="dense"))
        (None, 'it begins with density 1, and above 0.3 its own network is faster')
    """
    density = initial_density(experiment.rule, experiment.density)
    too_dense = f"it begins with density {density:g}, and above {DENSEST} its own network is faster"
    return next(_obstacles(experiment), too_dense if density > DENSEST else None)


def populations_of(experiments: Sequence[Experiment]) -> list[list[Experiment]]:
    """Return the populations that experiments make up, without doubles. One that is trained alone is a list of one.

    Where this process trains on a GPU, or compiles networks, all are trained alone (see `utils.devices`).

    Raises:
        TypeError: if one is no experiment.
        ValueError: if there is none.
    """
    check_experiments(experiments)
    groups: dict[str, list[Experiment]] = {}
    for name, experiment in {experiment.folder_name: experiment for experiment in experiments}.items():
        groups.setdefault(name if trains_alone() or why_alone(experiment) else _common(experiment), []).append(
            experiment
        )
    return [part for group in groups.values() for part in _even_parts(group)]


def check_experiments(experiments: Sequence[Experiment]) -> None:
    """Raise TypeError or ValueError unless there are experiments, and nothing else."""
    if isinstance(experiments, Experiment) or not isinstance(experiments, Sequence):
        raise TypeError(f"experiments must be a list of them, got {type(experiments).__name__}. Write [experiment]")
    if not experiments:
        raise ValueError("experiments must be at least one, got none. Use [recipe(seed=seed) for seed in range(6)]")
    for experiment in experiments:
        if not isinstance(experiment, Experiment):
            raise TypeError(
                f"experiments must be of the class Experiment, got {type(experiment).__name__}. Call "
                "recipes.digits_mlp()"
            )


def check_population(experiments: Sequence[Experiment]) -> None:
    """Check that experiments can be one population.

    Raises:
        TypeError: if one is no experiment.
        ValueError: if there is none, one cannot be in any population, or a setting differs that must be the same.
    """
    check_experiments(experiments)
    for experiment in experiments:
        if (why := next(_obstacles(experiment), None)) is not None:
            raise ValueError(
                f"the members of a population must be small networks that train by SGD, got {experiment.folder_name}: "
                f"{why}. Use run_all, which trains it alone"
            )
    first = experiments[0]
    for experiment in experiments:
        for name in COMMON:
            if (one := getattr(first, name)) != (other := getattr(experiment, name)):
                raise ValueError(
                    f"the members of a population must have the same {name}, got {one!r} and {other!r}. Use run_all, "
                    "which makes a population of those that fit each other"
                )


def _obstacles(experiment: Experiment) -> Iterator[str]:
    """Yield what keeps an experiment out of any population."""
    settings, rule = experiment.optimizer_settings or {}, experiment.rule
    if experiment.model not in NETWORKS:
        yield f"its network is {experiment.model}, and populations know {' and '.join(NETWORKS)}"
    if experiment.optimizer != "sgd" or settings.get("dampening"):
        yield "its optimizer is not SGD without dampening"
    for name in ("tricks", "augment", "autocast"):
        if getattr(experiment, name):
            yield f"it has {name}"
    if experiment.micro_batches > 1:
        yield "its batches are split into micro-batches"
    yield from (f"its rule {why}" for why in obstacles_of_rule(rule))
    if may_draw(experiment, nn.Identity()):
        yield "it has parts of your own, which may draw from torch's random state"


def obstacles_of_rule(rule: Any) -> Iterator[str]:
    """Yield why a rule cannot be in any population, each as the end of a sentence about it."""
    if isinstance(rule, Switched):
        yield "is followed by another one"
    if why := why_dense(rule):
        yield f"needs dense layers, because {why}"
    yield from (why for part, why in PARTS.items() if part_of(rule, part) is not None)
    if updates_every_step(rule):
        yield "looks at every step"
    if probe_batches(rule) > 1:
        yield "looks at several batches"


def _common(experiment: Experiment) -> str:
    """Return what members of a population have in common as a text, which is no name of a folder."""
    return json.dumps([to_plain(getattr(experiment, name)) for name in COMMON], sort_keys=True)


def _even_parts(group: list[Experiment]) -> list[list[Experiment]]:
    """Cut a group that is too large into parts of about the same size."""
    count = -(-len(group) // MOST_MEMBERS)
    ends = [len(group) * number // count for number in range(count + 1)]
    return [group[first:last] for first, last in pairwise(ends)]
