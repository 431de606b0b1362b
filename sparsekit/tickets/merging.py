"""TIES and DARE merge networks by how far each went from the start that all of them have in common.

A network's change is its values minus those of the start, over the connections that either has, where a missing one
counts as zero. TIES asks in which direction most of the change goes, and DARE drops a part of it at random.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sparsekit.tickets.superpose import Stack, check_same_layers, superpose, target_count
from sparsekit.tickets.ticket import Ticket
from sparsekit.topology.selection import topk_indices
from sparsekit.utils.checks import check_finite_number, must_be

Changes = Mapping[str, Float[Tensor, "t e"]]


def ties(
    tickets: Sequence[Ticket], start: Ticket, *, keep: float = 0.2, scale: float = 1.0, density: float | None = None
) -> Ticket:
    """Add to the start what the tickets agree on: trim their changes, elect a sign for each connection, and average.

    Each ticket keeps its largest changes. The sign of their sum is elected for a connection, and the mean is that of
    the changes with this sign. So a ticket that goes the other way does not pull the mean towards zero. Where the
    changes add up to nothing the start's value stays. The result has as many connections as each ticket, those of the
    largest magnitudes. Biases, batch norm and dense layers are averaged as by `superpose`.

    Args:
        tickets: of networks that were trained from the same start.
        start: the network that they began with.
        keep: share of all connections whose change each ticket keeps, ranked over all layers.
        scale: the factor lambda by which the merged change is multiplied.
        density: of the result. None means as many connections as each ticket has.

    Raises:
        TypeError: if something is no ticket.
        ValueError: if a number is out of range, there is no sparse layer, or `superpose` refuses the tickets.

    Source: Yadav et al. (2023), TIES-Merging, arXiv:2306.01708. Its formulas are for all parameters of dense networks.
        To merge connections only, and to prune the result, is ours.

    Example:
        >>> tickets = [Ticket.of(load_model(run.folder), step=run.step) for run in runs]  # doctest: +SKIP
        >>> ties(tickets, start, keep=0.2).density  # doctest: +SKIP
        0.05
    """
    if not 0 < check_finite_number("keep", keep) <= 1:
        raise ValueError(f"keep must be above 0 and at most 1, got {keep}. 0.2 keeps a fifth of the changes")
    check_finite_number("scale", scale)
    mean = superpose(tickets, prune="never")  # it refuses what is no ticket, and averages the rest
    stack = _beside(start, list(tickets))
    changes = {name: values[1:] - values[0] for name, values in stack.values.items()}
    merged = {name: agreed_mean(change) for name, change in trimmed(changes, keep).items()}
    whole = {name: stack.values[name][0] + scale * change for name, change in merged.items()}
    values = {name: value.to(start.values[name].dtype) for name, value in whole.items()}
    union = replace(mean, topology=stack.union, values=values)
    return superpose([union], density=target_count(tickets, density) / stack.union.size)


def dare(ticket: Ticket, start: Ticket, *, drop: float = 0.9, generator: torch.Generator) -> Ticket:
    """Drop each change of a ticket with chance `drop`, and divide the others by `1 - drop`, so that the mean stays.

    Do this with every ticket, then merge them by `superpose` or `ties`. The result has the connections of the ticket
    and of the start. Biases, batch norm and dense layers are the ticket's.

    Args:
        ticket: of a network that was trained from the start.
        start: the network that it began with.
        drop: the chance that a change is dropped, in [0, 1).
        generator: draws which changes are dropped.

    Raises:
        TypeError: if something is no ticket.
        ValueError: if the chance is out of range, there is no sparse layer, or the two have other layers.

    Source: Yu et al. (2024), arXiv:2311.03099. Its formulas are for all parameters of dense networks.

    Example:
        >>> from sparsekit.topology import LayerTopology, Topology
        >>> line = Topology({"0": LayerTopology((1, 2), torch.tensor([0, 1]))})
        >>> start, end = (
        ...     Ticket(topology=line, values={"0": torch.full((2,), value)}, rest={}, step=0) for value in (1.0, 2.0)
        ... )
        >>> dare(end, start, drop=0.5, generator=torch.Generator().manual_seed(0)).values["0"]
        tensor([1., 3.])
    """
    if not 0 <= check_finite_number("drop", drop) < 1:
        raise ValueError(f"drop must be at least 0 and below 1, got {drop}. 0.9 drops nine of ten changes")
    must_be("a ticket", ticket, Ticket, "read it with read_ticket, or take Ticket.of(model, step=0)")
    stack = _beside(start, [ticket])
    values = {}
    for name, (before, after) in stack.values.items():
        stays = torch.rand(len(before), generator=generator) >= drop
        values[name] = (before + (after - before) * stays / (1 - drop)).to(ticket.values[name].dtype)
    return replace(ticket, topology=stack.union, values=values, accuracy=math.nan)


def trimmed(changes: Changes, keep: float) -> Changes:
    """Set all but the largest changes of each ticket to zero, by magnitude and in one ranking over all layers.

    Args:
        changes: of each ticket and connection, by layer.
        keep: share of the changes that stay.

    Example:
        >>> trimmed({"0": torch.tensor([[1.0, -3.0], [5.0, 4.0]])}, 0.5)["0"].tolist()
        [[0.0, -3.0], [5.0, 0.0]]
    """
    flat = torch.cat(list(changes.values()), dim=1)
    stays = torch.zeros_like(flat, dtype=torch.bool)
    for row, magnitudes in zip(stays, flat.abs(), strict=True):
        row[topk_indices(magnitudes, round(keep * flat.shape[1]))] = True
    parts = (flat * stays).split([change.shape[1] for change in changes.values()], dim=1)
    return dict(zip(changes, parts, strict=True))


def agreed_mean(changes: Float[Tensor, "t e"]) -> Float[Tensor, " e"]:
    """Return the mean of those changes whose sign is that of the sum, 0 where there is none.

    Example:
        >>> agreed_mean(torch.tensor([[3.0, 1.0], [-1.0, -1.0], [1.0, 0.0]])).tolist()
        [2.0, 0.0]
    """
    elected = changes.sum(0).sign()
    agrees = (changes.sign() == elected) & (elected != 0)
    return (changes * agrees).sum(0) / agrees.sum(0).clamp(min=1)


def _beside(start: Ticket, tickets: list[Ticket]) -> Stack:
    must_be("start", start, Ticket, "take Ticket.of(model, step=0) before the training")
    check_same_layers([start, *tickets])
    if not start.topology:
        raise ValueError("a merge needs tickets with a sparse layer, got plain networks. Call sparsify on the model")
    return Stack.of([start, *tickets])
