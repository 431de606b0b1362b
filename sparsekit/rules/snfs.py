"""Sparse networks from scratch: momentum says which layers deserve connections, and where."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.flops import Pass, dense_gradient_step
from sparsekit.rules.parts import State
from sparsekit.rules.periodic import Periodic, check_end
from sparsekit.rules.rows import strongest
from sparsekit.schedules import Cosine, Schedule
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.allocation import share_out
from sparsekit.topology.selection import topk_indices
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, exact_fraction, setting

FULLEST = Fraction(99, 100)  # of a layer's free positions may be filled at once, as in the authors' code


@register("rule", "snfs")
@dataclass(frozen=True, kw_only=True)
class SNFS(Periodic):
    """Sparse momentum: drop the weakest of every layer. Layers with much momentum grow more, where it is largest.

    The momentum of *all* weights, missing ones included, is updated at every step, so training costs a dense gradient
    per step. Each layer drops its own share. They grow together, in proportion to the mean momentum of the connections
    that a layer has before any are dropped, as in the authors' code.

    Source: Dettmers and Zettlemoyer (2019), Sparse networks from scratch, arXiv:1907.04840, with its code's settings.

    Example:
        >>> SNFS(stop=100).every_step
        True
    """

    needs_gradients = True
    every_step: ClassVar[bool] = True
    needs_dense: ClassVar[str] = "it follows the momentum of all weights, missing ones included"

    drop_fraction: Schedule = setting(Cosine(0.5, 0.0), "share of a layer's connections dropped", range=(0, 1))
    momentum: float = setting(0.9, "share of the momentum that lasts from step to step", range=(0, 1))

    def __post_init__(self):
        super().__post_init__()
        check_range(self, momentum=(0, 1))
        check_end("drop_fraction", self.drop_fraction, self.stop)

    def init_state(self, views: Mapping[str, LayerView]) -> State:
        return {name: {"momentum": view.values.new_zeros(view.topology.size)} for name, view in views.items()}

    def update_state(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> State:
        return {name: {"momentum": self._momentum(view)} for name, view in views.items()}

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        drop_fraction = exact_fraction(self.drop_fraction.lasting(self.stop)(step))
        momenta = {name: self._momentum(view).abs() for name, view in views.items()}
        survivors = {
            name: strongest(view, view.topology.count - int(drop_fraction * view.topology.count))
            for name, view in views.items()
        }
        dropped = sum(view.topology.count - survivors[name].count for name, view in views.items())
        mean_momentum = {name: _mean(name, momenta[name][view.topology.indices]) for name, view in views.items()}
        if not any(mean_momentum.values()):  # there is no momentum anywhere yet, so all layers are alike
            mean_momentum = dict.fromkeys(mean_momentum, Fraction(1))
        free = {name: layer.size - layer.count for name, layer in survivors.items()}
        # A layer that is nearly full hands on what it has no room for, unless all are.
        room = {name: int(FULLEST * positions) for name, positions in free.items()}
        counts = share_out(dropped, mean_momentum, room if sum(room.values()) >= dropped else free)
        return Topology(
            {name: layer | _largest(momenta[name], layer, counts[name]) for name, layer in survivors.items()}
        )

    def training_flops(self, cost: Pass) -> float:
        """The dense weight gradient at every step, for its momentum: `2 f_S + f_D`.

        Source: this method, as counted by Evci et al. (2020), arXiv:1911.11134.
        """
        return dense_gradient_step(cost)

    def _momentum(self, view: LayerView) -> Tensor:
        everywhere = torch.arange(view.topology.size, device=view.topology.indices.device)
        return self.momentum * view.state["momentum"] + view.grad_at(everywhere)


def _largest(momentum: Tensor, survivors: LayerTopology, count: int) -> LayerTopology:
    positions = survivors.missing()
    return LayerTopology(survivors.shape, positions[topk_indices(momentum[positions], count)])


def _mean(name: str, momentum: Tensor) -> Fraction:
    mean = float(momentum.mean()) if momentum.numel() else 0.0
    if not math.isfinite(mean):
        raise ValueError(
            f"the momentum of {name} must be finite, got a mean of {mean}. Look for an infinite loss or gradient "
            "before this step"
        )
    return Fraction(mean)
