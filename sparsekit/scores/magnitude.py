"""Keep the largest weights."""

from dataclasses import dataclass

from torch import Tensor

from sparsekit.scores.base import Score
from sparsekit.scores.view import ScoreView
from sparsekit.utils.registry import register


@register("score", "magnitude")
@dataclass(frozen=True, kw_only=True)
class Magnitude(Score):
    """A weight is worth its magnitude, `|weight|`.

    In one ranking of an untrained network, layers with small initial weights (wide ones) lose most, because it compares
    scales of initialisation. `scope="layer"` does not. On trained weights this is one-shot magnitude pruning.

    Source: Han et al. (2015), Learning both weights and connections, arXiv:1506.02626.
    """

    sees = "nothing"
    passes = 0

    def __call__(self, view: ScoreView) -> dict[str, Tensor]:
        return {name: weight.abs() for name, weight in view.weights.items()}
