"""Deep rewiring: a random walk of the weights, in which a connection ends where its sign would change."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.flops import Pass, sparse_step
from sparsekit.rules.parts import State
from sparsekit.rules.periodic import Periodic, without
from sparsekit.schedules import Constant, Schedule
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import draw_distinct
from sparsekit.utils.registry import register
from sparsekit.utils.settings import check_range, setting


@register("rule", "deepr", stop_fraction=1.0)
@dataclass(frozen=True, kw_only=True)
class DeepR(Periodic):
    """Every connection has a sign. One whose value takes the other is dropped, and a random one grows elsewhere.

    The gradients get a penalty towards zero (`shrink`), and noise of deviation `sqrt(2 * learning rate * temperature)`.
    A grown connection starts at zero with a random sign, which counts from its second step on. So half of them are
    dropped at once, because the loss moves them to the wrong side. What was dropped now cannot regrow at once. All
    layers share one budget.

    Source: Bellec et al. (2018), Deep rewiring, arXiv:1711.05136, algorithm 1. The noise on the gradients and the
        defaults are those of the code of Mostafa and Wang (2019), whose temperature falls in stages.

    Example:
        >>> [step for step in range(4) if DeepR(stop=2).is_due(step)]
        [0, 1, 2]
    """

    every_step: ClassVar[bool] = True

    every: int = setting(1, "steps between rewirings", range=(1, 10_000))
    shrink: float = setting(1e-5, "L1 penalty that draws every value towards zero", range=(0, 1))
    temperature: Schedule = setting(Constant(1e-5), "temperature of the noise on the gradients", range=(0, 1))

    def __post_init__(self):
        super().__post_init__()
        check_range(self, shrink=(0, math.inf))

    def gradient_penalty(self, view: LayerView, step: int, generator: torch.Generator, *, rate: float) -> Tensor:
        deviation = math.sqrt(2 * rate * self.temperature.lasting(self.stop)(step))
        noise = torch.randn(view.values.numel(), generator=generator).to(view.values)
        return self.shrink * view.values.sign() + deviation * noise

    def init_state(self, views: Mapping[str, LayerView]) -> State:
        return {
            name: {"positions": view.topology.indices, "signs": view.values.sign().to(torch.int8)}
            for name, view in views.items()
        }

    def update_state(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> State:
        return {
            name: {"positions": view.topology.indices, "signs": _signs_from_now(view, generator)}
            for name, view in views.items()
        }

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        survivors = without(views, {name: _known_signs(view) * view.values.sign() < 0 for name, view in views.items()})
        dropped = sum(view.topology.count - survivors[name].count for name, view in views.items())
        grown = _anywhere(views, dropped, generator)
        return Topology({name: layer | grown[name] for name, layer in survivors.items()})

    def training_flops(self, cost: Pass) -> float:
        """Existing connections only: `3 f_S`.

        Source: the same count as for SET in arXiv:1911.11134.
        """
        return sparse_step(cost)


def _known_signs(view: LayerView) -> Tensor:
    """Return the sign of each connection, or 0 for those that the last rewiring grew."""
    before = LayerTopology(view.topology.shape, view.state["positions"])
    if not before.count:
        return torch.zeros_like(view.values)
    position = before.position_of(view.topology.indices)
    return torch.where(position >= 0, view.state["signs"][position.clamp(min=0)].to(view.values), 0)


def _signs_from_now(view: LayerView, generator: torch.Generator) -> Tensor:
    """Return the known signs, and a random one for each connection that has none yet."""
    random_signs = (torch.randint(2, view.values.shape, generator=generator) * 2 - 1).to(view.values)
    signs = _known_signs(view)
    return torch.where(signs == 0, random_signs, signs).to(torch.int8)


def _anywhere(views: Mapping[str, LayerView], count: int, generator: torch.Generator) -> dict[str, LayerTopology]:
    """Draw positions of the whole network uniformly, where there is no connection now."""
    free = [view.topology.size - view.topology.count for view in views.values()]
    ranks = draw_distinct(sum(free), count, generator)
    ends = torch.tensor(free).cumsum(0)
    parts = ranks.tensor_split(torch.searchsorted(ranks, ends[:-1]))
    starts = [0, *ends[:-1].tolist()]
    return {
        name: LayerTopology(view.topology.shape, view.topology.missing_at((part - start).to(view.values.device)))
        for (name, view), part, start in zip(views.items(), parts, starts, strict=True)
    }
