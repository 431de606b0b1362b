"""How a topology changes during training: what is exchanged, what survives, how old connections are.

All functions take the topologies in order, and the first is the one before the first rewiring. `journal.topologies()`
yields them, and `[0, *journal.steps]` are their `starts`. A connection that regrows in the rewiring that drops it looks
as if it had never been away.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from sparsekit.topology import Topology, check_same_layers


def churn(topologies: Iterable[Topology]) -> pd.DataFrame:
    """Return, for each rewiring, the share of connections that are new: `|new - old| / |new|`, 0 to 1.

    There is one row per rewiring (the first is 1), one column per layer and one, `"network"`, for all together. Where a
    rule may regrow what it has just dropped, churn is smaller than its drop fraction.

    Raises:
        TypeError: if they are no topologies in order.
        ValueError: if there is no topology, or layers differ.

    Example:
        >>> import torch
        >>> from sparsekit.topology import LayerTopology
        >>> path = [Topology({"fc": LayerTopology((2, 2), torch.tensor(p))}) for p in ([0, 1], [1, 2], [1, 2])]
        >>> churn(path)["network"].tolist()
        [0.5, 0.0]
    """
    pairs = itertools.pairwise(in_order(topologies))
    return share_table([shares(new - old, new) for old, new in pairs], start=1)


def flip_rate(topologies: Iterable[Topology]) -> pd.DataFrame:
    """Return, for each change, the share of positions whose connection came or went: `|new xor old| / size`, 0 to 1.

    It is meant for masks that change at every step, such as those of SR-STE and S-STE. Take their `active_topology`
    after each. A method whose flip rate stays high until the end never settles. There is one row per change (the first
    is 1), one column per layer and one, `"network"`, for all together.

    Raises:
        TypeError: if they are no topologies in order.
        ValueError: if there is no topology, or layers differ.

    Source: Hu et al. (2024), Accelerating transformer pre-training with 2:4 sparsity, arXiv:2404.01847.

    Example:
        >>> import torch
        >>> from sparsekit.topology import LayerTopology
        >>> path = [Topology({"fc": LayerTopology((2, 2), torch.tensor(p))}) for p in ([0, 1], [1, 2], [1, 2])]
        >>> flip_rate(path)["network"].tolist()
        [0.5, 0.0]
    """
    pairs = itertools.pairwise(in_order(topologies))
    return share_table([_shares_of_positions((new - old) | (old - new)) for old, new in pairs], start=1)


def survival(topologies: Iterable[Topology]) -> pd.DataFrame:
    """Return the share of the first topology's connections that are there after each rewiring, 0 to 1.

    This is `|first & now| / |first|`. Row 0 is before the first rewiring, so it is 1. A connection that was dropped and
    regrew counts. If dropping were random, the curve would fall by `1 - r` per rewiring, but magnitude dropping spares
    the old connections.

    Raises:
        TypeError: if they are no topologies in order.
        ValueError: if there is no topology, or layers differ.

    Example:
        >>> import torch
        >>> from sparsekit.topology import LayerTopology
        >>> path = [Topology({"fc": LayerTopology((2, 2), torch.tensor(p))}) for p in ([0, 1], [1, 2], [2, 3])]
        >>> survival(path)["network"].tolist()
        [1.0, 0.5, 0.0]
    """
    states = in_order(topologies)
    first = next(states)
    rows = [shares(first & now, first) for now in itertools.chain([first], states)]
    return share_table(rows)


def ages(topologies: Iterable[Topology], *, starts: Sequence[int] | None = None) -> dict[str, Int64[Tensor, " e"]]:
    """Return how long each connection of the last topology has existed without a break, by layer.

    Args:
        topologies: in order, the first before the first rewiring.
        starts: the step at which each topology began. Ages are then in steps, at the start of the last topology.
            Without it ages are counted in rewirings.

    Returns:
        For each layer the ages in the order of the last topology's `indices`. The newest have age 0.

    Raises:
        TypeError: if they are no topologies in order.
        ValueError: if there is no topology, layers differ, or `starts` has another length or falls.

    Example:
        >>> import torch
        >>> from sparsekit.topology import LayerTopology
        >>> path = [Topology({"fc": LayerTopology((2, 2), torch.tensor(p))}) for p in ([0, 1], [1, 2])]
        >>> ages(path)["fc"].tolist(), ages(path, starts=[0, 100])["fc"].tolist()
        ([1, 0], [100, 0])
    """
    births, now, topology = BirthSteps(), 0, Topology()
    for now, topology in timed(topologies, starts):
        births.advance(topology, now)
    return {name: now - births.born[name][layer.indices] for name, layer in topology.items()}


class BirthSteps:
    """Since when each connection has existed without a break. Advance it through the topologies in order.

    `born` holds, by layer and for every position, the step at which the connection there was born, or -1 where there is
    none.
    """

    def __init__(self):
        self.born: dict[str, Int64[Tensor, " positions"]] = {}

    def advance(self, topology: Topology, now: int) -> None:
        """Enter the topology that begins at step `now`: forget what was dropped, record what was grown."""
        for name, layer in topology.items():
            here = layer.indices
            before = self.born.get(name, here.new_full((layer.size,), -1))
            after = torch.full_like(before, -1)
            after[here] = torch.where(before[here] >= 0, before[here], now)
            self.born[name] = after


def in_order(topologies: Iterable[Topology]) -> Iterator[Topology]:
    """Yield the topologies, checking that there is at least one and that all have the same layers.

    Raises:
        TypeError: if there is one topology instead of several, or something else.
        ValueError: if there is none, or layers or shapes differ.
    """
    several = any(hasattr(topologies, name) for name in ("__iter__", "__getitem__"))
    if not several or isinstance(topologies, Mapping | nn.Module):
        raise TypeError(
            f"topologies must come in order, as in journal.topologies(), got {type(topologies).__name__}. "
            "List them as [before, after], each from topology_of(model)"
        )
    first = None
    for topology in topologies:
        first = topology if first is None else first
        check_same_layers(first, topology)
        yield topology
    if first is None:
        raise ValueError("a history must hold at least one topology, got none. Start it before the first rewiring")


def timed(topologies: Iterable[Topology], starts: Sequence[int] | None) -> Iterator[tuple[int, Topology]]:
    """Yield each topology with the step at which it began, or with its number from 0 if there are no `starts`.

    Raises:
        ValueError: if there are more or fewer starts than topologies, or they fall.
    """
    if starts is None:
        yield from enumerate(in_order(topologies))
        return
    if any(later < earlier for earlier, later in itertools.pairwise(starts)):
        raise ValueError(f"starts must be steps that never fall, got {list(starts)}. Give each topology's first step")
    yield from zip(starts, in_order(topologies), strict=True)


def shares(part: Topology, whole: Topology) -> dict[str, float]:
    """Return `|part| / |whole|` for each layer and, as `"network"`, for all, and 0 where there is nothing."""
    by_layer = {name: _share(part[name].count, layer.count) for name, layer in whole.items()}
    return {**by_layer, "network": _share(part.count, whole.count)}


def share_table(rows: list[dict[str, float]], *, start: int = 0) -> pd.DataFrame:
    """Return rows as a table whose index, `rewiring`, counts from `start`."""
    index = pd.RangeIndex(start, start + len(rows), name="rewiring")
    return pd.DataFrame(rows, index=index)


def _shares_of_positions(part: Topology) -> dict[str, float]:
    return {**{name: layer.density for name, layer in part.items()}, "network": part.density}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
