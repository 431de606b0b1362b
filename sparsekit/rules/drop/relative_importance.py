"""Drop connections that matter little to both of their units."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import DropScore
from sparsekit.utils.registry import register


@register("drop", "relative-importance")
@dataclass(frozen=True, kw_only=True)
class RelativeImportance(DropScore):
    """A connection is worth its share of its input's magnitudes plus its share of its output's.

    `|w_ij| / sum_i |w_ij| + |w_ij| / sum_j |w_ij|`, between 0 and 2. So the last connection of a unit is worth more
    than 1, however small its weight is.

    Source: RIA without activations, Zhang et al. (2024), Plug-and-play, as the pruning of CHTss uses it,
        arXiv:2501.19107.
    """

    def __call__(self, view: LayerView, step: int, generator: torch.Generator) -> Tensor:
        layer, magnitudes = view.topology, view.values.abs()
        shares = [
            _share(magnitudes, units, count)
            for units, count in ((layer.rows, layer.num_outputs), (layer.cols, layer.num_inputs))
        ]
        return shares[0] + shares[1]


def _share(magnitudes: Tensor, units: Tensor, count: int) -> Tensor:
    """Return each magnitude's share of the sum of its unit, 0 where that sum is 0."""
    sums = magnitudes.new_zeros(count).index_add_(0, units, magnitudes)
    return magnitudes / sums.index_select(0, units).clamp_min(torch.finfo(magnitudes.dtype).tiny)
