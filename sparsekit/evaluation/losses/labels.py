"""Which labels count, and how many of them are met: what an accuracy is."""

import math
from typing import Any

import torch
from torch import Tensor

from sparsekit.evaluation.adaptor import size_of
from sparsekit.evaluation.losses.known import CLASSIFYING, ignore_index_of, torchs


def class_scores(outputs: Any, labels: Any, loss_fn: Any = None) -> tuple[Tensor, Tensor] | None:
    """Return the scores with the classes last, and which labels count; None where outputs are no scores of classes.

    Scores are `(samples, classes, ...)` as torch's losses take them, or `(samples, ..., classes)` as transformers give
    them. Labels that are no class do not count, nor does the one that the loss passes over.

    Args:
        outputs: of a model.
        labels: whole numbers, one for each row of scores.
        loss_fn: the loss that they are trained by.

    Example:
        >>> class_scores(torch.zeros(3, 2), torch.tensor([0, 1, -100]))[1].tolist()
        [True, True, False]
    """
    axis = _axis_of_classes(outputs, labels, loss_fn)
    if axis is None or outputs.shape[axis] < 2:
        return None
    whole, ignored = labels.long(), ignore_index_of(loss_fn)  # -100 is no number of a byte
    counts = (whole >= 0) & (whole < outputs.shape[axis])
    if ignored is None and len(others := whole[~counts]) and others.min() != others.max():
        return None  # padding has one number: these are ages, say, and no classes
    return outputs.movedim(axis, -1), counts if ignored is None else counts & (whole != ignored)


def num_correct(outputs: Any, labels: Any, loss_fn: Any = None) -> tuple[float, int]:
    """Return how many labels are met (the largest output is theirs), and how many count.

    Samples have one label each, or one for every pixel or token. Where outputs are no scores of classes the first
    number is NaN, and the second that of the samples.

    Args:
        outputs: of a model.
        labels: what it should have said.
        loss_fn: the loss that they are trained by, which says what it passes over.

    Example:
        >>> num_correct(torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]]), torch.tensor([1, 1, -100]))
        (1.0, 2)
    """
    if (found := class_scores(outputs, labels, loss_fn)) is None:
        return math.nan, size_of(labels, outputs)
    scores, counts = found
    met, counted = torch.stack([((scores.argmax(-1) == labels) & counts).sum(), counts.sum()]).tolist()
    return float(met), counted


def _axis_of_classes(outputs: Any, labels: Any, loss_fn: Any) -> int | None:
    if not (isinstance(outputs, Tensor) and isinstance(labels, Tensor)) or outputs.dim() < 2:
        return None
    if not outputs.is_floating_point() or labels.is_floating_point() or outputs.dim() != labels.dim() + 1:
        return None
    second = (*outputs.shape[:1], *outputs.shape[2:]) == labels.shape
    last = outputs.shape[:-1] == labels.shape
    if second and (outputs.dim() == 2 or not last or torchs(loss_fn)[0] in CLASSIFYING):
        return 1
    return -1 if last and not second else None  # as many classes as tokens: nobody can tell which is which
