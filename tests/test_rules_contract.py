"""What every registered rule and part of a rule must keep. New ones are checked without being named here."""

import copy
import dataclasses
import json
from collections.abc import Iterator

import pytest
import torch
from helpers import MODELS, STORAGES, batch_for, sparse
from rule_helpers import RULES, begun, draws, every_net, every_rule_on_its_nets, rule_of, seen

import sparsekit as sk
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import Candidates, DropGrow, DropScore, GrowScore
from sparsekit.rules.initial import why_dense, with_initial_state
from sparsekit.rules.parts import HasState, part_of
from sparsekit.schedules import Constant
from sparsekit.utils import registry
from sparsekit.utils.settings import from_plain, to_plain

DROPS, GROWS, CANDIDATES = (registry.names(kind) for kind in ("drop", "grow", "candidates"))
PARTS = [(kind, name) for kind in ("drop", "grow", "candidates") for name in registry.names(kind)]


def snapshot(views: dict[str, LayerView]) -> list[torch.Tensor]:
    tensors = []
    for view in views.values():
        captured = [tensor for pair in view.io.pairs for tensor in pair]
        tensors += [view.topology.indices, view.values, view.grads, *captured]
    return [tensor.clone() for tensor in tensors]


def some_candidates(view: LayerView) -> torch.Tensor:
    return view.topology.missing()[::2]


# --- what they say about themselves ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [*PARTS, *(("rule", name) for name in RULES)])
def test_everything_registered_says_what_it_is_and_where_it_comes_from(kind, name):
    thing = registry.get(kind, name)
    assert registry.summary_of(thing).endswith(".")
    assert registry.source_of(thing), "a docstring with `Source:`"
    assert name == name.lower().replace("_", "-").replace(" ", "-")


@pytest.mark.parametrize(("kind", "name"), [*PARTS, *(("rule", name) for name in RULES)])
def test_settings_are_frozen_and_keyword_only_with_help_and_a_range_around_the_default(kind, name):
    thing = registry.get(kind, name)
    if not dataclasses.is_dataclass(thing):
        return
    assert thing.__dataclass_params__.frozen
    for field in dataclasses.fields(thing):
        assert field.kw_only
        assert field.metadata["help"]
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            low, high = field.metadata["range"]
            assert low <= field.default <= high


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_parts_survive_json_alone_and_inside_a_rule(kind, name):
    part = registry.get(kind, name)()
    assert from_plain(json.loads(json.dumps(to_plain(part)))) == part
    rule = DropGrow(stop=9, **{kind: part})
    assert from_plain(json.loads(json.dumps(to_plain(rule)))) == rule


@pytest.mark.parametrize("name", RULES)
def test_rules_survive_json_and_compare_by_their_settings(name):
    rule = rule_of(name, every=7)
    assert from_plain(json.loads(json.dumps(to_plain(rule)))) == rule == rule_of(name, every=7)
    assert hash(rule) == hash(rule_of(name, every=7))


# --- what the parts return -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DROPS)
@every_net
def test_drop_scores_are_finite_numbers_one_for_each_connection(make, shape, storage, name):
    part: DropScore = registry.get("drop", name)()
    _, views = seen(make, shape, storage)
    before = snapshot(views)
    for view in views.values():
        score = part(view, 3, draws())
        assert score.shape == view.values.shape
        assert score.isfinite().all()
        assert torch.equal(score, part(view, 3, draws()))
    assert all(torch.equal(now, then) for now, then in zip(snapshot(views), before, strict=True))


@pytest.mark.parametrize("name", GROWS)
@every_net
def test_grow_scores_are_finite_numbers_one_for_each_candidate(make, shape, storage, name):
    part: GrowScore = registry.get("grow", name)()
    _, views = seen(make, shape, storage)
    before = snapshot(views)
    for view in views.values():
        for candidates in (some_candidates(view), some_candidates(view)[:0]):
            score = part(view, candidates, 3, draws())
            assert score.shape == candidates.shape
            assert score.isfinite().all()
            assert torch.equal(score, part(view, candidates, 3, draws()))
    assert all(torch.equal(now, then) for now, then in zip(snapshot(views), before, strict=True))


