"""Give the hidden units of one network the order of another's, so that strangers can be averaged.

Two trainings from other seeds find units that do the same in another order, so an average mixes units that have nothing
to do with each other. A permutation of hidden units changes no output. We look for the one that makes the weights of
two networks most alike, group by group of units, until nothing improves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sparsekit.tickets.ticket import Ticket
from sparsekit.tickets.units import Side, Units, units_of
from sparsekit.topology import LayerTopology, Topology, check_same_layers

MOST_ROUNDS = 100  # of all groups, of which a few are enough
TRIES = 3
WEIGHT = ".weight"


def rebasin(ticket: Ticket, reference: Ticket, model: nn.Module, *, by: str = "values", seed: int = 0) -> Ticket:
    """Return a ticket that computes the same, with its hidden units in the order that is nearest to another ticket.

    Residual networks and convolutions are handled, and units that are added to each other move together. Connections
    move with their units, so each layer keeps as many.

    Args:
        ticket: whose units are put in another order.
        reference: the ticket that it should resemble, with the same layers.
        model: a network with these layers, plain or sparse, whose forward says what belongs to a unit.
        by: `"values"` compares weights, biases and batch norm, and `"topology"` only which connections exist. In deep
            networks the latter often ends far from the best order, because masks alone say little about a unit.
        seed: of the order in which groups of units are matched, which may decide where the search ends.

    Raises:
        ValueError: if the layers differ, `by` is unknown, or units cannot be followed through the model.

    Source: weight matching of Ainsworth et al. (2023), Git Re-Basin, arXiv:2209.04836. Here topologies move along.

    Example:
        >>> from sparsekit.layers import sparsify
        >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
        >>> full = Topology({"0": LayerTopology((2, 1), torch.arange(2)), "2": LayerTopology((1, 2), torch.arange(2))})
        >>> def small(first, last):
        ...     values = {"0": torch.tensor(first), "2": torch.tensor(last)}
        ...     return Ticket(topology=full, values=values, rest={}, step=0)
        >>> rebasin(small([1.0, 2.0], [3.0, 4.0]), small([2.0, 1.0], [4.0, 3.0]), net).values["0"].tolist()
        [2.0, 1.0]
    """
    if by not in ("values", "topology"):
        raise ValueError(f"by must be values or topology, got {by!r}. Choose one of them")
    check_same_layers(ticket.topology, reference.topology)
    units = units_of(model)
    own, other = (_tensors(one, by) for one in (ticket, reference))
    order = match_units(units, own, other, seed=seed)
    return reordered(ticket, units, order)


def match_units(
    units: Units, tensors: Mapping[str, Tensor], reference: Mapping[str, Tensor], *, seed: int = 0, tries: int = TRIES
) -> dict[int, int]:
    """Return which unit takes the position of each, so that the sum of products with the reference is largest.

    Args:
        units: of the network.
        tensors: by the names that its sides have.
        reference: the same of the other network.
        seed: of the order of the groups.
        tries: with other orders, of which the best counts, because each ends at some local optimum.
    """
    rng = np.random.default_rng(seed)
    orders = [_matched(units, tensors, reference, rng) for _ in range(tries)]
    return max(orders, key=lambda order: _total(units, tensors, reference, order))


def _matched(
    units: Units, tensors: Mapping[str, Tensor], reference: Mapping[str, Tensor], rng: np.random.Generator
) -> dict[int, int]:
    """Match one group of units after the other, until nothing improves."""
    order = {unit: unit for side in units.sides for unit in side.units}
    compared = [side for side in units.sides if side.name in tensors]
    along = [[side for side in compared if group[0] in side.units] for group in units.groups]  # one stands for all
    for _ in range(MOST_ROUNDS):
        before = dict(order)
        for number in rng.permutation(len(units.groups)):
            group = units.groups[number]
            parts = [_likeness(units, side, group, tensors, reference, order) for side in along[number]]
            if parts:
                order |= _best_partners(group, torch.stack(parts).sum(0), order)
        if order == before:
            break
    return order


def _best_partners(group: Sequence[int], likeness: Float[Tensor, "n n"], order: Mapping[int, int]) -> dict[int, int]:
    """Return which unit of a group takes the position of each, or nothing where the present order is as good."""
    from scipy.optimize import linear_sum_assignment  # here, as the import costs a second

    present = [group.index(order[unit]) for unit in group]
    positions, partners = linear_sum_assignment(likeness.numpy(), maximize=True)
    gain = likeness[positions, partners].sum() - likeness[range(len(group)), present].sum()
    if gain <= 1e-9 * likeness.abs().max():
        return {}
    return {group[position]: group[partner] for position, partner in zip(positions, partners, strict=True)}


def _total(
    units: Units, tensors: Mapping[str, Tensor], reference: Mapping[str, Tensor], order: Mapping[int, int]
) -> float:
    """Return the sum of the products of all numbers, which the search makes large."""
    products = 0.0
    for name in dict.fromkeys(side.name for side in units.sides if side.name in tensors):
        products += float((_in_order(units, tensors, name, order) * reference[name]).sum())
    return products


def _in_order(
    units: Units, tensors: Mapping[str, Tensor], name: str, order: Mapping[int, int], *, but: int | None = None
) -> Tensor:
    """Return a tensor with its units reordered along every dimension, but for one."""
    tensor = tensors[name]
    for side in units.sides:
        if side.name == name and side.dim != but:
            tensor = tensor.index_select(side.dim, _taken(side, order))
    return tensor


def reordered(ticket: Ticket, units: Units, order: Mapping[int, int]) -> Ticket:
    """Return a ticket with each unit replaced by another. It computes the same.

    Args:
        ticket: of a network with these units.
        units: from `units_of`.
        order: which unit takes the position of each.
    """
    layers, values, rest = dict(ticket.topology), dict(ticket.values), dict(ticket.rest)
    for side in units.sides:
        taken, layer = _taken(side, order), side.name.removesuffix(WEIGHT)
        if layer in layers and side.name.endswith(WEIGHT):
            layers[layer], values[layer] = _move(layers[layer], values[layer], side.dim, taken)
        elif side.name in rest:
            rest[side.name] = rest[side.name].index_select(side.dim, taken)
    return replace(ticket, topology=Topology(layers), values=values, rest=rest)


def _move(layer: LayerTopology, values: Tensor, dim: int, taken: Int64[Tensor, " n"]) -> tuple[LayerTopology, Tensor]:
    """Return a layer whose position `p` along a dimension has what position `taken[p]` had."""
    positions = torch.empty_like(taken)
    positions[taken] = torch.arange(len(taken))
    at = list(torch.unravel_index(layer.indices, layer.shape))
    at[dim] = positions[at[dim]]
    strides = [int(np.prod(layer.shape[number + 1 :])) for number in range(len(layer.shape))]
    indices, order = torch.stack([x * stride for x, stride in zip(at, strides, strict=True)]).sum(0).sort()
    return LayerTopology(layer.shape, indices), values[order]


def _taken(side: Side, order: Mapping[int, int]) -> Int64[Tensor, " n"]:
    """Return from which position along a side each one is taken. The positions of a unit stay in their order."""
    positions: dict[int, list[int]] = {}
    for position, unit in enumerate(side.units):
        positions.setdefault(unit, []).append(position)
    counts = dict.fromkeys(positions, 0)
    taken = []
    for unit in side.units:
        taken.append(positions[order[unit]][counts[unit]])
        counts[unit] += 1
    return torch.tensor(taken)


def _likeness(
    units: Units,
    side: Side,
    group: list[int],
    tensors: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    order: Mapping[int, int],
) -> Float[Tensor, "n n"]:
    """Return the products of each unit of the reference with each of the other network, along one side."""
    mine = _in_order(units, tensors, side.name, order, but=side.dim)  # as far as that was reached
    rows = [[position for position, unit in enumerate(side.units) if unit == one] for one in group]
    picked = torch.tensor(rows).flatten()
    first, second = (x.index_select(side.dim, picked).movedim(side.dim, 0) for x in (reference[side.name], mine))
    return first.reshape(len(group), -1) @ second.reshape(len(group), -1).T


def _tensors(ticket: Ticket, by: str) -> dict[str, Tensor]:
    """Return what is compared, in float64 and as dense tensors, by the names of a plain network."""
    weights = {
        f"{name}{WEIGHT}": _dense(layer, ticket.values[name] if by == "values" else torch.ones(layer.count))
        for name, layer in ticket.topology.items()
    }
    rest = {name: x.double() for name, x in ticket.rest.items() if x.is_floating_point()}
    return {**rest, **weights} if by == "values" else weights


def _dense(layer: LayerTopology, values: Tensor) -> Tensor:
    dense = torch.zeros(layer.size, dtype=torch.float64)
    return dense.index_put_((layer.indices,), values.double().flatten()).view(layer.shape)
