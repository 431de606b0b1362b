"""Superposition turns several tickets into one network of the size of each.

Connections are averaged over the union of all tickets, and only the strongest of the averages stay. A connection that a
ticket does not have counts as zero there. So a connection of k among t tickets is weakened to k / t before the ranking.
This is a vote by frequency first, and by magnitude second. With `average="active"` it is averaged over the tickets that
have it.
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparsekit.tickets.state_entries import average_entries, layout_of
from sparsekit.tickets.ticket import Ticket
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.allocation import check_density, share_out
from sparsekit.topology.selection import topk_indices
from sparsekit.utils.checks import must_be
from sparsekit.utils.checks import number as plain_number

AVERAGES = ("mean", "active")
PRUNES = ("once", "each", "never")
SCOPES = ("global", "layer")


def superpose(
    tickets: Sequence[Ticket],
    *,
    density: float | None = None,
    weights: Sequence[float] | None = None,
    average: str = "mean",
    prune: str = "once",
    scope: str = "global",
) -> Ticket:
    """Average tickets and keep as many connections as one ticket has, those of the largest averages.

    Biases, batch norm and dense layers are averaged too, real and complex numbers alike. Counts are those of the last
    ticket. Other integers, truth values and extra states of modules must be the same in all. The batch-norm statistics
    of an average describe no network, so measure it with `evaluate(..., refresh_with=training_batches)` or call
    `refresh_batch_norm` first. The order of the tickets matters
    for `prune="each"` only.

    Args:
        tickets: of networks with the same layers, in the order of their training.
        density: of the result. None means as many connections as each ticket has.
        weights: of the tickets in the average, not negative. None means equal ones. See `ema_weights`.
        average: `"mean"` counts a missing connection as 0, while `"active"` averages each connection over the tickets
            that have it.
        prune: `"once"` at the end, or `"each"` after every ticket, as in the authors' code, where a connection that was
            removed once starts again from zero. `"never"` keeps the union, which is larger than the budget.
        scope: rank all connections against each other (`"global"`), or within each layer, whose share stays that of
            the first ticket (`"layer"`). A layer never loses its last connection.

    Returns:
        A ticket with exactly the target number of connections, all of them in the union of the tickets.

    Raises:
        ValueError: if there is no ticket, their layers differ, something in them has no average and differs, a setting
            is unknown, or the budget does not fit.

    Source: Yin et al. (2022), arXiv:2205.15322. Pruning once is the figure of the authors' repository, and pruning
        each time is their code.

    Example:
        >>> a, b = (
        ...     Ticket(
        ...         topology=Topology({"0": LayerTopology((1, 2), torch.tensor([position]))}),
        ...         values={"0": torch.tensor([value])},
        ...         rest={},
        ...         step=0,
        ...     )
        ...     for position, value in ((0, 3.0), (1, 2.0))
        ... )
        >>> superpose([a, b, b]).state()
        {'0.indices': tensor([1]), '0.packed_weight': tensor([1.3333])}
    """
    _check_choices(average=(average, AVERAGES), prune=(prune, PRUNES), scope=(scope, SCOPES))
    pairs = _pair_with_weights(tickets, weights)
    stack, shares = Stack.of([ticket for ticket, _ in pairs]), [weight for _, weight in pairs]
    return superpose_stack(stack, shares, density=density, average=average, prune=prune, scope=scope)


def superpose_stack(
    stack: "Stack", weights: Sequence[float], *, density: float | None, average: str, prune: str, scope: str
) -> Ticket:
    """Superpose tickets that lie side by side already, which is a fast way to superpose them many times.

    Args:
        stack: the tickets.
        weights: one per ticket, above 0.
        density, average, prune, scope: as for `superpose`.

    Raises:
        ValueError: if the budget does not fit, or something that has no average differs.
    """
    first, last = stack.tickets[0], stack.tickets[-1]
    shares = torch.tensor(weights, dtype=torch.float64)
    budget = Budget(first.topology, target_count(stack.tickets, density), scope)
    rest, extra = (average_entries([getattr(one, part) for one in stack.tickets], shares) for part in ("rest", "extra"))
    if not first.topology:
        return replace(last, rest=rest, extra=extra, accuracy=math.nan)
    if prune != "never":
        budget.check(stack.union)
    averages = _running_average(stack, shares, average, budget) if prune == "each" else stack.average(shares, average)
    topology = stack.union if prune == "never" else budget.strongest(stack.union, averages)
    values = {name: _select(averages[name], stack.union[name], layer) for name, layer in topology.items()}
    return Ticket(
        topology=topology,
        values={name: x.to(first.values[name].dtype) for name, x in values.items()},
        rest=rest,
        extra=extra,
        step=last.step,
    )


def ema_weights(num: int, keep: float = 0.5) -> list[float]:
    """Return EMA weights (exponential moving average): each further ticket leaves the share `keep` to the others.

    Source: `CIMA`, factor 0.5, in the code of Yin et al. (2022), arXiv:2205.15322.

    Raises:
        ValueError: if there is no ticket, or `keep` is not between 0 and 1.

    Example:
        >>> ema_weights(4)
        [0.125, 0.125, 0.25, 0.5]
    """
    if num < 1:
        raise ValueError(f"there must be at least 1 ticket, got {num}")
    if not 0 < keep < 1:
        raise ValueError(f"keep must lie between 0 and 1, got {keep}. 0.5 halves the earlier weights at every ticket")
    return [keep ** (num - 1), *((1 - keep) * keep ** (num - 1 - number) for number in range(1, num))]


@dataclass(frozen=True)
class Stack:
    """Several tickets side by side over the union of their connections. Nothing here is as large as a dense layer."""

    tickets: Sequence[Ticket]
    union: Topology
    values: Mapping[str, Float[Tensor, "t e"]]
    present: Mapping[str, Bool[Tensor, "t e"]]

    @classmethod
    def of(cls, tickets: Sequence[Ticket]) -> "Stack":
        """Lay tickets side by side. A connection that a ticket does not have is 0 there."""
        union = functools.reduce(lambda a, b: a | b, (ticket.topology for ticket in tickets))
        values, present = {}, {}
        for name, layer in union.items():
            values[name] = layer.indices.new_zeros(len(tickets), layer.count, dtype=torch.float64)
            present[name] = torch.zeros_like(values[name], dtype=torch.bool)
            for row, ticket in enumerate(tickets):
                positions = layer.position_of(ticket.topology[name].indices)
                # Double precision is needed for equal tickets to stay equal.
                values[name][row].index_copy_(0, positions, ticket.values[name].double())
                present[name][row].index_fill_(0, positions, True)
        return cls(tickets, union, values, present)

    def average(self, shares: Float[Tensor, " t"], average: str) -> dict[str, Float[Tensor, " e"]]:
        """Return the weighted average of each connection of the union."""
        return {name: self._average_of(name, shares, average) for name in self.union}

    def _average_of(self, name: str, shares: Tensor, average: str) -> Tensor:
        total = shares.sum() if average == "mean" else shares @ self.present[name].double()
        return (shares @ self.values[name]) / total


@dataclass(frozen=True)
class Budget:
    """How many connections may stay, and how they are ranked."""

    first: Topology
    count: int
    scope: str

    def check(self, union: Topology) -> None:
        """Raise ValueError where the union is too small for the budget, or the budget for the layers."""
        least = sum(layer.count > 0 for layer in union.values())
        if not least <= self.count <= union.count:
            raise ValueError(
                f"the result must have a connection per layer and at most those of the union, {least} to "
                f"{union.count}, got {self.count}. Choose another density"
            )

    def strongest(self, union: Topology, averages: Mapping[str, Tensor]) -> Topology:
        """Keep the connections with the averages of largest magnitude, exactly as many as the budget."""
        strength = {name: values.abs() for name, values in averages.items()}
        if self.scope == "layer":
            counts = share_out(self.count, {n: x.count for n, x in self.first.items()}, _counts_of(union))
            return _subset(union, {name: topk_indices(strength[name], count) for name, count in counts.items()})
        for scores in filter(torch.numel, strength.values()):
            scores[scores.argmax()] = math.inf  # no layer loses its last connection
        sizes = list(_counts_of(union).values())
        strongest = topk_indices(torch.cat(list(strength.values())), self.count)
        flags = torch.zeros(sum(sizes), dtype=torch.bool).index_fill_(0, strongest, True)
        parts = flags.split(sizes)
        return _subset(union, {name: part.nonzero().flatten() for name, part in zip(union, parts, strict=True)})


def _running_average(stack: Stack, shares: Tensor, average: str, budget: Budget) -> dict[str, Tensor]:
    """Average ticket after ticket and prune each time, so that a removed connection starts again from zero."""
    is_active = average == "active"
    presences = {name: x.double() if is_active else x.double().fill_(1.0) for name, x in stack.present.items()}
    running = {name: values[0] for name, values in stack.values.items()}
    mass = {name: shares[0] * presence[0] for name, presence in presences.items()}
    for number in range(1, len(shares)):
        for name, values in stack.values.items():
            new_mass = shares[number] * presences[name][number]
            total = mass[name] * running[name] + new_mass * values[number]
            mass[name] = mass[name] + new_mass
            running[name] = torch.where(mass[name] > 0, total / mass[name], 0.0)
        for name, layer in budget.strongest(stack.union, running).items():
            positions = stack.union[name].position_of(layer.indices)
            running[name] = _zero_outside(running[name], positions)
            mass[name] = _zero_outside(mass[name], positions) if is_active else mass[name]
    return running


def _zero_outside(values: Tensor, positions: Tensor) -> Tensor:
    return torch.zeros_like(values).index_copy(0, positions, values[positions])


def _select(values: Tensor, union: LayerTopology, layer: LayerTopology) -> Tensor:
    return values[union.position_of(layer.indices)]


def _subset(union: Topology, positions: Mapping[str, Tensor]) -> Topology:
    return Topology({name: LayerTopology(x.shape, x.indices[positions[name]]) for name, x in union.items()})


def _counts_of(topology: Topology) -> dict[str, int]:
    return {name: layer.count for name, layer in topology.items()}


def _pair_with_weights(tickets: Sequence[Ticket], weights: Sequence[float] | None) -> list[tuple[Ticket, float]]:
    """Pair tickets with weights, and leave out those of weight 0."""
    must_be("tickets", tickets, Iterable, "give a list of them, also of one")
    tickets = list(tickets)
    if not tickets:
        raise ValueError("superposing needs at least one ticket, got none. Collect some first")
    for ticket in tickets:
        must_be("a ticket", ticket, Ticket, "read it with read_ticket, or take Ticket.of(model, step=0)")
    check_same_layers(tickets)
    weights = [1.0] * len(tickets) if weights is None else weights
    must_be("weights", weights, Iterable, "give a list of one number per ticket, or None")
    weights = [float(plain_number("a weight", x.item() if isinstance(x, Tensor) else x)) for x in weights]
    if len(weights) != len(tickets):
        raise ValueError(
            f"there must be one weight per ticket, {len(tickets)}, got {len(weights)}. Add or leave out some"
        )
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(f"weights must be finite and not negative, one of them above 0, got {weights}. 1 is usual")
    return [(ticket, weight) for ticket, weight in zip(tickets, weights, strict=True) if weight]


def check_same_layers(tickets: Sequence[Ticket]) -> None:
    """Raise ValueError unless tickets are of networks with the same layers."""
    layouts = [
        {"connections": ticket.topology.shapes, **layout_of({**ticket.rest, **ticket.extra})} for ticket in tickets
    ]
    for layout in layouts[1:]:
        if layout != layouts[0]:
            name = next((name for name in layout | layouts[0] if layout.get(name) != layouts[0].get(name)), "")
            raise ValueError(
                f"tickets must be of networks with the same layers, got others, in {name}. Superpose like with like"
            )


def target_count(tickets: Sequence[Ticket], density: float | None) -> int:
    """Return how many connections a merge has. Raise ValueError where tickets differ in that and it is not given."""
    if density is not None:
        check_density(density)
        return round(density * tickets[0].topology.size)
    counts = {ticket.count for ticket in tickets}
    if len(counts) > 1:
        raise ValueError(
            f"tickets must have the same number of connections where no density is asked for, got {sorted(counts)}. "
            "Give density"
        )
    return counts.pop()


def _check_choices(**settings: tuple[str, tuple[str, ...]]) -> None:
    for name, (value, choices) in settings.items():
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}. Choose one of them")
