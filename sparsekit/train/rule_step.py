"""What a training asks a rule for at a step beside `is_due` and `propose`, which is its optional parts."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from sparsekit.evaluation.measuring import Batch
from sparsekit.layers import sparse_layers
from sparsekit.rewiring.capture import LayerIO, LayerView, views
from sparsekit.rewiring.optimizer_state import chain
from sparsekit.rewiring.update import GrowInit, zero_init
from sparsekit.rules.base import Rule
from sparsekit.rules.initial import with_initial_state
from sparsekit.rules.parts import (
    HasGradientPenalty,
    HasGrowInit,
    HasState,
    LooksAhead,
    ReplacesUpdate,
    ResetsOptimizer,
    check_state,
    part_of,
)
from sparsekit.rules.switched import rule_at
from sparsekit.utils.checks import must_be


def with_the_acting_rule(function: Callable) -> Callable:
    """Hand on the rule that acts at this step, which of a switched rule is one of two.

    After a rewiring the optimizer begins anew, if that rule says so.
    """

    @functools.wraps(function)
    def acting(
        model: nn.Module,
        optimizer: Optimizer,
        batch: Batch,
        loss_fn: Callable,
        rule: Rule,
        step: int,
        generator: torch.Generator,
        **settings: Any,
    ) -> Any:
        rule = rule_at(rule, step)
        stats, update = function(model, optimizer, batch, loss_fn, rule, step, generator, **settings)
        if update is not None:
            reset_optimizer(optimizer, rule)
        return stats, update

    return acting


def updates_every_step(rule: Rule) -> bool:
    """Whether a rule has a state that is updated at every step."""
    part = part_of(rule, HasState)
    return part is not None and part.every_step


def replaces_update(rule: Rule) -> bool:
    """Whether a rewiring takes the place of the weight update of its step."""
    part = part_of(rule, ReplacesUpdate)
    return part is not None and part.replaces_step


def reset_optimizer(optimizer: Optimizer, rule: Rule) -> None:
    """Let the optimizer begin anew after a rewiring, if the rule says so. Most rules do not."""
    if (part := part_of(rule, ResetsOptimizer)) is not None and part.resets_optimizer:
        chain(optimizer)[-1].state.clear()


def probe_batches(rule: Rule) -> int:
    """Return how many batches growth looks at. One is the batch of the step."""
    part = part_of(rule, LooksAhead)
    return 1 if part is None else part.probe_batches


def what_to_capture(rule: Rule, step: int, probes: Sequence[Batch]) -> bool | Sequence[Batch]:
    """Return whether this batch's backward pass is recorded for the rule, or which batches' passes are instead.

    Raises:
        ValueError: if the rule must see several batches and none are given.
    """
    if not rule.needs_gradients:
        return False
    if not rule.is_due(step):
        return updates_every_step(rule)
    if not probes and (count := probe_batches(rule)) > 1:
        raise ValueError(
            f"this rule needs to see {count} batches on a rewiring step, got none as probes. Give train_step "
            "probes=[...], train by training, fit or run, or replace(rule, probe_batches=1)"
        )
    return probes or True


@torch.no_grad()
def add_gradient_penalty(
    model: nn.Module, optimizer: Optimizer, rule: Rule, step: int, generator: torch.Generator
) -> None:
    """Add to the gradients of the connections what the rule says. Most rules say nothing."""
    if (part := part_of(rule, HasGradientPenalty)) is None:
        return
    rate = float(optimizer.param_groups[0]["lr"])
    layers = sparse_layers(model)
    for name, view in views(model).items():
        if (grad := layers[name].param.grad) is not None:
            penalty = part.gradient_penalty(view, step, generator, rate=rate)
            _check_penalty(rule, penalty, view)
            grad += layers[name].pack(view.topology, penalty.to(grad.dtype))


def _check_penalty(rule: Rule, penalty: object, view: LayerView) -> None:
    what = f"{type(rule).__name__}.gradient_penalty(...)"
    must_be(what, penalty, torch.Tensor, "return a number for each connection of the view")
    if (shape := tuple(cast(torch.Tensor, penalty).shape)) != (view.topology.count,):
        raise ValueError(
            f"{what} must have shape ({view.topology.count},) for {view.name}, got {shape}. Return a number for each "
            "connection of the view"
        )


def rule_views(model: nn.Module, rule: Rule, io: Mapping[str, LayerIO]) -> dict[str, LayerView]:
    """Return what the rule may see of every layer that is trained, with its state as the rule left it."""
    return with_initial_state(rule, views(model, io))


def grow_init_for(rule: Rule, views: Mapping[str, LayerView]) -> GrowInit:
    """Return what gives grown connections their initial values: zeros, unless the rule says something else."""
    part = part_of(rule, HasGrowInit)
    return zero_init if part is None else part.grow_init(views)


def update_state(
    model: nn.Module, rule: Rule, views: Mapping[str, LayerView], step: int, generator: torch.Generator
) -> None:
    """Keep the rule's new state in the layers. Most rules have none."""
    if (part := part_of(rule, HasState)) is None:
        return
    new, layers = part.update_state(views, step, generator), sparse_layers(model)
    check_state(f"{type(rule).__name__}.update_state(...)", new, layers)
    for name, state in new.items():
        layers[name].set_rule_state(state)
