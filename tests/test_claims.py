"""Claims: numbers decide what is called reproduced or contradicted, and few seeds decide little."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t as student
from scipy.stats import ttest_ind, ttest_rel

from sparsekit.analysis.evidence.claims import Claim, Exact, assess_claim


def test_a_difference_far_above_its_error_is_reproduced():
    claim = assess_claim("ours is better", [0.90, 0.92, 0.91], [0.80, 0.81, 0.82])
    assert claim.verdict == "reproduced"
    assert claim.is_reproduced
    assert claim.mean == pytest.approx(0.10)
    assert claim.error == pytest.approx(0.01 / 3**0.5)  # gaps 0.10, 0.11, 0.09 scatter by 0.01
    assert claim.t == pytest.approx(10 * 3**0.5)


def test_the_same_mean_with_a_large_scatter_is_undecided():
    assert assess_claim("ours is better", [0.99, 0.92, 0.82], [0.80, 0.81, 0.82]).verdict == "undecided"


def test_a_difference_far_below_its_bound_contradicts_the_claim():
    claim = assess_claim("ours is better", [0.80, 0.81, 0.82], [0.90, 0.92, 0.91])
    assert claim.verdict == "contradicted"
    assert not claim.is_reproduced
    assert claim.t == pytest.approx(-10 * 3**0.5)


# Student's t at 97.5 % with n - 1 degrees of freedom, from any table.
@pytest.mark.parametrize(("seeds", "bound"), [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262), (1000, 1.962)])
def test_how_many_errors_are_enough_depends_on_the_number_of_seeds(seeds, bound):
    def verdict(t: float) -> str:
        return Claim(text="A beats B", mean=0.01 * t, error=0.01, seeds=seeds).verdict

    assert [verdict(t) for t in (bound + 0.001, bound - 0.001)] == ["reproduced", "undecided"]
    assert [verdict(-t) for t in (bound + 0.001, bound - 0.001)] == ["contradicted", "undecided"]


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_of_methods_that_do_not_differ_one_in_forty_is_said_to_be_better(seeds):
    draws = np.random.default_rng(seeds).normal(size=(2, 2000, seeds))
    verdicts = [assess_claim("A beats B", list(a), list(b)).verdict for a, b in zip(*draws, strict=True)]
    for wrong in ("reproduced", "contradicted"):
        assert verdicts.count(wrong) / len(verdicts) == pytest.approx(0.025, abs=0.011)


def test_t_is_that_of_the_paired_test():
    ours, theirs = np.random.default_rng(0).normal(size=(2, 7))
    assert assess_claim("A beats B", list(ours), list(theirs)).t == pytest.approx(ttest_rel(ours, theirs).statistic)
    bounded = assess_claim("A beats B", list(ours), list(theirs), above=0.3)
    assert bounded.t == pytest.approx(ttest_rel(ours - 0.3, theirs).statistic)


def test_seeds_are_compared_in_pairs():
    paired = assess_claim("ours is better", [0.5, 0.7, 0.9], [0.4, 0.6, 0.8])
    assert paired.error == pytest.approx(0)
    assert paired.is_reproduced
    assert paired.t == math.inf


@pytest.mark.parametrize(
    ("above", "verdict", "t"),
    [(-0.03, "reproduced", math.inf), (-0.02, "undecided", 0.0), (0.0, "contradicted", -math.inf)],
)
def test_hardly_worse_is_a_bound_below_zero_and_equal_gaps_leave_no_doubt_but_at_the_bound(above, verdict, t):
    claim = assess_claim("hardly worse", [0.78, 0.80, 0.82], [0.80, 0.82, 0.84], above=above)
    assert (claim.verdict, claim.t) == (verdict, t)


def test_equal_runs_decide_nothing():
    claim = assess_claim("A beats B", [0.7, 0.8], [0.7, 0.8])
    assert str(claim) == "undecided: A beats B (+0.0 ± 0.0 points, t = 0.0, threshold 12.7, n = 2 seeds)"


def test_a_verdict_says_mean_error_t_and_seeds():
    said = str(assess_claim("A beats B", [0.80, 0.82, 0.81], [0.79, 0.80, 0.80]))
    assert said == "undecided: A beats B (+1.3 ± 0.3 points, t = 4.0, threshold 4.3, n = 3 seeds)"


@pytest.mark.parametrize("error", [0.0, math.nan])
def test_a_single_run_decides_nothing_however_a_claim_is_made(error):
    assert Claim(text="A beats B", mean=0.5, error=error, seeds=1).verdict == "undecided"


@pytest.mark.parametrize(("ours", "theirs"), [([0.9], [0.8]), ([0.9, 0.9], [0.8]), ([], [])])
def test_one_run_proves_nothing_and_pairs_must_be_complete(ours, theirs):
    with pytest.raises(ValueError, match="two runs or more of each"):
        assess_claim("A beats B", ours, theirs)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_runs_that_measured_no_number_are_not_assessed(value):
    with pytest.raises(ValueError, match=r"runs must have measured numbers, got \[0.9, (nan|inf)\]"):
        assess_claim("A beats B", [0.9, value], [0.8, 0.8])
    with pytest.raises(ValueError, match=r"above must be a number, got"):
        assess_claim("A beats B", [0.9, 0.9], [0.8, 0.8], above=value)


def test_runs_may_be_columns_and_tensors():
    ours, theirs = [0.93, 0.94, 0.96], [0.90, 0.90, 0.91]
    claim = assess_claim("x", ours, theirs)
    for kind in (np.array, torch.tensor, pd.Series):
        assert assess_claim("x", kind(ours), kind(theirs)).t == pytest.approx(claim.t, rel=1e-4)


@pytest.mark.parametrize("seeds", [2, 3, 6, 10])
def test_the_threshold_is_the_quantile_of_student(seeds):
    claim = Claim(text="x", mean=0.1, error=0.1, seeds=seeds)
    assert claim.threshold == pytest.approx(student.ppf(0.975, seeds - 1))


@pytest.mark.parametrize(("first", "second"), [(5, 5), (3, 12), (12, 3)])
def test_runs_without_common_seeds_are_compared_by_the_test_of_Welch(first, second):
    draws = np.random.default_rng(first)
    ours, theirs = draws.normal(size=first), draws.normal(scale=3, size=second)
    claim = assess_claim("A beats B", list(ours), list(theirs), paired=False)
    expected = ttest_ind(ours, theirs, equal_var=False)
    assert claim.t == pytest.approx(expected.statistic)
    assert claim.freedom == pytest.approx(expected.df)
    assert claim.threshold == pytest.approx(student.ppf(0.975, expected.df))
    assert claim.seeds == min(first, second)


def test_groups_that_do_not_vary_leave_no_doubt():
    assert assess_claim("A beats B", [0.9, 0.9], [0.8, 0.8, 0.8], paired=False).verdict == "reproduced"


def test_other_units_are_shown_as_they_are():
    claim = assess_claim("longer", [2.0, 2.5, 3.0], [1.0, 1.5, 2.1], unit="of loss")
    assert str(claim) == "reproduced: longer (+0.967 ± 0.033 of loss, t = 29.0, threshold 4.3, n = 3 seeds)"


def test_a_bound_other_than_zero_is_shown():
    claim = assess_claim("hardly worse", [0.78, 0.80, 0.83], [0.80, 0.82, 0.84], above=-0.005)
    assert claim.cells == ("3", "-1.7 ± 0.3 points, claimed above -0.5", "-3.5", "4.3")


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(0.05, "reproduced"), (0.051, "reproduced"), (0.0511, "contradicted"), (math.nan, "undecided")],
)
def test_an_exact_claim_is_decided_by_its_tolerance(measured, verdict):
    claim = Exact(text="a density", predicted=0.05, measured=measured, tolerance=0.001 + 1e-12)
    assert claim.verdict == verdict
    assert claim.is_reproduced == (verdict == "reproduced")
