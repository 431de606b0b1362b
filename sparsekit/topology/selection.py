"""Selections turn scores and counts into topologies that keep exactly as many of the highest scores.

Ties go to the lower position, so that the same scores always give the same topology. Nothing is compared with a
threshold, because equal scores at a threshold break the budget.
"""

import math
import numbers
from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sparsekit.topology.allocation import Counts, Shapes, allocate, check_by_layer
from sparsekit.topology.sets import LayerTopology, Topology
from sparsekit.topology.sorted_sets import distinct, true_positions
from sparsekit.utils.checks import check_integer, must_be
from sparsekit.utils.seeds import generator

Scores = Mapping[str, Tensor]


def topk_indices(scores: Float[Tensor, " c"], count: int) -> Int64[Tensor, " k"]:
    """Return the positions of the `count` highest scores, in increasing order.

    Scores may be infinite, which means to keep a connection always or never.

    Raises:
        TypeError: if the count is no integer.
        ValueError: if there are fewer scores than `count`, or a score is NaN.

    Example:
        >>> topk_indices(torch.tensor([0.1, 0.5, 0.5, 0.9]), 2).tolist()
        [1, 3]
    """
    _check_count(count)
    if not isinstance(scores, Tensor) or scores.dim() != 1:
        raise TypeError(f"scores must be a 1-D tensor, got {_described(scores)}. Use .flatten()")
    if not 0 <= count <= scores.numel():
        raise ValueError(f"count must lie in [0, {scores.numel()}], the number of scores, got {count}. Lower it")
    _check_numbers(scores)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    if count == scores.numel():
        return torch.arange(count, device=scores.device)
    lowest = _lowest_of_highest(scores, count)
    is_kept = scores >= lowest
    surplus = int(is_kept.count_nonzero()) - count
    if surplus:
        is_kept[true_positions(scores == lowest)[-surplus:]] = False
    return true_positions(is_kept)


def keep_top_per_layer(scores: Scores, counts: Counts) -> Topology:
    """Keep in each layer its `counts[name]` highest scores.

    Args:
        scores: a tensor shaped like the weight for each layer.
        counts: connections for each layer.

    Raises:
        TypeError: if scores or counts do not come by layer name, or a count is no integer.
        ValueError: if a layer has fewer positions than its count.
    """
    _check_scores(scores)
    check_by_layer("counts", counts)
    for count in counts.values():
        _check_count(count)
    if missing := [name for name in scores if name not in counts]:
        raise ValueError(
            f"counts must name every layer of the scores, got none for {', '.join(missing)}. Give 0 to empty a layer"
        )
    return Topology(
        {name: LayerTopology(tuple(s.shape), topk_indices(s.flatten(), counts[name])) for name, s in scores.items()}
    )


def keep_top_global(scores: Scores, count: int, *, min_per_layer: int = 1) -> Topology:
    """Keep the `count` highest scores of the whole network in one ranking.

    Args:
        scores: a tensor shaped like the weight for each layer.
        count: connections in all.
        min_per_layer: each layer keeps at least so many of its own best, so that none vanishes (0 allows it).

    Raises:
        TypeError: if the scores do not come by layer name, or the count is no integer.
        ValueError: if the count is larger than the network or smaller than the guaranteed minimum.
    """
    _check_scores(scores)
    _check_count(count)
    check_integer("min_per_layer", min_per_layer, least=0)
    if not scores:
        raise ValueError("scores must be those of a layer at least, got none. See shapes_of(model)")
    guaranteed = {name: min(min_per_layer, s.numel()) for name, s in scores.items()}
    if count < sum(guaranteed.values()):
        raise ValueError(
            f"count must be at least {sum(guaranteed.values())} to keep {min_per_layer} per layer, got {count}. "
            "Raise the density or lower min_per_layer"
        )
    flat = {name: s.flatten() for name, s in scores.items()}
    # These are set apart and not raised to infinity, because scores may be infinite themselves.
    is_kept = torch.cat([_mask_of_highest(s, guaranteed[name]) for name, s in flat.items()])
    rest = (~is_kept).nonzero().flatten()
    best_of_rest = topk_indices(torch.cat(list(flat.values()))[rest], count - sum(guaranteed.values()))
    is_kept[rest[best_of_rest]] = True
    return _split(is_kept, {name: tuple(s.shape) for name, s in scores.items()})


