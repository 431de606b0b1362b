"""Encode the connections of whole networks, with or without their values, for widgets that compare several of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from sparsekit.tickets import Ticket
from sparsekit.topology import Topology
from sparsekit.widgets.mask_deltas import write_gaps

MOST = 30  # tickets, because the browser keeps a bit of an integer for each


def encode_topology(topology: Topology, values: Mapping[str, Tensor] | None = None) -> dict:
    r"""Return a network's positions over all its layers as gaps, and its values as 32-bit floats.

    Args:
        topology: of the network. A position counts from the first weight of the first layer.
        values: of its connections, by layer, or None to leave them out.

    Example:
        >>> import torch
        >>> from sparsekit.topology import LayerTopology
        >>> layers = {"a": LayerTopology((2, 2), torch.tensor([3])), "b": LayerTopology((1, 2), torch.tensor([0]))}
        >>> encode_topology(Topology(layers))
        {'count': 2, 'gaps': b'\x03\x00', 'values': b''}
    """
    starts = np.cumsum([0, *(layer.size for layer in topology.values())])
    positions = [layer.indices.cpu().numpy() + start for layer, start in zip(topology.values(), starts, strict=False)]
    joined = np.concatenate(positions) if positions else np.empty(0, dtype=np.int64)
    numbers = b""
    if values is not None:
        numbers = b"".join(values[name].detach().cpu().float().numpy().astype("<f4").tobytes() for name in topology)
    return {"count": len(joined), "gaps": write_gaps(joined), "values": numbers}


def encode_tickets(tickets: Sequence[Ticket]) -> list[dict]:
    """Return each ticket's connections and values.

    Raises:
        ValueError: if there is no ticket, or their layers differ.
    """
    if not tickets:
        raise ValueError("there must be a ticket to send, got none. Collect some first")
    for ticket in tickets:
        check_same_layers(tickets[0].topology, ticket.topology)
    return [encode_topology(ticket.topology, ticket.values) for ticket in tickets]


def check_not_too_many(tickets: Sequence[Ticket]) -> None:
    """Raise ValueError if the browser could not tell so many tickets apart."""
    if len(tickets) > MOST:
        raise ValueError(f"there must be at most {MOST} tickets, got {len(tickets)}. Choose some of them")


def matrix_shapes(topology: Topology) -> list[list[int]]:
    """Return outputs and inputs per output of each layer, which are the sides of its mask.

    Example:
        >>> from sparsekit.topology.selection import random_topology
        >>> matrix_shapes(random_topology({"conv": (4, 2, 3, 3), "head": (10, 4)}, 0.5))
        [[4, 18], [10, 4]]
    """
    return [[layer.num_outputs, layer.num_inputs] for layer in topology.values()]


def check_same_layers(first: Topology, other: Topology) -> None:
    """Raise ValueError unless two networks have the same layers."""
    if dict(first.shapes) != dict(other.shapes):
        raise ValueError(
            f"networks must have the same layers, got {dict(first.shapes)} and {dict(other.shapes)}. Compare like with "
            "like"
        )
