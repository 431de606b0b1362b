"""Superposing: several tickets become one network of the size of each.

Connections are averaged over the union of all tickets, and only the strongest of the averages stay. A connection that a
ticket does not have counts as zero there, so a connection of k among t tickets is weakened to k / t before the ranking:
a vote by frequency first, by strength second. With `average="active"` it is averaged over the tickets that have it.
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparsekit.tickets.rest import averaged, layout_of
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
    """Average tickets and keep the strongest connections: as many as one ticket has.

    Biases, batch norm and dense layers are averaged too, real and complex numbers alike. Counts are those of the last
    ticket; other whole numbers, truth values and what modules keep beside tensors must be the same in all. The
    batch-norm statistics of an average describe no network: measure it with
    `evaluate(..., refresh_with=training_batches)` or call `refresh_batch_norm` first. The order of the tickets matters
    for `prune="each"` only.

    Args:
        tickets: of networks with the same layers, in the order of their training.
        density: of the result; None means as many connections as each ticket has.
        weights: of the tickets in the average, not negative; None means equal ones. See `ema_weights`.
        average: `"mean"` counts a missing connection as 0; `"active"` averages each connection over the tickets that
            have it.
        prune: `"once"` at the end; `"each"` after every ticket, as in the authors' code, where a connection that was
            removed once starts again from zero; `"never"` keeps the union, which is larger than the budget.
        scope: rank all connections against each other (`"global"`), or within each layer, whose share stays that of
            the first ticket (`"layer"`). A layer never loses its last connection.

    Returns:
        A ticket with exactly the asked number of connections, all of them in the union of the tickets.

    Raises:
        ValueError: if there is no ticket, their layers differ, something in them has no average and differs, a setting
            is unknown, or the budget does not fit.

    Source: Yin et al. (2022), arXiv:2205.15322; pruning once is the figure of the authors' repository, pruning each
        time is their code.

    Example:
        >>> a, b = (
        ...     Ticket(
        ...         topology=Topology({"0": LayerTopology((1, 2), torch.tensor([place]))}),
        ...         values={"0": torch.tensor([value])},
        ...         rest={},
        ...         step=0,
        ...     )
        ...     for place, value in ((0, 3.0), (1, 2.0))
        ... )
        >>> superpose([a, b, b]).state()
        {'0.indices': tensor([1]), '0.packed_weight': tensor([1.3333])}
    """
    _check_words(average=(average, AVERAGES), prune=(prune, PRUNES), scope=(scope, SCOPES))
    chosen = _weighed(tickets, weights)
    stack, shares = Stack.of([ticket for ticket, _ in chosen]), [weight for _, weight in chosen]
    return superpose_stack(stack, shares, density=density, average=average, prune=prune, scope=scope)


def superpose_stack(
    stack: "Stack", weights: Sequence[float], *, density: float | None, average: str, prune: str, scope: str
) -> Ticket:
    """Superpose tickets that lie side by side already; what `superpose` does, many times over, is quick this way.

    Args:
        stack: the tickets.
        weights: one per ticket, above 0.
        density, average, prune, scope: as for `superpose`.

    Raises:
        ValueError: if the budget does not fit, or something that has no average differs.
    """
    first, last = stack.tickets[0], stack.tickets[-1]
    shares = torch.tensor(weights, dtype=torch.float64)
    budget = Budget(first.topology, _count(stack.tickets, density), scope)
    rest, extra = (averaged([getattr(one, part) for one in stack.tickets], shares) for part in ("rest", "extra"))
    if not first.topology:
        return replace(last, rest=rest, extra=extra, accuracy=math.nan)
    if prune != "never":
        budget.check(stack.union)
    averages = _running(stack, shares, average, budget) if prune == "each" else stack.average(shares, average)
    topology = stack.union if prune == "never" else budget.strongest(stack.union, averages)
    values = {name: _picked(averages[name], stack.union[name], layer) for name, layer in topology.items()}
    return Ticket(
        topology=topology,
        values={name: x.to(first.values[name].dtype) for name, x in values.items()},
        rest=rest,
        extra=extra,
        step=last.step,
    )


def ema_weights(num: int, keep: float = 0.5) -> list[float]:
    """Return the weights of an exponential average: each further ticket leaves the share `keep` to those before it.

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
        raise ValueError(f"keep must lie between 0 and 1, got {keep}; 0.5 halves what was before at every ticket")
    return [keep ** (num - 1), *((1 - keep) * keep ** (num - 1 - place) for place in range(1, num))]


