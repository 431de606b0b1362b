"""The training loop in one view. A mask changes at `rewire`, in the middle of `train_step`."""

import contextlib
import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from sparsekit.evaluation.adaptor import Adaptor, size_of, split, walk
from sparsekit.evaluation.losses import loss_of, losses_of_parts, num_correct
from sparsekit.evaluation.measuring import Batch, LossFn, evaluating
from sparsekit.rewiring.capture import LayerIO, capture_io
from sparsekit.rewiring.update import TopologyUpdate, rewire
from sparsekit.rules.base import Rule
from sparsekit.rules.switched import rule_at
from sparsekit.train.rule_step import (
    add_gradient_penalty,
    grow_init_for,
    probe_batches,
    replaces_update,
    rule_views,
    update_state,
    updates_every_step,
    what_to_capture,
    with_the_acting_rule,
)
from sparsekit.tricks.base import Trick, check_tricks, loss_at, set_step
from sparsekit.utils.checks import check_integer
from sparsekit.utils.memory import keep_freed_memory
from sparsekit.utils.ranks import ranks_for, sharing_micro_batches
from sparsekit.utils.seeds import generator


@dataclass(frozen=True, kw_only=True)
class StepStats:
    """Plain numbers of one step.

    Args:
        loss: mean loss of the batch, before the step.
        correct: labels whose class has the largest output. NaN where outputs are no scores of classes.
        count: labels that count: samples, or pixels or tokens where each has its own. Padding does not count.
    """

    loss: float
    correct: float
    count: int

    @property
    def accuracy(self) -> float:
        """Share of the labels that are met, 0 to 1. NaN where none counts."""
        return self.correct / self.count if self.count else math.nan


def _clears_gradients_on_failure(function: Callable) -> Callable:
    """Clear gradients if an error or a reader stops a batch half-way, so that the next batch does not add to them."""

    @functools.wraps(function)
    def careful(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(model, *args, **kwargs)
        except BaseException:
            model.zero_grad(set_to_none=True)
            raise

    return careful


@with_the_acting_rule
@_clears_gradients_on_failure
def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    loss_fn: LossFn,
    rule: Rule,
    step: int,
    generator: torch.Generator,
    *,
    probes: Sequence[Batch] = (),
    micro_batches: int = 1,
    autocast: torch.dtype | None = None,
    adaptor: Adaptor | None = None,
) -> tuple[StepStats, TopologyUpdate | None]:
    """One batch. Rewires instead of, or after, the weight update when the rule is due.

    Args:
        model: a sparse model, in training mode.
        optimizer: the one that trains it.
        batch: inputs and labels on the model's device.
        loss_fn: `(outputs, labels) -> mean loss`.
        rule: when and how the topology changes.
        step: number of this batch, from 0.
        generator: what the rule may draw from.
        probes: the batches whose gradients growth looks at, for a rule with `probe_batches` above 1 on its rewiring
            steps. Without any, growth looks at this batch. The weights' own gradients always come from this batch.
        micro_batches: split the batch into so many backward passes, to save memory. Their gradient is that of the
            whole batch. See `sparsekit.evaluation.losses`.
        autocast: compute in this type where torch thinks it safe, for example `torch.bfloat16`.
        adaptor: makes pairs of other batches, and class scores of other outputs.

    Raises:
        FloatingPointError: if the loss is not finite. Weights, topology and optimizer are as before the step.
        TypeError: if the batch is no pair, or outputs are not what the loss takes.
        ValueError: if the rule must see several batches and none are given, or the loss of the batch is no weighted
            mean of those of its micro-batches.
    """
    due = rule.is_due(step)
    stats, io = backward(model, batch, loss_fn, what_to_capture(rule, step, probes), micro_batches, autocast, adaptor)
    add_gradient_penalty(model, optimizer, rule, step, generator)
    if not (due and replaces_update(rule)):
        optimizer.step()
    update = None
    if due or updates_every_step(rule):
        views = rule_views(model, rule, io)
        if due:
            update = rewire(model, rule.propose(views, step, generator), optimizer, grow_init_for(rule, views))
        update_state(model, rule, views, step, generator)
    optimizer.zero_grad(set_to_none=True)
    return stats, update


@_clears_gradients_on_failure
def backward(
    model: nn.Module,
    batch: Batch,
    loss_fn: LossFn,
    capture: bool | Sequence[Batch] = False,
    micro_batches: int = 1,
    autocast: torch.dtype | None = None,
    adaptor: Adaptor | None = None,
) -> tuple[StepStats, dict[str, LayerIO]]:
    """Run forward and backward. Plain numbers come out, so that the graph ends here.

    Args:
        model: the one that is trained.
        batch: inputs and labels. The weights get their gradients from it.
        loss_fn: `(outputs, labels) -> mean loss`.
        capture: whether to record what the sparse layers see, or other batches to record in place of this one.
        micro_batches: number of backward passes that the batch is split into.
        autocast: compute in this type where torch thinks it safe.
        adaptor: makes pairs of other batches, and class scores of other outputs.

    Returns:
        The step's numbers, and what the sparse layers saw (empty unless something is captured).

    Raises:
        FloatingPointError: if the loss is not finite.
        TypeError: if the batch is no pair, or outputs are not what the loss takes.
        ValueError: if there are fewer samples than micro-batches, or none, or the loss of the batch is no weighted mean
            of theirs. Gradients are cleared after any error.
    """
    adaptor = Adaptor.of(adaptor)
    probed = {} if isinstance(capture, bool) else _probe(model, capture, loss_fn, micro_batches, autocast, adaptor)
    inputs, labels = adaptor.pair(batch)
    sizes = _sizes(size_of(labels, inputs), micro_batches)
    parts, losses, device = split(labels, sizes), None, next(model.parameters()).device.type
    loss, correct, count, ranks = 0.0, 0.0, 0, ranks_for(capture=capture is True)
    with capture_io(model, enabled=capture is True) as io:
        for number, (x, y) in enumerate(zip(split(inputs, sizes), parts, strict=True)):
            if not ranks.computes(number):
                continue
            with torch.autocast(device, dtype=autocast, enabled=autocast is not None):
                outputs = adaptor.run(model, x)
                losses = losses or losses_of_parts(loss_fn, parts, lambda latest=outputs: latest)
                part = loss_of(losses[number], outputs, y)
            part.backward()
            loss += float(part.detach())
            hits, counted = num_correct(outputs, y, loss_fn)
            correct, count = correct + hits, count + counted
    loss, correct, counted = ranks.total(model, loss, correct, count)
    _check_finite(loss, int(counted))
    return StepStats(loss=loss, correct=correct, count=int(counted)), probed or io


