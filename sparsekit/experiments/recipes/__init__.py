"""Recipes make complete experiments. To derive one from another, call `dataclasses.replace`."""

from sparsekit.experiments.recipes.any_data import mlp_on, recipe_for, recipe_named
from sparsekit.experiments.recipes.images import cifar10_resnet18, cifar10_resnet20, fashion_mini_cnn, fashion_mini_mlp
from sparsekit.experiments.recipes.small import digits_mlp, digits_small, mnist1d_mlp, wide_mlp
from sparsekit.experiments.recipes.text import micro_gpt, tiny_gpt, tiny_gpt_bpe
from sparsekit.utils.registry import discover

discover(__name__)

__all__ = [
    "cifar10_resnet18",
    "cifar10_resnet20",
    "digits_mlp",
    "digits_small",
    "fashion_mini_cnn",
    "fashion_mini_mlp",
    "micro_gpt",
    "mlp_on",
    "mnist1d_mlp",
    "recipe_for",
    "recipe_named",
    "tiny_gpt",
    "tiny_gpt_bpe",
    "wide_mlp",
]
