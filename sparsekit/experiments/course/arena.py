"""Rules compete in memory: one small network, one budget of connections and steps, and the same seeds for all."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import pandas as pd
from torch import Tensor, nn

from sparsekit import datasets
from sparsekit.experiments.course.together import accuracy_percent, epochs_together, initial_models
from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.population.fitting import obstacles_of_rule
from sparsekit.experiments.recipes import digits_small
from sparsekit.layers import topology_of
from sparsekit.rules import RigL, Rule
from sparsekit.rules.base import check_rule

EPOCHS = 60
STEPS = EPOCHS * 19  # 1,197 digits are 19 batches of 64
DENSITY = 0.05
CONNECTIONS = 293  # of 5,856, which are 5 %


@dataclass(frozen=True)
class Score:
    """What a rule reached, in percent of the test digits, one number for each seed."""

    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return statistics.stdev(self.accuracies) / len(self.accuracies) ** 0.5


def rigl(total_steps: int = STEPS) -> Rule:
    """Return the rule to beat. RigL rewires every 25 steps here, until three quarters of the training."""
    return RigL(stop=3 * total_steps // 4, every=25)


def table_of(scores: Mapping[str, Score]) -> pd.DataFrame:
    """Return scores as a table, the best rule first.

    Example:
        >>> table_of({"RigL": Score((91.0, 90.0)), "SET": Score((86.0, 80.0))}).index.tolist()
        ['RigL', 'SET']
    """
    ranked = sorted(scores.items(), key=lambda item: -item[1].mean)
    rows = {name: {"of 100 digits": one.mean, "standard error": one.error} for name, one in ranked}
    return pd.DataFrame.from_dict(rows, orient="index").round(1)


def compete(
    rules: Mapping[str, Rule], seeds: Sequence[int], *, epochs: int = EPOCHS, density: float = DENSITY
) -> dict[str, Score]:
    """Train the small digits network by each rule from each seed, and return what each reads of the test digits.

    Args:
        rules: who takes part, by name. All begin with the same networks and see the same batches.
        seeds: one training of each rule for each of them, two or more.
        epochs: passes over the training digits, of 19 steps each.
        density: share of the network's 5,856 weights that exist.

    Raises:
        TypeError: if one is no rule.
        ValueError: if a rule cannot be trained beside others.
        FloatingPointError: if the loss of one is not finite.

    Example:
        >>> from sparsekit.rules import SET
        >>> score = compete({"mine": SET(stop=20, every=10)}, seeds=[0, 1], epochs=1)["mine"]
        >>> len(score.accuracies)
        2
    """
    networks = trained(rules, seeds, epochs=epochs, density=density)
    return {name: Score(tuple(map(accuracy_on_test, models))) for name, models in networks.items()}


def trained(
    rules: Mapping[str, Rule], seeds: Sequence[int], *, epochs: int = EPOCHS, density: float = DENSITY
) -> dict[str, list[nn.Module]]:
    """Return the networks of `compete` instead of their accuracies, one for each seed.

    Raises:
        TypeError: if one is no rule.
        ValueError: if a rule cannot be trained beside others.
        FloatingPointError: if the loss of one is not finite.
    """
    for name, rule in rules.items():
        _check_competes(name, rule)
    pairs = [(name, seed) for name in rules for seed in seeds]
    experiments = [digits_small(rule=rules[name], seed=seed, epochs=epochs, density=density) for name, seed in pairs]
    models = _train(experiments)
    return {name: [model for model, (one, _) in zip(models, pairs, strict=True) if one == name] for name in rules}


def accuracy_on_test(outputs_of: Callable[[Tensor], Tensor]) -> float:
    """Return the percentage of the 600 test digits that a network, or any function of images, reads."""
    return accuracy_percent(outputs_of, digits())


@cache
def digits() -> datasets.Dataset:
    """Return the data set of the arena."""
    return datasets.load("digits")


def _check_competes(name: str, rule: object) -> None:
    check_rule(rule)
    if (why := next(obstacles_of_rule(rule), None)) is not None:
        raise ValueError(f"a rule that competes must leave the training step as it is, got {name}, which {why}")


def _train(experiments: Sequence[Experiment]) -> list[nn.Module]:
    models = initial_models(experiments, digits())
    for _ in epochs_together(experiments, models, digits()):
        _check_budget(models, experiments[0].density)
    return [model.eval() for model in models]


def _check_budget(models: Sequence[nn.Module], density: float) -> None:
    """Raise ValueError if one has more connections than it began with, which a rule may try between two epochs."""
    topologies = [topology_of(model) for model in models]
    budget = round(density * topologies[0].size)
    if (most := max(one.count for one in topologies)) > budget:
        raise ValueError(f"a rule must keep the budget of {budget} connections, got one that holds {most}. Grow fewer")
