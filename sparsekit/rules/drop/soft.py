"""Drop at random, more often what another score ranks low."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import DropScore
from sparsekit.rules.drop.magnitude import Magnitude
from sparsekit.schedules import Constant, Schedule
from sparsekit.topology.weighted import draw_keys
from sparsekit.utils.checks import check_types
from sparsekit.utils.registry import register
from sparsekit.utils.settings import setting


@register("drop", "soft")
@dataclass(frozen=True, kw_only=True)
class Soft(DropScore):
    """Connections are kept by draws without replacement, with chances in proportion to `score ** temperature`.

    The higher the temperature, the surer it is that the lowest are dropped. A temperature of 0 drops any connection
    with the same chance. A schedule needs a length, because a score does not know when its rule stops.

    Source: the soft removal of Zhang et al. (2025), arXiv:2501.19107. Its code for language models raises the
        temperature from 1 to 9 along a line, its code for MLPs from 1 to 3.
    """

    score: DropScore = setting(Magnitude(), "what a connection must score low in to be dropped more often")
    temperature: Schedule = setting(Constant(5.0), "power of the score, at least 0", range=(0, 100))

    def __post_init__(self):
        check_types(self)

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """As the score that it draws by."""
        return self.score.needs_gradients

    def __call__(self, view: LayerView, step: int, generator: torch.Generator) -> Tensor:
        power = self.temperature(step)
        if power < 0:
            raise ValueError(f"the temperature must be at least 0, got {power} at step {step}. Raise it")
        return draw_keys(self.score(view, step, generator), generator, power=power)
