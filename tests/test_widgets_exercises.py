"""Predictions open after a choice, and checks say what differs and never stop a notebook."""

import numpy as np
import pytest
import torch

from sparsekit.experiments.course import progress
from sparsekit.experiments.course.comparing import difference
from sparsekit.topology import LayerTopology, Topology
from sparsekit.widgets import Check, Predict, own_best
from sparsekit.widgets import check as check_answer


@pytest.fixture(autouse=True)
def nothing_done_so_far(monkeypatch):
    """Begin with an empty record, and leave none behind."""
    monkeypatch.setattr(progress, "_in_memory", {})


@pytest.fixture
def check():
    return Check([((784, 300, 0.1), 23520), ((10, 10, 1.0), 100)], hint="Density is a share.")


def said(capsys) -> str:
    return capsys.readouterr().out.strip()


def test_a_right_answer_is_right(check, capsys):
    assert check(lambda rows, cols, density: round(rows * cols * density))
    assert said(capsys) == "Right. Your answer fits 2 of 2 cases."


def test_a_stub_is_not_answered_yet(check, capsys):
    def stub(rows, cols, density):
        raise NotImplementedError

    assert not check(stub)
    assert said(capsys) == "You have not answered yet."


@pytest.mark.parametrize("stub", [None, lambda *arguments: ..., lambda *arguments: NotImplemented])
def test_other_ways_to_leave_it_open_are_no_answers_either(check, capsys, stub):
    assert not check(stub)
    assert said(capsys).startswith("You have not answered yet.")


def test_a_wrong_answer_is_shown_its_case(check, capsys):
    assert not check(lambda rows, cols, density: round(784 * 300 * density))
    message = "Not yet. For (10, 10, 1.0) your answer gives 235200, but we expect 100."
    assert said(capsys) == message


def test_a_forgotten_return_is_a_wrong_answer(check, capsys):
    assert not check(lambda rows, cols, density: None)
    assert "your answer gives None, but we expect 23520" in said(capsys)


def test_an_error_in_the_answer_is_said_and_not_raised(check, capsys):
    assert not check(lambda rows: rows)
    assert "your answer raises TypeError: " in said(capsys)


def test_an_answer_of_a_strange_type_is_wrong_and_not_raised(check, capsys):
    class Odd:
        def __eq__(self, other):
            raise RuntimeError("cannot be compared")

        __hash__ = None

    for odd in (Odd(), "23520", [23520], {"count": 23520}, torch.zeros(2), object()):
        assert not check(lambda *arguments, odd=odd: odd)
    assert said(capsys).count("Not yet") == 6


def test_the_end_of_a_cell_shows_no_verdict_twice(check, capsys):
    verdict = check(lambda *arguments: 0)
    said(capsys)
    assert verdict._ipython_display_() is None
    assert said(capsys) == ""


TOPOLOGY = Topology({"fc": LayerTopology((2, 2), torch.tensor([0, 3]))})


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (0.1 + 0.2, 0.3),
        (1, 1.0),
        (np.float32(0.5), 0.5),
        (torch.tensor(0.5), 0.5),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0 + 1e-7])),
        (np.array([1, 2]), torch.tensor([1, 2])),
        ([1, 2], torch.tensor([1, 2])),
        (torch.tensor([True, False]), torch.tensor([True, False])),
        ((1, 2), [1, 2]),
        ({"a": [1.0, {"b": 2}]}, {"a": [1.0, {"b": 2}]}),
        ("erk", "erk"),
        (True, True),
        (None, None),
        (float("nan"), float("nan")),
        (float("inf"), float("inf")),
        (Topology({"fc": LayerTopology((2, 2), torch.tensor([0, 3]))}), TOPOLOGY),
        (torch.tensor([0.5], requires_grad=True), torch.tensor([0.5])),
    ],
)
def test_equal_values_agree(got, expected):
    assert difference(got, expected) is None


