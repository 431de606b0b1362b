"""A score before training of one file: see tests/test_one_file.py."""

from dataclasses import dataclass

from torch import Tensor

from sparsekit.scores.base import Score
from sparsekit.scores.view import ScoreView
from sparsekit.utils.registry import register


@register("score", "brand-new-score")
@dataclass(frozen=True, kw_only=True)
class BrandNewScore(Score):
    """A weight is worth the magnitude of its gradient.

    Source: nobody would publish this.
    """

    passes = 3

    def __call__(self, view: ScoreView) -> dict[str, Tensor]:
        return {name: grad.abs() for name, grad in view.mean_gradients(view.masked_copy()).items()}
