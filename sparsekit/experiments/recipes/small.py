"""Recipes for small machines: an MLP on digits and on MNIST-1D in seconds, and one far too wide for dense weights."""

from dataclasses import replace
from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.recipes.base import Recipe, register_recipe
from sparsekit.utils.registry import register

digits_mlp = register_recipe(
    Recipe(
        recipe="digits-mlp",
        docs="""MLP 64-256-256-10 on scikit-learn's digits: 84,480 weights, a few seconds.

        The optimizer is SGD with learning rate 0.1, momentum 0.9 and weight decay 1e-4, on batches of 64. The learning
        rate falls along a cosine to 0. The topology is rewired every 25 steps until three quarters of the training.

        Source: our set-up for small machines. The allocation and schedule are those of Evci et al. (2020).
        """,
        data="digits",
        num_train=1197,
        density=0.05,
        epochs=60,
        batch_size=64,
        every=25,
    ),
    trains="digits",
)

digits_small = register_recipe(
    replace(
        digits_mlp,
        recipe="digits-small",
        docs="""MLP 64-48-48-10 on scikit-learn's digits: at 5 % 293 connections, few enough to draw each of them.

        Wide networks have connections to spare, so a fixed random topology does well. This one does not, so it shows
        what rewiring is worth. Everything else is as in `digits_mlp`.

        Source: our set-up, of which the network is small enough to be seen whole.
        """,
        settings={"model_settings": {"hidden": (48, 48)}},
    )
)

mnist1d_mlp = register_recipe(
    Recipe(
        recipe="mnist1d-mlp",
        docs="""MLP 40-256-256-10 on MNIST-1D, synthetic and harder than digits: it separates methods at every density.

        The optimizer is SGD with learning rate 0.1, momentum 0.9 and weight decay 1e-4, on batches of 64. The learning
        rate falls along a cosine to 0. The topology is rewired every 50 steps until three quarters of the training.

        Source: data of Greydanus (2020), arXiv:2011.14439. The set-up is ours.
        """,
        data="mnist1d",
        num_train=4000,
        density=0.05,
        epochs=40,
        batch_size=64,
        every=50,
    ),
    trains="mnist1d",
)


@register("recipe", "wide-mlp")
def wide_mlp(*, width: int = 65_536, fan_in: int = 20, density: float | None = None, **settings: Any) -> Experiment:
    """MLP 64-65536-65536-10 on digits with about 20 connections per neuron. Dense it would need 48 GiB to train.

    The allocation is Erdos-Renyi, so the number of connections grows with the width and not with its square. They are
    drawn without any dense weight to begin with, and kept in storage csr. The optimizer is SGD with learning rate 0.1,
    momentum 0.9 and weight decay 1e-4, on batches of 64. The learning rate falls along a cosine to 0. The topology is
    rewired every 10 steps until three quarters of the training.

    Args:
        width: neurons of each of the two hidden layers.
        fan_in: mean connections into a neuron of the second hidden layer.
        density: share of the weights that exist. None follows from `fan_in`.
        settings: `rule` ("gse"), `seed` (0), `epochs` (4), `rule_settings`, and any other field of `Experiment`. A rule
            that looks at all missing connections takes hours here.

    Source: the scaling argument of arXiv:2401.06898 (GSE). Width and data are ours.

    Example:
        >>> wide_mlp(width=1024).model_settings["hidden"]
        (1024, 1024)
    """
    # Erdos-Renyi gives each layer connections in proportion to the sum of its two sides.
    weights = width * (64 + width + 10)
    per_side = fan_in / 2
    connections = sum(min(per_side * (a + b), a * b) for a, b in ((64, width), (width, width), (width, 10)))
    recipe = Recipe(
        recipe="wide-mlp",
        docs=wide_mlp.__doc__ or "",
        data="digits",
        num_train=1197,
        density=density or min(1.0, connections / weights),
        epochs=4,
        batch_size=64,
        every=10,
        rule="gse",
        settings={
            "model_settings": {"hidden": (width, width)},
            "allocation": "er",
            "storage": "csr",
            "init": "gse",
        },
    )
    return recipe(**settings)
