"""Families of models: factories that differ in a number or two, each under its own name and with its own docstring."""

import inspect
from collections.abc import Callable

from torch import nn

from sparsekit.utils.registry import register

Factory = Callable[..., nn.Sequential]


def member(name: str, factory: Factory, *paragraphs: str) -> Factory:
    """Register a factory that another function has made, and give it the name and docstring of a function of its own.

    Keep what this returns under `name` in the factory's module (with `_` for `-`), so that it can be pickled.

    Args:
        name: of the model, for example `"resnet20"`.
        factory: takes `input_shape`, `num_classes` and its own settings by keyword.
        paragraphs: of its docstring, in order. Empty ones are left out.
    """
    factory.__name__ = factory.__qualname__ = name.replace("-", "_")
    factory.__doc__ = "\n\n".join(inspect.cleandoc(paragraph) for paragraph in paragraphs if paragraph)
    return register("model", name)(factory)
