"""All weights: what every sparse method is held against."""

from collections.abc import Callable
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.utils.registry import register


@register("method", "dense")
def dense(recipe: Callable[..., Experiment], **settings: Any) -> Experiment:
    """The dense network, at any density that is asked for.

    Args:
        recipe: makes the experiment.
        settings: `density`, `seed` and other arguments of the recipe.

    Source: the dense training that papers report beside their sparse ones, for example Evci et al. (2020),
        arXiv:1911.11134, table 1.
    """
    return recipe(rule="dense", **settings)
