"""Static sparse training: the topology never changes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Rule
from sparsekit.rules.flops import Pass, sparse_step
from sparsekit.topology import Topology
from sparsekit.utils.registry import register


@register("rule", "static")
@dataclass(frozen=True, kw_only=True)
class Static(Rule):
    """Keep the topology as it was drawn. Only the values learn.

    The baseline against which every rewiring rule must show its worth.
    Source: the static baselines of Mocanu et al. (2018), arXiv:1707.04780, and Evci et al. (2020), arXiv:1911.11134.
    """

    def is_due(self, step: int) -> bool:
        return False

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        return Topology({name: view.topology for name, view in views.items()})

    def training_flops(self, cost: Pass) -> float:
        """A fixed topology: `3 f_S`.

        Source: Evci et al. (2020), arXiv:1911.11134, appendix on floating-point operations.
        """
        return sparse_step(cost)
