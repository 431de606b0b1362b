"""Keep the weights whose removal would change the loss of a batch most."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsekit.scores.base import (
    Batch,
    LossFn,
    Score,
    drawing_from,
    masked_copy,
    mean_gradients,
    weighted_batches,
    weights_of,
)
from sparsekit.topology import Topology
from sparsekit.utils.registry import register


@register("score", "taylor")
@dataclass(frozen=True, kw_only=True)
class Taylor(Score):
    """A weight is worth `(gradient * weight) ** 2`, averaged over the batches by their samples.

    The change of a batch's loss if the weight were zero, to first order. With a single batch the ranking is SNIP's;
    with several, opposite gradients do not cancel here.

    Source: Molchanov et al. (2019), Importance estimation for neural network pruning, arXiv:1906.10771, section 3,
        there for whole filters.
    """

    def __call__(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        loss_fn: LossFn,
        generator: torch.Generator,
        *,
        kept: Topology,
    ) -> dict[str, Tensor]:
        weights = {name: weight.detach() for name, weight in weights_of(model, kept).items()}
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        with drawing_from(generator):
            # Batch statistics are those of each batch, so every batch can have a twin of its own.
            for share, batch in weighted_batches(masked_copy(model, kept), batches, loss_fn):
                grads = mean_gradients(masked_copy(model, kept), [batch], loss_fn, kept)
                for name, weight in weights.items():
                    total[name] += share * (grads[name] * weight).square()
        return total
