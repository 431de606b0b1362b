"""From scores and counts to topologies."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sparsekit.topology.selection import (
    draw_distinct,
    keep_n_of_m,
    keep_top_global,
    keep_top_per_layer,
    keep_top_per_output,
    random_topology,
    topk_indices,
)

INF = math.inf
few_scores = st.lists(st.sampled_from([-INF, -1.0, -0.0, 0.0, 0.5, 1.0, INF]), max_size=12)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@given(few_scores, st.data())
@settings(max_examples=100)
def test_the_highest_are_exactly_as_many_as_asked_for_and_ties_go_to_the_lower_place(dtype, scores, data):
    count = data.draw(st.integers(0, len(scores)))
    by_hand = sorted(sorted(range(len(scores)), key=lambda place: -scores[place])[:count])
    assert topk_indices(torch.tensor(scores, dtype=dtype), count).tolist() == by_hand


@pytest.mark.parametrize("count", [1, 4_000, 9_999])
def test_among_very_many_scores_with_ties_the_highest_are_those_of_a_stable_sort(count):
    scores = torch.randn(10_000, generator=seeded()).mul(4).round().requires_grad_()
    by_sorting = torch.argsort(scores, descending=True, stable=True)[:count].sort().values
    assert torch.equal(topk_indices(scores, count), by_sorting)


@pytest.mark.parametrize("count", [-1, 4])
def test_more_than_there_are_cannot_be_kept(count):
    with pytest.raises(ValueError, match=rf"count must lie in \[0, 3\], the number of scores, got {count}"):
        topk_indices(torch.ones(3), count)


@pytest.mark.parametrize(
    "keep",
    [
        lambda scores: topk_indices(scores.flatten(), 1),
        lambda scores: keep_top_per_layer({"a": scores}, {"a": 1}),
        lambda scores: keep_top_global({"a": scores, "b": torch.ones(2, 2)}, 3),
        lambda scores: keep_top_per_output(scores, 1),
        lambda scores: keep_n_of_m(scores, 1, 2),
    ],
)
def test_scores_that_are_no_numbers_are_refused(keep):
    with pytest.raises(ValueError, match="scores must be numbers, got NaN. Look for an infinite loss or gradient"):
        keep(torch.tensor([[0.1, math.nan], [0.2, 0.3]]))


def test_each_layer_keeps_its_own_best():
    scores = {"a": torch.tensor([[1.0, 9.0], [8.0, 2.0]]), "b": torch.tensor([[0.2, 0.1]])}
    kept = keep_top_per_layer(scores, {"a": 2, "b": 1})
    assert {name: layer.indices.tolist() for name, layer in kept.items()} == {"a": [1, 2], "b": [0]}


def test_one_ranking_over_all_layers_keeps_the_best_anywhere():
    scores = {"a": torch.tensor([[1.0, 9.0], [8.0, 2.0]]), "b": torch.tensor([[0.2, 0.1]])}
    free = keep_top_global(scores, 3, min_per_layer=0)
    assert {name: layer.indices.tolist() for name, layer in free.items()} == {"a": [1, 2, 3], "b": []}
    guarded = keep_top_global(scores, 3)
    assert {name: layer.indices.tolist() for name, layer in guarded.items()} == {"a": [1, 2], "b": [0]}


@given(st.lists(few_scores.filter(len), min_size=1, max_size=4), st.integers(0, 3), st.data())
@settings(max_examples=100)
def test_the_global_count_and_each_layers_minimum_are_exact_even_beside_infinite_scores(drawn, minimum, data):
    scores = {str(number): torch.tensor([row]) for number, row in enumerate(drawn)}
    least = sum(min(minimum, len(row)) for row in drawn)
    count = data.draw(st.integers(least, sum(map(len, drawn))))
    kept = keep_top_global(scores, count, min_per_layer=minimum)
    assert kept.count == count
    for name, layer in kept.items():
        own_best = topk_indices(scores[name][0], min(minimum, layer.size))
        assert (layer.position_of(own_best) >= 0).all()


def test_a_minimum_beyond_the_budget_is_refused():
    scores = {"a": torch.ones(2, 2), "b": torch.ones(1, 1)}
    with pytest.raises(ValueError, match=r"count must be at least 3 to keep 2 per layer, got 2. Raise the density"):
        keep_top_global(scores, 2, min_per_layer=2)


def test_every_output_keeps_as_many_inputs():
    scores = torch.tensor([[0.1, 0.5, 0.5], [3.0, 2.0, 1.0]])
    kept = keep_top_per_output(scores, 1)
    assert kept.indices.tolist() == [1, 3]
    conv = keep_top_per_output(torch.rand(5, 2, 3, 3, generator=seeded()), 7)
    assert conv.fan_in().tolist() == [7] * 5


def test_n_of_m_has_its_golden_values():
    assert keep_n_of_m(torch.tensor([[0.1, 0.5, 0.3, 0.2]]), 2, 4).indices.tolist() == [1, 2]
    # Groups never reach over the end of an output, a shorter tail keeps up to n, and ties go to the lower position.
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
    assert keep_n_of_m(rows, 2, 4).cols.tolist() == [2, 3, 4, 5, 0, 1, 4, 5]
    assert keep_n_of_m(rows, 1, 4).cols.tolist() == [3, 5, 0, 4]
    assert keep_n_of_m(rows, 4, 4).count == 12
    never = torch.tensor([[-INF, -INF, -INF, -INF, -INF]])
    assert keep_n_of_m(never, 2, 4).indices.tolist() == [0, 1, 4]


@pytest.mark.parametrize(("n", "m"), [(0, 4), (5, 4), (-1, 2)])
def test_impossible_n_of_m_are_refused(n, m):
    with pytest.raises(ValueError, match=rf"n of m needs 0 < n <= m, got {n} of {m}"):
        keep_n_of_m(torch.ones(2, 4), n, m)


@given(st.integers(0, 60), st.data())
@settings(max_examples=80)
def test_drawn_numbers_are_distinct_sorted_and_in_range(total, data):
    count = data.draw(st.integers(0, total))
    drawn = draw_distinct(total, count, seeded(total))
    assert drawn.numel() == count
    assert (drawn.diff() > 0).all()
    assert ((drawn >= 0) & (drawn < total)).all()


@pytest.mark.parametrize(("total", "count"), [(12, 3), (12, 6), (12, 9), (200, 4)])
def test_every_number_is_drawn_equally_often(total, count):
    stream = seeded(1)
    draws = torch.cat([draw_distinct(total, count, stream) for _ in range(600)])
    assert chisquare(torch.bincount(draws, minlength=total).numpy()).pvalue > 1e-3


def test_every_pair_is_drawn_equally_often():
    stream = seeded(2)
    draws = torch.stack([draw_distinct(6, 2, stream) for _ in range(1200)])
    pairs = torch.bincount(draws[:, 0] * 6 + draws[:, 1], minlength=36)
    assert chisquare(pairs[pairs > 0].numpy()).pvalue > 1e-3
    assert (pairs > 0).sum() == 15


def test_drawing_few_of_very_many_takes_no_more_memory_than_few():
    assert draw_distinct(2**50, 1000, seeded()).numel() == 1000


@pytest.mark.parametrize(("total", "count"), [(10, 3), (90, 40), (50_000, 20_000), (2**40, 30_000)])
def test_a_seed_draws_the_same_numbers_for_ever(total, count):
    """Runs are repeated from their seeds: the draws are those of the first version, whatever is done faster."""
    draws, drawn = seeded(3), torch.empty(0, dtype=torch.int64)
    while drawn.numel() < count:
        drawn = torch.unique(torch.cat([drawn, torch.randint(total, (count + 8,), generator=draws)]))
    first_version = drawn[torch.randperm(drawn.numel(), generator=draws)[:count]].sort().values
    again = seeded(3)
    assert torch.equal(draw_distinct(total, count, again), first_version)
    assert torch.equal(again.get_state(), draws.get_state())


@pytest.mark.parametrize("count", [-1, 6])
def test_more_numbers_than_there_are_cannot_be_drawn(count):
    with pytest.raises(ValueError, match=rf"count must lie in \[0, 5\], the numbers to draw from, got {count}"):
        draw_distinct(5, count, seeded())


def test_a_random_topology_has_the_allocations_counts_exactly_for_every_seed():
    shapes = {"a": (20, 30), "b": (4, 2, 3, 3)}
    nets = [random_topology(shapes, 0.1, allocation="uniform", seed=seed) for seed in range(5)]
    assert {tuple(layer.count for layer in net.values()) for net in nets} == {(60, 7)}
    assert all(net != nets[0] for net in nets[1:])
    assert random_topology(shapes, 0.1, allocation="uniform", seed=3) == nets[3]


def test_layers_of_a_random_topology_are_drawn_independently():
    shapes = {"a": (20, 30), "b": (20, 30), "c": (20, 30)}
    net = random_topology(shapes, 0.5, seed=0)
    assert len({tuple(layer.indices.tolist()) for layer in net.values()}) == 3
    assert random_topology({"b": (20, 30)}, 0.5, seed=0)["b"] == net["b"]
