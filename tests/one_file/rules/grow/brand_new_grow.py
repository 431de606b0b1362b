"""A grow score of one file: see tests/test_one_file.py."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import GrowScore
from sparsekit.utils.registry import register


@register("grow", "brand-new-grow")
@dataclass(frozen=True, kw_only=True)
class BrandNewGrow(GrowScore):
    """A missing connection is worth the more, the earlier its position.

    Source: nobody would publish this.
    """

    def __call__(self, view: LayerView, candidates: Tensor, step: int, generator: torch.Generator) -> Tensor:
        return -candidates.float()
