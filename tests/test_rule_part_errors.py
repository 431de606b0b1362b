"""A rule of your own with half a part, a part by an earlier name, or a part that returns something else is told so."""

import pytest
import torch
from helpers import batch_for, mlp, sparse
from torch.nn.functional import cross_entropy

import sparsekit as sk
from sparsekit.rules import DeepR, Draw, DropGrow, Rule, WrappedRule
from sparsekit.rules.cycles import Cycles
from sparsekit.rules.initial import prepare_layers
from sparsekit.rules.parts import EARLIER_NAMES, PARTS, HasState, members_of, part_of
from sparsekit.topology import Topology


class Mine(Rule):
    """It is due every other step, and keeps the topology."""

    def is_due(self, step):
        return step % 2 == 0

    def propose(self, views, step, generator):
        return Topology({name: view.topology for name, view in views.items()})


def rule_with(**members) -> Rule:
    return type("Own", (Mine,), members)()


def state(init=lambda views: {}, update=lambda views: {}) -> dict:
    return {
        "every_step": True,
        "init_state": lambda self, views: init(views),
        "update_state": lambda self, views, step, generator: update(views),
    }


def train_by_step(rule: Rule) -> None:
    model = sparse(mlp(6, 5, 3), "masked")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sk.train_step(model, optimizer, batch_for((6,)), cross_entropy, rule, 0, torch.Generator())


def train_attached(rule: Rule) -> None:
    model = sparse(mlp(6, 5, 3), "masked")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sk.attach(model, optimizer, rule)
    inputs, labels = batch_for((6,))
    cross_entropy(model(inputs), labels).backward()
    optimizer.step()


@pytest.mark.parametrize("train", [train_by_step, train_attached])
@pytest.mark.parametrize("wrap", [lambda rule: rule, lambda rule: Cycles(base=rule, explore=0.0)], ids=["it", "cycles"])
@pytest.mark.parametrize("missing", ["init_state", "update_state", "every_step"])
def test_a_rule_with_a_part_of_a_state_is_not_trained_as_if_it_had_none(missing, wrap, train):
    members = state()
    del members[missing]
    with pytest.raises(TypeError, match=rf"must define init_state, .* together, got no {missing}\. Define"):
        train(wrap(rule_with(**members)))


def test_candidates_with_half_a_state_are_told_as_well():
    half = type("Half", (Draw,), {"update_state": lambda self, view: {}})()
    with pytest.raises(TypeError, match="Half must define init_state, update_state together, got no init_state"):
        train_by_step(DropGrow(candidates=half, stop=9))


@pytest.mark.parametrize("earlier", EARLIER_NAMES)
def test_a_method_with_the_earlier_name_of_a_part_is_refused_with_the_new_one(earlier):
    with pytest.raises(TypeError, match=rf"Own must .*, got {earlier}\. Rename it to {EARLIER_NAMES[earlier]},"):
        rule_with(**{earlier: lambda self, *args, **kwargs: {}})
    with pytest.raises(TypeError, match=f"got {earlier}"):
        type("Own", (Draw,), {earlier: lambda self, view: {}})


def test_a_setting_may_have_such_a_name_and_the_new_names_exist():
    rule_with(begin=3)
    assert set(EARLIER_NAMES.values()) <= {name for part in PARTS for name in members_of(part)}


def test_a_part_of_a_wrapper_that_fails_is_not_taken_from_the_base():
    class Wrapper(WrappedRule):
        base = DeepR(stop=9)
        is_due, propose = Mine.is_due, Mine.propose

    class Failing(Wrapper):
        @property
        def every_step(self):
            return self.not_there

    assert part_of(Wrapper(), HasState)
    with pytest.raises(TypeError, match=r"Failing\.every_step must give a value, got an AttributeError within it"):
        part_of(Failing(), HasState)
    with pytest.raises(TypeError, match=r"Own\.needs_gradients must give .* a field base that is missing"):
        train_by_step(type("Own", (WrappedRule, Mine), {})())


@pytest.mark.parametrize("train", [train_by_step, train_attached])
@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        (state(init=lambda views: None), TypeError, r"init_state\(\.\.\.\) must be a Mapping, got None\. Return"),
        (state(init=lambda views: {"fc1": torch.ones(1)}), TypeError, r"\['fc1'\] must be a Mapping, got tensor"),
        (state(update=lambda views: None), TypeError, r"update_state\(\.\.\.\) must be a Mapping, got None"),
        (state(update=lambda views: {"0": {"a": 1.0}}), TypeError, r"\['0'\]\['a'\] must be a Tensor, got 1.0"),
        (state(update=lambda views: {"no": {}}), ValueError, r"must be of the layers .*, got no\. Take the names"),
        ({"gradient_penalty": lambda *_, rate: None}, TypeError, r"gradient_penalty\(\.\.\.\) must be a Tensor, got N"),
        ({"gradient_penalty": lambda *_, rate: torch.ones(1)}, ValueError, r"must have shape \(.*, got \(1,\)\. Re"),
    ],
)
def test_a_part_that_returns_something_else_is_named(members, error, message, train):
    with pytest.raises(error, match=message):
        train(rule_with(**members))


def test_layers_prepared_with_something_else_are_refused():
    with pytest.raises(TypeError, match=r"prepare_layers\(\.\.\.\) must be a Mapping, got None"):
        prepare_layers(rule_with(prepare_layers=lambda *_: None), sparse(mlp(6, 5, 3), "masked"))
