"""The rules of single papers: golden values, what their papers promise, and the defects of published codes."""

import dataclasses
import importlib
import itertools
import math

import pytest
import torch
from helpers import batch_for, capture, dense_gradients, mlp, random_layer, small_conv_net, train
from torch import nn
from torch.nn.functional import cross_entropy

import sparsekit as sk
from sparsekit.experiments import build_model
from sparsekit.layers import active_topology
from sparsekit.rewiring.capture import LayerIO, LayerView, NoState
from sparsekit.rules import (
    DSR,
    GMP,
    MEST,
    SETITOP,
    SNFS,
    SRSTE,
    STR,
    DeepR,
    Draw,
    DynamicNOfM,
    GraNet,
    Magnitude,
    MESTSoft,
    NeverActive,
    Random,
    RigL,
    RigLITOP,
    Rule,
    SRigL,
    TopKAST,
    WeightAndGradient,
)
from sparsekit.rules.initial import initial_density, initial_topology, prepare_layers, with_initial_state
from sparsekit.rules.n_of_m import UsesNOfM
from sparsekit.rules.parts import State
from sparsekit.rules.rows import strongest
from sparsekit.rules.soft_threshold import SoftThreshold
from sparsekit.schedules import Constant
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import keep_n_of_m
from sparsekit.train.rule_step import replaces_update


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def begun(plain: nn.Module, rule: Rule, density: float, storage: str = "masked") -> nn.Module:
    drawn = sk.random_topology(sk.shapes_of(plain), initial_density(rule, density), seed=0)
    model = sk.sparsify(plain, initial_topology(rule, drawn, draws()), storage, init="dense")
    prepare_layers(rule, model, plain=plain, sampled=drawn)
    return model


def followed(rule: Rule, *, density: float = 0.3, steps: int = 40, plain: nn.Module | None = None, rate: float = 0.1):
    """Train an MLP step by step; yield `(step, model, change)` after each."""
    model = begun(plain or mlp(6, 20, 20, 3), rule, density)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for step in range(steps):
        change = train(model, optimizer, rule, (6,), steps=1, first=step)[0]
        yield step, model, change


def proposal(rule: Rule, views: dict[str, LayerView], step: int, generator: torch.Generator) -> Topology:
    return rule.propose(with_initial_state(rule, views), step, generator)


def new_state(rule: Rule, views: dict[str, LayerView], step: int, generator: torch.Generator) -> State:
    return rule.update_state(with_initial_state(rule, views), step, generator)


def view_of(values: list[float], at: list[int], shape: tuple[int, int], **state: torch.Tensor) -> LayerView:
    layer = LayerTopology(shape, torch.tensor(at))
    numbers = torch.tensor(values, dtype=torch.float64)
    return LayerView(name="fc", topology=layer, values=numbers, state=state or NoState())


# --- what the presets promise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [GMP, GraNet, MEST, MESTSoft, SETITOP, RigLITOP, DSR, SNFS, DeepR, TopKAST])
def test_weights_are_updated_on_rewiring_steps_too(make):
    assert not replaces_update(make(stop=9))


@pytest.mark.parametrize("make", [GMP, MEST, MESTSoft, SETITOP])
def test_what_grows_at_random_never_looks_at_a_gradient(make):
    rule = make(stop=9)
    assert (rule.grow, rule.candidates) == (Random(), Draw())
    assert not rule.needs_gradients


def test_methods_whose_density_falls_begin_with_the_density_of_their_first_step():
    rules = (GMP(stop=9), GraNet(stop=9), MESTSoft(stop=9, final=0.1), MEST(stop=9))
    assert [rule.initial_density(0.1) for rule in rules] == pytest.approx([1.0, 0.5, 0.15, 0.1])


@pytest.mark.parametrize("make", [SETITOP, RigLITOP])
def test_itop_exchanges_half_at_first_and_never_quite_stops(make):
    rule = make(stop=100)
    assert [rule.drop_fraction_at(step) for step in (0, 50, 100)] == pytest.approx([0.5, 0.2525, 0.005])


# --- gradual pruning --------------------------------------------------------------------------------------------------


def test_gmp_follows_the_cubic_and_ends_exactly_though_the_interval_does_not_divide_it():
    rule = GMP(stop=37, final=0.05, every=10)
    reached = {step: sk.topology_of(model) for step, model, _ in followed(rule)}
    size = reached[0].size
    assert [step for step in range(40) if rule.is_due(step)] == [0, 10, 20, 30, 37]
    assert reached[0].count == size
    for step in (10, 20, 30, 37):
        assert reached[step].count == round((0.05 + 0.95 * (1 - step / 37) ** 3) * size)
    assert reached[39].count == round(0.05 * size)


@pytest.mark.parametrize(
    ("make", "given"),
    [
        *((make, {"density": Constant(0.3), name: 0.2}) for make in (GMP, GraNet) for name in ("initial", "final")),
        (MESTSoft, {"density": Constant(0.3), "final": 0.2}),
        *((make, {"drop": Magnitude(), "gradient": 0.2}) for make in (MEST, MESTSoft)),
    ],
)
def test_what_would_be_ignored_beside_a_field_given_by_hand_is_refused(make, given):
    by_hand, ignored = given
    with pytest.raises(ValueError, match=f"{by_hand} must be given alone, .* {ignored}=0.2. Leave one out"):
        make(stop=9, **given)
    assert getattr(make(stop=9, **{by_hand: given[by_hand]}), by_hand) == given[by_hand]


def test_gmp_begins_with_the_density_it_is_told():
    rule = GMP(stop=10, final=0.1, initial=0.4)
    assert rule.initial_density(0.1) == rule.density_at(0) == 0.4
    assert rule.density_at(5) == pytest.approx(0.1 + 0.3 / 8)
    _, model, _ = next(followed(rule, density=0.1))
    assert sk.topology_of(model).density == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(("make", "first"), [(GMP, 1.0), (GraNet, 0.5)])
def test_gradual_pruning_that_starts_later_keeps_its_first_density_until_then(make, first):
    rule = make(start=500, stop=1000, final=0.05)
    wanted = [0.05 + (first - 0.05) * left**3 for left in (1, 1, 1, 0.5, 0)]
    assert [rule.density_at(step) for step in (0, 499, 500, 750, 1000)] == pytest.approx(wanted)
    assert rule.initial_density(0.05) == first


@pytest.mark.parametrize("make", [GMP, GraNet])
def test_a_network_is_as_dense_as_at_first_until_pruning_starts_and_ends_as_told(make):
    rule = make(start=12, stop=24, every=4, final=0.05)
    first, counts = rule.initial_density(0.05), []
    for _, model, _ in followed(rule, density=0.05, steps=26):
        size = sk.topology_of(model).size
        counts.append(sk.topology_of(model).count)
    wanted = {16: 0.05 + (first - 0.05) * (2 / 3) ** 3, 20: 0.05 + (first - 0.05) / 27, 24: 0.05}
    assert counts[:16] == [round(first * size)] * 16
    assert [counts[step] for step in wanted] == [round(density * size) for density in wanted.values()]


