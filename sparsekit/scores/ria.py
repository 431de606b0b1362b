"""Keep weights that matter to both of their units: pruning a trained network without training it again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.scores.inputs import RankedScore, input_norms
from sparsekit.scores.view import ScoreView
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, setting


@register("score", "ria", is_method=False)  # it is for trained networks
@dataclass(frozen=True, kw_only=True)
class RIA(RankedScore):
    """A weight is worth `(|w_ij| / sum_i |w_ij| + |w_ij| / sum_j |w_ij|) * norm(input j) ** power`.

    The first share is that of its input, the second that of its output, so that no unit loses all connections early.
    Weights are compared within their output. `group=4` with density 0.5 keeps 2 of every 4 inputs.

    Source: Zhang et al. (2024), Plug-and-play, an efficient post-training pruning method for large language models
        (relative importance and activations).
    """

    passes = 1

    power: float = setting(0.5, "power of the input's norm, 0 to look at weights alone", range=(0, 2))

    def __post_init__(self):
        super().__post_init__()
        check_range(self, power=(0, float("inf")))

    def importance(self, view: ScoreView) -> dict[str, Tensor]:
        norms = input_norms(view)
        return {name: _relative(weight) * norms[name] ** self.power for name, weight in view.weights.items()}


def _relative(weight: Tensor) -> Tensor:
    rows = weight.abs().flatten(1)
    least = torch.finfo(rows.dtype).tiny
    return (rows / rows.sum(0, keepdim=True).clamp_min(least) + rows / rows.sum(1, keepdim=True).clamp_min(least)).view(
        weight.shape
    )
