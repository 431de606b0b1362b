"""Exercises stand in the notebooks with a check, a stub that counts as open, and a folded solution that is right."""

import ast
import importlib.util
import re
from pathlib import Path

import jupytext
import pytest
import torch

import sparsekit as sk
from sparsekit.experiments.course import exercise, exercises
from sparsekit.experiments.course.exercise import Cases

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted((NOTEBOOKS / "src").glob("*.py"))
CHECK = re.compile(r"^widgets\.check\((\w+)", re.MULTILINE)


def checks() -> list[tuple[str, str]]:
    """Return (notebook, name) of each exercise that a notebook's source checks, in order."""
    return [(source.stem, name) for source in SOURCES for name in CHECK.findall(source.read_text(encoding="utf-8"))]


def cells(kind: str, pattern: str) -> list[str]:
    """Return the notebooks' cells of a kind in which a pattern is found."""
    found = [cell for source in SOURCES for cell in jupytext.read(source).cells if cell.cell_type == kind]
    return [cell.source for cell in found if re.search(pattern, cell.source, re.MULTILINE)]


def solution(name: str):
    spec = importlib.util.spec_from_file_location("solutions", NOTEBOOKS / "solutions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def defined_in(code: str, name: str):
    """Run the definition of an exercise's answer in some code, without the check that follows."""
    nodes = [node for node in ast.parse(code).body if not isinstance(node, ast.Expr)]
    scope = {"torch": torch, "sk": sk}
    exec(compile(ast.Module(nodes, []), "cell", "exec"), scope)
    return scope[name]


every_check = pytest.mark.parametrize(("notebook", "name"), checks(), ids=[name for _, name in checks()])


def test_every_exercise_of_the_course_stands_in_its_notebook_once():
    assert sorted(name for _, name in checks()) == sorted(one.name for one in exercises())
    assert all(notebook.startswith(exercise(name).notebook) for notebook, name in checks())


@pytest.mark.parametrize("number", ["04", "05", "06", "07", "08", "09", "10", "11", "12"])
def test_a_notebook_has_two_exercises_that_experiment(number):
    assert sum(not isinstance(one, Cases) for one in exercises(number)) >= 2


@every_check
def test_the_stub_is_not_answered_yet(notebook, name):
    (code,) = cells("code", rf"^(def {name}\(|{name} = None)")
    assert {kind for kind, _ in exercise(name).run(defined_in(code, name))} == {"open"}
    assert solution(name) is not None


@every_check
def test_the_folded_solution_is_the_right_one(notebook, name):
    (text,) = cells("markdown", rf"^(def {name}\(|{name} = )")
    answer = defined_in(text.partition("```python\n")[2].partition("```")[0], name)
    if isinstance(exercise(name), Cases):
        assert exercise(name).check(answer)
    elif not callable(answer):
        assert answer == solution(name)
