"""Cannistraci-Hebb training: drop and grow whose growth looks at the topology alone."""

from typing import Any, Literal

from sparsekit.rules.drop.relative_importance import RelativeImportance
from sparsekit.rules.drop.soft import Soft
from sparsekit.rules.drop_grow import DropGrow
from sparsekit.rules.gradual import falling
from sparsekit.rules.grow.cannistraci_hebb import CannistraciHebb
from sparsekit.rules.presets import decaying
from sparsekit.schedules import Constant, Linear, Schedule, Sigmoid
from sparsekit.utils.registry import register


@register("rule", "chts")
def CHTs(
    *,
    stop: int | None,
    every: int = 100,
    drop_fraction: float | Schedule = 0.3,
    index: Literal["ch2", "ch3", "ch3.1"] = "ch2",
    growth: Literal["soft", "hard"] = "soft",
    **settings: Any,
) -> DropGrow:
    """CHTs: drop weak connections by chance, and draw new ones by how many short paths join their ends.

    It never looks at a gradient. `BRF(base=CHTs(...))` starts it from a local topology. The papers also drop
    connections of units that lost all inputs or all outputs. `ChainRemoval(base=CHTs(...), chain=(...))` does so, once
    you say which layers follow each other.

    Args:
        stop: last step at which the topology may change. None never stops, and then the fraction must be a schedule
            that needs no end, such as `Constant(0.3)`. The temperature stays at 1 then.
        every: steps between rewirings (the code: 100 for language models, an epoch for MLPs).
        drop_fraction: share of a layer's connections exchanged (its code: 0.3 for MLPs, 0.1 for language models). A
            number decays to 0 along a cosine.
        index: what a pair of units with common neighbours weighs, see `CannistraciHebb`.
        growth: `"soft"` draws by the scores, `"hard"` takes the highest.
        settings: any other field of `DropGrow`. `drop=Magnitude()` drops the weakest without chance.

    Source: Zhang et al. (2025), arXiv:2501.19107, with the settings of its code.

    Example:
        >>> rule = CHTs(stop=500)
        >>> rule.needs_gradients, rule.drop.temperature(250)
        (False, 5.0)
    """
    defaults = {
        "drop": Soft(temperature=_temperature(stop)),
        "grow": CannistraciHebb(index=index, growth=growth),
        "replaces_step": False,
    }
    return DropGrow(stop=stop, every=every, drop_fraction=decaying(drop_fraction), **{**defaults, **settings})


@register("rule", "chtss")
def CHTss(
    *, stop: int | None, final: float | None = None, every: int = 100, initial: float | None = None, **settings: Any
) -> DropGrow:
    """CHTss: as CHTs, while the density falls along a sigmoid from one half to the final one.

    What is dropped follows the relative importance of a connection to its two units, also where it is exchanged.

    Args:
        stop: step at which the final density is reached.
        final: that density (0.05). Recipes give theirs.
        every: steps between rewirings.
        initial: density to begin with, 0.5 by default (or `final`, if that is more).
        settings: any other argument of `CHTs`.

    Raises:
        ValueError: if `initial` lies below `final`, or a density is given for which either would be ignored.

    Source: Zhang et al. (2025), arXiv:2501.19107. That exchange drops by relative importance too is ours.

    Example:
        >>> rule = CHTss(stop=100, final=0.05)
        >>> [round(rule.density_at(step), 3) for step in (0, 50, 100)]
        [0.5, 0.275, 0.05]
    """
    defaults = {
        "density": falling(Sigmoid, initial, final, settings, begin=0.5),
        "drop": Soft(score=RelativeImportance(), temperature=_temperature(stop)),
    }
    return CHTs(stop=stop, every=every, **{**defaults, **settings})


def _temperature(stop: int | None) -> Schedule:
    """Return the powers that magnitudes are raised to, of the code for language models."""
    return Linear(1.0, 9.0, max(1, stop)) if isinstance(stop, int) else Constant(1.0)  # DropGrow refuses other things
