"""Churn, survival, ages and exploration of a sequence of topologies."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsekit import analysis
from sparsekit.analysis.dynamics.exploration import coverage_curve, coverage_expected, reliable_exploration
from sparsekit.topology import LayerTopology, Topology
from sparsekit.topology.selection import draw_distinct

SIZE = 12


def path(*states: list[int], shape: tuple[int, ...] = (3, 4)) -> list[Topology]:
    return [Topology({"fc": LayerTopology(shape, torch.tensor(state, dtype=torch.int64))}) for state in states]


states = st.lists(st.sets(st.integers(0, SIZE - 1)).map(sorted), min_size=1, max_size=6)


def random_walk(
    density: float, fraction: float, num_rewirings: int, *, allow_regrowth: bool, seed: int
) -> list[Topology]:
    """Drop and grow uniformly at random, the process behind the expected coverage."""
    shape, generator = (200, 200), torch.Generator().manual_seed(seed)
    size = shape[0] * shape[1]
    count, exchanged = round(density * size), round(fraction * density * size)
    layer = LayerTopology(shape, draw_distinct(size, count, generator))
    steps = [layer]
    for _ in range(num_rewirings):
        keep = draw_distinct(count, count - exchanged, generator)
        kept = LayerTopology(shape, layer.indices[keep])
        free = (kept if allow_regrowth else layer).missing()
        grown = free[draw_distinct(len(free), exchanged, generator)]
        layer = kept | LayerTopology(shape, grown)
        steps.append(layer)
    return [Topology({"fc": step}) for step in steps]


class TestChurnAndSurvival:
    def test_churn_is_the_share_of_connections_that_are_new(self):
        table = analysis.churn(path([0, 1, 2, 3], [0, 1, 2, 4], [5, 6], [5, 6]))
        assert table["network"].tolist() == [0.25, 1.0, 0.0]
        assert table.index.tolist() == [1, 2, 3]

    def test_what_only_leaves_is_no_churn_and_what_only_comes_is(self):
        table = analysis.churn(path([0, 1, 2, 3], [0, 1], [0, 1, 4, 5]))
        assert table["network"].tolist() == [0.0, 0.5]

    def test_a_single_topology_has_no_churn_to_show(self):
        assert analysis.churn(path([0])).empty

    def test_the_network_is_weighed_by_connections_not_by_layers(self):
        old = Topology(
            {
                "a": LayerTopology((1, 4), torch.tensor([0])),
                "b": LayerTopology((1, 4), torch.tensor([0, 1, 2])),
            }
        )
        new = Topology({"a": LayerTopology((1, 4), torch.tensor([1])), "b": old["b"]})
        row = analysis.churn([old, new]).loc[1]
        assert row.to_dict() == {"a": 1.0, "b": 0.0, "network": 0.25}

    def test_survival_starts_at_one_and_counts_those_that_regrow(self):
        table = analysis.survival(path([0, 1], [1, 2], [3], [0, 1]))
        assert table["network"].tolist() == [1.0, 0.5, 0.0, 1.0]

    def test_a_generator_is_enough_for_a_history(self):
        assert analysis.survival(iter(path([0], [0])))["network"].tolist() == [1.0, 1.0]

    @pytest.mark.parametrize("function", [analysis.churn, analysis.survival, analysis.exploration, analysis.ages])
    def test_an_empty_history_is_refused(self, function):
        with pytest.raises(ValueError, match="at least one topology"):
            function([])

    @pytest.mark.parametrize("function", [analysis.churn, analysis.survival, analysis.exploration, analysis.ages])
    def test_a_history_of_different_networks_is_refused(self, function):
        with pytest.raises(ValueError, match="same layers"):
            function(path([0]) + path([0], shape=(4, 3)))


class TestAges:
    def test_a_connection_that_left_and_regrew_is_young(self):
        assert analysis.ages(path([0, 1], [0], [0, 1, 2]))["fc"].tolist() == [2, 0, 0]

    def test_ages_are_steps_where_the_starts_are_given(self):
        assert analysis.ages(path([0], [0, 1], [0, 1]), starts=[0, 100, 250])["fc"].tolist() == [250, 150]

    def test_a_first_step_other_than_zero_is_no_birth_certificate_of_minus_one(self):
        assert analysis.ages(path([0], [0]), starts=[5, 7])["fc"].tolist() == [2]

    @pytest.mark.parametrize("starts", [[0], [0, 1, 2]])
    def test_a_start_for_each_topology_is_needed(self, starts):
        with pytest.raises(ValueError, match="argument"):
            analysis.ages(path([0], [0]), starts=starts)

    def test_starts_may_not_fall(self):
        with pytest.raises(ValueError, match="never fall"):
            analysis.ages(path([0], [0]), starts=[10, 9])


class TestExploration:
    def test_positions_are_counted_once_however_often_they_are_tried(self):
        table = analysis.exploration(path([0, 1], [1, 2], [0, 1]))
        assert table["network"].tolist() == [2 / 12, 3 / 12, 3 / 12]

    @settings(max_examples=40, deadline=None)
    @given(states)
    def test_exploration_never_falls_and_lies_between_the_density_and_one(self, history):
        table = analysis.exploration(path(*history))["network"]
        assert table.is_monotonic_increasing
        assert table.iloc[0] == len(history[0]) / SIZE
        assert table.between(max(len(state) for state in history) / SIZE, 1).iloc[-1]
        tried = {place for state in history for place in state}
        assert table.iloc[-1] == len(tried) / SIZE

    @settings(max_examples=40, deadline=None)
    @given(states)
    def test_exploration_grows_by_no_more_than_the_churn(self, history):
        topologies = path(*history)
        grown = [(new - old).count for old, new in itertools.pairwise(topologies)]
        assert analysis.exploration(topologies)["network"].iloc[-1] <= (len(history[0]) + sum(grown)) / SIZE + 1e-12

    def test_reliable_exploration_waits_until_a_connection_has_lived_long_enough(self):
        history = path([0, 1], [0, 2], [0, 3], [0, 3])
        found = reliable_exploration(history, 50, starts=[0, 30, 80, 90])["network"]
        assert (found * SIZE).round().tolist() == [0, 0, 2, 2]  # 0 lived 80 steps, 2 lived 50, 1 only 30
        one_more = reliable_exploration(history, 51, starts=[0, 30, 80, 90])["network"]
        assert (one_more * SIZE).round().tolist() == [0, 0, 1, 1]

    def test_lives_are_not_added_up_over_a_break(self):
        found = reliable_exploration(path([0], [1], [0], [1]), 2)["network"]
        assert found.iloc[-1] == 0

    @settings(max_examples=40, deadline=None)
    @given(states)
    def test_reliable_exploration_asks_for_nothing_at_tau_zero_and_for_more_with_each_step(self, history):
        topologies = path(*history)
        tables = [reliable_exploration(topologies, tau)["network"] for tau in range(4)]
        assert tables[0].tolist() == analysis.exploration(topologies)["network"].tolist()
        for shorter, longer in itertools.pairwise(tables):
            assert (longer <= shorter).all()
            assert longer.is_monotonic_increasing

    def test_a_run_that_never_rewires_has_explored_its_topology_by_the_end(self):
        static = path([0, 1, 2])
        assert reliable_exploration(static, 500, starts=[0])["network"].tolist() == [0]
        for end, found in ((499, 0), (500, 3), (1000, 3)):
            table = reliable_exploration(static, 500, starts=[0], end=end)
            assert table["network"].tolist() == [found / SIZE]

    def test_only_the_last_row_waits_for_the_end(self):
        history = path([0, 1], [0, 2], [0, 3], [0, 3])
        found = reliable_exploration(history, 50, starts=[0, 30, 80, 90], end=130)["network"]
        assert (found * SIZE).round().tolist() == [0, 0, 2, 3]  # 3 was born at 80 and lived 50 steps

    @settings(max_examples=40, deadline=None)
    @given(states, st.integers(0, 4))
    def test_an_end_where_the_last_topology_begins_changes_nothing(self, history, tau):
        topologies = path(*history)
        plain = reliable_exploration(topologies, tau)
        assert reliable_exploration(iter(topologies), tau, end=len(history) - 1).equals(plain)

    def test_an_end_before_the_last_topology_is_refused(self):
        with pytest.raises(ValueError, match="end must be at least 30, .* got 20"):
            reliable_exploration(path([0], [1]), 5, starts=[0, 30], end=20)

    def test_a_negative_tau_is_refused(self):
        with pytest.raises(ValueError, match="at least 0 steps, got -1"):
            reliable_exploration(path([0]), -1)


class TestExpectedCoverage:
    @pytest.mark.parametrize(
        ("density", "fraction", "allow_regrowth", "expected"),
        [
            (0.05, 0.5, True, (0.0744, 0.1657, 0.2673, 0.4349, 0.7408)),
            (0.1, 0.3, True, (0.129, 0.2361, 0.3516, 0.5329, 0.8253)),
            (0.05, 0.5, False, (0.075, 0.1686, 0.2724, 0.4427, 0.7496)),
        ],
    )
    def test_expected_coverage_has_its_golden_values(self, density, fraction, allow_regrowth, expected):
        found = [
            coverage_expected(density, fraction, num_rewirings=n, allow_regrowth=allow_regrowth)
            for n in (1, 5, 10, 20, 50)
        ]
        assert found == pytest.approx(expected, abs=5e-5)

    @pytest.mark.parametrize("allow_regrowth", [True, False])
    def test_random_growth_explores_what_the_formula_says(self, allow_regrowth):
        history = random_walk(0.05, 0.5, 20, allow_regrowth=allow_regrowth, seed=3)
        found = analysis.exploration(history)["network"].to_numpy()
        # 40,000 places: the standard deviation of the covered share is below 0.0025.
        assert found == pytest.approx(coverage_curve(0.05, [0.5] * 20, allow_regrowth=allow_regrowth), abs=0.008)

    @pytest.mark.parametrize("allow_regrowth", [True, False])
    def test_layers_of_unequal_density_are_expected_to_explore_at_their_own_speed(self, allow_regrowth):
        thin, wide = (random_walk(d, 0.5, 10, allow_regrowth=allow_regrowth, seed=1) for d in (0.4, 0.02))
        history = [Topology({"thin": a["fc"], "wide": b["fc"]}) for a, b in zip(thin, wide, strict=True)]
        expected = analysis.exploration_expected(history[0], [0.5] * 10, allow_regrowth=allow_regrowth)
        assert analysis.exploration(history).to_numpy() == pytest.approx(expected.to_numpy(), abs=0.008)
        blurred = coverage_expected(0.21, 0.5, num_rewirings=10, allow_regrowth=allow_regrowth)
        assert abs(expected["network"].iloc[-1] - blurred) > 0.05

    def test_dense_and_empty_layers_have_nothing_to_explore(self):
        net = Topology({"full": LayerTopology.full((2, 2)), "empty": path([])[0]["fc"]})
        table = analysis.exploration_expected(net, [0.3, 0.3])
        assert table["full"].tolist() == [1, 1, 1]
        assert table["empty"].tolist() == [0, 0, 0]

    def test_a_curve_of_falling_fractions_flattens_out(self):
        curve = coverage_curve(0.1, [0.5, 0.1, 0.0])
        assert curve[0] == pytest.approx(0.1)
        assert curve[1] - curve[0] > curve[2] - curve[1] > 0
        assert curve[3] == curve[2]

    @settings(max_examples=50, deadline=None)
    @given(st.floats(0.01, 0.6), st.lists(st.floats(0, 1), max_size=8), st.booleans())
    def test_coverage_is_a_share_never_falls_and_keeps_below_its_bound(self, density, fractions, allow_regrowth):
        if not allow_regrowth and density * max([0, *fractions]) > 1 - density:
            return
        curve = coverage_curve(density, fractions, allow_regrowth=allow_regrowth)
        assert (curve[1:] >= curve[:-1] - 1e-12).all()
        assert density - 1e-12 <= curve[-1] <= min(1, density * (1 + sum(fractions))) + 1e-12

    @pytest.mark.parametrize(
        ("density", "fraction", "allow_regrowth", "message"),
        [
            (0.0, 0.5, True, r"density must lie in \(0, 1\)"),
            (1.0, 0.5, True, r"density must lie in \(0, 1\)"),
            (0.5, 1.5, True, "drop fractions must lie in"),
            (0.8, 0.5, False, "without regrowth at most 0.2"),
        ],
    )
    def test_impossible_numbers_are_refused(self, density, fraction, allow_regrowth, message):
        with pytest.raises(ValueError, match=message):
            coverage_expected(density, fraction, num_rewirings=1, allow_regrowth=allow_regrowth)
