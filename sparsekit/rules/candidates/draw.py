"""Consider just as many random missing connections as are to be grown."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Candidates
from sparsekit.rules.flops import Pass, sparse_step
from sparsekit.topology import LayerTopology
from sparsekit.topology.selection import draw_distinct
from sparsekit.utils.registry import register


@register("candidates", "draw")
@dataclass(frozen=True, kw_only=True)
class Draw(Candidates):
    """As many missing positions as are to be grown, uniformly and without replacement.

    Time and memory follow the connections, not the dense layer. This is why SET stays cheap at any width.
    Source: the random growth of Mocanu et al. (2018), arXiv:1707.04780.
    """

    def __call__(
        self, view: LayerView, taken: LayerTopology, count: int, generator: torch.Generator
    ) -> Iterator[Tensor]:
        num_missing = taken.size - taken.count
        ranks = draw_distinct(num_missing, min(count, num_missing), generator)
        yield taken.missing_at(ranks.to(taken.indices.device))

    def step_flops(self, cost: Pass) -> float:
        # This is the most, because no more are drawn than there are connections, or positions without one.
        return sparse_step(cost) + min(cost.sparse, cost.dense - cost.sparse)
