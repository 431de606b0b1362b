"""Cannistraci-Hebb training: scores worked out by hand and densely, draws within four sigma, and the hard defect."""

import dataclasses
import math

import pytest
import torch
from helpers import mlp, random_layer, train
from torch import Tensor

import sparsekit as sk
from sparsekit.rewiring.capture import LayerView
from sparsekit.rules import BRF, CannistraciHebb, CHTs, CHTss, Magnitude, RelativeImportance, Soft, Static
from sparsekit.rules.initial import initial_topology
from sparsekit.schedules import Constant, Linear, Sigmoid
from sparsekit.topology import LayerTopology, receptive_fields
from sparsekit.topology.weighted import draw_keys

TURNS = 300
INDICES = ("ch2", "ch3", "ch3.1")


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def view_of(layer: LayerTopology, values: list[float] | None = None) -> LayerView:
    numbers = torch.ones(layer.count) if values is None else torch.tensor(values)
    return LayerView(name="fc", topology=layer, values=numbers)


def sigmas(counts: Tensor, chances: Tensor) -> Tensor:
    """How far counts are from what is expected, in standard deviations."""
    wanted = counts.sum() * chances
    return (counts - wanted).abs() / (wanted * (1 - chances)).sqrt()


def dense_scores(mask: Tensor, index: str) -> Tensor:
    """The formulas as they are written, for every position."""

    def weights(common: Tensor, degrees: Tensor) -> Tensor:
        linked = (common > 0).double()
        outside = (degrees[None, :] - common).clamp_min(1) - 1
        if index == "ch2":
            return (common + linked) / (outside + 1)
        if index == "ch3":
            return linked / (outside + 1)
        return (common + linked) / (outside + 1) ** (1 + outside / (1 + outside))

    by_outputs, by_inputs = weights(mask @ mask.T, mask.sum(1)), weights(mask.T @ mask, mask.sum(0))
    return by_outputs @ mask + (by_inputs @ mask.T).T


# --- growth -----------------------------------------------------------------------------------------------------------


def test_the_score_of_a_small_layer_is_what_one_works_out_by_hand():
    # Outputs a: {0, 1}, b: {0, 2, 3}, c: {4}. Output a shares input 0 with b, which leads
    # elsewhere once: e = max(3 - 1, 1) - 1.
    layer = LayerTopology((3, 5), torch.tensor([0, 1, 5, 7, 8, 14]))
    missing = torch.tensor([2, 4, 6, 10])  # a-2, a-4, b-1, c-0
    # a-2 by outputs: E_ab = (1 + 1) / (1 + 1) = 1. By inputs: 2 has b in common with 0, which leads to a only: e = 0.
    # F_20 = (1 + 1) / 1 = 2. b-1 by outputs: E_ba = (1 + 1) / 1 = 2, as a leads to 1 only. By inputs: F_10 = 2.
    wanted = {"ch2": [3.0, 0.0, 4.0, 0.0], "ch3": [1.5, 0.0, 2.0, 0.0], "ch3.1": [2 / 2**1.5 + 2, 0.0, 4.0, 0.0]}
    for index, scores in wanted.items():
        rule = CannistraciHebb(index=index, growth="hard")
        assert rule(view_of(layer), missing, 0, draws()).tolist() == pytest.approx(scores)


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("count", [0, 9, 60, 140])
def test_scores_of_any_part_of_a_layer_are_those_of_the_dense_formulas(index, count):
    layer = random_layer((11, 13), count)
    dense = dense_scores(layer.mask().double(), index).flatten()
    for missing in layer.missing().split(40):
        scores = CannistraciHebb(index=index, growth="hard")(view_of(layer), missing, 0, draws())
        torch.testing.assert_close(scores, dense[missing], rtol=1e-12, atol=1e-12)


def test_a_convolution_is_scored_as_its_matrix():
    layer = random_layer((6, 3, 3, 3), 40)
    dense = dense_scores(layer.mask().double().flatten(1), "ch2").flatten()
    scores = CannistraciHebb(growth="hard")(view_of(layer), layer.missing(), 0, draws())
    torch.testing.assert_close(scores, dense[layer.missing()], rtol=1e-12, atol=1e-12)


def test_growth_looks_at_what_is_left_after_dropping():
    layer, rest = random_layer((9, 9), 30), random_layer((9, 9), 20)
    view = dataclasses.replace(view_of(layer), remaining=rest)
    grow = CannistraciHebb(growth="hard")
    missing = rest.missing()
    assert torch.equal(grow(view, missing, 0, draws()), grow(view_of(rest), missing, 0, draws()))
    assert not torch.equal(grow(view, missing, 0, draws()), grow(view_of(layer), missing, 0, draws()))


