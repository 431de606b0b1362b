"""Each recipe has a setting of its Sup-tickets under its own name, so that a study is one name and a seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sparsekit.experiments.recipes import recipe_for, recipe_named
from sparsekit.experiments.sup_tickets.base import SupTickets
from sparsekit.rules import Rule, settings_of
from sparsekit.utils.registry import is_registered

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CycleSetting:
    """What is known to work for the Sup-tickets of a recipe.

    Args:
        density: share of the weights that exist.
        epochs: passes over the training data, cycles included.
        every: steps between two rewirings, for rules that have such a setting. None means the recipe's own.
        cycle_rate, cycle_epochs, low, high: as for `SupTickets`.
        data_settings: of the data set.
    """

    density: float = 0.05
    epochs: int = 60
    every: int | None = None
    cycle_rate: float = 0.2
    cycle_epochs: int = 4
    low: float | None = None
    high: float | None = None
    data_settings: Mapping[str, Any] = field(default_factory=dict)


ANY_RECIPE = CycleSetting()
# On MNIST-1D, 100 ordinary epochs and 5 cycles of 6. The ordinary part has converged, the learning rate of a cycle
# rises as high as at the beginning, and 10,000 test examples tell small differences. What this setting gives is in
# studies/sup-tickets.md.
CYCLE_SETTINGS = {
    "mnist1d-mlp": CycleSetting(
        epochs=130,
        every=100,
        cycle_rate=30 / 130,
        cycle_epochs=6,
        low=0.01,
        high=0.1,
        data_settings={"num_test": 10_000},
    ),
}


def sup_tickets_of(
    recipe: str,
    *,
    rule: str | Rule = "rigl",
    density: float | None = None,
    seed: int = 0,
    epochs: int | None = None,
    cycle_rate: float | None = None,
    cycle_epochs: int | None = None,
    explore: float = 0.5,
    low: float | None = None,
    high: float | None = None,
    rule_settings: Mapping[str, Any] | None = None,
    data_settings: Mapping[str, Any] | None = None,
    root: Path | None = None,
    **settings: Any,
) -> SupTickets:
    """Return the Sup-tickets of a recipe in the recipe's own setting, with whatever you choose in its place.

    Args:
        recipe: name of a recipe or a data set.
        rule: a registered rule's name, or a rule.
        density, epochs, cycle_rate, cycle_epochs, low, high: as for `SupTickets`. None means the recipe's own.
        seed: of everything random.
        explore: share of the connections exchanged at the start of a cycle.
        rule_settings: settings of a rule given by name.
        data_settings: settings of the data set, beside the recipe's own.
        root: the data folder, for a data set without a recipe.
        settings: other fields of `Experiment`, as for a recipe.

    Raises:
        ValueError: as the recipe and `SupTickets`.

    Source: Yin et al. (2022), arXiv:2205.15322, for the method. The settings are ours.

    Example:
        >>> sup = sup_tickets_of("mnist1d-mlp", seed=3)
        >>> sup.split, sup.low, sup.high, sup.experiment.rule.every
        (Split(pretraining=100, cycles=5), 0.01, 0.1, 100)
    """
    own = _setting_of(recipe)
    experiment = recipe_named(recipe, root)(
        rule=rule,
        density=_either(density, own.density),
        seed=seed,
        epochs=_either(epochs, own.epochs),
        rule_settings={**_every(rule, own), **(rule_settings or {})},
        data_settings={**own.data_settings, **(data_settings or {})},
        **settings,
    )
    return SupTickets(
        experiment=experiment,
        cycle_rate=_either(cycle_rate, own.cycle_rate),
        cycle_epochs=_either(cycle_epochs, own.cycle_epochs),
        explore=explore,
        low=_either(low, own.low),
        high=_either(high, own.high),
    )


def _setting_of(recipe: str) -> CycleSetting:
    is_data = not is_registered("recipe", recipe) and is_registered("data", recipe)
    return CYCLE_SETTINGS.get(recipe_for(recipe) if is_data else recipe, ANY_RECIPE)


def _every(rule: str | Rule, own: CycleSetting) -> dict[str, int]:
    if own.every is None or not isinstance(rule, str) or rule == "dense" or "every" not in settings_of(rule):
        return {}
    return {"every": own.every}


def _either(chosen: T | None, own: T) -> T:
    return own if chosen is None else chosen