@pytest.mark.parametrize("name", CANDIDATES)
@every_net
def test_candidates_are_free_positions_in_order_each_once_in_parts_smaller_than_the_layer(make, shape, storage, name):
    part: Candidates = registry.get("candidates", name)()
    _, views = seen(make, shape, storage)
    for view in views.values():
        for count in (0, 1, view.topology.count // 2):
            drawn = [list(part(view, view.topology, count, draws())) for _ in range(2)]
            assert isinstance(part(view, view.topology, count, draws()), Iterator)
            positions = torch.cat([*drawn[0], torch.empty(0, dtype=torch.int64)])
            assert (positions.diff() > 0).all()
            assert (view.topology.position_of(positions) == -1).all()
            assert ((positions >= 0) & (positions < view.topology.size)).all()
            assert all(len(piece) < view.topology.size for piece in drawn[0])
            assert all(torch.equal(*pair) for pair in zip(*drawn, strict=True))


# --- what the rules do -----------------------------------------------------------------------------------------------


@every_rule_on_its_nets
def test_a_proposal_is_pure_seeded_and_for_the_layers_shown(name, make, shape, storage):
    rule = rule_of(name, every=1)
    model, views = seen(make, shape, storage, rule=rule)
    state, before = copy.deepcopy(model.state_dict()), snapshot(views)
    global_state = torch.get_rng_state()
    first, again = (rule.propose(views, 3, draws(5)) for _ in range(2))
    state_part = part_of(rule, HasState)
    notes, same_notes = (state_part.update_state(views, 3, draws(5)) if state_part else {} for _ in range(2))
    assert first == again
    assert first.shapes == {name: view.topology.shape for name, view in views.items()}
    assert list(first) == list(views)
    assert notes.keys() == same_notes.keys()
    assert all(torch.equal(x, same_notes[layer][key]) for layer in notes for key, x in notes[layer].items())
    assert all(torch.equal(now, then) for now, then in zip(snapshot(views), before, strict=True))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), global_state)


@pytest.mark.parametrize("name", RULES)
def test_both_storages_see_the_same_and_propose_the_same(name):
    rule = rule_of(name, every=1)
    if why_dense(rule):
        return
    for make, shape in MODELS.values():
        masked, csr = (rule.propose(seen(make, shape, storage, rule=rule)[1], 3, draws(5)) for storage in STORAGES)
        assert masked == csr


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_needs_dense_memory_refuses_csr_and_says_why(name):
    rule, (make, _) = rule_of(name), MODELS["linear"]
    if not why_dense(rule):
        begun(make, "csr", rule)
        return
    with pytest.raises(ValueError, match="needs storage masked, got csr") as error:
        begun(make, "csr", rule)
    assert why_dense(rule) in str(error.value)
    with pytest.raises(ValueError, match="needs storage masked, got csr"):
        sk.Experiment(rule=rule, storage="csr")


@pytest.mark.parametrize("name", RULES)
def test_what_is_due_is_a_question_without_side_effects_and_nothing_is_due_after_stop(name):
    rule = rule_of(name, every=3, stop=12)
    due = [step for step in range(30) if rule.is_due(step)]
    assert due == [step for step in range(30) if rule.is_due(step)]
    assert all(step <= 12 for step in due)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_says_it_needs_no_gradients_needs_none(name):
    rule = rule_of(name, every=1)
    if rule.needs_gradients or why_dense(rule):
        return
    make, _ = MODELS["linear"]
    rule.propose(with_initial_state(rule, sk.views(begun(make, "csr", rule))), 1, draws())


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_a_rule_needs_gradients_exactly_if_one_of_its_parts_does(kind, name):
    own = {"drop": "magnitude", "grow": "random", "candidates": "draw"} | {kind: name}
    parts = {key: registry.get(key, value)() for key, value in own.items()}
    rule = DropGrow(drop_fraction=Constant(0.3), **parts)
    assert rule.needs_gradients == any(part.needs_gradients for part in parts.values())
    make, shape = MODELS["linear"]
    model = sparse(make(), "csr")
    if not rule.needs_gradients:
        model(batch_for(shape)[0]).sum().backward()  # every step has the gradients of what exists
        rule.propose(sk.views(model), 1, draws())
    else:
        _, views = seen(make, shape, "csr")
        assert rule.propose(views, 1, draws()).count == sk.topology_of(model).count
