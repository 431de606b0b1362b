"""AC/DC: the whole network and its largest weights are trained in turn."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Rule
from sparsekit.rules.flops import Pass, sparse_step
from sparsekit.rules.gradual import FINAL
from sparsekit.topology import LayerTopology, Topology, keep_top_global
from sparsekit.topology.allocation import check_density
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, setting


@register("rule", "ac-dc")
@dataclass(frozen=True, kw_only=True)
class ACDC(Rule):
    """Train dense, compress to the largest weights of the whole network, train these, let all others grow, and so on.

    The phases up to `stop` are equally long. The first one is dense, and at `stop` the network is compressed for good.
    Connections that return start at 0. At each change of phases the optimizer begins anew for all weights, so none
    moves by the momentum of the phase before.

    Raises:
        ValueError: if `stop` is None, the number of phases is even, or a number is out of range.

    Source: Peste et al. (2021), AC/DC, arXiv:2106.12379. Its phases last 5 epochs, ours a fifteenth of the time until
        `stop`.

    Example:
        >>> rule = ACDC(stop=90, phases=3)
        >>> [step for step in range(100) if rule.is_due(step)]
        [30, 60, 90]
        >>> [rule.is_sparse_at(step) for step in (0, 30, 60, 90)]
        [False, True, False, True]
    """

    phases: int = setting(15, "dense and sparse phases until the last compression, an odd number", range=(1, 1001))
    final: float = setting(FINAL, "density of the sparse phases and of the end", range=(0, 1))
    resets_optimizer: bool = setting(True, "whether the optimizer begins anew at each change of phases")
    stop: int | None = setting(None, "step of the last compression")

    def __post_init__(self):
        super().__post_init__()
        check_range(self, phases=(1, float("inf")))
        check_density(self.final)
        if self.phases % 2 == 0:
            raise ValueError(f"phases must be odd, so that the last one is dense, got {self.phases}. Add one")
        if self.stop is None or self.stop < 1:
            raise ValueError(f"AC/DC must know when it compresses for good, got stop={self.stop}. Give 1 or more steps")

    def is_due(self, step: int) -> bool:
        """Whether a phase begins at this step."""
        return step > 0 and self._phase(step) != self._phase(step - 1)

    def is_sparse_at(self, step: int) -> bool:
        """Whether a step belongs to a sparse phase, or comes after the last compression."""
        return self._phase(step) % 2 == 1

    def initial_density(self, density: float) -> float:
        return 1.0

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        if not self.is_sparse_at(step):
            full = {name: LayerTopology.full(view.topology.shape, view.values.device) for name, view in views.items()}
            return Topology(full)
        magnitudes = {name: _magnitudes(view) for name, view in views.items()}
        total = sum(layer.numel() for layer in magnitudes.values())
        return keep_top_global(magnitudes, max(len(magnitudes), round(self.final * total)))

    def training_flops(self, cost: Pass) -> float:
        """Count a sparse step, whose cost is the mean over both kinds of phases.

        Source: the count of Evci et al. (2020), arXiv:1911.11134, which is ours for this method.
        """
        return sparse_step(cost)

    def _phase(self, step: int) -> int:
        assert self.stop is not None
        return min(step * self.phases // self.stop, self.phases)


def _magnitudes(view: LayerView) -> Tensor:
    """Return the magnitudes of a layer, below every other one where there is no connection."""
    magnitudes = view.values.new_full((view.topology.size,), -1.0)
    magnitudes[view.topology.indices] = view.values.abs()
    return magnitudes.view(view.topology.shape)
