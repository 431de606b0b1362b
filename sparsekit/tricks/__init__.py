"""Tricks help a sparse network to train, whatever its topology: they add ghosts, rescale weights, or soften labels.

A new trick is one new file in this package. The registry finds it, the contract tests check it, and the pickers and the
command line offer it.
"""

from sparsekit.tricks.base import (
    GhostTrick,
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
from sparsekit.tricks.ghost_neurons import GhostNeurons, ReLUs, Soft, SoftReLU, find_relus
from sparsekit.tricks.ghost_skips import GhostSkips, Skip
from sparsekit.tricks.labels import LabelSmoothing, spread_of
from sparsekit.tricks.rescaled_init import RescaledInit
from sparsekit.tricks.sign_in import SignIn
from sparsekit.tricks.skip_targets import SkipTarget, SkipTargets, find_skip_targets
from sparsekit.utils.registry import discover, names

discover(__name__)

__all__ = [
    "Distillation",
    "GhostNeurons",
    "GhostSkips",
    "GhostTrick",
    "LabelSmoothing",
    "ReLUs",
    "RescaledInit",
    "SignIn",
    "Skip",
    "SkipTarget",
    "SkipTargets",
    "Soft",
    "SoftReLU",
    "TemporaryTrick",
    "Trick",
    "TrickContext",
    "begin",
    "check_tricks",
    "find_relus",
    "find_skip_targets",
    "ghosts_of",
    "loss_at",
    "make_trick",
    "names",
    "resume",
    "set_step",
    "spread_of",
]