@dataclass(frozen=True)
class Stack:
    """Several tickets side by side over the union of their connections; nothing here is as large as a dense layer."""

    tickets: Sequence[Ticket]
    union: Topology
    values: Mapping[str, Float[Tensor, "t e"]]
    present: Mapping[str, Bool[Tensor, "t e"]]

    @classmethod
    def of(cls, tickets: Sequence[Ticket]) -> "Stack":
        """Lay tickets side by side; a connection that a ticket does not have is 0 there."""
        union = functools.reduce(lambda a, b: a | b, (ticket.topology for ticket in tickets))
        places = {
            name: torch.stack([ticket.topology[name].position_of(layer.indices) for ticket in tickets])
            for name, layer in union.items()
        }
        values = {
            name: torch.stack([_at(t.values[name], at) for t, at in zip(tickets, places[name], strict=True)])
            for name in union
        }
        return cls(tickets, union, values, {name: at >= 0 for name, at in places.items()})

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
                f"{union.count}, got {self.count}; choose another density"
            )

    def strongest(self, union: Topology, averages: Mapping[str, Tensor]) -> Topology:
        """Keep the connections with the largest absolute averages, exactly as many as there may be."""
        strength = {name: values.abs() for name, values in averages.items()}
        if self.scope == "layer":
            counts = share_out(self.count, {n: x.count for n, x in self.first.items()}, _counts_of(union))
            return _kept(union, {name: topk_indices(strength[name], count) for name, count in counts.items()})
        for scores in filter(torch.numel, strength.values()):
            scores[scores.argmax()] = math.inf  # no layer loses its last connection
        sizes = list(_counts_of(union).values())
        chosen = topk_indices(torch.cat(list(strength.values())), self.count)
        flags = torch.zeros(sum(sizes), dtype=torch.bool).index_fill_(0, chosen, True)
        parts = flags.split(sizes)
        return _kept(union, {name: part.nonzero().flatten() for name, part in zip(union, parts, strict=True)})


def _running(stack: Stack, shares: Tensor, average: str, budget: Budget) -> dict[str, Tensor]:
    """Average ticket after ticket and prune each time: what was removed starts again from zero."""
    voices = {name: x.double() if average == "active" else x.double().fill_(1.0) for name, x in stack.present.items()}
    running = {name: values[0] for name, values in stack.values.items()}
    mass = {name: shares[0] * voice[0] for name, voice in voices.items()}
    for number in range(1, len(shares)):
        for name, values in stack.values.items():
            joins = shares[number] * voices[name][number]
            summed = mass[name] * running[name] + joins * values[number]
            mass[name] = mass[name] + joins
            running[name] = torch.where(mass[name] > 0, summed / mass[name], 0.0)
        for name, layer in budget.strongest(stack.union, running).items():
            stays = stack.union[name].position_of(layer.indices)
            running[name] = _only(running[name], stays)
            mass[name] = _only(mass[name], stays) if average == "active" else mass[name]
    return running


def _only(values: Tensor, places: Tensor) -> Tensor:
    return torch.zeros_like(values).index_copy(0, places, values[places])


def _at(values: Tensor, places: Tensor) -> Tensor:
    """Return the values at some places, 0 at place -1; in double precision, or equal tickets would not stay equal."""
    if not values.numel():
        return torch.zeros(places.shape, dtype=torch.float64)
    return torch.where(places >= 0, values[places.clamp(min=0)].double(), 0.0)


def _picked(values: Tensor, union: LayerTopology, layer: LayerTopology) -> Tensor:
    return values[union.position_of(layer.indices)]


def _kept(union: Topology, places: Mapping[str, Tensor]) -> Topology:
    return Topology({name: LayerTopology(x.shape, x.indices[places[name]]) for name, x in union.items()})


def _counts_of(topology: Topology) -> dict[str, int]:
    return {name: layer.count for name, layer in topology.items()}


def _weighed(tickets: Sequence[Ticket], weights: Sequence[float] | None) -> list[tuple[Ticket, float]]:
    """Pair tickets with weights, and leave out those of weight 0."""
    must_be("tickets", tickets, Iterable, "give a list of them, also of one")
    tickets = list(tickets)
    if not tickets:
        raise ValueError("superposing needs at least one ticket, got none; collect some first")
    for ticket in tickets:
        must_be("a ticket", ticket, Ticket, "read it with read_ticket, or take Ticket.of(model, step=0)")
    _check_alike(tickets)
    weights = [1.0] * len(tickets) if weights is None else weights
    must_be("weights", weights, Iterable, "give a list of one number per ticket, or None")
    weights = [float(plain_number("a weight", x.item() if isinstance(x, Tensor) else x)) for x in weights]
    if len(weights) != len(tickets):
        raise ValueError(
            f"there must be one weight per ticket, {len(tickets)}, got {len(weights)}; add or leave out some"
        )
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(f"weights must be finite and not negative, one of them above 0, got {weights}; 1 is usual")
    return [(ticket, weight) for ticket, weight in zip(tickets, weights, strict=True) if weight]


def _check_alike(tickets: Sequence[Ticket]) -> None:
    layouts = [
        {"connections": ticket.topology.shapes, **layout_of({**ticket.rest, **ticket.extra})} for ticket in tickets
    ]
    for layout in layouts[1:]:
        if layout != layouts[0]:
            odd = next((name for name in layout | layouts[0] if layout.get(name) != layouts[0].get(name)), "")
            raise ValueError(
                f"tickets must be of networks with the same layers, got others, in {odd}; superpose like with like"
            )


def _count(tickets: Sequence[Ticket], density: float | None) -> int:
    if density is not None:
        check_density(density)
        return round(density * tickets[0].topology.size)
    counts = {ticket.count for ticket in tickets}
    if len(counts) > 1:
        raise ValueError(
            f"tickets must have the same number of connections where no density is asked for, got {sorted(counts)}; "
            "give density"
        )
    return counts.pop()


def _check_words(**words: tuple[str, tuple[str, ...]]) -> None:
    for name, (given, known) in words.items():
        if given not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {given!r}; choose one of them")
