"""A rule has the optional parts that it defines, training asks for each of them, and a wrapper hands them on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
import torch
from helpers import mlp, train
from rule_helpers import draws
from torch import Tensor, nn

import sparsekit as sk
from sparsekit.layers.masked import ForwardMask
from sparsekit.rewiring.capture import LayerView, NoState
from sparsekit.rules import Rule, Static, WrappedRule, prepare_layers, with_initial_state
from sparsekit.rules.initial import initial_density, initial_topology, samples_anew, why_dense
from sparsekit.rules.parts import PARTS, HasGrowInit, HasInitialDensity, HasState, members_of, part_of
from sparsekit.topology import LayerTopology, Topology
from sparsekit.utils.registry import get, names

TOPOLOGY = {"0": LayerTopology((4, 6), torch.arange(12))}


@dataclass(frozen=True, kw_only=True)
class Shifting(Rule):
    """Move every connection of a layer to the next position, at every second step."""

    def is_due(self, step: int) -> bool:
        return step % 2 == 0

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        layers = {name: view.topology for name, view in views.items()}
        return Topology(
            {n: LayerTopology(x.shape, ((x.indices + 1) % x.size).sort().values) for n, x in layers.items()}
        )


@dataclass(frozen=True, kw_only=True)
class Counting(Shifting):
    """It counts the steps that it has seen in each layer."""

    every_step: bool = True

    def init_state(self, views: Mapping[str, LayerView]) -> dict[str, dict[str, Tensor]]:
        return {name: {"count": torch.tensor(0)} for name in views}

    def update_state(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> dict:
        return {name: {"count": view.state["count"] + 1} for name, view in views.items()}


class Halves(ForwardMask):
    """Use half of every weight, which shows in the outputs."""

    def forward(self, weight: Tensor, mask: Tensor) -> Tensor:
        return weight / 2


@dataclass(frozen=True, kw_only=True)
class Everything(Counting):
    """A rule that has every optional part that can be seen in a training."""

    penalty: float = 0.0
    needs_dense = "it is here to show that"

    def grow_init(self, views: Mapping[str, LayerView]):
        return lambda name, grown: torch.full((grown.numel(),), 7.0, dtype=torch.float64)

    def gradient_penalty(self, view: LayerView, step: int, generator: torch.Generator, *, rate: float) -> Tensor:
        return torch.full_like(view.values, self.penalty / rate)

    def forward_masks(self, topology: Topology) -> dict[str, ForwardMask]:
        return {name: Halves() for name in topology}

    def initial_density(self, density: float) -> float:
        return min(1.0, 2 * density)

    def initial_topology(self, topology: Topology, generator: torch.Generator) -> Topology:
        return Topology({n: LayerTopology(x.shape, torch.arange(x.count)) for n, x in topology.items()})

    def prepare_layers(self, model: nn.Module, plain: nn.Module | None, sampled: Topology) -> dict:
        return {name: {"count": torch.tensor(100)} for name in sampled}


@dataclass(frozen=True, kw_only=True)
class Wrapped(WrappedRule):
    """Another rule, due at step 1 as well."""

    base: Rule

    def is_due(self, step: int) -> bool:
        return step == 1 or self.base.is_due(step)

    def propose(self, views: Mapping[str, LayerView], step: int, generator: torch.Generator) -> Topology:
        return self.base.propose(views, step, generator)


def prepared(rule: Rule) -> nn.Module:
    plain = mlp(6, 4)
    model = sk.sparsify(plain, TOPOLOGY, init="dense")
    prepare_layers(rule, model, plain=plain)
    return model


def test_a_rule_of_two_methods_has_no_optional_part_and_trains():
    assert not [part.__name__ for part in PARTS if part_of(Shifting(), part)]
    assert (initial_density(Shifting(), 0.3), why_dense(Shifting()), samples_anew(Shifting())) == (0.3, "", False)
    model = prepared(Shifting())
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), Shifting(), (6,), steps=3)
    assert sk.topology_of(model)["0"].indices.tolist() == list(range(2, 14))


def test_what_the_base_class_has_is_two_methods_to_write_and_two_more_members():
    members = [name for name in vars(Rule) if not name.startswith("_")]
    assert sorted(members) == ["is_due", "needs_gradients", "propose", "training_flops"]
    assert sorted(Rule.__abstractmethods__) == ["is_due", "propose"]


def test_a_part_is_there_when_all_its_members_are():
    @dataclass(frozen=True, kw_only=True)
    class Half(Shifting):
        def init_state(self, views):
            return {}

    with pytest.raises(TypeError, match="Half must define init_state, update_state, every_step together"):
        part_of(Half(), HasState)
    assert part_of(Shifting(), HasState) is None
    assert part_of(Counting(), HasState) is not None
    assert set(members_of(HasState)) == {"every_step", "init_state", "update_state"}


def test_members_that_only_the_rule_itself_has_count_as_those_of_its_class():
    class Unfrozen(Shifting):
        init_state, update_state = Counting.init_state, Counting.update_state

        def __init__(self):
            object.__setattr__(self, "every_step", True)

    assert part_of(Unfrozen(), HasState) is not None


def test_a_state_starts_once_and_is_updated_at_every_step_or_on_rewiring_steps_only():
    for every_step, count in ((True, 5), (False, 3)):
        rule = Counting(every_step=every_step)
        model = prepared(rule)
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), rule, (6,), steps=5)
        assert int(model[0].rule_state["count"]) == count


@pytest.mark.parametrize("replaces_step", [True, False])
def test_an_attached_rule_updates_its_state_once_a_step_as_a_training_does(replaces_step):
    @dataclass(frozen=True, kw_only=True)
    class Replacing(Counting):
        replaces_step: bool = True

    model, rule = prepared(Counting()), Replacing(replaces_step=replaces_step)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sk.attach(model, optimizer, rule)
    for _ in range(5):
        model(torch.ones(2, 6, dtype=torch.float64)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert int(model[0].rule_state["count"]) == 5


def test_a_state_that_is_there_is_kept_and_one_that_is_missing_says_so():
    rule, model = Counting(), prepared(Counting())
    views = sk.views(model)
    assert isinstance(views["0"].state, NoState)
    with pytest.raises(ValueError, match="needs the state 'count' of every layer, got views without it"):
        rule.update_state(views, 0, draws())
    assert int(with_initial_state(rule, views)["0"].state["count"]) == 0
    model[0].set_rule_state({"count": torch.tensor(3)})
    assert int(with_initial_state(rule, sk.views(model))["0"].state["count"]) == 3


def test_every_part_is_asked_for_in_a_training():
    rule = Everything()
    assert initial_density(rule, 0.3) == 0.6
    assert initial_topology(rule, Topology(TOPOLOGY), draws())["0"].indices.tolist() == list(range(12))
    model = prepared(rule)
    halved = model[0].dense_weight()
    torch.testing.assert_close(halved, sk.sparsify(mlp(6, 4), TOPOLOGY, init="dense")[0].dense_weight() / 2)
    (update,) = train(model, torch.optim.SGD(model.parameters(), lr=0.5), rule, (6,), steps=1)
    assert update.num_grown == 1
    assert model[0].values()[-1] == 7.0
    assert int(model[0].rule_state["count"]) == 101


def test_a_penalty_is_added_to_the_gradients_of_a_step():
    values = []
    for penalty in (0.0, 3.0):
        rule = Everything(penalty=penalty)
        model = prepared(rule)
        train(model, torch.optim.SGD(model.parameters(), lr=0.5), rule, (6,), steps=1, first=1)
        values.append(model[0].values())
    torch.testing.assert_close(values[0] - values[1], torch.full((12,), 3.0, dtype=torch.float64))


def test_layers_that_have_a_state_keep_it_where_others_get_their_first():
    plain = mlp(6, 4, 4)
    model = sk.sparsify(plain, sk.random_topology(sk.shapes_of(plain), 0.5), init="dense")
    model[2].set_rule_state({"count": torch.tensor(8)})
    states = with_initial_state(Counting(), sk.views(model))
    assert {name: int(view.state["count"]) for name, view in states.items()} == {"0": 0, "2": 8}


def test_a_wrapper_hands_on_every_part_but_those_that_it_defines():
    rule = Wrapped(base=Everything())
    assert all(part_of(rule, part) for part in PARTS if part_of(Everything(), part))
    assert not [part for part in PARTS if part_of(Wrapped(base=Static()), part)]
    assert [step for step in range(4) if rule.is_due(step)] == [0, 1, 2]
    assert rule == replace(rule) != Wrapped(base=Static())
    assert not hasattr(rule, "__name__"), "which its class has, and pytest asks for"


@pytest.mark.parametrize("name", names("rule"))
def test_a_wrapped_rule_has_the_parts_of_its_base(name):
    make = get("rule", name)
    base = Static() if name in ("static", "drop-grow") else make() if name == "brf" else make(stop=9)
    for part in PARTS:
        assert (part_of(Wrapped(base=base), part) is None) == (part_of(base, part) is None)


def test_growth_sees_what_dropping_left():
    @dataclass(frozen=True, kw_only=True)
    class Noting(sk.rules.GrowScore):
        def __call__(self, view: LayerView, candidates: Tensor, step: int, generator: torch.Generator) -> Tensor:
            seen.append((step, view.remaining.count))
            return candidates.double()

    seen: list[tuple[int, int]] = []
    rule = sk.rules.DropGrow(grow=Noting(), stop=9, every=1)
    view = LayerView(name="0", topology=TOPOLOGY["0"], values=torch.arange(12.0))
    rule.propose({"0": view}, 2, draws())
    assert set(seen) == {(2, 12 - int(rule.drop_fraction_at(2) * 12))}


def test_grow_init_of_a_rule_without_one_is_zero():
    assert part_of(Shifting(), HasGrowInit) is None
    assert part_of(Everything(), HasInitialDensity) is not None
    model = prepared(Shifting())
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), Shifting(), (6,), steps=1)
    assert model[0].values()[-1] == 0
