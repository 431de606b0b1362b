"""Lottery tickets: train, remove the weights of smallest magnitude, go back in time, and train the rest again.

Level 0 trains the dense network. Each level after it begins where the one before ended. Of its connections the share
`prune` with the smallest magnitudes is removed, in one ranking over all layers, and the rest trains again. Every
training is a `run` with a folder of its own. So a finished one is read, and an interrupted one continues bit for bit.
"""

from sparsekit.experiments.lottery.base import Lottery, LotteryHistory
from sparsekit.experiments.lottery.controls import CONTROLS, check_control, run_control
from sparsekit.experiments.lottery.levels import run_lottery
from sparsekit.experiments.lottery.soups import Soup, run_soups

__all__ = ["CONTROLS", "Lottery", "LotteryHistory", "Soup", "check_control", "run_control", "run_lottery", "run_soups"]
