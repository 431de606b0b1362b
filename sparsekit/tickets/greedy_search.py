"""Greedy soups and greedy interpolation choose by a measure what to superpose.

Measure on held-out examples, never on the test data.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from sparsekit.tickets.superpose import superpose
from sparsekit.tickets.ticket import Ticket

Measure = Callable[[Ticket], float]


class GreedyResult(NamedTuple):
    """The result of a greedy search.

    Args:
        ticket: the best superposition on the way.
        value: its measure.
        weights: how much of each ticket is in it, in their order, with sum 1.
    """

    ticket: Ticket
    value: float
    weights: list[float]


def greedy_soup(
    tickets: Sequence[Ticket],
    measure: Measure,
    *,
    density: float | None = None,
    average: str = "mean",
    prune: str = "once",
    scope: str = "global",
) -> GreedyResult:
    """Begin with the best ticket, and add each further one, best first, if the superposition gets no worse by it.

    Args:
        tickets: of networks with the same layers.
        measure: `ticket -> number`, higher is better, such as the accuracy on held-out examples.
        density, average, prune, scope: as for `superpose`.

    Raises:
        ValueError: if there is no ticket, or what `superpose` refuses.

    Source: algorithm 1 of Wortsman et al. (2022), arXiv:2203.05482, with pruning to the budget after each average.
    """
    combine = partial(superpose, density=density, average=average, prune=prune, scope=scope)
    order, values = _best_first(tickets, measure)
    chosen, ticket, value = order[:1], tickets[order[0]], values[order[0]]
    for number in order[1:]:
        candidate = combine([tickets[i] for i in sorted([*chosen, number])])
        if (new_value := measure(candidate)) >= value:
            chosen, ticket, value = [*chosen, number], candidate, new_value
    return GreedyResult(ticket, value, [(i in chosen) / len(chosen) for i in range(len(tickets))])


def greedy_interpolation(
    tickets: Sequence[Ticket],
    measure: Measure,
    *,
    rates: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    density: float | None = None,
    average: str = "mean",
    prune: str = "once",
    scope: str = "global",
) -> GreedyResult:
    """Begin with the best ticket, and mix in each further one, best first, at its best rate, if that is no worse.

    Args:
        tickets: of networks with the same layers.
        measure: `ticket -> number`, higher is better, such as the accuracy on held-out examples.
        rates: shares of the further ticket that are tried, each between 0 and 1. Ours are a tenth to nine tenths.
        density, average, prune, scope: as for `superpose`.

    Raises:
        ValueError: if there is no ticket, a rate is out of range, or what `superpose` refuses.

    Source: the idea of Yin et al. (2022), arXiv:2208.10842 (Lottery Pools), with pruning to the budget after each mix.
    """
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise ValueError(f"rates must be numbers between 0 and 1, at least one, got {list(rates)}. (0.5,) tries halves")
    combine = partial(superpose, density=density, average=average, prune=prune, scope=scope)
    order, values = _best_first(tickets, measure)
    ticket, value = tickets[order[0]], values[order[0]]
    weights = [float(i == order[0]) for i in range(len(tickets))]
    for number in order[1:]:
        mixes = {rate: combine([ticket, tickets[number]], weights=[1 - rate, rate]) for rate in rates}
        measured = {rate: measure(mix) for rate, mix in mixes.items()}
        best = max(measured, key=measured.__getitem__)
        if measured[best] >= value:
            ticket, value = mixes[best], measured[best]
            weights = [(1 - best) * weight + best * (i == number) for i, weight in enumerate(weights)]
    return GreedyResult(ticket, value, weights)


def _best_first(tickets: Sequence[Ticket], measure: Measure) -> tuple[list[int], list[float]]:
    """Return the numbers of the tickets from best to worst, earlier ones first among equals, and their measures."""
    if not tickets:
        raise ValueError("a greedy search needs at least one ticket, got none. Collect some first")
    values = [measure(ticket) for ticket in tickets]
    return sorted(range(len(tickets)), key=lambda i: -values[i]), values
