"""Grow between units whose neighbours are neighbours already: network science in place of gradients."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import GrowScore
from sparsekit.topology import LayerTopology
from sparsekit.topology.weighted import draw_keys
from sparsekit.utils.checks import check_types
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting


@register("grow", "cannistraci-hebb")
@dataclass(frozen=True, kw_only=True)
class CannistraciHebb(GrowScore):
    """A missing connection scores high if paths of length three join its ends, within a small local community.

    With the mask `A` (outputs by inputs, after dropping), `C = A A^T` counts the inputs that two outputs share. Of
    output `j`, `e_ij = max(deg_j - C_ij, 1) - 1` connections lead elsewhere. CH2 weighs a pair of outputs
    `E_ij = (C_ij + 1) / (e_ij + 1)` where `C_ij > 0`. Pairs of inputs have `F` in the same way, from `A^T A`. The score
    is `E A + A F^T`. It looks at no weight, no example and no gradient.

    Soft growth draws new connections without replacement, with chances in proportion to their scores. Hard growth
    takes the highest. Where fewer connections have a score above 0 than are grown, soft growth takes random ones.
    A grouped convolution counts as one whose groups read the same inputs. The result may take as much memory as the
    dense layer.

    Source: Zhang et al. (2025), arXiv:2501.19107, "CH2-L3n", "CH3-L3n" and "CH3.1-L3n". The released code for language
        models grows hard, though it says soft.

    Example:
        >>> view = LayerView(name="fc", topology=LayerTopology((2, 3), torch.tensor([0, 1, 3])), values=torch.ones(3))
        >>> missing = torch.tensor([2, 4, 5])
        >>> CannistraciHebb(growth="hard")(view, missing, 0, torch.Generator()).tolist()
        [0.0, 4.0, 0.0]
    """

    index: Literal["ch2", "ch3", "ch3.1"] = setting("ch2", "what a pair of units with common neighbours weighs")
    growth: Literal["soft", "hard"] = setting("soft", "draw by the scores, or take the highest")

    def __post_init__(self):
        check_types(self)

    def __call__(self, view: LayerView, candidates: Tensor, step: int, generator: torch.Generator) -> Tensor:
        layer = view.topology if view.remaining is None else view.remaining
        scores = path_scores(layer, candidates, self.index)
        return scores if self.growth == "hard" else draw_keys(scores, generator)


def path_scores(layer: LayerTopology, candidates: Tensor, index: str) -> Tensor:
    """Return `E A + A F^T` at some sorted positions. Only the rows between the first and the last are computed."""
    from scipy.sparse import csr_array  # here, as the import takes time that only this method needs

    if not candidates.numel():
        return candidates.new_zeros(0, dtype=torch.float64)
    pointers, columns = (part.cpu().numpy() for part in layer.csr())
    mask = csr_array((np.ones(layer.count), columns, pointers), shape=(layer.num_outputs, layer.num_inputs))
    rows, cols = np.divmod(candidates.cpu().numpy(), layer.num_inputs)
    part = mask[rows[0] : rows[-1] + 1]
    by_outputs = _weighted(part @ mask.T, layer.fan_in(), index) @ mask
    by_inputs = part @ _weighted(mask.T @ mask, layer.fan_out(), index).T
    scores = (by_outputs + by_inputs)[rows - rows[0], cols]
    return torch.from_numpy(np.asarray(scores).ravel()).to(candidates.device)


def _weighted(common: Any, degrees: Tensor, index: str) -> Any:
    """Return what pairs of units weigh, from their common neighbours and the second one's connections."""
    common = common.tocsr()
    shared = common.data
    outside = np.maximum(degrees.cpu().numpy()[common.indices] - shared, 1) - 1
    power = 1 + outside / (1 + outside) if index == "ch3.1" else 1
    common.data = (1 if index == "ch3" else shared + 1) / (outside + 1) ** power
    return common
