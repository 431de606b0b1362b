"""Consider only positions where there has never been a connection."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Candidates
from sparsekit.rules.candidates.draw import Draw
from sparsekit.rules.flops import Pass
from sparsekit.topology import LayerTopology
from sparsekit.utils.registry import register


@register("candidates", "never-active")
@dataclass(frozen=True, kw_only=True)
class NeverActive(Candidates):
    """As many random positions as are to be grown, among those where nothing has been since training began.

    The layer's state holds all positions where connections have been. Where no new position is left, fewer are
    exchanged.

    Source: the growth mode `random_unfired` of the code of ITOP, Liu et al. (2021), arXiv:2102.02887.
    """

    def __call__(
        self, view: LayerView, taken: LayerTopology, count: int, generator: torch.Generator
    ) -> Iterator[Tensor]:
        yield from Draw()(view, taken | _visited(view), count, generator)

    def step_flops(self, cost: Pass) -> float:
        return Draw().step_flops(cost)

    def init_state(self, view: LayerView) -> Mapping[str, Tensor]:
        return {"visited": view.topology.indices}

    def update_state(self, view: LayerView) -> Mapping[str, Tensor]:
        return {"visited": _visited(view).indices}


def _visited(view: LayerView) -> LayerTopology:
    """Return every position of the present connections and of those before them."""
    return view.topology | LayerTopology(view.topology.shape, view.state.get("visited", view.topology.indices))
