"""Tricks that help a sparse network to train, whatever its topology: ghosts, first values, labels. One file each.

A new trick is one new file in this package: it is found by itself, checked by the contract tests, and offered by the
pickers and the command line.
"""

from sparsekit.registry import discover, names
from sparsekit.tricks.base import (
    Ghosts,
    Given,
    Passing,
    Trick,
    begin,
    check_tricks,
    ghosts_of,
    loss_at,
    make_trick,
    resume,
    set_step,
)
from sparsekit.tricks.distillation import Distillation
from sparsekit.tricks.ghost_neurons import GhostNeurons, ReLUs, Soft, SoftReLU, find_relus
from sparsekit.tricks.labels import LabelSmoothing, spread_of

discover(__name__)

__all__ = [
    "Distillation",
    "GhostNeurons",
    "Ghosts",
    "Given",
    "LabelSmoothing",
    "Passing",
    "ReLUs",
    "Soft",
    "SoftReLU",
    "Trick",
    "begin",
    "check_tricks",
    "find_relus",
    "ghosts_of",
    "loss_at",
    "make_trick",
    "names",
    "resume",
    "set_step",
    "spread_of",
]
