"""Recipes for images: Fashion-mini in a minute, CIFAR-10 in hours on a small machine."""

import dataclasses

from sparsekit.experiments.recipes.base import Recipe, register_recipe
from sparsekit.schedules import Piecewise


def _divided_twice(steps: int) -> Piecewise:
    """Return a learning rate of 0.1 that is divided by 10 after a half and three quarters of the steps."""
    return Piecewise(0.1, (steps // 2, 3 * steps // 4))


fashion_mini_mlp = register_recipe(
    Recipe(
        recipe="fashion-mini-mlp",
        docs="""MLP 784-300-100-10 on Fashion-mini: 266,200 weights, 5,000 real images.

        Source: data of Xiao et al. (2017), arXiv:1708.07747. The network is that of LeCun et al. (1998), and the set-up
            is ours.
        """,
        data="fashion-mini",
        num_train=5000,
        density=0.05,
        epochs=20,
        batch_size=128,
        every=25,
        settings={"model_settings": {"hidden": (300, 100)}},
    )
)

fashion_mini_cnn = register_recipe(
    Recipe(
        recipe="fashion-mini-cnn",
        docs="""A small convolutional network (16-32-64, batch norm) on Fashion-mini.

        Source: data of Xiao et al. (2017), arXiv:1708.07747. The set-up is ours.
        """,
        data="fashion-mini",
        num_train=5000,
        model="small-cnn",
        density=0.1,
        epochs=12,
        batch_size=128,
        every=25,
    ),
    trains="fashion-mini",
)


cifar10_resnet20 = register_recipe(
    Recipe(
        recipe="cifar10-resnet20",
        docs="""ResNet-20 on CIFAR-10, in the common protocol of sparse training.

        The optimizer is SGD with learning rate 0.1, momentum 0.9 and weight decay 5e-4, on batches of 128 images with
        random crops and flips. In 160 epochs the learning rate is divided by 10 after a half and three quarters. The
        topology is rewired every 100 steps.

        Source: He et al. (2016), arXiv:1512.03385, section 4.2, for network and augmentation. Evci et al. (2020) for
            the rewiring.
        """,
        data="cifar10",
        num_train=50_000,
        model="resnet20",
        density=0.1,
        epochs=160,
        batch_size=128,
        every=100,
        learning_rate=_divided_twice,
        settings={
            "augment": True,
            "optimizer_settings": {"momentum": 0.9, "weight_decay": 5e-4},
        },
    ),
    trains="cifar10",
)

cifar10_resnet18 = register_recipe(
    dataclasses.replace(
        cifar10_resnet20,
        recipe="cifar10-resnet18",
        docs="""ResNet-18 (3x3 stem) on CIFAR-10, in the same protocol as `cifar10_resnet20`.

        Source: He et al. (2016), arXiv:1512.03385. Evci et al. (2020) for the rewiring.
        """,
        model="resnet18",
    )
)
