"""Recipes by the name of a data set, also for a data set that no recipe was written for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sparsekit import datasets
from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.recipes.base import experiment, with_defaults
from sparsekit.rules import Rule
from sparsekit.utils.registry import facts_of, get, is_registered, names


def recipe_for(data: str) -> str:
    """Return the name of the recipe that trains a data set in the shortest time.

    This is the recipe registered with `trains=data`, or else the name of the data set itself, which `recipe_named`
    knows as well.

    Raises:
        ValueError: if there is no such data set. The message lists the known ones.

    Example:
        >>> recipe_for("digits"), recipe_for("tiny-imagenet")
        ('digits-mlp', 'tiny-imagenet')
    """
    get("data", data)
    return next((recipe for recipe in names("recipe") if facts_of("recipe", recipe).trains == data), data)


def recipe_named(name: str, root: Path | None = None) -> Callable[..., Experiment]:
    """Return a recipe by its own name or by that of a data set. A data set without a recipe is trained by `mlp_on`.

    Args:
        name: of a recipe, or of a data set.
        root: the data folder, for a data set without a recipe.

    Raises:
        ValueError: if there is neither. The message lists the recipes.

    Example:
        >>> recipe_named("digits")(epochs=1) == recipe_named("digits-mlp")(epochs=1)
        True
    """
    if not is_registered("recipe", name) and is_registered("data", name):
        name = recipe_for(name)
        if not is_registered("recipe", name):
            return partial(mlp_on, name, root=root)
    return get("recipe", name)


def mlp_on(
    data: str,
    *,
    root: Path | None = None,
    rule: str | Rule = "rigl",
    density: float = 0.05,
    seed: int = 0,
    epochs: int = 60,
    rule_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> Experiment:
    """MLP with two hidden layers of 256 units on any data set, which is loaded to count its examples.

    SGD 0.1 with momentum 0.9 and weight decay 1e-4, batch 64, cosine to 0, and rewiring every 25 steps until three
    quarters of the training, as on digits.

    Args:
        data: a registered data set's name.
        root: the data folder, as in `datasets.load`.
        rule: a registered rule's name, a rule, or `"dense"`.
        density: share of the weights that exist.
        seed: of everything random.
        epochs: passes over the training examples.
        rule_settings: settings of the named rule, for example `{"every": 50}`.
        settings: any other field of `Experiment`.

    Example:
        >>> mlp_on("digits", epochs=1).rule == recipe_named("digits-mlp")(epochs=1).rule
        True
    """
    train = datasets.load(data, root=root, **settings.get("data_settings", {})).train
    return experiment(
        f"{data}-mlp",
        rule=rule,
        density=density,
        num_train=len(train),
        epochs=epochs,
        batch_size=64,
        rule_settings=with_defaults(rule, rule_settings or {}, every=25),
        data=data,
        seed=seed,
        given=settings,
    )
