"""What outputs are worth: losses of whole batches and of parts of them, accuracy, and odd batches made pairs."""

from sparsekit.evaluation.adaptor import Adaptor
from sparsekit.evaluation.measuring import Evaluation, evaluate, predictions, refresh_batch_norm

__all__ = ["Adaptor", "Evaluation", "evaluate", "predictions", "refresh_batch_norm"]
