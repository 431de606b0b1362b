"""An MLP on digits and on MNIST-1D in seconds, and one so wide that its dense weights would fit nowhere."""

from typing import Any

from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.recipes.base import experiment, with_defaults
from sparsekit.rules import Rule
from sparsekit.utils.registry import register


@register("recipe", "digits-mlp", trains="digits")
def digits_mlp(
    *,
    rule: str | Rule = "rigl",
    density: float = 0.05,
    seed: int = 0,
    epochs: int = 60,
    rule_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> Experiment:
    """MLP 64-256-256-10 on scikit-learn's digits: 84,480 weights, a few seconds.

    SGD 0.1 with momentum 0.9 and weight decay 1e-4, batch 64, cosine to 0; rewiring every 25 steps until three
    quarters of the training.

    Args:
        rule: a registered rule's name, a rule, or `"dense"`.
        density: share of the weights that exist.
        seed: of everything random.
        epochs: passes over the 1,197 training images.
        rule_settings: settings of the named rule, for example `{"every": 50}`.
        settings: any other field of `Experiment`.

    Source: our set-up for small machines; the allocation and schedule are those of Evci et al. (2020).

    Example:
        >>> digits_mlp(rule="set", density=0.02).rule.stop
        855
    """
    return experiment(
        "digits-mlp",
        rule=rule,
        density=density,
        num_train=1197,
        epochs=epochs,
        batch_size=64,
        rule_settings=with_defaults(rule, rule_settings or {}, every=25),
        seed=seed,
        given=settings,
    )


@register("recipe", "mnist1d-mlp", trains="mnist1d")
def mnist1d_mlp(
    *,
    rule: str | Rule = "rigl",
    density: float = 0.05,
    seed: int = 0,
    epochs: int = 40,
    rule_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> Experiment:
    """MLP 40-256-256-10 on MNIST-1D, synthetic and harder than digits: it separates methods at every density.

    SGD 0.1 with momentum 0.9 and weight decay 1e-4, batch 64, cosine to 0; rewiring every 50 steps until three
    quarters of the training.

    Args:
        rule: a registered rule's name, a rule, or `"dense"`.
        density: share of the weights that exist.
        seed: of everything random.
        epochs: passes over the 4,000 training examples.
        rule_settings: settings of the named rule.
        settings: any other field of `Experiment`.

    Source: data of Greydanus (2020), arXiv:2011.14439; the set-up is ours.
    """
    return experiment(
        "mnist1d-mlp",
        rule=rule,
        density=density,
        num_train=4000,
        epochs=epochs,
        batch_size=64,
        rule_settings=with_defaults(rule, rule_settings or {}, every=50),
        data="mnist1d",
        seed=seed,
        given=settings,
    )


@register("recipe", "wide-mlp")
def wide_mlp(
    *,
    rule: str | Rule = "gse",
    density: float | None = None,
    seed: int = 0,
    epochs: int = 4,
    width: int = 65_536,
    fan_in: int = 20,
    rule_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> Experiment:
    """MLP 64-65536-65536-10 on digits with about 20 connections per neuron; dense it would need 48 GiB to train.

    Connections are shared out by Erdos-Renyi, so that their number grows with the width and not with its square. They
    are drawn without any dense weight to begin with, and kept in storage csr. SGD 0.1 with momentum 0.9 and weight
    decay 1e-4, batch 64, cosine to 0; rewiring every 10 steps until three quarters of the training.

    Args:
        rule: a registered rule's name, or a rule; one that looks at all missing connections takes hours here.
        density: share of the weights that exist; None follows from `fan_in`.
        seed: of everything random.
        epochs: passes over the 1,197 training images.
        width: neurons of each of the two hidden layers.
        fan_in: mean connections into a neuron of the second hidden layer.
        rule_settings: settings of the named rule.
        settings: any other field of `Experiment`.

    Source: the scaling argument of arXiv:2401.06898 (GSE); width and data are ours.

    Example:
        >>> wide_mlp(width=1024).model_settings["hidden"]
        (1024, 1024)
    """
    # Erdos-Renyi gives each layer connections in proportion to the sum of its two sides.
    weights = width * (64 + width + 10)
    per_side = fan_in / 2
    connections = sum(min(per_side * (a + b), a * b) for a, b in ((64, width), (width, width), (width, 10)))
    return experiment(
        "wide-mlp",
        rule=rule,
        density=density or min(1.0, connections / weights),
        num_train=1197,
        epochs=epochs,
        batch_size=64,
        rule_settings=with_defaults(rule, rule_settings or {}, every=10),
        seed=seed,
        given={"model_settings": {"hidden": (width, width)}, **settings},
        allocation="er",
        storage="csr",
        dense_init=False,
    )
