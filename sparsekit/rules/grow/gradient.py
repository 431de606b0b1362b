"""Grow where the loss pulls hardest."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import GrowScore
from sparsekit.utils.registry import register


@register("grow", "gradient")
@dataclass(frozen=True, kw_only=True)
class Gradient(GrowScore):
    """A missing connection is worth `|dL/dw|`: how fast the loss would fall if it existed.

    Source: RigL, Evci et al. (2020), arXiv:1911.11134, section 3.
    """

    needs_gradients: ClassVar[bool] = True

    def __call__(self, view: LayerView, candidates: Tensor, step: int, generator: torch.Generator) -> Tensor:
        return view.grad_at(candidates).abs()
