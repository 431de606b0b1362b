"""Scores of weights, before training or after it: which of them deserve to exist. Each method is one file.

A new score is one new file in this package. The registry finds it, the contract tests check it, and the pickers, the
command line, `compare` and the figures show it.
"""

from typing import Any

from sparsekit.scores.base import Score, prune, prune_each, score_whole
from sparsekit.scores.grasp import GraSP
from sparsekit.scores.lamp import LAMP
from sparsekit.scores.magnitude import Magnitude
from sparsekit.scores.random import Random
from sparsekit.scores.ria import RIA
from sparsekit.scores.snip import FORCE, SNIP, IterativeSNIP
from sparsekit.scores.sparsegpt import sparsegpt
from sparsekit.scores.synflow import SynFlow
from sparsekit.scores.taylor import Taylor
from sparsekit.scores.view import ScoreView
from sparsekit.scores.wanda import Wanda
from sparsekit.utils.registry import discover, get, names

discover(__name__)


def make_score(name: str, **settings: Any) -> Score:
    """Return a named score.

    Raises:
        ValueError: if there is no such score. The message lists the known ones.
        TypeError: if it has no such setting.

    Example:
        >>> make_score("snip").rounds, make_score("synflow").rounds
        (1, 100)
    """
    return get("score", name)(**settings)


__all__ = [
    "FORCE",
    "LAMP",
    "RIA",
    "SNIP",
    "GraSP",
    "IterativeSNIP",
    "Magnitude",
    "Random",
    "Score",
    "ScoreView",
    "SynFlow",
    "Taylor",
    "Wanda",
    "make_score",
    "names",
    "prune",
    "prune_each",
    "score_whole",
    "sparsegpt",
]
