"""SMET: SET under Adam, whose grown connections count their own steps and begin slowly."""

from collections.abc import Callable
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.schedules import Cosine
from sparsekit.topology.allocation import check_density
from sparsekit.utils.checks import check_finite_number

EVERY, DROP_FRACTION = 100, 0.2  # as read in the released code


def smet(
    recipe: Callable[..., Experiment], *, density: float, learning_rate: float = 5e-4, **settings: Any
) -> Experiment:
    """Return what a recipe makes of SMET, a setting of parts that exist: SET, own step counts, and a ramp.

    Each layer has the same density, and every 100 steps 20 % of its weakest connections give way to random ones. Adam
    counts the steps of each grown connection from its growth on, and its updates rise to their full length within 100
    steps. The learning rate is `learning_rate / density`, divided once, and falls along a cosine to 0.

    Two things are otherwise in the released code. There the ramp multiplies the stored momentum at every step, so it
    decays geometrically, and the division of the learning rate stands in the loop over parameters, so it compounds.
    Ours shortens the update and leaves the momentum, and divides one schedule. SMET changes the optimizer, so it is no
    method of `compare`, whose methods all keep that of the recipe.

    Args:
        recipe: makes the experiment, for example `recipes.mnist1d_mlp`.
        density: share of the weights that exist.
        learning_rate: that of a dense network. The default times 1 / 0.1 and 1 / 0.5 gives the published 5e-3 and 1e-3.
        settings: `seed`, `epochs` and other arguments of the recipe.

    Raises:
        ValueError: if the density is out of range, the learning rate is not above 0, or the recipe refuses a setting.

    Source: Xiao et al. (2026), SMET, arXiv:2606.00888, and its released code.

    Example:
        >>> from sparsekit.experiments.recipes import digits_mlp
        >>> one = smet(digits_mlp, density=0.1)
        >>> one.optimizer, one.step_count, one.learning_rate.start
        ('adam', 'ramp', 0.005)
    """
    check_density(density)
    if check_finite_number("learning_rate", learning_rate) <= 0:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}. 5e-4 is usual")
    parts = {
        "rule": "set",
        "rule_settings": {"every": EVERY, "drop_fraction": DROP_FRACTION},
        "allocation": "uniform",
        "optimizer": "adam",
        "step_count": "ramp",
        "learning_rate": Cosine(learning_rate / density, 0.0),
    }
    return recipe(density=density, **{**parts, **settings})
