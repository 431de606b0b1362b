"""Any rule from a local topology: inputs connect to outputs around their own point of a ring."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Rule, check_rule
from sparsekit.rules.parts import HasInitialTopology, part_of
from sparsekit.rules.static import Static
from sparsekit.rules.wrapper import WrappedRule
from sparsekit.topology import Topology
from sparsekit.topology.receptive_fields import receptive_field
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, setting


@register("rule", "brf")
@dataclass(frozen=True, kw_only=True)
class BRF(WrappedRule):
    """Start from bipartite receptive fields, with as many connections in each layer, and train by another rule.

    See `topology.receptive_fields` for what they are. By itself the topology stays as it is drawn.

    Raises:
        TypeError: if the base is no rule.
        ValueError: if the randomness is out of range, or the base starts from a regular topology of its own.

    Source: the start of CHTs, Zhang et al. (2025), arXiv:2501.19107.

    Example:
        >>> from sparsekit.rules import CHTs
        >>> BRF(base=CHTs(stop=100)).is_due(100)
        True
    """

    base: Rule = setting(Static(), "the rule of the training")
    randomness: float = setting(0.3, "0 connects the nearest outputs, 1 any of them", range=(0, 1))
    fan: Literal["fixed", "uniform"] = setting("fixed", "the same fan-out for every input, or a random one")

    def __post_init__(self):
        check_rule(self.base)
        super().__post_init__()
        check_range(self, randomness=(0, 1))
        if part_of(self.base, HasInitialTopology) is not None:
            raise ValueError(
                f"the base rule must take any topology to start with, got {type(self.base).__name__}, which draws its "
                "own. Choose CHTs, SET, RigL, GSE or the like"
            )

    def is_due(self, step: int) -> bool:
        """Whether this is a rewiring step."""
        return self.base.is_due(step)

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        """Return what the base rule proposes. See `Rule.propose`."""
        return self.base.propose(views, step, generator)

    def initial_topology(self, topology: Topology, generator: torch.Generator) -> Topology:
        """Return a local topology with the counts of the sampled one."""
        return Topology(
            {
                name: receptive_field(
                    layer.shape, layer.count, randomness=self.randomness, fan=self.fan, generator=generator
                ).to(layer.indices.device)
                for name, layer in topology.items()
            }
        )