def test_pruning_that_starts_where_it_stops_is_done_in_one_step():
    rule = GMP(start=6, stop=6, final=0.1)
    assert [rule.density_at(step) for step in (0, 5, 6, 7)] == [1.0, 1.0, 0.1, 0.1]
    assert [step for step in range(20) if rule.is_due(step)] == [6]


def test_the_soft_memory_bound_that_starts_later_goes_through_all_its_stages():
    rule = MESTSoft(start=20, stop=60, final=0.2, every=10)
    steps = (0, 20, 49, 50, 59, 60)
    assert [rule.density_at(step) for step in steps] == pytest.approx([0.3, 0.3, 0.3, 0.25, 0.25, 0.2])
    # What is dropped is what there is beyond the wanted density, at whatever step.
    kept = [rule.density_at(step) * (1 - rule.drop_fraction_at(step)) for step in steps]
    assert kept == pytest.approx([0.2] * len(steps))


@pytest.mark.parametrize("make", [GMP, GraNet])
def test_pruning_never_begins_below_the_density_that_it_ends_with(make):
    assert make(stop=9, final=0.8).density_at(9) == pytest.approx(0.8)
    assert make(stop=9, final=0.8).initial_density(0.8) >= 0.8
    with pytest.raises(ValueError, match=r"initial must be at least final, got initial=0.1 and final=0.2"):
        make(stop=9, initial=0.1, final=0.2)


def test_gmp_never_brings_back_what_it_pruned():
    kept = [sk.topology_of(model) for _, model, _ in followed(GMP(stop=37, final=0.05, every=5))]
    assert all(
        (later[name] - earlier[name]).count == 0 for earlier, later in itertools.pairwise(kept) for name in later
    )


def test_gmp_prunes_the_smallest_values_of_the_whole_network():
    values = {"a": [0.5, -0.1, 3.0, -2.0], "b": [0.2, 0.3, -1.0, 0.05]}
    views = {name: dataclasses.replace(view_of(v, [0, 1, 2, 3], (2, 2)), name=name) for name, v in values.items()}
    kept = proposal(GMP(stop=10, final=0.5), views, 10, draws())
    assert {name: layer.indices.tolist() for name, layer in kept.items()} == {"a": [0, 2, 3], "b": [2]}


def test_the_classifier_keeps_a_connection_at_any_density():
    *_, (_, model, _) = followed(GMP(stop=30, final=0.006, every=10))
    assert min(layer.count for layer in sk.topology_of(model).values()) >= 1


def test_granet_reaches_its_density_where_the_published_code_leaves_too_much():
    rule = GraNet(stop=5, final=0.05, every=1)
    assert [round(rule.density_at(step), 6) for step in range(6)] == [0.5, 0.2804, 0.1472, 0.0788, 0.0536, 0.05]
    *_, (_, model, _) = followed(rule, steps=8)
    assert sk.topology_of(model).count == round(0.05 * sk.topology_of(model).size)


def test_granet_of_one_density_is_rigl_that_updates_on_every_step():
    granet = GraNet(stop=30, final=0.3, initial=0.3, every=5)
    rigl = RigL(stop=30, drop_fraction=0.5, every=5, replaces_step=False)
    ends = [[*followed(rule)][-1][1].state_dict() for rule in (granet, rigl)]
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


def test_granet_takes_from_the_layers_with_the_smallest_values_and_then_regenerates_within_each():
    model = sk.sparsify(mlp(6, 8, 3), sk.random_topology({"0": (8, 6), "2": (3, 8)}, 0.8), "masked", init="dense")
    with torch.no_grad():
        sk.sparse_layers(model)["0"].param.mul_(1e-3)
    rule = GraNet(stop=10, final=0.4, initial=0.8, every=1, drop_fraction=Constant(0.5))
    views = sk.views(model, capture(model, batch_for((6,))[0]))
    new = proposal(rule, views, 5, draws())
    assert new["2"].count == views["2"].topology.count, "the layer with large values loses nothing"
    assert new.count == round(rule.density_at(5) * new.size)


def test_granet_exchanges_a_share_of_what_the_pruning_left():
    values = [float(size) for size in range(1, 11)]
    view = view_of(values, list(range(10)), (2, 10))
    view = dataclasses.replace(view, io=_Still(torch.arange(20, dtype=torch.float64)))
    rule = dataclasses.replace(GraNet(stop=9), density=Constant(0.3), drop_fraction=Constant(0.5))
    # Six are left, the three strongest of them stay, and three grow where the gradient is largest.
    assert proposal(rule, {"fc": view}, 0, draws())["fc"].indices.tolist() == [7, 8, 9, 17, 18, 19]


# --- MEST -------------------------------------------------------------------------------------------------------------


def test_elastic_mutation_exchanges_a_fifth_then_a_tenth_then_nothing():
    rule = MEST(stop=32, every=8)
    assert [rule.drop_fraction_at(step) for step in (0, 23, 24, 31, 32)] == [0.2, 0.2, 0.1, 0.1, 0.0]
    size = None
    for step, model, change in followed(rule, density=0.4):
        size = size or sk.topology_of(model).count
        assert sk.topology_of(model).count == size
        if change is not None:
            share = 0.2 if step < 24 else 0.1 if step < 32 else 0.0
            counts = [layer.count for layer in sk.topology_of(model).values()]
            assert change.num_dropped <= sum(math.floor(share * count) for count in counts)
            assert (change.num_dropped > 0) == (share > 0)


def test_the_soft_memory_bound_stays_between_its_densities_and_ends_at_the_wanted_one():
    rule = MESTSoft(stop=32, final=0.2, every=8)
    for step, model, _ in followed(rule, density=0.2):
        wanted = 0.3 if step < 24 else 0.25 if step < 32 else 0.2
        assert sk.topology_of(model).count == round(wanted * sk.topology_of(model).size)


def test_the_soft_memory_bound_drops_to_the_target_density_before_it_grows():
    rule = MESTSoft(stop=40, final=0.2, every=8)
    model = begun(mlp(6, 20, 3), rule, 0.2)
    views = sk.views(model, capture(model, batch_for((6,))[0]))
    new = proposal(rule, views, 8, draws())
    for name, view in views.items():
        weakest_first = view.topology.indices[view.values.abs().argsort()]
        num_kept = round(view.topology.count * 2 / 3)
        strong = LayerTopology(view.topology.shape, weakest_first[-num_kept:].sort().values)
        assert (strong - new[name]).count == 0


@pytest.mark.parametrize(("step", "connections"), [(0, 60), (30, 50), (40, 40)])
def test_of_more_connections_than_wanted_just_the_wanted_number_is_kept(step, connections):
    rule = MESTSoft(stop=40, final=0.1, every=10, allow_regrowth=False)
    view = view_of([float(size) for size in range(connections)], list(range(connections)), (20, 20))
    new = proposal(rule, {"fc": view}, step, draws())["fc"]
    assert new.count == connections
    assert (view.topology & new).indices.tolist() == list(range(connections - 40, connections))


