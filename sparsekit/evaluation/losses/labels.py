"""Which labels count, and how many of them are predicted correctly, which makes an accuracy."""

import math
from typing import Any

import torch
from torch import Tensor

from sparsekit.evaluation.adaptor import size_of
from sparsekit.evaluation.losses.known import CLASSIFYING, ignore_index_of, torchs


def class_scores(outputs: Any, labels: Any, loss_fn: Any = None) -> tuple[Tensor, Tensor] | None:
    """Return the scores with the classes last, and which labels count, or None if outputs are no scores of classes.

    Scores are `(samples, classes, ...)` as torch's losses take them, or `(samples, ..., classes)` as transformers give
    them. Labels that are no class do not count, nor does the one that the loss ignores.

    Args:
        outputs: what a model returns.
        labels: integers, one for each row of scores.
        loss_fn: the loss of the training.

    Example:
        >>> class_scores(torch.zeros(3, 2), torch.tensor([0, 1, -100]))[1].tolist()
        [True, True, False]
    """
    axis = _axis_of_classes(outputs, labels, loss_fn)
    if axis is None or outputs.shape[axis] < 2:
        return None
    classes, ignored = labels.long(), ignore_index_of(loss_fn)  # -100 is no number of a byte
    counts = (classes >= 0) & (classes < outputs.shape[axis])
    if ignored is None and len(others := classes[~counts]) and others.min() != others.max():
        return None  # since padding has one number, these are ages, say, and no classes
    return outputs.movedim(axis, -1), counts if ignored is None else counts & (classes != ignored)


def num_correct(outputs: Any, labels: Any, loss_fn: Any = None) -> tuple[float, int]:
    """Return how many labels are predicted correctly (theirs is the largest output), and how many count.

    Samples have one label each, or one for every pixel or token. Where outputs are no scores of classes, the first
    number is NaN, and the second is the number of samples.

    Args:
        outputs: what a model returns.
        labels: what it should have returned.
        loss_fn: the loss of the training, which says what it ignores.

    Example:
        >>> num_correct(torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]]), torch.tensor([1, 1, -100]))
        (1.0, 2)
    """
    if (scored := class_scores(outputs, labels, loss_fn)) is None:
        return math.nan, size_of(labels, outputs)
    scores, counts = scored
    hits, num_labels = torch.stack([((scores.argmax(-1) == labels) & counts).sum(), counts.sum()]).tolist()
    return float(hits), num_labels


def _axis_of_classes(outputs: Any, labels: Any, loss_fn: Any) -> int | None:
    if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor)) or outputs.dim() < 2:
        return None
    if not outputs.is_floating_point() or labels.is_floating_point() or outputs.dim() != labels.dim() + 1:
        return None
    second = (*outputs.shape[:1], *outputs.shape[2:]) == labels.shape
    last = outputs.shape[:-1] == labels.shape
    if second and (outputs.dim() == 2 or not last or torchs(loss_fn)[0] in CLASSIFYING):
        return 1
    return -1 if last and not second else None  # with as many classes as tokens nobody can tell which is which
