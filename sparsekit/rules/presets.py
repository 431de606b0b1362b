"""Published methods that are settings of `DropGrow`. Defaults are the papers'."""

from typing import Any

from sparsekit.registry import register
from sparsekit.rules.candidates.draw import Draw
from sparsekit.rules.drop_grow import DropGrow
from sparsekit.rules.grow.random import Random
from sparsekit.schedules import Cosine, Schedule


@register("rule", "set")
def SET(*, stop: int | None, every: int = 100, fraction: float | Schedule = 0.3, **settings: Any) -> DropGrow:
    """SET: drop the weakest connections, grow as many at random. Never looks at a gradient.

    Args:
        stop: last step at which the topology may change; None never stops, and then the fraction must be a schedule
            that needs no end, such as `Constant(0.3)`.
        every: steps between rewirings (the paper: one epoch).
        fraction: share of a layer's connections exchanged; a number decays to 0 along a cosine.
        settings: any other field of `DropGrow`.

    Source: Mocanu et al. (2018), arXiv:1707.04780, in its deep-learning form: smallest |value| per layer, grown at 0
        (the first code dropped the smallest positive and largest negative values apart, and drew new ones).

    Example:
        >>> SET(stop=500).needs_gradients
        False
    """
    own = {"grow": Random(), "candidates": Draw(), "replaces_step": False}
    return DropGrow(stop=stop, every=every, fraction=_decaying(fraction), **{**own, **settings})


@register("rule", "rigl")
def RigL(*, stop: int | None, every: int = 100, fraction: float | Schedule = 0.3, **settings: Any) -> DropGrow:
    """RigL: drop the weakest connections, grow where the gradient is largest.

    A connection dropped now may come back at once and then keeps its value, as in the authors' code.

    Args:
        stop: last step at which the topology may change (the paper: 0.75 of the training); None never stops.
        every: steps between rewirings (the paper: 100).
        fraction: share of a layer's connections exchanged (the paper: 0.3); a number decays to 0 along a cosine.
        settings: any other field of `DropGrow`.

    Source: Evci et al. (2020), arXiv:1911.11134, algorithm 1.

    Example:
        >>> RigL(stop=500, fraction=0.5).fraction_at(250)
        0.25
    """
    return DropGrow(stop=stop, every=every, fraction=_decaying(fraction), **settings)


def _decaying(fraction: float | Schedule) -> Schedule:
    return fraction if isinstance(fraction, Schedule) else Cosine(float(fraction), 0.0)
