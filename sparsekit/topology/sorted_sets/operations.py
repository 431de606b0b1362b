"""Operations on sorted int64 tensors without doubles, in two ways that give the same numbers.

Compiled loops merge large ones on the CPU in linear time. All others are sorted and searched.

Legend: `A`, `B` members of the sets, `Q` queries, `E` connections.
"""

from functools import cache
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

# From so many numbers in all arrays together on, it pays within a training to load compiled code, which takes half a
# second once. Sorting and searching so many takes about a millisecond.
LARGE = 2**15


def positions_in(array: Int64[Tensor, " a"], queries: Int64[Tensor, " q"]) -> Int64[Tensor, " q"]:
    """Return where each query stands in the array, or -1.

    Example:
        >>> positions_in(torch.tensor([2, 5, 9]), torch.tensor([5, 6])).tolist()
        [1, -1]
    """
    fast = _compiled_for(array, queries) if _worth_merging(array, queries) else None
    if fast and bool((queries[1:] > queries[:-1]).all()):
        return _run(fast.positions_in, array, queries)
    if array.numel() == 0:
        return torch.full_like(queries, -1)
    positions = _search(array, queries).clamp_(max=array.numel() - 1)
    return positions.masked_fill_(array.index_select(0, positions) != queries, -1)


def union(first: Int64[Tensor, " a"], second: Int64[Tensor, " b"]) -> Int64[Tensor, " c"]:
    """Return the numbers that are in either.

    Example:
        >>> union(torch.tensor([2, 5]), torch.tensor([3, 5])).tolist()
        [2, 3, 5]
    """
    if fast := _compiled_for(first, second):
        return _run(fast.union, first, second)
    return distinct(torch.cat([first, second]))


def intersection(first: Int64[Tensor, " a"], second: Int64[Tensor, " b"]) -> Int64[Tensor, " c"]:
    """Return the numbers that are in both.

    Example:
        >>> intersection(torch.tensor([2, 5]), torch.tensor([3, 5])).tolist()
        [5]
    """
    if fast := _compiled_for(first, second):
        return _run(fast.intersection, first, second)
    return first.index_select(0, true_positions(positions_in(second, first) >= 0))


def difference(first: Int64[Tensor, " a"], second: Int64[Tensor, " b"]) -> Int64[Tensor, " c"]:
    """Return the numbers that are in the first and not in the second.

    Example:
        >>> difference(torch.tensor([2, 5]), torch.tensor([3, 5])).tolist()
        [2]
    """
    return first.index_select(0, match(second, first)[2])


def match(
    old: Int64[Tensor, " a"], new: Int64[Tensor, " b"]
) -> tuple[Int64[Tensor, " b"], Int64[Tensor, " d"], Int64[Tensor, " g"]]:
    """Return where each number of `new` stands in `old` or -1, and the positions of what only one of them has.

    Example:
        >>> [part.tolist() for part in match(torch.tensor([2, 5]), torch.tensor([3, 4, 5]))]
        [[-1, -1, 1], [0], [0, 1]]
    """
    if fast := _compiled_for(old, new):
        return _run(fast.match, old, new)
    positions = positions_in(old, new)
    is_dropped = torch.ones_like(old, dtype=torch.bool)
    is_dropped[positions.index_select(0, true_positions(positions >= 0))] = False
    return positions, true_positions(is_dropped), true_positions(positions < 0)


def missing_at(array: Int64[Tensor, " a"], ranks: Int64[Tensor, " q"]) -> Int64[Tensor, " q"]:
    """Return the r-th number, counted from 0, that the array lacks, for each rank r.

    Before the i-th member lie `array[i] - i` missing numbers, an increasing sequence. How many of these are at most r
    tells how many members stand before the r-th missing number.

    Example:
        >>> missing_at(torch.tensor([0, 2, 3]), torch.tensor([0, 1])).tolist()
        [1, 4]
    """
    fast = _compiled_for(array, ranks) if _worth_merging(array, ranks) else None
    if fast and bool((ranks[1:] >= ranks[:-1]).all()):
        return _run(fast.missing_at, array, ranks)
    gaps = array - torch.arange(array.numel(), device=array.device)
    return ranks + _search(gaps, ranks, side="right")


