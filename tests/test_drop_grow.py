"""Drop and grow: exact budgets, who is dropped, who is grown."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from helpers import MODELS, STORAGES, batch_for, capture, counts_of, dense_gradients, mlp, random_layer, sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import sparsekit as sk
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import (
    GSE,
    SET,
    AllMissing,
    Candidates,
    Draw,
    DropGrow,
    DropScore,
    GrowScore,
    Magnitude,
    Random,
    RigL,
    Uniform,
    make_rule,
)
from sparsekit.schedules import Constant, Cosine, Cubic, Joined, Linear, Stages, Warmup
from sparsekit.topology import LayerTopology, Topology

both_storages = pytest.mark.parametrize("storage", STORAGES)


@dataclass(frozen=True, kw_only=True)
class OnlyFirst(Candidates):
    """The first few missing places: fewer than are wanted."""

    number: int

    def __call__(self, view, taken, count, generator):
        yield taken.missing_at(torch.arange(min(self.number, taken.size - taken.count)))


@dataclass(frozen=True, kw_only=True)
class Position(GrowScore):
    """The further back, the better."""

    def __call__(self, view, candidates, step, generator):
        return candidates.double()


@dataclass(frozen=True, kw_only=True)
class NeverKeep(DropScore):
    """Connections of negative value must go."""

    def __call__(self, view, step, generator):
        return torch.where(view.values < 0, -math.inf, view.values)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def view_of(topology: LayerTopology, name: str = "fc", values: list[float] | None = None, seed: int = 1) -> LayerView:
    numbers = torch.randn(topology.count, generator=draws(seed)) if values is None else torch.tensor(values)
    return LayerView(name=name, topology=topology, values=numbers)


def views_of(*layers: LayerTopology) -> dict[str, LayerView]:
    return {str(number): view_of(layer, str(number), seed=number) for number, layer in enumerate(layers)}


def rule(**given) -> DropGrow:
    """A rule that needs no gradients, always due."""
    own = {"grow": Random(), "candidates": Draw(), "drop_fraction": Constant(0.3), "every": 1}
    return DropGrow(**{**own, **given})


def proposed(of: DropGrow, *layers: LayerTopology, step: int = 0, seed: int = 0) -> Topology:
    return of.propose(views_of(*layers), step, draws(seed))


# --- budgets ---------------------------------------------------------------------------------------------------------

layers = st.tuples(st.integers(1, 6), st.integers(1, 8), st.floats(0, 1), st.integers(0, 99)).map(
    lambda drawn: random_layer(drawn[:2], round(drawn[2] * drawn[0] * drawn[1]), drawn[3])
)
rules = st.builds(
    rule,
    drop_fraction=st.floats(0, 1).map(Constant),
    candidates=st.sampled_from([Draw(), AllMissing()]),
    allow_regrowth=st.booleans(),
    scope=st.sampled_from(["layer", "global"]),
)


@given(rules, st.lists(layers, min_size=1, max_size=4), st.integers(0, 9))
@settings(max_examples=150)
def test_the_budget_is_exact_for_any_shape_density_and_fraction(given_rule, old, seed):
    new = proposed(given_rule, *old, seed=seed)
    assert new.shapes == {str(number): layer.shape for number, layer in enumerate(old)}
    assert new.count == sum(layer.count for layer in old)
    if given_rule.scope == "layer":
        assert [layer.count for layer in new.values()] == [layer.count for layer in old]


@given(
    rules,
    st.lists(layers, min_size=1, max_size=3),
    st.sampled_from([Linear, Cosine, Cubic]),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
    st.integers(0, 10),
)
@settings(max_examples=150)
def test_a_density_schedule_is_met_exactly_rising_or_falling(given_rule, old, schedule, start, end, step):
    density = schedule(start, end, 10)
    new = proposed(replace(given_rule, density=density), *old, step=step)

    assert new.count == max(1, round(density(step) * new.size))


def test_a_density_schedule_keeps_the_proportions_of_the_layers():
    old = [random_layer((20, 30), 60, 0), random_layer((10, 10), 40, 1), random_layer((5, 4), 20, 2)]
    same_density = proposed(rule(density=Constant(120 / 720)), *old)
    assert [layer.count for layer in same_density.values()] == [60, 40, 20]
    half = proposed(rule(density=Constant(60 / 720)), *old)
    assert [layer.count for layer in half.values()] == [30, 20, 10]
    more = proposed(rule(density=Constant(240 / 720)), *old)  # the last layer is full, the others share what is left
    assert [layer.count for layer in more.values()] == [132, 88, 20]


def test_random_growth_over_all_layers_finds_every_missing_place_equally_often():
    large, small = random_layer((40, 100), 400, 0), random_layer((10, 10), 10, 1)
    new = proposed(
        rule(drop_fraction=Constant(1.0), candidates=Draw(), scope="global", allow_regrowth=False), large, small
    )
    grown = [(layer - before).count for layer, before in zip(new.values(), (large, small), strict=True)]
    # 410 of 3,690 missing places are taken: a ninth of each layer's.
    assert grown == [400, 10]


@given(rules, st.lists(layers, min_size=1, max_size=3), st.integers(0, 5))
@settings(max_examples=80)
def test_the_budget_is_exact_when_candidates_run_short(given_rule, old, number):
    for drop in (Magnitude(), NeverKeep()):
        new = proposed(replace(given_rule, candidates=OnlyFirst(number=number), drop=drop), *old)
        assert new.count == sum(layer.count for layer in old)
        grown = [(new[str(at)] - layer).count for at, layer in enumerate(old)]
        assert all(count <= number for count in grown)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("allow_regrowth", [True, False])
@pytest.mark.parametrize("candidates", [Draw(), AllMissing()], ids=["draw", "all"])
def test_full_empty_and_one_connection_layers_keep_their_counts(scope, allow_regrowth, candidates):
    old = [LayerTopology.full((3, 4)), random_layer((3, 4), 0), random_layer((3, 4), 1), LayerTopology.full((1, 1))]
    new = proposed(
        rule(drop_fraction=Constant(1.0), allow_regrowth=allow_regrowth, scope="layer", candidates=candidates), *old
    )
    assert counts_of(new) == {"0": 12, "1": 0, "2": 1, "3": 1}
    everywhere = proposed(
        rule(drop_fraction=Constant(1.0), allow_regrowth=allow_regrowth, scope=scope, candidates=candidates), *old
    )
    assert everywhere.count == 14


def test_a_fraction_of_zero_changes_nothing_and_a_fraction_of_one_may_change_all():
    old = [random_layer((6, 8), 20, 3)]
    for scope in ("layer", "global"):
        assert proposed(rule(drop_fraction=Constant(0.0), scope=scope), *old) == Topology({"0": old[0]})
        moved = proposed(rule(drop_fraction=Constant(1.0), allow_regrowth=False, scope=scope), *old)["0"]
        assert (moved & old[0]).count == 0


def test_the_number_exchanged_is_the_fraction_rounded_down():
    old = random_layer((10, 10), 17)
    for drop_fraction, exchanged in ((0.3, 5), (0.05, 0), (0.5, 8), (1.0, 17)):
        new = proposed(rule(drop_fraction=Constant(drop_fraction), allow_regrowth=False), old)["0"]
        assert (new - old).count == (old - new).count == exchanged


def test_without_layers_there_is_nothing_to_do():
    for scope in ("layer", "global"):
        assert rule(scope=scope).propose({}, 0, draws()) == Topology()


# --- who is dropped --------------------------------------------------------------------------------------------------


def test_the_connections_with_the_smallest_values_are_dropped():
    layer = LayerTopology((2, 6), torch.tensor([0, 2, 3, 7, 8, 11]))
    view = view_of(layer, values=[0.5, -0.1, 3.0, 0.2, -0.3, -9.0])
    new = rule(drop_fraction=Constant(0.5), allow_regrowth=False).propose({"fc": view}, 0, draws())["fc"]
    assert (layer - new).indices.tolist() == [2, 7, 8]


@pytest.mark.parametrize("allow_regrowth", [True, False])
def test_whoever_may_regrow_the_connections_with_the_largest_values_stay(allow_regrowth):
    layer = LayerTopology((2, 6), torch.tensor([0, 2, 3, 7, 8, 11]))
    view = view_of(layer, values=[0.5, -0.1, 3.0, 0.2, -0.3, -9.0])
    for seed in range(20):  # grown are random ones, dropped ones among them
        new = rule(drop_fraction=Constant(0.5), allow_regrowth=allow_regrowth).propose({"fc": view}, 0, draws(seed))[
            "fc"
        ]
        assert {0, 3, 11} <= set(new.indices.tolist())
        assert new.count == 6


def test_of_equal_values_the_later_ones_are_dropped_and_exactly_as_many_as_asked_for():
    """No threshold: all values are zero here, as after a bad initialisation."""
    layer = LayerTopology((2, 6), torch.tensor([0, 2, 3, 7, 8, 11]))
    new = rule(drop_fraction=Constant(0.5), allow_regrowth=False).propose(
        {"fc": view_of(layer, values=[0.0] * 6)}, 0, draws()
    )
    assert new["fc"].count == 6
    assert (layer - new["fc"]).indices.tolist() == [7, 8, 11]


def test_global_the_weakest_go_wherever_they_are():
    weak, strong = LayerTopology((2, 4), torch.tensor([0, 1, 2])), LayerTopology((2, 4), torch.tensor([3, 4, 5]))
    views = {"weak": view_of(weak, "weak", [0.1, 0.2, 0.3]), "strong": view_of(strong, "strong", [1.0, 2.0, 3.0])}
    overall = rule(drop_fraction=Constant(0.5), allow_regrowth=False, scope="global").propose(views, 0, draws())
    assert (strong - overall["strong"]).count == 0
    assert (weak - overall["weak"]).count == 3
    apart = rule(drop_fraction=Constant(0.5), allow_regrowth=False).propose(views, 0, draws())
    assert [(layer - apart[name]).count for name, layer in (("weak", weak), ("strong", strong))] == [1, 1]


def test_a_falling_density_drops_more_than_it_grows_and_only_the_weakest():
    layer = LayerTopology.full((2, 5))
    view = view_of(layer, values=[float(number) for number in range(10)])
    pruning = rule(drop_fraction=Constant(0.0), density=Constant(0.3))
    assert pruning.propose({"fc": view}, 0, draws())["fc"].indices.tolist() == [7, 8, 9]


def test_a_rising_density_keeps_all_and_grows_the_rest():
    layer = LayerTopology((2, 5), torch.tensor([3, 4]))
    growing = rule(drop_fraction=Constant(0.0), density=Constant(0.6), grow=Position(), candidates=AllMissing())
    assert growing.propose({"fc": view_of(layer)}, 0, draws())["fc"].indices.tolist() == [3, 4, 6, 7, 8, 9]


# --- who is grown ----------------------------------------------------------------------------------------------------


@given(layers, st.integers(0, 9))
@settings(max_examples=80)
def test_candidates_are_free_positions_in_order_each_at_most_once(taken, seed):
    view = view_of(taken)
    for candidates, count in ((AllMissing(), 3), (Draw(), 3), (Draw(), taken.size)):
        parts = list(candidates(view, taken, count, draws(seed)))
        positions = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
        assert (positions.diff() > 0).all()
        assert (taken.position_of(positions) == -1).all()
        missing = taken.size - taken.count
        assert positions.numel() == (missing if isinstance(candidates, AllMissing) else min(count, missing))
        if isinstance(candidates, AllMissing):
            assert all(part.numel() <= max(1, taken.size // 4) for part in parts)


def test_sets_growth_is_uniform_over_all_free_positions():
    layer = random_layer((5, 8), 10, 3)
    growing = rule(drop_fraction=Constant(0.4), allow_regrowth=False)
    views, grown = {"fc": view_of(layer)}, torch.zeros(40)
    for seed in range(300):
        grown[(growing.propose(views, 0, draws(seed))["fc"] - layer).indices] += 1
    assert not grown[layer.indices].any()
    assert chisquare(grown[layer.missing()].numpy()).pvalue > 1e-3


def test_random_scores_over_all_missing_positions_are_uniform_too():
    layer = random_layer((5, 8), 10, 3)
    growing = rule(drop_fraction=Constant(0.4), allow_regrowth=False, candidates=AllMissing())
    views, grown = {"fc": view_of(layer)}, torch.zeros(40)
    for seed in range(300):
        grown[(growing.propose(views, 0, draws(seed))["fc"] - layer).indices] += 1
    assert chisquare(grown[layer.missing()].numpy()).pvalue > 1e-3


@both_storages
def test_set_grows_the_same_connections_whatever_the_data_and_rigl_does_not(storage):
    def grown(make, data_seed: int) -> Topology:
        model = sparse(mlp(6, 8, 3), storage)
        io = capture(model, batch_for((6,), seed=data_seed)[0])
        return make(stop=100, drop_fraction=0.5).propose(sk.views(model, io), 0, draws())

    assert grown(SET, 1) == grown(SET, 2)
    assert grown(RigL, 1) != grown(RigL, 2)
    assert not SET(stop=100).needs_gradients
    assert RigL(stop=100).needs_gradients


@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("allow_regrowth", [True, False])
@both_storages
def test_rigl_grows_exactly_the_top_of_the_dense_gradient(storage, allow_regrowth, scope, make, shape):
    model = sparse(make(), storage)
    x = batch_for(shape)[0]
    io = capture(model, x)
    dense, old = dense_gradients(model, x), sk.topology_of(model)
    new = RigL(stop=100, drop_fraction=0.5, allow_regrowth=allow_regrowth, scope=scope).propose(
        sk.views(model, io), 0, draws()
    )
    groups = [[name] for name in old] if scope == "layer" else [list(old)]
    for group in groups:
        score, values, exists = (
            torch.cat(parts)
            for parts in zip(
                *(
                    (dense[n].abs(), sk.sparse_layers(model)[n].dense_weight().flatten().abs(), old[n].mask().flatten())
                    for n in group
                ),
                strict=True,
            )
        )
        count, missing = int(exists.sum()), int((~exists).sum())
        exchanged = int(0.5 * count) if allow_regrowth else min(int(0.5 * count), missing)
        kept = torch.zeros_like(exists)
        kept[torch.where(exists, values, -1.0).topk(count - exchanged).indices] = True
        score[kept if allow_regrowth else exists] = -1
        kept[score.topk(exchanged).indices] = True
        assert torch.equal(torch.cat([new[name].mask().flatten() for name in group]), kept)


@both_storages
def test_several_micro_batches_grow_what_one_large_batch_does(storage):
    grown = []
    for parts in (1, 2, 4):
        model = sparse(mlp(6, 8, 3), storage)
        io = capture(model, *batch_for((6,), 8)[0].split(8 // parts))
        grown.append(RigL(stop=100, drop_fraction=0.5).propose(sk.views(model, io), 0, draws()))
    assert grown[0] == grown[1] == grown[2]


# --- coming back at once ---------------------------------------------------------------------------------------------


def returning(storage: str, allow_regrowth: bool):
    """A layer whose weakest connection has by far the largest gradient; trained one step with momentum."""
    model = sk.sparsify(mlp(4, 1), {"0": LayerTopology((1, 4), torch.tensor([0, 1]))}, storage, init="dense")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 4).double()).sum().backward()
    optimizer.step()
    with torch.no_grad():
        model[0].param.view(-1)[:2] = torch.tensor([0.125, 5.0])
    optimizer.zero_grad()
    io = capture(model, torch.tensor([[100.0, 1.0, 2.0, 3.0]]).double())
    rigl = RigL(stop=100, drop_fraction=0.5, allow_regrowth=allow_regrowth)
    change = sk.rewire(model, rigl.propose(sk.views(model, io), 0, draws()), optimizer)
    momentum = model[0].unpack(optimizer.state[model[0].param]["momentum_buffer"])
    return model[0].topology.indices.tolist(), model[0].values().tolist(), momentum.tolist(), change


@both_storages
def test_a_connection_dropped_and_regrown_at_once_keeps_value_and_momentum(storage):
    connections, values, momentum, change = returning(storage, allow_regrowth=True)
    assert connections == [0, 1]
    assert values == [0.125, 5.0]
    assert momentum == [1.0, 1.0]
    assert change.num_grown == change.num_dropped == 0


@both_storages
def test_without_regrow_a_dropped_connection_is_never_picked_and_the_next_best_starts_at_zero(storage):
    connections, values, momentum, change = returning(storage, allow_regrowth=False)
    assert connections == [1, 3]
    assert values == [5.0, 0.0]
    assert momentum == [1.0, 0.0]
    assert change.dropped["0"].tolist() == [0]
    assert change.grown["0"].tolist() == [3]


@given(layers, st.sampled_from([Draw(), AllMissing()]), st.floats(0, 1))
@settings(max_examples=80)
def test_without_regrow_what_is_dropped_is_gone(old, candidates, drop_fraction):
    new = proposed(rule(drop_fraction=Constant(drop_fraction), allow_regrowth=False, candidates=candidates), old)["0"]
    wanted = min(int(drop_fraction * old.count), old.size - old.count)
    assert (old - new).count == (new - old).count == wanted


@pytest.mark.parametrize("rounding", ["down", "up", "nearest"])
def test_a_share_of_the_connections_that_is_a_integer_is_exchanged_to_the_last(rounding):
    # In floating point 0.29 * 100 is a little less than 29, and 0.07 * 100 a little more than 7.
    for share in range(1, 100):
        exact = rule(drop_fraction=Constant(share / 100), rounding=rounding)
        assert exact._num_exchanged(100, 0) == share
        assert exact._num_exchanged(300, 0) == 3 * share


def test_shares_of_a_decaying_fraction_are_those_of_its_formula():
    # A third of the way down the cosine three quarters are left.
    assert RigL(stop=75, drop_fraction=0.3)._num_exchanged(1000, 25) == 225
    assert GSE(stop=75, drop_fraction=0.2)._num_exchanged(1000, 25) == 150


def test_candidates_are_drawn_as_often_as_the_subset_says():
    layer = random_layer((40, 50), 100)
    assert [Uniform(subset=share / 100).num_draws(layer) for share in range(1, 400)] == list(range(1, 400))


# --- when ------------------------------------------------------------------------------------------------------------


def test_rewiring_steps_are_start_and_every_so_many_until_stop_which_is_included():
    def due(**given) -> list[int]:
        return [step for step in range(30) if rule(**given).is_due(step)]

    assert due(every=10) == [0, 10, 20]
    assert due(every=10, start=5) == [5, 15, 25]
    assert due(every=10, stop=20) == [0, 10, 20]
    assert due(every=10, stop=19) == [0, 10]
    assert due(every=7, start=3, stop=17) == [3, 10, 17]


@pytest.mark.parametrize(("every", "start", "stop"), [(10, 0, 25), (10, 3, 25), (1, 0, 25), (40, 0, 25)])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_density_schedule_arrives_although_its_end_falls_between_two_rewirings(every, start, stop, scope):
    """The released GraNet never takes the last step of its cubic schedule and stays too dense."""
    pruning = rule(
        density=Cubic(1.0, 0.1), drop_fraction=Constant(0.0), every=every, start=start, stop=stop, scope=scope
    )
    state = Topology({"0": LayerTopology.full((10, 10)), "1": LayerTopology.full((5, 4))})
    due = [step for step in range(60) if pruning.is_due(step)]
    for step in due:
        views = {name: view_of(layer, name) for name, layer in state.items()}
        state = pruning.propose(views, step, draws(step))
    assert due[-1] == stop
    assert state.count == 12


@pytest.mark.parametrize(
    ("density", "at"),
    [
        (Cubic(1.0, 0.1), [1.0, 1.0, 0.2125, 0.1]),
        (Linear(1.0, 0.1), [1.0, 1.0, 0.55, 0.1]),
        (Stages((0.8, 0.4, 0.1), (0.5, 1.0)), [0.8, 0.8, 0.4, 0.1]),
        (Joined(Constant(1.0), at=20, then=Cubic(1.0, 0.1)), [1.0, 1.0, 0.2125, 0.1]),
        (Cubic(1.0, 0.1, 40), [1.0, 0.2125, 0.1 + 0.9 / 64, 0.1]),  # of its own length: on the clock of the training
    ],
)
def test_a_density_schedule_runs_from_start_to_stop_and_the_network_begins_with_its_first_value(density, at):
    pruning = rule(density=density, drop_fraction=Constant(0.0), every=5, start=20, stop=40)
    assert [pruning.density_at(step) for step in (0, 20, 30, 40)] == pytest.approx(at)
    assert pruning.initial_density(0.1) == at[0]


def test_make_rule_stops_after_three_quarters_and_refuses_unknown_settings():
    assert make_rule("rigl", total_steps=1000).stop == 750
    assert make_rule("set", total_steps=10, stop=3, every=2).stop == 3
    assert make_rule("static", total_steps=10).is_due(0) is False
    with pytest.raises(ValueError, match="settings of rigl must be among stop, every, drop_fraction, .*, got often"):
        make_rule("rigl", total_steps=10, often=3)
    with pytest.raises(ValueError, match="rule must be one of .*rigl.*, got 'regal'"):
        make_rule("regal", total_steps=10)


def test_presets_are_the_published_methods():
    assert RigL(stop=100) == DropGrow(stop=100, every=100, drop_fraction=Cosine(0.3, 0.0))
    assert RigL(stop=100).replaces_step
    assert not SET(stop=100).replaces_step
    assert isinstance(SET(stop=100).grow, Random)
    assert SET(stop=None, drop_fraction=Constant(0.3)).drop_fraction_at(10**9) == 0.3
    assert RigL(stop=75, drop_fraction=0.3).drop_fraction_at(25) == pytest.approx(0.225)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"every": 0}, r"DropGrow.every must lie in \[1, inf\], got 0"),
        ({"start": -1}, r"DropGrow.start must lie in \[0, inf\], got -1"),
        ({"stop": -1}, r"stop must be None or at least start, got stop=-1 and start=0"),
        ({"start": 50, "stop": 40}, r"stop must be None or at least start, got stop=40 and start=50"),
        ({"scope": "network"}, r"scope must be 'layer' or 'global', got 'network'|Literal\['layer', 'global'\]"),
        ({"drop_fraction": Constant(1.5)}, r"the fraction exchanged must lie in \[0, 1\], got 1.5 at step 0"),
        (
            {"drop_fraction": Linear(0.5, -0.1), "stop": 9},
            r"the fraction exchanged must lie in \[0, 1\], got -0.1 at step 9",
        ),
        (
            {"drop_fraction": Cosine(0.3)},
            "a fraction that decays must know its end, got .* and stop=None. Give stop=STEPS",
        ),
        ({"drop_fraction": Warmup(Cosine(0.3), 5)}, "a fraction that decays must know its end, got .* and stop=None"),
        ({"density": Constant(0.0)}, r"density must lie in \(0, 1\], got 0.0"),
        ({"density": Constant(1.1)}, r"density must lie in \(0, 1\], got 1.1"),
        ({"density": Linear(1.0, 0.0), "stop": 9}, r"density must lie in \(0, 1\], got 0.0"),
        ({"density": Cubic(1.0, 0.1)}, "a density that changes must know its end, got .* and stop=None. Give stop"),
    ],
)
def test_impossible_rules_are_refused_when_they_are_made(given, message):
    # The type checker of the tests may be faster than the rule; its errors are TypeErrors.
    with pytest.raises((ValueError, TypeError), match=message):
        rule(**given)


@both_storages
def test_growing_by_gradient_without_a_captured_backward_pass_is_refused(storage):
    model = sparse(mlp(6, 8, 3), storage)
    with pytest.raises(
        ValueError, match="0: growing by gradient needs a captured backward pass, got none. Run forward"
    ):
        RigL(stop=100).propose(sk.views(model), 0, draws())


def test_scores_that_are_no_numbers_are_refused():
    view = view_of(random_layer((2, 3), 3), values=[1.0, math.nan, 2.0])
    with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
        rule(drop_fraction=Constant(0.5)).propose({"fc": view}, 0, draws())
