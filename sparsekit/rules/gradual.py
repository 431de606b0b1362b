"""Published methods that are settings of `DropGrow` whose density or exchange falls in the course of training."""

from typing import Any

from sparsekit.rules.candidates.draw import Draw
from sparsekit.rules.drop.weight_and_gradient import WeightAndGradient
from sparsekit.rules.drop_grow import DropGrow
from sparsekit.rules.grow.random import Random
from sparsekit.rules.presets import decaying
from sparsekit.schedules import Constant, Cubic, Schedule, Sigmoid, Stages
from sparsekit.topology.allocation import check_density
from sparsekit.utils.checks import check_finite_number, check_integer
from sparsekit.utils.registry import register

FINAL = 0.05  # density in the end where none is given, which is that of `Experiment`


@register("rule", "gmp")
def GMP(
    *, stop: int | None, final: float | None = None, every: int = 100, initial: float | None = None, **settings: Any
) -> DropGrow:
    """Gradual magnitude pruning: begin dense, and give up the smallest weights of all layers, fast first, then slowly.

    What is pruned does not regrow. The network stays as dense as it begins until `start`, a further field of
    `DropGrow`. At `stop` the density is `final` exactly, whether or not `every` divides it.

    Args:
        stop: step at which the final density is reached.
        final: that density (0.05). Recipes give theirs.
        every: steps between prunings.
        initial: density to begin with (1).
        settings: any other field of `DropGrow`. `shrink="per-layer"` prunes every layer alike.

    Raises:
        ValueError: if `initial` lies below `final`, or a density is given for which either would be ignored.

    Source: Zhu and Gupta (2017), To prune, or not to prune, arXiv:1710.01878, equation 1.

    Example:
        >>> rule = GMP(stop=100, final=0.05)
        >>> [round(1 - rule.density_at(step), 6) for step in (0, 25, 100)]
        [0.0, 0.549219, 0.95]
        >>> [round(GMP(start=500, stop=1000).density_at(step), 3) for step in (0, 500, 750, 1000)]
        [1.0, 1.0, 0.169, 0.05]
    """
    defaults = {
        "density": falling(Cubic, initial, final, settings, begin=1.0),
        "drop_fraction": Constant(0.0),
        "grow": Random(),
        "candidates": Draw(),
        "shrink": "global",
        "replaces_step": False,
    }
    return DropGrow(stop=stop, every=every, **{**defaults, **settings})


@register("rule", "granet")
def GraNet(
    *,
    stop: int | None,
    final: float | None = None,
    every: int = 100,
    initial: float | None = None,
    drop_fraction: float | Schedule = 0.5,
    **settings: Any,
) -> DropGrow:
    """GraNet: gradual pruning of the whole network, and after each pruning every layer exchanges weak connections.

    With `initial` equal to `final` this is RigL with the weight update on every step. In its code regeneration
    continues after the final density is reached. Here both end at `stop`, and the last step of the cubic is exact.

    Args:
        stop: step at which the final density is reached.
        final: that density (0.05). Recipes give theirs.
        every: steps between rewirings (its code: 1000 on CIFAR).
        initial: density until `start`, 0.5 by default (or `final`, if that is more). 1 trains dense to sparse, less
            trains sparse to sparse.
        drop_fraction: share of a layer's connections exchanged. A number decays to 0 along a cosine.
        settings: any other field of `DropGrow`.

    Raises:
        ValueError: if `initial` lies below `final`, or a density is given for which either would be ignored.

    Source: Liu et al. (2021), Sparse training via boosting pruning plasticity, arXiv:2106.10404, with its code's
        settings.

    Example:
        >>> round(GraNet(stop=100, final=0.05).density_at(50), 5)
        0.10625
    """
    defaults = {
        "density": falling(Cubic, initial, final, settings, begin=0.5),
        "shrink": "global",
        "replaces_step": False,
    }
    return DropGrow(stop=stop, every=every, drop_fraction=decaying(drop_fraction), **{**defaults, **settings})


