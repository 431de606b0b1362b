"""Exercises: the check of a notebook accepts the solution, and neither the stub nor a mistake that people make."""

import ast
import importlib.util
import re
from pathlib import Path

import jupytext
import pytest
import torch

from sparsekit import widgets
from sparsekit.experiments.course import exercise

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
MISTAKES = {
    "count_of": lambda rows, columns, density: rows * columns * density,
    "er_weight": lambda inputs, outputs: 1 / (inputs * outputs),
    "keep_top": lambda scores, count: scores >= scores.sort(descending=True).values[count - 1],  # too many on ties
    "kept_positions": lambda values, fraction: sorted(
        values.argsort(descending=True)[: len(values) - int(fraction * len(values))].tolist()  # forgets the sign
    ),
    "grown_positions": lambda gradient, taken, count: sorted(gradient.abs().argsort(descending=True)[:count].tolist()),
    "sampled_ratio": lambda density, subset: subset,  # forgets repetitions and what is taken
    "gradient_bound": lambda x, g: (g.sum(0)[:, None] * x.sum(0)[None, :]).abs(),  # sums before magnitudes
    "connections_at": lambda level, size, prune: round(
        size * (1 - level * prune)
    ),  # a share of the first, not the last
    "snip_score": lambda weight, gradients: (weight * gradients).abs().mean(0),  # magnitudes before the mean
    "synflow_first": lambda first, second: first * second.sum(0)[:, None],  # forgets that weights count as positive
    "triangle": lambda step, low, high, cycle: low + (high - low) * (step % cycle) / cycle,  # never returns
    "superposed": lambda tickets, count: [
        x if i in tickets.mean(0).argsort(descending=True)[:count].tolist() else 0.0  # forgets the sign
        for i, x in enumerate(tickets.mean(0).tolist())
    ],
    "barrier_of": lambda errors: float(errors.max() - errors[0]),  # measured from the first end
    "curve_point": lambda start, bend, end, t: (1 - t) * start + t * end,  # the straight line
    "fit_fan_in": lambda weight: weight * (weight.numel() / weight.count_nonzero().clamp(min=1)).sqrt(),  # one for all
    "torchs_smoothing": lambda taken, num_classes: taken * (num_classes - 1) / num_classes,  # the wrong way round
    "csr_bytes": lambda rows, columns, density: 8 * round(rows * columns * density),  # forgets where rows begin
    "whole_speedup": lambda share, speedup: 1 - share + share * speedup,  # averages speeds instead of times
}


def exercises() -> list[tuple[str, str]]:
    """Return (name of the function to write, its cell) of every exercise in the notebooks' sources."""
    found = []
    for source in sorted((NOTEBOOKS / "src").glob("*.py")):
        for cell in jupytext.read(source).cells:
            if cell.cell_type == "code" and "widgets.Check(" in cell.source:
                definition = next(node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef))
                found.append((definition.name, cell.source))
    return found


def named_exercises() -> list[tuple[str, str]]:
    """Return (source, name) of each of the course's own exercises that a notebook's source checks."""
    return [
        (source.stem, name)
        for source in sorted((NOTEBOOKS / "src").glob("*.py"))
        for name in re.findall(r"^widgets\.check\((\w+)", source.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def assess_claim(cell: str, name: str):
    """Run an exercise's cell; return its check and the reader's stub."""
    scope = {"torch": torch, "widgets": widgets}
    exec(cell, scope)
    check = next(value for value in scope.values() if isinstance(value, widgets.Check))
    return check, scope[name]


def solution(name: str):
    spec = importlib.util.spec_from_file_location("solutions", NOTEBOOKS / "solutions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


every_exercise = pytest.mark.parametrize(("name", "cell"), exercises(), ids=[name for name, _ in exercises()])


def test_there_are_exercises_in_every_notebook():
    assert len(exercises()) + len(named_exercises()) >= len(list((NOTEBOOKS / "src").glob("*.py")))


@pytest.mark.parametrize(("source", "name"), named_exercises())
def test_an_exercise_of_the_course_stands_in_its_own_notebook_and_has_a_solution(source, name):
    assert source.startswith(exercise(name).notebook)
    assert solution(name) is not None


@every_exercise
def test_the_solution_is_right(name, cell):
    check, _ = assess_claim(cell, name)
    assert check(solution(name)).message.startswith("Right")


@every_exercise
def test_the_stub_is_not_answered_yet(name, cell):
    check, stub = assess_claim(cell, name)
    assert check(stub).message.startswith("You have not answered yet")


@every_exercise
def test_a_mistake_that_people_make_is_found(name, cell):
    check, _ = assess_claim(cell, name)
    assert check(MISTAKES[name]).message.startswith("Not yet")


@every_exercise
def test_the_notebook_s_folded_solution_is_right_too(name, cell):
    texts = [
        text.source
        for source in (NOTEBOOKS / "src").glob("*.py")
        for text in jupytext.read(source).cells
        if text.cell_type == "markdown" and f"def {name}(" in text.source
    ]
    assert len(texts) == 1
    code = texts[0].partition("```python\n")[2].partition("```")[0]
    scope = {"torch": torch}
    exec(code, scope)
    check, _ = assess_claim(cell, name)
    assert check(scope[name])
