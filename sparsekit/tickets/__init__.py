"""Tickets are networks as values in small files, and several of them can be superposed in one of the same size."""

from sparsekit.tickets.book import TicketBook
from sparsekit.tickets.greedy_search import GreedyResult, accuracy_on, greedy_interpolation, greedy_soup, lottery_pool
from sparsekit.tickets.merging import dare, ties
from sparsekit.tickets.rebasin import rebasin
from sparsekit.tickets.superpose import ema_weights, superpose
from sparsekit.tickets.ticket import Ticket, read_ticket, write_ticket

__all__ = [
    "GreedyResult",
    "Ticket",
    "TicketBook",
    "accuracy_on",
    "dare",
    "ema_weights",
    "greedy_interpolation",
    "greedy_soup",
    "lottery_pool",
    "read_ticket",
    "rebasin",
    "superpose",
    "ties",
    "write_ticket",
]
