"""Evaluation says what outputs are worth. It has losses of batches and of their parts, accuracy, and an adaptor."""

from sparsekit.evaluation.adaptor import Adaptor
from sparsekit.evaluation.measuring import Evaluation, evaluate, predictions, refresh_batch_norm

__all__ = ["Adaptor", "Evaluation", "evaluate", "predictions", "refresh_batch_norm"]
