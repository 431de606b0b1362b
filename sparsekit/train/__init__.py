"""Training: the visible loop, the adaptor for loops of your own, and experiments that survive interruption."""

from sparsekit.train.attach import Attachment, attach
from sparsekit.train.checkpoint import CheckpointError, load_checkpoint, restore, save_checkpoint
from sparsekit.train.experiment import Experiment, build_model, build_optimizer
from sparsekit.train.fit import fit
from sparsekit.train.history import History, Row
from sparsekit.train.loop import StepStats, backward, set_learning_rate, train_step, training
from sparsekit.train.record import read_experiment, read_run
from sparsekit.train.run import load_model, run
from sparsekit.train.start import load_start, save_start
from sparsekit.train.step_counts import own_step_counts

__all__ = [
    "Attachment",
    "CheckpointError",
    "Experiment",
    "History",
    "Row",
    "StepStats",
    "attach",
    "backward",
    "build_model",
    "build_optimizer",
    "fit",
    "load_checkpoint",
    "load_model",
    "load_start",
    "own_step_counts",
    "read_experiment",
    "read_run",
    "restore",
    "run",
    "save_checkpoint",
    "save_start",
    "set_learning_rate",
    "train_step",
    "training",
]
