"""Sign-In as a row of a comparison: a mask that never changes, and weights that are products."""

from collections.abc import Callable
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.utils.registry import register


@register("method", "sign-in")
def sign_in(recipe: Callable[..., Experiment], **settings: Any) -> Experiment:
    """The trick `SignIn` on a random topology that stays, so `static` is what it is held against.

    Args:
        recipe: makes the experiment.
        settings: `density`, `seed` and other arguments of the recipe. Further `tricks` are applied besides.

    Source: Sign-In, Gadhikar et al. (2025), arXiv:2504.12801.
    """
    tricks = settings.pop("tricks", ())
    others = (tricks,) if isinstance(tricks, str) else tuple(tricks)
    return recipe(rule="static", tricks=("sign-in", *others), **settings)