@pytest.mark.parametrize("make", [MEST, MESTSoft])
def test_what_elastic_mutation_drops_weighs_gradients_as_told(make):
    assert make(stop=9, gradient=2.0).drop == WeightAndGradient(gradient=2.0)
    assert make(stop=9).drop == WeightAndGradient(gradient=0.0)


def test_weight_and_gradient_adds_the_sizes_of_both():
    view = view_of([3.0, -1.0], [0, 3], (2, 2))
    view = dataclasses.replace(view, existing_grads=torch.tensor([-1.0, 5.0], dtype=torch.float64))
    assert WeightAndGradient(gradient=2.0)(view, 0, draws()).tolist() == [5.0, 11.0]
    assert WeightAndGradient(gradient=0.0)(view_of([3.0, -1.0], [0, 3], (2, 2)), 0, draws()).tolist() == [3.0, 1.0]


# --- ITOP -------------------------------------------------------------------------------------------------------------


def test_growth_at_never_active_positions_never_regrows_to_one():
    rule = SETITOP(stop=40, every=4, candidates=NeverActive(), allow_regrowth=False)
    visited: Topology | None = None
    for _, model, change in followed(rule, density=0.1):
        now = sk.topology_of(model)
        if change is not None and visited is not None:
            for name, grown in change.grown.items():
                assert (visited[name].position_of(grown) == -1).all()
        visited = now if visited is None else visited | now
    assert visited is not None
    assert visited.count > 2 * now.count


def test_where_no_new_place_is_left_nothing_is_grown_and_none_is_lost():
    rule = SETITOP(stop=40, every=1, candidates=NeverActive(), allow_regrowth=False)
    counts = {sk.topology_of(model).count for _, model, _ in followed(rule, density=0.6)}
    assert len(counts) == 1


@pytest.mark.parametrize(("allow_regrowth", "wanted"), [(True, 0.2673), (False, 0.2724)])
def test_random_growth_covers_what_the_formula_predicts(allow_regrowth, wanted):
    layer = random_layer((200, 200), 2000)
    rule = SETITOP(stop=100, every=1, drop_fraction=Constant(0.5), allow_regrowth=allow_regrowth)
    visited, generator = layer, draws()
    for step in range(10):
        values = torch.randn(layer.count, generator=generator, dtype=torch.float64)
        view = LayerView(name="fc", topology=layer, values=values)
        layer = proposal(rule, {"fc": view}, step, generator)["fc"]
        visited |= layer
    assert visited.density == pytest.approx(wanted, abs=0.005)


# --- SNFS -------------------------------------------------------------------------------------------------------------