def test_soft_growth_draws_by_the_scores_and_hard_growth_takes_the_same_every_time():
    layer = random_layer((4, 5), 9)
    view = view_of(layer)
    missing, scores = layer.missing(), dense_scores(layer.mask().double(), "ch2").flatten()[layer.missing()]
    first = {
        growth: torch.tensor(
            [int(CannistraciHebb(growth=growth)(view, missing, 0, draws(seed)).argmax()) for seed in range(turns)]
        ).bincount(minlength=missing.numel())
        for growth, turns in (("soft", TURNS), ("hard", 9))
    }
    assert first["hard"].count_nonzero() == 1, "which is what the released code for language models does"
    chances = scores / scores.sum()
    assert sigmas(first["soft"], chances)[chances > 0].max() < 4
    assert not first["soft"][chances == 0].any()


# --- draws and drops --------------------------------------------------------------------------------------------------


def test_the_highest_keys_are_draws_without_replacement():
    weights = torch.tensor([1.0, 2.0, 5.0, 0.0])
    pairs = torch.zeros(4, 4)
    generator = draws()
    for _ in range(1000):
        pairs[tuple(draw_keys(weights, generator).topk(2).indices.tolist())] += 1
    for first, second in ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)):
        chance = weights[first] / 8 * weights[second] / (8 - weights[first])
        assert abs(pairs[first, second] - 1000 * chance) < 4 * math.sqrt(1000 * chance * (1 - chance))
    assert not pairs[3].any()
    assert not pairs[:, 3].any()


def test_what_weighs_nothing_comes_last_in_random_order():
    generator = draws()
    firsts = [int(draw_keys(torch.tensor([0.0, 0.0]), generator).argmax()) for _ in range(100)]
    assert abs(sum(firsts) - 50) < 4 * math.sqrt(100 / 4)
    assert draw_keys(torch.zeros(5), generator, power=9.0).isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_soft_removal_keeps_by_powers_of_the_magnitude(temperature):
    view, generator = view_of(LayerTopology((1, 3), torch.arange(3)), [0.5, -1.0, 1.5]), draws()
    soft = Soft(temperature=Constant(temperature))
    counts = torch.tensor([int(soft(view, 0, generator).argmax()) for _ in range(TURNS)]).bincount(minlength=3)
    chances = view.values.abs() ** temperature / (view.values.abs() ** temperature).sum()
    assert sigmas(counts, chances).max() < 4


def test_a_negative_temperature_is_refused():
    with pytest.raises(ValueError, match=r"must be at least 0, got -1.0 at step 3. Raise it"):
        Soft(temperature=Constant(-1.0))(view_of(random_layer((2, 2), 2)), 3, draws())


def test_relative_importance_is_the_share_of_both_units():
    layer = LayerTopology((2, 3), torch.tensor([0, 1, 4]))
    scores = RelativeImportance()(view_of(layer, [1.0, -3.0, 6.0]), 0, draws())
    assert scores.tolist() == pytest.approx([1 / 4 + 1, 3 / 4 + 3 / 9, 1 + 6 / 9])
    assert RelativeImportance()(view_of(layer, [0.0, 0.0, 6.0]), 0, draws()).tolist() == [0.0, 0.0, 2.0]


# --- the rules --------------------------------------------------------------------------------------------------------


def test_the_temperature_rises_until_the_rule_stops_and_no_rule_looks_at_a_gradient():
    for rule in (CHTs(stop=80), CHTss(stop=80)):
        assert [rule.drop.temperature(step) for step in (0, 40, 80)] == [1.0, 5.0, 9.0]
        assert not rule.needs_gradients
        assert not rule.replaces_step
    assert CHTs(stop=None, drop_fraction=Constant(0.1)).drop.temperature(10**6) == 1.0
    assert CHTs(stop=9, drop=Magnitude()).drop == Magnitude()


def trained(rule, steps: int = 22) -> list[sk.Topology]:
    density = rule.initial_density(0.1)
    model = sk.sparsify(mlp(8, 20, 20, 3), sk.random_topology(sk.shapes_of(mlp(8, 20, 20, 3)), density), "masked")
    optimizer, reached = torch.optim.SGD(model.parameters(), lr=0.1), []
    for step in range(steps):
        train(model, optimizer, rule, (8,), steps=1, first=step)
        reached.append(sk.topology_of(model))
    return reached


