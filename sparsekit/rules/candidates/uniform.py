"""Consider a random subset of the missing connections."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.candidates.guided import Guide, Guided
from sparsekit.topology import LayerTopology
from sparsekit.topology.selection import draw_distinct
from sparsekit.utils.registry import register


@register("candidates", "uniform")
@dataclass(frozen=True, kw_only=True)
class Uniform(Guided):
    """Every position with equal probability: GSE as its paper recommends it, without any look at the data.

    Source: Heddes et al. (2024), arXiv:2401.06898, section 3 ("uniform").

    Example:
        >>> taken = LayerTopology((10, 10), torch.arange(5))
        >>> view = LayerView(name="fc", topology=taken, values=torch.ones(5))
        >>> [len(part) for part in Uniform(sampler="exact")(view, taken, 2, torch.Generator().manual_seed(0))]
        [5]
    """

    def guide(self, view: LayerView, generator: torch.Generator) -> Guide:
        ones = partial(torch.ones, device=view.topology.indices.device)
        return ones(1, view.topology.num_inputs), ones(view.topology.num_outputs)

    def _distinct(self, view: LayerView, taken: LayerTopology, generator: torch.Generator) -> Tensor:
        ranks = draw_distinct(taken.size - taken.count, self.num_draws(view.topology), generator)
        return taken.missing_at(ranks.to(taken.indices.device))
