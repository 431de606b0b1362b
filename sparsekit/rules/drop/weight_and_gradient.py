"""Drop connections that are weak and that the loss does not pull at."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import DropScore
from sparsekit.utils.checks import check_types
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, setting


@register("drop", "weight-and-gradient")
@dataclass(frozen=True, kw_only=True)
class WeightAndGradient(DropScore):
    """A connection is worth `|value| + gradient * |dL/dvalue|`.

    Only the gradients of existing connections are looked at, which every step has anyway.
    Source: MEST, Yuan et al. (2021), arXiv:2110.14032. Its code leaves the gradient out, as `gradient=0` does.
    """

    gradient: float = setting(1.0, "weight of the gradient's magnitude beside the value's", range=(0, 1000))

    def __post_init__(self):
        check_types(self)
        check_range(self, gradient=(0, float("inf")))

    def __call__(self, view: LayerView, step: int, generator: torch.Generator) -> Tensor:
        if self.gradient == 0:
            return view.values.abs()
        return view.values.abs() + self.gradient * view.grads.abs()
