"""Train a model of your own on data of your own, epoch by epoch, with a progress bar."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from sparsekit.evaluation.adaptor import Adaptor
from sparsekit.evaluation.measuring import Batch, LossFn, evaluate
from sparsekit.layers import sparse_layers, topology_of
from sparsekit.rewiring.journal import Journal
from sparsekit.rewiring.update import TopologyUpdate, check_optimizer
from sparsekit.rules.base import Rule, check_rule
from sparsekit.rules.initial import check_prepared
from sparsekit.rules.static import Static
from sparsekit.train.history import History, rows_of_epoch, rows_of_step
from sparsekit.train.loop import StepStats, training
from sparsekit.tricks.base import Trick

EpochBatches = Iterable[Batch] | Callable[[int], Iterable[Batch]]


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    batches: EpochBatches,
    rule: Rule | None = None,
    *,
    epochs: int,
    loss_fn: LossFn = nn.functional.cross_entropy,
    test_batches: Iterable[Batch] | None = None,
    seed: int = 0,
    learning_rate: Callable[[int], float] | None = None,
    micro_batches: int = 1,
    autocast: torch.dtype | None = None,
    tricks: Sequence[Trick] = (),
    adaptor: Adaptor | None = None,
    progress: bool = True,
) -> History:
    """Train for some epochs and return what was measured. The loop itself is `training` in `loop.py`.

    Args:
        model: a sparse model, or a plain one, in which nothing is rewired.
        optimizer: built from `model.parameters()`.
        batches: `(inputs, labels)` pairs that can be walked through again, such as a `DataLoader` or a list, or a
            function that gives those of an epoch.
        rule: when and how the topology changes. None keeps it.
        epochs: passes over the data.
        loss_fn: `(outputs, labels) -> mean loss`.
        test_batches: measured after every epoch.
        seed: of everything the rule draws.
        learning_rate: by step, for example a schedule. None leaves the optimizer's.
        micro_batches: backward passes a batch is split into. Their gradient is that of the whole batch.
        autocast: mixed precision in this type, for example `torch.bfloat16`.
        tricks: what helps the training. Apply them by `tricks.begin` before you build the optimizer.
        adaptor: makes pairs of other batches, and class scores of other outputs.
        progress: show a bar.

    Raises:
        ValueError: if an epoch has no batch, the optimizer is not that of the model, a rule has nothing to rewire, or
            nobody knows how the losses of several (micro-)batches become one.
        TypeError: if the rule or the learning rate is something else, a batch is no pair, or outputs are not what the
            loss takes.
        FloatingPointError: if the loss is not finite. Weights and topology are as before that step.
    """
    _check(model, optimizer, rule, learning_rate)
    history = History(journal=Journal(topology_of(model).to("cpu")))
    num_steps = 0
    model.train()
    for epoch in tqdm(range(epochs), desc="epochs", disable=not progress):
        steps = training(
            model,
            optimizer,
            batches(epoch) if callable(batches) else batches,
            loss_fn,
            rule or Static(),
            seed=seed,
            first_step=num_steps,
            learning_rate=learning_rate,
            micro_batches=micro_batches,
            autocast=autocast,
            tricks=tricks,
            adaptor=adaptor,
        )
        num_steps += _record(steps, epoch, history)
        if test_batches is not None:
            measured = evaluate(model, test_batches, loss_fn, adaptor=adaptor)
            history.rows += rows_of_epoch(num_steps - 1, epoch, measured, model)
    return history


def _check(model: nn.Module, optimizer: Optimizer, rule: Rule | None, learning_rate: object) -> None:
    if rule is not None:
        check_rule(rule)
        check_prepared(rule, model)
    if learning_rate is not None and not callable(learning_rate):
        raise TypeError(f"learning_rate must be a function of the step, got {learning_rate!r}. Use Constant(...)")
    layers = sparse_layers(model)
    if not layers and not isinstance(rule, Static | None):
        raise ValueError("a rule needs sparse layers, got a model without. Call sparsify on it first")
    check_optimizer(layers, optimizer)


def _record(steps: Iterable[tuple[int, StepStats, TopologyUpdate | None]], epoch: int, history: History) -> int:
    """Train to the end of an epoch, record it in the history, and return the number of steps."""
    num_steps = 0
    for step, stats, update in steps:
        history.rows += rows_of_step(step, epoch, stats)
        if update is not None:
            history.journal.add(step, update)
        num_steps += 1
    if num_steps == 0:
        raise ValueError(
            f"an epoch must have at least one batch, got none in epoch {epoch}. "
            "Give a loader or list that can be walked through again, not a generator"
        )
    return num_steps
