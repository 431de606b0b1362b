"""Each score before training against what was worked out by hand, and the defects of published codes."""

import copy
import dataclasses
import itertools
import math
from dataclasses import dataclass, field

import pytest
import torch
from helpers import batch_for, made, mlp
from torch import nn

import sparsekit as sk
from sparsekit.datasets import few_per_class
from sparsekit.experiments import build_model
from sparsekit.scores import (
    FORCE,
    SNIP,
    GraSP,
    IterativeSNIP,
    Magnitude,
    Random,
    Score,
    ScoreView,
    SynFlow,
    Taylor,
    make_score,
    prune,
    score_whole,
)
from sparsekit.topology import LayerTopology, Topology


def full(model: nn.Module) -> Topology:
    return Topology({name: LayerTopology.full(shape) for name, shape in sk.shapes_of(model).items()})


def scored(score, model, batches, loss_fn=nn.functional.cross_entropy, kept: Topology | None = None):
    generator = torch.Generator().manual_seed(0)
    return score(
        ScoreView(model=model, topology=kept or full(model), generator=generator, batches=batches, loss_fn=loss_fn)
    )


def toy() -> tuple[nn.Module, list, object]:
    """`L = (w . x - t) ** 2 / 2` with x = (1, 2), w = (1, 1), t = 0: gradient (3, 6), and `H g` is (15, 30)."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False)).double()
    nn.init.ones_(model[0].weight)
    batch = (torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    return model, [batch], lambda outputs, labels: (outputs[:, 0] - labels).square().mean() / 2


def chain(*weights: list) -> nn.Sequential:
    """A bias-free network of given weight matrices, with ReLU between."""
    layers: list[nn.Module] = []
    for weight in weights:
        matrix = torch.tensor(weight, dtype=torch.float64)
        layers += [nn.Linear(matrix.shape[1], matrix.shape[0], bias=False), nn.ReLU()]
        layers[-2].weight = nn.Parameter(matrix)
    return nn.Sequential(*layers[:-1])


def bias_free(*widths: int, seed: int = 0) -> nn.Sequential:
    draws = torch.Generator().manual_seed(seed)
    return chain(*(torch.randn(o, i, generator=draws).tolist() for i, o in itertools.pairwise(widths)))


def positions(kept: Topology) -> set[tuple[str, int]]:
    return {(name, place) for name, layer in kept.items() for place in layer.indices.tolist()}


# --- SNIP, in one round and in many ---------------------------------------------------------------------------------


def test_snip_of_the_toy_is_three_and_six():
    assert scored(SNIP(), *toy())["0"].tolist() == [[3.0, 6.0]]


def test_snip_ranks_alike_whatever_the_loss_is_multiplied_by():
    model, batch = mlp(6, 8, 3), batch_for((6,), size=32)
    masks = [
        prune(model, SNIP(), 0.2, batches=[batch], loss_fn=lambda x, y, c=c: c * nn.functional.cross_entropy(x, y))
        for c in (1.0, 1e-3, 250.0)
    ]
    assert masks[0] == masks[1] == masks[2]


def test_snip_adds_up_all_gradients_before_it_multiplies():
    model, batches = mlp(6, 8, 3), [batch_for((6,), size=5, seed=1), batch_for((6,), size=11, seed=2)]
    whole = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    in_parts, at_once = (scored(SNIP(), model, given) for given in (batches, [whole]))
    for name in at_once:
        torch.testing.assert_close(in_parts[name], at_once[name], rtol=1e-12, atol=1e-14)


def test_force_with_one_round_is_snip_and_many_rounds_are_something_else():
    model, batches = mlp(6, 20, 20, 3), [batch_for((6,), size=64)]
    once, many, nested = (
        prune(model, score, 0.1, batches=batches)
        for score in (FORCE(rounds=1), FORCE(rounds=20), IterativeSNIP(rounds=20))
    )
    assert once == prune(model, SNIP(), 0.1, batches=batches)
    assert many != once
    assert nested != once


def test_what_force_left_out_may_regrow_and_what_iterative_snip_left_out_may_not():
    model, batches = mlp(6, 20, 20, 3), [batch_for((6,), size=64)]
    has_regrown = False
    for score, may in ((IterativeSNIP(rounds=30), False), (FORCE(rounds=30), True)):
        kept, sets = full(model), []
        for turn in range(1, score.rounds + 1):
            one_turn = dataclasses.replace(score, rounds=1)
            scores = scored(one_turn, model, batches, kept=kept)
            if not may:
                scores = {n: s.masked_fill(~kept[n].mask(), -math.inf) for n, s in scores.items()}
            count = round(score.density_after(turn, 0.1) * kept.size)
            kept = sk.keep_top_global(scores, count)
            sets.append(positions(kept))
        assert sets[-1] == positions(prune(model, score, 0.1, batches=batches))
        returned = any(later - earlier for earlier, later in itertools.pairwise(sets))
        assert not (returned and not may)
        has_regrown |= returned
    assert has_regrown


@pytest.mark.parametrize(
    ("turn", "density"),
    [(1, 0.961635), (10, 0.676243), (25, 0.37606), (50, 0.141421), (75, 0.053183), (99, 0.020798), (100, 0.02)],
)
def test_the_density_falls_exponentially_to_two_percent_in_a_hundred_rounds(turn, density):
    assert SynFlow().density_after(turn, 0.02) == pytest.approx(density, abs=5e-7)


def test_the_density_may_fall_linearly_instead():
    assert [SNIP(rounds=4, density_schedule="linear").density_after(turn, 0.2) for turn in (1, 2, 4)] == pytest.approx(
        [0.8, 0.6, 0.2]
    )


@dataclass(frozen=True, kw_only=True)
class Noting(Magnitude):
    """Magnitude that writes down how much is left whenever it is asked."""

    seen: list = field(default_factory=list)

    def __call__(self, view):
        self.seen.append(view.topology.count / view.topology.size)
        return super().__call__(view)


@pytest.mark.parametrize(
    ("density_schedule", "left"), [("exponential", [1, 0.2**0.25, 0.2**0.5]), ("linear", [1, 0.8, 0.6])]
)
def test_prune_lets_the_density_fall_as_it_is_told(density_schedule, left):
    score = Noting(rounds=4, density_schedule=density_schedule)
    assert prune(mlp(6, 40, 3), score, 0.2).density == pytest.approx(0.2, abs=0.002)
    assert score.seen[:3] == pytest.approx(left, abs=0.002)


@pytest.mark.parametrize("name", [name for name in sk.names("score") if name != "random"])
def test_a_score_within_layers_keeps_the_highest_of_each_and_over_all_layers_of_all(name):
    model, batches = mlp(6, 20, 12, 3), [batch_for((6,), size=32)]
    score = dataclasses.replace(make_score(name), rounds=1)
    scores = score_whole(model, score, batches=batches)
    within, across = (
        prune(model, dataclasses.replace(score, scope=scope), 0.25, batches=batches, allocation="uniform")
        for scope in ("layer", "global")
    )
    assert {layer: kept.count for layer, kept in within.items()} == {"0": 30, "2": 60, "4": 9}
    for layer, kept in within.items():
        assert scores[layer].flatten()[kept.indices].min() >= scores[layer].flatten()[kept.missing()].max()
    assert across == sk.keep_top_global(scores, within.count)
    assert across != within


# --- Taylor -----------------------------------------------------------------------------------------------------------


def test_taylor_with_one_batch_ranks_as_snip_does_and_with_several_differently():
    model = mlp(6, 20, 3)
    batches = [batch_for((6,), size=16, seed=seed) for seed in range(4)]
    assert prune(model, Taylor(), 0.2, batches=batches[:1]) == prune(model, SNIP(), 0.2, batches=batches[:1])
    assert prune(model, Taylor(), 0.2, batches=batches) != prune(model, SNIP(), 0.2, batches=batches)


def test_taylor_of_the_toy_is_the_square_of_snip():
    assert scored(Taylor(), *toy())["0"].tolist() == [[9.0, 36.0]]


def test_taylor_weighs_batches_by_their_samples():
    model, [(x, y)], loss_fn = toy()  # scores 9 and 36; those of (2, 0) are 16 and 0
    other = torch.tensor([[2.0, 0.0]], dtype=torch.float64).expand(3, 2)
    assert scored(Taylor(), model, [(x, y), (other, y.expand(3))], loss_fn)["0"].tolist() == [[14.25, 9.0]]


# --- GraSP ------------------------------------------------------------------------------------------------------------


def test_grasp_of_the_toy_is_fifteen_and_thirty():
    assert scored(GraSP(temperature=1.0), *toy())["0"].tolist() == [[15.0, 30.0]]


def test_grasp_keeps_the_largest_products_with_their_signs():
    model, batches, loss_fn = toy()
    model[0].weight.data = torch.tensor([[-3.0, 1.0]], dtype=torch.float64)  # gradient (-1, -2), H g = (-5, -10)
    assert scored(GraSP(temperature=1.0), model, batches, loss_fn)["0"].tolist() == [[15.0, -10.0]]
    assert prune(model, GraSP(temperature=1.0), 0.5, batches=batches, loss_fn=loss_fn)["0"].indices.tolist() == [0]


def test_grasp_adds_up_to_half_of_how_the_squared_gradient_grows_with_the_scale_of_the_weights():
    model, batches = bias_free(6, 9, 3), [batch_for((6,), size=32)]
    score = GraSP(temperature=5.0)
    total = sum(float(s.sum()) for s in scored(score, model, batches).values())

    def squared_gradient(scale: float) -> float:
        twin = bias_free(6, 9, 3)
        for parameter in twin.parameters():
            parameter.data.mul_(scale)
        inputs, labels = batches[0]
        loss = nn.functional.cross_entropy(twin(inputs) / score.temperature, labels)
        return sum(float(grad.square().sum()) for grad in torch.autograd.grad(loss, list(twin.parameters())))

    slope = (squared_gradient(1 + 1e-5) - squared_gradient(1 - 1e-5)) / 2e-5
    assert slope == pytest.approx(2 * total, rel=1e-6)


def test_the_temperature_of_grasp_changes_the_mask():
    model, batches = mlp(6, 20, 3), [batch_for((6,), size=64)]
    warm, cold = (prune(model, GraSP(temperature=t), 0.2, batches=batches) for t in (200.0, 0.2))
    assert warm != cold


def test_grasp_of_many_batches_is_that_of_all_samples_at_once():
    model, batches = mlp(6, 8, 3), [batch_for((6,), size=5, seed=1), batch_for((6,), size=11, seed=2)]
    whole = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    in_parts, at_once = (scored(GraSP(), model, given) for given in (batches, [whole]))
    for name in at_once:
        torch.testing.assert_close(in_parts[name], at_once[name], rtol=1e-10, atol=1e-18)


def test_grasp_through_fused_attention_is_the_hessian_that_differences_of_gradients_give():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 12), nn.Linear(4, 3)

        def forward(self, x):
            query, key, value = self.first(x)[:, None].chunk(3, -1)
            return self.last(nn.functional.scaled_dot_product_attention(query, key, value)[:, 0].mean(1))

    model, batch = made(Attending), batch_for((3, 4), size=16)

    def gradients(side: float, along: dict | None = None) -> dict:
        moved = copy.deepcopy(model)
        weights = {name: moved.get_submodule(name).weight for name in ("first", "last")}
        for name, step in (along or {}).items():
            weights[name].data += side * step
        loss = nn.functional.cross_entropy(moved(batch[0]), batch[1])
        return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))

    gradient = gradients(0.0)
    above, below = (gradients(side, gradient) for side in (1e-4, -1e-4))
    for name, score in scored(GraSP(temperature=1.0), model, [batch]).items():
        product = model.get_submodule(name).weight.detach() * (above[name] - below[name]) / 2e-4
        torch.testing.assert_close(score, product, rtol=1e-5, atol=1e-9)


# --- SynFlow ----------------------------------------------------------------------------------------------------------

ANY = [(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))]


def test_synflow_of_the_toy_is_conserved():
    scores = scored(SynFlow(), chain([[1, 2], [0, 3]], [[4, 5]]), ANY)
    assert scores["0"].tolist() == [[4.0, 8.0], [0.0, 15.0]]
    assert scores["2"].tolist() == [[12.0, 15.0]]


@pytest.mark.parametrize("seed", range(5))
def test_synflow_sums_to_the_same_in_every_layer_and_through_every_hidden_unit(seed):
    model = bias_free(7, 11, 9, 5, 3, seed=seed)
    scores = list(scored(SynFlow(), model, [(torch.zeros(1, 7), torch.zeros(1))]).values())
    totals = torch.stack([score.sum() for score in scores])
    torch.testing.assert_close(totals, totals[:1].expand(4), rtol=1e-10, atol=0)
    for before, after in itertools.pairwise(scores):
        torch.testing.assert_close(before.sum(1), after.sum(0), rtol=1e-10, atol=1e-12)


def test_synflow_is_conserved_through_convolutions_too():
    model = made(
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.GELU(),
            nn.Conv2d(5, 4, 3, stride=2),
            nn.Flatten(),
            nn.Linear(16, 3),
        )
    )
    scores = scored(SynFlow(), model, [(torch.zeros(4, 2, 6, 6), torch.zeros(4))])
    totals = torch.stack([score.sum() for score in scores.values()])
    torch.testing.assert_close(totals, totals[:1].expand(3), rtol=1e-10, atol=0)


def test_the_flow_through_a_vision_transformer_of_the_usual_size_is_finite_and_empties_no_layer():
    model = made(lambda: sk.models.build("vit", input_shape=(3, 32, 32), num_classes=10)).float()
    state = copy.deepcopy(model.state_dict()) | {"position": model.embed.position.clone()}
    kept = prune(model, SynFlow(rounds=2), 0.05, batches=[(torch.zeros(1, 3, 32, 32), ANY[0][1])])
    assert kept.count == round(0.05 * kept.size)
    assert min(layer.count for layer in kept.values()) > 0
    now = model.state_dict() | {"position": model.embed.position}
    assert all(torch.equal(value, now[name]) for name, value in state.items())


@pytest.mark.parametrize("dead", [False, True])
def test_all_parts_of_an_attention_have_the_same_sum_of_scores_and_positions_count_for_nothing(dead):
    shape = {"patch": 4, "dim": 8, "depth": 2, "heads": 2, "head_width": 4, "hidden": 6}
    model = made(lambda: sk.models.build("vit", input_shape=(1, 8, 8), num_classes=3, **shape))
    if dead:
        nn.init.zeros_(model.block1.attention.query.weight)  # nothing arrives at the first softmax
    inputs = [(torch.zeros(1, 1, 8, 8), ANY[0][1])]
    scores = scored(SynFlow(), model, inputs)
    for block in ("block1", "block2"):
        parts = [scores[f"{block}.attention.{name}"].sum() for name in ("query", "key", "value", "output")]
        torch.testing.assert_close(torch.stack(parts), parts[0].expand(4), rtol=1e-10, atol=0)
        assert (parts[0] > 0) == (block == "block2" or not dead)
    model.embed.position.neg_()
    assert all(torch.equal(scores[name], score) for name, score in scored(SynFlow(), model, inputs).items())


def test_synflow_works_in_double_precision_and_evaluation_mode_whatever_the_model_is_in():
    model = made(lambda: nn.Sequential(nn.Linear(6, 50), nn.BatchNorm1d(50), nn.Dropout(0.9), nn.Linear(50, 3)))
    inputs = [(torch.randn(8, 6), torch.zeros(8))]
    as_float = scored(SynFlow(), model.float().train(), inputs)
    as_double = scored(SynFlow(), model.double().eval(), inputs)
    for name, score in as_float.items():
        assert score.dtype == torch.float64
        assert score.count_nonzero() == score.numel()
        assert torch.equal(score, as_double[name])


def test_synflow_takes_no_notice_of_a_normalisation_that_has_been_trained():
    model = made(lambda: nn.Sequential(nn.Linear(6, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 3)))
    inputs = [(torch.zeros(1, 6), torch.zeros(1))]
    fresh = scored(SynFlow(), model, inputs)
    for number, tensor in enumerate((*model[1].parameters(), model[1].running_mean, model[1].running_var)):
        nn.init.uniform_(tensor, 0.5, 1.5, generator=torch.Generator().manual_seed(number))
    trained = scored(SynFlow(), model, inputs)
    assert all(torch.equal(trained[name], score) for name, score in fresh.items())


def test_one_round_of_synflow_empties_a_layer_where_a_hundred_do_not():
    # Layers of very different widths: the widest shares the conserved sum among most weights.
    model = bias_free(20, 100, 100, 100, 100, 10)
    inputs = [(torch.zeros(1, 20), torch.zeros(1))]
    once, often = (prune(model, SynFlow(rounds=rounds, min_per_layer=0), 0.004, batches=inputs) for rounds in (1, 100))
    assert min(layer.count for layer in once.values()) == 0
    assert min(layer.count for layer in often.values()) >= 1


def test_one_round_of_snip_empties_a_layer_unless_it_is_guarded():
    # Of a wide layer between narrow ones no single weight matters much.
    model, batches = bias_free(6, 300, 300, 3), [batch_for((6,), size=64)]
    for parameter in model.parameters():
        parameter.data.mul_(math.sqrt(2 / parameter.shape[1]))
    bare, guarded = (prune(model, SNIP(min_per_layer=least), 0.0004, batches=batches) for least in (0, 1))
    assert min(layer.count for layer in bare.values()) == 0
    assert min(layer.count for layer in guarded.values()) >= 1
    assert bare.count == guarded.count


def test_synflow_looks_at_no_data():
    model = bias_free(6, 20, 3)
    masks = [prune(model, SynFlow(rounds=5), 0.2, batches=[batch_for((6,), seed=seed)]) for seed in range(2)]
    assert masks[0] == masks[1]


# --- magnitude, random, and the examples scores look at --------------------------------------------------------------


def test_magnitude_keeps_nothing_smaller_than_what_it_leaves_out():
    model = mlp(6, 20, 3)
    for scope in ("global", "layer"):
        kept = prune(model, Magnitude(scope=scope, min_per_layer=0), 0.3)
        sizes = {name: model.get_submodule(name).weight.detach().abs().flatten() for name in kept}
        groups = [[name] for name in kept] if scope == "layer" else [list(kept)]
        for group in groups:
            inside = torch.cat([sizes[name][kept[name].indices] for name in group])
            outside = torch.cat([sizes[name][kept[name].missing()] for name in group])
            assert inside.min() >= outside.max()


def test_random_gives_each_layer_what_the_allocation_says():
    model = mlp(6, 20, 3)
    erk, uniform = (prune(model, Random(), 0.3, allocation=name) for name in ("erk", "uniform"))
    drawn = sk.random_topology(sk.shapes_of(model), 0.3)
    assert {n: x.count for n, x in erk.items()} == {n: x.count for n, x in drawn.items()}
    assert {n: x.count for n, x in uniform.items()} != {n: x.count for n, x in erk.items()}


def test_few_per_class_are_prepared_different_and_as_many_of_each():
    digits = sk.datasets.load("digits")
    (inputs, labels), (_, again), (other, _) = (few_per_class(digits, 10, seed=seed) for seed in (0, 0, 1))
    assert torch.bincount(labels).tolist() == [10] * 10
    assert torch.equal(labels, again)
    assert not torch.equal(inputs, other)
    assert len(inputs.unique(dim=0)) == 100
    with pytest.raises(ValueError, match="count must lie in 1 to"):
        few_per_class(digits, 1000)


def test_an_experiment_begins_with_the_mask_of_its_score(tmp_path):
    experiment = sk.recipes.digits_mlp(rule="static", score="snip", density=0.1, epochs=1)
    history = sk.run(experiment, tmp_path, progress=False)
    digits = sk.datasets.load("digits")
    plain = build_model(
        dataclasses.replace(experiment, density=1.0, score=None), input_shape=digits.shape, num_classes=10
    )
    wanted = prune(plain, SNIP(), 0.1, batches=[few_per_class(digits, 10, seed=0)])
    assert history.journal.initial == wanted
    assert sk.topology_of(sk.load_model(history.folder)) == wanted
    assert sk.run(experiment, tmp_path, progress=False).journal.initial == wanted


@dataclass(frozen=True, kw_only=True)
class CollapsingScore(Score):
    """All that is left is worth nothing from the second round on, as in a network whose layers have collapsed."""

    def __call__(self, view):
        is_whole = all(layer.density == 1 for layer in view.topology.values())
        return {name: torch.full(layer.shape, float(is_whole)) for name, layer in view.topology.items()}


def test_layers_that_have_collapsed_in_an_earlier_round_are_no_error():
    """Layer collapse is what notebook 04 shows: from the round in which it comes all scores are 0."""
    kept = prune(mlp(6, 8, 3), CollapsingScore(rounds=3), 0.1)
    assert kept.count == round(0.1 * (48 + 24))