@pytest.mark.parametrize(
    ("got", "expected", "index"),
    [
        (0.3001, 0.3, ""),
        ("0.3", 0.3, ""),
        (torch.zeros(2), torch.zeros(3), ""),
        (torch.tensor([[1.0, 2.0], [3.0, 9.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "[1, 1]"),
        (torch.tensor([True, True]), torch.tensor([True, False]), "[1]"),
        ({"a": [1.0, 2.0]}, {"a": [1.0, 3.0]}, '["a"][1]'),
        ({"a": 1}, {"b": 1}, ""),
        ({"a": 1, "b": 2}, {"a": 1}, ""),
        ([1, 2, 3], [1, 2], ""),
        (5, [5], ""),
        (5, {"a": 5}, ""),
        (1, True, None),
        (0, True, ""),
        ("er", "erk", ""),
        (None, 0, ""),
        (0, None, ""),
        (Topology(), TOPOLOGY, ""),
        (float("nan"), 1.0, ""),
    ],
)
def test_different_values_differ_and_it_is_said_where(got, expected, index):
    message = difference(got, expected)
    assert message == (f", which differs first at {index}" if index else index)


def test_a_large_tensor_is_named_by_its_shape(capsys):
    Check([((torch.zeros(4, 5),), torch.ones(4, 5))])(lambda x: x)
    assert said(capsys) == (
        "Not yet. For (Tensor of shape (4, 5)) your answer gives Tensor of shape (4, 5), "
        "but we expect Tensor of shape (4, 5), which differs first at [0, 0]."
    )


def test_a_small_tensor_is_shown_whole(capsys):
    Check([((1,), torch.tensor([1, 2]))])(lambda x: torch.tensor([1, 3]))
    assert "gives tensor([1, 3]), but we expect tensor([1, 2]), which differs first at [1]." in said(capsys)


# --- predictions ----------------------------------------------------------------------------------


@pytest.fixture
def guess():
    return Predict("How many?", ["few", "many"], 1, "There are a hundred.")


def test_nothing_is_revealed_before_a_choice(guess):
    assert guess.revealed == ""
    assert "hundred" not in str(guess.get_state())
    assert guess.get_state()["right"] == -1
    assert "hundred" not in guess.sentence()


def test_a_right_choice_is_confirmed(guess):
    guess.choose("many")
    assert guess.revealed == "Yes. There are a hundred."


def test_a_wrong_choice_is_answered_with_the_right_one(guess):
    guess.choose("few")
    assert guess.revealed == "Not quite, it is “many”. There are a hundred."


def test_the_first_choice_stays_whoever_sends_another(guess):
    guess.choose("few")
    guess.choose("many")
    guess.set_state({"first": 1})  # as a page would
    assert guess.chosen == "few"
    assert guess.revealed == "Not quite, it is “many”. There are a hundred."


def test_a_choice_that_does_not_exist_is_refused_and_one_from_a_page_is_not_heard(guess):
    with pytest.raises(ValueError, match="few, many, got 'none'"):
        guess.choose("none")
    guess.first = 7
    assert guess.revealed == ""


def test_a_measurement_is_compared_with_the_first_choice(guess):
    assert repr(guess.measured("We counted 100.")).startswith("You have not guessed. The measurement supports “many”.")
    guess.choose("few")
    card = guess.measured("We counted 100.")
    assert repr(card) == "You guessed “few”. The measurement supports “many”. We counted 100."
    assert card.state == "wrong"


def test_a_guess_is_there_again_when_the_question_is_asked_anew(guess):
    guess.choose("few")
    again = Predict("How many?", ["few", "many"], 1, "There are a hundred.")
    assert again.chosen == "few"
    assert again.revealed == guess.revealed
    again.choose("many")
    assert again.chosen == "few"


def test_a_guess_among_other_options_or_a_damaged_one_is_no_guess(guess, monkeypatch):
    guess.choose("few")
    assert Predict("How many?", ["none", "many"]).chosen is None
    for damaged in ("few", {}, {"choice": ["few"]}):
        monkeypatch.setattr(progress, "_in_memory", {"guesses": {"How many?": damaged}, "exercises": {}, "best": None})
        assert Predict("How many?", ["few", "many"]).chosen is None


def test_a_guess_without_an_answer_opens_when_it_is_measured():
    guess = Predict("How many?", ["few", "many"])
    guess.choose("many")
    assert guess.revealed == ""
    assert progress.read_progress()[0]["guesses"]["How many?"] == {"choice": "many", "is_right": None}
    with pytest.raises(ValueError, match="must have a right option, got none"):
        guess.measured("100")
    assert guess.measured("We counted 100.", option=1).title == "You guessed right."
    assert guess.revealed == "Yes."
    assert progress.read_progress()[0]["guesses"]["How many?"]["is_right"] is True


def test_a_prediction_is_shown_as_widget_figure_and_sentence(guess):
    bundle = guess._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert bundle["text/plain"] == "How many? few / many"


@pytest.mark.parametrize(("options", "answer"), [(["one"], 0), (["a", "a"], 0), (["a", "b"], 2), (["a", "b"], -1)])
def test_a_question_without_a_clear_answer_is_refused(options, answer):
    with pytest.raises(ValueError, match="got"):
        Predict("?", options, answer, "because")


# --- the course's own exercises -------------------------------------------------------------------


def count_of(rows, columns, density):
    return round(rows * columns * density)


def test_an_exercise_is_found_by_the_name_of_its_function_and_kept(capsys):
    assert check_answer(count_of)
    assert said(capsys) == "Right. Your answer fits 3 of 3 cases."
    assert progress.read_progress()[0]["exercises"] == {"count_of": {"attempts": 1, "solved": True}}


def test_a_number_is_checked_under_its_name_and_a_stub_is_no_attempt(capsys):
    assert check_answer(telling_density=0.01)
    assert not check_answer(telling_density=0.2)
    assert not check_answer(losing_fraction=...)
    assert "10 of 10 uniform draws and in 0 of 10 by ERK" in said(capsys)
    assert progress.read_progress()[0]["exercises"] == {"telling_density": {"attempts": 1, "solved": True}}


@pytest.mark.parametrize("numbers", [{}, {"telling_density": 0.1, "losing_fraction": 0.2}])
def test_a_check_takes_one_answer(numbers):
    with pytest.raises(TypeError, match="one answer, got"):
        check_answer(**numbers)


def test_an_exercise_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="must be one of count_of, .* got 'nothing'"):
        check_answer(nothing=1)


def test_the_best_network_is_kept_and_a_weaker_one_is_not(capsys):
    own_best(0.9, "SET")
    own_best(0.95, "RigL")
    own_best(0.93, "GSE", connections=800)
    assert said(capsys).splitlines() == [
        "Your network reads 90.0 %. SET, with 1,690 connections. This is your best so far.",
        "A new best: 95.0 %. RigL, with 1,690 connections. Before, it was 90.0 % (SET).",
        "This one reads 93.0 %. GSE, with 800 connections. Your best so far is 95.0 % (RigL).",
    ]


@pytest.mark.parametrize(("accuracy", "connections"), [(95, 10), (float("nan"), 10), (0.9, 1691), (0.9, 0)])
def test_what_is_no_share_or_above_the_budget_is_refused(accuracy, connections):
    with pytest.raises(ValueError, match="got"):
        own_best(accuracy, "RigL", connections)
