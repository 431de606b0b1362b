"""Drawing places by weights: in the right proportions, and the same in plain torch and in compiled loops."""

import math
import sys

import pytest
import torch
from helpers import random_layer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sparsekit.kernels import sampling
from sparsekit.kernels.sampling import sample_positions
from sparsekit.topology import LayerTopology

NEVER, ALWAYS = 10**12, 0
EMPTY = torch.empty(0, dtype=torch.int64)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def both_ways(*problem, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """What torch and the loops give, and whether both drew as many random numbers."""
    results, states = [], []
    with pytest.MonkeyPatch.context() as monkeypatch:
        for limit in (NEVER, ALWAYS):
            monkeypatch.setattr(sampling, "LOOPS_FROM", limit)
            generator = draws(seed)
            results.append(sample_positions(*problem, generator))
            states.append(generator.get_state())
    return *results, torch.equal(*states)


weights = st.one_of(st.just(0.0), st.floats(0, 1), st.floats(0, 1e-300), st.floats(0, 1e300), st.just(math.nan))


@st.composite
def problems(draw) -> tuple:
    groups, per_group, num_inputs = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 7))
    inputs = draw(st.lists(weights, min_size=groups * num_inputs, max_size=groups * num_inputs))
    outputs = draw(st.lists(weights, min_size=groups * per_group, max_size=groups * per_group))
    shape = (groups * per_group, num_inputs)
    taken = random_layer(shape, draw(st.integers(0, math.prod(shape))), draw(st.integers(0, 9)))
    numbers = torch.tensor(inputs, dtype=torch.float64), torch.tensor(outputs, dtype=torch.float64)
    return numbers[0].view(groups, num_inputs), numbers[1], draw(st.integers(0, 200)), taken


@given(problems(), st.integers(0, 9))
@example((torch.ones(1, 4000).double(), torch.tensor([1.0, 0.0]).double(), 900, LayerTopology((2, 4000), EMPTY)), 0)
@example((torch.rand(2, 500).double(), torch.rand(90).double(), 20_000, random_layer((90, 500), 5000)), 1)
@settings(max_examples=300)
def test_the_loops_give_bit_for_bit_what_torch_gives(problem, seed):
    plain, fast, as_many_drawn = both_ways(*problem, seed=seed)
    assert plain.dtype == fast.dtype == torch.int64
    assert torch.equal(plain, fast)
    assert as_many_drawn


