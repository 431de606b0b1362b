"""Notebooks are executed once, and their recordings keep what their widgets know, so that pages come from files."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from sparsekit.utils.files import write_text
from sparsekit.utils.notebook_files import read_notebook, source_of
from sparsekit.utils.optional import require

INSTALL = "sparsekit-lab[notebooks]"
PACKAGE = Path(__file__).resolve().parents[2]
TIMEOUT = 300  # seconds a cell may take, as when we build the notebooks
SOURCES = (".py", ".js", ".css")  # of the package, any of which may change what a notebook shows
COMPLETE = """  # a last cell, which is not kept
import sys
if (_base := sys.modules.get("sparsekit.widgets.base")) is not None:
    _base.complete_all()
"""


def recorded(notebook: Path, folder: Path, *, keep: bool = False, tell: Callable[[str], None] = print) -> Path:
    """Return an executed copy of a notebook with the state of its widgets, and execute it if there is no fresh one.

    Args:
        notebook: the file, in whose folder its cells run.
        folder: of the recordings, which is made if it is missing.
        keep: whether a recording by other versions of the package and the notebook is good enough.
        tell: hears which notebook is executed, since that takes a while.

    Raises:
        ImportError: if the packages of notebooks are missing.
        ValueError: if the file is no notebook, or a cell fails.
    """
    target, stamp = folder / notebook.name, _stamp(notebook)
    if target.exists() and (keep or read_notebook(target)["metadata"].get("sparsekit", {}).get("stamp") == stamp):
        return target
    tell(f"executing {notebook.name}")
    nbformat = require("nbformat", install=INSTALL)
    book = executed(nbformat.read(notebook, 4), notebook.parent, notebook.name)
    book.metadata["sparsekit"] = {"stamp": stamp}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(target, nbformat.writes(book))
    return target


def executed(book: Any, folder: Path, name: str) -> Any:
    """Run all cells in a fresh kernel, then let each widget add what it needs where no kernel answers.

    Args:
        book: a notebook, as nbformat holds it. We change it.
        folder: where its cells run.
        name: of the notebook, for messages.

    Raises:
        ImportError: if the packages of notebooks are missing.
        ValueError: if a cell fails.
    """
    nbclient, nbformat = (require(one, install=INSTALL) for one in ("nbclient", "nbformat"))
    book.cells.append(nbformat.v4.new_code_cell(COMPLETE))
    resources = {"metadata": {"path": str(folder)}}
    try:
        nbclient.NotebookClient(book, timeout=TIMEOUT, record_timing=False, resources=resources).execute()
    except (nbclient.exceptions.CellExecutionError, nbclient.exceptions.CellTimeoutError) as error:
        raise ValueError(
            f"every cell must run, but one of {name} has failed: {error}. Mend it in JupyterLab"
        ) from error
    book.cells.pop()
    return book


def _stamp(notebook: Path) -> str:
    """Return a text that changes with the notebook's cells and with the package's code."""
    cells = "\n".join(source_of(cell) for cell in read_notebook(notebook)["cells"])
    return hashlib.sha256(f"{_code_stamp()}\n{cells}".encode()).hexdigest()[:16]


@cache
def _code_stamp() -> str:
    files = sorted(path for path in PACKAGE.rglob("*") if path.suffix in SOURCES and "cli" not in path.parts)
    return hashlib.sha256(b"\n".join(path.read_bytes() for path in files)).hexdigest()
