"""Lottery tickets: train, remove the smallest weights, go back in time, and train again what is left.

Level 0 trains the dense network. Each level after it begins where the one before ended: of its connections the share
`prune` with the smallest absolute values is removed, in one ranking over all layers, and the rest trains again. Every
training is a `run` with a folder of its own: what is finished is read, what was interrupted goes on bit for bit.
"""

from sparsekit.experiments.lottery.base import Lottery, LotteryHistory
from sparsekit.experiments.lottery.controls import CONTROLS, check_control, run_control
from sparsekit.experiments.lottery.levels import run_lottery

__all__ = ["CONTROLS", "Lottery", "LotteryHistory", "check_control", "run_control", "run_lottery"]
