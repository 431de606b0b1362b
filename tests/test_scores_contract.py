"""What every registered score must keep. New ones are checked without being named here."""

import copy
import dataclasses
import json
from functools import partial

import pytest
import torch
from helpers import MODELS, batch_for, made
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sparsekit as sk
from sparsekit import registry
from sparsekit.scores import make_score, prune
from sparsekit.settings import from_plain, to_plain
from sparsekit.topology import LayerTopology, Topology

SCORES = registry.names("score")
every_score = pytest.mark.parametrize("name", SCORES)
every_model = pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)


def unruly() -> nn.Module:
    """Everything a score might disturb: batch norm's statistics, dropout's random numbers, one frozen layer."""
    model = made(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(64, 5),
            nn.ReLU(),
            nn.Linear(5, 3),
        )
    )
    model[7].requires_grad_(False)
    return model


def few(name: str, **settings):
    """The score in few rounds, so that tests are quick."""
    score = make_score(name)
    return dataclasses.replace(score, **{"rounds": min(3, score.rounds), **settings})


@every_score
def test_a_score_says_what_it_is_and_where_it_comes_from_and_survives_json(name):
    thing = registry.get("score", name)
    assert registry.summary_of(thing).endswith(".")
    assert registry.source_of(thing)
    score = make_score(name)
    assert from_plain(json.loads(json.dumps(to_plain(score)))) == score
    for field in dataclasses.fields(score):
        assert field.kw_only
        assert field.metadata["help"]


@every_score
@every_model
def test_scores_are_finite_numbers_for_every_weight_and_depend_on_the_seed_only(name, make, shape):
    model, batches = make(), [batch_for(shape)]
    kept = Topology({layer: LayerTopology.full(size) for layer, size in sk.shapes_of(model).items()})
    score = partial(make_score(name), model, batches, nn.functional.cross_entropy, kept=kept)
    first, again = (score(torch.Generator().manual_seed(3)) for _ in range(2))
    assert {layer: tuple(tensor.shape) for layer, tensor in first.items()} == sk.shapes_of(model)
    assert all(tensor.isfinite().all() for tensor in first.values())
    assert not any(tensor.requires_grad for tensor in first.values())
    assert all(torch.equal(tensor, again[layer]) for layer, tensor in first.items())


@every_score
@pytest.mark.parametrize("training", [True, False])
def test_pruning_leaves_the_model_and_the_random_state_bit_by_bit_as_they_were(name, training):
    model = unruly().train(training)
    state, stream = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    inputs, labels = batch_for((2, 6, 6))
    before = inputs.clone()
    prune(model, few(name), 0.3, batches=[(inputs, labels)])
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [module.training for module in model.modules()] == [training] * len(list(model.modules()))
    assert not model[7].weight.requires_grad
    assert model[5].weight.requires_grad
    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.equal(inputs, before)


@every_score
@settings(max_examples=15, deadline=None)
@given(density=st.floats(0.03, 1.0), scope=st.sampled_from(["overall", "layer"]), seed=st.integers(0, 9))
def test_the_budget_is_exact_for_any_density_and_no_layer_is_emptied(name, density, scope, seed):
    make, shape = MODELS["linear"]
    model = make()
    kept = prune(model, few(name, scope=scope), density, batches=[batch_for(shape)], seed=seed)
    assert kept.shapes == sk.shapes_of(model)
    assert kept.count == round(density * kept.size)
    if scope == "overall" and round(density * kept.size) >= 2:
        assert min(layer.count for layer in kept.values()) >= 1


@every_score
@every_model
def test_more_rounds_only_take_away_unless_weights_may_come_back(name, make, shape):
    score = few(name, rounds=1)
    model, batches = make(), [batch_for(shape)]
    if score.comeback:
        return
    two = prune(model, dataclasses.replace(score, rounds=2), 0.25, batches=batches)
    half = prune(model, score, 0.5, batches=batches)
    assert all((two[layer] - half[layer]).count == 0 for layer in two)


@every_score
def test_excluded_layers_are_left_alone(name):
    make, shape = MODELS["linear"]
    assert list(prune(make(), few(name), 0.5, batches=[batch_for(shape)], exclude=("last",))) == ["0"]


@every_score
def test_a_sparse_model_or_a_wrong_density_is_refused(name):
    make, shape = MODELS["linear"]
    sparse = sk.sparsify(make(), sk.random_topology(sk.shapes_of(make()), 0.5))
    with pytest.raises(ValueError, match="plain model"):
        prune(sparse, few(name), 0.2, batches=[batch_for(shape)])
    with pytest.raises(ValueError, match="density"):
        prune(make(), few(name), 0.0, batches=[batch_for(shape)])


@pytest.mark.parametrize("name", [name for name in SCORES if name not in ("random", "magnitude")])
def test_a_score_that_needs_examples_says_so(name):
    with pytest.raises(ValueError, match="got no"):
        prune(MODELS["linear"][0](), few(name), 0.5)


@every_score
@every_model
def test_what_was_pruned_can_be_trained_in_both_storages(name, make, shape):
    model = make()
    kept = prune(model, few(name), 0.4, batches=[batch_for(shape)])
    for storage in ("masked", "csr"):
        sparse = sk.sparsify(model, kept, storage)
        inputs, labels = batch_for(shape)
        nn.functional.cross_entropy(sparse(inputs), labels).backward()
        assert sk.topology_of(sparse) == kept