def keep_top_per_output(scores: Float[Tensor, "o *f"], fan_in: int) -> LayerTopology:
    """Keep the `fan_in` highest scores of every output, which gives a constant fan-in.

    Source: the mask form of SRigL, Lasby et al. (2023), arXiv:2305.02299.

    Raises:
        TypeError: if the scores are no tensor, or `fan_in` is no integer.
        ValueError: if an output has fewer inputs than `fan_in`.
    """
    _check_layer_scores(scores)
    _check_count(fan_in)
    rows = [topk_indices(row, fan_in) + o * row.numel() for o, row in enumerate(scores.flatten(1))]
    return LayerTopology(tuple(scores.shape), torch.cat(rows))


def keep_n_of_m(scores: Float[Tensor, "o *f"], n: int, m: int) -> LayerTopology:
    """Keep the n highest scores in every m consecutive inputs of an output (a shorter tail keeps up to n).

    In a convolution the inputs are channels, at each position of the kernel by itself.
    Source: Zhou et al. (2021), arXiv:2102.04010.

    Raises:
        TypeError: if the scores are no tensor.
        ValueError: unless 0 < n <= m, or where a score is NaN.

    Example:
        >>> keep_n_of_m(torch.tensor([[0.1, 0.5, 0.3, 0.2]]), 2, 4).indices.tolist()
        [1, 2]
    """
    _check_layer_scores(scores)
    _check_numbers(scores)
    return LayerTopology.of_mask(n_of_m_mask(scores, n, m))


def n_of_m_mask(scores: Float[Tensor, "o *f"], n: int, m: int) -> Bool[Tensor, "o *f"]:
    """Return the mask of `keep_n_of_m`, where ties go to the lower position.

    Raises:
        ValueError: unless 0 < n <= m.
    """
    check_group(n, m)
    last = scores.movedim(1, -1)  # channels last, so the m neighbours are inputs at one position of the kernel
    tail = -last.shape[-1] % m
    padded = torch.nn.functional.pad(last, (0, tail), value=-math.inf)
    order = padded.unflatten(-1, (-1, m)).argsort(dim=-1, descending=True, stable=True)
    is_kept = torch.zeros_like(order, dtype=torch.bool).scatter_(-1, order[..., :n], True).flatten(-2)
    return is_kept[..., : last.shape[-1]].movedim(-1, 1)


def check_group(n: int, m: int) -> None:
    """Raise TypeError or ValueError unless n of every m is something that can be kept."""
    if not 0 < check_integer("n", n) <= check_integer("m", m):
        raise ValueError(f"n of m needs 0 < n <= m, got {n} of {m}. Use 2 of 4 to keep half")


def draw_distinct(total: int, count: int, generator: torch.Generator) -> Int64[Tensor, " k"]:
    """Draw `count` different numbers from `range(total)`, uniformly and sorted, in O(count) time and memory.

    Raises:
        ValueError: if the count is larger than the total.
    """
    must_be("generator", generator, torch.Generator, "Make one with torch.Generator().manual_seed(0)")
    if not 0 <= check_integer("count", count) <= check_integer("total", total, least=0):
        raise ValueError(f"count must lie in [0, {total}], the numbers to draw from, got {count}. Lower it")
    if 2 * count > total:
        left_out = draw_distinct(total, total - count, generator)
        return LayerTopology((1, total), left_out).missing() if total else left_out
    numbers = torch.empty(0, dtype=torch.int64, device=generator.device)
    while numbers.numel() < count:
        more = torch.randint(total, (count + 8,), generator=generator, device=generator.device)
        numbers = distinct(torch.cat([numbers, more]))
    # A random part of a set that favours no number favours none either. To cut off the sorted end would favour some.
    chosen = torch.randperm(numbers.numel(), generator=generator, device=generator.device)[:count]
    is_chosen = torch.zeros_like(numbers, dtype=torch.bool)
    is_chosen[chosen] = True
    return numbers.index_select(0, true_positions(is_chosen))


