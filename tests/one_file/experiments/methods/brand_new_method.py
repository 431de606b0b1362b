"""A method of one file: see tests/test_one_file.py."""

from collections.abc import Callable
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.utils.registry import register


@register("method", "brand-new-method")
def brand_new_method(recipe: Callable[..., Experiment], **settings: Any) -> Experiment:
    """RigL that begins with the connections that SNIP keeps.

    Source: nobody would publish this.
    """
    return recipe(rule="rigl", score="snip", **settings)
