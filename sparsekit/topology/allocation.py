"""Allocations turn weight shapes and one density into an exact number of connections for each layer.

Every allocation spends exactly `round(density * size)` connections. A layer that would get more than it has weights
is made dense, and the others share the rest. Fractions are settled by largest remainder.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from sparsekit.topology.sets import Topology
from sparsekit.utils.checks import check_finite_number, check_integer, number, shown, sides_of
from sparsekit.utils.registry import get, names, register

Shapes = Mapping[str, tuple[int, ...]]
Counts = dict[str, int]


@register("allocation", "uniform")
def uniform(shapes: Shapes, density: float) -> Counts:
    """Give every layer the same density.

    Args:
        shapes: weight shape `(outputs, inputs, *kernel)` of each layer.
        density: share of all weights that exist, in (0, 1].

    Raises:
        ValueError: if the density is outside (0, 1] or there is no layer.

    Source: the baseline of Evci et al. (2020), arXiv:1911.11134, section 3 (there without the first layer, which
    you leave out with `shapes_of(model, exclude=("first",))`).

    Example:
        >>> uniform({"a": (10, 10), "b": (2, 10)}, 0.1)
        {'a': 10, 'b': 2}
    """
    return _share_out(shapes, density, lambda shape: Fraction(1))


@register("allocation", "er")
def erdos_renyi(shapes: Shapes, density: float) -> Counts:
    """Give a layer connections in proportion to outputs + inputs (channels), not to their product.

    A layer's density is proportional to `(outputs + inputs) / (outputs * inputs)`. So thin layers stay denser, and
    the count grows linearly with the width.

    Args:
        shapes: weight shape `(outputs, inputs, *kernel)` of each layer. Kernels do not count.
        density: share of all weights that exist, in (0, 1].

    Raises:
        ValueError: if the density is outside (0, 1] or there is no layer.

    Source: SET, Mocanu et al. (2018), arXiv:1707.04780, equation 3.

    Example:
        >>> erdos_renyi({"a": (300, 784), "b": (100, 300), "c": (10, 100)}, 0.1)
        {'a': 18714, 'b': 6906, 'c': 1000}
    """
    return _share_out(shapes, density, lambda shape: Fraction(shape[0] + shape[1], shape[0] * shape[1]))


@register("allocation", "erk")
def erdos_renyi_kernel(shapes: Shapes, density: float, power: float = 1.0) -> Counts:
    """Give a layer a density proportional to (sum of all sides) / (product of all sides), kernels included.

    Args:
        shapes: weight shape `(outputs, inputs, *kernel)` of each layer.
        density: share of all weights that exist, in (0, 1].
        power: exponent on that quotient, where 0 is `uniform` and 1 the published form.

    Raises:
        ValueError: if the density is outside (0, 1] or there is no layer.

    Source: Evci et al. (2020), arXiv:1911.11134, section 3.

    Example:
        >>> erdos_renyi_kernel({"conv": (16, 1, 3, 3), "head": (10, 64)}, 0.2)
        {'conv': 37, 'head': 120}
    """
    check_finite_number("power", power)

    def raw_density(shape: tuple[int, ...]) -> Fraction:
        quotient = Fraction(sum(shape), math.prod(shape))
        return quotient if power == 1 else Fraction(float(quotient) ** power)

    return _share_out(shapes, density, raw_density)


def allocate(shapes: Shapes, density: float, allocation: str | Callable[[Shapes, float], Counts] = "erk") -> Counts:
    """Return the counts of a named allocation, or of a function of your own.

    Raises:
        TypeError: if it is neither a name nor a function, or it does not return integers by layer name.
        ValueError: if the name is unknown, when the message lists the known ones, or no connection would remain.
    """
    if not (isinstance(allocation, str) or callable(allocation)) or isinstance(allocation, type):
        raise TypeError(
            f"allocation must be a name or a function, got {shown(allocation)}. Take one of "
            f"{', '.join(names('allocation'))}"
        )
    check_shapes(shapes)
    counts = (get("allocation", allocation) if isinstance(allocation, str) else allocation)(shapes, density)
    _check_counts("what an allocation returns", counts)
    if not any(counts.values()):
        size = sum(math.prod(shape) for shape in shapes.values())
        raise ValueError(f"density must leave at least one connection, got {density} of {size} weights. Raise it")
    return counts


def share_out(total: int, weights: Mapping[str, int | Fraction], sizes: Mapping[str, int]) -> Counts:
    """Share a number of connections in proportion to some weights, exactly and within each layer's size.

    Args:
        total: number of connections, at most the sizes together.
        weights: what each layer's share is in proportion to, not negative.
        sizes: number of positions in each layer. One that overflows is filled, and the others share the rest.

    Raises:
        ValueError: if there are more connections than positions.

    Example:
        >>> share_out(10, {"a": 3, "b": 1, "c": 100}, {"a": 50, "b": 50, "c": 4})
        {'a': 5, 'b': 1, 'c': 4}
    """
    _check_counts("sizes", sizes)
    if not 0 <= check_integer("the number to share", total) <= sum(sizes.values()):
        raise ValueError(
            f"the number to share must lie in [0, {sum(sizes.values())}], the positions, got {total}. Lower it"
        )
    _check_weights(weights)
    nonzero = {name: Fraction(weight) for name, weight in weights.items() if weight and sizes[name]}
    capped = _with_caps(min(total, sum(sizes[name] for name in nonzero)), nonzero, {n: sizes[n] for n in nonzero})
    counts = dict.fromkeys(weights, 0) | _round_to(int(sum(capped.values())), capped)
    rest = total - sum(counts.values())  # positive where all weights are zero, or their layers are full
    for name in weights:
        more = min(rest, sizes[name] - counts[name])
        counts[name], rest = counts[name] + more, rest - more
    return counts


def check_density(density: float) -> None:
    """Raise TypeError unless the density is a number, and ValueError unless it lies in (0, 1]."""
    if not 0 < number("density", density) <= 1:
        raise ValueError(
            f"density must lie in (0, 1], got {density}. Give the share of weights that exist (0.05 for 95 % sparsity)"
        )


def check_shapes(shapes: Shapes) -> None:
    """Raise TypeError or ValueError unless these are weight shapes by layer name."""
    if not isinstance(shapes, Mapping) or isinstance(shapes, Topology):
        way = "topology.shapes" if isinstance(shapes, Topology) else "shapes_of(model)"
        raise TypeError(f"shapes must be weight shapes by layer name, got {type(shapes).__name__}. Use {way}")
    for shape in shapes.values():
        sides_of(shape)


def check_by_layer(what: str, counts: Mapping[str, int]) -> None:
    """Raise TypeError unless these are numbers of connections by layer name."""
    if not isinstance(counts, Mapping):
        raise TypeError(
            f"{what} must be numbers of connections by layer name, got {type(counts).__name__}. "
            "Share them out with allocation.allocate(shapes, density), or use keep_top_global"
        )


def _check_counts(what: str, counts: Mapping[str, int]) -> None:
    check_by_layer(what, counts)
    for name, count in counts.items():
        check_integer(f"{what} for {name}", count, least=0)


def _check_weights(weights: Mapping[str, int | Fraction]) -> None:
    for name, weight in weights.items():
        if not 0 <= number(f"the weight of {name}", weight) < math.inf:
            raise ValueError(f"the weight of {name} must be finite and not negative, got {weight}. Count what there is")


def _share_out(shapes: Shapes, density: float, raw_density: Callable[[tuple[int, ...]], Fraction]) -> Counts:
    check_density(density)
    check_shapes(shapes)
    if not shapes:
        raise ValueError("there must be at least one layer to share connections among, got none. See left_dense(model)")
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = round(density * sum(sizes.values()))
    weights = {name: raw_density(shape) * sizes[name] for name, shape in shapes.items()}
    return _at_least_one(_round_to(total, _with_caps(total, weights, sizes)))


def _with_caps(total: int, weights: Mapping[str, Fraction], sizes: Counts) -> dict[str, Fraction]:
    """Share `total` in proportion to the weights, where a layer that overflows is filled and leaves the sharing."""
    full: set[str] = set()
    while True:
        rest = {name: weight for name, weight in weights.items() if name not in full}
        if not rest:
            return {name: Fraction(size) for name, size in sizes.items()}
        per_weight = (total - sum(sizes[name] for name in full)) / sum(rest.values(), Fraction())
        over = {name for name, weight in rest.items() if per_weight * weight > sizes[name]}
        if not over:
            return {name: per_weight * rest[name] if name in rest else Fraction(sizes[name]) for name in sizes}
        densest = max(weights[name] / sizes[name] for name in over)
        full |= {name for name in over if weights[name] / sizes[name] == densest}


def _round_to(total: int, shares: Mapping[str, Fraction]) -> Counts:
    """Round down, then give the rest to the largest remainders, and of equal ones to the earlier layer."""
    counts = {name: math.floor(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _at_least_one(counts: Counts) -> Counts:
    """Let no layer go empty while the budget lasts, because an empty layer cuts the network in two."""
    for name in [name for name, count in counts.items() if count == 0]:
        richest = max(counts, key=counts.__getitem__)
        if counts[richest] > 1:
            counts[richest] -= 1
            counts[name] = 1
    return counts
