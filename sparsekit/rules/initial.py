"""How a rule's training starts: the optional parts that are asked for before the first step, and nowhere else."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from sparsekit.layers import sparse_layers, topology_of
from sparsekit.layers.masked import ForwardMask, MaskedLayer
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules.base import Rule
from sparsekit.rules.parts import (
    HasForwardMasks,
    HasInitialDensity,
    HasInitialTopology,
    HasState,
    NeedsDense,
    PreparesLayers,
    check_state,
    part_of,
)
from sparsekit.topology import Topology


def initial_density(rule: Rule, density: float) -> float:
    """Return the density that a training starts with, where `density` is the target in the end."""
    part = part_of(rule, HasInitialDensity)
    return density if part is None else part.initial_density(density)


def initial_topology(rule: Rule, sampled: Topology, generator: torch.Generator) -> Topology:
    """Return the topology that a training starts with: the sampled one, or a regular one that the rule needs."""
    part = part_of(rule, HasInitialTopology)
    return sampled if part is None else part.initial_topology(sampled, generator)


def samples_anew(rule: Rule) -> bool:
    """Whether a training starts with positions of the rule's own, whatever a score before training says."""
    return part_of(rule, HasInitialTopology) is not None


def why_dense(rule: Rule) -> str:
    """Return why a rule cannot do with the existing connections alone, or an empty text if it can."""
    part = part_of(rule, NeedsDense)
    return "" if part is None else part.needs_dense


def prepare_layers(
    rule: Rule, model: nn.Module, *, plain: nn.Module | None = None, sampled: Topology | None = None
) -> None:
    """Make a sparse model's layers fit for a rule, in place. Call it before the optimizer is built.

    Most rules need nothing. Some use fewer connections than they train, or must know the weights of the plain model.

    Args:
        rule: the one that will train the model.
        model: sparse, as `sparsify` made it.
        plain: the model that it was made of, for rules that need the weights outside of the topology as well.
        sampled: the topology before `initial_topology`. None takes the model's own.

    Raises:
        ValueError: if the rule needs what the layers' storage does not have, or a plain model that is not there.
    """
    masks = _forward_masks(rule, topology_of(model))
    layers = sparse_layers(model)
    for name, layer in layers.items():
        if isinstance(layer, MaskedLayer):
            layer.forward_mask = masks.get(name)
    check_prepared(rule, model)
    if (part := part_of(rule, PreparesLayers)) is not None:
        initial = part.prepare_layers(model, plain, sampled or topology_of(model))
        check_state(f"{type(rule).__name__}.prepare_layers(...)", initial, layers)
        for name, state in initial.items():
            layers[name].set_rule_state(state)


def with_initial_state(rule: Rule, views: Mapping[str, LayerView]) -> dict[str, LayerView]:
    """Return views in which layers without a state show the rule's initial one. Most rules have none.

    Training does this itself. Do it in a loop of your own before you call `rule.propose`.

    Example:
        >>> from sparsekit.rules import DSR
        >>> from sparsekit.topology import LayerTopology
        >>> view = LayerView(name="fc", topology=LayerTopology((2, 2), torch.tensor([0])), values=torch.ones(1))
        >>> with_initial_state(DSR(stop=10, threshold=0.5), {"fc": view})["fc"].state
        {'threshold': tensor(0.5000)}
    """
    part = part_of(rule, HasState)
    if part is None or all(view.state for view in views.values()):
        return dict(views)
    initial = part.init_state(views)
    check_state(f"{type(rule).__name__}.init_state(...)", initial, views)
    return {name: replace(view, state=view.state or initial.get(name, view.state)) for name, view in views.items()}


def check_prepared(rule: Rule, model: nn.Module) -> None:
    """Raise ValueError unless a model's layers are what the rule needs: see `prepare_layers`."""
    if not (why := why_dense(rule)):
        return
    for name, layer in sparse_layers(model).items():
        if not isinstance(layer, MaskedLayer):
            raise ValueError(
                f"{type(rule).__name__} needs storage masked, got {layer.storage} for {name}. Choose masked, because "
                f"{why}"
            )
        if layer.forward_mask is None and _forward_masks(rule, Topology({name: layer.topology})):
            raise ValueError(
                f"{type(rule).__name__} needs layers that were prepared for it, got {name} as sparsify made it. Call "
                "rules.prepare_layers(rule, sparse, plain=model) before the optimizer is built"
            )


def _forward_masks(rule: Rule, topology: Topology) -> Mapping[str, ForwardMask]:
    part = part_of(rule, HasForwardMasks)
    return {} if part is None else part.forward_masks(topology)
