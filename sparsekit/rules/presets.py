"""Published methods that are settings of `DropGrow`. Defaults are the papers'."""

import math
from dataclasses import replace
from typing import Any

from sparsekit.rules.base import Candidates
from sparsekit.rules.candidates.draw import Draw
from sparsekit.rules.candidates.guided import Guided
from sparsekit.rules.candidates.uniform import Uniform
from sparsekit.rules.drop_grow import DropGrow
from sparsekit.rules.grow.random import Random
from sparsekit.schedules import Cosine, Schedule
from sparsekit.utils.checks import check_finite_number, check_integer
from sparsekit.utils.registry import register

UNIFORM = Uniform()


@register("rule", "set")
def SET(*, stop: int | None, every: int = 100, drop_fraction: float | Schedule = 0.3, **settings: Any) -> DropGrow:
    """SET: drop the weakest connections, grow as many at random. It never looks at a gradient.

    Args:
        stop: last step at which the topology may change. None never stops, and then the fraction must be a schedule
            that needs no end, such as `Constant(0.3)`.
        every: steps between rewirings (the paper: one epoch).
        drop_fraction: share of a layer's connections exchanged. A number decays to 0 along a cosine.
        settings: any other field of `DropGrow`.

    Source: Mocanu et al. (2018), arXiv:1707.04780, in its deep-learning form: smallest |value| per layer, grown at 0
        (the first code dropped the smallest positive and largest negative values apart, and drew new ones).

    Example:
        >>> SET(stop=500).needs_gradients
        False
    """
    defaults = {"grow": Random(), "candidates": Draw(), "replaces_step": False}
    return DropGrow(stop=stop, every=every, drop_fraction=decaying(drop_fraction), **{**defaults, **settings})


@register("rule", "rigl")
def RigL(*, stop: int | None, every: int = 100, drop_fraction: float | Schedule = 0.3, **settings: Any) -> DropGrow:
    """RigL: drop the weakest connections, grow where the gradient is largest.

    A connection dropped now may regrow at once and then keeps its value, as in the authors' code.

    Args:
        stop: last step at which the topology may change (the paper: 0.75 of the training). None never stops.
        every: steps between rewirings (the paper: 100).
        drop_fraction: share of a layer's connections exchanged (the paper: 0.3). A number decays to 0 along a cosine.
        settings: any other field of `DropGrow`.

    Source: Evci et al. (2020), arXiv:1911.11134, algorithm 1.

    Example:
        >>> RigL(stop=500, drop_fraction=0.5).drop_fraction_at(250)
        0.25
    """
    return DropGrow(stop=stop, every=every, drop_fraction=decaying(drop_fraction), **settings)


@register("rule", "gse")
def GSE(
    *,
    stop: int | None,
    every: int = 100,
    drop_fraction: float | Schedule = 0.2,
    candidates: Candidates = UNIFORM,
    subset: float | None = None,
    **settings: Any,
) -> DropGrow:
    """Guided stochastic exploration: of a random subset grow where the gradient is largest, then drop the weakest.

    It grows like RigL at the cost of SET, because gradients are computed for about as many missing connections as there
    are existing ones. What is dropped now cannot regrow at once, and what was just grown is not dropped. Per layer
    `min(ceil(drop_fraction * connections), candidates)` are exchanged.

    Args:
        stop: last step at which the topology may change (its code: 0.6 of the training). None never stops.
        every: steps between rewirings (the paper: 1000). Our default is that of the other rules, for comparisons.
        drop_fraction: share of a layer's connections exchanged (the paper: 0.2). A number decays to 0 along a cosine.
        candidates: `Uniform()`, `GraBo()`, `GraEst()` or `SynFlow()`.
        subset: draws per existing connection (the paper: 1). None leaves what the candidates say.
        settings: any other field of `DropGrow`.

    Raises:
        ValueError: if a subset is given with candidates that have none.

    Source: Heddes et al. (2024), arXiv:2401.06898, algorithm 2.

    Example:
        >>> GSE(stop=500, subset=2.0).candidates
        Uniform(subset=2.0, sampler='replacement', dense_from=1.0)
    """
    if subset is not None:
        if not isinstance(candidates, Guided):
            raise ValueError(
                f"a subset must come with candidates that are drawn from one, got {candidates!r}. Drop one"
            )
        candidates = replace(candidates, subset=subset)
    defaults = {"allow_regrowth": False, "rounding": "up"}
    fields = {**defaults, **settings}
    return DropGrow(stop=stop, every=every, drop_fraction=decaying(drop_fraction), candidates=candidates, **fields)


