"""Tricks that help a sparse network to train, whatever its topology: ghosts, first values, labels. One file each.

A new trick is one new file in this package: it is found by itself, checked by the contract tests, and offered by the
pickers and the command line.
"""

from sparsekit.tricks.base import (
    Ghosts,
    TemporaryTrick,
    Trick,
    TrickContext,
    begin,
    check_tricks,
    ghosts_of,
    loss_at,
    make_trick,
    resume,
    set_step,
)
from sparsekit.tricks.distillation import Distillation
from sparsekit.tricks.fan_in import FanInInit
from sparsekit.tricks.ghost_neurons import GhostNeurons, ReLUs, Soft, SoftReLU, find_relus
from sparsekit.tricks.ghost_skips import GhostSkips, Skip
from sparsekit.tricks.labels import LabelSmoothing, spread_of
from sparsekit.tricks.rescaled_init import RescaledInit
from sparsekit.tricks.skip_targets import SkipTargets, Span, find_spans
from sparsekit.utils.registry import discover, names

discover(__name__)

__all__ = [
    "Distillation",
    "FanInInit",
    "GhostNeurons",
    "GhostSkips",
    "Ghosts",
    "LabelSmoothing",
    "ReLUs",
    "RescaledInit",
    "Skip",
    "SkipTargets",
    "Soft",
    "SoftReLU",
    "Span",
    "TemporaryTrick",
    "Trick",
    "TrickContext",
    "begin",
    "check_tricks",
    "find_relus",
    "find_spans",
    "ghosts_of",
    "loss_at",
    "make_trick",
    "names",
    "resume",
    "set_step",
    "spread_of",
]
