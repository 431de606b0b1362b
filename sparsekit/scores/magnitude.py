"""Keep the largest weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsekit.scores.base import Batch, LossFn, Score, weights_of
from sparsekit.topology import Topology
from sparsekit.utils.registry import register


@register("score", "magnitude")
@dataclass(frozen=True, kw_only=True)
class Magnitude(Score):
    """A weight is worth its size, `|weight|`.

    In one ranking of an untrained network, layers with small initial weights (wide ones) lose most: it compares
    scales of initialisation. `scope="layer"` does not. On trained weights this is one-shot magnitude pruning.

    Source: Han et al. (2015), Learning both weights and connections, arXiv:1506.02626.
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
        return {name: weight.detach().abs() for name, weight in weights_of(model, kept).items()}
