"""Notebooks as files: cells, solutions, and outputs that nobody can show any more. A notebook is JSON and no more here.

This needs no Jupyter and no torch, so a server that saves a notebook does not wait for either.
"""

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparsekit.utils.files import write_text

LIVE = "application/vnd.jupyter.widget-view+json"  # names a widget in the memory of a page
HOOK = "sparsekit.utils.notebook_files.drop_dead_views"  # what `ContentsManager.pre_save_hook` of Jupyter is set to
STARTS_SOLUTION = "<details><summary>Solution"
COMPUTES = (
    *(ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)

Notebook = dict[str, Any]


def drop_dead_views(*, model: Mapping[str, Any], **_: Any) -> None:
    """Before a notebook is saved, drop each widget's live view where its still image stands beside it.

    A page that opens the file later has no such widget, and would show an error in place of the image. This is a hook
    of Jupyter's, which hands over the file's `model` and takes what we have changed in it.

    Example:
        >>> output = {"data": {LIVE: {}, "image/png": "..."}}
        >>> drop_dead_views(model={"type": "notebook", "content": {"cells": [{"outputs": [output]}]}})
        >>> output
        {'data': {'image/png': '...'}}
    """
    content = model.get("content")
    if model.get("type") != "notebook" or not isinstance(content, dict):
        return
    for output in _outputs(content):
        data = output.get("data")
        if isinstance(data, dict) and any(kind.startswith("image/") for kind in data):
            data.pop(LIVE, None)


def read_notebook(path: Path) -> Notebook:
    """Read a notebook.

    Raises:
        ValueError: if the file is no notebook of format 4.
        FileNotFoundError: if there is none.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # wrong JSON, or bytes that are no text
        raise ValueError(f"{path} must be a notebook, got a damaged file ({error}). Ask for another copy") from error
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(map(_is_cell, cells)):
        raise ValueError(f"{path} must be a notebook of format 4, got other JSON. Save it with JupyterLab")
    return notebook


def write_notebook(path: Path, notebook: Mapping[str, Any]) -> None:
    """Write a notebook as Jupyter would, as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def source_of(cell: Mapping[str, Any]) -> str:
    """Return the text of a cell, which files hold as one string or as lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def code_of(notebook: Mapping[str, Any]) -> list[str]:
    """Return the code cells of a notebook, in order."""
    return [source_of(cell) for cell in notebook["cells"] if cell.get("cell_type") == "code"]


def without_solutions(notebook: Notebook) -> Notebook:
    """Return a notebook for students: no cell that folds a solution, and nothing that a run has printed.

    Example:
        >>> cells = [{"cell_type": "markdown", "source": STARTS_SOLUTION + "</summary>"}, {"cell_type": "raw"}]
        >>> without_solutions({"cells": cells})
        {'cells': [{'cell_type': 'raw'}]}
    """
    cells = [cell for cell in notebook["cells"] if not is_solution(cell)]
    return {**notebook, "cells": [_unanswered(cell) for cell in cells]}


def is_solution(cell: Mapping[str, Any]) -> bool:
    """Whether a cell is the folded solution of an exercise."""
    return cell.get("cell_type") == "markdown" and source_of(cell).lstrip().startswith(STARTS_SOLUTION)


def definitions_in(cells: list[str]) -> str:
    r"""Return what cells import and define, as code that trains nothing and prints nothing.

    Imports, functions, classes and constants stay, and so does what is computed of constants without a call.
    Everything else goes, and so does a cell that is no Python.

    Example:
        >>> print(definitions_in(["import math\nprint(1)", "def f(x):\n    return math.pi * x", "%matplotlib"]))
        import math
        def f(x):
            return math.pi * x
    """
    texts = (_definition(node) for cell in cells for node in _statements(cell))
    return "\n".join(filter(None, texts))


def _statements(cell: str) -> list[ast.stmt]:
    try:
        return ast.parse(cell).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # a magic command, half a cell, or too deep a one
        return []


def _definition(node: ast.stmt) -> str:
    try:
        return ast.unparse(node) if _is_definition(node) else ""
    except RecursionError:  # an expression that nobody wrote by hand
        return ""


def _is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node.value is not None and _is_constant(node.value)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def _is_constant(node: ast.AST) -> bool:
    """Whether an expression calls nothing, so that it costs nothing. The body of a lambda does not count."""
    if isinstance(node, ast.Lambda):
        return all(map(_is_constant, filter(None, (*node.args.defaults, *node.args.kw_defaults))))
    return not isinstance(node, COMPUTES) and all(map(_is_constant, ast.iter_child_nodes(node)))


def _is_cell(cell: Any) -> bool:
    source = cell.get("source", "") if isinstance(cell, dict) else None
    return isinstance(source, str) or (isinstance(source, list) and all(isinstance(line, str) for line in source))


def _unanswered(cell: Notebook) -> Notebook:
    return cell if cell.get("cell_type") != "code" else {**cell, "outputs": [], "execution_count": None}


def _outputs(notebook: Mapping[str, Any]) -> Iterator[dict]:
    for cell in notebook.get("cells", ()):
        yield from cell.get("outputs", ())
