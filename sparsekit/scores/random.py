"""Keep any weights: the control that every score must beat."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sparsekit.scores.base import Batch, LossFn, Score, weights_of
from sparsekit.topology import Topology
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting


@register("score", "random")
@dataclass(frozen=True, kw_only=True)
class Random(Score):
    """A random number for each weight; the allocation says how many each layer gets.

    Source: the random pruning of Liu et al. (2022), The unreasonable effectiveness of random pruning, arXiv:2202.02643.
    """

    scope: Literal["global", "layer"] = setting("layer", "one ranking of all layers, or each its allocated count")

    def __call__(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        loss_fn: LossFn,
        generator: torch.Generator,
        *,
        kept: Topology,
    ) -> dict[str, Tensor]:
        drawn = {name: torch.rand(layer.shape, generator=generator) for name, layer in kept.items()}
        return {name: drawn[name].to(weight.device) for name, weight in weights_of(model, kept).items()}
