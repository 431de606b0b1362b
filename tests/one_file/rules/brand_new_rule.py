"""A rule of one file: see tests/test_one_file.py."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Rule
from sparsekit.rules.flops import Pass, sparse_step
from sparsekit.topology import LayerTopology, Topology
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting


@register("rule", "brand-new-rule")
@dataclass(frozen=True, kw_only=True)
class BrandNewRule(Rule):
    """In every layer, exchange the connection of least magnitude for the first missing one.

    Source: nobody would publish this.
    """

    every: int = setting(10, "steps between rewirings", range=(1, 10_000))
    stop: int = setting(100, "last step at which the topology may change", range=(0, 1_000_000))

    def is_due(self, step: int) -> bool:
        return step <= self.stop and step % self.every == 0

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        return Topology({name: _exchanged(view) for name, view in views.items()})

    def training_flops(self, cost: Pass) -> float:
        return sparse_step(cost)


def _exchanged(view: LayerView) -> LayerTopology:
    positions, missing = view.topology.indices, view.topology.missing()
    if not positions.numel() or not missing.numel():
        return view.topology
    stays = torch.arange(positions.numel()) != view.values.abs().argmin()
    return LayerTopology(view.topology.shape, torch.cat([positions[stays], missing[:1]]).sort().values)
