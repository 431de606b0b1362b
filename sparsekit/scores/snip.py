"""Keep the weights that the loss is most sensitive to: SNIP, in one go or in many."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsekit.scores.base import Batch, LossFn, Score, drawing_from, masked_copy, mean_gradients, weights_of
from sparsekit.topology import Topology
from sparsekit.utils.registry import register


@register("score", "snip")
@dataclass(frozen=True, kw_only=True)
class SNIP(Score):
    """A weight is worth `|gradient * weight|`: how much the loss would feel a small change of its presence.

    The gradients of all samples are added up before the product is taken. In one round at extreme sparsity whole
    layers can vanish (`min_per_layer=0` lets them).

    Source: Lee et al. (2019), SNIP, arXiv:1810.02340, equation 4 (its division by the sum changes no rank).
    """

    def __call__(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        loss_fn: LossFn,
        generator: torch.Generator,
        *,
        kept: Topology,
    ) -> dict[str, Tensor]:
        with drawing_from(generator):
            grads = mean_gradients(masked_copy(model, kept), batches, loss_fn, kept)
        return {name: (grads[name] * weight.detach()).abs() for name, weight in weights_of(model, kept).items()}


@register("score", "iterative-snip")
def IterativeSNIP(*, rounds: int = 60, **settings) -> SNIP:
    """SNIP in many rounds: a little is pruned, the gradients of what is left are taken anew, and so on.

    Args:
        rounds: how many; the density falls exponentially.
        settings: any other field of `SNIP`.

    Source: de Jorge et al. (2021), Progressive skeletonization, arXiv:2006.09081, section 4 (Iterative SNIP). The
        number of rounds is from memory; their code draws new examples in each round, ours keeps the same.

    Example:
        >>> IterativeSNIP().allow_regrowth
        False
    """
    return SNIP(rounds=rounds, **settings)


@register("score", "force")
def FORCE(*, rounds: int = 60, **settings) -> SNIP:
    """SNIP in many rounds in which weights may come back: all are scored by the gradients of the pruned network.

    Args:
        rounds: how many; with one this is SNIP.
        settings: any other field of `SNIP`.

    Source: de Jorge et al. (2021), Progressive skeletonization, arXiv:2006.09081, section 4 (FORCE). The number of
        rounds is from memory; their code draws new examples in each round, ours keeps the same.

    Example:
        >>> FORCE(rounds=1, allow_regrowth=False) == SNIP()
        True
    """
    return SNIP(**{"rounds": rounds, "allow_regrowth": True, **settings})