def test_the_momentum_of_missing_connections_is_kept_up_at_every_step():
    rule = SNFS(stop=40, every=10)
    model = begun(mlp(6, 20, 3), rule, 0.3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wanted = {
        name: torch.zeros(layer.topology.size, dtype=torch.float64) for name, layer in sk.sparse_layers(model).items()
    }
    for step in range(1, 4):
        inputs, labels = batch_for((6,), seed=step)
        twin = sk.densify(model)
        cross_entropy(twin(inputs), labels).backward()
        train(model, optimizer, rule, (6,), steps=1, first=step)
        for name, layer in sk.sparse_layers(model).items():
            wanted[name] = 0.9 * wanted[name] + twin.get_submodule(name).weight.grad.flatten()
            torch.testing.assert_close(layer.rule_state["momentum"], wanted[name], rtol=1e-9, atol=1e-12)
            assert layer.rule_state["momentum"][layer.topology.missing()].count_nonzero() > 0


def test_snfs_grows_where_momentum_is_largest_and_most_in_the_layer_that_has_most():
    shapes = {"a": (10, 10), "b": (10, 10)}
    views = {}
    for number, name in enumerate(shapes):
        layer = random_layer((10, 10), 30, seed=number)
        momentum = torch.rand(100, generator=draws(number), dtype=torch.float64) * (9 if name == "a" else 1)
        views[name] = LayerView(
            name=name,
            topology=layer,
            values=torch.randn(30, generator=draws(9), dtype=torch.float64),
            io=_Still(momentum),
            state=NoState(),
        )
    new = proposal(SNFS(drop_fraction=Constant(0.5)), views, 0, draws())
    assert new.count == 60
    assert new["a"].count - 15 > 3 * (new["b"].count - 15)
    for name, view in views.items():
        kept = LayerTopology((10, 10), view.topology.indices[view.values.abs().argsort()[15:]].sort().values)
        grown = (new[name] - kept).indices
        momentum = view.io.momentum
        others = (LayerTopology.full((10, 10)) - new[name]).indices
        assert momentum[grown].min() >= momentum[others].max()


def test_snfs_shares_growth_by_the_momentum_of_all_connections_those_about_to_be_dropped_too():
    # The authors' order: momentum is read first, then the weakest go. The survivors alone would say 1 : 9.
    momenta = {"a": [9.0, 9.0, 1.0, 1.0], "b": [1.0, 1.0, 9.0, 9.0]}
    views = {}
    for name, mine in momenta.items():
        momentum = torch.tensor([*mine, *[0.5] * 36], dtype=torch.float64)
        view = view_of([0.1, 0.2, 3.0, 4.0], [0, 1, 2, 3], (4, 10))
        views[name] = dataclasses.replace(view, name=name, io=_Still(momentum))
    new = proposal(SNFS(drop_fraction=Constant(0.5)), views, 0, draws())
    assert {name: layer.count for name, layer in new.items()} == {"a": 4, "b": 4}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_momentum_that_is_no_number_is_named(value):
    layer, momentum = LayerTopology((1, 6), torch.tensor([0, 1])), torch.full((6,), value, dtype=torch.float64)
    with pytest.raises(ValueError, match="momentum of fc must be finite, got .*. Look for an infinite loss"):
        proposal(SNFS(drop_fraction=Constant(0.5)), momentum_views(fc=(layer, momentum)), 0, draws())


@pytest.mark.parametrize("momentum", [0.0, 0.25, 1.0])
def test_of_the_momentum_as_much_lasts_as_it_is_told(momentum):
    rule, gradients = SNFS(momentum=momentum, stop=9), torch.arange(6, dtype=torch.float64)
    views = momentum_views(fc=(LayerTopology((1, 6), torch.tensor([0, 1])), gradients))
    before = dataclasses.replace(views["fc"], state={"momentum": torch.full((6,), 8.0, dtype=torch.float64)})
    assert new_state(rule, {"fc": before}, 3, draws())["fc"]["momentum"].tolist() == (8 * momentum + gradients).tolist()


def momentum_views(**layers: tuple[LayerTopology, torch.Tensor]) -> dict[str, LayerView]:
    return {
        name: LayerView(
            name=name,
            topology=layer,
            values=torch.rand(layer.count, generator=draws(9), dtype=torch.float64),
            io=_Still(momentum),
            state=NoState(),
        )
        for name, (layer, momentum) in layers.items()
    }


def test_layers_share_by_the_mean_of_their_momentum_and_not_by_its_sum():
    even = torch.ones(400, dtype=torch.float64)
    views = momentum_views(a=(random_layer((20, 20), 90), even), b=(random_layer((20, 20), 30), even))
    new = proposal(SNFS(drop_fraction=Constant(0.5)), views, 0, draws())
    assert [layer.count for layer in new.values()] == [45 + 30, 15 + 30]


def test_a_layer_with_all_the_momentum_is_not_filled_to_the_last_place():
    loud, quiet = 1000 * torch.ones(100, dtype=torch.float64), torch.ones(100, dtype=torch.float64)
    views = momentum_views(a=(random_layer((10, 10), 94), loud), b=(random_layer((10, 10), 40), quiet))
    new = proposal(SNFS(drop_fraction=Constant(0.5)), views, 0, draws())
    # 47 + 20 are dropped; layer a has 53 free places, and 99 % of them are 52.
    assert [layer.count for layer in new.values()] == [47 + 52, 20 + 15]


def test_momentum_counts_by_its_size_whatever_its_sign():
    momentum = torch.tensor([1.0, 1.0, 0.5, -9.0, 3.0, -2.0], dtype=torch.float64)
    views = momentum_views(fc=(LayerTopology((1, 6), torch.tensor([0, 1])), momentum))
    new = proposal(SNFS(drop_fraction=Constant(0.5)), views, 0, draws())["fc"]
    assert new.indices.tolist()[-1] == 3


class _Still(LayerIO):
    """A captured backward pass whose gradients are given."""

    def __init__(self, momentum: torch.Tensor):
        self.momentum, self.pairs = momentum, []

    def grad_at(self, indices: torch.Tensor) -> torch.Tensor:
        return self.momentum[indices]


# --- DSR --------------------------------------------------------------------------------------------------------------


def test_dsr_keeps_the_total_while_layers_move_and_its_threshold_finds_the_share():
    rule = DSR(stop=400, every=4, drop_fraction=0.1)
    first, shares = None, []
    for _, model, change in followed(rule, steps=400, plain=mlp(6, 40, 40, 3), rate=0.02):
        now = sk.topology_of(model)
        first = first or now
        assert now.count == first.count
        assert min(layer.count for layer in now.values()) >= 1
        if change is not None:
            shares.append(change.num_dropped / now.count)
    assert {name: layer.count for name, layer in now.items()} != {name: layer.count for name, layer in first.items()}
    # Doubled where less than 0.9 of the share fell, halved where more than 1.1 did; that at most doubles or halves it.
    assert all(0.55 < share / rule.drop_fraction < 1.8 for share in shares[-50:])
    assert sum(shares[-50:]) / 50 == pytest.approx(rule.drop_fraction, rel=0.1)


@pytest.mark.parametrize(("small", "factor"), [(0, 2.0), (1, 1.0), (5, 0.5)])
def test_the_threshold_is_doubled_where_too_few_fell_below_and_halved_where_too_many_did(small, factor):
    values = [1e-4] * small + [1.0] * (10 - small)
    rule = DSR(drop_fraction=0.1, threshold=0.01)
    notes = new_state(rule, {"fc": view_of(values, list(range(10)), (5, 10))}, 0, draws())
    assert float(notes["fc"]["threshold"]) == pytest.approx(0.01 * factor)
    again = new_state(rule, {"fc": view_of(values, list(range(10)), (5, 10), threshold=torch.tensor(1e-6))}, 0, draws())
    assert float(again["fc"]["threshold"]) == pytest.approx(2e-6)


def test_a_threshold_that_could_never_grow_is_refused():
    with pytest.raises(ValueError, match="threshold must be above 0, got 0"):
        DSR(threshold=0.0)


def test_dsr_never_brings_back_at_once_what_it_dropped():
    weak = view_of([1e-4] * 9 + [1.0], list(range(10)), (4, 5))
    for seed in range(5):
        new = proposal(DSR(threshold=0.01), {"fc": weak}, 0, draws(seed))["fc"]
        assert (new & weak.topology).indices.tolist() == [9]
        assert new.count == 10


def test_what_dsr_grows_goes_where_most_is_left():
    views = {
        "a": view_of([1e-4] * 12 + [1.0] * 6, list(range(18)), (6, 50)),
        "b": view_of([1.0] * 18, list(range(18)), (6, 6)),
    }
    new = proposal(DSR(threshold=0.01), views, 0, draws())
    assert {name: layer.count for name, layer in new.items()} == {"a": 6 + 3, "b": 18 + 9}


@pytest.mark.parametrize("rule", [DSR(threshold=0.01), DeepR()])
def test_no_more_is_dropped_than_there_are_free_positions(rule):
    places, signs = torch.arange(9), torch.ones(9, dtype=torch.int8)
    state = {} if isinstance(rule, DSR) else {"positions": places, "signs": signs}
    nearly_full = view_of([-1e-4] * 9, places.tolist(), (2, 5), **state)
    new = proposal(rule, {"fc": nearly_full}, 3, draws())["fc"]
    assert new.count == 9
    assert (new - nearly_full.topology).indices.tolist() == [9]


def test_a_layer_all_of_whose_values_are_tiny_keeps_the_largest():
    views = {"a": view_of([1e-4, -3e-4, 2e-4], [1, 5, 9], (3, 6)), "b": view_of([1.0] * 9, list(range(9)), (3, 6))}
    new = proposal(DSR(threshold=0.01), views, 0, draws())
    assert new["a"].position_of(torch.tensor([5])).item() >= 0
    assert new.count == 12


# --- DeepR ------------------------------------------------------------------------------------------------------------


def test_no_connection_outlives_a_change_of_its_sign():
    rule = DeepR(stop=200, temperature=Constant(1e-3))
    signs: dict[tuple[str, int], float] = {}
    total, num_changes = None, 0
    for step, model, change in followed(rule, steps=100, rate=0.3):
        assert change is not None
        num_changes += change.num_dropped
        total = total or sk.topology_of(model).count
        assert sk.topology_of(model).count == total
        now = {}
        for name, layer in sk.sparse_layers(model).items():
            known = {
                int(p): int(s) for p, s in zip(layer.rule_state["positions"], layer.rule_state["signs"], strict=True)
            }
            for place, value in zip(layer.topology.indices.tolist(), layer.values().tolist(), strict=True):
                if place in known and (name, place) in signs and step > 0:
                    assert value * signs[name, place] >= 0
                now[name, place] = known.get(place, 0)
        signs = now
    assert num_changes > 0


def test_without_noise_pull_and_learning_hardly_anything_changes():
    rule = DeepR(stop=50, shrink=0.0, temperature=Constant(0.0))
    assert sum(change.num_dropped for _, _, change in followed(rule, rate=1e-6)) == 0


def test_the_pull_is_towards_zero_and_the_noise_as_wide_as_the_temperature_says():
    rule, places = DeepR(shrink=0.5, temperature=Constant(0.02)), list(range(40_000))
    view = view_of([1.0, -1.0] * 20_000, places, (200, 200))
    pull = rule.gradient_penalty(view, 0, draws(), rate=0.25)
    assert float(pull[::2].mean()) == pytest.approx(0.5, abs=0.003)
    assert float(pull[1::2].mean()) == pytest.approx(-0.5, abs=0.003)
    assert float(pull[::2].std()) == pytest.approx(math.sqrt(2 * 0.25 * 0.02), rel=0.02)


def test_half_of_the_fresh_connections_get_the_sign_that_the_loss_does_not_want():
    places = torch.arange(2000)
    view = view_of(
        [1.0] * 2000, places.tolist(), (100, 100), positions=places[:0], signs=torch.empty(0, dtype=torch.int8)
    )
    signs = new_state(DeepR(), {"fc": view}, 5, draws())["fc"]["signs"]
    assert signs.abs().eq(1).all()
    assert 0.45 < float((signs == 1).double().mean()) < 0.55


def test_a_sign_lasts_though_the_value_changes_its_own_between_two_rewirings():
    places, signs = torch.tensor([0, 3]), torch.tensor([1, -1], dtype=torch.int8)
    crossed = view_of([-0.5, -0.5], [0, 3], (2, 2), positions=places, signs=signs)
    rule = DeepR(every=10)
    noted = new_state(rule, {"fc": crossed}, 5, draws())["fc"]
    assert noted["signs"].tolist() == [1, -1]
    assert proposal(rule, {"fc": crossed}, 10, draws())["fc"].position_of(torch.tensor([0, 3])).tolist()[0] == -1


def test_connections_leave_their_layer_where_there_are_more_free_positions_elsewhere():
    def all_crossed(count: int, shape: tuple[int, int]) -> LayerView:
        places = torch.arange(count)
        signs = torch.ones(count, dtype=torch.int8)
        return view_of([-1.0] * count, places.tolist(), shape, positions=places, signs=signs)

    new = proposal(DeepR(), {"small": all_crossed(40, (10, 10)), "large": all_crossed(40, (60, 60))}, 3, draws())
    assert new.count == 80
    assert new["small"].count < 10


# --- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [DSR, DeepR, SNFS, SRigL, TopKAST], ids=lambda make: make.__name__)
def test_a_rule_of_its_own_is_due_at_start_and_every_so_many_steps_until_stop_which_is_included(make):
    def due(**given) -> list[int]:
        return [step for step in range(30) if make(**given).is_due(step)]

    assert due(every=10, stop=20) == [0, 10, 20]
    assert due(every=7, start=3, stop=17) == [3, 10, 17]
    assert due(every=10, stop=29) == [0, 10, 20, *([29] if make is TopKAST else [])]  # what it does not use goes then


# --- Top-KAST ---------------------------------------------------------------------------------------------------------


def test_top_kast_uses_exactly_its_density_trains_more_and_leaves_the_rest_untouched():
    rule = TopKAST(stop=30, every=7, penalty=1e-2)
    size, everything = None, None
    for step, model, change in followed(rule, density=0.2):
        trained, used = sk.topology_of(model), active_topology(model)
        size = trained.size
        assert used.count == round(0.2 * size)
        assert all((used[name] - trained[name]).count == 0 for name in used)
        assert trained.count == (round(0.4 * size) if step < 28 else trained.count)
        now = {name: layer.rule_state["weights"].clone() for name, layer in sk.sparse_layers(model).items()}
        for name, layer in sk.sparse_layers(model).items():
            now[name][layer.topology.indices] = layer.values()
            outside = layer.topology.missing()
            if everything is not None and change is None:
                assert torch.equal(now[name][outside], everything[name][outside])
        everything = now


def test_top_kast_ends_with_the_used_connections_only():
    for stop in (28, 30):  # whether or not the interval divides it
        *_, (_, model, _) = followed(TopKAST(stop=stop, every=7), density=0.2)
        assert sk.topology_of(model) == active_topology(model)
        assert sk.topology_of(model).count == round(0.2 * sk.topology_of(model).size)


@pytest.mark.parametrize(("extra", "trained", "used"), [(0.5, 10, 7), (0.5, 11, 7), (1.0, 7, 4), (3.0, 11, 3)])
def test_top_kast_uses_the_nearest_integer_of_what_it_trains(extra, trained, used):
    """10 / 1.5 is 6.67 and 11 / 1.5 is 7.33, both 7; 3.5 is rounded to the even 4, and 2.75 up to 3."""
    topology = Topology({"fc": LayerTopology((4, 5), torch.arange(trained))})
    assert TopKAST(extra=extra).forward_masks(topology)["fc"].count == used


def test_a_weight_that_rests_resumes_its_value_again_when_it_returns():
    rule = TopKAST(every=1, extra=0.0)
    plain = nn.Sequential(nn.Linear(2, 2, bias=False)).double()
    plain[0].weight.data = torch.tensor([[4.0, 3.0], [2.0, 1.0]], dtype=torch.float64)
    model = sk.sparsify(plain, {"0": LayerTopology((2, 2), torch.tensor([0, 1]))}, init="dense")
    prepare_layers(rule, model, plain=plain)
    layer = sk.sparse_layers(model)["0"]
    with torch.no_grad():
        layer.param[0, 0] = 0.5  # shrunk below the resting 2.0
    seen = sk.views(model)
    sk.rewire(model, proposal(rule, seen, 3, draws()), grow_init=rule.grow_init(seen))
    assert layer.topology.indices.tolist() == [1, 2]
    assert layer.values().tolist() == [3.0, 2.0]
    assert new_state(rule, seen, 3, draws())["0"]["weights"].tolist() == [0.5, 3.0, 2.0, 1.0]


def test_the_penalty_pulls_unused_values_harder_by_the_inverse_density():
    rule = TopKAST(extra=1.0, penalty=0.5)
    view = view_of([4.0, -1.0], [0, 1], (1, 10))
    assert rule.gradient_penalty(view, 0, draws(), rate=1.0).tolist() == pytest.approx([4.0, -10.0])


def test_after_the_end_every_weight_is_used_and_none_is_pulled_harder():
    rule = TopKAST(stop=4, every=2, penalty=1e-2)
    for step, model, _ in followed(rule, density=0.2, steps=7):
        for view in sk.views(model).values():
            pull = rule.gradient_penalty(view, step + 1, draws(), rate=1.0)
            harder = pull.abs() > 2.5e-2 * view.values.abs()
            assert int(harder.sum()) == (view.topology.count // 2 if step < 4 else 0)


def test_unused_but_trained_weights_receive_the_gradient_of_the_network_that_does_not_use_them():
    rule = TopKAST(stop=30, penalty=0.0)
    model = begun(mlp(6, 20, 3), rule, 0.2)
    batch = batch_for((6,))[0]
    wanted = dense_gradients(model, batch)
    model(batch).pow(2).sum().div(2).backward()
    for name, layer in sk.sparse_layers(model).items():
        torch.testing.assert_close(layer.grads(), wanted[name][layer.topology.indices])
        assert layer.grads().count_nonzero() > layer.active.count


def test_top_kast_that_was_not_prepared_or_has_no_room_says_so():
    model = sk.sparsify(mlp(6, 20, 3), sk.random_topology({"0": (20, 6), "2": (3, 20)}, 0.4), init="dense")
    with pytest.raises(ValueError, match="prepare"):
        sk.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), TopKAST(stop=3))
    with pytest.raises(ValueError, match="plain=model"):
        prepare_layers(TopKAST(stop=3), model)
    with pytest.raises(ValueError, match="must not exceed 1"):
        TopKAST(stop=3, extra=1.0).initial_density(0.6)


