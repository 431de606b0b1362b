"""Notebooks as files: dead views go when Jupyter saves, solutions for students, and definitions alone are run."""

import json
import subprocess
import sys

import pytest

from sparsekit.utils.notebook_files import (
    LIVE,
    code_of,
    definitions_in,
    drop_dead_views,
    read_notebook,
    without_solutions,
    write_notebook,
)


def saved(*data: dict) -> list[dict]:
    """Return the outputs that a file keeps of one cell with these outputs."""
    cell = {"cell_type": "code", "outputs": [{"output_type": "display_data", "data": dict(one)} for one in data]}
    drop_dead_views(model={"type": "notebook", "content": {"cells": [cell]}}, path="x.ipynb", contents_manager=None)
    return [output["data"] for output in cell["outputs"]]


def test_a_view_goes_where_an_image_stands_beside_it_and_stays_where_nothing_else_shows_it():
    still = {"image/png": "aaaa", "text/plain": "a sentence"}
    assert saved({LIVE: {}, **still}, {LIVE: {}, "text/plain": "Box()"}) == [still, {LIVE: {}, "text/plain": "Box()"}]


@pytest.mark.parametrize(
    "model",
    [
        {"type": "file", "content": "text"},
        {"type": "directory", "content": None},
        {"type": "notebook", "content": None},
        {"type": "notebook", "content": {"cells": [{"cell_type": "code", "outputs": [{"output_type": "stream"}]}]}},
        {"type": "notebook", "content": {}},
    ],
)
def test_whatever_else_is_saved_passes_as_it_is(model):
    before = json.dumps(model)
    drop_dead_views(model=model, path="x")
    assert json.dumps(model) == before


def test_the_hook_of_the_server_does_not_wait_for_torch():
    code = "import sys, sparsekit.utils.notebook_files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {
            "cell_type": "code",
            "source": "def f():\n    raise NotImplementedError",
            "outputs": [1],
            "execution_count": 3,
        },
        {"cell_type": "markdown", "source": ["<details><summary>Solution</summary>\n", "..."]},
    ],
    "nbformat": 4,
}


def test_students_get_no_solutions_and_no_outputs_and_the_original_stays(tmp_path):
    student = without_solutions(NOTEBOOK)
    assert [cell["cell_type"] for cell in student["cells"]] == ["markdown", "code"]
    assert student["cells"][1]["outputs"] == []
    assert NOTEBOOK["cells"][1]["outputs"] == [1]
    write_notebook(tmp_path / "a" / "x.ipynb", student)
    assert read_notebook(tmp_path / "a" / "x.ipynb") == student
    assert code_of(student) == ["def f():\n    raise NotImplementedError"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *(("{", "damaged"), ("[" * 100_000, "damaged"), ("[]", "other JSON"), ('{"cells": 1}', "other JSON")),
        *(('{"cells": [1]}', "other JSON"), ('{"cells": [{"source": [1]}]}', "other JSON")),
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_notebook_is_refused(tmp_path, text, said):
    (tmp_path / "x.ipynb").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_notebook(tmp_path / "x.ipynb")


def test_only_definitions_are_kept_of_cells():
    cells = [
        "%pip install x",
        "import os\nSIZE = 3\nrun = train(5)\n",
        "class A:\n    pass\nA()",
        "f = lambda x: x",
        "def (",
    ]
    assert definitions_in(cells) == "import os\nSIZE = 3\nclass A:\n    pass\nf = lambda x: x"


@pytest.mark.parametrize(
    "value",
    ["2 ** 3", "9 / 10", "-1e-05 * 2", "(A, -B)", "{'a': [A]}", "lambda x: [f(y) for y in x]", "A if B else A.c[0]"],
)
def test_what_is_computed_without_a_call_is_a_definition(value):
    assert definitions_in([f"x = {value}"]) == f"x = {value}"


@pytest.mark.parametrize(
    "value", ["train()", "1 + train()", "[y for y in z]", "(yield)", "(y := 3)", "lambda x=train(): x", "await train()"]
)
def test_what_calls_or_loops_is_no_definition(value):
    assert definitions_in([f"x = {value}"]) == ""


@pytest.mark.parametrize("deep", ["(" * 5000 + ")" * 5000, "-" * 50_000 + "1", "1" + " + 1" * 900])
def test_an_expression_that_is_too_deep_costs_its_cell_only(deep):
    assert definitions_in([f"x = {deep}", "y = 1"]) == "y = 1"
