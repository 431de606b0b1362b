"""Some trainings draw from torch's global random state. They must draw from a generator instead."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from sparsekit.experiments.experiment import Experiment
from sparsekit.utils.registry import get
from sparsekit.utils.seeds import seeded_rng

# Modules in these files of torch.nn.modules never draw in their forward pass, except for those in DRAWING.
SILENT = {"activation", "batchnorm", "container", "conv", "flatten", "instancenorm", "linear", "normalization"}
SILENT |= {"padding", "pixelshuffle", "pooling", "sparse", "upsampling"}
DRAWING = (nn.RReLU, nn.MultiheadAttention, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


def drawing(experiment: Experiment, model: nn.Module, draws: torch.Generator) -> AbstractContextManager:
    """Let whatever draws without a generator in a training draw from this one, as `seeded_rng` does."""
    return seeded_rng(draws) if may_draw(experiment, model) else nullcontext()


def may_draw(experiment: Experiment, model: nn.Module) -> bool:
    """Whether a module such as dropout, or a user's own part, may draw without a generator in a training.

    All networks, rules, data sets and tricks of this package draw from generators of their own. So their trainings need
    no `seeded_rng`, which costs some microseconds for each operation. We cannot know what other people's code draws.
    """
    if draws_unasked(model):
        return True
    registered = [get("data", experiment.data), get("model", experiment.model), get("optimizer", experiment.optimizer)]
    parts = [*registered, *(type(part) for part in _parts(experiment))]
    return not all(part.__module__.startswith(("sparsekit.", "torch.optim.", "builtins")) for part in parts)


def draws_unasked(model: nn.Module) -> bool:
    """Whether a module of a network may draw without a generator in its forward pass."""
    return not all(_is_silent(module) for module in model.modules())


def _is_silent(module: nn.Module) -> bool:
    home, _, file = type(module).__module__.rpartition(".")
    is_torchs = home == "torch.nn.modules" and file in SILENT and not isinstance(module, DRAWING)
    return is_torchs or home.startswith("sparsekit.")


def _parts(value: Any) -> Iterator[Any]:
    """Yield a setting and its parts, however deep."""
    yield value
    inner: list[Any] = []
    if dataclasses.is_dataclass(value):
        inner = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping | list | tuple):
        inner = list(value.values() if isinstance(value, Mapping) else value)
    for part in inner:
        yield from _parts(part)
