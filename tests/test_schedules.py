"""Numbers that change during training."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsekit.schedules import (
    Constant,
    Cosine,
    Cubic,
    Geometric,
    Joined,
    Linear,
    Piecewise,
    Schedule,
    Stages,
    Triangular,
    Warmup,
)

TIMED = [Linear, Cosine, Cubic]


def at(schedule: Schedule, *steps: int) -> list[float]:
    return [schedule(step) for step in steps]


def test_the_cosine_has_the_golden_values_of_a_drop_fraction():
    # Over 150 steps, because the half steps of the published table (37.5 of 75) are whole ones then.
    assert at(Cosine(0.3, 0.0, 150), 0, 50, 75, 100, 150, 151) == pytest.approx([0.3, 0.225, 0.15, 0.075, 0, 0])


def test_the_cubic_has_the_golden_values_of_gradual_pruning():
    sparsities = [1 - density for density in at(Cubic(1.0, 0.05, 100), 0, 25, 50, 75, 100, 200)]
    assert sparsities == pytest.approx([0, 0.549219, 0.83125, 0.935156, 0.95, 0.95], abs=1e-6)


def test_the_triangle_has_the_golden_values_of_cheap_tickets():
    triangle = Triangular(0.001, 0.005, cycle=8)
    expected = [0.001, 0.002, 0.003, 0.004, 0.005, 0.004, 0.003, 0.002, 0.001]
    assert at(triangle, *range(9)) == pytest.approx(expected)
    assert at(triangle, *range(8, 17)) == pytest.approx(expected)


def test_an_odd_cycle_is_symmetric_and_never_leaves_its_bounds():
    values = at(Triangular(1.0, 3.0, cycle=5), *range(6))
    assert values == pytest.approx([1.0, 1.8, 2.6, 2.6, 1.8, 1.0])


def test_a_line_is_a_line_up_or_down():
    assert at(Linear(1.0, 0.0, 10), 0, 5, 10, 11) == [1.0, 0.5, 0.0, 0.0]
    assert at(Linear(0.0, 0.6, 3), 0, 1, 2, 3) == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_milestones_count_from_their_own_step_on():
    steps = Piecewise(1.0, (10, 20), factor=0.5)
    assert at(steps, -1, 0, 9, 10, 19, 20, 10**9) == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_a_warm_up_rises_to_the_schedule_and_then_is_the_schedule():
    inner = Piecewise(0.4, (2, 6), factor=0.5)
    warm = Warmup(inner, steps=4, first=0.5)
    assert at(warm, 0, 2, 3) == pytest.approx([0.5 * 0.4, 0.75 * 0.2, 0.875 * 0.2])
    assert at(warm, *range(4, 20)) == at(inner, *range(4, 20))
    assert at(Warmup(Constant(0.1), steps=4), -5, 0, 2, 4) == pytest.approx([0, 0, 0.05, 0.1])


@given(st.sampled_from(TIMED), st.floats(0, 1), st.floats(0, 1), st.integers(1, 50), st.integers(-10, 70))
@settings(max_examples=60)
def test_timed_schedules_start_end_and_stay_where_they_say(make, start, end, steps, step):
    schedule = make(start, end, steps)
    assert schedule(0) == schedule(-1) == pytest.approx(start)
    assert schedule(steps) == schedule(steps + 1) == pytest.approx(end)
    assert min(start, end) - 1e-12 <= schedule(step) <= max(start, end) + 1e-12


@pytest.mark.parametrize("make", TIMED)
def test_an_open_length_is_set_by_the_owner_once(make):
    schedule = make(0.3)
    assert schedule.lasting(None) == schedule
    assert schedule.lasting(9) == make(0.3, 0.0, 9)
    assert schedule.lasting(9).lasting(5) == make(0.3, 0.0, 9)
    assert schedule.lasting(0)(0) == 0.3
    with pytest.raises(ValueError, match=r"must know how long it lasts, got steps=None. Give steps, or stop"):
        schedule(0)


@pytest.mark.parametrize(
    "schedule",
    [Linear(1.0, 0.2), Cosine(1.0, 0.2), Cubic(1.0, 0.2), Geometric(1.0, 0.2), Stages((1.0, 0.5, 0.2), (0.5, 1.0))],
    ids=lambda schedule: type(schedule).__name__,
)
def test_an_open_schedule_lies_between_the_start_and_the_stop_of_its_owner(schedule):
    moved, still = schedule.between(30, 40), schedule.lasting(10)
    assert at(moved, -1, 0, 29, 30) == [1.0] * 4
    assert at(moved, *range(30, 45)) == at(still, *range(15))
    assert schedule.between(0, 40) == schedule.lasting(40)
    assert at(schedule.between(30, 30), 0, 29, 30, 31) == pytest.approx([1.0, 1.0, 0.2, 0.2])
    assert schedule.between(0, 0)(0) == pytest.approx(0.2)
    assert schedule.between(30, None) == schedule


def test_a_schedule_that_knows_its_length_keeps_the_clock_of_the_training():
    for schedule in (Cubic(1.0, 0.2, 10), Constant(0.3), Piecewise(0.1, (5,)), Triangular(0.1, 0.2, 4)):
        assert schedule.between(5, 20) == schedule


def test_joined_and_warmed_up_schedules_hand_start_and_stop_on():
    late = Joined(Constant(1.0), at=50, then=Cubic(1.0, 0.2))
    assert at(late.between(50, 60), 0, 50, 55, 60) == pytest.approx([1.0, 1.0, 0.3, 0.2])
    assert at(late.between(54, 60), 0, 54, 57, 60) == pytest.approx([1.0, 1.0, 0.3, 0.2])
    assert at(late.between(10, 60), 0, 50, 55, 60) == pytest.approx([1.0, 1.0, 0.3, 0.2])
    first = Joined(Linear(1.0, 0.5), at=20, then=Constant(0.5)).between(10, 40)
    assert at(first, 0, 10, 15, 20, 40) == [1.0, 1.0, 0.75, 0.5, 0.5]
    warm = Warmup(Cubic(1.0, 0.2), steps=2, first=0.5).between(30, 40)
    assert at(warm, 0, 1, 2, 30, 35, 40) == pytest.approx([0.5, 0.75, 1.0, 1.0, 0.3, 0.2])


def test_a_warm_up_hands_the_length_on():
    assert Warmup(Cosine(0.3), steps=2).lasting(8) == Warmup(Cosine(0.3, 0.0, 8), steps=2)
    assert Constant(0.3).lasting(8) == Constant(0.3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(1.0, 0.0, 0), "steps must be at least 1 or None, got 0"),
        (lambda: Triangular(0.1, 0.2, cycle=1), "at least 2 steps to go up and down, got 1"),
        (lambda: Triangular(0.2, 0.1, cycle=4), "low must not exceed high, got 0.2 and 0.1. Exchange them"),
        (lambda: Piecewise(0.1, (20, 10)), r"milestones must increase, got \(20, 10\). Sort them"),
        (lambda: Warmup(Constant(0.1), steps=0), "at least 1 step, got 0. Leave Warmup out"),
    ],
)
def test_impossible_schedules_are_refused_when_they_are_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_stages_hold_a_value_until_their_share_of_the_steps_is_done():
    stages = Stages((0.2, 0.1, 0.0), (0.5, 1.0))
    assert [stages.lasting(10)(step) for step in (-1, 0, 4, 5, 9, 10, 99)] == [0.2, 0.2, 0.2, 0.1, 0.1, 0.0, 0.0]
    assert stages.lasting(10).lasting(20) == stages.lasting(10)
    # 0.07 * 100 is 7.000000000000001: the stage would come a step late.
    assert [Stages((1.0, 0.0), (share / 100,), 100)(share) for share in range(1, 101)] == [0.0] * 100
    assert [Stages((1.0, 0.0), (share / 100,), 100)(share - 1) for share in range(1, 101)] == [1.0] * 100
    with pytest.raises(ValueError, match="must know how long it lasts"):
        stages(3)
    with pytest.raises(ValueError, match="one value more than changes"):
        Stages((0.2, 0.1), (0.5, 1.0))
    with pytest.raises(ValueError, match="increasing shares"):
        Stages((0.2, 0.1, 0.0), (1.0, 0.5))
