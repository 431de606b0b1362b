"""A method of one file: see tests/test_one_file.py."""

from collections.abc import Callable
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.utils.registry import register


@register("method", "brand-new-method")
def brand_new_method(recipe: Callable[..., Experiment], **settings: Any) -> Experiment:
    """RigL with smoothed labels.

    Source: nobody would publish this.
    """
    return recipe(rule="rigl", label_smoothing=0.1, **settings)