def random_topology(
    shapes: Shapes,
    density: float,
    *,
    allocation: str | Callable[[Shapes, float], Counts] = "erk",
    seed: int = 0,
) -> Topology:
    """Draw each layer's connections uniformly, with the counts of an allocation.

    Args:
        shapes: weight shape of each layer, from `shapes_of(model)`.
        density: share of all weights that exist, in (0, 1].
        allocation: `"uniform"`, `"er"`, `"erk"`, or a function `(shapes, density) -> counts`.
        seed: the same seed gives the same topology.

    Raises:
        TypeError: if the shapes do not come by layer name.
        ValueError: if the density is outside (0, 1] or the allocation is unknown.

    Example:
        >>> random_topology({"fc": (10, 20)}, 0.05).count
        10
    """
    check_integer("seed", seed)
    counts = allocate(shapes, density, allocation)
    return Topology(
        {
            name: LayerTopology(
                tuple(shape), draw_distinct(math.prod(shape), counts[name], generator(seed, "topology", name))
            )
            for name, shape in shapes.items()
        }
    )


def split_by_layer(is_kept: Bool[Tensor, " c"], sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Cut a selection over the concatenated layers into one piece per layer."""
    return dict(zip(sizes, is_kept.split(list(sizes.values())), strict=True))


def _lowest_of_highest(scores: Tensor, count: int) -> Tensor:
    if scores.device.type != "cpu" or scores.dtype not in (torch.float32, torch.float64):
        return torch.topk(scores, count, sorted=False).values.min()
    # This is linear in the scores, and takes a tenth of the time of torch.topk, as numpy compares many at once.
    rank = scores.numel() - count
    return torch.from_numpy(np.partition(scores.detach().numpy(), rank)[rank : rank + 1])


def _mask_of_highest(scores: Tensor, count: int) -> Tensor:
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[topk_indices(scores, count)] = True
    return mask


def _check_scores(scores: Scores) -> None:
    if not isinstance(scores, Mapping):
        raise TypeError(
            f"scores must be tensors by layer name, got {type(scores).__name__}. Give, for example, "
            "{name: model.get_submodule(name).weight.abs() for name in shapes_of(model)}"
        )
    for name, tensor in scores.items():
        if not isinstance(tensor, Tensor) or tensor.dim() < 2:
            raise TypeError(
                f"{name}: scores must be a tensor shaped like the weight, got {_described(tensor)}. See weight.abs()"
            )


def _check_layer_scores(scores: Tensor) -> None:
    if not isinstance(scores, Tensor) or scores.dim() < 2:
        raise TypeError(
            f"scores must be a tensor shaped like one layer's weight, got {_described(scores)}. "
            "Give, for example, layer.weight.abs()"
        )


def _check_count(count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, numbers.Integral):
        raise TypeError(
            f"count must be an integer, the number of connections and not a density, got {type(count).__name__}. "
            "For density 0.1 give round(0.1 * size), where size counts all positions"
        )


def _described(thing: object) -> str:
    return f"shape {tuple(thing.shape)}" if isinstance(thing, Tensor) else type(thing).__name__


def _check_numbers(scores: Tensor) -> None:
    # The largest of numbers is NaN where one of them is, and to look for it takes no second array.
    if scores.numel() and bool(scores.amax().isnan()):
        raise ValueError("scores must be numbers, got NaN. Look for an infinite loss or gradient before this step")


def _split(is_kept: Tensor, shapes: Shapes) -> Topology:
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    pieces = split_by_layer(is_kept, sizes)
    return Topology({name: LayerTopology(tuple(shapes[name]), pieces[name].nonzero().flatten()) for name in shapes})
