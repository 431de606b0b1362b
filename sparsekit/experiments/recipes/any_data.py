"""Recipes by the name of a data set, also for a data set that no recipe was written for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sparsekit import datasets
from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.recipes.base import Recipe
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


def mlp_on(data: str, *, root: Path | None = None, **options: Any) -> Experiment:
    """MLP with two hidden layers of 256 units on any data set, which is loaded to count its examples.

    The rest is as on digits: SGD 0.1 with momentum 0.9 and weight decay 1e-4 on batches of 64, a cosine to 0, and a
    rewiring every 25 steps until three quarters of the training.

    Args:
        data: a registered data set's name.
        root: the data folder, as in `datasets.load`.
        options: those of any `Recipe`.

    Example:
        >>> mlp_on("digits", epochs=1).rule == recipe_named("digits-mlp")(epochs=1).rule
        True
    """
    train = datasets.load(data, root=root, **options.get("data_settings", {})).train
    recipe = Recipe(
        recipe=f"{data}-mlp",
        docs="MLP with two hidden layers of 256 units.",
        data=data,
        num_train=len(train),
        density=0.05,
        epochs=60,
        batch_size=64,
        every=25,
    )
    return recipe(**options)
