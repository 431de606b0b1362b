"""What rules of their own share: they are due every so many steps, until they stop."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Rule
from sparsekit.schedules import Schedule
from sparsekit.topology import LayerTopology
from sparsekit.topology.sorted_sets import true_positions
from sparsekit.utils.settings import check_range, setting


@dataclass(frozen=True, kw_only=True)
class Periodic(Rule):
    """A rule that is due at `start` and every `every` steps, up to and including `stop`.

    Raises:
        ValueError: if a setting is out of range.
    """

    every: int = setting(100, "steps between rewirings", range=(1, 10_000))
    start: int = setting(0, "first rewiring step", range=(0, 1_000_000))
    stop: int | None = setting(None, "last step at which the topology may change. None never stops")

    def __post_init__(self):
        super().__post_init__()
        check_range(self, every=(1, math.inf), start=(0, math.inf))
        if self.stop is not None and self.stop < self.start:
            raise ValueError(
                f"stop must be None or at least start, got stop={self.stop} and start={self.start}. "
                "Use Static() for a topology that never changes"
            )

    def is_due(self, step: int) -> bool:
        """Whether this is a rewiring step."""
        if step < self.start or (self.stop is not None and step > self.stop):
            return False
        return (step - self.start) % self.every == 0


def check_end(name: str, schedule: Schedule, stop: int | None) -> None:
    """Raise ValueError where a schedule changes in the course of time and nothing says until when."""
    if stop is None and schedule.lasting(1) != schedule:
        raise ValueError(f"a {name} that decays must know its end, got {schedule} and stop=None. Give stop")


def without(views: Mapping[str, LayerView], drops: Mapping[str, Bool[Tensor, " e"]]) -> dict[str, LayerTopology]:
    """Return what is left of each layer, where no more are dropped in all than there are free positions to grow at."""
    free = sum(view.topology.size - view.topology.count for view in views.values())
    dropped = torch.cat(list(drops.values()))
    dropped[true_positions(dropped)[free:]] = False
    parts = dropped.split([view.topology.count for view in views.values()])
    return {
        name: LayerTopology(view.topology.shape, view.topology.indices[~part])
        for (name, view), part in zip(views.items(), parts, strict=True)
    }
