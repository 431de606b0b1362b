"""Methods that take turns: who is called when and how often, and which samples count."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsekit.utils import timing
from sparsekit.utils.timing import (
    MIN_CLEAN,
    Effort,
    Quartiles,
    Sample,
    fastest,
    median_seconds,
    num_clean,
    speedups_of,
    time_in_turns,
    times_of,
)


class Clock:
    """Time that passes only where a method says so."""

    def __init__(self):
        self.now = self.waited = 0.0
        self.called: list[str] = []

    def method(self, name: str, seconds: float, waited: float = 0.0):
        def run() -> None:
            self.called.append(name)
            self.now += seconds
            self.waited += waited * seconds

        return run

    def time_in_turns(self, effort: Effort, **methods: tuple[float, ...]):
        made = {name: self.method(name, *costs) for name, costs in methods.items()}
        return time_in_turns(made, effort, clock=lambda: self.now, waiting=lambda: self.waited)


def rounds_of(**seconds: list[float]) -> list[dict[str, Sample]]:
    """Rounds in which the methods took so long; negative numbers were disturbed."""
    names = list(seconds)
    return [
        {
            name: Sample(seconds=abs(time), waited=0.5 if time < 0 else 0.0)
            for name, time in zip(names, row, strict=True)
        }
        for row in zip(*seconds.values(), strict=True)
    ]


def test_every_other_round_goes_the_other_way():
    clock = Clock()
    clock.time_in_turns(Effort(rounds=4, budget_seconds=100), a=(4.0,), b=(5.0,), c=(6.0,))
    assert "".join(clock.called).endswith("abc" + "cba" + "abc" + "cba")


def test_a_sample_is_the_time_of_one_call_however_many_it_takes_after_as_many_that_do_not_count():
    clock = Clock()
    rounds = clock.time_in_turns(Effort(rounds=6, sample_seconds=0.004), quick=(0.0005,), slow=(0.05,))
    assert len(rounds) == 6
    assert times_of(rounds, "quick") == pytest.approx([0.0005] * 6)
    assert times_of(rounds, "slow") == pytest.approx([0.05] * 6)
    assert clock.called.count("quick") == 2 + 6 * (8 + 8)
    assert clock.called.count("slow") == 2 + 6 * (1 + 1)


def test_slow_methods_are_not_warmed_up_for_each_sample():
    clock = Clock()
    clock.time_in_turns(Effort(rounds=5), slow=(3.0,))
    assert len(clock.called) == 1 + 5


def test_no_round_begins_after_the_budget_but_the_least_number_is_run():
    assert len(Clock().time_in_turns(Effort(rounds=50, budget_seconds=10), one=(2.0,))) == 5
    assert len(Clock().time_in_turns(Effort(rounds=50, budget_seconds=10, min_rounds=8), one=(2.0,))) == 8


def test_disturbed_samples_are_followed_by_more_rounds():
    assert len(Clock().time_in_turns(Effort(rounds=5), one=(0.01, 0.0))) == 5
    assert len(Clock().time_in_turns(Effort(rounds=5), one=(0.01, 0.5))) == 10


def test_disturbed_samples_are_left_out():
    rounds = rounds_of(one=[1, 1, 1, 1, -9, -9], two=[2, 2, 2, -8, 2, 2])
    assert times_of(rounds, "one") == [1, 1, 1, 1]
    assert num_clean(rounds, "one") == 4
    rounds = rounds_of(one=[1, 1, 1, 1, -9, 1], two=[2, 2, 2, 2, 2, -30])
    assert speedups_of(rounds, "one", "two") == [2, 2, 2, 2]


def test_too_few_clean_samples_mean_that_all_count():
    rounds = rounds_of(one=[1, 1, 1, -9])
    assert MIN_CLEAN == 4
    assert times_of(rounds, "one") == [1, 1, 1, 9]


@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=9), st.floats(0.1, 10))
def test_a_machine_that_changes_its_speed_between_rounds_changes_no_ratio(speeds, ratio):
    rounds = rounds_of(one=list(speeds), two=[ratio * speed for speed in speeds])
    assert speedups_of(rounds, "one", "two") == pytest.approx([ratio] * len(speeds))


def test_the_fastest_has_the_lowest_median():
    assert fastest(rounds_of(lucky=[0.1, 5, 5], steady=[2, 2, 2]), ["lucky", "steady"]) == "steady"


def test_garbage_is_collected_again_even_if_a_method_fails():
    with pytest.raises(ZeroDivisionError):
        time_in_turns({"bad": lambda: 1 / 0})
    assert gc.isenabled()


def test_the_median_seconds_are_those_of_the_clean_samples(monkeypatch):
    rounds = rounds_of(one=[1, 2, 3, 4, 5, -99], two=[7, 7, 7, 7, 7, 7])
    monkeypatch.setattr(timing, "time_in_turns", lambda methods, effort: rounds)
    assert median_seconds(dict.fromkeys(["one", "two"], print)) == {"one": 3, "two": 7}


def test_quartiles_of_one_number_are_that_number():
    assert Quartiles.of([3.0]) == Quartiles(low=3.0, median=3.0, high=3.0)
