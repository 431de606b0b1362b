"""Measure a model's loss, accuracy, predictions, and fresh batch-norm statistics. Models stay as they were."""

import contextlib
import copy
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparsekit.evaluation.adaptor import Adaptor, call, size_of
from sparsekit.evaluation.losses import LossFn, MeanLoss, num_correct
from sparsekit.utils.checks import must_be
from sparsekit.utils.seeds import generator, seeded_rng

Batch = Any  # a pair of inputs and labels (a DataLoader gives lists), or what an adaptor makes a pair of
Batches = Iterable[Batch]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model achieves on a data set.

    Args:
        loss: mean loss of all batches together, whatever their sizes, as in `sparsekit.evaluation.losses`.
        accuracy: share, 0 to 1, of the labels that count (no padding, no void pixels) whose class has the largest
            output. It is NaN where outputs are no scores of classes.
        count: number of labels that count, one for each sample, or for each pixel or token where these have their own.
    """

    loss: float
    accuracy: float
    count: int

    @property
    def perplexity(self) -> float:
        """`exp(loss)`, among how many equally likely tokens a language model is in doubt. The loss is in nats."""
        return math.inf if self.loss > 709 else math.exp(self.loss)  # which is more than a float holds


def evaluate(
    model: nn.Module,
    batches: Batches,
    loss_fn: LossFn = nn.functional.cross_entropy,
    *,
    refresh_with: Batches | None = None,
    adaptor: Adaptor | None = None,
) -> Evaluation:
    """Return mean loss and accuracy in evaluation mode, however the samples are put into batches.

    Args:
        model: gives one row of class scores per sample.
        batches: pairs of inputs and labels, on the model's device.
        loss_fn: `(outputs, labels) -> mean loss`. Torch's own are averaged by what they divide by. One of your own may
            say that by an attribute `batch_weight`, a function of the labels, or else all outputs are kept to the end.
        refresh_with: training batches. If you give them, `refresh_batch_norm` is called with them on a copy of the
            model, which is then measured.
        adaptor: makes pairs of other batches, and class scores of other outputs.

    Raises:
        TypeError: if a batch is no pair, or outputs are not what the loss takes.
        ValueError: if there is no sample whose label counts, or nobody knows how to average the loss.
    """
    adaptor = Adaptor.of(adaptor)
    if refresh_with is not None:
        model = copy.deepcopy(model)
        refresh_batch_norm(model, refresh_with, adaptor=adaptor)
    mean, samples, correct, count = MeanLoss(loss_fn), 0, 0.0, 0
    with evaluating(model), torch.no_grad():
        for inputs, labels in adaptor.pairs(batches):
            outputs = adaptor.run(model, inputs)
            mean.add(outputs, labels)
            hits, num_labels = num_correct(outputs, labels, loss_fn)
            samples, correct, count = samples + size_of(labels, inputs), correct + hits, count + num_labels
        if samples == 0:
            raise ValueError("evaluation needs at least one sample, got none. Check the data set or the loader")
        return Evaluation(loss=mean.value(), accuracy=correct / count if count else math.nan, count=count)


def predictions(model: nn.Module, batches: Batches, *, adaptor: Adaptor | None = None) -> tuple[Tensor, Tensor]:
    """Return the outputs `(n, classes)` (before softmax) and labels `(n,)` of all samples, in evaluation mode.

    Raises:
        TypeError: if a batch is no pair, or outputs or labels are not a tensor.
        ValueError: if there is not a single batch.
    """
    adaptor = Adaptor.of(adaptor)
    with evaluating(model), torch.no_grad():
        pairs = [(adaptor.run(model, inputs), labels) for inputs, labels in adaptor.pairs(batches)]
    if not pairs:
        raise ValueError("predictions need at least one batch, got none. Check the data set or the loader")
    for thing in pairs[0]:
        if not isinstance(thing, Tensor):
            raise TypeError(
                f"outputs and labels must be tensors, got {type(thing).__name__}. Give adaptor=Adaptor(...)"
            )
    outputs, labels = zip(*pairs, strict=True)
    return torch.cat(outputs), torch.cat(labels)


def refresh_batch_norm(model: nn.Module, batches: Batches, *, adaptor: Adaptor | None = None) -> None:
    """Recompute the batch-norm statistics from scratch with one pass, in place.

    Weights that were averaged, pruned or interpolated meet activations that the old statistics do not describe.
    Nothing else changes, neither which modules train, nor torch's random state, from which dropout draws.

    Raises:
        TypeError: if a batch is no pair.
        ValueError: if there is not a single batch, when the statistics stay as before.
    """
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return
    inputs_of = ([inputs] for inputs, _ in Adaptor.of(adaptor).pairs(batches))
    first = next(inputs_of, None)
    if first is None:
        raise ValueError("refreshing batch norm needs at least one batch, got none. Check the data set or the loader")
    with _keeping_modes(model), seeded_rng(generator(0, "batch norm")):
        torch.optim.swa_utils.update_bn(itertools.chain([first], inputs_of), _Called(model))


class _Called(nn.Module):
    """A model as a function of all its inputs at once, which is how torch's own pass calls it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: Any) -> Any:
        return call(self.model, inputs)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and afterwards back into the mode it was in."""
    with _keeping_modes(model):
        model.eval()
        yield


@contextlib.contextmanager
def _keeping_modes(model: nn.Module) -> Iterator[None]:
    must_be("model", model, nn.Module, "Give the network itself")
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
