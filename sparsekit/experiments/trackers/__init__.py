"""Trackers: `run(..., callbacks=[TensorBoard("logs")])` hands what it measures to the tool that you look at.

A callback is any function of an experiment and its history. `run` calls it after every checkpoint, so what it has told
is never taken back, and a callback that raises an error loses nothing of the run.
"""

from sparsekit.experiments.trackers.base import News, Tracker, is_finished, news_since, topology_rows
from sparsekit.experiments.trackers.csv import CSV
from sparsekit.experiments.trackers.mlflow import MLflow
from sparsekit.experiments.trackers.tensorboard import TensorBoard
from sparsekit.experiments.trackers.wandb import WandB

__all__ = ["CSV", "MLflow", "News", "TensorBoard", "Tracker", "WandB", "is_finished", "news_since", "topology_rows"]
