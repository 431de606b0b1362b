"""Greedy soups and greedy interpolation choose by a measure what to superpose.

Measure on held-out examples, never on the test data.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import nn

from sparsekit.evaluation.measuring import Batches, evaluate
from sparsekit.tickets.superpose import superpose
from sparsekit.tickets.ticket import Ticket

Measure = Callable[[Ticket], float]
RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # shares of a further ticket that are tried


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
    rates: Sequence[float] = RATES,
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
    _check_rates(rates)
    combine = partial(superpose, density=density, average=average, prune=prune, scope=scope)
    order, values = _best_first(tickets, measure)
    return _mixed_in(tickets, order, values[order[0]], measure, rates, combine)


def lottery_pool(
    tickets: Sequence[Ticket], measure: Measure, *, level: int = -1, rates: Sequence[float] = RATES
) -> GreedyResult:
    """Begin with the ticket of a level, and mix in those of its neighbours, the nearest first, if that is no worse.

    Each mixture is pruned to the density of the level, so denser neighbours help without making the network larger. Of
    two that are equally near, the denser one comes first.

    Args:
        tickets: of the levels of a lottery, in their order, as `LotteryHistory.tickets` returns them.
        measure: `ticket -> number`, higher is better. Give one of held-out examples, for example `accuracy_on`. The
            authors' script for CIFAR chooses on the test data, which makes the result look better than it is.
        level: position in `tickets` of the one to begin with. Negative ones count from the end, as in lists.
        rates: shares of the neighbour that are tried, each between 0 and 1.

    Raises:
        ValueError: if there is no such level, a rate is out of range, or what `superpose` refuses.

    Source: Yin et al. (2023), Lottery Pools, arXiv:2208.10842.
    """
    _check_rates(rates)
    if not -len(tickets) <= level < len(tickets):
        raise ValueError(f"level must be a position in {len(tickets)} tickets, got {level}. -1 is the sparsest")
    first = level % len(tickets)
    order = sorted(range(len(tickets)), key=lambda number: abs(number - first))
    combine = partial(superpose, density=tickets[first].density)
    return _mixed_in(tickets, order, measure(tickets[first]), measure, rates, combine)


def accuracy_on(model: nn.Module, batches: Batches, *, refresh_with: Batches | None = None) -> Measure:
    """Return the measure of a search that is a ticket's accuracy on some batches, which must not be test data.

    Args:
        model: with the layers of the tickets.
        batches: pairs of inputs and labels that no ticket was trained on. They are walked through for every ticket.
        refresh_with: training batches, with which the batch-norm statistics of each ticket are computed anew.

    Example:
        >>> soup = greedy_soup(tickets, accuracy_on(model, held_out))  # doctest: +SKIP
    """
    return lambda ticket: evaluate(ticket.model_like(model), batches, refresh_with=refresh_with).accuracy


def _mixed_in(
    tickets: Sequence[Ticket],
    order: Sequence[int],
    value: float,
    measure: Measure,
    rates: Sequence[float],
    combine: Callable[..., Ticket],
) -> GreedyResult:
    """Begin with the first ticket of an order, of this value, and mix in each further one if that is no worse."""
    ticket = tickets[order[0]]
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


def _check_rates(rates: Sequence[float]) -> None:
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise ValueError(f"rates must be numbers between 0 and 1, at least one, got {list(rates)}. (0.5,) tries halves")