def _sizes(size: int, parts: int) -> list[int]:
    """Return how many samples each micro-batch has, as equally as possible."""
    if check_integer("micro_batches", parts, least=1) > size:
        raise ValueError(
            f"a batch must hold at least one sample per micro-batch, got {size} samples. Lower micro_batches"
        )
    return [size // parts + (number < size % parts) for number in range(parts)]


def training(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    loss_fn: LossFn,
    rule: Rule,
    *,
    seed: int = 0,
    first_step: int = 0,
    learning_rate: Callable[[int], float] | None = None,
    micro_batches: int = 1,
    autocast: torch.dtype | None = None,
    tricks: Sequence[Trick] = (),
    adaptor: Adaptor | None = None,
) -> Iterator[tuple[int, StepStats, TopologyUpdate | None]]:
    """Train batch by batch, and yield `(step, stats, update)` after each. Stop whenever you like.

    A rule that looks at several batches is shown that of the step and those that follow. They are trained on when it is
    their turn. Near the end of `batches` there are fewer of them.

    Apply tricks to the model before you build the optimizer (`tricks.begin`). After each step they set the network for
    the next one, so a ghost is gone after the last step of its life.

    Everything random about step t comes from `generator(seed, "rewire", t)`, so a training that is resumed at
    a step continues exactly as it would have.
    """
    check_tricks(tricks)
    keep_freed_memory()
    one_step = functools.partial(train_step, micro_batches=micro_batches, autocast=autocast, adaptor=adaptor)
    set_step(model, tricks, first_step, optimizer)
    for step, batch, probes in _looking_ahead(batches, rule, first_step):
        if learning_rate is not None:
            set_learning_rate(optimizer, learning_rate(step))
        draws = generator(seed, "rewire", step)
        loss = loss_at(tricks, loss_fn, model, step)
        stats, update = one_step(model, optimizer, batch, loss, rule, step, draws, probes=probes)
        set_step(model, tricks, step + 1, optimizer)
        yield step, stats, update


def _looking_ahead(
    batches: Iterable[Batch], rule: Rule, first_step: int
) -> Iterator[tuple[int, Batch, Sequence[Batch]]]:
    """Yield `(step, batch, probes)`. The stream is read ahead on rewiring steps only, and keeps its order."""
    source, ahead = walk(batches), deque()
    for step in count(first_step):
        acting = rule_at(rule, step)
        size = probe_batches(acting) if acting.needs_gradients and acting.is_due(step) else 1
        ahead.extend(islice(source, max(0, size - len(ahead))))
        if not ahead:
            return
        probes = list(islice(ahead, size)) if size > 1 else ()
        yield step, ahead.popleft(), probes


def _probe(
    model: nn.Module,
    probes: Sequence[Batch],
    loss_fn: LossFn,
    micro_batches: int,
    autocast: torch.dtype | None,
    adaptor: Adaptor,
) -> dict[str, LayerIO]:
    """Return what the sparse layers see on some batches as if they were one. Gradients and statistics stay the same."""
    pairs = [adaptor.pair(batch) for batch in probes]
    with _keeping_statistics(model), sharing_micro_batches(ranks_for(capture=True)), capture_io(model) as io:
        losses = losses_of_parts(
            loss_fn, [labels for _, labels in pairs], lambda: _glimpse(model, pairs[0][0], adaptor)
        )
        for batch, loss in zip(probes, losses, strict=True):
            backward(model, batch, loss, False, micro_batches, autocast, adaptor)
    model.zero_grad(set_to_none=True)
    return io


@torch.no_grad()
def _glimpse(model: nn.Module, inputs: Any, adaptor: Adaptor) -> Any:
    """Return the outputs of a batch, for a loss of your own that says its weights. Nothing is drawn or recorded."""
    with evaluating(model):
        return adaptor.run(model, inputs)


@contextlib.contextmanager
def _keeping_statistics(model: nn.Module) -> Iterator[None]:
    """Put the running statistics of normalisations back to what they were."""
    copies = [(x, x.clone()) for module in model.modules() if isinstance(module, _NormBase) for x in module.buffers()]
    try:
        yield
    finally:
        for buffer, before in copies:
            buffer.copy_(before)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def _check_finite(loss: float, count: int) -> None:
    if not math.isfinite(loss):
        advice = "Lower the learning rate or look at the inputs" if count else "Leave out batches without labels"
        why = "" if count else " for a batch in which no label counts"
        raise FloatingPointError(
            f"the loss must be finite, got {loss}{why}. {advice} "
            "(weights, topology and optimizer are as they were before this step)"
        )