def test_hard_growth_crowds_few_units_where_soft_growth_spreads():
    layer = random_layer((40, 40), 320)
    units = {}
    for growth in ("soft", "hard"):
        rule = CHTs(stop=20, drop_fraction=Constant(0.3), growth=growth, drop=Magnitude())
        grown = rule.propose({"fc": view_of(layer)}, 0, draws())["fc"] - layer
        units[growth] = int((grown.fan_in() > 0).sum() + (grown.fan_out() > 0).sum())
    assert units["soft"] > 1.1 * units["hard"]


def test_the_density_of_chtss_falls_along_a_sigmoid_and_ends_exactly():
    rule = CHTss(stop=17, final=0.1, every=4)
    reached = trained(rule)
    assert rule.initial_density(0.1) == 0.5
    for step in (4, 8, 12, 16, 17):
        share = (1 / (1 + math.exp(-6 * (step / 8.5 - 1))) - 1 / (1 + math.exp(6))) / (
            1 / (1 + math.exp(-6)) - 1 / (1 + math.exp(6))
        )
        assert reached[step].count == round((0.5 - 0.4 * share) * reached[step].size)


@pytest.mark.parametrize(
    "given", [{"density": Constant(0.3), "final": 0.2}, {"density": Constant(0.3), "initial": 0.6}]
)
def test_a_density_beside_its_ends_is_refused(given):
    with pytest.raises(ValueError, match="density must be given alone"):
        CHTss(stop=9, **given)


def test_a_sigmoid_needs_a_steepness():
    assert Sigmoid(1.0, 0.0, 10, steepness=1e-4)(3) == pytest.approx(Linear(1.0, 0.0, 10)(3))
    with pytest.raises(ValueError, match="steepness must be above 0, got 0"):
        Sigmoid(1.0, 0.0, steepness=0.0)


# --- the local start --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fan", ["fixed", "uniform"])
@pytest.mark.parametrize("randomness", [0.0, 0.3, 1.0])
def test_receptive_fields_have_exactly_the_counts_of_the_allocation(fan, randomness):
    shapes = {"fc": (20, 30), "conv": (8, 4, 3, 3)}
    local = receptive_fields(shapes, 0.13, randomness=randomness, fan=fan, seed=1)
    assert {name: layer.count for name, layer in local.items()} == sk.topology.allocate(shapes, 0.13, "erk")
    assert local == receptive_fields(shapes, 0.13, randomness=randomness, fan=fan, seed=1)
    assert local != receptive_fields(shapes, 0.13, randomness=randomness, fan=fan, seed=2) or randomness == 0
    if fan == "fixed":
        assert all(int(layer.fan_out().max() - layer.fan_out().min()) <= 1 for layer in local.values())


def test_without_randomness_inputs_connect_to_the_nearest_outputs_around_the_ring():
    layer = receptive_fields({"fc": (6, 6)}, 0.5, randomness=0.0, allocation="uniform")["fc"]
    ends = {(int(output) - int(input)) % 6 for output, input in zip(layer.rows, layer.cols, strict=True)}
    assert ends == {0, 1, 5}


@pytest.mark.parametrize("randomness", [0.4, 1.0])
def test_outputs_are_drawn_by_their_distance(randomness):
    counts = torch.zeros(6)
    for seed in range(60):
        layer = receptive_fields({"fc": (6, 6)}, 1 / 6, randomness=randomness, allocation="uniform", seed=seed)["fc"]
        counts += ((layer.rows - layer.cols) % 6).bincount(minlength=6)
    chances = (1 + torch.tensor([0.0, 1, 2, 3, 2, 1])) ** -((1 - randomness) / randomness)
    chances /= chances.sum()
    assert sigmas(counts, chances).max() < 4


@pytest.mark.parametrize(("given", "says"), [({"randomness": 1.1}, "randomness must"), ({"fan": "wide"}, "fan")])
def test_fields_out_of_range_are_refused(given, says):
    with pytest.raises((TypeError, ValueError), match=says):
        receptive_fields({"fc": (6, 6)}, 0.5, **given)


def test_any_rule_may_start_from_receptive_fields_but_one_with_a_start_of_its_own():
    sampled = sk.random_topology({"fc": (20, 30)}, 0.1)
    local = initial_topology(BRF(base=CHTs(stop=9), randomness=0.0), sampled, draws())
    assert local["fc"].count == sampled["fc"].count
    assert local == initial_topology(BRF(base=Static(), randomness=0.0), sampled, draws())
    assert initial_topology(CHTs(stop=9), sampled, draws()) == sampled
    with pytest.raises(ValueError, match="must take any topology to start with, got SRigL"):
        BRF(base=sk.rules.SRigL(stop=9))
