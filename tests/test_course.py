"""The course's exercises know the mistakes that people make, and grading survives whatever an answer does."""

import csv
import importlib.util
import json
import os
import time
from contextlib import chdir, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from course_answers import MISBEHAVING, SEEDED

from sparsekit.cli.course import grading
from sparsekit.cli.course.grading import grade_folder, submissions_in
from sparsekit.experiments.course import apart as running
from sparsekit.experiments.course import arena, worker
from sparsekit.experiments.course.apart import Apart
from sparsekit.experiments.course.exercise import Cases
from sparsekit.experiments.course.tasks import EXERCISES, capstone, exercise, exercises, trials
from sparsekit.experiments.course.transfer import MOST_NUMBERS, decode, encode
from sparsekit.experiments.course.worker import results_of
from sparsekit.kernels.cpu import threads
from sparsekit.rules import SET

ROOT = Path(__file__).parents[1]
CASES = [one for one in exercises() if isinstance(one, Cases)]
RIGHT = "def count_of(rows, columns, density):\n    return round(rows * columns * density)"


def solution(name: str):
    """Return the right answer of the file that teachers have."""
    spec = importlib.util.spec_from_file_location("solutions", ROOT / "notebooks" / "solutions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


@pytest.fixture
def no_training(monkeypatch):
    """Let the trials read accuracies from a table: a fixed mask reads 70, and what is exchanged too often reads 50."""
    trials._mean_of.cache_clear()
    table = {"fixed": lambda number: 95 if number > 0.1 else 70, "gse": lambda number: 90 if number > 0.3 else 80}
    table["restless"] = lambda number: 50 if number > 0.8 else 85
    monkeypatch.setattr(trials, "_mean_of", lambda name, number: table[name](number))


# --- exercises ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", CASES, ids=lambda task: task.name)
def test_the_solution_is_right_and_a_stub_is_open(task):
    assert task.check(solution(task.name)).message.startswith("Right, your answer fits")
    assert task.check(None).state == task.check(...).state == "open"


@pytest.mark.parametrize("task", CASES, ids=lambda task: task.name)
def test_every_known_mistake_gets_its_own_sentence(task):
    said = [task.check(mistake.answer).message for mistake in task.mistakes]
    assert all(text.endswith(mistake.message) for text, mistake in zip(said, task.mistakes, strict=True))
    assert len({mistake.message for mistake in task.mistakes}) == len(task.mistakes) >= 3


@pytest.mark.parametrize("task", exercises(), ids=lambda task: task.name)
def test_every_exercise_has_three_hints_and_belongs_to_a_notebook(task):
    assert len(set(task.hints)) == 3
    assert list((ROOT / "notebooks" / "src").glob(f"{task.notebook}_*.py"))


def test_there_are_forty_seeded_answers_or_more():
    assert len({code for _, code, _ in SEEDED}) >= 40


@pytest.mark.parametrize(("name", "code", "said"), SEEDED, ids=lambda text: text[:24])
def test_a_seeded_wrong_answer_gets_the_sentence_written_for_it(name, code, said):
    task = exercise(name)
    results = results_of(task.without_answers(), f"import torch\n{code}")
    carried = [(kind, decode(json.loads(json.dumps(encode(value))))) for kind, value in results]
    verdict = task.assess(carried)
    assert not verdict
    assert said in verdict.message


def test_an_exercise_for_running_holds_no_answers():
    task = exercise("count_of").without_answers()
    assert (task.hints, task.mistakes) == ((), ())
    assert all(expected is None for _, expected in task.cases)


def test_an_answer_that_changes_its_arguments_does_not_change_the_exercise():
    task = exercise("keep_top")

    def spoil(scores, count):
        scores.zero_()
        return scores

    task.check(spoil)
    assert task.check(solution("keep_top"))


def test_the_wrong_number_of_results_is_no_right_answer():
    assert "must be 3 results, got 1" in exercise("count_of").assess([("value", 819)]).message


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("enough_density", 0.12, 0.05), ("losing_fraction", 0.9, 0.3), ("frugal_subset", 0.5, 0.1)],
)
def test_a_trial_says_what_it_has_measured(no_training, name, good, bad):
    task = exercise(name)
    assert task.check(good)
    assert task.check(lambda: good)  # or a function without arguments
    verdict = task.check(bad)
    assert verdict.state == "wrong"
    assert "of 100" in verdict.message


def test_a_trial_of_nonsense_measures_nothing(no_training):
    task = exercise("losing_fraction")
    for answer, said in ((True, "is a number, got True"), ("0.3", "got '0.3'"), (float("nan"), "lies between 0 and 1")):
        assert said in task.check(answer).message
    assert task.check(...).state == "open"
    assert "raises ZeroDivisionError" in task.check(lambda: 1 / 0).message


