"""Losses know what their mean is over, so that the losses of several batches, or of parts of one, become one.

A mean loss is `sum_i w_i l_i / sum_i w_i`. Padding and void pixels have the weight 0, and class weights are weights. So
a batch counts by `W = sum_i w_i` and not by its samples, and the loss of all batches together is `sum_b W_b L_b / W`.
A loss may say what it knows by two attributes: `batch_weight`, a function of the labels, and `ignore_index`.
"""

from sparsekit.evaluation.losses.known import LossFn, Scaled, Sum, batch_weight, ignore_index_of, like, loss_of, torchs
from sparsekit.evaluation.losses.labels import class_scores, num_correct
from sparsekit.evaluation.losses.mean import MeanLoss
from sparsekit.evaluation.losses.parts import losses_of_parts, shares

__all__ = [
    "LossFn",
    "MeanLoss",
    "Scaled",
    "Sum",
    "batch_weight",
    "class_scores",
    "ignore_index_of",
    "like",
    "loss_of",
    "losses_of_parts",
    "num_correct",
    "shares",
    "torchs",
]
