"""Keep weights that are large and whose inputs are large: pruning a trained network without training it again."""

from dataclasses import dataclass

from torch import Tensor

from sparsekit.scores.inputs import RankedScore, input_norms
from sparsekit.scores.view import ScoreView
from sparsekit.utils.registry import register


@register("score", "wanda", is_method=False)  # it is for trained networks
@dataclass(frozen=True, kw_only=True)
class Wanda(RankedScore):
    """A weight of a trained network is worth `|weight| * norm(input)`, compared within its output.

    The norm runs over all samples and positions. `group=4` with density 0.5 keeps 2 of every 4 inputs.

    Source: Sun et al. (2023), A simple and effective pruning approach for large language models, arXiv:2306.11695.
    """

    passes = 1

    def importance(self, view: ScoreView) -> dict[str, Tensor]:
        norms = input_norms(view)
        return {name: weight.abs() * norms[name] for name, weight in view.weights.items()}
