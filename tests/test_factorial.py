"""Effects and interactions of a factorial experiment: exact on exact data, honest about noise."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from sparsekit.analysis import factorial_design, factorial_effects

FACTORS = ["neurons", "skips", "init", "labels"]


def runs(response, *, seeds=3, factors=FACTORS):
    rows = []
    for seed, cell in product(range(seeds), factorial_design(factors)):
        row = {name: name in cell for name in factors}
        rows.append({**row, "seed": seed, "accuracy": response(row, seed)})
    return pd.DataFrame(rows)


def test_every_combination_comes_once():
    cells = list(factorial_design(FACTORS))
    assert len(cells) == len(set(cells)) == 16
    assert cells[0] == frozenset()
    assert cells[-1] == frozenset(FACTORS)


def test_effects_that_were_put_in_come_out():
    def response(row, seed):
        return 0.9 + 0.03 * row["neurons"] - 0.02 * row["labels"] + 0.01 * row["neurons"] * row["skips"] + seed

    effects = factorial_effects(runs(response), FACTORS)["effect"]
    assert effects["neurons"] == pytest.approx(0.035)  # 0.03, and 0.01 in half of the cells
    assert effects["skips"] == pytest.approx(0.005)
    assert effects["labels"] == pytest.approx(-0.02)
    assert effects["neurons x skips"] == pytest.approx(0.01)
    assert effects["init x labels"] == pytest.approx(0, abs=1e-12)
    assert len(effects) == 4 + 6


def test_a_main_effect_is_the_difference_of_means_and_an_interaction_the_difference_of_differences():
    draws = np.random.default_rng(0)
    table = runs(lambda row, seed: draws.normal())
    effects = factorial_effects(table, FACTORS)["effect"]
    means = table.groupby("skips")["accuracy"].mean()
    assert effects["skips"] == pytest.approx(means[True] - means[False])
    cells = table.groupby(["neurons", "labels"])["accuracy"].mean()
    gain_with = cells[True, True] - cells[False, True]
    gain_without = cells[True, False] - cells[False, False]
    assert effects["neurons x labels"] == pytest.approx(gain_with - gain_without)


def test_what_seeds_have_in_common_is_nobodys_error():
    draws = np.random.default_rng(0)
    noise = iter(draws.normal(0, 0.001, 16 * 5))
    table = runs(lambda row, seed: 10.0 * seed + 0.01 * row["init"] + next(noise), seeds=5)
    effects = factorial_effects(table, FACTORS)
    assert effects.loc["init", "low"] > 0.008
    assert effects["error"].max() < 0.002


def test_intervals_hold_the_truth_as_often_as_they_say():
    draws = np.random.default_rng(1)
    inside = []
    for _ in range(200):
        table = runs(lambda row, seed: 0.5 * row["neurons"] + draws.normal(), seeds=2)
        row = factorial_effects(table, FACTORS, confidence=0.9).loc["neurons"]
        inside.append(row["low"] <= 0.5 <= row["high"])
    assert 0.84 < np.mean(inside) < 0.96


def test_the_error_is_that_of_the_formula():
    """Noise of spread s gives a main effect the error 2 s / sqrt(n)."""
    draws = np.random.default_rng(2)
    table = runs(lambda row, seed: draws.normal(0, 3.0), seeds=40)
    errors = factorial_effects(table, FACTORS)["error"]
    assert errors["neurons"] == pytest.approx(2 * 3.0 / len(table) ** 0.5, rel=0.1)
    assert errors["neurons x skips"] == pytest.approx(2 * errors["neurons"])


def test_with_one_factor_it_is_the_paired_comparison_of_textbooks():
    gains = [0.5, 1.5, 1.0, 3.0]
    table = runs(lambda row, seed: 10.0 * seed + row["a"] * gains[seed], seeds=4, factors=["a"])
    found = factorial_effects(table, ["a"]).loc["a"]
    error = np.std(gains, ddof=1) / len(gains) ** 0.5
    assert (found["effect"], found["error"]) == pytest.approx((np.mean(gains), error))
    assert found["high"] - found["effect"] == pytest.approx(3.182446 * error)  # Student's t, 3 degrees of freedom


def test_runs_that_cannot_tell_are_refused():
    table = runs(lambda row, seed: 0.0, seeds=1)
    with pytest.raises(ValueError, match="must have a column for each factor, got none for glue"):
        factorial_effects(table, ["glue"])
    with pytest.raises(ValueError, match="must tell 11 effects and blocks apart"):
        factorial_effects(table[table["neurons"]], FACTORS)
    with pytest.raises(ValueError, match="leave some over, got 2"):
        factorial_effects(runs(lambda row, seed: 0.0, seeds=1, factors=["a"]), ["a"])
    with pytest.raises(ValueError, match="at least one factor"):
        factorial_effects(table, [])
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        factorial_effects(table, FACTORS, confidence=95.0)
