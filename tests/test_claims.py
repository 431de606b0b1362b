"""Claims: numbers decide what is called reproduced, and the burden lies on the claim."""

import pytest

from sparsekit.analysis import judge


def test_a_difference_far_above_its_error_is_reproduced():
    claim = judge("ours is better", [0.90, 0.92, 0.91], [0.80, 0.81, 0.82])
    assert claim.verdict == "reproduced"
    assert claim.mean == pytest.approx(0.10)
    assert claim.error == pytest.approx(0.01 / 3**0.5)  # gaps 0.10, 0.11, 0.09 scatter by 0.01


def test_the_same_mean_with_a_large_scatter_is_not_shown():
    assert judge("ours is better", [0.99, 0.92, 0.82], [0.80, 0.81, 0.82]).verdict == "not shown"


def test_seeds_are_compared_in_pairs():
    paired = judge("ours is better", [0.5, 0.7, 0.9], [0.4, 0.6, 0.8])
    assert paired.error == pytest.approx(0)
    assert paired.is_reproduced


@pytest.mark.parametrize(("above", "verdict"), [(-0.03, "reproduced"), (-0.01, "not shown"), (0.0, "not shown")])
def test_hardly_worse_is_a_bound_below_zero(above, verdict):
    assert judge("hardly worse", [0.78, 0.80, 0.82], [0.80, 0.82, 0.84], above=above).verdict == verdict


def test_a_verdict_says_mean_error_and_seeds():
    said = str(judge("A beats B", [0.80, 0.82], [0.79, 0.80]))
    assert said == "reproduced: A beats B (+1.5 ± 0.5 points, 2 seeds)"


@pytest.mark.parametrize(("ours", "theirs"), [([0.9], [0.8]), ([0.9, 0.9], [0.8]), ([], [])])
def test_one_run_proves_nothing_and_pairs_must_be_complete(ours, theirs):
    with pytest.raises(ValueError, match="two runs or more of each"):
        judge("A beats B", ours, theirs)