def distinct(numbers: Int64[Tensor, " a"]) -> Int64[Tensor, " b"]:
    """Return the numbers sorted, each once.

    Example:
        >>> distinct(torch.tensor([5, 2, 5])).tolist()
        [2, 5]
    """
    if numbers.device.type != "cpu" or numbers.numel() == 0:
        return torch.unique(numbers)
    # numpy's sort of integers compares many at once, which takes a tenth of the time of torch.unique.
    ordered = torch.from_numpy(np.sort(numbers.numpy()))
    is_last = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=is_last[:-1])
    return ordered.index_select(0, true_positions(is_last))


def true_positions(mask: Bool[Tensor, " a"]) -> Int64[Tensor, " b"]:
    """Return the positions where a mask is true.

    Example:
        >>> true_positions(torch.tensor([True, False, True])).tolist()
        [0, 2]
    """
    if mask.device.type != "cpu":
        return mask.nonzero().flatten()
    return torch.from_numpy(np.flatnonzero(mask.numpy()))  # does not branch on every entry, as torch does


def rows_of(positions: Int64[Tensor, " e"], width: int) -> Int64[Tensor, " e"]:
    """Return the row of each flat position in a matrix.

    Example:
        >>> rows_of(torch.tensor([0, 4, 5]), 3).tolist()
        [0, 1, 1]
    """
    if positions.device.type != "cpu":
        return positions // width
    return torch.from_numpy(positions.numpy() // width)  # multiplies by the inverse, where torch divides


def compress(
    positions: Int64[Tensor, " e"], num_rows: int, width: int
) -> tuple[Int64[Tensor, " rows"], Int64[Tensor, " e"]]:
    """Return where each row of a matrix starts among sorted flat positions, `(num_rows + 1,)`, and their columns.

    Example:
        >>> [part.tolist() for part in compress(torch.tensor([0, 4, 5]), 2, 3)]
        [[0, 1, 3], [0, 1, 2]]
    """
    if fast := _compiled_for(positions):
        return _run(fast.compress, positions, num_rows, width)
    starts = torch.arange(num_rows + 1, device=positions.device) * width
    return _search(positions, starts), positions % width


def transpose(
    pointers: Int64[Tensor, " rows"], cols: Int64[Tensor, " e"], width: int
) -> tuple[Int64[Tensor, " columns"], Int64[Tensor, " e"], Int64[Tensor, " e"]]:
    """Return where each column starts, `(width + 1,)`, the rows column by column, and which connections these are.

    Example:
        >>> [part.tolist() for part in transpose(torch.tensor([0, 1, 3]), torch.tensor([1, 0, 1]), 2)]
        [[0, 1, 3], [1, 0, 1], [1, 0, 2]]
    """
    fits = cols.numel() * pointers.numel() < 2**50  # row and position share a number with room for the column
    if fits and (fast := _compiled_for(cols)):
        return _run(fast.transpose, pointers, cols, width)
    order = torch.argsort(cols, stable=True)
    rows = torch.repeat_interleave(torch.arange(pointers.numel() - 1, device=cols.device), pointers.diff())
    ends = torch.bincount(cols, minlength=width).cumsum(0)
    return torch.cat([ends.new_zeros(1), ends]), rows[order], order


def _search(array: Tensor, queries: Tensor, *, side: Literal["left", "right"] = "left") -> Tensor:
    if array.device.type != "cpu":
        return torch.searchsorted(array, queries, side=side)
    # Each search begins where the last one ended.
    return torch.from_numpy(np.searchsorted(array.numpy(), queries.numpy(), side=side))


def _compiled_for(*arrays: Tensor) -> ModuleType | None:
    large = sum(array.numel() for array in arrays) >= LARGE
    return _compiled() if large and all(array.device.type == "cpu" for array in arrays) else None


@cache
def _compiled() -> ModuleType | None:
    try:
        from sparsekit.topology.sorted_sets import compiled
    except (ImportError, RuntimeError):  # no Numba, or nowhere to keep what it compiles
        return None
    return compiled


def _run(function: Any, *arguments: Any) -> Any:
    arrays = [x.contiguous().numpy() if isinstance(x, Tensor) else x for x in arguments]
    result = function(*arrays)
    return tuple(map(torch.from_numpy, result)) if isinstance(result, tuple) else torch.from_numpy(result)


def _worth_merging(array: Tensor, queries: Tensor) -> bool:
    # Merging walks through the whole array, so a few queries are found sooner by halving it again and again.
    return queries.numel() * array.numel().bit_length() >= array.numel()