# --- the arena and its exercise -----------------------------------------------------------------------------------


def test_rules_compete_from_equal_starts_with_equal_batches():
    rules = {"mine": SET(stop=19, every=10), "again": SET(stop=19, every=10)}
    scores = arena.compete(rules, seeds=[0, 1], epochs=1)
    assert scores["mine"].accuracies == scores["again"].accuracies
    assert 5 < scores["mine"].mean < 90


def test_a_rule_that_exceeds_the_budget_is_stopped():
    from sparsekit.schedules import Constant

    greedy = SET(stop=19, every=5, density=Constant(0.2))
    with pytest.raises(ValueError, match="the budget of 293 connections, got one that holds 1171"):
        arena.trained({"greedy": greedy}, [0, 1], epochs=1)


def test_a_rule_that_cannot_run_beside_others_is_refused():
    from sparsekit.rules import make_rule

    with pytest.raises(ValueError, match="got x, which"):
        arena.compete({"x": make_rule("top-kast", total_steps=19)}, [0])


def weights(value: float, count: int = 293) -> dict[str, torch.Tensor]:
    """Return an arena's network whose first weights have a value."""
    made = {
        f"{k}.{kind}": torch.zeros(shape) for kind, shapes in capstone.SHAPES.items() for k, shape in enumerate(shapes)
    }
    made["0.weight"].view(-1)[:count] = value
    return made


@pytest.fixture
def rated(monkeypatch):
    """Let a network read as many digits as its first weight says, and RigL about 91."""
    monkeypatch.setattr(capstone, "rigls_accuracies", lambda: (91.0, 90.0, 92.0, 91.5, 90.5, 91.0, 91.0, 91.0))
    monkeypatch.setattr(capstone, "accuracy_of_weights", lambda one: float(one["0.weight"][0, 0]))

    def verdict(*accuracies: float, **changes):
        return exercise("my_rule").assess([("value", weights(one, **changes)) for one in accuracies])

    return verdict


def test_the_last_exercise_wants_more_than_luck(rated):
    assert rated(93, 93, 94, 93.5, 92.5, 93, 93, 93)
    assert (
        "(+2.1 ± 0.1 points, t = 17.0, threshold 2.4, n = 8 seeds)" in rated(93, 93, 94, 93.5, 92.5, 93, 93, 93).message
    )
    assert "differ too much to say" in rated(97, 88, 93, 91.5, 90.5, 91, 91, 91).message
    assert "It must be ahead" in rated(*[90] * 8).message
    assert "ends where RigL ends" in rated(91, 90, 92, 91.5, 90.5, 91, 91, 91).message


def test_networks_above_the_budget_or_of_another_shape_do_not_count(rated):
    assert "budget is 293 connections, and your rule ends with 400" in rated(*[99] * 8, count=400).message
    assert "got something else" in rated(99).message
    odd = [("value", weights(99) | {"0.weight": torch.full((48, 64), float("nan"))})] * 8
    for results in (odd, [("value", 99)] * 8, [("value", {"0.weight": 1})] * 8, []):
        assert not exercise("my_rule").assess(results)


def test_what_a_rule_raises_is_said(monkeypatch):
    def my_rule(total_steps):
        raise RuntimeError(total_steps)

    assert "Training by your rule raises RuntimeError: 1140." in exercise("my_rule").check(my_rule).message
    assert exercise("my_rule").check(lambda steps: None).state == "open"
    assert exercise("my_rule").check(...).state == "open"


