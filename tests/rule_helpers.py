"""Rules on small nets: which fit which, how each begins, and what it sees."""

import pytest
import torch
from helpers import MODELS, STORAGES, batch_for, capture, sparse

import sparsekit as sk
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import Rule, make_rule, settings_of
from sparsekit.rules.initial import initial_density, initial_topology, prepare_layers, why_dense, with_initial_state
from sparsekit.utils import registry

RULES = registry.names("rule")
NETS = {(model, storage): (*MODELS[model], storage) for model in MODELS for storage in STORAGES}

every_net = pytest.mark.parametrize(("make", "shape", "storage"), NETS.values(), ids=map("-".join, NETS))

# Each rule with the nets whose storage it can do with.
RULES_ON_NETS = {
    (name, *net): (name, *NETS[net])
    for name in RULES
    for net in NETS
    if net[1] == "masked" or not why_dense(make_rule(name, total_steps=40))
}
every_rule_on_its_nets = pytest.mark.parametrize(
    ("name", "make", "shape", "storage"), RULES_ON_NETS.values(), ids=map("-".join, RULES_ON_NETS)
)


def rule_of(name: str, **more) -> Rule:
    """The named rule for a training of 40 steps, with those of the settings that it has."""
    known = settings_of(name)
    return make_rule(name, total_steps=40, **{key: value for key, value in more.items() if key in known})


def begun(make, storage, rule: Rule, density: float = 0.4) -> torch.nn.Module:
    """A model as the rule wants it at the first step."""
    plain = make()
    drawn = sk.random_topology(sk.shapes_of(plain), initial_density(rule, density), seed=0)
    model = sk.sparsify(plain, initial_topology(rule, drawn, draws()), storage, init="dense")
    prepare_layers(rule, model, plain=plain)
    return model


def seen(make, shape, storage, seed: int = 0, rule: Rule | None = None) -> tuple[torch.nn.Module, dict[str, LayerView]]:
    """A model with gradients, and what a rule sees of it after a captured backward pass."""
    model = sparse(make(), storage) if rule is None else begun(make, storage, rule)
    io = capture(model, batch_for(shape, seed=seed)[0])
    views = sk.views(model, io)
    return model, views if rule is None else with_initial_state(rule, views)


def draws(seed: int = 0) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)
