"""Sup-tickets: several cheap tickets from one sparse training, superposed into one network of the same size.

After most of the training, short cycles follow. Each begins with one large rewiring, keeps its topology, lifts the
learning rate and brings it down again. Where it is lowest, a ticket is taken. Every training is a `run`, so a finished
one is read, and an interrupted one continues bit for bit. What comes before the cycles is trained once for all of them.
"""

from sparsekit.experiments.sup_tickets.base import Split, SupTickets, SupTicketsHistory, split_epochs
from sparsekit.experiments.sup_tickets.collect import ordinary_part, plan, run_sup_tickets
from sparsekit.experiments.sup_tickets.controls import run_controls
from sparsekit.experiments.sup_tickets.lab import Lab, Trial, count_votes
from sparsekit.experiments.sup_tickets.many import run_all_sup_tickets
from sparsekit.experiments.sup_tickets.mixtures import Mixtures, measure_mixtures
from sparsekit.experiments.sup_tickets.moments import cycle_moments
from sparsekit.experiments.sup_tickets.of_recipe import sup_tickets_of
from sparsekit.experiments.sup_tickets.report import (
    GrownMagnitudes,
    assess_superposition,
    grown_magnitudes,
    has_learned,
    rivals_of,
    superpositions,
)

__all__ = [
    "GrownMagnitudes",
    "Lab",
    "Mixtures",
    "Split",
    "SupTickets",
    "SupTicketsHistory",
    "Trial",
    "assess_superposition",
    "count_votes",
    "cycle_moments",
    "grown_magnitudes",
    "has_learned",
    "measure_mixtures",
    "ordinary_part",
    "plan",
    "rivals_of",
    "run_all_sup_tickets",
    "run_controls",
    "run_sup_tickets",
    "split_epochs",
    "sup_tickets_of",
    "superpositions",
]
