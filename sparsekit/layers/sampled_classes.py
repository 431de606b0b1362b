"""The classes that one step of a sampled softmax looks at, and how probable it was to draw each."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparsekit.utils.checks import check_integer


@dataclass(frozen=True, eq=False)
class SampledClasses:
    """The classes of a batch and some others.

    Args:
        classes: their numbers, increasing.
        labels: where the class of each sample stands in `classes`.
        log_probabilities: of being here, 0 for the classes of the batch.
    """

    classes: Int64[Tensor, " s"]
    labels: Int64[Tensor, " b"]
    log_probabilities: Float[Tensor, " s"]


def sampled_classes(
    labels: Int64[Tensor, " b"], num_classes: int, negatives: int, generator: torch.Generator, *, uniform: bool = False
) -> SampledClasses:
    """Draw negatives with replacement, and put them together with the classes of the batch.

    One draw hits class c with `q_c = log((c + 2) / (c + 1)) / log(C + 1)`, or with `1 / C` where all are equal. So it
    is among n draws with `p_c = 1 - (1 - q_c)^n`. If each drawn class counts `1 / p_c` times, a sum over these classes
    has the mean of the sum over all. The classes of the batch are always here and count once. With `n >= C` nothing is
    drawn, and all classes are here.

    Args:
        labels: classes of the samples.
        num_classes: `C`.
        negatives: `n`.
        generator: the source of random numbers.
        uniform: draw all classes equally often.

    Raises:
        TypeError: if labels or a number are no integers.
        ValueError: if a label is no class, or nothing is drawn.

    Example:
        >>> sample = sampled_classes(torch.tensor([7, 7]), 100, 3, torch.Generator().manual_seed(0), uniform=True)
        >>> 7 in sample.classes, sample.classes[sample.labels].tolist()
        (True, [7, 7])

    Source: the distribution is TensorFlow's log-uniform one, which Jozefowicz et al. (2016), arXiv:1602.02410, use. Its
        users subtract `log(n q_c)`, which is nearly `log p_c` where n q is small.
    """
    check_integer("negatives", negatives, least=1)
    _check_labels(labels, num_classes)
    if negatives >= num_classes:
        return SampledClasses(
            torch.arange(num_classes, device=labels.device), labels, torch.zeros(num_classes, device=labels.device)
        )
    draws = torch.rand(negatives, generator=generator, dtype=torch.float64, device=generator.device).to(labels.device)
    drawn = _class_at(draws, num_classes, uniform)
    classes, at = torch.cat([labels, drawn]).unique(return_inverse=True)
    log_probabilities = _log_probability(classes, num_classes, negatives, uniform)
    log_probabilities[at[: len(labels)]] = 0.0
    return SampledClasses(classes, at[: len(labels)], log_probabilities.float())


def _class_at(draws: Tensor, num_classes: int, uniform: bool) -> Int64[Tensor, " n"]:
    """Turn numbers in [0, 1) into classes, by the inverse of the distribution."""
    classes = draws * num_classes if uniform else (draws * math.log(num_classes + 1)).exp() - 1
    return classes.long().clamp_(max=num_classes - 1)


def _log_probability(classes: Tensor, num_classes: int, negatives: int, uniform: bool) -> Float[Tensor, " s"]:
    """Return the logarithm of the probability that each class is drawn at least once."""
    if uniform:
        once = torch.full_like(classes, 1 / num_classes, dtype=torch.float64)
    else:
        once = (1 / (classes.double() + 1)).log1p() / math.log(num_classes + 1)
    return (-torch.expm1(negatives * torch.log1p(-once))).log()


def _check_labels(labels: Tensor, num_classes: int) -> None:
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.dim() != 1:
        got = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels must be a 1-D int64 tensor, got {got}. Use .long()")
    if not len(labels) or int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(f"labels must be classes from 0 to {num_classes - 1}, got {labels}. Look at the data")
