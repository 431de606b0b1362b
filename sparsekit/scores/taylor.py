"""Keep the weights whose removal would change the loss of a batch most."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.scores.base import Score
from sparsekit.scores.view import ScoreView
from sparsekit.utils.registry import register


@register("score", "taylor")
@dataclass(frozen=True, kw_only=True)
class Taylor(Score):
    """A weight is worth `(gradient * weight) ** 2`, averaged over the batches by their samples.

    It is the change of a batch's loss if the weight were zero, to first order. With a single batch the ranking is
    SNIP's, but with several, opposite gradients do not cancel here.

    Source: Molchanov et al. (2019), Importance estimation for neural network pruning, arXiv:1906.10771, section 3,
        there for whole filters.
    """

    passes = 3

    def __call__(self, view: ScoreView) -> dict[str, Tensor]:
        weights = view.weights
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        # Batch statistics are those of each batch, so every batch can have a copy of its own.
        for share, batch in view.weighted_batches(view.masked_copy()):
            grads = view.mean_gradients(view.masked_copy(), [batch])
            for name, weight in weights.items():
                total[name] += share * (grads[name] * weight).square()
        return total
