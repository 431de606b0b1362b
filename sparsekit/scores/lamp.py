"""Magnitudes that can be compared between layers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.scores.base import Score
from sparsekit.scores.view import ScoreView
from sparsekit.utils.registry import register


@register("score", "lamp", is_method=False)  # it is for trained networks
@dataclass(frozen=True, kw_only=True)
class LAMP(Score):
    """A weight is worth its square, divided by the sum of its own and all larger squares of its layer.

    So the largest weight of every layer scores 1, and no layer is emptied before another one. Within a layer the
    ranking is that of magnitudes. In one ranking of all layers each finds a density of its own.

    Source: Lee et al. (2021), Layer-adaptive sparsity for the magnitude-based pruning, arXiv:2010.07611, equation 4.
    """

    sees = "nothing"
    passes = 0

    def __call__(self, view: ScoreView) -> dict[str, Tensor]:
        return {name: _shares_of_rest(weight) for name, weight in view.weights.items()}


def _shares_of_rest(weight: Tensor) -> Tensor:
    squares = weight.flatten().double().square()
    order = squares.argsort(descending=True, stable=True)
    sorted_squares = squares[order]
    shares = sorted_squares / sorted_squares.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.empty_like(shares).index_copy_(0, order, shares).view(weight.shape).to(weight.dtype)