@given(problems(), st.integers(0, 9))
@settings(max_examples=200)
def test_what_is_drawn_is_sorted_distinct_missing_and_has_weight(problem, seed):
    inputs, outputs, num_draws, taken = problem
    found = sample_positions(*problem, draws(seed))
    assert (found.diff() > 0).all()
    assert (taken.position_of(found) == -1).all()
    assert found.numel() <= num_draws
    assert ((found >= 0) & (found < taken.size)).all()
    per_place = outputs[:, None] * inputs.repeat_interleave(len(outputs) // len(inputs), 0)
    smallest = min(float(x[x > 0].min()) if (x > 0).any() else 0.0 for x in (inputs, outputs, per_place))
    if per_place.isfinite().all() and smallest > 1e-200:
        assert (per_place.flatten()[found] > 0).all()


@pytest.mark.parametrize("limit", [NEVER, ALWAYS], ids=["torch", "loops"])
@pytest.mark.parametrize("groups", [1, 2])
def test_positions_are_drawn_in_proportion_to_both_weights(groups, limit, monkeypatch):
    """Of a grouped layer, an output competes with its own weight times what its group's inputs weigh together."""
    monkeypatch.setattr(sampling, "LOOPS_FROM", limit)
    inputs = torch.tensor([[1.0, 0.0, 2.0, 5.0], [0.5, 0.25, 0.0, 0.25]])[:groups]
    outputs = torch.tensor([3.0, 1.0, 0.0, 8.0])
    rows, places = sampling._draw(inputs, outputs, 200_000, draws())
    assert (rows.diff() >= 0).all()
    assert torch.equal(rows, places // 4)
    expected = (outputs[:, None] * inputs.repeat_interleave(4 // groups, 0)).flatten()
    found = torch.bincount(places, minlength=16)
    assert not found[expected == 0].any()
    share = expected[expected > 0] / expected.sum()
    assert chisquare(found[expected > 0].numpy(), (share * len(places)).double().numpy(), sum_check=False).pvalue > 1e-3


def test_output_and_input_of_a_draw_have_nothing_to_do_with_each_other():
    _, places = sampling._draw(torch.ones(1, 3), torch.ones(3), 90_000, draws(1))
    assert chisquare(torch.bincount(places, minlength=9).numpy()).pvalue > 1e-3


def test_sorted_uniform_numbers_are_sorted_and_uniform():
    points = sampling._sorted_uniforms(100_000, draws())
    assert (points.diff() >= 0).all()
    assert 0 <= points[0] <= points[-1] < 1
    assert chisquare(torch.histc(points, 50, 0, 1).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_weights_that_nothing_can_be_drawn_from_count_as_equal(bad):
    taken = LayerTopology((3, 4), EMPTY)
    some, useless = torch.tensor([[0.0, 1.0, 0.0, 0.0]]), torch.full((1, 4), bad)
    places = {
        "inputs": sample_positions(useless, torch.tensor([1.0, 0.0, 0.0]), 100, taken, draws()),
        "outputs": sample_positions(some, torch.full((3,), bad), 100, taken, draws()),
        "both": sample_positions(useless, torch.full((3,), bad), 300, taken, draws()),
    }
    assert places["inputs"].tolist() == [0, 1, 2, 3]
    assert places["outputs"].tolist() == [1, 5, 9]
    assert places["both"].tolist() == list(range(12))


def test_outputs_that_read_only_inputs_without_weight_do_not_stop_the_drawing():
    taken = LayerTopology((2, 2), EMPTY)
    found = sample_positions(torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([0.0, 1.0]), 100, taken, draws())
    assert found.tolist() == [0, 1, 2, 3]


def test_groups_of_very_different_weight_are_drawn_from_their_own_inputs():
    """Running sums over all groups together would lose the small one."""
    inputs = torch.tensor([[1e20, 1e20, 1e20], [1.0, 0.0, 1.0]]).double()
    found = sample_positions(inputs, torch.tensor([0.0, 1.0]), 100, LayerTopology((2, 3), EMPTY), draws())
    assert found.tolist() == [3, 5]


@pytest.mark.parametrize("limit", [NEVER, ALWAYS], ids=["torch", "loops"])
def test_a_number_rounded_up_to_the_end_of_its_group_stays_in_it(limit, monkeypatch):
    monkeypatch.setattr(sampling, "LOOPS_FROM", limit)
    monkeypatch.setattr(sampling, "_uniforms", lambda count, _: torch.ones(count).double() - 2**-53)
    inputs, outputs = torch.tensor([[1.0, 1.0, 0.0]] * 3), torch.tensor([0.0, 1.0, 0.0])
    found = sample_positions(inputs, outputs, 10, LayerTopology((3, 3), EMPTY), draws())
    assert found.tolist() == [4]


def test_without_numba_torch_is_used(monkeypatch):
    sampling._compiled.cache_clear()
    monkeypatch.setattr(sampling, "LOOPS_FROM", ALWAYS)
    monkeypatch.setitem(sys.modules, "sparsekit.kernels.sampling_loops", None)
    monkeypatch.delattr("sparsekit.kernels.sampling_loops", raising=False)
    assert sampling._loops(EMPTY) is None
    sample_positions(torch.ones(1, 4), torch.ones(4), 10, random_layer((4, 4), 3), draws())
    monkeypatch.undo()
    sampling._compiled.cache_clear()
    assert sampling._compiled() is not None


def test_drawing_takes_memory_for_the_draws_and_the_sides_only():
    """A layer of 10^12 places, whose list would not fit anywhere."""
    side = 10**6
    taken = random_layer((side, side), 1000)
    found = sample_positions(torch.ones(1, side), torch.ones(side), 1000, taken, draws())
    assert found.numel() > 990