# --- results travel as JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 0.1, float("inf"), "text", [1, (2, [3.5])], {"a": 1, 2: [None]}, [], {}],
)
def test_plain_values_travel_unchanged(value):
    assert decode(json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_tensors_and_arrays_keep_their_kind(dtype):
    tensor = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    back = decode(json.loads(json.dumps(encode({"x": tensor, "y": np.float32(0.5)}))))
    assert back["x"].dtype == dtype
    assert torch.equal(back["x"], tensor)
    assert back["y"] == 0.5
    assert isinstance(decode(encode(np.arange(3))), np.ndarray)


def test_what_is_strange_or_huge_becomes_a_text_that_equals_nothing():
    endless: list = []
    endless.append(endless)
    for value in (object(), endless, torch.zeros(MOST_NUMBERS + 1), lambda: 0):
        back = decode(json.loads(json.dumps(encode([value]))))
        assert not exercise("count_of").assess([("value", back[0])] * 3)


@pytest.mark.parametrize("code", [{"pickle": "x"}, {"float": "1", "list": []}, {}])
def test_what_encode_never_writes_is_refused(code):
    with pytest.raises(ValueError, match="Ask the process again"):
        decode(code)


# --- grading ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trap(tmp_path_factory):
    """Return a folder with a module that leaves a file where it is imported."""
    folder = tmp_path_factory.mktemp("trap")
    (folder / "tempfile.py").write_text(f"open({str(folder / 'imported')!r}, 'w')")
    return folder


@pytest.fixture(scope="module")
def apart(trap):
    with Apart(seconds=2) as process:
        with chdir(trap):
            process._running()
        process.check(exercise("count_of"), RIGHT)  # loading torch takes longer than an answer may
        yield process


def test_a_right_answer_is_right_apart_as_well(apart):
    assert apart.check(exercise("count_of"), RIGHT)


@pytest.mark.parametrize(("body", "said"), MISBEHAVING, ids=lambda text: text[:20])
def test_an_answer_that_misbehaves_costs_that_answer_only(apart, body, said):
    code = f"{RIGHT.replace('count_of', 'other')}\ndef count_of(rows, columns, density):\n    {body}"
    verdict = apart.check(exercise("count_of"), code)
    assert not verdict
    assert said in verdict.message
    assert apart.check(exercise("count_of"), RIGHT)


FORGER = """
import os, stat

def pipes():
    for number in range(64):
        try:
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                os.write(number, b'{"results": [["value", 819]]}\\n' * 2)
                yield number
        except OSError:
            pass

def count_of(rows, columns, density):
    return round(rows * columns * density) + len(list(pipes()))
"""


def test_an_answer_has_no_pipe_to_write_replies_into(apart):
    assert apart.check(exercise("count_of"), FORGER)


def test_a_child_that_lives_on_holds_nobody_up():
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(20)\n    os._exit(0)\n"
    with Apart(seconds=2) as process:
        process.check(exercise("count_of"), RIGHT)
        process.check(exercise("count_of"), f"{code}\nos.kill(os.getppid(), 9)")
        began = time.monotonic()
    assert time.monotonic() - began < 10


def test_a_reply_counts_by_its_token_only():
    lines = ["7", "{", '{"results": []}', '{"token": "b", "results": [1]}', '{"token": "a", "results": [2]}']
    assert running._reply_among(lines, "a") == {"token": "a", "results": [2]}
    assert running._reply_among(lines, "c") is None


def test_a_process_that_was_stopped_is_given_up(monkeypatch):
    monkeypatch.setattr(running, "PATIENCE", 0.5)
    with Apart(seconds=0.2) as process:
        process._running()  # it loads torch for longer than that
        assert "or stopped it" in process.check(exercise("count_of"), RIGHT).message


def test_a_module_in_the_current_folder_is_not_imported(apart, trap):
    assert apart.check(exercise("count_of"), RIGHT)
    assert not (trap / "imported").exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "large"])
def test_only_a_plain_file_of_results_is_read(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(worker, "LARGEST_FILE", 10)
    file, other = tmp_path / "results.json", tmp_path / "other"
    other.write_text("[]")
    make = {"link": lambda: file.symlink_to(other), "pipe": lambda: os.mkfifo(file), "folder": file.mkdir}
    make.get(kind, lambda: file.write_text("[0, 1, 2, 3]"))()
    with pytest.raises((OSError, ValueError)):
        worker._read_plain(file)
    assert worker._read_plain(other) == b"[]"


TENSOR = {"numbers": [1.0], "shape": [1], "dtype": "float32"}


@pytest.mark.parametrize(
    "results",
    [
        *(5, [], [[1]], [["value", 10**400]] * 3, [["value", {"float": 10**400}]] * 3),
        [["value", {"tensor": TENSOR | {"shape": [7]}}]] * 3,
        [["value", {"tensor": TENSOR | {"dtype": "nonsense"}}]] * 3,
        [["value", {"tensor": TENSOR | {"dtype": "nn"}}]] * 3,
        [["value", {"dict": [[{"list": []}, 1]]}]] * 3,
        [["value", {"other": "\ud800"}]] * 3,
    ],
    ids=lambda results: str(results)[:40].encode("ascii", "replace").decode(),
)
@pytest.mark.parametrize("name", ["count_of", "telling_density", "my_rule"])
def test_hostile_results_are_a_wrong_answer(monkeypatch, name, results):
    apart = Apart()
    monkeypatch.setattr(apart, "_ask", lambda request: {"results": results})
    verdict = apart.check(exercise(name), "")
    assert verdict.state == "wrong"
    assert verdict.message.startswith("Not yet.")


def test_an_answer_starts_no_process_unless_root_runs_it(monkeypatch):
    limits = {}
    monkeypatch.setattr(worker.resource, "setrlimit", lambda which, pair: limits.update({which: pair}))
    monkeypatch.setattr(worker.os, "geteuid", lambda: 1000)
    worker._limit(1, 10**9)
    assert limits[worker.resource.RLIMIT_NPROC] == (0, 0)


def test_a_kernel_runs_where_no_thread_may_start(monkeypatch):
    def refuse(timer):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads.threading.Timer, "start", refuse)
    kernel = lambda done, bounds, part: done.append(part)  # noqa: E731 - a kernel that has not run yet
    done: list = []
    threads.run(kernel, kernel, (done,), np.array([0, 1]))
    assert done == [0]