@register("rule", "mest")
def MEST(*, stop: int | None, every: int = 100, gradient: float = 0.0, **settings: Any) -> DropGrow:
    """MEST's elastic mutation (EM): exchange a fifth of the connections at random, later a tenth, in the end none.

    Args:
        stop: last step at which the topology may change (its code: three quarters of the training).
        every: steps between rewirings (its code: 5 epochs).
        gradient: weight of `|gradient|` beside `|value|` in what is dropped. Its code uses 0.
        settings: any other field of `DropGrow`.

    Raises:
        ValueError: if `drop` is given besides, for which `gradient` would be ignored.

    Source: Yuan et al. (2021), MEST, arXiv:2110.14032, with the stages of its code at 90 % sparsity (prune to 0.92,
        0.91, 0.90 and grow to 0.90), which change at nine and twelve sixteenths of the training.

    Example:
        >>> [MEST(stop=120).drop_fraction_at(step) for step in (0, 90, 120)]
        [0.2, 0.1, 0.0]
    """
    check_finite_number("gradient", gradient)
    check_heard(settings, "drop", gradient=gradient or None)
    defaults = {
        "drop": WeightAndGradient(gradient=gradient),
        "grow": Random(),
        "candidates": Draw(),
        "drop_fraction": Stages((0.2, 0.1, 0.0), (0.75, 1.0)),
        "replaces_step": False,
    }
    return DropGrow(stop=stop, every=every, **{**defaults, **settings})


@register("rule", "mest-soft")
def MESTSoft(
    *, stop: int | None, final: float | None = None, every: int = 100, gradient: float = 0.0, **settings: Any
) -> DropGrow:
    """MEST with a soft memory bound (EM&S): keep half more connections than the target, then a quarter, then none.

    At each rewiring the weakest go until only as many are left as the target says, and random ones come on top.

    Args:
        stop: step from which on the target density holds (its code: three quarters of the training).
        final: the target density (0.05). Recipes give theirs.
        every: steps between rewirings (its code: 5 epochs).
        gradient: weight of `|gradient|` beside `|value|` in what is dropped. Its code uses 0.
        settings: any other field of `DropGrow`.

    Raises:
        ValueError: if `density` or `drop` is given besides, for which `final` or `gradient` would be ignored.

    Source: Yuan et al. (2021), MEST, arXiv:2110.14032, with the stages of its code at 90 % sparsity (prune to 0.90,
        grow to 0.85, 0.875, 0.90).

    Example:
        >>> [round(MESTSoft(stop=120, final=0.1).density_at(step), 6) for step in (0, 90, 120)]
        [0.15, 0.125, 0.1]
    """
    check_heard(settings, "density", final=final)
    final = FINAL if final is None else final
    check_density(final)
    densities = tuple(min(1.0, final * (1 + extra)) for extra in (0.5, 0.25, 0.0))
    exchanged: Schedule = Stages(tuple(1 - final / density for density in densities), (0.75, 1.0))
    if start := check_integer("start", settings.get("start", 0)):  # the same clock as the density
        exchanged = exchanged.between(start, stop if stop is None else check_integer("stop", stop))
    defaults = {
        "density": Stages(densities, (0.75, 1.0)),
        "drop_fraction": exchanged,
        "rounding": "nearest",
    }
    return MEST(stop=stop, every=every, gradient=gradient, **{**defaults, **settings})


def falling(
    shape: type[Cubic] | type[Sigmoid],
    initial: float | None,
    final: float | None,
    settings: dict[str, Any],
    *,
    begin: float,
) -> Schedule:
    """Return a density that falls from `initial` (or `begin`) to `final`, along a curve of some shape.

    Raises:
        ValueError: if `initial` lies below `final`, or a density is among the settings for which either is ignored.

    Example:
        >>> falling(Cubic, None, 0.05, {}, begin=0.5)
        Cubic(start=0.5, end=0.05, steps=None)
    """
    check_heard(settings, "density", initial=initial, final=final)
    final = FINAL if final is None else final
    check_density(final)
    first = max(begin, final) if initial is None else initial
    check_density(first)
    if first < final:
        raise ValueError(
            f"initial must be at least final, got initial={initial} and final={final}. Pruning gives up connections"
        )
    return shape(first, final)


def check_heard(settings: dict[str, Any], field: str, **values: float | None) -> None:
    """Refuse what would be ignored because a field that it decides is given as well.

    Raises:
        ValueError: if that field is among the settings, and a value is not None.
    """
    ignored = ", ".join(f"{name}={value}" for name, value in values.items() if value is not None)
    if field in settings and ignored:
        hint = " (a recipe gives its own as final: hand it the rule itself)" if field == "density" else ""
        raise ValueError(
            f"{field} must be given alone, or what it follows from, got {field}={settings[field]} and {ignored}. Leave "
            f"one out{hint}"
        )