# --- SRigL ------------------------------------------------------------------------------------------------------------


def test_the_constant_fan_in_of_a_layer_of_32_neurons_and_64_inputs_at_a_tenth_is_six():
    first = SRigL(stop=9).initial_topology(Topology({"fc": random_layer((32, 64), 204)}), draws())["fc"]
    assert first.fan_in().tolist() == [6] * 32


def test_where_there_are_fewer_connections_than_neurons_some_neurons_get_none():
    first = SRigL(stop=9).initial_topology(Topology({"fc": random_layer((10, 4), 3)}), draws())["fc"]
    assert sorted(first.fan_in().tolist()) == [0] * 7 + [1] * 3


@pytest.mark.parametrize("saliency", [0.0, 0.3, 0.9, 1.0])
def test_every_neuron_has_k_connections_or_none_and_neurons_only_go(saliency):
    rule = SRigL(stop=60, every=5, saliency=saliency)
    plain = mlp(6, 30, 30, 3)
    budget = {name: layer.count for name, layer in sk.random_topology(sk.shapes_of(plain), 0.25, seed=0).items()}
    alive: dict[str, set] = {}
    for _, model, _ in followed(rule, density=0.25, steps=60, plain=plain):
        for name, layer in sk.topology_of(model).items():
            fan_in = layer.fan_in()
            active = set(fan_in.nonzero().flatten().tolist())
            assert len(set(fan_in[fan_in > 0].tolist())) == 1
            assert active <= alive.get(name, active)
            assert len(active) >= 1
            k = int(fan_in.max())
            assert k == min(layer.num_inputs, max(1, budget[name] // len(active)))
            alive[name] = active
    assert len(alive["4"]) == 3, "the classes all stay"
    if saliency == 0.0:
        assert len(alive["2"]) == 30
    if saliency == 1.0:
        assert len(alive["2"]) < 30


@pytest.mark.parametrize("saliency", [0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("make", [lambda: mlp(64, 20, 3), small_conv_net], ids=["linear", "grouped conv"])
def test_so_many_neurons_stay_that_they_have_room_for_the_budget(make, density, saliency):
    rule = SRigL(stop=99, every=1, saliency=saliency)
    model = begun(make(), rule, density)
    budgets = {name: int(layer.rule_state["budget"]) for name, layer in sk.sparse_layers(model).items()}
    shape = (64,) if "0" in budgets and sk.shapes_of(make())["0"] == (20, 64) else (2, 6, 6)
    for step in range(6):
        for layer in sk.sparse_layers(model).values():  # one neuron has nearly all that is large
            layer.param.data.flatten()[0] += 9.0
        views = sk.views(model, capture(model, batch_for(shape, seed=step)[0]))
        sk.rewire(model, proposal(rule, views, step, draws()))
        for name, layer in sk.topology_of(model).items():
            active = int((layer.fan_in() > 0).sum())
            assert active >= math.ceil(budgets[name] / layer.num_inputs)
            assert budgets[name] - active < layer.count <= budgets[name]


def test_srigl_spends_its_whole_budget_where_almost_all_neurons_are_given_up():
    rule = SRigL(stop=9, saliency=0.95, drop_fraction=Constant(0.3))
    layer = random_layer((20, 64), 640)
    values = torch.rand(640, generator=draws(), dtype=torch.float64) + 10.0 * (layer.rows < 3)
    gradients = torch.zeros(20, 64, dtype=torch.float64)
    gradients[:3] = 1.0
    view = LayerView(name="a", topology=layer, values=values, io=_Still(gradients.flatten()))
    new = proposal(rule, {"a": view, "head": dataclasses.replace(view, name="head")}, 0, draws())["a"]
    assert sorted(new.fan_in().tolist()) == [0] * 10 + [64] * 10


@pytest.mark.parametrize("make", [SRigL, DynamicNOfM, SNFS])
def test_as_many_connections_are_dropped_as_the_share_says(make, monkeypatch):
    kept = []
    module = importlib.import_module(make.__module__)
    monkeypatch.setattr(module, "strongest", lambda view, count: kept.append(count) or strongest(view, count))
    layer = random_layer((20, 20), 100)
    view = LayerView(name="a", topology=layer, values=torch.arange(100.0), io=_Still(torch.ones(400)))
    for share in range(1, 100):
        proposal(make(stop=9, drop_fraction=Constant(share / 100)), {"a": view}, 0, draws())
    assert kept == [100 - share for share in range(1, 100)]


def test_a_neuron_with_just_the_share_of_salient_connections_that_is_asked_for_stays():
    # 0.29 * 100 is a little less than 29: 28 would do. k is 100, of 50 neurons with 200 inputs.
    layer = LayerTopology((50, 200), torch.cat([torch.arange(100) + 200 * row for row in range(50)]))
    salient = torch.tensor([29] * 25 + [28] * 25)
    rule = SRigL(stop=9, saliency=0.29)
    assert rule._least(100) == 29
    stays = rule._deserving(salient, layer.fan_in() > 0, least=rule._least(100), fewest=1)
    assert stays.tolist() == [True] * 25 + [False] * 25


def test_the_threshold_of_dsr_stays_where_exactly_as_many_fell_as_the_bounds_allow():
    values = torch.tensor([1e-4] * 22 + [1.0] * 178, dtype=torch.float64)
    view = LayerView(name="a", topology=random_layer((20, 20), 200), values=values)
    for drop_fraction, wanted in ((0.1, 1e-3), (0.09, 5e-4), (0.13, 2e-3)):  # 22 is 1.1 times 20; of 18 it is more
        noted = new_state(DSR(stop=9, drop_fraction=drop_fraction), {"a": view}, 0, draws())["a"]["threshold"]
        assert float(noted) == pytest.approx(wanted)


@pytest.mark.parametrize(("density", "extra"), [(10 / 11, 0.1), (1 / 3, 2.0), (0.7, 3 / 7), (1 / 1.3, 0.3)])
def test_top_kast_may_train_all_weights_and_no_more(density, extra):
    assert TopKAST(stop=3, extra=extra).initial_density(density) == 1.0


def test_an_overfull_neuron_keeps_its_largest_values():
    # The published code sorts the mask instead of the weights there, and drops arbitrary ones.
    layer = LayerTopology((2, 6), torch.arange(6))
    values = torch.tensor([0.1, 0.6, 0.2, 0.5, 0.3, 0.4], dtype=torch.float64)
    model = sk.sparsify(nn.Sequential(nn.Linear(6, 2)).double(), {"0": layer}, init="dense")
    with torch.no_grad():
        sk.sparse_layers(model)["0"].param.copy_(sk.sparse_layers(model)["0"].pack(layer, values))
    views = sk.views(model, capture(model, batch_for((6,))[0]))
    shrunk = dataclasses.replace(views["0"], state={"budget": torch.tensor(3), "classes": torch.tensor(True)})
    new = proposal(SRigL(drop_fraction=Constant(0.0)), {"0": shrunk}, 0, draws())["0"]
    assert new.indices.tolist() == [1, 3, 5]


def test_a_neuron_without_salient_connections_is_given_up_and_the_others_share_its_budget():
    layer = LayerTopology((4, 8), torch.tensor([0, 1, 8, 9, 16, 17, 24, 25]))
    values = torch.tensor([5.0, 4.0, 0.01, 0.02, 3.0, 2.0, 6.0, 7.0], dtype=torch.float64)
    gradients = torch.zeros(32, dtype=torch.float64)
    gradients[2:6] = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    hidden = LayerView(name="a", topology=layer, values=values, io=_Still(gradients))
    head = dataclasses.replace(hidden, name="head")
    new = proposal(SRigL(drop_fraction=Constant(0.25), saliency=0.6), {"a": hidden, "head": head}, 0, draws())
    assert new["a"].fan_in().tolist() == [2, 0, 2, 2]
    assert new["head"].fan_in().tolist() == [2, 2, 2, 2]


def test_a_neuron_whose_values_cancel_is_not_given_up():
    # The published code takes a neuron for dead where its weights sum to zero.
    layer = LayerTopology((2, 6), torch.tensor([0, 1, 6, 7]))
    view = LayerView(
        name="a",
        topology=layer,
        values=torch.tensor([2.0, -2.0, 3.0, 1.0], dtype=torch.float64),
        io=_Still(torch.zeros(12, dtype=torch.float64)),
    )
    head = dataclasses.replace(view, name="head")
    new = proposal(SRigL(drop_fraction=Constant(0.0)), {"a": view, "head": head}, 0, draws())
    assert new["a"].fan_in().tolist() == new["head"].fan_in().tolist() == [2, 2]


def test_what_the_first_rounding_left_unused_goes_to_the_neurons_that_are_left():
    rule = SRigL(stop=9, drop_fraction=Constant(0.1))
    experiment = sk.Experiment(model_settings={"hidden": (32,)}, density=0.1, allocation="uniform", rule=rule)
    model = build_model(experiment, input_shape=(64,), num_classes=10)
    view = sk.views(model)["fc1"]
    assert view.topology.fan_in().tolist() == [6] * 32
    silent, towards_the_last = view.topology.indices // 64 < 3, torch.arange(32 * 64) // (31 * 64)
    view = dataclasses.replace(view, values=view.values.masked_fill(silent, 0.0), io=_Still(towards_the_last.float()))
    thinner = proposal(rule, {"fc1": view}, 0, draws())["fc1"]
    assert sorted(thinner.fan_in().tolist()) == [0] * 3 + [204 // 29] * 29


def test_where_the_classes_stay_dense_no_hidden_layer_is_taken_for_them():
    rule, plain = SRigL(stop=9, saliency=1.0, drop_fraction=Constant(0.5)), mlp(6, 20, 20, 3)
    drawn = sk.random_topology(sk.shapes_of(plain, exclude=("last",)), 0.3, seed=0)
    model = sk.sparsify(plain, initial_topology(rule, drawn, draws()), init="dense")
    prepare_layers(rule, model, plain=plain, sampled=drawn)
    new = proposal(rule, sk.views(model, capture(model, batch_for((6,))[0])), 0, draws())
    assert 0 in new["2"].fan_in().tolist()


def rewired_by_srigl(values: list[float], gradients: dict[int, float], **settings) -> LayerTopology:
    """What becomes of three neurons of four inputs, each connected to its first two."""
    layer = LayerTopology((3, 4), torch.tensor([0, 1, 4, 5, 8, 9]))
    pull = torch.zeros(12, dtype=torch.float64)
    pull[list(gradients)] = torch.tensor(list(gradients.values()), dtype=torch.float64)
    view = LayerView(name="a", topology=layer, values=torch.tensor(values, dtype=torch.float64), io=_Still(pull))
    head = dataclasses.replace(view, name="head")
    return proposal(SRigL(**settings), {"a": view, "head": head}, 0, draws())["a"]


def test_large_gradients_save_a_neuron_whose_values_are_small():
    values = [3.0, 4.0, 5.0, 6.0, 0.1, 0.2]
    new = rewired_by_srigl(values, {10: 8.0, 11: 9.0}, drop_fraction=Constant(0.4), saliency=1.0)
    assert new.indices.tolist() == [0, 1, 4, 5, 10, 11]


def test_a_neuron_with_no_salient_connection_at_all_is_given_up_however_small_the_share():
    values = [3.0, 4.0, 5.0, 6.0, 0.1, 0.2]
    new = rewired_by_srigl(values, {2: 1.0, 3: 1.0}, drop_fraction=Constant(0.4), saliency=0.1)
    assert new.fan_in().tolist() == [3, 3, 0]


def test_a_connection_that_stays_and_has_a_large_gradient_counts_once():
    values = [5.0, 6.0, 3.0, 4.0, 2.0, 0.1]
    new = rewired_by_srigl(values, {8: 9.0, 2: 1.0}, drop_fraction=Constant(0.2), saliency=1.0)
    assert new.fan_in().tolist() == [3, 3, 0]


# Six connections have no room in one neuron of four inputs, so two stay where one would do.
@pytest.mark.parametrize(("least", "fan_in"), [(1, [3, 3, 0]), (2, [3, 3, 0]), (3, [2, 2, 2])])
def test_as_many_neurons_stay_as_must_those_with_most_salient_connections(least, fan_in):
    values, pull = [5.0, 6.0, 3.0, 0.3, 0.2, 0.1], {2: 1.0, 3: 2.0, 8: 0.5}  # 4, 1 and 1 are salient
    new = rewired_by_srigl(values, pull, drop_fraction=Constant(0.5), saliency=1.0, min_neurons=least)
    assert new.fan_in().tolist() == fan_in


# --- n of m -----------------------------------------------------------------------------------------------------------


def test_two_of_four_keeps_the_two_largest():
    assert keep_n_of_m(torch.tensor([[0.1, 0.5, 0.3, 0.2]]), 2, 4).mask().tolist() == [[False, True, True, False]]
    assert keep_n_of_m(torch.ones(1, 8), 2, 4).indices.tolist() == [0, 1, 4, 5]


def test_groups_of_a_convolution_are_neighbouring_channels_at_one_place_of_the_kernel():
    scores = torch.rand(3, 8, 3, 3, generator=draws())
    kept = keep_n_of_m(scores, 2, 4).mask()
    assert (kept.unflatten(1, (2, 4)).sum(2) == 2).all()
    best = scores.unflatten(1, (2, 4)).topk(2, dim=2).values.min(2, keepdim=True).values
    assert torch.equal(kept, (scores.unflatten(1, (2, 4)) >= best).flatten(1, 2))


def test_a_ragged_tail_keeps_up_to_n():
    kept = keep_n_of_m(torch.rand(5, 10, generator=draws()), 2, 4).mask()
    assert kept[:, 8:].all()
    assert kept.sum(1).tolist() == [6] * 5


def test_sr_ste_hands_the_gradient_to_all_and_pulls_the_unused_to_zero():
    weight = torch.tensor([[0.1, -0.5, 0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    used = UsesNOfM(2, 4, decay=0.25)(weight, torch.ones(1, 4, dtype=torch.bool))
    assert used.tolist() == [[0.0, -0.5, 0.3, 0.0]]
    used.backward(torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64))
    assert weight.grad.tolist() == [[1.025, 2.0, 3.0, 4.05]]


def test_sr_ste_hands_its_settings_to_every_layer_and_a_stronger_pull_leaves_unused_values_smaller():
    net = Topology({"a": random_layer((4, 8), 32), "b": random_layer((2, 4), 8)})
    for forward_mask in SRSTE(stop=9, n=1, m=3, decay=0.25).forward_masks(net).values():
        assert (forward_mask.n, forward_mask.m, forward_mask.decay) == (1, 3, 0.25)
    unused = []
    for decay in (0.0, 0.5):
        *_, (_, model, _) = followed(SRSTE(stop=30, decay=decay), steps=10)
        views = sk.views(model).values()
        unused.append(
            sum(view.values[view.active.position_of(view.topology.indices) < 0].abs().sum() for view in views)
        )
    assert unused[1] < 0.9 * unused[0]


def test_sr_ste_uses_two_of_four_at_every_step_and_has_only_these_in_the_end():
    rule = SRSTE(stop=30)
    masks = set()
    for step, model, _ in followed(rule):
        used = active_topology(model)
        masks.add(tuple(used["2"].indices.tolist()))
        hidden = used["2"].mask().unflatten(1, (-1, 4)).sum(2)
        assert (hidden == 2).all()
        assert (sk.topology_of(model)["2"].density == 1) == (step < 30)
    assert len(masks) > 1, "the mask moves"
    assert sk.topology_of(model) == used


def test_densify_gives_the_network_that_is_used():
    model = begun(mlp(8, 20, 4), SRSTE(stop=30), 0.5)
    inputs = batch_for((8,))[0]
    torch.testing.assert_close(sk.densify(model)(inputs), model(inputs))
    assert (sk.densify(model)[0].weight != 0).double().mean() == 0.5


@pytest.mark.parametrize("make", [lambda: mlp(6, 20, 3), small_conv_net], ids=["linear", "conv"])
def test_the_dynamic_form_has_n_in_every_group_after_every_rewiring_and_moves(make):
    rule = DynamicNOfM(stop=30, every=3, n=1, m=4)
    shape = (6,) if "0" in sk.shapes_of(make()) and len(sk.shapes_of(make())["0"]) == 2 else (2, 6, 6)
    model = begun(make(), rule, 0.25)
    first = sk.topology_of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(30):
        train(model, optimizer, rule, shape, steps=1, first=step)
        for layer in sk.topology_of(model).values():
            channels = layer.mask().movedim(1, -1)
            whole = channels[..., : channels.shape[-1] // 4 * 4].unflatten(-1, (-1, 4)).sum(-1)
            assert (whole == 1).all()
    assert sk.topology_of(model) != first


def test_the_dynamic_form_begins_with_n_in_every_group():
    first = DynamicNOfM(n=1, m=4, stop=9).initial_topology(Topology({"fc": random_layer((9, 8), 10)}), draws())["fc"]
    assert (first.mask().unflatten(1, (2, 4)).sum(2) == 1).all()


def test_a_group_takes_in_as_many_as_it_lost_where_its_gradient_is_largest():
    layer = LayerTopology((1, 8), torch.tensor([0, 1, 4, 5]))
    gradients = torch.tensor([0.0, 0.0, 5.0, 6.0, 0.0, 0.0, 9.0, 1.0], dtype=torch.float64)
    view = LayerView(
        name="fc", topology=layer, values=torch.tensor([0.1, 3.0, 2.0, 1.0], dtype=torch.float64), io=_Still(gradients)
    )
    new = proposal(DynamicNOfM(n=2, m=4, drop_fraction=Constant(0.25)), {"fc": view}, 0, draws())["fc"]
    assert new.indices.tolist() == [1, 3, 4, 5]


# --- STR --------------------------------------------------------------------------------------------------------------


def test_the_soft_threshold_shrinks_every_weight_and_its_own_gradient_is_the_signs_that_survive():
    forward_mask = SoftThreshold(0.0).double()
    weight = torch.tensor([[0.7, -0.9, 0.2, -0.5]], dtype=torch.float64, requires_grad=True)
    used = forward_mask(weight, torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(used, torch.tensor([[0.2, -0.4, 0.0, 0.0]], dtype=torch.float64))
    used.backward(torch.tensor([[1.0, 2.0, 4.0, 8.0]], dtype=torch.float64))
    assert weight.grad.tolist() == [[1.0, 2.0, 0.0, 0.0]]
    assert float(forward_mask.s.grad) == pytest.approx(-0.25 * (1.0 - 2.0))


def test_a_threshold_far_below_zero_leaves_the_network_dense_and_the_outcome_is_what_exceeds_it():
    plain = mlp(6, 20, 3)
    dense = begun(plain, STR(stop=9, threshold=-3200.0), 0.3)
    inputs = batch_for((6,))[0]
    torch.testing.assert_close(dense(inputs), plain(inputs))
    model = begun(plain, STR(stop=9, threshold=-2.0), 0.3)
    for name, layer in sk.sparse_layers(model).items():
        exceeds = plain.get_submodule(name).weight.abs() > torch.sigmoid(torch.tensor(-2.0))
        assert torch.equal(layer.active.mask(), exceeds)


def test_weight_decay_alone_moves_a_threshold_that_has_underflowed():
    rule = STR(stop=9, threshold=-3200.0)
    model = begun(mlp(6, 20, 3), rule, 0.3)
    train(model, torch.optim.SGD(model.parameters(), lr=0.5, weight_decay=0.01), rule, (6,), steps=1)
    for layer in sk.sparse_layers(model).values():
        assert layer.forward_mask.s.item() == pytest.approx(-3200 * (1 - 0.5 * 0.01))


def test_every_layer_learns_a_threshold_of_its_own():
    rule = STR(stop=9, threshold=-2.0)
    model = begun(mlp(6, 20, 3), rule, 0.3)
    train(model, torch.optim.SGD(model.parameters(), lr=0.5), rule, (6,), steps=2)
    first, second = (layer.forward_mask.s for layer in sk.sparse_layers(model).values())
    assert first is not second
    assert len({-2.0, first.item(), second.item()}) == 3


def test_str_drops_at_its_end_what_is_zero_then():
    rule = STR(stop=20, threshold=-1.5)
    for step, model, change in followed(rule):
        if step == 20:
            assert change.num_dropped > 0
            assert sk.topology_of(model) == active_topology(model)
        elif step < 20:
            assert sk.topology_of(model).density == 1


@pytest.mark.parametrize("make", [SRSTE, STR])
def test_rules_that_end_with_one_rewiring_must_know_when(make):
    with pytest.raises(ValueError, match="stop"):
        make()
