"""Keep any weights: the control that every score must beat."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparsekit.scores.base import Score
from sparsekit.scores.view import ScoreView
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting


@register("score", "random", is_method=False)  # as a method it is `static`, which draws the same
@dataclass(frozen=True, kw_only=True)
class Random(Score):
    """A random number for each weight. The allocation says how many each layer gets.

    Source: the random pruning of Liu et al. (2022), The unreasonable effectiveness of random pruning, arXiv:2202.02643.
    """

    sees = "nothing"
    passes = 0

    scope: Literal["global", "layer"] = setting("layer", "one ranking of all layers, or each its allocated count")

    def __call__(self, view: ScoreView) -> dict[str, Tensor]:
        numbers = {name: torch.rand(layer.shape, generator=view.generator) for name, layer in view.topology.items()}
        return {name: numbers[name].to(weight.device) for name, weight in view.weights.items()}
