"""Experiments on pictures: Fashion-mini in a minute, CIFAR-10 in hours on a small machine."""

from typing import Any

from sparsekit.datasets import count_batches
from sparsekit.experiments.experiment import Experiment
from sparsekit.experiments.recipes.base import experiment, with_defaults
from sparsekit.rules import Rule
from sparsekit.schedules import Piecewise
from sparsekit.utils.registry import register


@register("recipe", "fashion-mini-mlp")
def fashion_mini_mlp(
    *,
    rule: str | Rule = "rigl",
    density: float = 0.05,
    seed: int = 0,
    epochs: int = 20,
    rule_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> Experiment:
    """MLP 784-300-100-10 on Fashion-mini: 266,200 weights, 5,000 real pictures.

    Args:
        rule: a registered rule's name, a rule, or `"dense"`.
        density: share of the weights that exist.
        seed: of everything random.
        epochs: passes over the 5,000 training images.
        rule_settings: settings of the named rule.
        settings: any other field of `Experiment`.

    Source: data of Xiao et al. (2017), arXiv:1708.07747; the network of LeCun et al. (1998); the set-up is ours.
    """
    return experiment(
        "fashion-mini-mlp",
        rule=rule,
        density=density,
        num_train=5000,
        epochs=epochs,
        batch_size=128,
        rule_settings=with_defaults(rule, rule_settings or {}, every=25),
        data="fashion-mini",
        model_settings={"hidden": (300, 100)},
        seed=seed,
        given=settings,
    )


@register("recipe", "fashion-mini-cnn", trains="fashion-mini")
def fashion_mini_cnn(
    *,
    rule: str | Rule = "rigl",
    density: float = 0.1,
    seed: int = 0,
    epochs: int = 12,
    rule_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> Experiment:
    """A small convolutional network (16-32-64, batch norm) on Fashion-mini.

    Args:
        rule: a registered rule's name, a rule, or `"dense"`.
        density: share of the weights that exist.
        seed: of everything random.
        epochs: passes over the 5,000 training images.
        rule_settings: settings of the named rule.
        settings: any other field of `Experiment`.

    Source: data of Xiao et al. (2017), arXiv:1708.07747; the set-up is ours.
    """
    return experiment(
        "fashion-mini-cnn",
        rule=rule,
        density=density,
        num_train=5000,
        epochs=epochs,
        batch_size=128,
        rule_settings=with_defaults(rule, rule_settings or {}, every=25),
        data="fashion-mini",
        model="small-cnn",
        seed=seed,
        given=settings,
    )


@register("recipe", "cifar10-resnet20", trains="cifar10")
def cifar10_resnet20(**settings: Any) -> Experiment:
    """ResNet-20 on CIFAR-10, in the common protocol of sparse training.

    SGD 0.1 with momentum 0.9 and weight decay 5e-4, batch 128, 160 epochs with the learning rate divided by 10 after
    a half and three quarters, random crops and flips; rewiring every 100 steps.

    Args:
        settings: `rule`, `density`, `seed`, `epochs`, `rule_settings`, and any other field of `Experiment`.

    Source: He et al. (2016), arXiv:1512.03385, section 4.2, for network and augmentation; Evci et al. (2020) for the
        rewiring.
    """
    return _cifar10("cifar10-resnet20", "resnet20", **settings)


@register("recipe", "cifar10-resnet18")
def cifar10_resnet18(**settings: Any) -> Experiment:
    """ResNet-18 (3x3 stem) on CIFAR-10, in the same protocol as `cifar10_resnet20`.

    Args:
        settings: `rule`, `density`, `seed`, `epochs`, `rule_settings`, and any other field of `Experiment`.

    Source: He et al. (2016), arXiv:1512.03385; Evci et al. (2020) for the rewiring.
    """
    return _cifar10("cifar10-resnet18", "resnet18", **settings)


def _cifar10(
    recipe: str,
    model: str,
    *,
    rule: str | Rule = "rigl",
    density: float = 0.1,
    seed: int = 0,
    epochs: int = 160,
    rule_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> Experiment:
    steps = epochs * count_batches(50_000, settings.get("batch_size", 128))
    return experiment(
        recipe,
        rule=rule,
        density=density,
        num_train=50_000,
        epochs=epochs,
        batch_size=128,
        rule_settings=with_defaults(rule, rule_settings or {}, every=100),
        data="cifar10",
        augment=True,
        model=model,
        optimizer_settings={"momentum": 0.9, "weight_decay": 5e-4},
        learning_rate=Piecewise(0.1, (steps // 2, 3 * steps // 4)),
        seed=seed,
        given=settings,
    )
