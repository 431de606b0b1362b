"""Measuring a model: loss, accuracy, predictions, and fresh batch-norm statistics. Models stay as they were."""

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparsekit.seeds import generator, seeded_rng

Batch = tuple[Tensor, Tensor] | list[Tensor]  # inputs and labels; a DataLoader gives lists
Batches = Iterable[Batch]
LossFn = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model achieves on a data set.

    Args:
        loss: mean loss over the samples.
        accuracy: share of samples whose largest output is the right class, 0 to 1; NaN where labels are no classes.
        count: number of samples.
    """

    loss: float
    accuracy: float
    count: int


def evaluate(
    model: nn.Module,
    batches: Batches,
    loss_fn: LossFn = nn.functional.cross_entropy,
    *,
    refresh_with: Batches | None = None,
) -> Evaluation:
    """Return mean loss and accuracy in evaluation mode.

    Args:
        model: gives one row of class scores per sample.
        batches: pairs of inputs and labels, on the model's device.
        loss_fn: `(outputs, labels) -> mean loss`.
        refresh_with: training batches; a copy of the model is measured after `refresh_batch_norm` with them.

    Raises:
        TypeError: if a batch is no pair.
        ValueError: if there is not a single batch.
    """
    if refresh_with is not None:
        model = copy.deepcopy(model)
        refresh_batch_norm(model, refresh_with)
    total, correct, count = 0.0, 0, 0
    with evaluating(model), torch.no_grad():
        for inputs, labels in _pairs(batches):
            outputs = model(inputs)
            total += float(loss_fn(outputs, labels)) * len(labels)
            correct += num_correct(outputs, labels)
            count += len(labels)
    if count == 0:
        raise ValueError("evaluation needs at least one sample, got none; check the data set or the loader")
    return Evaluation(loss=total / count, accuracy=correct / count, count=count)


def num_correct(outputs: Tensor, labels: Tensor) -> float:
    """Return how many samples are right: the largest output is the label's.

    With a label per pixel a sample counts by its share of right pixels. Labels that are no classes give NaN.

    Example:
        >>> num_correct(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        1.0
    """
    if labels.is_floating_point() or outputs.dim() != labels.dim() + 1:
        return math.nan
    right = outputs.argmax(1) == labels
    return float(right.sum()) * len(right) / max(1, right.numel())


def predictions(model: nn.Module, batches: Batches) -> tuple[Float[Tensor, "n classes"], Int64[Tensor, " n"]]:
    """Return the outputs (before softmax) and labels of all samples, in evaluation mode.

    Raises:
        TypeError: if a batch is no pair.
        ValueError: if there is not a single batch.
    """
    with evaluating(model), torch.no_grad():
        pairs = [(model(inputs), labels) for inputs, labels in _pairs(batches)]
    if not pairs:
        raise ValueError("predictions need at least one batch, got none; check the data set or the loader")
    outputs, labels = zip(*pairs, strict=True)
    return torch.cat(outputs), torch.cat(labels)


def refresh_batch_norm(model: nn.Module, batches: Batches) -> None:
    """Recompute the batch-norm statistics from scratch with one pass, in place.

    Weights that were averaged, pruned or interpolated meet activations that the old statistics do not describe.
    Nothing else changes: neither which modules train, nor torch's random state, from which dropout draws.

    Raises:
        TypeError: if a batch is no pair.
        ValueError: if there is not a single batch; the statistics are as before then.
    """
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return
    walk = (inputs for inputs, _ in _pairs(batches))
    first = next(walk, None)
    if first is None:
        raise ValueError("refreshing batch norm needs at least one batch, got none; check the data set or the loader")
    with _keeping_modes(model), seeded_rng(generator(0, "batch norm")):
        torch.optim.swa_utils.update_bn(itertools.chain([first], walk), model)


def _pairs(batches: Batches) -> Iterator[Batch]:
    """Yield the batches, each of which must be a pair."""
    several = not isinstance(batches, Mapping) and any(hasattr(batches, way) for way in ("__iter__", "__getitem__"))
    each: Iterable[Any] = batches if several else [batches]
    for batch in each:
        if not (isinstance(batch, tuple | list) and len(batch) == 2):
            raise TypeError(f"batches must be pairs of inputs and labels, got {_no_pair(batch)}")
        yield batch


def _no_pair(batch: object) -> str:
    kind = type(batch).__name__
    if isinstance(batch, Mapping):
        return f"{kind}; take the pair out of each: ((b['inputs'], b['labels']) for b in batches)"
    size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
    return f"{kind}{size}; wrap one pair in a list: [(inputs, labels)]"


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and back into its own mode afterwards."""
    with _keeping_modes(model):
        model.eval()
        yield


@contextlib.contextmanager
def _keeping_modes(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
