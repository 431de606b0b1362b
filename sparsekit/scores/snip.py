"""Keep the weights that the loss is most sensitive to: SNIP, in one go or in many."""

from dataclasses import dataclass

from torch import Tensor

from sparsekit.scores.base import Score
from sparsekit.scores.view import ScoreView
from sparsekit.utils.registry import register


@register("score", "snip")
@dataclass(frozen=True, kw_only=True)
class SNIP(Score):
    """A weight is worth `|gradient * weight|`: how much the loss would feel a small change of its presence.

    The gradients of all samples are added up before the product is taken. In one round at extreme sparsity whole
    layers can vanish (`min_per_layer=0` lets them).

    Source: Lee et al. (2019), SNIP, arXiv:1810.02340, equation 4 (its division by the sum changes no rank).
    """

    passes = 3

    def __call__(self, view: ScoreView) -> dict[str, Tensor]:
        grads = view.mean_gradients(view.masked_copy())
        return {name: (grads[name] * weight).abs() for name, weight in view.weights.items()}


@register("score", "iterative-snip")
def IterativeSNIP(*, rounds: int = 60, **settings) -> SNIP:
    """SNIP in many rounds: a little is pruned, the gradients of the rest are computed anew, and so on.

    Args:
        rounds: how many. The density falls exponentially.
        settings: any other field of `SNIP`.

    Source: de Jorge et al. (2021), Progressive skeletonization, arXiv:2006.09081, section 4 (Iterative SNIP). The
        number of rounds is from memory. Their code draws new examples in each round, ours keeps the same.

    Example:
        >>> IterativeSNIP().allow_regrowth
        False
    """
    return SNIP(rounds=rounds, **settings)


@register("score", "force")
def FORCE(*, rounds: int = 60, **settings) -> SNIP:
    """SNIP in many rounds in which weights may regrow: all are scored by the gradients of the pruned network.

    Args:
        rounds: how many. With one this is SNIP.
        settings: any other field of `SNIP`.

    Source: de Jorge et al. (2021), Progressive skeletonization, arXiv:2006.09081, section 4 (FORCE). The number of
        rounds is from memory. Their code draws new examples in each round, ours keeps the same.

    Example:
        >>> FORCE(rounds=1, allow_regrowth=False) == SNIP()
        True
    """
    return SNIP(**{"rounds": rounds, "allow_regrowth": True, **settings})