@register("rule", "gse-released")
def GSEReleased(
    *,
    stop: int | None,
    every: int = 1000,
    drop_fraction: float | Schedule = 0.2,
    classes: int = 10,
    batch_size: int = 128,
    **settings: Any,
) -> DropGrow:
    """GSE as its authors' code does it, which is not what their algorithm says.

    Layers compete in one ranking (`scope="global"`), the weight update of the step is done as well, growth looks at
    about ten samples per class, layers of density 0.5 and more consider every missing connection, and numbers are
    rounded down. We do not copy its dense gradients in masked storage, and our probing leaves alone the running
    statistics of batch norm, which its code updates. The published runs also began with a warm-up of the
    learning rate, an Erdos-Renyi allocation and weights drawn by true fan-in. Those belong to the experiment.

    Args:
        stop: last step at which the topology may change (the code: epoch 120 of 200). None never stops.
        every: steps between rewirings.
        drop_fraction: share of all connections exchanged. A number decays to 0 along a cosine.
        classes: of the data. `ceil(10 * classes / batch_size)` batches are probed (CIFAR-10: 1, CIFAR-100: 8).
        batch_size: of the training (the code: 128).
        settings: any other field of `DropGrow`.

    Source: the released code of Heddes et al. (2024), arXiv:2401.06898.

    Example:
        >>> GSEReleased(stop=46_920, classes=100).probe_batches
        8
    """
    for name, value in (("classes", classes), ("batch_size", batch_size)):
        check_integer(name, value, least=1)
    defaults = {
        "candidates": Uniform(dense_from=0.5),
        "scope": "global",
        "allow_regrowth": False,
        "replaces_step": False,
        "probe_batches": math.ceil(10 * classes / batch_size),
    }
    return DropGrow(stop=stop, every=every, drop_fraction=decaying(drop_fraction), **{**defaults, **settings})


@register("rule", "set-itop", stop_fraction=1.0)  # ITOP explores to the end
def SETITOP(*, stop: int | None, every: int = 100, drop_fraction: float | Schedule = 0.5, **settings: Any) -> DropGrow:
    """SET as ITOP sets it: half of the connections exchanged, hardly ever ending, so that many positions are tried.

    Args:
        stop: last step at which the topology may change. This is usually the end of the training.
        every: steps between rewirings (its code: 1500 with batches of 128). They must suffice for new weights to learn.
        drop_fraction: share of a layer's connections exchanged. A number falls to a hundredth of itself along a cosine.
        settings: any other field of `DropGrow`. `candidates=NeverActive()` grows only where nothing ever was.

    Source: In-time over-parameterization, Liu et al. (2021), arXiv:2102.02887, with the settings of its code.

    Example:
        >>> round(SETITOP(stop=1000).drop_fraction_at(1000), 6)
        0.005
    """
    return SET(stop=stop, every=every, drop_fraction=_to_a_hundredth(drop_fraction), **settings)


@register("rule", "rigl-itop", stop_fraction=1.0)  # ITOP explores to the end
def RigLITOP(*, stop: int | None, every: int = 100, drop_fraction: float | Schedule = 0.5, **settings: Any) -> DropGrow:
    """RigL as ITOP sets it: half of the connections exchanged, hardly ever ending, and the weights learn every step.

    Args:
        stop: last step at which the topology may change. This is usually the end of the training.
        every: steps between rewirings (its code: 4000 with batches of 128).
        drop_fraction: share of a layer's connections exchanged. A number falls to a hundredth of itself along a cosine.
        settings: any other field of `DropGrow`.

    Source: In-time over-parameterization, Liu et al. (2021), arXiv:2102.02887, with the settings of its code.

    Example:
        >>> RigLITOP(stop=1000).replaces_step
        False
    """
    defaults = {"replaces_step": False}
    return DropGrow(stop=stop, every=every, drop_fraction=_to_a_hundredth(drop_fraction), **{**defaults, **settings})


def _to_a_hundredth(drop_fraction: float | Schedule) -> Schedule:
    if isinstance(drop_fraction, Schedule):
        return drop_fraction
    first = float(check_finite_number("drop_fraction", drop_fraction))
    return Cosine(first, first / 100)


def decaying(drop_fraction: float | Schedule) -> Schedule:
    """Return a schedule as it is, and a number as one that decays to 0 along a cosine."""
    return (
        drop_fraction
        if isinstance(drop_fraction, Schedule)
        else Cosine(float(check_finite_number("drop_fraction", drop_fraction)), 0.0)
    )
