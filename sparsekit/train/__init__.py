"""Training: the loop that you can see, `attach` for loops of your own, and checkpoints."""

from sparsekit.train.attach import Attachment, attach
from sparsekit.train.checkpoint import CheckpointError, load_checkpoint, restore, save_checkpoint
from sparsekit.train.fit import fit
from sparsekit.train.history import History, Row
from sparsekit.train.loop import StepStats, backward, set_learning_rate, train_step, training
from sparsekit.train.step_counts import own_step_counts

__all__ = [
    "Attachment",
    "CheckpointError",
    "History",
    "Row",
    "StepStats",
    "attach",
    "backward",
    "fit",
    "load_checkpoint",
    "own_step_counts",
    "restore",
    "save_checkpoint",
    "set_learning_rate",
    "train_step",
    "training",
]
