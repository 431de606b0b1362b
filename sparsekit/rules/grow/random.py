"""Grow anywhere."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import GrowScore
from sparsekit.utils.registry import register


@register("grow", "random")
@dataclass(frozen=True, kw_only=True)
class Random(GrowScore):
    """All missing connections are worth the same: a random number each.

    Source: SET, Mocanu et al. (2018), arXiv:1707.04780.
    """

    def __call__(self, view: LayerView, candidates: Tensor, step: int, generator: torch.Generator) -> Tensor:
        scores = torch.rand(candidates.numel(), generator=generator, device=generator.device)
        return scores.to(candidates.device)