def notebook(*cells: str) -> str:
    return json.dumps(
        {"cells": [{"cell_type": "code", "source": cell, "outputs": []} for cell in cells], "nbformat": 4}
    )


@pytest.fixture
def handed_in(tmp_path):
    folder = tmp_path / "in"
    (folder / "ada").mkdir(parents=True)
    (folder / "ada" / "00_start_here.ipynb").write_text(notebook("import torch\n1 / 0", RIGHT, "%magic"))
    (folder / "ada" / "05_lottery_tickets.ipynb").write_text(
        notebook("def connections_at(l, n, p):\n    return round(n * (1 - l * p))")
    )
    (folder / "bob.ipynb").write_text("{")
    (folder / "=cmd.py").write_text("def count_of(r, c, d):\n    return '<b>[x](http://y)'")
    (folder / ".git").mkdir()
    return folder


def test_a_folder_is_graded_into_a_table_and_pages(handed_in, tmp_path, apart, monkeypatch):
    monkeypatch.setattr(grading, "Apart", lambda **limits: nullcontext(apart))  # which has loaded torch already
    out, lines = tmp_path / "out", []
    files = grade_folder(handed_in, out, seconds=30, memory=10**9, only="0", tell=lines.append)
    assert [path.name for path in files] == ["grades.csv", "=cmd.md", "ada.md", "bob.md"]
    head, cmd, ada, bob = csv.reader((out / "grades.csv").read_text().splitlines())
    column = {name: number for number, name in enumerate(head)}
    assert [ada[column[name]] for name in ("student", "count_of", "connections_at", "triangle", "total")] == [
        *("ada", "1", "0", "", "1")
    ]
    assert (cmd[0], cmd[column["count_of"]]) == ("'=cmd", "0")  # a spreadsheet must not compute a name
    assert set(bob[1:-1]) == {""}
    page = (out / "ada.md").read_text()
    assert page.startswith("# ada: 1 of ")
    assert "A level removes a share of what is left." in page
    assert "*Hint:* After one level" in page
    assert "bob.ipynb must be a notebook, got a damaged file" in (out / "bob.md").read_text()
    assert "<b>" not in (out / "=cmd.md").read_text()
    assert lines[1] == f"ada: 1 of {len(exercises('0'))}"


def test_folder_notebook_and_file_of_one_name_are_one_student(tmp_path):
    (tmp_path / "anna").mkdir()
    files = [tmp_path / "anna" / "00_start_here.ipynb", tmp_path / "anna.ipynb", tmp_path / "anna.py"]
    for file in files:
        file.write_text("")
    (one,) = submissions_in(tmp_path)
    assert (one.student, one.files) == ("anna", tuple(files))


def test_a_submission_that_cannot_be_read_or_written_costs_its_student_only(tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, cells in (("a", "[1]"), ("b", '[{"source": [1]}]'), ("c", "[" * 100_000)):
        (folder / f"{name}.ipynb").write_text(f'{{"cells": {cells}}}')
    (folder / "d.py").write_text("x = " + "(" * 5000 + ")" * 5000)
    (folder / "e.py").write_text("def count_of(r, c, d): return 1")
    monkeypatch.setattr(Apart, "_ask", lambda self, request: {"results": [["value", {"other": "\ud800"}]] * 3})
    grade_folder(folder, out, seconds=1, memory=10**9, only="00")
    rows = [line.split(",")[0] for line in (out / "grades.csv").read_text().splitlines()]
    assert rows == ["student", *"abcde"]
    assert "gives ?" in (out / "e.md").read_text()


def test_the_table_is_written_when_somebody_stops_the_grading(handed_in, tmp_path, monkeypatch):
    def stop(self, task, code):
        raise KeyboardInterrupt

    monkeypatch.setattr(Apart, "check", stop)
    with pytest.raises(KeyboardInterrupt):
        grade_folder(handed_in, tmp_path / "out", seconds=1, memory=10**9)
    assert (tmp_path / "out" / "grades.csv").read_text().startswith("student,")


def test_a_folder_without_submissions_or_exercises_is_refused(tmp_path, handed_in):
    (tmp_path / "empty" / "nobody").mkdir(parents=True)
    with pytest.raises(ValueError, match="must hold submissions, got no notebook"):
        submissions_in(tmp_path / "empty")
    with pytest.raises(ValueError, match="only must be the beginning of a notebook's number, got '77'"):
        grade_folder(handed_in, tmp_path / "out", seconds=1, memory=1, only="77")


def test_the_names_of_exercises_are_unique():
    assert len(EXERCISES) == len(exercises())
