"""Cheap tickets of the small digits network, in memory: three seeds, an ordinary part and two cycles."""

import statistics
from collections.abc import Sequence
from functools import cache

from sparsekit.experiments.course.arena import digits
from sparsekit.experiments.course.together import accuracy_percent, epochs_together, initial_models
from sparsekit.experiments.recipes import digits_small
from sparsekit.experiments.sup_tickets import SupTickets, plan
from sparsekit.models import build
from sparsekit.tickets import Ticket, superpose

SEEDS = (0, 1, 2)
EPOCHS, CYCLE_EPOCHS = 46, 8  # 30 ordinary ones and two cycles
LOW = 0.01  # learning rate at both ends of a cycle


@cache
def tickets_of(high: float, explore: float) -> tuple[tuple[Ticket, ...], ...]:
    """Return the three tickets of each seed.

    Args:
        high: learning rate in the middle of a cycle.
        explore: share of the connections that a cycle exchanges.
    """
    data = digits()
    planned = [plan(_collection(seed, high, explore), len(data.train)) for seed in SEEDS]
    experiments, ends = [experiment for experiment, _ in planned], planned[0][1]
    models = initial_models(experiments, data)
    moments = []
    for step in epochs_together(experiments, models, data):
        if step in ends:
            shares = [accuracy_percent(model.eval(), data) / 100 for model in models]
            moments.append([Ticket.of(m, step=step, accuracy=share) for m, share in zip(models, shares, strict=True)])
    return tuple(zip(*moments, strict=True))


def accuracy_of(ticket: Ticket) -> float:
    """Return the percentage of the test digits that a ticket, or any average of tickets, reads."""
    plain = build("mlp", input_shape=digits().shape, num_classes=10, hidden=(48, 48))
    return accuracy_percent(ticket.model_like(plain).eval(), digits())


def mean_accuracy(tickets: Sequence[Ticket]) -> float:
    """Return the mean of the percentages that tickets had when they were taken."""
    return 100 * statistics.fmean(ticket.accuracy for ticket in tickets)


def own_survivors(tickets: Sequence[Ticket], mixed: Ticket) -> float:
    """Return which share of the connections that only the last ticket has is in a superposition."""
    own = tickets[-1].topology
    for other in tickets[:-1]:
        own = own - other.topology
    return (own & mixed.topology).count / own.count


def mixed_with(tickets: Sequence[Ticket], weight: float) -> Ticket:
    """Return the superposition in which the last ticket has a weight, and the others share the rest."""
    shares = [*[(1 - weight) / (len(tickets) - 1)] * (len(tickets) - 1), weight]
    heard = [(ticket, share) for ticket, share in zip(tickets, shares, strict=True) if share > 0]
    return superpose([ticket for ticket, _ in heard], weights=[share for _, share in heard])


def _collection(seed: int, high: float, explore: float) -> SupTickets:
    experiment = digits_small(rule="rigl", density=0.05, epochs=EPOCHS, seed=seed)
    rate = 2 * CYCLE_EPOCHS / EPOCHS
    return SupTickets(
        experiment=experiment, cycle_rate=rate, cycle_epochs=CYCLE_EPOCHS, low=LOW, high=high, explore=explore
    )
